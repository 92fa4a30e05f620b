package cidstore

import (
	"errors"
	"log/slog"

	"github.com/cidstore/cidstore/bucket"
)

// trimRuns writes runs again without the entries that no longer count, if the disk is
// full. A run is freed when the last of its groups is folded, and until then about half of
// all that runs hold no longer counts; but these folds need room. checkpointing is held.
func (s *Store) trimRuns() error {
	for s.file.Tight() {
		number, ok := s.state.Load().view.buckets.Trimmable(s.file.Longest())
		if !ok {
			return nil
		}
		err := s.change(func(m *merge) error {
			states := func(yield func(bucket.State, error) bool) {
				for g, err := range m.base.groups(0) {
					if !yield(g.state, err) {
						return
					}
				}
			}
			return guard(func() error { return m.buckets.Trim(number, states) })
		})
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
