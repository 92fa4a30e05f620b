package gc

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// TestBackground: there is a run at each interval and when there is need. A run
// that fails or panics is reported, and the next one still comes. The context ends
// all.
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

// TestBackgroundSurvives: without an interval there are runs when there is need, and a report
// that panics ends nothing.
func TestBackgroundSurvives(t *testing.T) {
	for _, interval := range []time.Duration{0, -time.Second} {
		ctx, cancel := context.WithCancel(t.Context())
		need, reports := make(chan struct{}), 0
		b := Background{Interval: interval, Need: need,
			Collect: func(context.Context) error { panic("a run") },
			Report:  func(error) { reports++; panic("a report") },
		}
		done := make(chan struct{})
		go func() { b.Run(ctx); close(done) }()
		need <- struct{}{}
		need <- struct{}{} // the first run is over
		cancel()
		<-done
		if reports == 0 {
			t.Errorf("interval %v: nothing was reported", interval)
		}
	}
}

// TestBackgroundStopped: an error that a run returns because its context is done is
// not reported.
func TestBackgroundStopped(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	b := Background{Interval: time.Millisecond,
		Collect: func(ctx context.Context) error { cancel(); return ctx.Err() },
		Report:  func(err error) { t.Errorf("reported: %v", err) },
	}
	b.Run(ctx)
}
