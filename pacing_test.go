package cidstore

import (
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// TestPaceOfSmallCheckpoints: what a checkpoint of a few operations takes says nothing about
// one operation, and slows no writer.
func TestPaceOfSmallCheckpoints(t *testing.T) {
	var now atomic.Int64
	s := OpenStore(t, filepath.Join(t.TempDir(), "s.h5"), &Options{GCInterval: -1, WALBytes: 1 << 20, Clock: func() time.Time { return time.Unix(1_700_000_000, now.Add(1e6)) }})
	n := uint64(0)
	checkpoint := func(operations int64) {
		t.Helper()
		var b Batch
		for range operations {
			b.Insert(FromUint64(n), E{})
			n++
		}
		mustDo(t, s.Apply(&b), s.Checkpoint(t.Context()))
	}
	checkpoint(10)
	if unit := s.pacing.unit; unit != firstUnit {
		t.Errorf("after a checkpoint of 10 operations a unit of work takes %g ns", unit)
	}
	checkpoint(s.dueOps(s.state.Load()) / 2)
	large := s.pacing.unit
	checkpoint(10)
	if after := s.pacing.unit; large == firstUnit || after != large {
		t.Errorf("a unit of work takes %g ns in a large checkpoint, and %g ns after a small one", large, after)
	}
	mustDo(t, s.Close())
}

// TestPacing: writers that are faster than a checkpoint take the room evenly until it ends,
// whatever was predicted, and slower ones never wait.
func TestPacing(t *testing.T) {
	const room, batch = 1_000_000, 1000
	for _, c := range []struct {
		what            string
		predicted, real time.Duration // of the checkpoint
		own             time.Duration // that a writer needs for a batch
		danger          bool
		least, most     float64 // of the room that is taken when the checkpoint ends
		waits           bool
	}{
		{"a fast writer", 2 * time.Second, 2 * time.Second, 100 * time.Microsecond, false, 0.9, 1.02, true},
		{"the checkpoint takes half of its time", 2 * time.Second, time.Second, 100 * time.Microsecond, false, 0.9, 1.02, true},
		{"the checkpoint takes twice its time", time.Second, 2 * time.Second, 100 * time.Microsecond, false, 0.9, 1.05, true},
		{"a slow writer", 2 * time.Second, 2 * time.Second, 3 * time.Millisecond, false, 0.6, 0.7, false},
		{"a slow writer in danger", 2 * time.Second, 2 * time.Second, 3 * time.Millisecond, true, 0.2, 0.3, true},
	} {
		p := pacing{unit: float64(c.predicted.Nanoseconds()) / 100}
		now, taken, waited := int64(1e18), int64(0), false
		began := now
		p.begin(now, room/4, 100)
		for slice := int64(1); now < began+c.real.Nanoseconds(); {
			pause := p.owe(now, batch, room-taken, c.danger)
			waited = waited || pause > 0
			if pause%pauseStep != 0 || pause > mostPause {
				t.Fatalf("%s: a pause of %v, want whole steps of %v, up to %v", c.what, pause, pauseStep, mostPause)
			}
			now += pause.Nanoseconds() + c.own.Nanoseconds()
			taken += batch
			if passed := now - began; passed*10 > slice*c.real.Nanoseconds() {
				p.passed(now, passed, float64(slice*10), float64(100-slice*10))
				slice++
			}
		}
		if part := float64(taken) / room; part < c.least || part > c.most || waited != c.waits {
			t.Errorf("%s: %.2f of the room is taken, want %g to %g; waited: %t", c.what, part, c.least, c.most, waited)
		}
		p.end(true)
		if pause := p.owe(now, room, 1, c.danger); pause != 0 {
			t.Errorf("%s: a pause of %v after the checkpoint", c.what, pause)
		}
	}
}

// TestPacingSharesDebts: many writes share what one of them owes, and in all they wait for
// as long as it says.
func TestPacingSharesDebts(t *testing.T) {
	var p pacing
	p.began, p.ends = 1, int64(time.Second)
	now, waited := int64(1), time.Duration(0)
	for n := 1000; ; n = 0 { // the first owes 20 ms
		pause := p.owe(now, n, 50_000, false)
		if pause == 0 {
			break
		}
		if pause > 2*pauseStep {
			t.Errorf("a pause of %v where 20 ms are owed, want no more than %v", pause, 2*pauseStep)
		}
		waited += pause
		now += pause.Nanoseconds()
	}
	if waited < 19*time.Millisecond || waited > 20*time.Millisecond {
		t.Errorf("the pauses are %v in all, want all of 20 ms but less than a step", waited)
	}
}

// TestPacingInTheReserve: where a checkpoint takes longer than predicted, and says nothing
// of it, writers go on at a pace that falls, and leave room until it ends.
func TestPacingInTheReserve(t *testing.T) {
	const all, batch, predicted, real = 400_000, 1000, 200e6, 220e6
	p := pacing{unit: predicted}
	now, taken, longest := int64(1e18), int64(0), time.Duration(0)
	p.begin(now, all/2, 1)
	for end := now + real; now < end; taken += batch {
		pause := p.owe(now, batch, lessReserve(all-taken, all), false)
		now += pause.Nanoseconds() + 100_000
		longest = max(longest, pause)
	}
	if taken < all*9/10 || taken > all*99/100 || longest > 3*pauseStep {
		t.Errorf("%d of %d are taken, the longest pause is %v; want nine tenths and some of the reserve, and no more than %v",
			taken, all, longest, 3*pauseStep)
	}
}

// TestStretchBelow: the part of a stretch that lies below a hash grows from 0 to 1, also of
// one that begins again at 0.
func TestStretchBelow(t *testing.T) {
	const half, quarter = uint64(1) << 63, uint64(1) << 62
	for _, c := range []struct {
		s    stretch
		hash uint64
		want float64
	}{
		{stretch{}, 0, 1},
		{stretch{all: true}, quarter, 0.25},
		{stretch{start: quarter, size: half}, 0, 0},
		{stretch{start: quarter, size: half}, half, 0.5},
		{stretch{start: quarter, size: half}, ^uint64(0), 1},
		{stretch{start: half, size: half}, half + quarter, 0.5},
		{stretch{start: half + quarter, size: half}, 0, 0},
		{stretch{start: half + quarter, size: half}, quarter, 0.5},
		{stretch{start: half + quarter, size: half}, half, 0.5},
		{stretch{start: half + quarter, size: half}, half + quarter + quarter/2, 0.75},
	} {
		if got := c.s.below(c.hash); got < c.want-1e-9 || got > c.want+1e-9 {
			t.Errorf("%+v below %#x: %g, want %g", c.s, c.hash, got, c.want)
		}
	}
}

// TestRoomOfTheNextCheckpoint: writers get about half of all room until a checkpoint ends,
// however little of it the checkpoint has, and never nothing while there is room.
func TestRoomOfTheNextCheckpoint(t *testing.T) {
	for _, c := range []struct{ room, fresh, frozen, want int64 }{
		{900, 0, 100, 500}, // a small checkpoint leaves more than half
		{400, 500, 100, 200},
		{300, 0, 700, 300}, // a large one less
		{10, 290, 700, 10},
		{10, 890, 100, 5},
		{0, 500, 500, 0},
	} {
		if got := lessNext(c.room, c.fresh, c.frozen); got != c.want {
			t.Errorf("%d left, %d and %d pending: %d, want %d", c.room, c.fresh, c.frozen, got, c.want)
		}
	}
}
