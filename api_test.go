package cidstore_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/cidstore/cidstore"
)

// fresh opens a new store in a directory of its own and closes it after the test.
func fresh(t *testing.T, o *cidstore.Options) (s *cidstore.Store, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "s.h5")
	s = open(t, path, o)
	t.Cleanup(func() { _ = s.Close() }) // a test may have closed it
	return s, path
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestLookupOfNothingIsNil: what the tree holds and a pending operation takes
// away is absent like any other absent key.
func TestLookupOfNothingIsNil(t *testing.T) {
	s, _ := fresh(t, nil)
	key, value := cidstore.FromUint64(1), cidstore.FromUint64(2)
	must(t, s.Insert(key, value))
	must(t, s.Checkpoint(context.Background()))
	must(t, s.DeleteValue(key, value))
	v, err := s.Snapshot()
	must(t, err)
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
	must(t, s.Apply(&b))
	must(t, s.Checkpoint(context.Background()))
	m := s.Metrics()
	if m.SplitEvents != m.BucketCount-1 || m.PromotionEvents != 1 || m.Checkpoints != 1 || m.Keys != 200 || m.Values != 204 {
		t.Errorf("%d splits to %d buckets, %d promotions, %d checkpoints, %d keys, %d values",
			m.SplitEvents, m.BucketCount, m.PromotionEvents, m.Checkpoints, m.Keys, m.Values)
	}
}
