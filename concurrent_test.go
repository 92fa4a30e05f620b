package cidstore_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"go.uber.org/goleak"

	"github.com/cidstore/cidstore"
	"github.com/cidstore/cidstore/internal/crashfs"
)

// noGoroutines sees, after the test's stores are closed, that nothing runs on.
func noGoroutines(t *testing.T) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
}

func TestNoGoroutineAfterClose(t *testing.T) {
	for name, o := range map[string]cidstore.Options{
		"defaults":  {},
		"async":     {Durability: cidstore.Async, FlushInterval: time.Millisecond},
		"read-only": {ReadOnly: true},
		"none":      {GCInterval: -1},
	} {
		t.Run(name, func(t *testing.T) {
			noGoroutines(t)
			path := smallFile(t, 10)
			s := open(t, path, &o)
			v := mustGet(s.Snapshot())(t)
			if !o.ReadOnly {
				must(t, s.Insert(cidstore.E{}, cidstore.E{}), s.Checkpoint(context.Background()))
			}
			for range v.All() {
				break
			}
			must(t, s.Close())
		})
	}
	t.Run("refused", func(t *testing.T) {
		noGoroutines(t)
		path := smallFile(t, 10)
		patch(t, path, 192, 99)
		refused(t, path, cidstore.ErrFormatVersion)
	})
}

// TestGoroutineFree: with a negative GCInterval a store runs no goroutines while it is open.
func TestGoroutineFree(t *testing.T) {
	before := goleak.IgnoreCurrent()
	s, _ := fresh(t, &cidstore.Options{GCInterval: -1, Durability: cidstore.Async, WALBytes: 64 << 10})
	for i := range uint64(2000) {
		must(t, s.Insert(cidstore.FromUint64(i), cidstore.E{}))
	}
	goleak.VerifyNone(t, before)
	if s.Metrics().Checkpoints == 0 {
		t.Error("no checkpoint ran")
	}
}

// TestEverybodyAtOnce: writers, readers, snapshots and checkpoints, and Close in
// the middle of it. Whoever comes too late gets ErrClosed; what was acknowledged
// is there afterwards. The file system's mapping aliases what is written, so that
// the race detector sees an extent that is used again under a reader.
func TestEverybodyAtOnce(t *testing.T) {
	for _, durability := range []cidstore.Durability{cidstore.Sync, cidstore.Async} {
		noGoroutines(t)
		disk := crashfs.New(crashfs.Options{FileLimit: 64 << 20})
		o := cidstore.Options{FS: disk, WALBytes: 256 << 10, SplitThreshold: 16, Durability: durability}
		s := open(t, "db/s.h5", &o)
		var group sync.WaitGroup
		var written [8]atomic.Uint64
		for w := range written {
			group.Go(func() { keepWriting(t, s, uint64(w), &written[w]) })
		}
		for r := range uint64(8) {
			group.Go(func() { keepReading(t, s, r, &written) })
		}
		group.Go(func() { keepWalking(t, s) })
		group.Go(func() {
			for untilClosed(t, "Checkpoint", s.Checkpoint(context.Background())) {
			}
		})
		group.Go(func() {
			for {
				if _, err := s.Check(context.Background()); !untilClosed(t, "Check", err) {
					return
				}
				s.Metrics()
			}
		})
		time.Sleep(duration(t, 300*time.Millisecond, 1500*time.Millisecond))
		wantErr(t, s.Close(), nil)
		group.Wait()
		compareWritten(t, disk, &written)
	}
}

// compareWritten opens the store again and expects all that was acknowledged.
func compareWritten(t *testing.T, disk *crashfs.FS, written *[8]atomic.Uint64) {
	t.Helper()
	s := open(t, "db/s.h5", &cidstore.Options{FS: disk})
	defer s.Close()
	for w := range written {
		n := written[w].Load()
		for i := range n {
			wantIs(t, true, "writer", w, "pair", i, "of", n)(s.Has(writtenKey(uint64(w), i), cidstore.FromUint64(i)))
		}
		t.Logf("writer %d: %d pairs", w, n)
	}
	mustBeWhole(t, s)
}

func duration(t *testing.T, short, long time.Duration) time.Duration {
	t.Helper()
	if testing.Short() {
		return short
	}
	return long
}

// writtenKey is the key of a writer's ith pair, whose value is i: some sets are large.
func writtenKey(w, i uint64) cidstore.E { return cidstore.E{High: w, Low: i % 200 * (i % 3)} }

// untilClosed reports whether to go on.
func untilClosed(t *testing.T, what string, err error) bool {
	if err != nil && !errors.Is(err, cidstore.ErrClosed) && !errors.Is(err, cidstore.ErrSnapshotExpired) {
		t.Errorf("%s: %v", what, err)
	}
	return err == nil
}

