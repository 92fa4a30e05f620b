package crashfs

import (
	"math/bits"
	"sync"
)

// An arena is the memory of one file: len(data) is the largest size that the
// file can have, so that it never moves and a mapping can alias it. Pages that
// were never written are not touched, and cost no memory.
type arena struct {
	data    []byte
	used    bitset // pages that may hold bytes other than zero
	changed bitset // pages written since the last time that two arenas were made equal
}

const (
	sectorSize = 512  // what a disk writes as a whole
	pageSize   = 4096 // what the bitsets and the accounting of space count in
)

func (a *arena) touch(off, n int64) {
	for page := off / pageSize; page*pageSize < off+n; page++ {
		a.used.set(page)
		a.changed.set(page)
	}
}

// page returns the bytes of one page, fewer at the end of the file.
func (a *arena) page(i int64) []byte {
	return a.data[i*pageSize : min((i+1)*pageSize, int64(len(a.data)))]
}

func (a *arena) sector(i int64) []byte {
	return a.data[i*sectorSize : (i+1)*sectorSize]
}

// follow makes a equal to from, if they were equal before the changed pages of both
// were written.
func (a *arena) follow(from *arena) {
	both := func(i int64) {
		copy(a.page(i), from.page(i))
		a.used.set(i)
	}
	a.changed.each(both)
	from.changed.each(both)
	a.changed.clear()
	from.changed.clear()
}

// pool keeps clean arenas: clearing the few pages that were used is much cheaper
// than making and zeroing a new one for each file.
type pool struct {
	limit int64 // size of each arena, in bytes

	mu    sync.Mutex
	clean []*arena
}

// pools has a pool for each size of arena. All file systems share them.
var pools sync.Map

func poolOf(limit int64) *pool {
	p, _ := pools.LoadOrStore(limit, &pool{limit: limit})
	return p.(*pool)
}

func (p *pool) get() *arena {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.clean); n > 0 {
		a := p.clean[n-1]
		p.clean = p.clean[:n-1]
		return a
	}
	pages := (p.limit + pageSize - 1) / pageSize
	return &arena{data: make([]byte, p.limit), used: newBitset(pages), changed: newBitset(pages)}
}

// put takes back an arena that is no longer used.
func (p *pool) put(a *arena) {
	a.used.each(func(i int64) { clear(a.page(i)) })
	a.used.clear()
	a.changed.clear()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clean = append(p.clean, a)
}

// bitset is a set of small numbers, of a fixed range.
type bitset []uint64

func newBitset(n int64) bitset { return make(bitset, (n+63)/64) }

func (b bitset) set(i int64)      { b[i/64] |= 1 << (i % 64) }
func (b bitset) unset(i int64)    { b[i/64] &^= 1 << (i % 64) }
func (b bitset) has(i int64) bool { return b[i/64]&(1<<(i%64)) != 0 }
func (b bitset) clear()           { clear(b) }

// each calls f with the members, ascending; f may add members.
func (b bitset) each(f func(i int64)) {
	for w, word := range b {
		for ; word != 0; word &= word - 1 {
			f(int64(w*64 + bits.TrailingZeros64(word)))
		}
	}
}

func (b bitset) count() (n int64) {
	for _, word := range b {
		n += int64(bits.OnesCount64(word))
	}
	return n
}
