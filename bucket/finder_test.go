package bucket

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cidstore/cidstore/keys"
)

// sought returns all keys of the model, and as many that are absent, by group and in the
// order of their hashes.
func (w *world) sought(r *rand.Rand) map[uint32][]Item {
	groups := map[uint32][]Item{}
	add := func(key keys.E) {
		hash := w.hasher.Hash(key)
		id := w.groupOf(hash)
		groups[id] = append(groups[id], Item{Hash: hash, Key: key})
	}
	for _, it := range w.model {
		add(it.Key)
		add(keys.E{High: r.Uint64(), Low: r.Uint64()})
	}
	for _, items := range groups {
		slices.SortFunc(items, func(a, b Item) int { return cmp.Compare(a.Hash, b.Hash) })
	}
	return groups
}

// agrees compares a Finder with Find of a Table without a filter, for every nth key of
// each group. It returns how many keys were found, and how many ended in an error.
func (w *world) agrees(groups map[uint32][]Item, nth int) (found, damaged int) {
	without := plain(w.table)
	without.verify = w.table.verify
	var f Finder
	var hashes []uint64
	for id, items := range groups {
		hashes = hashes[:0]
		for i := 0; i < len(items); i += nth {
			hashes = append(hashes, items[i].Hash)
		}
		must(w.t, f.Seek(w.table, id, hashes))
		for i := range hashes {
			it := &items[i*nth]
			e, ok, err := f.Find(i, it.Key)
			want, wantOK, wantErr := without.Find(id, it.Hash, it.Key)
			if ok != wantOK || (err == nil) != (wantErr == nil) || ok && e.Item(it.Hash) != want.Item(it.Hash) {
				w.t.Fatalf("key %v: found %t, %v; by Find %t, %v", it.Key, ok, err, wantOK, wantErr)
			}
			if ok {
				found++
			}
			if err != nil {
				damaged++
			}
		}
	}
	return found, damaged
}

// TestFinder: a Finder finds what Find finds, in more runs than it tells apart.
func TestFinder(t *testing.T) {
	w := manyRunsWorld(t)
	r := rand.New(rand.NewPCG(11, 12))
	for len(w.table.runs) <= oldRuns+3 {
		w.commit(w.changes(r, 40, 40_000), false, -1, never)
	}
	groups := w.sought(r)
	for _, verify := range []Verify{FirstTouch, Always} {
		w.open(verify, false)
		for _, nth := range []int{1, 7, 1000} {
			found, damaged := w.agrees(groups, nth)
			if damaged > 0 || nth == 1 && found != len(w.model) {
				t.Errorf("every key of %d: %d of %d keys found, %d errors", nth, found, len(w.model), damaged)
			}
		}
	}
}

// TestFinderOfDamage: a key that may be in a damaged slot, or in a damaged run, is not
// reported as absent.
func TestFinderOfDamage(t *testing.T) {
	for _, part := range []string{"tags", "index"} {
		w := manyRunsWorld(t)
		w.open(FirstTouch, false) // nothing is verified
		victim := &w.table.runs[len(w.table.runs)/2]
		at := int64(victim.tagsAt)
		if part == "index" {
			at = int64(victim.indexAt)
		}
		p, err := w.table.view.Bytes(at, tagSize)
		must(t, err)
		must(t, w.raw.WriteAt([]byte{^p[0], ^p[1]}, at))
		w.open(FirstTouch, false)
		if _, damaged := w.agrees(w.sought(rand.New(rand.NewPCG(13, 14))), 1); damaged == 0 {
			t.Errorf("%s: no lookup reports the damage", part)
		}
	}
}
