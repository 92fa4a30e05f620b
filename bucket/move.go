package bucket

import "fmt"

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
