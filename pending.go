package cidstore

import (
	"math"
	"sync/atomic"

	"github.com/cidstore/cidstore/wal"
)

// A table holds the operations of one stretch of the log, by key, in memory. The fresh
// table takes what is written now, and the frozen one is being merged into the tree. One
// goroutine at a time adds (the log's leader); any number read, without a lock:
//
//   - An op is complete before the head that leads to it is stored, and never
//     changes after that. So whoever finds it reads all of it.
//   - heads and blocks are replaced by larger ones that hold the same. A reader of
//     an old one misses only operations newer than its start.
//   - visible is stored once per frame, after all its operations are in. A reader
//     loads it first, and ignores operations after it: so it sees all of a frame or
//     nothing of it.
type table struct {
	heads   atomic.Pointer[heads]
	blocks  atomic.Pointer[[]*opBlock]
	visible atomic.Uint64 // a wal.Seq: highest sequence whose complete frame is in
	count   atomic.Uint32 // operations
	keys    int           // distinct keys; only the adder uses it
}

// op is one operation. It has 64 bytes, as a cache line has. The operations on one key
// are chained, newest first.
type op struct {
	hash     uint64
	key      E
	value    E
	sequence wal.Seq
	nanos    int64  // time of the frame, ns since 1970
	previous uint32 // 1 + number of the operation on the key before this one, or 0
	depth    uint16 // of the chain: operations from the last Delete on, or MaxUint16 if there are more
	code     wal.Opcode
}

const (
	opsPerBlock = 8192
	// opBytes is about the memory that an operation takes, with its share of the heads
	// and its place in the queue while it is merged.
	opBytes    = 104
	firstHeads = 1 << 10

	everything = ^wal.Seq(0) // no operation has a higher sequence
)

type opBlock [opsPerBlock]op

// heads is an open-addressed hash table from each key to its newest operation. Its length
// is a power of two, and it is at most half full. A slot is 0, or the upper half of the
// key's hash and 1 + the number of the operation: a search can pass most other keys
// without a look at their operations.
type heads struct {
	slots []atomic.Uint64
}

// newTable makes a table with room for about that many keys; callers give the number that
// the last table had.
func newTable(keys int) *table {
	t := new(table)
	n := firstHeads
	for n < 2*keys {
		n *= 2
	}
	t.heads.Store(&heads{make([]atomic.Uint64, n)})
	t.blocks.Store(new([]*opBlock))
	return t
}

// bytes returns how much memory the table's operations take.
func (t *table) bytes() int64 { return int64(t.count.Load()) * opBytes }

// at returns operation number n-1.
func (t *table) at(n uint32) *op {
	n--
	return &(*t.blocks.Load())[n/opsPerBlock][n%opsPerBlock]
}

// add puts one operation in. Only the adder calls it, in order of sequence. Readers see
// the operation once publish has been called for its frame.
func (t *table) add(hash uint64, sequence wal.Seq, nanos int64, o wal.Op) {
	n := t.count.Load()
	blocks := *t.blocks.Load()
	if n/opsPerBlock == uint32(len(blocks)) {
		grown := append(blocks[:len(blocks):len(blocks)], new(opBlock))
		t.blocks.Store(&grown)
		blocks = grown
	}
	if 2*(t.keys+1) > len(t.heads.Load().slots) {
		t.growHeads()
	}
	slot := t.slot(t.heads.Load(), hash, o.Key)
	previous, depth := uint32(slot.Load()), uint16(1)
	switch {
	case previous == 0:
		t.keys++
	case o.Code != wal.Delete:
		depth = t.at(previous).depth
		depth += min(1, math.MaxUint16-depth)
	}
	blocks[n/opsPerBlock][n%opsPerBlock] = op{
		hash: hash, key: o.Key, value: o.Value, sequence: sequence, nanos: nanos,
		previous: previous, depth: depth, code: o.Code,
	}
	t.count.Store(n + 1)
	slot.Store(hash&^math.MaxUint32 | uint64(n+1)) // publishes the op to readers
}

// publish makes every operation up to sequence visible.
func (t *table) publish(sequence wal.Seq) { t.visible.Store(uint64(sequence)) }

// through returns the sequence up to which every operation is visible.
func (t *table) through() wal.Seq { return wal.Seq(t.visible.Load()) }

// slot returns the slot where the head of key's chain stands, or belongs.
func (t *table) slot(h *heads, hash uint64, key E) *atomic.Uint64 {
	mask := uint64(len(h.slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		head := h.slots[i].Load()
		if head == 0 || head>>32 == hash>>32 && t.at(uint32(head)).key == key {
			return &h.slots[i]
		}
	}
}

func (t *table) growHeads() {
	old := t.heads.Load()
	grown := &heads{make([]atomic.Uint64, 2*len(old.slots))}
	mask := uint64(len(grown.slots) - 1)
	for i := range old.slots {
		head := old.slots[i].Load()
		if head == 0 {
			continue
		}
		j := t.at(uint32(head)).hash & mask
		for grown.slots[j].Load() != 0 { // keys are distinct
			j = (j + 1) & mask
		}
		grown.slots[j].Store(head)
	}
	t.heads.Store(grown)
}

// newest returns the newest operation on key up to sequence visible, or nil.
func (t *table) newest(hash uint64, key E, visible wal.Seq) *op {
	if t.count.Load() == 0 {
		return nil
	}
	n := uint32(t.slot(t.heads.Load(), hash, key).Load())
	for n != 0 {
		o := t.at(n)
		if o.sequence <= visible {
			return o
		}
		n = o.previous
	}
	return nil
}

// before returns the operation on the same key before o, or nil.
func (t *table) before(o *op) *op {
	if o.previous == 0 {
		return nil
	}
	return t.at(o.previous)
}

// all calls yield with each operation up to sequence visible, in order.
func (t *table) all(visible wal.Seq, yield func(*op)) {
	for n := uint32(1); n <= t.count.Load(); n++ {
		o := t.at(n)
		if o.sequence > visible {
			return
		}
		yield(o)
	}
}
