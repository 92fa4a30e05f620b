package bucket

import (
	"fmt"
	"iter"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/corrupt"
)

// Trimmable returns the number of the run that has the most entries that no longer
// count. These must be at least half of its entries, and those that count must take
// at most most bytes. ok is false if there is no such run.
func (t *Table) Trimmable(most int64) (number hdf5io.Commit, ok bool) {
	return trimmable(t.runs, most)
}

// Trimmable is Table.Trimmable of the runs as the Writer has left them.
func (w *Writer) Trimmable(most int64) (number hdf5io.Commit, ok bool) {
	return trimmable(w.runs, most)
}

func trimmable(runs []run, most int64) (number hdf5io.Commit, ok bool) {
	dead := uint32(0)
	for i := range runs {
		r := &runs[i]
		if r.entries-r.live < max(r.live, dead+1) || r.err != nil || r.trimmedSize() > most {
			continue
		}
		dead, number, ok = r.entries-r.live, r.number, true
	}
	return number, ok
}

// trimmedSize estimates how many bytes a run would take without the entries that no
// longer count.
func (r *run) trimmedSize() int64 {
	return r.size() * int64(r.live) / int64(r.entries)
}

// size is how many bytes the datasets of a run take.
func (r *run) size() int64 {
	return int64(r.entries)*(EntrySize+tagSize) + int64(r.mores)*moreSize + int64(r.slots)*slotSize
}

// RunSpace estimates how many bytes of the runs of t hold entries that count, and how many
// hold others. All of them are free when all groups are folded.
func (t *Table) RunSpace() (live, dead int64) {
	for i := range t.runs {
		r := &t.runs[i]
		live += r.trimmedSize()
		dead += r.size() - r.trimmedSize()
	}
	return live, dead
}

// Unmovable returns where the last run ends that MoveRuns cannot move, because one of its
// datasets is longer than the longest gap; 0 if there is none.
func (t *Table) Unmovable(longestGap int64) (end int64) {
	for i := range t.runs {
		r := &t.runs[i]
		if r.err == nil && max(int64(r.entries)*EntrySize, int64(r.mores)*moreSize) > longestGap {
			end = max(end, int64(r.end()))
		}
	}
	return end
}

// Trim writes a run of the base again, under its number, with only those of its
// entries that count. groups yields all groups, in order of their hashes. Nothing
// but more trims may be done with this Writer before Flush. If a part of the run is
// damaged, the run stays as it is.
func (w *Writer) Trim(number hdf5io.Commit, groups iter.Seq2[State, error]) error {
	r := w.run(number)
	if r == nil {
		return fmt.Errorf("bucket: trim: there is no run %d", number)
	}
	var rest pendingRun
	only := func(o *run) bool { return o.number == number }
	for s, err := range groups {
		if err == nil {
			_, err = w.base.later(&w.later, &s, nil, only)
		}
		if err != nil {
			return fmt.Errorf("bucket: trim %s: %w", r.name(), err)
		}
		for _, p := range w.later.order {
			rest.add(&w.later.items[p.at])
		}
	}
	if n := len(rest.hashes); n == 0 || n != int(r.live) {
		return corrupt.Errorf(r.name(), int64(r.entriesAt), "%d entries count for groups, its record says %d", n, r.live)
	}
	if err := w.remove(r); err != nil {
		return err
	}
	trimmed, err := w.writeRun(&rest, number)
	if err != nil {
		return fmt.Errorf("bucket: trim %s: %w", r.name(), err)
	}
	*r = trimmed
	return nil
}

// run returns a run of the base, or nil.
func (w *Writer) run(number hdf5io.Commit) *run {
	for i := range w.runs {
		if w.runs[i].number == number {
			return &w.runs[i]
		}
	}
	return nil
}
