package cidstore

import (
	"errors"

	"github.com/cidstore/cidstore/bucket"
	"github.com/cidstore/cidstore/valueset"
)

// A checkpoint writes where the file is free at that moment, and what it replaces
// is free two commits later. So a store that has been written to has gaps, up to
// twice its size. Where they are more than half of what is live, the last commits of
// a life write it all again, first to the end of the file, and then to its beginning;
// what comes after is given back.

// compactMost is the most live bytes that Close writes again: a part of a second.
const compactMost = 32 << 20

// compact fills the gaps of the file, if there are so many of them that it pays. The
// newest root is in both slots, and all that no reader holds is free.
func (s *Store) compact() error {
	least := s.opts.growBytes
	setDefault(&least, 256<<10)
	gaps, err := s.file.Gaps()
	live := s.liveBytes()
	if err != nil || live > compactMost || gaps < max(least, live/2) {
		return err
	}
	s.file.PlaceAtEnd(true)
	err = s.writeAgain(true)
	s.file.PlaceAtEnd(false)
	if err != nil {
		return err
	}
	return s.writeAgain(false) // also where the disk has no room for the first step
}

// writeAgain writes everything once, unless the file would have to grow for that
// and may not. Where it cannot be done the file stays as it was.
func (s *Store) writeAgain(grow bool) error {
	before := s.file.Space().Size
	tx, err := s.file.Begin()
	if err != nil {
		return err
	}
	defer tx.Abort()
	m, err := newMerge(s, tx, s.state.Load().view)
	if err == nil {
		err = m.rewriteAll()
	}
	if err == nil && !grow && s.file.Space().Size > before {
		return nil
	}
	if err == nil {
		err = s.commit(tx, m, nil)
	}
	if err == nil {
		return s.pack()
	}
	if s.failure.Load() != nil || s.file.Failed() != nil {
		return err
	}
	if !errors.Is(err, ErrNoSpace) { // damage, for one: Close goes on
		s.event("error", "operation", "compact", "error", err)
	}
	return nil
}

// rewriteAll folds every group, writes its sets again, and moves what lies in chunks
// otherwise, and all object headers.
func (m *merge) rewriteAll() error {
	return guard(func() error {
		if err := m.tx.MoveHeaders(); err != nil {
			return err
		}
		for _, path := range []string{"/deletion_log", "/directory"} {
			if _, err := m.base.Dataset(path); err != nil {
				continue // the directory of a small store is an attribute
			}
			if err := m.tx.MoveChunks(path); err != nil {
				return err
			}
		}
		var items []bucket.Item
		for run := range m.base.directory.All() {
			id := run.Pointer.Bucket
			st, err := m.base.buckets.State(id)
			if err == nil {
				items, err = m.base.buckets.Items(items[:0], id)
			}
			if err != nil {
				return err
			}
			for i := range items {
				if items[i].Spilled {
					if err := m.moveSet(&items[i]); err != nil {
						return err
					}
				}
			}
			m.changes = m.changes[:0]
			if _, err := m.fold(id, st); err != nil {
				return err
			}
		}
		return nil
	})
}

// moveSet writes a set that is one row again: a value leaves it and comes back.
// Trees stay where they are, and a set of one value, which would be gone in between.
func (m *merge) moveSet(it *bucket.Item) error {
	set, err := m.sets.Spilled(it.Key, it.Set)
	if err != nil {
		return err
	}
	if n := set.Count(); n > 1 && n+set.TombstoneCount() <= valueset.MaxRow {
		values, err := set.Values()
		if err != nil {
			return err
		}
		if err := errors.Join(set.Remove(values[0]), set.Add(values[0])); err != nil {
			return err
		}
	}
	_, err = m.sets.Save(set)
	return err
}
