package cidstore

import (
	"errors"
	"math"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/internal/sample"
)

// lifeModel is how one set is kept: the rules for sets, in a few lines.
type lifeModel struct {
	live, dead map[uint64]bool
	spilled    bool
}

func (m *lifeModel) insert(v uint64) {
	if m.live == nil {
		m.live, m.dead = map[uint64]bool{}, map[uint64]bool{}
	}
	m.live[v] = true
	delete(m.dead, v)
	m.spilled = m.spilled || len(m.live) > 4
}

func (m *lifeModel) deleteValue(v uint64) {
	if !m.live[v] {
		return
	}
	delete(m.live, v)
	if m.spilled {
		m.dead[v] = true
	}
	if len(m.live) == 0 {
		*m = lifeModel{}
	}
}

func (m *lifeModel) compact() { clear(m.dead) }

func (m *lifeModel) demote() bool {
	if !m.spilled || len(m.live) > 4 {
		return false
	}
	m.spilled = false
	clear(m.dead)
	return true
}

// lifeWorld is a store and the models of a few of its keys.
type lifeWorld struct {
	t      *rapid.T
	disk   *crashfs.FS
	store  *Store
	models [3]lifeModel
}

func (w *lifeWorld) must(err error) {
	mustDo(w.t, err)
}

func (w *lifeWorld) open() {
	var err error
	w.store, err = Open(crashPath, &Options{FS: w.disk, GCInterval: -1, WALBytes: 1 << 20})
	w.must(err)
}

func (w *lifeWorld) step() {
	key := uint64(rapid.IntRange(0, 2).Draw(w.t, "key"))
	m, k, s := &w.models[key], FromUint64(key), w.store
	value := uint64(rapid.IntRange(0, 9).Draw(w.t, "value"))
	switch kind := rapid.SampledFrom([]string{"insert", "insert", "insert", "delete value", "delete value", "delete",
		"compact", "demote", "checkpoint", "reopen", "many", "few"}).Draw(w.t, "step"); kind {
	case "insert":
		w.must(s.Insert(k, FromUint64(value)))
		m.insert(value)
	case "delete value":
		w.must(s.DeleteValue(k, FromUint64(value)))
		m.deleteValue(value)
	case "delete":
		w.must(s.Delete(k))
		*m = lifeModel{}
	case "compact":
		w.must(s.Compact(k))
		m.compact()
	case "demote":
		did, err := s.DemoteIfPossible(k)
		w.must(err)
		if want := m.demote(); did != want {
			w.t.Fatalf("demoted %t, want %t", did, want)
		}
	case "checkpoint":
		w.must(s.Checkpoint(w.t.Context()))
	case "reopen":
		w.must(s.Close())
		w.open()
	case "many", "few": // into a tree, and most of it away again
		var b Batch
		for v := range uint64(1200) {
			if kind == "many" {
				b.Insert(k, FromUint64(v))
				m.insert(v)
			} else if v > value {
				b.DeleteValue(k, FromUint64(v))
				m.deleteValue(v)
			}
		}
		w.must(s.Apply(&b))
	}
}

// lifeReader is what Store and Snapshot say about how a set is kept.
type lifeReader interface {
	Lookup(key E) ([]E, error)
	TombstoneCount(key E) (int, error)
	ValueSetExists(key E) (bool, error)
	HasKey(key E) (bool, error)
	Count(key E) (int, error)
	Has(key, value E) (bool, error)
}

func (w *lifeWorld) check(r lifeReader, models *[3]lifeModel) {
	for key := range models {
		m, k := &models[key], FromUint64(uint64(key))
		values, err := r.Lookup(k)
		w.must(err)
		var want []E
		for v := range m.live {
			want = append(want, FromUint64(v))
		}
		slices.SortFunc(want, E.Compare)
		count, err := r.Count(k)
		w.must(err)
		has, err := r.HasKey(k)
		w.must(err)
		zero, err := r.Has(k, E{}) // the value that an operation without one carries
		w.must(err)
		if !slices.Equal(values, want) || count != len(want) || has != (len(want) > 0) || zero != m.live[0] {
			w.t.Fatalf("key %d: %d values, count %d, has %t, zero %t; want %d, zero %t", key, len(values), count, has, zero, len(want), m.live[0])
		}
		tombs, err := r.TombstoneCount(k)
		w.must(err)
		exists, err := r.ValueSetExists(k)
		w.must(err)
		if tombs != len(m.dead) || exists != m.spilled {
			w.t.Fatalf("key %d: %d tombstones, spilled %t, want %d, %t", key, tombs, exists, len(m.dead), m.spilled)
		}
	}
}

