package bucket

import (
	"encoding/binary"
	"math/bits"
	"slices"
	"sync/atomic"

	"github.com/cidstore/cidstore/hdf5io"
)

// A filter says which runs may have a key, so that a lookup asks few of them, and
// in most cases none. It exists only in memory, and takes about four bytes for each
// entry that waits. It is made from the tags of runs, one region of hash space at a
// time, when a reader first needs that region. A region is never changed: one that
// lacks too many of the newest runs is made again.
//
// What a filter does not have is trusted to be absent, so each slot is verified
// before its tags are added. In a region with a damaged slot all runs are asked.
type filter struct {
	size    int // in bits, of the number of entries that it is for
	regions []filterRegion
	bits    uint // bits of a hash that decide: as many as slots and tags of large runs give
}

type filterRegion struct {
	made   atomic.Pointer[region]
	making atomic.Bool
}

// region is what a filter knows about one region. A hash determines a block, which
// fills a cache line. A block has a mark for each entry: eleven bits of its hash,
// and which run it is in.
type region struct {
	through hdf5io.Commit   // whose runs are in it
	runs    []hdf5io.Commit // their numbers, the newest first
	blocks  []filterBlock
}

// filterBlock has four marks in each word, the first in the lowest bits.
type filterBlock [blockMarks / wordMarks]uint64

const (
	blockMarks = 32
	wordMarks  = 4
	markBits   = 16
	eachMark   = 0x0001_0001_0001_0001 // times a mark: a word that has it four times
	// meanMarks is how many marks a block has on average. One block in fifty would
	// need more than it has room for.
	meanMarks = 21
	// crowded, as the last mark of a block, says that there was no room, and that
	// all runs must be asked.
	crowded = 0xffff
	// A mark has 1 + the place of the run in region.runs in its low bits; markRuns
	// is how many runs those can tell apart.
	markRunBits = 5
	markRuns    = 1<<markRunBits - 2

	// regionEntries is about how many entries a region has.
	regionEntries    = 2048
	mostRegionBits   = 16
	spareFilterBits  = 7
	leastFilterSize  = 9
	mostFilterSize   = 33
	staleRuns        = 2 // up to this many runs are asked one by one: all, or those that a region lacks
	filterMultiplier = 0x9e3779b97f4a7c15
)

// allRuns is the answer if it is not known which runs may have a hash.
const allRuns = ^uint32(0)

// newFilter returns a filter of runs. If the filter of known, which is of older
// runs, still serves, it returns that.
func newFilter(runs []run, known *Table) *filter {
	if len(runs) <= staleRuns {
		return nil
	}
	entries := uint64(0)
	for i := range runs {
		entries += uint64(runs[i].entries)
	}
	size := min(max(bits.Len64(entries), leastFilterSize), mostFilterSize)
	if known != nil && known.filter != nil && known.isBefore(runs) {
		if grown := size - known.filter.size; grown <= 1 && grown >= -2 {
			return known.filter
		}
	}
	regionBits := min(max(size-bits.Len(regionEntries)+1, 0), mostRegionBits)
	return &filter{size, make([]filterRegion, 1<<regionBits), uint(size + spareFilterBits)}
}

// isBefore reports whether all runs that are not newer than those of t are in t.
func (t *Table) isBefore(runs []run) bool {
	before := t.runs[len(t.runs)-1].number // a table with a filter has runs
	for i := range runs {
		if r := &runs[i]; r.number <= before && !slices.ContainsFunc(t.runs, func(o run) bool { return o.number == r.number && o.body == r.body }) {
			return false
		}
	}
	return true
}

func (f *filter) regionBits() uint { return uint(bits.Len(uint(len(f.regions))) - 1) }

// at returns the region of a hash.
func (f *filter) at(hash uint64) int { return int(hash >> (64 - f.regionBits())) }

// place returns the block, of n, for the top bits of a hash, and the mark without
// the run.
func (f *filter) place(top uint64, n int) (block int, mark uint16) {
	within := top << (64 - f.bits) << f.regionBits()
	high, _ := bits.Mul64(within, uint64(n))
	return int(high), uint16(top*filterMultiplier>>(48+markRunBits)) << markRunBits
}

// add marks an entry of run number i of the region.
func (g *region) add(f *filter, top uint64, i int) {
	at, mark := f.place(top, len(g.blocks))
	b := &g.blocks[at]
	mark |= uint16(min(i, markRuns) + 1)
	for k := range b {
		if used := bits.Len64(b[k]); used <= 64-markBits {
			b[k] |= uint64(mark) << ((used + markBits - 1) / markBits * markBits)
			return
		}
	}
	b[len(b)-1] |= crowded << (64 - markBits)
}

