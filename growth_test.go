package cidstore

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cidstore/cidstore/hdf5io"
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

// reached is how many bytes the newest root reaches. Both slots name it.
func (g *growing) reached() int64 {
	mustDo(g.t, g.s.exclusively(g.s.settle))
	p := g.s.file.Space()
	return p.Size - p.Free - p.Fragments - p.Limbo - p.Pinned
}

// put logs operations, checkpoints them without folding a group, and compares what the tree
// is longer then with the bound, and what each commit has placed with it.
func (g *growing) put(name string, least float64, ops []wal.Op) {
	g.t.Helper()
	mustDo(g.t, g.s.Checkpoint(g.t.Context()))
	before := g.reached()
	for rest := ops; len(rest) > 0; {
		n := min(len(rest), 10000)
		mustDo(g.t, errOf(g.s.append(rest[:n])))
		rest = rest[n:]
	}
	bytes, nodes := g.s.growth(g.s.pendingOps())
	bound := bytes + nodes*hdf5io.ShortBytes
	g.slice()
	added := g.reached() - before
	part := float64(added) / float64(bound)
	g.t.Logf("%s: %d operations, %d bytes added, %.0f a piece, bound %d, %.2f of it", name, len(ops), added, float64(added)/float64(len(ops)), bound, part)
	if added > bound || part < least {
		g.t.Errorf("%s: %d operations add %d bytes, want at most %d, and %.2f of it", name, len(ops), added, bound, least)
	}
}

// slice checkpoints what is logged in one slice that folds no group.
func (g *growing) slice() {
	g.t.Helper()
	mustDo(g.t, g.s.exclusively(func() error {
		g.s.freeze()
		st := g.s.state.Load()
		c := &checkpoint{store: g.s, frozen: st.frozen, through: g.s.frozenThrough, keep: true}
		c.ops = newQueue(st.frozen, 0)
		last, err := c.slice(1 << 40)
		if err == nil && !last {
			err = fmt.Errorf("more than one slice")
		}
		return err
	}))
}

// step makes the least commit of a checkpoint, and compares all that it places with the bound.
func (g *growing) step(name string, o wal.Op) {
	g.t.Helper()
	mustDo(g.t, g.s.Checkpoint(g.t.Context()))
	g.reached()
	mustDo(g.t, g.s.file.EndQuarantine()) // so that free space only becomes less
	bound, _ := g.s.step()
	before := g.s.file.Space()
	mustDo(g.t, errOf(g.s.append([]wal.Op{o})))
	g.slice()
	after := g.s.file.Space()
	placed := before.Free + before.Fragments - after.Free - after.Fragments + after.Size - before.Size
	g.t.Logf("%s: %d bytes placed, bound %d", name, placed, bound)
	if placed > bound || placed < bound/16 {
		g.t.Errorf("%s: %d bytes placed, want a sixteenth of %d to all of it", name, placed, bound)
	}
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
	g.put("new keys", 0.45, g.values(0, 3000, 1))
	g.fold()
	g.put("second values", 0.9, g.values(0, 3000, 1))
	g.put("up to four", 0, g.values(0, 3000, 2))
	g.fold()
	g.put("fifth values", 0.5, g.values(0, 3000, 1))
	g.put("up to eight", 0, g.values(0, 3000, 3))
	g.put("into the next class", 0.1, g.values(0, 3000, 1))
	g.put("new keys of five", 0.2, g.values(3000, 4000, 5))
	g.put("mixed", 0, append(g.values(2900, 3100, 3), g.values(4000, 4500, 2)...))
	g.put("rows of 768", 0.1, g.values(5000, 5100, 768))
	g.put("rows of 769", 0.3, g.values(5000, 5100, 1))
	ops := g.values(5000, 5100, 255)
	g.put("rows of 1024", 0, ops)
	g.step("a row of 1024 again", wal.Op{Code: wal.DeleteValue, Key: scattered(5000), Value: ops[len(ops)-100].Value})
	g.put("rows become trees", 0.6, g.values(5000, 5100, 1))
	g.put("trees grow", 0, g.values(5000, 5010, 100))
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
	g.put("packed leaves", 0.1, first)
	g.put("full leaves", 0, more)
	g.put("one more in every other", 0.7, last)
	g.step("one more", value(1, full))
	mustDo(t, g.s.Close())
}

// fold folds all groups, so that runs hold nothing.
func (g *growing) fold() { mustDo(g.t, g.s.Maintain(g.t.Context())) }
