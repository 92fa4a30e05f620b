package vfs

import (
	"runtime"
	"sync/atomic"
	"time"
)

// Yield lets others run that wait for this processor. Background work that computes for
// long calls it about every 50 µs. A thread that comes back from a sync needs some
// microseconds, but would wait for them until the next tick of the system, up to 4 ms.
// While other programs compute all the time, most calls do nothing, because one that gives
// way to them waits for as long as the system lets them run. Yield is safe for concurrent
// use.
func Yield() { process.yield(sinceLoaded, turn) }

// A program that takes a turn of longTurn computes all the time. Nobody gets another
// turn for noTurns after it.
const (
	longTurn = 500 * time.Microsecond
	noTurns  = 50 * time.Millisecond
)

// turns says whether others get a turn.
type turns struct {
	noneUntil atomic.Int64 // by sinceLoaded
}

var (
	process turns
	loaded  = time.Now()
)

func sinceLoaded() time.Duration { return time.Since(loaded) }

func turn() {
	runtime.Gosched()
	yieldThread()
}

func (t *turns) yield(now func() time.Duration, turn func()) {
	from := now()
	if int64(from) < t.noneUntil.Load() {
		return
	}
	turn()
	if end := now(); end-from >= longTurn {
		t.noneUntil.Store(int64(end + noTurns))
	}
}
