package gc

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// TestBackground: a run comes at the interval and when there is need; one that fails,
// and one that panics, is reported, and the next one comes; the context ends it.
func TestBackground(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	need, ran, failed := make(chan struct{}), make(chan int), make(chan error)
	runs := 0
	b := Background{Interval: time.Hour, Need: need,
		Collect: func(context.Context) error {
			runs++
			switch runs {
			case 1:
				return errors.New("the first fails")
			case 2:
				panic("the second panics")
			}
			ran <- runs
			return nil
		},
		Report: func(err error) { failed <- err },
	}
	done := make(chan struct{})
	go func() { b.Run(ctx); close(done) }()
	for _, want := range []string{"the first fails", "panic: the second panics"} {
		need <- struct{}{}
		if err := <-failed; !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	need <- struct{}{}
	if n := <-ran; n != 3 {
		t.Errorf("run %d, want 3", n)
	}
	cancel()
	<-done

	b.Interval, b.Need = time.Millisecond, nil
	ctx, cancel = context.WithCancel(t.Context())
	go b.Run(ctx)
	for want := 4; want < 7; want++ {
		if n := <-ran; n != want {
			t.Errorf("run %d, want %d", n, want)
		}
	}
	cancel()
}

// TestBackgroundStopped: what a run returns because its context is done is no failure.
func TestBackgroundStopped(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	b := Background{Interval: time.Millisecond,
		Collect: func(ctx context.Context) error { cancel(); return ctx.Err() },
		Report:  func(err error) { t.Errorf("reported: %v", err) },
	}
	b.Run(ctx)
}
