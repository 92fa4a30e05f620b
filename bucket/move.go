package bucket

import (
	"fmt"

	"github.com/cidstore/cidstore/ecc"
	"github.com/cidstore/cidstore/hdf5io"
)

// MoveRuns moves the runs of the base that count, if some part of them is at the
// address from or after it. Groups are moved by folding them.
func (w *Writer) MoveRuns(from int64) error {
	for i := range w.runs {
		r := &w.runs[i]
		if r.live == 0 || r.err != nil || r.end() <= uint64(max(from, 0)) {
			continue
		}
		for _, d := range r.datasets() {
			moved, err := w.tx.MoveContiguous(d.path)
			if err != nil {
				return fmt.Errorf("bucket: move %s: %w", r.name(), err)
			}
			offset, _ := moved.Extent()
			*d.at = uint64(offset)
		}
	}
	return nil
}

// MendRun writes the entries of a run of the base again, with all masks corrected
// that have one wrong bit, and returns how many these are. If there are none, or no
// such run, it writes nothing. If a slot is damaged in another way, the run stays
// as it is, and MendRun returns an error.
func (w *Writer) MendRun(number hdf5io.Commit) (mended uint64, err error) {
	r := w.run(number)
	if r == nil || r.live == 0 {
		return 0, nil
	}
	entries, mended, err := w.base.mendedEntries(r)
	if mended == 0 || err != nil {
		return 0, err
	}
	d := r.datasets()[0]
	if err := w.tx.Remove(d.path); err != nil {
		return 0, fmt.Errorf("bucket: mend %s: %w", r.name(), err)
	}
	if err := w.create(d, entries); err != nil {
		return 0, fmt.Errorf("bucket: mend %s: %w", r.name(), err)
	}
	return mended, nil
}

// mendedEntries returns the entries of a run with all masks corrected, and how many
// were wrong. After that, the checksum of each slot must agree.
func (t *Table) mendedEntries(r *run) (entries []byte, mended uint64, err error) {
	if r.err != nil {
		return nil, 0, r.err
	}
	for number := range int(r.slots) {
		var x part
		if err := t.slot(&x, r, number, again); err != nil {
			return nil, 0, err
		}
		if x.trust == isBad {
			return nil, 0, x.damage()
		}
		for i := range x.count {
			if _, status := ecc.Decode(x.entries[i*EntrySize+offMask]); status == ecc.Corrected {
				mended++
			}
		}
		entries = append(entries, correctMasks(x.entries, x.count)...)
	}
	return entries, mended, nil
}

// end is where the last dataset of a run ends in the file.
func (r *run) end() uint64 {
	return max(r.entriesAt+uint64(r.entries)*EntrySize, r.tagsAt+uint64(r.entries)*tagSize,
		r.indexAt+(uint64(r.slots)+1)*slotSize, r.moresAt+uint64(r.mores)*moreSize)
}

// Reaches reports whether part of a group's row is at the address from or after it.
func (s *State) Reaches(g Geometry, from int64) bool {
	chunks := g.chunks(int(s.Entries)) + g.chunks(int(s.Mores))
	return s.Entries > 0 && int64(s.RowAddress)+int64(chunks*g.chunkBytes()) > from
}