// TestLifeOfSets: a set is promoted, demoted, compacted and deleted as the model is,
// whatever part of it is pending, and so is a snapshot of any moment.
func TestLifeOfSets(t *testing.T) {
	sample.Check(t, func(rt *rapid.T) {
		w := &lifeWorld{t: rt, disk: crashfs.New(crashfs.Options{FileLimit: 16 << 20})}
		w.open()
		defer func() { _ = w.store.Close() }() // after a failure
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			w.step()
			w.check(w.store, &w.models)
		}
		v, err := w.store.Snapshot()
		w.must(err)
		before := w.models
		for i := range before {
			before[i] = lifeModel{cloned(w.models[i].live), cloned(w.models[i].dead), w.models[i].spilled}
		}
		for range 3 {
			if w.store.state.Load() == v.state { // a reopening ends the snapshot
				w.must(w.store.Insert(FromUint64(0), FromUint64(77)))
				w.models[0].insert(77)
				w.must(w.store.Compact(FromUint64(1)))
				w.models[1].compact()
				_, err := w.store.DemoteIfPossible(FromUint64(2))
				w.must(err)
				w.models[2].demote()
			}
		}
		w.check(v, &before)
		w.check(w.store, &w.models)
		w.must(v.Close())
		w.must(w.store.Checkpoint(rt.Context()))
		w.check(w.store, &w.models)
		if _, err := w.store.Check(rt.Context()); err != nil {
			rt.Fatal(err)
		}
		w.must(w.store.Close())
	})
}

func cloned(m map[uint64]bool) map[uint64]bool {
	c := make(map[uint64]bool, len(m))
	for k := range m {
		c[k] = true
	}
	return c
}

// TestDemoteBesideWriters: a caller who learns that a set was demoted did it: beside
// writers that promote it again and again, the demotions that were reported are those
// that the log's checkpoints count.
func TestDemoteBesideWriters(t *testing.T) {
	s := OpenStore(t, filepath.Join(t.TempDir(), "s.h5"), &Options{WALBytes: 1 << 20})
	key := FromUint64(1)
	demotions := make([]uint64, 2)
	var group sync.WaitGroup
	var writing atomic.Int32
	writing.Store(int32(len(demotions)))
	for i := range demotions {
		group.Go(func() {
			for writing.Load() > 0 {
				did, err := s.DemoteIfPossible(key)
				if err != nil {
					t.Error(err)
				}
				if did {
					demotions[i]++
				}
			}
		})
		group.Go(func() {
			defer writing.Add(-1)
			for n := range uint64(60) {
				var b Batch
				for v := range uint64(6) {
					b.Insert(key, FromUint64(v))
				}
				wantErr(t, s.Apply(&b), nil)
				b.Reset()
				for v := uint64(1); v < 6; v++ {
					b.DeleteValue(key, FromUint64(v))
				}
				wantErr(t, s.Apply(&b), nil)
				if n%6 == uint64(i) {
					wantErr(t, s.Checkpoint(t.Context()), nil)
				}
			}
		})
	}
	group.Wait()
	mustDo(t, s.Checkpoint(t.Context()))
	if told, done := demotions[0]+demotions[1], s.Metrics().DemotionEvents; told != done || told == 0 {
		t.Errorf("%d demotions reported, %d done", told, done)
	}
}

// TestLifeOfSetsRefused: where writes are refused, so are compaction and demotion; the
// questions are answered as long as the store is open.
func TestLifeOfSetsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.h5")
	s := OpenStore(t, path, nil)
	key, absent := FromUint64(1), E{High: math.MaxUint64, Low: math.MaxUint64}
	for v := range uint64(6) {
		mustDo(t, s.Insert(key, FromUint64(v)), s.DeleteValue(key, FromUint64(v/2)))
	}
	for _, k := range []E{absent, {}} {
		n, err1 := s.TombstoneCount(k)
		exists, err2 := s.ValueSetExists(k)
		did, err3 := s.DemoteIfPossible(k)
		if err := errors.Join(err1, err2, err3, s.Compact(k)); err != nil || n != 0 || exists || did {
			t.Errorf("of an absent key: %d tombstones, exists %t, demoted %t, %v", n, exists, did, err)
		}
	}
	mustDo(t, s.Close())
	refused := func(want error) {
		t.Helper()
		_, err := s.DemoteIfPossible(key)
		if !errors.Is(err, want) || !errors.Is(s.Compact(key), want) || !errors.Is(s.Compact(absent), want) {
			t.Errorf("compact: %v, demote: %v, want %v", s.Compact(key), err, want)
		}
	}
	refused(ErrClosed)
	wantErr(t, errOf(s.TombstoneCount(key)), ErrClosed, "tombstones of a closed store")
	wantErr(t, errOf(s.ValueSetExists(key)), ErrClosed, "value set of a closed store")
	s = OpenStore(t, path, &Options{ReadOnly: true})
	refused(ErrReadOnly)
}
