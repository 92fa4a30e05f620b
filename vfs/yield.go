package vfs

import (
	"runtime"
	"sync/atomic"
	"time"
)

// Yield lets others run that wait for this processor. Work in the background that computes
// for long calls it about every 50 µs. A thread that comes back from a sync needs some
// microseconds, but would wait for them until the next tick of the system, up to 4 ms.
// Beside programs that compute all the time most calls do nothing, because each of the
// others costs a slice of those. Yield is safe for concurrent use.
func Yield() { process.yield(sinceLoaded, turn) }

// A turn of others that takes longTurn goes to somebody who computes. For noTurns after it
// nobody gets one.
const (
	longTurn = 500 * time.Microsecond
	noTurns  = 50 * time.Millisecond
)

// turns says when others get a turn.
type turns struct {
	none atomic.Int64 // until then nobody, in the time of sinceLoaded
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
	if int64(from) < t.none.Load() {
		return
	}
	turn()
	if end := now(); end-from >= longTurn {
		t.none.Store(int64(end + noTurns))
	}
}
