package cidstore

import (
	"context"
	"time"
)

// danger says how much a store asks for maintenance, from 0 to 1: 0.4 × pending + 0.3 ×
// unsorted + 0.3 × age, each a share of 0 to 1.
//
//	pending   what is pending, of the log or of Options.MemoryBudget, whichever is more
//	unsorted  entries that wait in runs, of twice as many as may after a checkpoint
//	age       time for which the oldest pending operation has waited, of oldAge intervals
type danger struct{ pending, unsorted, age float64 }

const (
	pendingWeight, unsortedWeight, ageWeight = 0.4, 0.3, 0.3
	// oldAge is in units of Options.GCInterval.
	oldAge = 10
	// dangerDue is the danger from which on the background checkpoints: that of operations
	// which have waited for oldAge intervals, or of fewer, with more after them.
	dangerDue = ageWeight
	// dangerMost is the danger above which writers are no faster than the checkpoint.
	dangerMost = 0.9
)

func (d danger) score() float64 {
	return pendingWeight*d.pending + unsortedWeight*d.unsorted + ageWeight*d.age
}

// dangerOf is the danger of a state of a writable store.
func (s *Store) dangerOf(st *state) danger {
	d := danger{pending: min(s.pendingShare(st), 1)}
	waiting, _ := st.view.buckets.Waiting()
	if most := 2 * waitingShare * float64(st.view.record.numKeys); most > 0 {
		d.unsorted = min(float64(waiting)/most, 1)
	}
	if oldest := st.oldest(); oldest > 0 && s.opts.GCInterval > 0 {
		waited := time.Duration(max(s.now()-oldest, 0))
		d.age = min(float64(waited)/float64(oldAge*s.opts.GCInterval), 1)
	}
	return d
}

// pendingShare is the part of the log, or of the memory for pending operations, that is
// taken.
func (s *Store) pendingShare(st *state) float64 {
	ring := float64(s.ringRecords(int64(st.view.record.walSize)))
	return max(1-float64(s.log.Room())/ring, float64(st.pendingOps()*opBytes)/float64(s.opts.MemoryBudget))
}

// oldest is the time of the oldest pending operation, ns since 1970; 0: there is none.
func (st *state) oldest() int64 {
	for _, t := range [...]*table{st.frozen, st.fresh} {
		if t != nil && t.count.Load() > 0 {
			return t.at(1).nanos
		}
	}
	return 0
}

// calm checkpoints if operations are pending and the store is in danger.
func (s *Store) calm(ctx context.Context) error {
	st := s.state.Load()
	if st == nil || st.pendingOps() == 0 || s.dangerOf(st).score() < dangerDue {
		return nil
	}
	return s.Checkpoint(ctx)
}
