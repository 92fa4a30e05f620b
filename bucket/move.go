package bucket

import (
	"fmt"

	"github.com/cidstore/cidstore/ecc"
	"github.com/cidstore/cidstore/hdf5io"
)

// MoveRuns places again the runs of the base that count and lie, in part, from an
// address on. Groups are moved by folding them.
func (w *Writer) MoveRuns(from int64) error {
	for i := range w.runs {
		r := &w.runs[i]
		if r.live == 0 || r.err != nil || !r.reaches(uint64(max(from, 0))) {
			continue
		}
		at := [...]*uint64{&r.entriesAt, &r.tagsAt, &r.indexAt, &r.moresAt}
		for k, d := range r.datasets() {
			moved, err := w.tx.MoveContiguous(d.path)
			if err != nil {
				return fmt.Errorf("bucket: move %s: %w", r.name(), err)
			}
			offset, _ := moved.Extent()
			*at[k] = uint64(offset)
		}
	}
	return nil
}

// MendRun writes the entries of a run of the base again, with every mask corrected of which
// one bit is wrong, and returns how many these are; 0: there is none, or no such run, and
// nothing is written. A run of which a slot is damaged otherwise is left alone: an error.
func (w *Writer) MendRun(number uint64) (mended uint64, err error) {
	for i := range w.runs {
		r := &w.runs[i]
		if r.number != number || r.live == 0 {
			continue
		}
		entries, n, err := w.base.mendedEntries(r)
		if n == 0 || err != nil {
			return 0, err
		}
		d := r.datasets()[0]
		if err := w.tx.Remove(d.path); err != nil {
			return 0, fmt.Errorf("bucket: mend %s: %w", r.name(), err)
		}
		made, err := w.tx.CreateDataset(d.path, hdf5io.DatasetSpec{Type: d.element, Dims: []uint64{d.count}, Data: entries})
		if err != nil {
			return 0, fmt.Errorf("bucket: mend %s: %w", r.name(), err)
		}
		offset, _ := made.Extent()
		r.entriesAt = uint64(offset)
		return n, nil
	}
	return 0, nil
}

// mendedEntries is the entries of a run with all masks right, and how many were not. Each
// slot must have its checksum then.
func (t *Table) mendedEntries(r *run) (entries []byte, mended uint64, err error) {
	if r.err != nil {
		return nil, 0, r.err
	}
	for number := range int(r.slots) {
		var x part
		if err := t.slot(&x, r, number, true); err != nil {
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

// reaches reports whether part of a run lies from an address on.
func (r *run) reaches(from uint64) bool {
	return max(r.entriesAt+uint64(r.entries)*EntrySize, r.tagsAt+uint64(r.entries)*tagSize,
		r.indexAt+(uint64(r.slots)+1)*slotSize, r.moresAt+uint64(r.mores)*MoreSize) > from
}

// Reaches reports whether part of a group's row lies from an address on.
func (s *State) Reaches(g Geometry, from int64) bool {
	chunks := g.chunks(int(s.Entries)) + g.chunks(int(s.Mores))
	return s.Entries > 0 && int64(s.RowAddress)+int64(chunks*g.chunkBytes()) > from
}
