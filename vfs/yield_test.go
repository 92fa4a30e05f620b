package vfs

import (
	"testing"
	"time"
)

// TestYield: after a long turn of others, and only then, nobody gets one for a while.
func TestYield(t *testing.T) {
	var s turns
	clock, count := time.Duration(0), 0
	yield := func(takes time.Duration) {
		s.yield(func() time.Duration { return clock }, func() { count, clock = count+1, clock+takes })
	}
	want := func(n int) {
		t.Helper()
		if count != n {
			t.Errorf("at %v: %d turns, want %d", clock, count, n)
		}
	}
	yield(longTurn - 1)
	yield(longTurn)
	want(2)
	clock += noTurns - 1
	yield(0)
	want(2)
	clock++
	yield(0)
	want(3)
	Yield()
}
