package wal

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"
)

// TestWriteAgain: a life writes the frames of the life before again, with their times and
// without applying them. Its own frames get the time of the clock, and are applied.
func TestWriteAgain(t *testing.T) {
	c := testConfig(newMemory(64))
	l, e := newLog(c)
	for i := range 5 {
		_, err := l.AppendAsync(someOps(1+i, uint64(i)))
		must(t, err)
	}
	must(t, l.Flush())
	frames, report, err := scanAll(c, []Epoch{e}, 0, 0)
	must(t, err)

	second, err := NextEpoch([]Epoch{e}, report.Next, bytes.NewReader(make([]byte, macSize)))
	must(t, err)
	if !c.Fits(frames, e.First, second.First) {
		t.Error("a ring of 64 blocks has no room for five frames")
	}
	c.After = report.Nanos
	c.Now = func() int64 { return 1_000_000 }
	var applied []Op
	l = New(c, second, second.First, report.Watermark, e.First)
	l.SetApply(func(_ Seq, _ int64, ops []Op) { applied = append(applied, ops...) })
	must(t, l.WriteAgain(frames))
	own := someOps(3, 100)
	_, err = l.Append(own)
	must(t, err)
	if !slices.Equal(applied, own) {
		t.Errorf("%d operations were applied, want the %d of the new life", len(applied), len(own))
	}
	again, _, err := scanAll(c, []Epoch{second}, second.First-1, 0)
	must(t, err)
	withOps := func(frames []Frame) []Frame {
		return slices.DeleteFunc(frames, func(f Frame) bool { return len(f.Ops) == 0 })
	}
	frames, again = withOps(frames), withOps(again)
	if len(again) != len(frames)+1 || again[len(frames)].Nanos != 1_000_000 {
		t.Fatalf("%d frames, want %d and one of the new life: %+v", len(again), len(frames), again)
	}
	for i, f := range frames {
		if again[i].Nanos != f.Nanos || !slices.Equal(again[i].Ops, f.Ops) {
			t.Errorf("frame %d: %+v, want the operations and the time of %+v", i, again[i], f)
		}
	}
}

// TestFits: a ring has room for copies of frames, of any sizes, if and only if Fits says so.
func TestFits(t *testing.T) {
	for _, sizes := range [][]int{{1}, {10}, {9, 1}, {9, 9, 9}, {1, 1, 1, 1, 1, 1, 1}, {22, 1, 7, 9, 30}, {0, 11, 12, 0, 13}} {
		fit := 0
		for blocks := 3; blocks < 40; blocks++ {
			c := testConfig(newMemory(blocks))
			l, e := newLog(c)
			var frames []Frame
			large := false
			for i, n := range sizes {
				frames = append(frames, Frame{Ops: someOps(n, uint64(i))})
				large = large || RecordsFor(n, c.Block) > l.Largest()
			}
			err := l.WriteAgain(frames)
			if large {
				continue
			}
			if fits := c.Fits(frames, e.First, e.First); fits != (err == nil) {
				t.Errorf("frames of %d operations in %d blocks: %t, but %v", sizes, blocks, fits, err)
			} else if fits {
				fit++
			}
		}
		if fit == 0 {
			t.Errorf("frames of %d operations fit into no ring", sizes)
		}
	}
}

// TestWriteAgainFails: a log that is poisoned says so, even if nothing is to be written; a
// failed write poisons it; and random bytes that are missing make no epoch.
func TestWriteAgainFails(t *testing.T) {
	m := newMemory(64)
	c := testConfig(m)
	e := firstEpoch(c.Block)
	l := New(c, e, e.First+1, e.First, e.First)
	if err := l.WriteAgain(nil); !errors.Is(err, ErrPoisoned) {
		t.Errorf("a log that does not begin with its epoch: %v", err)
	}
	l, _ = newLog(c)
	m.fail = 1
	if err := l.WriteAgain([]Frame{{Ops: someOps(2, 1)}}); !errors.Is(err, ErrPoisoned) || !errors.Is(err, errDisk) {
		t.Errorf("a write that fails: %v", err)
	}
	if _, err := NextEpoch([]Epoch{e}, 24, bytes.NewReader(make([]byte, macSize-1))); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("an anchor that is cut: %v", err)
	}
}

// TestEndEpochs: what a life names of the epochs before it.
func TestEndEpochs(t *testing.T) {
	epochs := []Epoch{{Number: 1, First: 12, End: 24}, {Number: 2, First: 24, End: 48}, {Number: 3, First: 48, End: NoEnd}, {Number: 4, First: 60, End: 60}}
	if got := InUse(epochs); !slices.Equal(got, epochs[:3]) {
		t.Errorf("in use: %+v", got)
	}
	want := []Epoch{{Number: 2, First: 24, End: 48}, {Number: 3, First: 48, End: 52}}
	if got := EndEpochs(epochs[:3], 30, 52); !slices.Equal(got, want) {
		t.Errorf("ended at 52, with all applied up to 30: %+v, want %+v", got, want)
	}
	if got := EndEpochs(epochs, 23, 48); !slices.Equal(got, epochs[1:2]) {
		t.Errorf("ended at 48: %+v, want %+v", got, epochs[1:2])
	}
	if got := EndEpochs(epochs[:3], 51, 52); got != nil {
		t.Errorf("with all applied: %+v", got)
	}
}