// may returns a bit for each run of the region that may have a hash: bit i for
// number i, and bit markRuns for that number and all after it.
func (g *region) may(f *filter, hash uint64) (runs uint32) {
	if g.blocks == nil { // damaged
		return allRuns
	}
	at, mark := f.place(hash>>(64-f.bits), len(g.blocks))
	b := &g.blocks[at]
	if b[len(b)-1]>>(64-markBits) == crowded {
		return allRuns
	}
	want := uint64(mark) * eachMark
	for _, w := range b {
		other := (w ^ want) >> markRunBits & (eachMark * (1<<(markBits-markRunBits) - 1)) // zero at marks of the hash
		if (other-eachMark)&(eachMark<<(markBits-1)) == 0 {
			continue // there is none: nothing was borrowed
		}
		for ; w != 0; w, other = w>>markBits, other>>markBits {
			if m := uint16(w); m != 0 && uint16(other) == 0 {
				runs |= 1 << (m&(1<<markRunBits-1) - 1)
			}
		}
	}
	return runs
}

// names reports whether the answer of may includes a run.
func (g *region) names(number hdf5io.Commit, may uint32) bool {
	if may == allRuns {
		return true
	}
	for rest := may; rest != 0; rest &= rest - 1 {
		i := bits.TrailingZeros32(rest)
		if g.runs[i] == number || i == markRuns && number < g.runs[i] {
			return true
		}
	}
	return false
}

// mayHave returns what the filter says about a hash in a group whose row is of a
// commit: of the runs up to known.through, those with a bit in runs must be asked.
// If known is nil, all runs must be asked.
func (t *Table) mayHave(hash uint64, commit hdf5io.Commit) (known *region, runs uint32) {
	f := t.filter
	if f == nil {
		return nil, allRuns
	}
	at := &f.regions[f.at(hash)]
	known = at.made.Load()
	if known != nil && known.through > t.view.Commit() { // a later commit may have removed runs that this View has
		return nil, allRuns
	}
	if known == nil || t.runs[len(t.runs)-1-staleRuns].number > max(known.through, commit) {
		if known = t.remake(at, f.at(hash)); known == nil {
			return nil, allRuns
		}
	}
	return known, known.may(f, hash)
}

// remake makes a region, unless another goroutine is making it.
func (t *Table) remake(at *filterRegion, number int) *region {
	if !at.making.CompareAndSwap(false, true) {
		return nil
	}
	defer at.making.Store(false)
	made := t.makeRegion(t.filter, number)
	at.made.Store(made)
	return made
}

// makeRegion marks the entries of all runs that lie in a region.
func (t *Table) makeRegion(f *filter, number int) *region {
	g := &region{through: t.view.Commit()}
	low := uint64(number) << (64 - f.regionBits())
	high := low | ^uint64(0)>>f.regionBits()
	var inside []*run
	entries := 0
	for i := range slices.Backward(t.runs) {
		r := &t.runs[i]
		if r.err != nil {
			return g
		}
		if low <= r.high && high >= r.low {
			inside = append(inside, r)
			entries += r.span(r.slot(min(high, r.high))).end - r.span(r.slot(max(low, r.low))).first
		}
	}
	made := region{through: g.through, blocks: make([]filterBlock, entries/meanMarks+1)}
	for i, r := range inside {
		if !t.mark(f, &made, i, r, max(low, r.low), min(high, r.high)) {
			return g
		}
		made.runs = append(made.runs, r.number)
	}
	return &made
}

// mark marks the entries of a run from low to high, which lie in one region. It
// returns false if some of them cannot be trusted.
func (t *Table) mark(f *filter, g *region, number int, r *run, low, high uint64) bool {
	known := r.shared() + 8*tagSize // bits of a hash that slot and tag give
	for i := r.slot(low); i <= r.slot(high); i++ {
		s := r.span(i)
		if s.first == s.end {
			continue
		}
		var x part
		if err := t.slot(&x, r, i, ifAlways); err != nil || x.trust == isBad {
			return false
		}
		prefix := r.base>>r.shift + uint64(i)
		for k := range x.count {
			var top uint64
			if known >= f.bits && known <= 64 {
				top = (prefix<<(8*tagSize) | uint64(binary.LittleEndian.Uint16(x.tags[k*tagSize:]))) >> (known - f.bits)
			} else {
				top = t.hasher.Hash(x.key(k)) >> (64 - f.bits)
			}
			if f.at(top<<(64-f.bits)) == f.at(low) {
				g.add(f, top, number)
			}
		}
	}
	return true
}
