package cidstore

import (
	"context"
	"errors"
	"math"

	"github.com/cidstore/cidstore/wal"
)

// A checkpoint writes where the file is free at that moment, and the space of what it
// replaces is free two commits later. So a store that has been written to has gaps.
// Close fills them with its last commits: it moves what lies at the end of the file
// into the gaps, and gives the end back. Before each step it trims runs, in which the folds
// of the last step have left more entries that no longer count. If a small store is mostly
// gaps, Close writes all of it, first to the end of the file and then to its beginning.

const (
	// maxAgainBytes is the most live bytes of a store that Close writes again, twice,
	// which takes a part of a second.
	maxAgainBytes = 32 << 20
	// squeezeMost is the most bytes that one commit moves from the end of the file. Close
	// makes up to mostSqueezes such commits, each of which leaves longer gaps for the next.
	// They move squeezesBytes at most.
	squeezeMost   = 128 << 20
	mostSqueezes  = 8
	squeezesBytes = 4 * squeezeMost
)

// compact fills the gaps of the file, if there are enough of them to make it worth its
// time. The newest root is in both slots, and all that no reader holds is free.
func (s *Store) compact() error {
	least := s.opts.growBytes
	setDefault(&least, 256<<10)
	written := int64(s.metrics.placedBytes.Load())
	budget := min(squeezesBytes, 4*written)
	room := min(squeezeMost, written)
	if s.liveBytes() <= budget {
		if err := s.foldForClose(); err != nil {
			return err
		}
	}
	again := true // as long as the disk has room for it
	for range mostSqueezes {
		if err := s.trimInGaps(min(squeezesBytes, written)); err != nil {
			return err
		}
		gaps, end, err := s.file.Gaps()
		live := s.liveBytes()
		if err != nil || gaps < max(least, live/8) {
			return err
		}
		if again && live <= s.opts.againBytes && gaps >= live/2 {
			if again, err = s.writeAllAgain(); again || err != nil {
				return err
			}
			continue
		}
		if written < gaps/4 { // a short life does not clean up after a long one
			return nil
		}
		room = min(room, budget)
		from, err := s.file.Squeeze(room)
		if err != nil || from >= end {
			return err
		}
		budget -= end - from
		before := s.metrics.placedBytes.Load()
		if err := s.inGaps(func() error { return s.writeAgain(from, end, nil) }); err != nil {
			return err
		}
		if s.metrics.placedBytes.Load() == before {
			room = (end - from) / 2 // a long piece found no gap; a shorter end has fewer of them
		}
	}
	return nil
}

// writeAllAgain writes all of a small store twice, which leaves it without gaps. It reports
// whether the disk has room for that: the first step puts everything at the end of the file.
func (s *Store) writeAllAgain() (done bool, err error) {
	before := s.state.Load().view.Commit()
	s.file.PlaceAtEnd(true)
	err = s.writeAgain(0, math.MaxInt64, nil)
	s.file.PlaceAtEnd(false)
	if err != nil || s.state.Load().view.Commit() == before {
		return false, err
	}
	return true, s.writeAgain(0, s.file.Space().Size, nil)
}

// writeAgain writes again, once, what lies from an address on, unless that would put
// something after the address most. If that is not possible, the file stays as it was.
// moved, if it is not nil, is called after each part with the number of bytes placed so
// far.
func (s *Store) writeAgain(from, most int64, moved func(bytes int64)) error {
	m, err := s.begin(nil)
	if err != nil {
		return err
	}
	defer m.tx.Abort()
	committed, err := s.commitMoved(m, from, most, moved)
	if committed {
		return s.freeReplaced()
	}
	return s.harmless(err)
}

// harmless returns err if the store takes no more writes. Other errors, for example of
// damage, do not stop Close.
func (s *Store) harmless(err error) error {
	if err == nil || s.failure.Load() != nil || s.file.Failed() != nil {
		return err
	}
	if !errors.Is(err, ErrNoSpace) {
		s.event("error", "operation", "compact", "error", err)
	}
	return nil
}

// foldForClose folds and merges everything, if that is due because of many deletes.
func (s *Store) foldForClose() error {
	if !s.foldDue(s.state.Load()) {
		return nil
	}
	for _, fold := range []func(context.Context) error{s.foldAll, s.uniteGroups} {
		if err := s.harmless(fold(context.Background())); err != nil {
			return err
		}
	}
	return s.freeReplaced()
}

// commitMoved moves in m what lies from an address on, and commits that, unless something
// would lie after the address most.
func (s *Store) commitMoved(m *merge, from, most int64, moved func(bytes int64)) (committed bool, err error) {
	if err := m.moveFrom(from, s.logEnd()+1, moved); err != nil {
		return false, err
	}
	if _, end, err := s.file.Gaps(); err != nil || end > most {
		return false, err
	}
	err = s.publish(m, nil)
	return err == nil, err
}

// moveFrom writes again what lies from an address on, and folds the groups that have
// something there; from 0 it takes all of them. When the store is being closed it moves
// the log too, and next is the first sequence of the new one. It flushes the merge. moved
// is that of writeAgain.
func (m *merge) moveFrom(from int64, next wal.Seq, moved func(bytes int64)) error {
	if moved == nil {
		moved = func(int64) {}
	}
	return guard(func() error {
		if err := m.moveClosedRing(from, next); err != nil {
			return err
		}
		if from > 0 { // runs first: they are long, and the folds would leave no long gaps
			if err := m.buckets.MoveRuns(from); err != nil {
				return err
			}
		}
		for g, err := range m.base.groups(0) {
			if err == nil && (from == 0 || g.state.Reaches(m.geometry, from)) {
				m.changes = m.changes[:0]
				_, err = m.fold(&g)
			}
			if err != nil {
				return err
			}
			moved(m.tx.Placed())
		}
		for set := range m.record.sets.Sets {
			if err := m.sets.Move(set, from); err != nil {
				return err
			}
			moved(m.tx.Placed())
		}
		if err := m.flush(); err != nil {
			return err
		}
		err := m.tx.MoveFrom(from, "/deletion_log", "/directory")
		m.placed = m.tx.Placed()
		return err
	})
}
