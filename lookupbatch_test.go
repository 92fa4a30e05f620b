package cidstore

import (
	"context"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
)

// batchStore has keys of every kind: with one value and several, in rows and in runs,
// with sets, pending and deleted ones.
func batchStore(t *testing.T, o *Options) (s *Store, keys []E) {
	t.Helper()
	s = OpenStore(t, filepath.Join(t.TempDir(), "s.h5"), o)
	r := rand.New(rand.NewPCG(1, 2))
	insert := func(n int) {
		var b Batch
		for range n {
			key := E{High: r.Uint64(), Low: r.Uint64()}
			keys = append(keys, key)
			for i := range 1 + len(keys)%7*(len(keys)%3) {
				b.Insert(key, E{Low: uint64(i)})
			}
		}
		for _, key := range keys[:len(keys)/10] {
			b.Delete(key)
		}
		mustDo(t, s.Apply(&b))
	}
	for range 4 {
		insert(500)
		mustDo(t, s.Checkpoint(context.Background()))
	}
	insert(300)
	for range 200 {
		keys = append(keys, E{High: r.Uint64(), Low: r.Uint64()}) // absent
	}
	keys = append(keys, keys[700], keys[700]) // more than once
	return s, keys
}

// TestLookupBatch gives what as many Lookups give, in their order, as of one moment.
func TestLookupBatch(t *testing.T) {
	s, keys := batchStore(t, &Options{SplitThreshold: 8, GCInterval: -1})
	for _, n := range []int{0, 1, 63, 64, 65, len(keys)} {
		next := 0
		err := s.LookupBatch(keys[:n], func(i int, values []E) bool {
			want, err := s.Lookup(keys[i])
			if i != next || err != nil || !slices.Equal(values, want) {
				t.Fatalf("of %d keys number %d, want %d: %v, want %v, %v", n, i, next, values, want, err)
			}
			if grown := append(values, E{High: 1, Low: 1}); len(grown) != len(want)+1 { // the next must not see it
				t.Fatalf("%d values, want %d", len(grown), len(want)+1)
			}
			next++
			return true
		})
		if err != nil || next != n {
			t.Fatalf("%d of %d keys, %v", next, n, err)
		}
	}
	// One moment: what the loop itself writes is not seen.
	err := s.LookupBatch(keys[600:800], func(i int, values []E) bool {
		if len(values) == 0 {
			t.Fatalf("key %d is gone", i)
		}
		mustDo(t, s.Delete(keys[600+i+1]))
		return true
	})
	mustDo(t, err)
}

func TestLookupBatchEnds(t *testing.T) {
	s, keys := batchStore(t, &Options{SplitThreshold: 8, GCInterval: -1})
	seen := 0
	if err := s.LookupBatch(keys, func(int, []E) bool { seen++; return seen < 70 }); err != nil || seen != 70 {
		t.Errorf("%d calls after false, want 70; %v", seen, err)
	}
	v, err := s.Snapshot()
	mustDo(t, err)
	seen = 0
	err = v.LookupBatch(keys, func(int, []E) bool { seen++; return v.Close() == nil })
	if !errors.Is(err, ErrClosed) || seen != 1 {
		t.Errorf("a snapshot closed by its loop: %d calls, %v, want ErrClosed", seen, err)
	}
	mustDo(t, s.Close())
	wantErr(t, s.LookupBatch(keys, func(int, []E) bool { return true }), ErrClosed, "of a closed store")
}

// TestLookupBatchPastDamage: keys that can be read are, and the error names the others.
func TestLookupBatchPastDamage(t *testing.T) {
	c := newScenario(t, 1, nil)
	Unchecked(t, crashPath, "a row is damaged")
	c.open()
	var keys []E
	for i := range uint64(400) {
		c.accept(ins(i, i), ins(i, i+1))
		keys = append(keys, FromUint64(i))
	}
	mustDo(t, c.store.Checkpoint(context.Background()))
	c.close()
	c.open()
	v := c.store.state.Load().view
	st, err := v.buckets.State(v.directory.Run(v.hasher.Hash(keys[7])).Pointer.Bucket)
	mustDo(t, err)
	mustDo(t, rot(c.fs, int64(st.RowAddress)&^511, 512, 3))
	good := 0
	err = c.store.LookupBatch(keys, func(i int, values []E) bool {
		if want := []E{FromUint64(uint64(i)), FromUint64(uint64(i) + 1)}; !slices.Equal(values, want) {
			t.Fatalf("key %d: %v, want %v", i, values, want)
		}
		good++
		return true
	})
	if !errors.Is(err, ErrCorrupt) || good == 0 || good == len(keys) {
		t.Fatalf("%d of %d keys, %v", good, len(keys), err)
	}
	mustDo(t, c.store.Close())
}

// TestLookupBatchOfLargeSets: the values of many keys are not held all at once.
func TestLookupBatchOfLargeSets(t *testing.T) {
	const each, sets = togetherValues/2 + 1, 12
	s, keys := OpenStore(t, filepath.Join(t.TempDir(), "s.h5"), &Options{GCInterval: -1}), []E(nil)
	for k := range uint64(sets) {
		mustDo(t, s.Apply(insertsOf(k, k+1, each)))
		keys = append(keys, FromUint64(k))
	}
	seen := 0
	for range 2 { // pending, and from the tree
		mustDo(t, s.LookupBatch(keys, func(i int, values []E) bool {
			if seen%sets != i || len(values) != each || values[each-1] != FromUint64(each-1) {
				t.Fatalf("call %d, key %d: %d values", seen, i, len(values))
			}
			seen++
			return true
		}))
		v := mustGet(s.Snapshot())(t)
		var b lookupBatch
		if mustDo(t, b.read(v, keys)); len(b.ends) != 2 || len(b.values) != 2*each {
			t.Errorf("%d keys with %d values are held", len(b.ends), len(b.values))
		}
		mustDo(t, v.Close(), s.Checkpoint(context.Background()))
	}
}