func keepWriting(t *testing.T, s *cidstore.Store, w uint64, written *atomic.Uint64) {
	var b cidstore.Batch
	for i := uint64(0); ; {
		b.Reset()
		for range 1 + i%7 {
			b.Insert(writtenKey(w, i), cidstore.FromUint64(i))
			i++
		}
		if !untilClosed(t, "Apply", s.Apply(&b)) {
			return
		}
		written.Store(i)
	}
}

func keepReading(t *testing.T, s *cidstore.Store, r uint64, written *[8]atomic.Uint64) {
	random := rand.New(rand.NewPCG(r, 1))
	var values []cidstore.E
	for {
		w := random.IntN(len(written))
		n := written[w].Load()
		if n == 0 {
			if _, err := s.HasKey(cidstore.E{}); !untilClosed(t, "HasKey", err) {
				return
			}
			continue
		}
		i := random.Uint64N(n)
		var err error
		values, err = s.AppendLookup(values[:0], writtenKey(uint64(w), i))
		if !untilClosed(t, "Lookup", err) {
			return
		}
		if !slices.Contains(values, cidstore.FromUint64(i)) {
			t.Errorf("writer %d, pair %d: acknowledged and not there", w, i)
			return
		}
	}
}

// keepWalking reads all of each of many snapshots, twice: a snapshot never changes.
func keepWalking(t *testing.T, s *cidstore.Store) {
	for {
		v, err := s.Snapshot()
		if !untilClosed(t, "Snapshot", err) {
			return
		}
		var counts [2]int
		for i := range counts {
			for range v.All() {
				counts[i]++
			}
		}
		if err := v.Err(); !untilClosed(t, "All", err) {
			return
		}
		if counts[0] != counts[1] {
			t.Errorf("one snapshot has %d pairs, then %d", counts[0], counts[1])
		}
		if err := v.Close(); !untilClosed(t, "Close", err) {
			return
		}
	}
}

// A call on one key: what is asked of a set of up to 16 values.
type call struct {
	kind  int // of the constants below
	key   uint64
	value uint64
}

const (
	callInsert = iota
	callDeleteValue
	callDelete
	callLookup
	callHas
	callCount
	callKinds
)

// setModel is the set of one key as a bit mask; a Lookup answers with it.
var setModel = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byKey := make(map[uint64][]porcupine.Operation)
		for _, o := range history {
			key := o.Input.(call).key
			byKey[key] = append(byKey[key], o)
		}
		parts := make([][]porcupine.Operation, 0, len(byKey))
		for _, part := range byKey {
			parts = append(parts, part)
		}
		return parts
	},
	Init: func() any { return uint64(0) },
	Step: func(state, input, output any) (bool, any) {
		set, c, got := state.(uint64), input.(call), output.(uint64)
		switch c.kind {
		case callInsert:
			return true, set | 1<<c.value
		case callDeleteValue:
			return true, set &^ (1 << c.value)
		case callDelete:
			return true, uint64(0)
		case callHas:
			return got == set>>c.value&1, set
		case callCount:
			return got == uint64(ones(set)), set
		default:
			return got == set, set
		}
	},
}

func ones(set uint64) (n int) {
	for ; set != 0; set &= set - 1 {
		n++
	}
	return n
}

// do makes a call on a store.
func (c call) do(s *cidstore.Store) (out uint64, err error) {
	key, value := cidstore.FromUint64(c.key), cidstore.FromUint64(c.value)
	switch c.kind {
	case callInsert:
		return 0, s.Insert(key, value)
	case callDeleteValue:
		return 0, s.DeleteValue(key, value)
	case callDelete:
		return 0, s.Delete(key)
	case callHas:
		ok, err := s.Has(key, value)
		if ok {
			out = 1
		}
		return out, err
	case callCount:
		n, err := s.Count(key)
		return uint64(n), err
	}
	values, err := s.Lookup(key)
	for _, v := range values {
		out |= 1 << v.Low
	}
	return out, err
}

// TestLinearizable records what concurrent clients see of a few keys, while
// checkpoints run, and looks for an order that explains it.
func TestLinearizable(t *testing.T) {
	for round := range uint64(duration(t, 3, 12)) {
		disk := crashfs.New(crashfs.Options{})
		s := open(t, "db/s.h5", &cidstore.Options{FS: disk, WALBytes: 64 << 10, SplitThreshold: 8})
		history := clients(t, s, round, 10, 120)
		must(t, s.Close())
		if result := porcupine.CheckOperationsTimeout(setModel, history, 20*time.Second); result != porcupine.Ok {
			t.Fatalf("round %d: %d calls are %v", round, len(history), result)
		}
	}
}

