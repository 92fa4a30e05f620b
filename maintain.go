package cidstore

import "context"

// Maintain does at once what checkpoints and the background do by and by: it
// checkpoints, moves sets that fit the entries of their keys there, compacts the others,
// drops what the deletion log names, folds all that waits into its groups, merges groups
// that have become small, and gives sets the ids of those that are gone. It stops between two steps when ctx is done, or the store
// is closed; what is done by then is done.
func (s *Store) Maintain(ctx context.Context) error {
	ctx, cancel := s.during(ctx)
	defer cancel()
	return s.ended(s.maintain(ctx))
}

func (s *Store) maintain(ctx context.Context) error {
	if err := s.Checkpoint(ctx); err != nil {
		return err
	}
	for left := s.state.Load().view.record.sets.Sets; ; left -= scannedSets {
		if _, err := s.collect(ctx, collection{sets: scannedSets, demote: true}); err != nil {
			return err
		}
		if left <= scannedSets {
			break
		}
	}
	return s.exclusively(func() error {
		if err := s.checkpointAll(ctx); err != nil {
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
}

// foldAll folds every entry that waits in a run into its group. checkpointing is held.
func (s *Store) foldAll(ctx context.Context) error {
	if s.state.Load().view.buckets.Runs() == 0 {
		return nil
	}
	s.freeze()
	return s.mergeFrozen(ctx, true)
}

// MigrateDirectory brings the directory into the form that its size asks for: an
// attribute, a dataset, or shards. Commits do so by themselves, in both directions, so it
// mostly finds nothing to do.
func (s *Store) MigrateDirectory(ctx context.Context) error {
	if err := s.Checkpoint(ctx); err != nil {
		return err
	}
	return s.exclusively(func() error {
		if s.state.Load().view.directory.Fits() {
			return nil
		}
		return s.writeFailed(s.change(func(*merge) error { return nil }))
	})
}
