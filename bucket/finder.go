package bucket

import (
	"encoding/binary"

	"github.com/cidstore/cidstore/keys"
)

// A Finder finds the entries of many keys of one group, in the order of their hashes, as
// a checkpoint needs them. It goes through the tags of each run once, side by side with
// the hashes. So it needs no filter of runs, which it would have to make for all that waits
// in a store. Its memory is reused.
type Finder struct {
	table   *Table
	id      uint32
	page    page
	outline *outline
	hashes  []uint64
	newest  []*run   // those that count for the group, the newest first
	may     []uint64 // for each hash, a bit for each of the newest runs that may have it
}

// oldRuns is the bit of Finder.may that stands for all runs from that number on.
const oldRuns = 63

// Seek goes to group id, which covers all hashes. They ascend, and must not change until
// the last Find.
func (f *Finder) Seek(t *Table, id uint32, hashes []uint64) error {
	f.table, f.id, f.hashes, f.newest = t, id, hashes, f.newest[:0]
	var err error
	if f.page, f.outline, err = t.pageOf(id, hashes[0]); err != nil {
		return err
	}
	f.may = f.may[:0]
	for range hashes {
		f.may = append(f.may, 0)
	}
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
	bad, at := err != nil || x.trust == isBad, 0
	for ; i+n < len(f.hashes) && f.hashes[i+n] <= r.high && r.slot(f.hashes[i+n]) == number; n++ {
		tag := r.tag(f.hashes[i+n])
		for at < len(x.tags) && binary.LittleEndian.Uint16(x.tags[at:]) < tag {
			at += tagSize
		}
		if bad || at < len(x.tags) && binary.LittleEndian.Uint16(x.tags[at:]) == tag {
			f.may[i+n] |= bit
		}
	}
	return n
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
