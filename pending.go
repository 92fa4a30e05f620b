package cidstore

import (
	"math"
	"slices"
	"sync/atomic"

	"github.com/cidstore/cidstore/vfs"
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
//
// The memory of a table of a writable store is outside of the heap, except where its
// operations begin. The store gives it back when no reader holds a View that was shown
// with the table (freeTables). So operations are read only by a reader that has pinned
// such a View, by the holder of checkpointing, and by the adder.
type table struct {
	heads    atomic.Pointer[heads]
	blocks   atomic.Pointer[[]opBlock]
	visible  atomic.Uint64 // a wal.Seq: highest sequence whose complete frame is in
	count    atomic.Uint32 // operations
	deletes  atomic.Uint32 // among them, of keys or values
	began    atomic.Int64  // time of the first operation, ns since 1970
	keys     int           // distinct keys; only the adder uses it
	distinct atomic.Int64  // keys, as of the last publish
	outside  bool          // some of its memory is outside of the heap
	past     []*heads      // those that were too short; readers may still look at them
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
	depth    depth  // of the chain: operations from the last Delete on
	code     wal.Opcode
}

const (
	opsPerBlock = 8192
	// opBytes is the memory that an operation takes: its own, 16 bytes of its place in the
	// queue while it is merged, and 4 of its station. keyBytes is what a key takes of the
	// heads: 11 to 32 bytes.
	opBytes    = 84
	keyBytes   = 28
	firstHeads = 1 << 10
	// heapBlocks is how many blocks of a table are on the heap, so that small stores ask
	// the system for nothing. Other memory is on the heap if it has fewer elements than
	// these blocks.
	heapBlocks = 2
	heapFew    = heapBlocks * opsPerBlock
	pageSlots  = 4096 / 8 // slots of the heads in a page of the system

	everything = ^wal.Seq(0) // no operation has a higher sequence
)

// opBlock is some operations. It is apart from their memory, in which there are no pointers.
type opBlock struct {
	ops      *[opsPerBlock]op
	stations *[opsPerBlock]uint32 // before each operation, in the form of previous; nil until one is needed
}

// alloc returns n zero values.
func alloc[T any](n int, outside bool) []T {
	if outside {
		return vfs.Alloc[T](n)
	}
	return make([]T, n)
}

// heads is an open-addressed hash table from each key to its newest operation. Its length
// is a power of two, and it is at most three quarters full. A slot is 0, or the upper half
// of the key's hash and 1 + the number of the operation. The lower bits of that half say
// where the slot belongs, so that heads grow without a look at the operations. The other
// bits let a search pass most other keys without one.
type heads struct {
	slots []atomic.Uint64
}

// newTable makes a table with room for about that many keys; callers give the number of
// operations that the last table had.
func newTable(keys int, outside bool) *table {
	t := &table{outside: outside}
	n := firstHeads
	for 3*n/4 < keys+keys/8 {
		n *= 2
	}
	t.heads.Store(t.newHeads(n))
	t.blocks.Store(new([]opBlock))
	return t
}

// newHeads makes n slots. It writes to each page of them, because a search that reads an
// untouched page of the system's memory before add writes there costs three times as much,
// and the writes of a batch go to nearly all pages.
func (t *table) newHeads(n int) *heads {
	h := &heads{alloc[atomic.Uint64](n, t.outside && n >= heapFew)}
	for i := 0; i < n; i += pageSlots {
		h.slots[i].Store(0)
	}
	return h
}

// isOutside reports whether the block of the operation with index n, from 0, is outside of
// the heap.
func (t *table) isOutside(n uint32) bool { return t.outside && n >= heapFew }

// free gives back the memory of a table that nobody looks at any more.
func (t *table) free() {
	if t == nil || !t.outside {
		return
	}
	t.outside = false
	for _, h := range append(t.past, t.heads.Swap(nil)) {
		vfs.Free(h.slots)
	}
	for _, b := range *t.blocks.Swap(nil) {
		vfs.Free(b.ops[:])
		if b.stations != nil {
			vfs.Free(b.stations[:])
		}
	}
}

// bytes returns how much memory the table's operations take.
func (t *table) bytes() int64 { return int64(t.count.Load())*opBytes + t.distinct.Load()*keyBytes }

// at returns operation number n-1.
func (t *table) at(n uint32) *op { return at(*t.blocks.Load(), n) }

func at(blocks []opBlock, n uint32) *op {
	n--
	return &blocks[n/opsPerBlock].ops[n%opsPerBlock]
}

// add puts one operation in. Only the adder calls it, in order of sequence. Readers see
// the operation once publish has been called for its frame.
func (t *table) add(hash uint64, sequence wal.Seq, nanos int64, o wal.Op) {
	n := t.count.Load()
	blocks := *t.blocks.Load()
	if n/opsPerBlock == uint32(len(blocks)) {
		grown := append(blocks[:len(blocks):len(blocks)], opBlock{ops: (*[opsPerBlock]op)(alloc[op](opsPerBlock, t.isOutside(n)))})
		t.blocks.Store(&grown)
		blocks = grown
	}
	if n == 0 {
		t.began.Store(nanos)
	}
	if 4*(t.keys+1) > 3*len(t.heads.Load().slots) {
		t.growHeads()
	}
	slot := t.slot(t.heads.Load(), hash, o.Key)
	previous, before, block := uint32(slot.Load()), uint32(0), &blocks[n/opsPerBlock]
	switch {
	case previous == 0:
		t.keys++
	case o.Code != wal.Delete:
		before = t.at(previous).depth.operations()
		if before >= leg {
			t.setStation(block, n+1, previous, before)
		}
	}
	block.ops[n%opsPerBlock] = op{
		hash: hash, key: o.Key, value: o.Value, sequence: sequence, nanos: nanos,
		previous: previous, depth: newDepth(before + 1), code: o.Code,
	}
	if o.Code == wal.Delete || o.Code == wal.DeleteValue {
		t.deletes.Store(t.deletes.Load() + 1)
	}
	t.count.Store(n + 1)
	slot.Store(hash&^math.MaxUint32 | uint64(n+1)) // publishes the op to readers
}

// publish makes every operation up to sequence visible.
func (t *table) publish(sequence wal.Seq) {
	t.distinct.Store(int64(t.keys))
	t.visible.Store(uint64(sequence))
}

// through returns the sequence up to which every operation is visible.
func (t *table) through() wal.Seq { return wal.Seq(t.visible.Load()) }

// slot returns the slot where the head of key's chain stands, or belongs.
func (t *table) slot(h *heads, hash uint64, key E) *atomic.Uint64 {
	tag, mask := hash>>32, uint64(len(h.slots)-1)
	for i := tag & mask; ; i = (i + 1) & mask {
		head := h.slots[i].Load()
		if head == 0 || head>>32 == tag && t.at(uint32(head)).key == key {
			return &h.slots[i]
		}
	}
}

func (t *table) growHeads() {
	old := t.heads.Load()
	grown := t.newHeads(2 * len(old.slots))
	mask := uint64(len(grown.slots) - 1)
	for i := range old.slots {
		head := old.slots[i].Load()
		if head == 0 {
			continue
		}
		j := head >> 32 & mask
		for grown.slots[j].Load() != 0 { // keys are distinct
			j = (j + 1) & mask
		}
		grown.slots[j].Store(head)
	}
	t.heads.Store(grown)
	if t.outside {
		t.past = append(t.past, old)
	}
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

// depth is a number of operations, up to deepest.
type depth [3]byte

const deepest = 1<<24 - 1

func newDepth(n uint32) depth {
	n = min(n, deepest)
	return depth{byte(n), byte(n >> 8), byte(n >> 16)}
}

func (d depth) operations() uint32 { return uint32(d[0]) | uint32(d[1])<<8 | uint32(d[2])<<16 }

// The operations of a chain lie all over the table, and whoever goes from one to the next
// waits for the memory of each. So those at depths that are multiples of leg are
// stations, and each later operation knows the station before it. The legs that begin
// at stations are walked side by side.
const (
	leg        = 8  // operations
	sideBySide = 16 // legs
)

// setStation notes the station before the operation at n. The operation before that has a
// depth of leg or more. setStation is called before the operation is published.
func (t *table) setStation(b *opBlock, n, previous, depth uint32) {
	if depth%leg != 0 {
		previous = stationBefore(*t.blocks.Load(), previous)
	}
	if b.stations == nil {
		b.stations = (*[opsPerBlock]uint32)(alloc[uint32](opsPerBlock, t.isOutside(n-1)))
	}
	b.stations[(n-1)%opsPerBlock] = previous
}

// stationBefore returns the station before the operation at n, which is deeper than leg.
func stationBefore(blocks []opBlock, n uint32) uint32 {
	n--
	return blocks[n/opsPerBlock].stations[n%opsPerBlock]
}

// since appends o, if it is not nil, and the operations on its key before it, newest first,
// as long as they are after a sequence. It ends with a Delete of the key, if there is one.
func (t *table) since(list []*op, o *op, sequence wal.Seq) []*op {
	for o != nil && o.sequence > sequence {
		list = append(list, o)
		if o.code == wal.Delete {
			break
		}
		o = t.before(o)
		if o != nil && o.depth.operations()%leg == 0 {
			list, o = t.legs(list, list[len(list)-1].previous, sequence)
		}
	}
	return list
}

// legs is since from a station on, for the legs of which every operation is after the
// sequence. It returns the operation after the last of them, or nil if since is done.
func (t *table) legs(list []*op, station uint32, sequence wal.Seq) ([]*op, *op) {
	blocks := *t.blocks.Load()
	depth := at(blocks, station).depth.operations()
	for depth > 0 {
		var walks [sideBySide]uint32
		n := 0
		for ; n < sideBySide && depth > 0; n++ {
			end := uint32(0) // of the chain; then whether the leg is wanted is known only if all is
			if depth > leg {
				end = stationBefore(blocks, station)
			}
			if sequence > 0 && (end == 0 || at(blocks, end).sequence <= sequence) {
				break
			}
			walks[n], station = station, end
			depth -= leg
		}
		if n == 0 {
			return list, at(blocks, station)
		}
		first := len(list)
		list = slices.Grow(list, n*leg)[:first+n*leg]
		for i := range leg {
			for k := range n {
				o := at(blocks, walks[k])
				list[first+k*leg+i], walks[k] = o, o.previous
			}
		}
	}
	return list, nil
}

// before returns the operation on the same key before o, or nil.
func (t *table) before(o *op) *op {
	if o.previous == 0 {
		return nil
	}
	return t.at(o.previous)
}

// all calls yield with each operation, in order.
func (t *table) all(yield func(*op)) {
	for n := uint32(1); n <= t.count.Load(); n++ {
		yield(t.at(n))
	}
}

// some appends copies of operations up to sequence visible to dst, as many as it has room
// for. It leaves out the first ones, up to number from.
func (t *table) some(dst []op, from uint32, visible wal.Seq) []op {
	for ; from < t.count.Load() && len(dst) < cap(dst); from++ {
		o := t.at(from + 1)
		if o.sequence > visible {
			break
		}
		dst = append(dst, *o)
	}
	return dst
}
