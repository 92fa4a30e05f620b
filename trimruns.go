package cidstore

import (
	"errors"
	"log/slog"

	"github.com/cidstore/cidstore/bucket"
	"github.com/cidstore/cidstore/hdf5io"
)

// A run is freed when the last of its groups is folded, and until then about half of all
// that runs hold no longer counts. To fold the rest would write all of their groups. To
// write a run again without what no longer counts, if that is at least half of it, writes
// less than it frees.

// trimRuns writes such runs again if the disk is full: there folds need room too.
// checkpointing is held.
func (s *Store) trimRuns() error {
	for s.file.Tight() {
		number, ok := s.state.Load().view.buckets.Trimmable(s.file.Longest())
		if !ok {
			return nil
		}
		err := s.change(func(m *merge) error { return m.trimRun(number) })
		switch {
		case errors.Is(err, ErrNoSpace) || errors.Is(err, ErrCorrupt): // the run stays as it is
			return nil
		case err != nil:
			return s.writeFailed(err)
		}
		s.note(slog.LevelDebug, "run trimmed", "run", number)
		if err := s.settle(); err != nil {
			return err
		}
	}
	return nil
}

// trimInGaps writes all such runs again for which there is a gap, most bytes at most, in one
// commit. One that is damaged stays as it is, with those after it.
func (s *Store) trimInGaps(most int64) error {
	if _, ok := s.state.Load().view.buckets.Trimmable(min(s.file.Longest(), most)); !ok {
		return nil
	}
	err := s.inGaps(func() error {
		return s.change(func(m *merge) error { return m.trimAll(most) })
	})
	switch {
	case errors.Is(err, ErrNoSpace) && s.Failed() == nil:
		return nil
	case err != nil:
		return s.writeFailed(err)
	}
	return s.freeReplaced()
}

// trimAll trims runs as long as one fits, until most bytes are placed or one is damaged.
func (m *merge) trimAll(most int64) error {
	for {
		number, ok := m.buckets.Trimmable(min(m.tx.Longest(), most-m.tx.Placed()))
		if !ok {
			return nil
		}
		err := m.trimRun(number)
		switch {
		case errors.Is(err, ErrCorrupt) || errors.Is(err, ErrIO):
			return nil
		case err != nil:
			return err
		}
	}
}

// trimRun writes a run again without the entries that no longer count.
func (m *merge) trimRun(number hdf5io.Commit) error {
	states := func(yield func(bucket.State, error) bool) {
		for g, err := range m.base.groups(0) {
			if !yield(g.state, err) {
				return
			}
		}
	}
	return guard(func() error { return m.buckets.Trim(number, states) })
}
