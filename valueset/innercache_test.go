package valueset

import (
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cidstore/cidstore/hdf5io"

	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/keys"
)

// deep is a world with a tree of depth 2, and a child of its root, which is an inner
// node.
func deep(t *testing.T) (w *world, set uint64, c child) {
	w = newWorld(t, 64<<20)
	fill(t, w, 20_000, 20_000, false)
	set = w.refs[keys.FromUint64(1)].set
	s := w.stored(set)
	if s.state.depth != 2 {
		t.Fatalf("depth %d, want 2", s.state.depth)
	}
	root := s.root()
	b, err := s.node(&root, 2)
	must(t, err)
	return w, set, inner(b).child(0)
}

func (w *world) stored(set uint64) Stored {
	w.t.Helper()
	s, err := w.table().Open(set, keys.FromUint64(1))
	must(w.t, err)
	return s
}

// TestHasOfCachedInnerNodes: an inner node that rots after it was verified gives no wrong
// answer. Has goes on with the copy that was verified, and all else says that there is
// damage, as does a Has that has no copy or may use none.
func TestHasOfCachedInnerNodes(t *testing.T) {
	w, set, c := deep(t)
	defer w.close()
	s := w.stored(set)
	asks := func(s Stored) error {
		for v := uint64(0); v < 10_000; v += 9 {
			has, err := s.Has(keys.FromUint64(v))
			if err != nil {
				return err
			}
			if !has {
				t.Fatalf("no value %d", v)
			}
		}
		return nil
	}
	must(t, asks(s))
	fresh, err := NewTable(w.file.View(), w.uuid, false, nil)
	must(t, err)
	always, err := NewTable(w.file.View(), w.uuid, true, s.table)
	must(t, err)
	w.flipAll(c.at, 40*childSize, 1999, func(bit int) {
		if err := asks(s); err != nil {
			t.Errorf("bit %d, with a copy: %v", bit, err)
		}
		for name, table := range map[string]*Table{"without a copy": fresh, "always verified": always} {
			s, err := table.Open(set, keys.FromUint64(1))
			must(t, err)
			if err := asks(s); !errors.Is(err, corrupt.Err) {
				t.Errorf("bit %d, %s: %v", bit, name, err)
			}
		}
		if _, err := s.Append(nil); !errors.Is(err, corrupt.Err) {
			t.Errorf("bit %d, all values: %v", bit, err)
		}
	})
	if n := testing.AllocsPerRun(100, func() { must(t, asks(s)) }); n > 0 {
		t.Errorf("%.0f allocations", n)
	}
}

// TestCachedInnerNodesAreOfTheirView: after each change of a tree Has is right in the new
// View, in the one before, and in the new one again.
func TestCachedInnerNodesAreOfTheirView(t *testing.T) {
	w, set, _ := deep(t)
	defer w.close()
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 5 {
		before := w.stored(set)
		release := w.file.View().Pin()
		was := before.table.view
		tx, writer := w.begin()
		s := w.set(writer, keys.FromUint64(1))
		there := map[uint64]bool{}
		for range 300 {
			v := rng.Uint64N(20_000) + uint64(round%2)*20_000
			there[v] = rng.IntN(2) == 0
			if there[v] {
				must(t, s.Add(keys.FromUint64(v)))
			} else {
				must(t, s.Remove(keys.FromUint64(v)))
			}
		}
		old := map[uint64]bool{}
		for v := range there {
			has, err := before.Has(keys.FromUint64(v))
			must(t, err)
			old[v] = has
		}
		w.save(writer, s)
		w.commit(tx, writer)
		after := w.stored(set)
		for range 3 {
			for v := range there {
				now, err := after.Has(keys.FromUint64(v))
				must(t, err)
				then, err := before.Has(keys.FromUint64(v))
				must(t, err)
				if now != there[v] || then != old[v] {
					t.Fatalf("round %d, value %d: now %t, before %t; want %t, %t", round, v, now, then, there[v], old[v])
				}
			}
		}
		was.Unpin(release)
	}
}

// TestInnerCacheMakesRoom: nodes that are used stay, and one that is not makes way for
// another that is wanted often enough. What does not have its checksum is not kept.
func TestInnerCacheMakesRoom(t *testing.T) {
	cache, seed := new(innerCache), newSeed([16]byte{1})
	b := make([]byte, nodeSize)
	b[offChildAddress] = 1 // so that it has a child
	made := func(commit hdf5io.Commit) *child {
		return &child{node: 7, at: 4096, commit: commit, count: 1, crc: seed.checksum(7, commit, b)}
	}
	has := func(c *child) bool {
		return cache.find(c) != nil
	}
	one, two, three := made(1), made(2), made(3)
	cache.offer(one, b, seed)
	cache.offer(two, b, seed)
	for range 10 * patience {
		cache.offer(three, b, seed)
		if !has(one) || !has(two) || has(three) {
			t.Fatal("a node that is used is gone")
		}
	}
	for range patience - 1 {
		cache.offer(three, b, seed)
		if !has(two) || has(three) {
			t.Fatal("a node made way too early, or one that is used did")
		}
	}
	cache.offer(three, b, seed)
	if !has(three) || !has(two) || has(one) {
		t.Error("a node that is not used did not make way")
	}
	rotten := made(4)
	rotten.at, rotten.crc = 1<<20, rotten.crc+1
	cache.offer(rotten, b, seed)
	if has(rotten) {
		t.Error("a node with a wrong checksum is kept")
	}
}

// TestCachedNodeFinds: a copy finds the child that the node itself finds, with every number
// of children and separators that have much or little in common.
func TestCachedNodeFinds(t *testing.T) {
	seed, rng := newSeed([16]byte{1}), rand.New(rand.NewPCG(1, 2))
	for used := 1; used <= fanOut; used++ {
		for _, highs := range []uint64{1, 3, 1 << 20, 0} { // High is below; 0: any
			number := func() keys.E {
				v := keys.E{High: rng.Uint64(), Low: rng.Uint64N(1000)}
				if highs > 0 {
					v.High = -(v.High % highs) // the largest numbers and 0
				}
				return v
			}
			separators := map[keys.E]bool{}
			for len(separators) < used {
				separators[number()] = true
			}
			b := make([]byte, 0, nodeSize)
			for i, v := range slices.SortedFunc(maps.Keys(separators), keys.E.Compare) {
				c := child{separator: v, node: uint64(i), at: hdf5io.ExtentUnit, count: 1}
				b = c.append(b)
			}
			b = b[:nodeSize]
			k := &child{node: 7, at: 4096, crc: seed.checksum(7, 0, b)}
			n := new(innerCache).offer(k, b, seed)
			for range 100 {
				v := number()
				for _, v := range []keys.E{v, {}, {High: ^uint64(0), Low: v.Low}, inner(b).separator(rng.IntN(used))} {
					if got, want := n.find(v).node, uint64(inner(b).find(v, used)); got != want {
						t.Fatalf("%d children: %v is in child %d, want %d", used, v, got, want)
					}
				}
			}
		}
	}
}
