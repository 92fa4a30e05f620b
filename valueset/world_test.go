package valueset

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/keys"
	"github.com/cidstore/cidstore/vfs"
)

// world is a file of value sets on storage in memory, with the model that it
// must equal.
type world struct {
	t     testing.TB
	fs    *crashfs.FS
	raw   vfs.File
	file  *hdf5io.File
	known *Table // the last one; nil after reopen
	uuid  [16]byte

	counters   Counters
	tombstones int64
	refs       map[keys.E]ref // what the hash entries would hold
	models     map[keys.E]*model
}

// ref is what a hash entry says about a key's values.
type ref struct {
	spilled bool
	set     uint64
	values  []keys.E
}

// fataler is what testing.TB and rapid.T share.
type fataler interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

func must(t fataler, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newWorld(t testing.TB, limit int64) *world {
	w := &world{t: t, uuid: [16]byte{0xc1, 0xd5, 15: 0x7e}, refs: map[keys.E]ref{}, models: map[keys.E]*model{}}
	w.fs = crashfs.New(crashfs.Options{FileLimit: limit})
	w.openFile(vfs.Create)
	var err error
	w.file, err = hdf5io.Create(w.raw, hdf5io.Options{UUID: w.uuid, GrowStep: 1 << 16}, nil, CreateDatasets)
	must(t, err)
	return w
}

func (w *world) openFile(flag int) {
	raw, err := w.fs.OpenFile("f", vfs.ReadWrite|flag, 0o600)
	must(w.t, err)
	w.raw = raw
}

func (w *world) close() { must(w.t, w.file.Close()) }

func (w *world) reopen() {
	w.close()
	w.known = nil
	w.openFile(0)
	var err error
	w.file, _, err = hdf5io.Open(w.raw, hdf5io.Options{})
	must(w.t, err)
}

// table is the Table of the newest View, with what the one before has cached.
func (w *world) table() *Table {
	table, err := NewTable(w.file.View(), w.uuid, false, w.known)
	must(w.t, err)
	w.known = table
	return table
}

// begin starts a transaction and the writer on it.
func (w *world) begin() (*hdf5io.Tx, *Writer) {
	tx, err := w.file.Begin()
	must(w.t, err)
	writer, err := NewWriter(tx, w.table(), w.counters)
	must(w.t, err)
	return tx, writer
}

func (w *world) set(writer *Writer, key keys.E) *Set {
	r := w.refs[key]
	switch {
	case r.spilled:
		s, err := writer.Spilled(key, r.set)
		must(w.t, err)
		return s
	case len(r.values) > 0:
		return writer.Inline(key, r.values)
	}
	return writer.Empty(key)
}

func (w *world) save(writer *Writer, s *Set) Result {
	key := s.key
	r, err := writer.Save(s)
	must(w.t, err)
	if r.Live == 0 {
		delete(w.refs, key)
	} else {
		w.refs[key] = ref{r.Spilled, r.Set, slices.Clone(r.Values[:r.Count])}
	}
	return r
}

func (w *world) commit(tx *hdf5io.Tx, writer *Writer) {
	must(w.t, writer.Flush())
	w.counters = writer.Counters
	w.tombstones += writer.Stats().Tombstones
	_, err := tx.Commit(nil)
	must(w.t, err)
}

// check compares all that is stored with the models and its own invariants.
func (w *world) check() {
	w.t.Helper()
	table := w.table()
	tombstones, spilled := uint64(0), uint64(0)
	owned := map[string]bool{}
	for key, m := range w.models {
		r, there := w.refs[key]
		if there != (len(m.live) > 0) || r.spilled != m.spilled {
			w.t.Fatalf("key %v: there %v, spilled %v; model: %d values, spilled %v", key, there, r.spilled, len(m.live), m.spilled)
		}
		want := m.values()
		if !m.spilled {
			if !slices.Equal(r.values, want) {
				w.t.Fatalf("inline values %v, want %v", r.values, want)
			}
			continue
		}
		spilled++
		s, err := table.Open(r.set, key)
		must(w.t, err)
		got, err := s.Append(nil)
		must(w.t, err)
		if !slices.Equal(got, want) || s.Count() != uint64(len(want)) || s.Tombstones() != uint64(len(m.dead)) {
			w.t.Fatalf("key %v: %d values, %d counted, %d tombstones; want %d values, %d tombstones", key, len(got), s.Count(), s.Tombstones(), len(want), len(m.dead))
		}
		tombstones += s.Tombstones()
		table.Check(r.set, key, func(o Owned) { owned[fmt.Sprint(o.path(), o.Number)] = true }, func(err error) { w.t.Fatal(err) })
	}
	if int64(tombstones) != w.tombstones {
		w.t.Fatalf("%d tombstones, writers counted %d", tombstones, w.tombstones)
	}
	if unused := table.CheckUnused(context.Background(), w.counters.Sets, func(err error) { w.t.Fatal(err) }); unused != w.counters.Sets-spilled || unused != w.counters.Unused {
		w.t.Fatalf("%d unused sets, %+v, with %d keys", unused, w.counters, spilled)
	}
	w.checkOwned(owned)
}

// checkOwned: the index has the chunks that sets own and no others.
func (w *world) checkOwned(owned map[string]bool) {
	w.t.Helper()
	chunks := 0
	for _, path := range append([]string{nodesPath}, classPaths()...) {
		d, err := w.file.View().Dataset(path)
		must(w.t, err)
		must(w.t, d.Walk(nil, func(c hdf5io.Chunk) (bool, error) {
			if chunks++; !owned[fmt.Sprint(path, c.Coord[0])] {
				w.t.Fatalf("chunk %d of %s belongs to no set", c.Coord[0], path)
			}
			if c.Coord[0] >= d.Dims()[0] {
				w.t.Fatalf("chunk %d of %s, which has %d rows", c.Coord[0], path, d.Dims()[0])
			}
			return true, nil
		}))
	}
	if chunks != len(owned) {
		w.t.Fatalf("%d chunks in the index, sets own %d", chunks, len(owned))
	}
}

func classPaths() (list []string) {
	for _, n := range classes {
		list = append(list, classPath(n))
	}
	return list
}

// checkFile checks the file itself: every byte of it owned once.
func (w *world) checkFile() {

	w.t.Helper()
	_, err := w.file.View().Check(context.Background(), func(err error) { w.t.Fatal(err) })
	must(w.t, err)
}

// model is a set as the specification describes it.
type model struct {
	spilled bool
	live    map[keys.E]bool
	dead    map[keys.E]bool
	ordinal int // of the next operation on the Set
	removed []removal
}

type removal struct {
	value   keys.E
	whole   bool
	ordinal int
}

func newModel() *model { return &model{live: map[keys.E]bool{}, dead: map[keys.E]bool{}} }

func (m *model) values() []keys.E {
	var list []keys.E
	for v := range m.live {
		list = append(list, v)
	}
	slices.SortFunc(list, keys.E.Compare)
	return list
}

func (m *model) add(v keys.E) {
	m.live[v] = true
	delete(m.dead, v)
	m.spilled = m.spilled || len(m.live) > 4
}

func (m *model) remove(v keys.E) {
	if !m.live[v] {
		return
	}
	m.removed = append(m.removed, removal{v, false, m.ordinal})
	delete(m.live, v)
	if m.spilled {
		m.dead[v] = true
	}
	if len(m.live) == 0 {
		m.reset()
	}
}

func (m *model) clear() {
	if len(m.live) > 0 {
		m.removed = append(m.removed, removal{keys.E{}, true, m.ordinal})
	}
	m.reset()
}

func (m *model) reset() {
	clear(m.live)
	clear(m.dead)
	m.spilled = false
}

func (m *model) promote() { m.spilled = m.spilled || len(m.live) > 0 }

func (m *model) demote() bool {
	if !m.spilled || len(m.live) > 4 {
		return false
	}
	m.spilled = false
	clear(m.dead)
	return true
}

func (m *model) compact() { clear(m.dead) }

// tested is a Set and its model, changed together.
type tested struct {
	t       fataler
	s       *Set
	m       *model
	removed []removal
}

func (w *world) tested(t fataler, writer *Writer, key keys.E) *tested {
	if w.models[key] == nil {
		w.models[key] = newModel()
	}
	x := &tested{t: t, s: w.set(writer, key), m: w.models[key]}
	x.m.ordinal, x.m.removed = 0, nil
	x.s.OnRemove(func(v keys.E, whole bool, ordinal int) { x.removed = append(x.removed, removal{v, whole, ordinal}) })
	return x
}

func (x *tested) add(v keys.E)    { must(x.t, x.s.Add(v)); x.m.add(v); x.m.ordinal++ }
func (x *tested) remove(v keys.E) { must(x.t, x.s.Remove(v)); x.m.remove(v); x.m.ordinal++ }
func (x *tested) clear()          { must(x.t, x.s.Clear()); x.m.clear(); x.m.ordinal++ }
func (x *tested) promote()        { must(x.t, x.s.Promote()); x.m.promote(); x.m.ordinal++ }
func (x *tested) compact()        { must(x.t, x.s.Compact()); x.m.compact(); x.m.ordinal++ }

func (x *tested) demote() {
	x.t.Helper()
	did, err := x.s.Demote()
	must(x.t, err)
	if did != x.m.demote() {
		x.t.Fatalf("demote: %v", did)
	}
	x.m.ordinal++
}

// look compares the counts of the set between its operations.
func (x *tested) look() {
	x.t.Helper()
	got, err := x.s.Values()
	must(x.t, err)
	if want := x.m.values(); !slices.Equal(got, want) {
		x.t.Fatalf("values %v, want %v", got, want)
	}
	x.lookCounts()
}

func (x *tested) lookCounts() {
	x.t.Helper()
	s, m := x.s, x.m
	if s.Count() != uint64(len(m.live)) || s.TombstoneCount() != uint64(len(m.dead)) || s.IsSpilled() != m.spilled || s.Exists() != m.spilled {
		x.t.Fatalf("%d values, %d tombstones, spilled %v; want %d, %d, %v", s.Count(), s.TombstoneCount(), s.IsSpilled(), len(m.live), len(m.dead), m.spilled)
	}
}

// saved compares what was reported as removed, in order if that is promised.
func (x *tested) saved(ordered bool) {
	x.t.Helper()
	want := x.m.removed
	if !ordered {
		byValue := func(a, b removal) int { return cmp.Or(a.value.Compare(b.value), cmp.Compare(a.ordinal, b.ordinal)) }
		slices.SortStableFunc(want, byValue)
		slices.SortStableFunc(x.removed, byValue)
	}
	if !slices.Equal(x.removed, want) {
		x.t.Fatalf("%d values reported as removed, or by another operation; want %d", len(x.removed), len(want))
	}
}
