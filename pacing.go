package cidstore

import (
	"sync/atomic"
	"time"
)

// pacing slows writers before the log is full. A checkpoint gives room back only at its
// end: without pacing, writers would run at full speed and then wait for all of it.
type pacing struct {
	cost atomic.Int64 // of an operation in the last checkpoint, in units of ns / 1024
	owed atomic.Int64 // ns that writers should have slept
}

const (
	// paceFrom and paceFull are shares of the log: above the first, writers are slowed;
	// above the second, they are no faster than the checkpoint.
	paceFrom, paceFull = 0.5, 0.8
	// leastPause is the shortest sleep: shorter ones are saved up.
	leastPause = int64(time.Millisecond)
	// mostPause bounds how long one write sleeps, whatever the clock has said.
	mostPause = int64(20 * time.Millisecond)
)

// took notes how long a checkpoint of so many operations took, in ns.
func (p *pacing) took(ns int64, operations int) {
	if ns > 0 && operations > 0 {
		p.cost.Store(min(ns, int64(time.Hour)) * 1024 / int64(operations))
	}
}

// pace makes a writer of n operations wait while a checkpoint lags. The fuller the log
// or the memory for pending operations is, the longer it waits. Where the store is in
// danger, it waits as long as the checkpoint takes for n operations. Nobody is refused.
func (s *Store) pace(n int) {
	st := s.state.Load()
	if st == nil || st.frozen == nil || s.opts.GCInterval < 0 {
		return
	}
	full := s.pendingShare(st)
	if full <= paceFrom {
		return
	}
	share := min((full-paceFrom)/(paceFull-paceFrom), 1)
	if s.dangerOf(st).score() > dangerMost {
		share = 1
	}
	owed := s.pacing.owed.Add(int64(share * float64(s.pacing.cost.Load()) * float64(n) / 1024))
	if owed < leastPause || !s.pacing.owed.CompareAndSwap(owed, 0) {
		return
	}
	select {
	case <-s.stop:
	case <-time.After(time.Duration(min(owed, mostPause))):
	}
}
