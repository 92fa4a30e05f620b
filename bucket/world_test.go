package bucket

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"testing"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/keys"
	"github.com/cidstore/cidstore/vfs"
)

// world is a file of groups and runs, on storage in memory, and the model that it
// must be equal to.
type world struct {
	t      testing.TB
	g      Geometry
	uuid   [16]byte
	hasher keys.Hasher
	raw    vfs.File
	file   *hdf5io.File
	table  *Table
	groups []uint32 // by prefix: what a directory would say
	count  uint64
	model  map[keys.E]Item
}

// newWorld makes a file with one empty group, 0.
func newWorld(t testing.TB, threshold int) *world {
	w := &world{t: t, g: NewGeometry(threshold), hasher: keys.NewHasher([2]uint64{1, 2}), groups: []uint32{0}, count: 1, model: map[keys.E]Item{}}
	w.uuid = [16]byte{0xc1, 0xd5, 15: 0x7e}
	var err error
	w.raw, err = crashfs.New(crashfs.Options{FileLimit: 16 << 20}).OpenFile("f", vfs.ReadWrite|vfs.Create, 0o600)
	must(t, err)
	w.file, err = hdf5io.Create(w.raw, hdf5io.Options{UUID: w.uuid, GrowStep: 64 << 10}, nil, func(tx *hdf5io.Tx) error {
		if err := CreateDatasets(tx, w.g); err != nil {
			return err
		}
		base, err := NewTable(nil, w.g, w.uuid, w.hasher, FirstTouch, nil)
		if err != nil {
			return err
		}
		writer, err := NewWriter(tx, base, 1, nil)
		if err != nil {
			return err
		}
		if err := writer.Rewrite(0, State{Created: 1}, nil); err != nil {
			return err
		}
		return writer.Flush(1)
	})
	must(t, err)
	w.open(FirstTouch, false)
	t.Cleanup(func() { must(t, w.file.Close()) })
	return w
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// open makes the Table of the newest root. With known, it does so as a store that
// is in use does.
func (w *world) open(verify Verify, known bool) {
	w.t.Helper()
	var before *Table
	if known {
		before = w.table
	}
	var err error
	w.table, err = NewTable(w.file.View(), w.g, w.uuid, w.hasher, verify, before)
	must(w.t, err)
}

func (w *world) item(key keys.E, values ...uint64) Item {
	it := Item{Hash: w.hasher.Hash(key), Key: key, Count: uint8(len(values)), Deleted: len(values) == 0}
	for i, v := range values {
		it.Values[i] = keys.FromUint64(v)
	}
	return it
}

// commit makes changes in one transaction: groups for which fold returns true are
// folded, the others keep theirs in a run. It stops after stop groups; the next
// call continues with the rest.
func (w *world) commit(changes []Item, absorb bool, stop int, fold func(s *State) bool) (rest []Item) {
	w.t.Helper()
	slices.SortFunc(changes, func(a, b Item) int { return cmp.Or(cmp.Compare(a.Hash, b.Hash), a.Key.Compare(b.Key)) })
	tx, err := w.file.Begin()
	must(w.t, err)
	writer, err := NewWriter(tx, w.table, 2, nil)
	must(w.t, err)
	if absorb {
		writer.Absorb(len(changes))
	}
	next, end := uint64(0), false
	for _, id := range slices.Clone(w.groups) {
		s, err := w.table.State(id)
		must(w.t, err)
		var own []Item
		for len(changes) > 0 && s.Covers(changes[0].Hash) {
			own, changes = append(own, changes[0]), changes[1:]
		}
		if at, ok := writer.Next(next); len(own) > 0 || ok && s.Covers(at) || fold(&s) {
			w.group(writer, id, s, own, fold(&s))
		}
		next = s.Last() + 1
		end = next == 0
		if stop--; stop == 0 {
			break
		}
	}
	must(w.t, writer.Passed(next, end))
	must(w.t, writer.Flush(w.count))
	_, err = tx.Commit(nil)
	must(w.t, err)
	w.open(w.table.verify, true)
	return changes
}

// trim writes runs again as long as half of the entries of one do not count. It returns
// how many it wrote.
func (w *world) trim() (trimmed int64) {
	w.t.Helper()
	for {
		number, ok := w.table.Trimmable(math.MaxInt64)
		if !ok {
			return trimmed
		}
		waiting, _ := w.table.Waiting()
		must(w.t, w.tryTrim(number))
		if still, _ := w.table.Waiting(); still != waiting {
			w.t.Fatalf("%d entries wait, %d did before run %d was trimmed", still, waiting, number)
		}
		trimmed++
	}
}

func (w *world) tryTrim(number hdf5io.Commit) error {
	tx, err := w.file.Begin()
	must(w.t, err)
	defer tx.Abort()
	writer, err := NewWriter(tx, w.table, 2, nil)
	must(w.t, err)
	err = writer.Trim(number, func(yield func(State, error) bool) {
		for _, id := range w.groups {
			if !yield(w.table.State(id)) {
				return
			}
		}
	})
	if err != nil {
		return err
	}
	must(w.t, writer.Flush(w.count))
	_, err = tx.Commit(nil)
	must(w.t, err)
	w.open(w.table.verify, true)
	return nil
}

func (w *world) group(writer *Writer, id uint32, s State, own []Item, fold bool) {
	w.t.Helper()
	for _, it := range own {
		if it.Deleted {
			delete(w.model, it.Key)
		} else {
			w.model[it.Key] = it
		}
	}
	if fold {
		items, err := writer.Fold(id, own)
		must(w.t, err)
		must(w.t, writer.Consume(&s))
		w.place(writer, id, s, items)
		return
	}
	must(w.t, writer.Keep(&s, own))
}

// place writes a group, or halves it until its parts fit.
func (w *world) place(writer *Writer, id uint32, s State, items []Item) {
	bits, ok := w.g.Fits(items, s.LocalDepth)
	if ok || s.LocalDepth > 12 && len(items) <= w.g.Capacity {
		s.BucketBits = bits
		must(w.t, writer.Rewrite(id, s, items))
		return
	}
	left, right := Split(items, s.LocalDepth)
	other := uint32(w.count)
	w.count++
	w.groups = slices.Insert(w.groups, slices.Index(w.groups, id)+1, other)
	upper := State{Prefix: s.Prefix | 1<<(63-s.LocalDepth), LocalDepth: s.LocalDepth + 1, Created: 9}
	s.LocalDepth++
	w.place(writer, id, s, left)
	w.place(writer, other, upper, right)
}

// holds compares everything in the file with the model.
func (w *world) holds() {
	w.t.Helper()
	for key, want := range w.model {
		e, found, err := w.table.Find(w.groupOf(want.Hash), want.Hash, key)
		if err != nil || !found || e.Item(want.Hash) != want {
			w.t.Fatalf("key %v: found %v, %v; want %+v", key, found, err, want)
		}
	}
	seen := 0
	var checkers [2]*Checker
	for i := range checkers {
		checkers[i] = w.table.NewChecker(func(err error) { w.t.Error(err) })
		checkers[i].Slots(i, len(checkers))
	}
	for i, id := range w.groups {
		items, err := w.table.Items(nil, id)
		must(w.t, err)
		for _, it := range items {
			if it != w.model[it.Key] {
				w.t.Fatalf("group %d has %+v, want %+v", id, it, w.model[it.Key])
			}
		}
		seen += len(items)
		if n, _, _ := checkers[i%len(checkers)].Group(id); n != uint64(len(items)) {
			w.t.Fatalf("group %d: %d keys by Check, %d items", id, n, len(items))
		}
	}
	checkers[0].Join(checkers[1])
	checkers[0].Finish()
	if seen != len(w.model) {
		w.t.Fatalf("%d items, want %d", seen, len(w.model))
	}
}

// groupOf returns the group of a hash. The groups are in the order of their prefixes; where
// damage hides the state of one, all are looked at.
func (w *world) groupOf(hash uint64) uint32 {
	covers := func(id uint32) bool { s, err := w.table.State(id); return err == nil && s.Covers(hash) }
	i := sort.Search(len(w.groups), func(i int) bool { s, err := w.table.State(w.groups[i]); return err == nil && s.Last() >= hash })
	if i < len(w.groups) && covers(w.groups[i]) {
		return w.groups[i]
	}
	if i = slices.IndexFunc(w.groups, covers); i < 0 {
		w.t.Fatalf("no group for hash %#x", hash)
	}
	return w.groups[i]
}

// changes makes n changes: new keys, known ones, deletes of both.
func (w *world) changes(r *rand.Rand, n, space int) []Item {
	byKey := map[keys.E]Item{}
	for range n {
		key := keys.FromUint64(uint64(r.IntN(space)))
		var values []uint64
		for v := range uint64(r.IntN(inline + 1)) {
			values = append(values, 10*v+uint64(r.IntN(9)))
		}
		it := w.item(key, values...)
		if it.Count == 1 && r.IntN(4) == 0 {
			it = Item{Hash: it.Hash, Key: key, Spilled: true, Set: uint64(r.IntN(1000))}
		}
		if _, known := w.model[key]; it.Deleted && !known {
			continue // a store writes no delete of what is absent
		}
		byKey[key] = it
	}
	list := make([]Item, 0, len(byKey))
	for i := range space { // in the same order each time, unlike the map's
		if it, ok := byKey[keys.FromUint64(uint64(i))]; ok {
			list = append(list, it)
		}
	}
	return list
}
