package cidstore

import "context"

// danger says how urgently a store needs maintenance. Its score, from 0 to 1, is 0.4 ×
// pending + 0.3 × unsorted + 0.3 × age. Each of these is a part, from 0 to 1.
//
//	pending   the part of the log, or of Options.MemoryBudget if that is more, that is taken
//	unsorted  entries that wait in runs, as a part of twice as many as a checkpoint leaves
//	age       how long the oldest pending operation has waited, as a part of oldAge intervals
type danger struct{ pending, unsorted, age float64 }

const (
	pendingWeight, unsortedWeight, ageWeight = 0.4, 0.3, 0.3
	// oldAge is in units of Options.GCInterval.
	oldAge = 10
	// dangerDue is the danger at which the background checkpoints. A store reaches it when
	// an operation has waited for oldAge intervals, or earlier if more is pending.
	dangerDue = ageWeight
	// dangerMost is the danger above which writers may be no faster than the checkpoint.
	dangerMost = 0.9
)

func (d danger) score() float64 {
	return pendingWeight*d.pending + unsortedWeight*d.unsorted + ageWeight*d.age
}

// dangerOf returns the danger of a state of a writable store.
func (s *Store) dangerOf(st *state) danger {
	d := danger{pending: min(s.pendingShare(st), 1)}
	waiting, _ := st.view.buckets.Waiting()
	if most := 2 * waitingShare * float64(st.view.record.numKeys); most > 0 {
		d.unsorted = min(float64(waiting)/most, 1)
	}
	if oldest := st.oldest(); oldest > 0 && s.opts.GCInterval > 0 {
		waited := float64(max(s.now()-oldest, 0))
		d.age = min(waited/(oldAge*float64(s.opts.GCInterval)), 1)
	}
	return d
}

// pendingShare returns the part of the log, or of the memory for pending operations if
// that is more, that is taken.
func (s *Store) pendingShare(st *state) float64 {
	ring := float64(s.ringRecords(int64(st.view.record.walSize)))
	return max(1-float64(s.log.Room())/ring, float64(st.pendingBytes())/float64(s.opts.MemoryBudget))
}

// oldest returns the time of the oldest pending operation, in ns since 1970, or 0 if
// there is none.
func (st *state) oldest() int64 {
	for _, t := range [...]*table{st.frozen, st.fresh} {
		if t != nil && t.count.Load() > 0 {
			return t.began.Load()
		}
	}
	return 0
}

// checkpointInDanger checkpoints if operations are pending and the store is in danger. If so
// many keys are deleted that a fold is due, it checkpoints too, and folds everything.
func (s *Store) checkpointInDanger(ctx context.Context) error {
	st := s.state.Load()
	if st == nil {
		return nil
	}
	danger, due := s.dangerOf(st).score() >= dangerDue, s.foldDue(st)
	if st.pendingOps() > 0 && (danger || due) {
		err := s.exclusively(func() error { return s.checkpointPaced(ctx, s.giveWay) })
		if err != nil {
			return err
		}
	}
	if !due {
		return nil
	}
	for _, visit := range []func(*merge) (bool, error){(*merge).foldNext, (*merge).uniteNext} {
		if err := s.inTurns(ctx, visit); err != nil {
			return err
		}
	}
	return nil
}

// leastDead is how many entries are worth a fold by the background.
const leastDead = 4096

// foldDue reports whether everything that waits is to be folded: more waits, with pending
// deletes, than a checkpoint would leave of the keys that remain. Checkpoints do not see to
// that, because they count with the keys that there are before them. The space of deleted
// keys comes back only then.
func (s *Store) foldDue(st *state) bool {
	deletes := st.fresh.deletes.Load()
	if st.frozen != nil {
		deletes += st.frozen.deletes.Load()
	}
	keys, entries := st.view.record.numKeys, uint64(deletes)
	keys -= min(keys, entries)
	waiting, _ := st.view.buckets.Waiting()
	entries += waiting
	return entries > leastDead && float64(entries) > waitingShare*float64(keys) && !s.file.Full()
}
