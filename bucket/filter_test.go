package bucket

import (
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/cidstore/cidstore/keys"
)

// never folds.
func never(*State) bool { return false }

// manyRunsWorld has large runs and small ones, more than a mark can tell apart.
func manyRunsWorld(t *testing.T) *world {
	w := newWorld(t, 16)
	r := rand.New(rand.NewPCG(3, 4))
	w.commit(w.changes(r, 3000, 40_000), false, -1, func(*State) bool { return true })
	for n := range markRuns + 9 {
		size := []int{5, 2500, 300, 60}[n%4]
		w.commit(w.changes(r, size, 40_000), false, -1, func(s *State) bool { return n%11 == 10 && s.Prefix>>62 == 1 })
	}
	return w
}

// plain is a Table without a filter.
func plain(t *Table) *Table {
	return &Table{view: t.view, states: t.states, data: t.data, groups: t.groups, runs: t.runs, geometry: t.geometry, hasher: t.hasher, seal: t.seal, damage: t.damage}
}

// TestFilter: a filter changes no answer, and most runs need not be asked.
func TestFilter(t *testing.T) {
	w := manyRunsWorld(t)
	if w.table.filter == nil || len(w.table.runs) <= markRuns {
		t.Fatalf("%d runs, filter %v", len(w.table.runs), w.table.filter != nil)
	}
	w.holds()
	without := plain(w.table)
	r := rand.New(rand.NewPCG(5, 6))
	asked, absent := 0, 20_000
	for range absent {
		key := keys.E{High: r.Uint64(), Low: r.Uint64()}
		hash := w.hasher.Hash(key)
		id := w.groupOf(hash)
		_, found, err := w.table.Find(id, hash, key)
		_, want, wantErr := without.Find(id, hash, key)
		if found != want || err != nil || wantErr != nil {
			t.Fatalf("key %v: %t, %v; without a filter %t, %v", key, found, err, want, wantErr)
		}
		if _, may := w.table.mayHave(hash, 0); may != 0 {
			asked++
		}
	}
	t.Logf("%d of %d absent keys asked a run", asked, absent)
	if asked > absent/10 {
		t.Errorf("%d of %d absent keys asked a run, want at most a tenth", asked, absent)
	}
}

// TestFilterTellsTheRun: for a key that waits, in most cases only one run is asked.
func TestFilterTellsTheRun(t *testing.T) {
	w := manyRunsWorld(t)
	questions, waiting := 0, 0
	for _, it := range w.model {
		known, may := w.table.mayHave(it.Hash, 0)
		if may == 0 || may == allRuns {
			continue
		}
		waiting++
		for i := range w.table.runs {
			if known.names(w.table.runs[i].number, may) {
				questions++
			}
		}
	}
	if waiting == 0 || questions > 3*waiting {
		t.Errorf("%d questions for %d keys", questions, waiting)
	}
}

// TestFilterOfDamage: a key that may be in a damaged slot is not reported as
// absent.
func TestFilterOfDamage(t *testing.T) {
	w := manyRunsWorld(t)
	w.open(FirstTouch, false) // nothing is verified, and no region made
	victim := &w.table.runs[len(w.table.runs)/2]
	at := int64(victim.tagsAt)
	p, err := w.table.view.Bytes(at, tagSize)
	must(t, err)
	must(t, w.raw.WriteAt([]byte{^p[0], ^p[1]}, at))
	w.open(FirstTouch, false)
	without, errors := plain(w.table), 0
	for _, it := range w.model {
		id := w.groupOf(it.Hash)
		e, found, err := w.table.Find(id, it.Hash, it.Key)
		_, _, wantErr := without.Find(id, it.Hash, it.Key)
		if (err == nil) != (wantErr == nil) || err == nil && (!found || e.Item(it.Hash) != it) {
			t.Fatalf("key %v: found %t, %v; without a filter %v", it.Key, found, err, wantErr)
		}
		if err != nil {
			errors++
		}
	}
	if errors == 0 {
		t.Error("no lookup reports the damage")
	}
}

// TestFilterBesideAWriter: readers of old and new Views share a filter.
func TestFilterBesideAWriter(t *testing.T) {
	w := manyRunsWorld(t)
	r := rand.New(rand.NewPCG(7, 8))
	for range 3 {
		table := w.table
		pin := table.view.Pin()
		items := make([]Item, 0, len(w.model))
		groups := make([]uint32, 0, len(w.model))
		for _, it := range w.model {
			items, groups = append(items, it), append(groups, w.groupOf(it.Hash))
		}
		var readers sync.WaitGroup
		for part := range 3 {
			readers.Go(func() {
				for i := part; i < len(items); i += 3 {
					e, found, err := table.Find(groups[i], items[i].Hash, items[i].Key)
					if err != nil || !found || e.Item(items[i].Hash) != items[i] {
						t.Errorf("key %v: found %t, %v", items[i].Key, found, err)
						return
					}
				}
			})
		}
		w.commit(w.changes(r, 200, 40_000), false, -1, never)
		readers.Wait()
		table.view.Unpin(pin)
		if table.filter != w.table.filter {
			t.Error("the next View has a filter of its own")
		}
	}
	w.holds()
}

// TestFilterOfAnOldView: only for an old View is what was folded since then still
// in runs.
func TestFilterOfAnOldView(t *testing.T) {
	w := manyRunsWorld(t)
	old, model, groups := w.table, maps.Clone(w.model), slices.Clone(w.groups)
	pin := old.view.Pin()
	defer old.view.Unpin(pin)
	r := rand.New(rand.NewPCG(9, 9))
	for quarter := range uint64(4) { // as a store does: a part of the groups at a time
		w.commit(w.changes(r, 4000, 40_000), false, -1, func(s *State) bool { return s.Prefix>>62 == quarter })
	}
	if w.table.filter != old.filter || w.table.runs[0].number <= old.runs[len(old.runs)-1].number {
		t.Fatal("the filter is not shared, or old runs are left")
	}
	w.holds() // makes the regions again
	w.table, w.model, w.groups = old, model, groups
	for key, want := range w.model {
		e, found, err := old.Find(w.groupOf(want.Hash), want.Hash, key)
		if err != nil || !found || e.Item(want.Hash) != want {
			t.Fatalf("key %v: found %t, %v", key, found, err)
		}
	}
}

// TestFilterIsNotShared: a file that took another course does not get the filter.
func TestFilterIsNotShared(t *testing.T) {
	w := manyRunsWorld(t)
	other := &Table{runs: slices.Clone(w.table.runs), filter: w.table.filter}
	other.runs[3].body = new(body)
	if newFilter(w.table.runs, other) == w.table.filter {
		t.Error("the filter of other runs is used")
	}
	if newFilter(w.table.runs, w.table) != w.table.filter {
		t.Error("the filter of the same runs is not used")
	}
	if newFilter(w.table.runs[:staleRuns], w.table) != nil {
		t.Error("a filter of few runs")
	}
}
