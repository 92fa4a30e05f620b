package bucket

import (
	"encoding/binary"
	"slices"

	"github.com/cidstore/cidstore/keys"
)

// A Finder finds the entries of many keys of one group, in the order of their hashes, as
// a checkpoint needs them. It looks once at each tag that a run has there: a few of them
// may be of one of the keys, by a bit for their places in the group. So it needs no filter
// of runs, which it would have to make for all that waits in a store. Its memory is reused.
type Finder struct {
	table   *Table
	id      uint32
	page    page
	outline *outline
	hashes  []uint64
	newest  []*run   // those that count for the group, the newest first
	may     []uint64 // for each hash, a bit for each of the newest runs that may have it
	placed  bool
	bits    uint                        // how many bits of a hash, after those of the group, say its place
	places  [1 << mostPlace / 64]uint64 // if placed, a bit for each place of a hash
}

// mostPlace is the most that Finder.bits may be. At 10^8 keys a checkpoint has 45 hashes for a
// group, so that one in 180 of the other tags there has the place of one of them.
const mostPlace = 13

// oldRuns is the bit of Finder.may that stands for all runs from that number on.
const oldRuns = 63

// Seek goes to group id, which covers all hashes. They ascend, and must not change until
// the last Find.
func (f *Finder) Seek(t *Table, id uint32, hashes []uint64) error {
	f.table, f.id, f.hashes, f.newest, f.placed = t, id, hashes, f.newest[:0], false
	var err error
	if f.page, f.outline, err = t.pageOf(id, hashes[0]); err != nil {
		return err
	}
	f.may = slices.Grow(f.may[:0], len(hashes))[:len(hashes)]
	clear(f.may)
	for i := len(t.runs) - 1; i >= 0 && t.runs[i].number > f.outline.commit; i-- {
		if r := &t.runs[i]; hashes[0] <= r.high && hashes[len(hashes)-1] >= r.low {
			f.newest = append(f.newest, r)
			f.ask(r, 1<<min(len(f.newest)-1, oldRuns))
		}
	}
	return nil
}

// ask sets a bit for each hash that a run may have: its tag is there, or what is there
// cannot be read or trusted. Find reports that, unless a newer run has the key.
func (f *Finder) ask(r *run, bit uint64) {
	for i := 0; i < len(f.hashes); {
		switch hash := f.hashes[i]; {
		case hash < r.low:
			i++
		case hash > r.high:
			return
		case r.err != nil:
			f.may[i] |= bit
			i++
		default:
			i += f.askSlot(r, i, bit)
		}
	}
}

// askSlot is ask for the hashes from i on that lie in one slot. It returns how many do.
func (f *Finder) askSlot(r *run, i int, bit uint64) (n int) {
	t, number := f.table, r.slot(f.hashes[i])
	s := r.span(number)
	var x part
	var err error
	switch {
	case s.first == s.end: // it has no tags
	case r.marked(number) && t.verify != Always:
		err = t.slotTags(&x, r, s)
	default:
		err = t.slot(&x, r, number, again)
	}
	for n < len(f.hashes)-i && f.hashes[i+n] <= r.high && r.slot(f.hashes[i+n]) == number {
		n++
	}
	if err != nil || x.trust == isBad {
		for k := range n {
			f.may[i+k] |= bit
		}
		return n
	}
	f.place(r)
	start, shared, depth, down := r.base+uint64(number)<<r.shift, r.shared(), f.outline.depth, 64-f.bits
	for ; len(x.tags) >= tagSize; x.tags = x.tags[tagSize:] {
		hash := start + uint64(binary.LittleEndian.Uint16(x.tags))<<48>>shared // the lowest that has the tag
		if place := hash << depth >> down; f.places[place/64]>>(place%64)&1 == 0 {
			continue
		}
		first, _ := slices.BinarySearch(f.hashes[i:i+n], hash)
		for k := i + first; k < i+n && r.tag(f.hashes[k]) == r.tag(hash); k++ {
			f.may[k] |= bit
		}
	}
	return n
}

// place notes the places of the hashes, by as many bits as slot and tag of a run give.
func (f *Finder) place(r *run) {
	bits := min(max(r.shared()+8*tagSize, uint(f.outline.depth))-uint(f.outline.depth), mostPlace)
	if f.placed && f.bits == bits {
		return
	}
	f.placed, f.bits = true, bits
	clear(f.places[:])
	for _, hash := range f.hashes {
		place := hash << f.outline.depth >> (64 - bits)
		f.places[place/64] |= 1 << (place % 64)
	}
}

// Find is Table.Find for a key with hash i of those given to Seek.
func (f *Finder) Find(i int, key keys.E) (Entry, bool, error) {
	var w inRow
	w.seek(f.table, f.page, f.outline, f.hashes[i])
	if may := f.may[i]; may != 0 {
		for k, r := range f.newest {
			if may&(1<<min(k, oldRuns)) == 0 || f.hashes[i] < r.low || f.hashes[i] > r.high {
				continue
			}
			if e, found, err := f.table.findInRun(r, f.hashes[i], key); found || err != nil {
				return e, found && !e.deleted, err
			}
		}
	}
	return f.table.findInRow(f.id, f.page, f.outline, &w, key)
}
