package cidstore

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/wal"
)

// growing measures what operations add to a tree.
type growing struct {
	t      *testing.T
	s      *Store
	random *rand.Rand
}

func newGrowing(t *testing.T) *growing {
	disk := crashfs.New(crashfs.Options{FileLimit: 1 << 30})
	s := mustGet(Open(crashPath, &Options{FS: disk, GCInterval: -1, WALBytes: 64 << 20, startBytes: 64 << 20, Rand: rand.NewChaCha8([32]byte{5})}))(t)
	return &growing{t: t, s: s, random: rand.New(rand.NewPCG(11, 12))}
}

// put logs operations, checkpoints them as one commit that room was promised for, and
// compares what it places with the bound.
func (g *growing) put(name string, least float64, ops []wal.Op) {
	g.t.Helper()
	mustDo(g.t, g.s.Checkpoint(g.t.Context()))
	var need demand
	for rest := ops; len(rest) > 0; {
		n := min(len(rest), 1+g.random.IntN(10000))
		mustDo(g.t, need.count(g.s.state.Load().view, rest[:n]))
		mustDo(g.t, errOf(g.s.append(rest[:n])))
		rest = rest[n:]
	}
	g.slice(name, least, need)
}

// slice checkpoints what is logged in one slice that folds no group, and compares what it
// places with the bound.
func (g *growing) slice(name string, least float64, need demand) {
	g.t.Helper()
	mustDo(g.t, g.s.exclusively(func() error {
		if err := g.s.freeReplaced(); err != nil { // so that free space only becomes less
			return err
		}
		st, before := g.s.state.Load(), g.s.file.Space()
		bound, ops := need.total(st.view.View, &st.view.record).Bytes, g.s.pendingOps()
		g.s.freeze()
		c := &checkpoint{store: g.s, frozen: st.fresh, through: g.s.frozenThrough, keep: true, sure: &need}
		c.ops = newQueue(st.fresh, 0)
		last, err := c.slice(math.MaxInt64)
		if err == nil && !last {
			err = fmt.Errorf("more than one slice")
		}
		after := g.s.file.Space()
		placed := before.Free + before.Fragments - after.Free - after.Fragments + after.Size - before.Size
		part := float64(placed) / float64(bound)
		g.t.Logf("%s: %d operations, %d bytes placed, bound %d, %.2f of it", name, ops, placed, bound, part)
		if placed > bound || part < least {
			g.t.Errorf("%s: %d operations place %d bytes, want at most %d, and %.2f of it", name, ops, placed, bound, least)
		}
		return err
	}))
}

// step makes the least commit of a checkpoint.
func (g *growing) step(name string, o wal.Op) {
	g.t.Helper()
	mustDo(g.t, g.s.Checkpoint(g.t.Context()))
	mustDo(g.t, errOf(g.s.append([]wal.Op{o})))
	g.slice(name, 1./16, demand{entries: 1, deletes: 1, sets: g.s.state.Load().view.record.sets.Least()})
}

// values returns inserts of n new values each into the keys from first up to end.
func (g *growing) values(first, end, n int) (ops []wal.Op) {
	for range n {
		for k := first; k < end; k++ {
			ops = append(ops, wal.Op{Code: wal.Insert, Key: scattered(k), Value: E{High: g.random.Uint64(), Low: g.random.Uint64()}})
		}
	}
	return ops
}

// TestGrowthIsABound puts operations into trees where each of them adds as much as it can.
// What they add is never more than the bound that makes room for them before they are
// logged. least is the part of it that they have to add, so that a bound that is lower than
// it should be, or much too high, is noticed.
func TestGrowthIsABound(t *testing.T) {
	g := newGrowing(t)
	g.step("first key", g.values(9000, 9001, 1)[0])
	g.put("new keys", 0.15, g.values(0, 3000, 1))
	g.fold()
	g.put("second values", 0.3, g.values(0, 3000, 1))
	g.put("up to four", 0, g.values(0, 3000, 2))
	g.fold()
	g.put("fifth values", 0.35, g.values(0, 3000, 1))
	g.put("up to eight", 0, g.values(0, 3000, 3))
	g.put("into the next class", 0.25, g.values(0, 3000, 1))
	g.put("new keys of five", 0.2, g.values(3000, 4000, 5))
	g.put("mixed", 0, append(g.values(2900, 3100, 3), g.values(4000, 4500, 2)...))
	g.put("rows of 768", 0.2, g.values(5000, 5100, 768))
	g.put("rows of 769", 0.5, g.values(5000, 5100, 1))
	ops := g.values(5000, 5100, 255)
	g.put("rows of 1024", 0, ops)
	g.step("a row of 1024 again", wal.Op{Code: wal.DeleteValue, Key: scattered(5000), Value: ops[len(ops)-100].Value})
	g.put("rows become trees", 0.5, g.values(5000, 5100, 1))
	g.put("trees grow", 0.4, g.values(5000, 5010, 100))
	mustDo(t, g.s.Close())
	g = newGrowing(t)
	const leaves, packed, full = 200, 230, 256
	value := func(leaf, i int) wal.Op {
		return wal.Op{Code: wal.Insert, Key: scattered(0), Value: E{High: uint64(leaf), Low: uint64(i) << 32}}
	}
	var first, more, last []wal.Op
	for leaf := range leaves {
		for i := range packed {
			first = append(first, value(leaf, i))
		}
		for i := range full - packed {
			more = append(more, value(leaf, packed+i))
		}
		if leaf%2 == 0 { // neighbours would be packed together
			last = append(last, value(leaf, full))
		}
	}
	g.put("packed leaves", 0.7, first)
	g.put("full leaves", 0.7, more)
	g.put("one more in every other", 0.8, last)
	g.step("one more", value(1, full))
	mustDo(t, g.s.Close())
}

// fold folds all groups, so that runs hold nothing.
func (g *growing) fold() { mustDo(g.t, g.s.Maintain(g.t.Context())) }
