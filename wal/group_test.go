package wal

import (
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cidstore/cidstore/keys"
)

// awaitQueue waits until so many appends are queued.
func (l *Log) awaitQueue(n int) {
	queued := func() int { l.mu.Lock(); defer l.mu.Unlock(); return len(l.mu.queue) }
	for queued() < n {
		runtime.Gosched()
	}
}

// While one write is under way the others queue, and the next takes all.
func TestAppendsShareASync(t *testing.T) {
	m := newMemory(64)
	m.entry, m.gate = make(chan struct{}), make(chan struct{})
	c, now := testConfig(m), int64(0)
	c.Now = func() int64 { now += 1e9; return now }
	l, _ := newLog(c)
	var wait sync.WaitGroup
	start := func(key uint64) {
		wait.Go(func() {
			if _, err := l.Append([]Op{{Insert, keys.FromUint64(key), keys.E{}}}); err != nil {
				t.Error(err)
			}
		})
	}
	start(0)
	<-m.entry
	for i := range uint64(15) {
		start(1 + i)
	}
	l.awaitQueue(15)
	m.gate <- struct{}{}
	<-m.entry
	m.gate <- struct{}{}
	wait.Wait()
	if s := l.Stats(); m.writes != 2 || s.Groups != 2 || s.Syncs != 2 || s.Frames != 16 || s.Records[Insert] != 16 {
		t.Errorf("%d writes, stats %+v, want 2 groups of 16 frames", m.writes, s)
	}
	m.entry, m.gate = nil, nil
	start(16) // does not wait for the others: by this clock, the leader before it has yielded for long
	wait.Wait()
	if l.mu.writers != 1 || l.yielded != mostYielded-16*gatherShare {
		t.Errorf("the next leader waits for %d appends, want 1; %d ns are left, want %d", l.mu.writers, l.yielded, mostYielded-16*gatherShare)
	}
}

// Appends of both kinds, flushes, pauses, audits and truncations beside each
// other: what is applied is what is scanned, each goroutine's in its order.
func TestConcurrentUse(t *testing.T) {
	c := testConfig(newMemory(40))
	l, e := newLog(c)
	var applied []Op
	var truncated atomic.Int64 // operations that are not in the log any more
	var nextFirst Seq
	l.SetApply(func(first Seq, _ int64, ops []Op) {
		if first < nextFirst {
			t.Errorf("applied sequence %d after %d", first, nextFirst)
		}
		nextFirst = first + Seq(len(ops))
		applied = append(applied, ops...)
	})
	epochs := []Epoch{e}
	last := Mark{}
	var room sync.Mutex // admission: one at a time looks for room and takes it
	makeRoom := func() {
		room.Lock()
		defer room.Unlock()
		if l.Room() < 20*RecordsFor(2, testBlock) {
			resume := l.Pause()
			last = l.Mark()
			epochs = TrimEpochs(epochs, last)
			truncated.Store(int64(len(applied)))
			resume()
			l.Truncate(last.Sequence)
		}
	}
	write := func(id uint64, n uint64) {
		append := l.Append
		if id%2 == 0 {
			append = l.AppendAsync
		}
		for i := range n {
			ops := []Op{{Insert, keys.E{High: id, Low: i}, keys.E{}}, {Delete, keys.E{High: id, Low: i}, keys.E{}}}
			makeRoom()
			if _, err := append(ops); err != nil {
				t.Error(err)
				return
			}
		}
	}
	var writers, readers sync.WaitGroup
	for id := range uint64(6) {
		writers.Go(func() { write(id, 150) })
	}
	var done atomic.Bool
	for id := range 2 {
		readers.Go(func() {
			for !done.Load() {
				if err := errors.Join(l.Audit(id*3, rand.IntN), l.Flush()); err != nil {
					t.Error(err)
					return
				}
				runtime.Gosched()
			}
		})
	}
	writers.Wait()
	done.Store(true)
	readers.Wait()
	must(t, l.Flush())
	frames, _, err := scanAll(c, epochs, last.Sequence, last.Sequence)
	must(t, err)
	if got := operations(frames); !slices.Equal(got, applied[truncated.Load():]) {
		t.Errorf("scanned %d operations, applied %d after the last truncation", len(got), len(applied)-int(truncated.Load()))
	}
	inOrder(t, applied, 6*150)
}

// inOrder wants so many pairs of operations on one key, the keys of each writer in a row.
func inOrder(t *testing.T, applied []Op, pairs int) {
	t.Helper()
	perWriter := map[uint64]uint64{}
	for i := 0; i < len(applied); i += 2 {
		k := applied[i].Key
		if k.Low != perWriter[k.High] || applied[i+1].Key != k {
			t.Fatalf("operation %d is %v, want the %dth of its writer", i, applied[i], perWriter[k.High])
		}
		perWriter[k.High]++
	}
	if len(applied) != 2*pairs {
		t.Errorf("%d operations applied", len(applied))
	}
}

// Requests that do not fit fail alone; the rest of their group is written.
func TestFullRingRefusesOneAlone(t *testing.T) {
	m := newMemory(6)
	m.entry, m.gate = make(chan struct{}, 9), make(chan struct{})
	l, e := newLog(testConfig(m))
	var wait sync.WaitGroup
	var full atomic.Int32
	start := func(n int) {
		wait.Go(func() {
			if _, err := l.Append(someOps(n, 1)); err == ErrFull {
				full.Add(1)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
	start(2*testBlockRecords - endRecords)
	<-m.entry
	for range 3 {
		start(2*testBlockRecords - endRecords)
	}
	l.awaitQueue(3)
	close(m.gate)
	wait.Wait()
	if full.Load() != 1 || l.Room() != 0 || l.Stats().Frames != 3 || l.Stats().Groups != 2 {
		t.Errorf("%d refused, room %d, stats %+v", full.Load(), l.Room(), l.Stats())
	}
	frames, _, err := scanAll(testConfig(m), []Epoch{e}, 0, 0)
	if err != nil || len(frames) != 3 {
		t.Errorf("%d frames, error %v", len(frames), err)
	}
}

func TestSingleAppendsDoNotAllocate(t *testing.T) {
	c := testConfig(discard{1 << 20})
	l, _ := newLog(c)
	ops := someOps(1, 1)
	for name, append := range map[string]func([]Op) (Seq, error){"append": l.Append, "async": l.AppendAsync} {
		allocs := testing.AllocsPerRun(2000, func() {
			if l.Room() < 1000 {
				if err := l.Flush(); err != nil {
					t.Fatal(err)
				}
				l.Truncate(l.Mark().Sequence)
			}
			if _, err := append(ops); err != nil {
				t.Fatal(err)
			}
		})
		if allocs > 0 {
			t.Errorf("%s: %v allocations", name, allocs)
		}
	}
}
