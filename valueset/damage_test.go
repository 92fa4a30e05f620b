package valueset

import (
	"errors"
	"slices"
	"testing"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/internal/invariants"
	"github.com/cidstore/cidstore/keys"
)

// damaged is a world with a row of 8 values and a tree of 5,000.
func damaged(t *testing.T) *world {
	w := newWorld(t, 4<<20)
	tx, writer := w.begin()
	for key, n := range []uint64{8, 5000} {
		x := w.tested(t, writer, keys.FromUint64(uint64(key)))
		for v := range n {
			x.add(keys.FromUint64(10 * v))
		}
		x.remove(keys.FromUint64(20))
		w.save(writer, x.s)
	}
	w.commit(tx, writer)
	return w
}

// reads reads all of a set in every possible way. Results must be right, or an
// error of damage.
func (w *world) reads(table *Table, key keys.E) error {
	w.t.Helper()
	err := w.read(table, key)
	if err != nil && !errors.Is(err, corrupt.Err) {
		w.t.Fatalf("error is not of damage: %v", err)
	}
	return err
}

func (w *world) read(table *Table, key keys.E) error {
	m := w.models[key]
	s, err := table.Open(w.refs[key].set, key)
	if err != nil {
		return err
	}
	want := m.values()
	got, err := s.Append(nil)
	if err != nil {
		return err
	}
	if !slices.Equal(got, want) || s.Count() != uint64(len(want)) || s.Tombstones() != uint64(len(m.dead)) {
		w.t.Fatalf("%d values, %d, %d: wrong answer", len(got), s.Count(), s.Tombstones())
	}
	for _, v := range []keys.E{want[0], want[len(want)-1], {Low: 20}, {Low: 33}} {
		has, err := s.Has(v)
		if err != nil {
			return err
		}
		if has != m.live[v] {
			w.t.Fatalf("has %v: %v", v, has)
		}
	}
	return nil
}

// flipAll flips each stride-th bit of a range of the file and calls judge.
func (w *world) flipAll(address uint64, size, stride int, judge func(bit int)) {
	b := make([]byte, size)
	_, err := w.raw.ReadAt(b, int64(address))
	must(w.t, err)
	for bit := 0; bit < 8*size; bit += stride {
		i := bit / 8
		b[i] ^= 1 << (bit % 8)
		must(w.t, w.raw.WriteAt(b[i:i+1], int64(address)+int64(i)))
		judge(bit)
		b[i] ^= 1 << (bit % 8)
		must(w.t, w.raw.WriteAt(b[i:i+1], int64(address)+int64(i)))
	}
}

func (w *world) chunk(path string, coord ...uint64) hdf5io.Chunk {
	d, err := w.file.View().Dataset(path)
	must(w.t, err)
	c, found, err := d.Find(coord...)
	must(w.t, err)
	if !found {
		w.t.Fatalf("no chunk %d of %s", coord, path)
	}
	return c
}

// TestFlipEveryBit flips each bit of a page of states, a row, a root node and a
// leaf. A read notices that; with verifyAlways every read does.
func TestFlipEveryBit(t *testing.T) {
	w := damaged(t)
	defer w.close()
	table, err := NewTable(w.file.View(), w.uuid, true, nil)
	must(t, err)
	small, large := keys.FromUint64(0), keys.FromUint64(1)
	must(t, w.reads(table, small))
	must(t, w.reads(table, large))
	s, err := table.Open(w.refs[large].set, large)
	must(t, err)
	root := s.root()
	b, err := s.node(&root, int(s.state.depth))
	must(t, err)
	leaf := inner(b).child(2)
	for _, c := range []struct {
		name    string
		address uint64
		size    int
		stride  int
		key     keys.E
	}{
		{"states", w.chunk(statePath, 0).Address, 2 * stateSize, 1, small},
		{"other states", w.chunk(statePath, 0).Address + 2*stateSize, (pageRows - 2) * stateSize, 61, small},
		{"row", w.chunk(classPath(8), 0, 0).Address, 8 * keys.Size, 1, small},
		{"root", root.at, nodeSize, 13, large},
		{"leaf", leaf.at, nodeSize, 61, large},
	} {
		w.flipAll(c.address, c.size, c.stride*invariants.Sparse, func(bit int) {
			if err := w.reads(table, c.key); err == nil {
				t.Fatalf("%s: bit %d: not seen", c.name, bit)
			}
		})
	}
	w.check()
}

// TestFirstTouch: without verifyAlways a row is verified at the first touch, and
// a damaged one at every touch until it is sound.
func TestFirstTouch(t *testing.T) {
	w := damaged(t)
	defer w.close()
	row := w.chunk(classPath(8), 0, 0)
	for range 2 {
		w.flipAll(row.Address, 1, 8, func(int) {
			for range 2 {
				if err := w.reads(w.table(), keys.FromUint64(0)); err == nil {
					t.Fatal("damage not seen")
				}
			}
		})
	}
	must(t, w.reads(w.table(), keys.FromUint64(0)))
}

