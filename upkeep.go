package cidstore

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Upkeep is work that no writer waits for: collections, Maintain, MigrateDirectory, what a
// scrub mends, and checkpoints in the background that come early enough. Each of its
// commits makes three syncs, and a writer that syncs the log at the same time waits
// longer. So upkeep gives way: between two commits it lets writers make so many group
// commits that few of them meet a sync of upkeep.

const (
	// wayGroups is how many group commits of writers pass between two commits of upkeep. A
	// commit delays up to six of them, one in a hundred.
	wayGroups = 600
	// wayStep is how often upkeep looks whether it may go on.
	wayStep = time.Millisecond
	// quietSteps is how many steps without a writer it waits for.
	quietSteps = 4
	// mostSteps bounds one wait, whatever writers do: 0.2 s.
	mostSteps = 200
	// urgentShare is the share of the log, or of memory, above which no commit waits.
	urgentShare = 0.5
)

// upkeep is what giveWay remembers from one wait to the next.
type upkeep struct {
	passed atomic.Uint64 // group commits of the log when the last root was committed
	quiet  atomic.Uint64 // group commits of the log when a wait found no writer

	step func(ctx context.Context) // waits for wayStep, or until ctx is done
}

// giveWay waits until enough group commits have passed since the last commit of a root, or
// nobody writes. It does not wait where the commit is urgent. It returns the error of ctx
// as soon as that is done. checkpointing may be held.
func (s *Store) giveWay(ctx context.Context) error {
	quiet := quietSteps // no wait at all, unless somebody wrote since the last quiet one
	seen := s.upkeep.quiet.Load()
	for step := 0; ; step++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		groups := s.log.Stats().Groups
		if groups != seen || s.writers() > 0 {
			seen, quiet = groups, 0
		}
		if quiet >= quietSteps {
			s.upkeep.quiet.Store(groups)
			return nil
		}
		if step == mostSteps || groups-s.upkeep.passed.Load() >= wayGroups || s.commitUrgent() {
			return nil
		}
		s.upkeep.step(ctx)
		quiet++
	}
}

// writers returns how many operations are being logged.
func (s *Store) writers() int64 {
	s.admission.mu.Lock()
	defer s.admission.mu.Unlock()
	return s.admission.claimed.ops
}

// commitUrgent reports whether somebody needs the next commit, or a wait would help no
// writer: the store is being closed, its disk is full, its log or memory becomes full,
// somebody waits for the lock, or writes wait for no sync.
func (s *Store) commitUrgent() bool {
	st := s.state.Load()
	return st == nil || s.life.Err() != nil || s.opts.Durability == Async || s.checkpointing.wanted() ||
		s.file.Full() || s.pendingShare(st) > urgentShare
}

// waitStep waits for wayStep, or until ctx is done or the store is closed.
func (s *Store) waitStep(ctx context.Context) {
	timer := time.NewTimer(wayStep)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-s.life.Done():
	case <-timer.C:
	}
}

// atOnce takes the place of giveWay in a checkpoint that somebody waits for.
func atOnce(ctx context.Context) error { return ctx.Err() }

// commitLock is a mutex whose holder can see that somebody waits for it.
type commitLock struct {
	sync.Mutex
	waiting atomic.Int64
	served  atomic.Int64 // who had to wait and got it
}

// Lock locks the mutex. While it waits, wanted returns true.
func (l *commitLock) Lock() {
	if l.TryLock() {
		return
	}
	l.waiting.Add(1)
	l.Mutex.Lock()
	l.waiting.Add(-1)
	l.served.Add(1)
}

// wanted reports whether somebody waits for the lock.
func (l *commitLock) wanted() bool { return l.waiting.Load() > 0 }

// yield lets those who wait for the lock have it, and then its holder again.
func (l *commitLock) yield() {
	for until := l.served.Load() + l.waiting.Load(); l.served.Load() < until; {
		l.Mutex.Unlock()
		l.Mutex.Lock()
	}
}