// TestLinearizableBites: a history that no order explains is found.
func TestLinearizableBites(t *testing.T) {
	history := []porcupine.Operation{
		{ClientId: 0, Input: call{callInsert, 1, 2}, Output: uint64(0), Call: 0, Return: 1},
		{ClientId: 1, Input: call{callHas, 1, 2}, Output: uint64(0), Call: 2, Return: 3},
	}
	if porcupine.CheckOperations(setModel, history) {
		t.Error("a value that was acknowledged and not seen passes")
	}
}

// clients run calls at the same time and return what each saw, and when.
func clients(t *testing.T, s *cidstore.Store, seed uint64, count, calls int) []porcupine.Operation {
	start := time.Now()
	histories := make([][]porcupine.Operation, count)
	var group sync.WaitGroup
	for id := range count {
		group.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(id)))
			for range calls {
				c := call{random.IntN(callKinds), random.Uint64N(3), random.Uint64N(7)}
				if c.kind == callDelete && random.IntN(4) > 0 {
					c.kind = callInsert
				}
				at := time.Since(start).Nanoseconds()
				out, err := c.do(s)
				if err != nil {
					t.Errorf("%+v: %v", c, err)
					return
				}
				histories[id] = append(histories[id], porcupine.Operation{
					ClientId: id, Input: c, Output: out, Call: at, Return: time.Since(start).Nanoseconds(),
				})
			}
		})
	}
	group.Go(func() {
		for range 20 {
			wantErr(t, s.Checkpoint(context.Background()), nil)
		}
	})
	group.Wait()
	return slices.Concat(histories...)
}

// TestReadsAllocateNothing: at rest, and with a few operations pending.
func TestReadsAllocateNothing(t *testing.T) {
	s, _ := fresh(t, &cidstore.Options{GCInterval: -1})
	one, four, many := cidstore.FromUint64(1), cidstore.FromUint64(4), cidstore.FromUint64(300)
	var b cidstore.Batch
	for i := range uint64(300) {
		b.Insert(many, cidstore.FromUint64(i))
		b.Insert(cidstore.FromUint64(1000+i), cidstore.FromUint64(i))
		if i < 4 {
			b.Insert(four, cidstore.FromUint64(i))
		}
	}
	b.Insert(one, one)
	tree := cidstore.FromUint64(5000)
	for i := range uint64(5000) {
		b.Insert(tree, cidstore.FromUint64(i))
	}
	must(t, s.Apply(&b), s.Checkpoint(context.Background()))
	readsAllocateNothing(t, s, "at rest", one, four, many, tree, cidstore.FromUint64(77))
	must(t, s.Insert(four, cidstore.FromUint64(5)), s.DeleteValue(many, cidstore.FromUint64(7)), s.Delete(one))
	must(t, s.Insert(cidstore.FromUint64(88), one), s.DeleteValue(tree, cidstore.FromUint64(7)))
	readsAllocateNothing(t, s, "pending", one, four, many, tree, cidstore.FromUint64(77), cidstore.FromUint64(88))
}

func readsAllocateNothing(t *testing.T, s *cidstore.Store, when string, keys ...cidstore.E) {
	t.Helper()
	room := make([]cidstore.E, 0, 5000)
	for _, key := range keys {
		for name, read := range map[string]func() error{
			"AppendLookup": func() error { _, err := s.AppendLookup(room, key); return err },
			"Has":          func() error { _, err := s.Has(key, cidstore.FromUint64(2)); return err },
			"HasKey":       func() error { _, err := s.HasKey(key); return err },
			"Count":        func() error { _, err := s.Count(key); return err },
		} {
			var failed error
			allocations := testing.AllocsPerRun(100, func() { failed = errors.Join(failed, read()) })
			if failed != nil || allocations != 0 {
				t.Errorf("%s: %s(%v): %v allocations, %v", when, name, key, allocations, failed)
			}
		}
	}
}

// TestEveryMethodWhileClosing calls every method again and again while Close comes:
// each works or says that the store is closed.
func TestEveryMethodWhileClosing(t *testing.T) {
	for _, readOnly := range []bool{false, true} {
		for range duration(t, 1, 3) {
			noGoroutines(t)
			path := smallFile(t, 100)
			s := open(t, path, &cidstore.Options{ReadOnly: readOnly})
			var group sync.WaitGroup
			for name, use := range uses(s, path) {
				if name == "Close" || readOnly && errors.Is(use(), cidstore.ErrReadOnly) {
					continue
				}
				group.Go(func() {
					for {
						err := use()
						if errors.Is(err, cidstore.ErrClosed) {
							return
						}
						if err != nil && name != "Backup" { // it finds the copy of its first turn
							t.Errorf("read-only %v: %s: %v", readOnly, name, err)
							return
						}
					}
				})
			}
			time.Sleep(20 * time.Millisecond)
			must(t, s.Close())
			group.Wait()
		}
	}
}
