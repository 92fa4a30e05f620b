package cidstore_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/cidstore/cidstore"
)

// manyGroups makes a store that two goroutines read for a loop. It has groups with rows
// and with entries that wait, sets, and some operations that are not in the tree.
func manyGroups(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s.h5")
	s := open(t, path, &cidstore.Options{SplitThreshold: 4, GCInterval: -1})
	for round := range uint64(3) {
		var b cidstore.Batch
		for k := range uint64(3000) {
			if k%3 >= round {
				b.Insert(cidstore.FromUint64(k), cidstore.FromUint64(k+round))
			}
			if k%100 == 0 {
				for v := range uint64(8) {
					b.Insert(cidstore.FromUint64(k), cidstore.FromUint64(v))
				}
			}
		}
		must(t, s.Apply(&b), s.Checkpoint(t.Context()))
	}
	report, err := s.Check(t.Context())
	must(t, err)
	if report.Groups < 128 || report.WaitingEntries == 0 {
		t.Fatalf("%d groups, %d entries wait", report.Groups, report.WaitingEntries)
	}
	must(t, s.Delete(cidstore.FromUint64(5)), s.Insert(cidstore.FromUint64(9000), cidstore.FromUint64(1)))
	must(t, s.Close())
	return path
}

// useProcessors sets how many processors Go uses, until the test ends.
func useProcessors(t *testing.T, processors int) {
	before := runtime.GOMAXPROCS(processors)
	t.Cleanup(func() { runtime.GOMAXPROCS(before) })
}

// TestAllByTwo: two goroutines yield what one does, in the same order. In a damaged file
// they leave out the same pairs, with the same error.
func TestAllByTwo(t *testing.T) {
	noGoroutines(t)
	path := manyGroups(t)
	type pair struct{ key, value cidstore.E }
	read := func(processors int) (pairs []pair, keys []cidstore.E, err error) {
		useProcessors(t, processors)
		s := open(t, path, &cidstore.Options{ReadOnly: true})
		defer s.Close()
		v, err := s.Snapshot()
		must(t, err)
		defer v.Close()
		for key, value := range v.All() {
			pairs = append(pairs, pair{key, value})
		}
		return pairs, slices.Collect(v.Keys()), v.Err()
	}
	same := func() error {
		t.Helper()
		pairs, keys, err := read(1)
		pairsOf2, keysOf2, errOf2 := read(4)
		if !slices.Equal(pairs, pairsOf2) || !slices.Equal(keys, keysOf2) {
			t.Fatalf("one goroutine: %d pairs, %d keys; two: %d, %d", len(pairs), len(keys), len(pairsOf2), len(keysOf2))
		}
		if (err == nil) != (errOf2 == nil) || err != nil && err.Error() != errOf2.Error() {
			t.Fatalf("one goroutine: %v; two: %v", err, errOf2)
		}
		return err
	}
	must(t, same())
	whole, err := os.ReadFile(path)
	must(t, err)
	found := 0
	for at := len(whole) / 5; at < len(whole); at += len(whole) / 9 {
		bad := slices.Clone(whole)
		for i := at; i < min(at+20_000, len(bad)); i += 1000 {
			bad[i] ^= 0x10
		}
		must(t, os.WriteFile(path, bad, 0o600))
		if s, err := cidstore.Open(path, &cidstore.Options{ReadOnly: true}); err == nil {
			must(t, s.Close())
			if same() != nil {
				found++
			}
		}
	}
	if found == 0 {
		t.Error("no damage was read")
	}
}

// TestAllEndsEarly: whatever ends a loop, no goroutine goes on.
func TestAllEndsEarly(t *testing.T) {
	noGoroutines(t)
	path := manyGroups(t)
	useProcessors(t, 4)
	for name, at := range map[string]struct {
		end  func(*cidstore.Store, *cidstore.Snapshot) bool
		want error
	}{
		"break":          {func(*cidstore.Store, *cidstore.Snapshot) bool { return false }, nil},
		"panic":          {func(*cidstore.Store, *cidstore.Snapshot) bool { panic("in a loop") }, nil},
		"snapshot close": {func(_ *cidstore.Store, v *cidstore.Snapshot) bool { must(t, v.Close()); return true }, cidstore.ErrClosed},
		"store close":    {func(s *cidstore.Store, _ *cidstore.Snapshot) bool { must(t, s.Close()); return true }, cidstore.ErrSnapshotExpired},
	} {
		t.Run(name, func(t *testing.T) {
			for _, after := range []int{1, 100, 1500} {
				noGoroutines(t)
				s := open(t, path, &cidstore.Options{GCInterval: -1})
				v, err := s.Snapshot()
				must(t, err)
				n := 0
				func() {
					defer func() { _ = recover() }()
					for range v.All() {
						if n++; n == after && !at.end(s, v) {
							break
						}
					}
				}()
				if n != after || !errors.Is(v.Err(), at.want) {
					t.Errorf("%d pairs of %d, %v, want %v", n, after, v.Err(), at.want)
				}
				_, _ = v.Close(), s.Close()
			}
		})
	}
}
