package gc

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"
)

// Background runs a task at intervals, and when there is need: it collects garbage,
// or scrubs.
type Background struct {
	Interval time.Duration               // between runs; 0 or less: only when there is need
	Need     <-chan struct{}             // asks for a run now; may be nil
	Collect  func(context.Context) error // one run
	Report   func(error)                 // called with the error of a run that failed
}

// Run returns when ctx is done. If a run panics, Run reports that as an error and
// continues. It continues too if Report panics.
func (b *Background) Run(ctx context.Context) {
	var ticks <-chan time.Time
	if b.Interval > 0 {
		ticker := time.NewTicker(b.Interval)
		defer ticker.Stop()
		ticks = ticker.C
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks:
		case <-b.Need:
		}
		if err := b.once(ctx); err != nil && ctx.Err() == nil {
			b.report(err)
		}
	}
}

func (b *Background) report(err error) {
	defer func() { _ = recover() }() // there is nobody else to tell
	b.Report(err)
}

func (b *Background) once(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("in the background: panic: %v\n%s", p, debug.Stack())
		}
	}()
	return b.Collect(ctx)
}