// TestCheckSeesDamage: Check reports all damage and does not end at the first.
func TestCheckSeesDamage(t *testing.T) {
	w := damaged(t)
	defer w.close()
	key := keys.FromUint64(1)
	s, err := w.table().Open(w.refs[key].set, key)
	must(t, err)
	root := s.root()
	b, err := s.node(&root, 1)
	must(t, err)
	first, third := inner(b).child(0), inner(b).child(2)
	w.flipAll(first.at, 1, 8, func(int) {
		w.flipAll(third.at, 1, 8, func(int) {
			var defects []error
			w.table().Check(s.set, key, nil, func(err error) { defects = append(defects, err) })
			if len(defects) != 2 || !errors.Is(defects[0], corrupt.Err) || !errors.Is(defects[1], corrupt.Err) {
				t.Fatalf("defects %v, want two", defects)
			}
		})
	})
}

// TestCheckInParts: parts of any size visit all that a set has, each leaf once, and
// report each damage once. A set that does not exist has no parts.
func TestCheckInParts(t *testing.T) {
	w := damaged(t)
	defer w.close()
	key := keys.FromUint64(1)
	set := w.refs[key].set
	s, err := w.table().Open(set, key)
	must(t, err)
	root := s.root()
	b, err := s.node(&root, 1)
	must(t, err)
	kids, err := inner(b).children(&root)
	must(t, err)
	for most := 1; most <= len(kids)+2; most++ {
		seen, defects, parts := map[Owned]int{}, 0, 0
		from, next := keys.E{}, new(keys.E)
		for ; next != nil; parts++ {
			n := 0
			next = w.table().CheckPart(set, from, func(o Owned) bool { seen[o]++; n++; return n < most }, func(error) { defects++ })
			if next != nil {
				from = *next
			}
		}
		leaves := 0
		for o, times := range seen {
			if o.Address != root.at {
				leaves++
				if times != 1 {
					t.Errorf("parts of %d chunks: %+v was visited %d times", most, o, times)
				}
			}
		}
		if leaves != len(kids) || defects != 0 || (parts == 1) != (most > len(kids)) {
			t.Errorf("%d parts of %d chunks: %d of %d leaves, %d defects", parts, most, leaves, len(kids), defects)
		}
	}
	third := inner(b).child(2)
	w.flipAll(third.at, 1, 8, func(int) {
		defects := 0
		for from, next := (keys.E{}), new(keys.E); next != nil; {
			if next = w.table().CheckPart(set, from, func(Owned) bool { return false }, func(error) { defects++ }); next != nil {
				from = *next
			}
		}
		if defects != 1 {
			t.Errorf("%d defects, want one", defects)
		}
	})
	if next := w.table().CheckPart(w.table().States()+7, keys.E{}, func(Owned) bool { t.Error("a chunk"); return true }, func(err error) { t.Error(err) }); next != nil {
		t.Error("a set that is not there has a part")
	}
}

// TestOpenRefuses an id that belongs to another key, is unused, or does not exist.
func TestOpenRefuses(t *testing.T) {
	w := damaged(t)
	defer w.close()
	tx, writer := w.begin()
	x := w.tested(t, writer, keys.FromUint64(0))
	x.clear()
	w.save(writer, x.s)
	w.commit(tx, writer)
	for name, open := range map[string]struct {
		set uint64
		key keys.E
	}{
		"another key's": {1, keys.FromUint64(5)},
		"unused":        {0, keys.FromUint64(0)},
		"unused, zero":  {0, keys.E{}},
		"after":         {2, keys.E{}},
		"far behind":    {1 << 40, keys.E{}},
		"largest":       {^uint64(0), keys.E{}},
	} {
		if _, err := w.table().Open(open.set, open.key); !errors.Is(err, corrupt.Err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestCompactableBecomesARow: a compaction that leaves a row reads all leaves, so a damaged
// one is found before it begins, even if that has no tombstones.
func TestCompactableBecomesARow(t *testing.T) {
	const n = 1500
	w := newWorld(t, 64<<20)
	defer w.close()
	fill(t, w, n, n, false)
	tx, writer := w.begin()
	s := w.set(writer, keys.FromUint64(1))
	for v := range uint64(600) {
		must(t, s.Remove(keys.FromUint64(v)))
	}
	w.save(writer, s)
	w.commit(tx, writer)
	stored := w.stored(w.refs[keys.FromUint64(1)].set)
	root := stored.root()
	kids, err := stored.children(&root, int(stored.state.depth))
	must(t, err)
	last := kids[len(kids)-1]
	if last.tombs > 0 {
		t.Fatalf("the last leaf has %d tombstones, want none", last.tombs)
	}
	must(t, stored.Compactable())
	p := make([]byte, 1)
	_, err = w.raw.ReadAt(p, int64(last.at)+100)
	must(t, err)
	must(t, w.raw.WriteAt([]byte{^p[0]}, int64(last.at)+100))
	w.known = nil // nothing is verified
	if err := w.stored(w.refs[keys.FromUint64(1)].set).Compactable(); !errors.Is(err, corrupt.Err) {
		t.Errorf("with a damaged leaf: %v", err)
	}
}
