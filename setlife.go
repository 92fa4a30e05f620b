package cidstore

import (
	"github.com/cidstore/cidstore/bucket"
	"github.com/cidstore/cidstore/valueset"
	"github.com/cidstore/cidstore/wal"
)

// A set of up to four values is kept inline in the entry of its key. A larger one is
// spilled, and has a tombstone for each value that was deleted. The methods here count
// pending operations as if each had been checkpointed alone.

// Compact drops the tombstones of the set of key. The values stay. It is no error if there
// are no tombstones. Compact is durable when it returns, as Insert is.
func (s *Store) Compact(key E) error {
	n, err := present(s, key, reader.compactable)
	if err != nil {
		return err
	}
	if n == 0 {
		return s.write(nil) // returns the error that a write would get
	}
	return s.one(wal.Op{Code: wal.CompactSet, Key: key})
}

// compactable returns the number of tombstones of key, and an error if its set cannot be
// compacted: an operation that a checkpoint cannot carry out would stop every checkpoint.
func (r reader) compactable(key E) (n int, err error) {
	n, err = r.tombstones(key)
	if n == 0 || err != nil {
		return 0, err
	}
	d, err := r.stored(r.view.hasher.Hash(key), key)
	if err != nil || !d.spilled {
		return n, err
	}
	return n, d.set.Compactable()
}

// DemoteIfPossible moves a spilled set of key back into the entry of its key, if it has up
// to four values, and drops its tombstones. It reports whether it did so. It waits for a
// checkpoint under way.
func (s *Store) DemoteIfPossible(key E) (bool, error) {
	s.closing.RLock()
	defer s.closing.RUnlock()
	if err := s.writable(); err != nil {
		return false, err
	}
	if can, err := present(s, key, reader.demotable); err != nil || !can {
		return false, err
	}
	ops := []wal.Op{{Code: wal.DemoteSet, Key: key}}
	for {
		done, demoted, err := s.demote(key, ops)
		if err != nil {
			return false, err
		}
		if done {
			return demoted, s.afterWrite()
		}
		claim, err := s.admit(ops) // waits until there is room
		if err != nil {
			return false, err
		}
		s.release(claim)
	}
}

// demote logs the demotion of a set; done reports whether there was room for it. demoted
// reports whether that changes anything: others may have written since the caller looked. It
// holds checkpointing, so that no checkpoint takes the operation and those before it out of
// the tables until then. The holder of checkpointing may wait for claims, so demote takes
// that lock before it makes its claim.
func (s *Store) demote(key E, ops []wal.Op) (done, demoted bool, err error) {
	s.checkpointing.Lock()
	defer s.checkpointing.Unlock()
	want := s.wants(ops)
	if !s.claim(want) {
		return false, false, nil
	}
	defer s.release(want)
	if s.cover(ops, true) != nil {
		return false, false, nil // admit will return the error, or make room
	}
	last, err := s.append(ops)
	if err != nil {
		return false, false, err
	}
	demoted, err = present(s, key, func(r reader, key E) (bool, error) {
		r.visible = r.fresh.newest(r.view.hasher.Hash(key), key, last).sequence - 1
		return r.demotable(key)
	})
	return true, demoted, err
}

// demotable reports whether key has a spilled set of values that would fit its entry.
func (r reader) demotable(key E) (bool, error) {
	set, err := r.evaluate(key)
	if err != nil {
		return false, err
	}
	return set.Demote()
}

// evaluate returns the set of key as the pending operations leave it.
func (r reader) evaluate(key E) (*valueset.Set, error) {
	hash := r.view.hasher.Hash(key)
	fresh, frozen := r.pending(hash, key)
	ops := r.since(nil, 0, fresh, frozen)
	before := bucket.Item{Hash: hash, Key: key, Deleted: true}
	if n := len(ops); n == 0 || ops[n-1].code != wal.Delete {
		entry, found, err := r.view.buckets.Find(r.view.directory.Bucket(hash), hash, key)
		if err != nil {
			return nil, err
		}
		if found {
			before = entry.Item(hash)
		}
	}
	set, _, err := loadSet(r.view.sets.Evaluator(), &before)
	for i := len(ops) - 1; i >= 0 && err == nil; i-- {
		err = ops[i].applyTo(set)
	}
	return set, err
}

// tombstones returns the number of deleted values of key that are not compacted away.
func (r reader) tombstones(key E) (int, error) {
	set, err := r.evaluate(key)
	if err != nil {
		return 0, err
	}
	return int(set.TombstoneCount()), set.Err()
}

func (r reader) spilled(key E) (bool, error) {
	set, err := r.evaluate(key)
	if err != nil {
		return false, err
	}
	return set.Exists(), nil
}

// TombstoneCount returns the number of deleted values of key that are not compacted away.
func (s *Store) TombstoneCount(key E) (int, error) { return present(s, key, reader.tombstones) }

// ValueSetExists reports whether the values of key are in a spilled set, outside its
// entry.
func (s *Store) ValueSetExists(key E) (bool, error) { return present(s, key, reader.spilled) }

// TombstoneCount is Store.TombstoneCount as of the snapshot.
func (v *Snapshot) TombstoneCount(key E) (int, error) { return within(v, key, reader.tombstones) }

// ValueSetExists is Store.ValueSetExists as of the snapshot.
func (v *Snapshot) ValueSetExists(key E) (bool, error) { return within(v, key, reader.spilled) }
