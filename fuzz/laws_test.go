package fuzz_test

import (
	"context"
	"slices"
	"testing"

	"github.com/cidstore/cidstore"
	"github.com/cidstore/cidstore/fuzz"
	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/internal/invariants"
)

// A plan says how operations reach a store: what must not matter to its contents.
type plan struct {
	options    cidstore.Options
	batch      int // operations in a batch
	checkpoint int // batches from one checkpoint to the next; 0: none
	reopen     int // batches from one reopening to the next; 0: none
}

func drawPlan(c fuzz.Source) plan {
	return plan{
		options: cidstore.Options{
			SplitThreshold: []int{2, 5, 8, 12, 16, 128, 1024}[c.Choose("split threshold", 7)],
			WALBytes:       []int64{64 << 10, 1 << 20}[c.Choose("log", 2)],
			MemoryBudget:   []int64{0, 1, 16 << 10}[c.Choose("budget", 3)],
			Durability:     cidstore.Durability(c.Choose("durability", 2)),
			Verify:         cidstore.VerifyMode(c.Choose("verify", 3)),
			NoMmap:         c.Choose("no mapping", 2) == 1,
			GCInterval:     -1,
		},
		batch:      []int{1, 3, 50, 300}[c.Choose("batch", 4)],
		checkpoint: []int{0, 1, 5, 17}[c.Choose("checkpoint", 4)],
		reopen:     []int{0, 11, 40}[c.Choose("reopen", 3)],
	}
}

// follow makes operations by the plan and returns what a last opening finds.
func (p plan) follow(t *testing.T, ops []fuzz.Op) fuzz.Model {
	t.Helper()
	const path = "db/s.h5"
	disk := crashfs.New(crashfs.Options{})
	opened := func() *cidstore.Store {
		o := p.options
		o.FS = disk
		s, err := cidstore.Open(path, &o)
		must(t, err)
		return s
	}
	try := func(err error) {
		if err != nil {
			t.Fatalf("%+v: %v", p, err)
		}
	}
	s, n := opened(), 0
	for part := range slices.Chunk(ops, p.batch) {
		try(s.Apply(fuzz.BatchOf(part)))
		n++
		if p.checkpoint > 0 && n%p.checkpoint == 0 {
			try(s.Checkpoint(context.Background()))
		}
		if p.reopen > 0 && n%p.reopen == 0 {
			try(s.Close())
			s = opened()
		}
	}
	try(s.Close())
	s = opened()
	defer s.Close()
	got, err := fuzz.ContentsOf(s)
	try(err)
	try(fuzz.Sound(s))
	try(fuzz.CompareLen(s, got))
	return got
}

// drawOps are operations on few keys, so that most of them meet others.
func drawOps(c fuzz.Source) (ops []fuzz.Op) {
	keys, values := 1+c.Choose("keys", 300), 1+c.Choose("values", 40)
	for range c.Choose("operations", 600) {
		o := fuzz.Op{Key: cidstore.FromUint64(uint64(c.Choose("key", keys)))}
		switch n := c.Choose("operation", 10); {
		case n == 0:
			o.Kind = fuzz.Delete
		case n < 4:
			o.Kind, o.Value = fuzz.DeleteValue, cidstore.FromUint64(uint64(c.Choose("value", values)))
		default:
			o.Value = cidstore.FromUint64(uint64(c.Choose("value", values)))
		}
		ops = append(ops, o)
	}
	return ops
}

// rounds runs a law with the choices of many seeds.
func rounds(t *testing.T, law func(t *testing.T, c fuzz.Random)) {
	t.Helper()
	count := uint64(40 / invariants.Sparse)
	if testing.Short() {
		count = 6
	}
	for seed := range count {
		if law(t, fuzz.NewRandom(seed)); t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// TestSameUnderAnyPlan: geometry, batching, durability, budgets and the moments of
// checkpoints and reopenings do not change the contents.
func TestSameUnderAnyPlan(t *testing.T) {
	rounds(t, func(t *testing.T, c fuzz.Random) {
		ops := drawOps(c)
		want := make(fuzz.Model)
		want.Apply(ops)
		for range 2 {
			p := drawPlan(c)
			if got := p.follow(t, ops); !got.Equal(want) {
				t.Errorf("%d operations by %+v: %d pairs, want %d", len(ops), p, got.Pairs(), want.Pairs())
			}
		}
	})
}

// TestSameInAnyOrder: inserts in another order, some of them twice, make the same contents.
func TestSameInAnyOrder(t *testing.T) {
	rounds(t, func(t *testing.T, c fuzz.Random) {
		ops := slices.DeleteFunc(drawOps(c), func(o fuzz.Op) bool { return o.Kind != fuzz.Insert })
		want := drawPlan(c).follow(t, ops)
		again := slices.Concat(ops, ops[:len(ops)/3])
		c.Shuffle(len(again), func(i, j int) { again[i], again[j] = again[j], again[i] })
		if got := drawPlan(c).follow(t, again); !got.Equal(want) {
			t.Errorf("%d inserts: %d pairs in one order, %d in another", len(ops), want.Pairs(), got.Pairs())
		}
	})
}

// TestInsertAndDeleteLeaveNoGrowth: making and undoing the same again and again
// does not make the file larger and larger.
func TestInsertAndDeleteLeaveNoGrowth(t *testing.T) {
	const path = "db/s.h5"
	disk := crashfs.New(crashfs.Options{})
	s, err := cidstore.Open(path, &cidstore.Options{FS: disk, WALBytes: 64 << 10, SplitThreshold: 8, GCInterval: -1})
	must(t, err)
	sizeAfter := func(rounds int) int64 {
		for r := range rounds {
			for _, kind := range []fuzz.OpKind{fuzz.Insert, fuzz.Delete} {
				var ops []fuzz.Op
				for i := range uint64(300) {
					ops = append(ops, fuzz.Op{Kind: kind, Key: cidstore.FromUint64(i % 50), Value: cidstore.FromUint64(uint64(r) + i)})
				}
				must(t, s.Apply(fuzz.BatchOf(ops)))
			}
			must(t, s.Checkpoint(context.Background()))
		}
		info, err := disk.Stat(path)
		must(t, err)
		return info.Size
	}
	early := sizeAfter(20)
	late := sizeAfter(180)
	if keys := s.Metrics().Keys; keys != 0 {
		t.Errorf("%d keys are left", keys)
	}
	if late > early+early/2 {
		t.Errorf("%d bytes after 20 rounds, %d after 200", early, late)
	}
	must(t, fuzz.Sound(s), s.Close())
}
