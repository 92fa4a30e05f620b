package cidstore

import (
	"context"
	"errors"
)

// Maintain does at once what checkpoints and the background do over time. It checkpoints,
// moves spilled sets that fit into the entries of their keys there, compacts the others,
// drops what the deletion log names, folds all waiting entries into their groups, merges
// groups that have become small, and gives sets the ids of sets that are gone. It treats
// damage, writers and ctx as RunGCOnce does.
func (s *Store) Maintain(ctx context.Context) error {
	ctx, cancel := s.during(ctx)
	defer cancel()
	return s.ended(s.maintain(ctx))
}

func (s *Store) maintain(ctx context.Context) error {
	if err := s.checkpointPending(ctx); err != nil {
		return err
	}
	r, pin, err := s.acquire()
	if err != nil {
		return err
	}
	left := r.view.record.sets.Sets
	r.view.Unpin(pin)
	var damage error // does not stop the rest
	for next := uint64(0); ; left -= scannedSets {
		_, err := s.collect(ctx, collection{sets: scannedSets, next: &next, demote: true})
		if err != nil && !errors.Is(err, ErrCorrupt) {
			return err
		}
		damage = errors.Join(damage, err)
		if left <= scannedSets {
			break
		}
	}
	err = s.exclusively(func() error {
		if err := s.checkpointPaced(ctx, s.giveWay); err != nil {
			return err
		}
		if err := s.foldAll(ctx); err != nil {
			return err
		}
		if err := s.uniteGroups(ctx); err != nil {
			return err
		}
		if err := s.renumberSets(ctx); err != nil {
			return err
		}
		return s.settle()
	})
	return errors.Join(damage, err)
}

// foldAll folds every entry that waits in a run into its group. It is not a checkpoint,
// because the log may have no frame that it could end with. checkpointing is held.
func (s *Store) foldAll(ctx context.Context) error {
	if s.state.Load().view.buckets.Runs() == 0 {
		return nil
	}
	return s.overGroups(ctx, (*merge).foldNext)
}

// foldNext folds the group at m.next, if an entry waits for it.
func (m *merge) foldNext() (changed bool, err error) {
	g, err := m.base.group(m.next)
	m.changes, m.next = m.changes[:0], g.Last()+1
	if err != nil {
		return false, err
	}
	if n, err := m.base.buckets.Waits(&g.state); n == 0 || err != nil {
		return false, err
	}
	return m.fold(&g)
}

// MigrateDirectory brings the directory into the form that is right for its size: an
// attribute, a dataset, or shards. Commits do this too, in both directions, so it mostly
// finds nothing to do. It stops between two steps when ctx is done or the store is closed.
func (s *Store) MigrateDirectory(ctx context.Context) error {
	ctx, cancel := s.during(ctx)
	defer cancel()
	return s.ended(s.exclusively(func() error {
		if err := s.checkpointPaced(ctx, s.giveWay); err != nil {
			return err
		}
		if s.state.Load().view.directory.Fits() {
			return nil
		}
		if err := s.giveWay(ctx); err != nil {
			return err
		}
		return s.recommit()
	}))
}
