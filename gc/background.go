package gc

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"
)

// Background does something again and again, at intervals and when there is need: it
// collects garbage, or scrubs.
type Background struct {
	Interval time.Duration               // between runs; more than 0
	Need     <-chan struct{}             // asks for a run now; nil: nobody does
	Collect  func(context.Context) error // is one run
	Report   func(error)                 // is told of a run that failed
}

// Run goes on until ctx is done. A run that panics is reported as one that failed:
// the host goes on.
func (b *Background) Run(ctx context.Context) {
	ticker := time.NewTicker(b.Interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-b.Need:
		}
		if err := b.once(ctx); err != nil && ctx.Err() == nil {
			b.Report(err)
		}
	}
}

func (b *Background) once(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("in the background: panic: %v\n%s", p, debug.Stack())
		}
	}()
	return b.Collect(ctx)
}
