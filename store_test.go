package cidstore_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cidstore/cidstore"
)

// open opens a store whose file must be whole when the test ends.
func open(t *testing.T, path string, o *cidstore.Options) *cidstore.Store {
	t.Helper()
	return cidstore.OpenStore(t, path, o)
}

func TestInsertLookupReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.h5")
	s := open(t, path, nil)
	want := map[cidstore.E][]cidstore.E{}
	var b cidstore.Batch
	for i := range 20000 {
		k, v := cidstore.FromString(fmt.Sprint("k", i%7000)), cidstore.FromString(fmt.Sprint("v", i))
		b.Insert(k, v)
		want[k] = append(want[k], v)
		if b.Len() == 1000 {
			must(t, s.Apply(&b))
			b.Reset()
		}
	}
	big := cidstore.FromUint64(7)
	for i := range 3000 {
		b.Insert(big, cidstore.FromUint64(uint64(i)))
		want[big] = append(want[big], cidstore.FromUint64(uint64(i)))
	}
	must(t, s.Apply(&b))
	compare := func(s *cidstore.Store, when string) {
		t.Helper()
		for k, values := range want {
			slices.SortFunc(values, cidstore.E.Compare)
			got, err := s.Lookup(k)
			if err != nil || !slices.Equal(got, values) {
				t.Fatalf("%s: Lookup(%v) = %d values, %v; want %d", when, k, len(got), err, len(values))
			}
		}
		if got, err := s.Lookup(cidstore.FromString("absent")); got != nil || err != nil {
			t.Fatalf("%s: absent key: %v, %v", when, got, err)
		}
		keys, values, err := s.Len(context.Background())
		if err != nil || keys != uint64(len(want)) || values != 23000 {
			t.Fatalf("%s: Len = %d, %d, %v; want %d, 23000", when, keys, values, err, len(want))
		}
	}
	compare(s, "pending")
	must(t, s.Checkpoint(context.Background()))
	compare(s, "checkpointed")
	mustBeWhole(t, s)
	must(t, s.Close())
	s = open(t, path, nil)
	compare(s, "reopened")
	mustBeWhole(t, s)
	must(t, s.Close())
	if err := s.Close(); err != cidstore.ErrClosed {
		t.Fatalf("second Close: %v", err)
	}
}

// fresh opens a new store in a directory of its own.
func fresh(t *testing.T, o *cidstore.Options) (s *cidstore.Store, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "s.h5")
	return open(t, path, o), path
}

var (
	must, mustAt      = cidstore.Must, cidstore.MustAt
	wantErr, wantSays = cidstore.WantErr, cidstore.WantSays
	mustBeWhole       = cidstore.MustCheck
)

func mustGet[T any](v T, err error) func(testing.TB) T { return cidstore.MustGet(v, err) }

func wantIs[T comparable](t testing.TB, want T, when ...any) func(T, error) {
	return cidstore.WantIs(t, want, when...)
}

func errOf[T any](_ T, err error) error { return err }

// TestLookupOfNothingIsNil: what the tree holds and a pending operation takes
// away is absent like any other absent key.
func TestLookupOfNothingIsNil(t *testing.T) {
	s, _ := fresh(t, nil)
	key, value := cidstore.FromUint64(1), cidstore.FromUint64(2)
	must(t, s.Insert(key, value), s.Checkpoint(context.Background()), s.DeleteValue(key, value))
	v := mustGet(s.Snapshot())(t)
	defer v.Close()
	for _, lookup := range []func(cidstore.E) ([]cidstore.E, error){s.Lookup, v.Lookup} {
		if got, err := lookup(key); got != nil || err != nil {
			t.Errorf("%v (nil: %v), %v; want nil, nil", got, got == nil, err)
		}
	}
}

// TestStructureIsCounted: splits, promotions and demotions move their counters.
func TestStructureIsCounted(t *testing.T) {
	s, _ := fresh(t, &cidstore.Options{SplitThreshold: 8, GCInterval: -1})
	var b cidstore.Batch
	for i := range uint64(200) {
		b.Insert(cidstore.FromUint64(i), cidstore.E{})
	}
	for i := range uint64(5) {
		b.Insert(cidstore.FromUint64(7), cidstore.FromUint64(i))
	}
	must(t, s.Apply(&b), s.Checkpoint(context.Background()))
	m := s.Metrics()
	if m.SplitEvents != m.BucketCount-1 || m.PromotionEvents != 1 || m.Checkpoints != 1 || m.Keys != 200 || m.Values != 204 {
		t.Errorf("%d splits to %d buckets, %d promotions, %d checkpoints, %d keys, %d values",
			m.SplitEvents, m.BucketCount, m.PromotionEvents, m.Checkpoints, m.Keys, m.Values)
	}
}
