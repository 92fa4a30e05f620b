package wal

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestAppendedFramesAreScanned(t *testing.T) {
	c := testConfig(newMemory(64))
	l, e := newLog(c)
	var applied []Op
	var times []int64
	l.SetApply(func(_ Seq, nanos int64, ops []Op) {
		applied = append(applied, ops...)
		times = append(times, nanos)
	})
	var want []Op
	for i := range 20 {
		ops := someOps(i%9, uint64(i))
		last, err := l.Append(ops)
		must(t, err)
		if m := l.Mark(); m.Sequence != last || l.Watermark() != last || l.Next() != last+1 {
			t.Fatalf("append %d ended at %d: mark %d, watermark %d, next %d", i, last, m.Sequence, l.Watermark(), l.Next())
		}
		want = append(want, ops...)
	}
	if !slices.Equal(applied, want) {
		t.Error("applied operations are not the appended ones")
	}
	frames, report, err := scanAll(c, []Epoch{e}, 0, 0)
	must(t, err)
	if !slices.Equal(operations(frames), want) {
		t.Error("scanned operations are not the appended ones")
	}
	frames = slices.DeleteFunc(frames, func(f Frame) bool { return len(f.Ops) == 0 })
	for i, f := range frames {
		if times[i] != f.Nanos {
			t.Errorf("frame %d was applied as of %d, and scanned as of %d", i, times[i], f.Nanos)
		}
	}
	if report.End != l.Mark() || report.Next != l.Next() || report.TornAt != 0 || report.Frames != 20 {
		t.Errorf("report %+v, want end %v and next %d", report, l.Mark(), l.Next())
	}
	last := frames[len(frames)-1]
	if report.Watermark != last.First-1 {
		t.Errorf("watermark %d, want the end %d of the group before the last", report.Watermark, last.First-1)
	}
}

func TestAsyncIsDurableAfterFlush(t *testing.T) {
	m := newMemory(64)
	c := testConfig(m)
	l, e := newLog(c)
	var applied, want []Op
	l.SetApply(func(_ Seq, _ int64, ops []Op) { applied = append(applied, ops...) })
	for round := range 5 {
		for i := range 7 {
			ops := someOps(1+i, uint64(round*10+i))
			want = append(want, ops...)
			last, err := l.AppendAsync(ops)
			must(t, err)
			if !slices.Equal(applied, want) || l.Mark().Sequence != last {
				t.Fatal("not applied on return")
			}
		}
		if m.writes != round {
			t.Fatalf("%d writes before flush %d", m.writes, round)
		}
		must(t, l.Flush())
		frames, report, err := scanAll(c, []Epoch{e}, 0, 0)
		must(t, err)
		if !slices.Equal(operations(frames), want) || report.End != l.Mark() {
			t.Fatalf("flush %d: scan ends at %d, log at %d", round, report.End.Sequence, l.Mark().Sequence)
		}
	}
}

func TestLimits(t *testing.T) {
	c := testConfig(newMemory(9))
	l, _ := newLog(c)
	if _, err := l.Append(someOps(3*testBlockRecords, 1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("more than a third of the ring: %v", err)
	}
	for range 3 {
		if l.Room() < RecordsFor(3*testBlockRecords-endRecords, testBlock) {
			t.Fatalf("room %d", l.Room())
		}
		_, err := l.Append(someOps(3*testBlockRecords-endRecords, 1))
		must(t, err)
	}
	if l.Room() != 0 {
		t.Errorf("room %d in a full ring", l.Room())
	}
	for _, append := range []func([]Op) (Seq, error){l.Append, l.AppendAsync} {
		if _, err := append(someOps(1, 1)); !errors.Is(err, ErrFull) {
			t.Errorf("append to a full ring: %v", err)
		}
		if _, err := append([]Op{{Code: Commit}}); err == nil {
			t.Error("append of a commit record succeeded")
		}
	}
}

// TestRoomIsEnough: appends of both kinds whose RecordsFor add up to no more than Room all
// succeed, wherever they leave a block, and are found again.
func TestRoomIsEnough(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 2))
		c := testConfig(newMemory(9 + r.IntN(4)))
		l, e := newLog(c)
		frames, left := 0, l.Room()
		for {
			ops := someOps(r.IntN(2*testBlockRecords), seed)
			need := RecordsFor(len(ops), testBlock)
			if left -= need; left < 0 {
				break
			}
			append := l.AppendAsync
			if r.IntN(4) == 0 {
				append = l.Append
			}
			if _, err := append(ops); err != nil {
				t.Fatalf("seed %d, frame %d of %d operations: %v", seed, frames, len(ops), err)
			}
			frames++
			if r.IntN(4) == 0 {
				must(t, l.Flush())
			}
			if room := l.Room(); room < left {
				t.Fatalf("seed %d, frame %d: room for %d, want %d", seed, frames, room, left)
			}
		}
		must(t, l.Flush())
		found, report, err := scanAll(c, []Epoch{e}, 0, 0)
		if err != nil || len(found) < frames || report.End != l.Mark() || l.Next()%testBlockRecords != 0 {
			t.Fatalf("seed %d: %d frames, want %d or more, up to %d; %v", seed, len(found), frames, l.Mark().Sequence, err)
		}
	}
}

func TestFailedWritePoisons(t *testing.T) {
	m := newMemory(64)
	m.fail = 3
	l, _ := newLog(testConfig(m))
	applied := 0
	l.SetApply(func(_ Seq, _ int64, ops []Op) { applied += len(ops) })
	for range 2 {
		_, err := l.Append(someOps(2, 1))
		must(t, err)
	}
	mark := l.Mark()
	for range 3 {
		if _, err := l.Append(someOps(2, 1)); !errors.Is(err, ErrPoisoned) || !errors.Is(err, errDisk) {
			t.Errorf("append: %v", err)
		}
	}
	if _, err := l.AppendAsync(someOps(2, 1)); !errors.Is(err, ErrPoisoned) {
		t.Errorf("async append: %v", err)
	}
	if err := l.Flush(); !errors.Is(err, errDisk) {
		t.Errorf("flush: %v", err)
	}
	l.Pause()()
	if m.writes != 3 || applied != 4 || l.Mark() != mark || l.Stats().Errors != 1 {
		t.Errorf("%d writes, %d applied, mark %v, stats %+v", m.writes, applied, l.Mark(), l.Stats())
	}
}

// TestAsyncAsksForFlushes: AppendAsync asks for a flush when much waits, and makes one itself
// only when nobody answers for long.
func TestAsyncAsksForFlushes(t *testing.T) {
	m := newMemory(4 * mostWaiting / testBlock)
	l, _ := newLog(testConfig(m))
	ops, waiting, asked := someOps(1000, 1), 0, 0
	for ; m.writes == 0 && waiting < 2*mostWaiting; waiting += len(ops) * RecordSize {
		_, err := l.AppendAsync(ops)
		must(t, err)
		select {
		case <-l.Full():
			if asked++; waiting < groupBytes*3/4 {
				t.Fatalf("it asked for a flush when %d bytes waited", waiting)
			}
		default:
		}
	}
	if asked == 0 || waiting < mostWaiting*3/4 || waiting >= 2*mostWaiting {
		t.Errorf("asked %d times, wrote after %d bytes; want a flush asked for after %d, and made after %d", asked, waiting, groupBytes, mostWaiting)
	}
}
