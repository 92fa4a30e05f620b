package cidstore_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/cidstore/cidstore"
)

// soon fails the test if do does not end.
func soon(t *testing.T, what string, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); do() }()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatalf("%s: no end", what)
	}
}

// TestCloseBesideSnapshots: Close ends every snapshot, one that is taken while it
// runs too, and does not wait for owners who never close theirs.
func TestCloseBesideSnapshots(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.h5")
	must(t, open(t, path, nil).Close())
	for range 60 {
		s := open(t, path, &cidstore.Options{ReadOnly: true})
		var takers sync.WaitGroup
		start := make(chan struct{})
		for range 4 {
			takers.Go(func() {
				<-start
				for {
					v, err := s.Snapshot()
					if errors.Is(err, cidstore.ErrClosed) {
						return
					}
					if err != nil {
						t.Error(err)
						return
					}
					_, err = v.Lookup(cidstore.E{})
					if err != nil && !errors.Is(err, cidstore.ErrSnapshotExpired) {
						t.Error(err)
					}
				}
			})
		}
		close(start)
		soon(t, "Close beside Snapshot", func() { must(t, s.Close()); takers.Wait() })
	}
}

// TestCloseBesideEverything: what runs while the store is closed ends, with
// ErrClosed or as if it had come before.
func TestCloseBesideEverything(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	ctx := context.Background()
	for round := range 10 {
		dir := t.TempDir()
		path := filepath.Join(dir, "s.h5")
		w := open(t, path, nil)
		for i := range 300 {
			must(t, w.Insert(cidstore.FromUint64(uint64(i%50)), cidstore.FromUint64(uint64(i))))
		}
		r := open(t, path, &cidstore.Options{ReadOnly: true})
		for _, s := range []*cidstore.Store{w, r} {
			readOnly := s == r
			var group sync.WaitGroup
			for name, do := range map[string]func() error{
				"Check":      func() error { _, err := s.Check(ctx); return err },
				"AuditWAL":   func() error { return s.AuditWAL(0) },
				"Refresh":    s.Refresh,
				"Sync":       s.Sync,
				"Checkpoint": func() error { return s.Checkpoint(ctx) },
				"Backup":     func() error { return s.Backup(ctx, filepath.Join(dir, fmt.Sprintf("%t.h5", readOnly))) },
				"BackupTo":   func() error { return s.BackupTo(ctx, io.Discard, nil) },
				"Len":        func() error { _, _, err := s.Len(ctx); return err },
				"Insert":     func() error { return s.Insert(cidstore.E{}, cidstore.E{Low: 1}) },
				"Metrics":    func() error { s.Metrics(); s.Recovery(); return nil },
				"Values": func() (err error) {
					for _, err = range s.Values(cidstore.FromUint64(1)) {
					}
					return err
				},
				"All": func() error {
					v, err := s.Snapshot()
					if err != nil {
						return err
					}
					for range v.All() {
					}
					return v.Err()
				},
			} {
				group.Go(func() {
					time.Sleep(time.Duration(round*37%7) * 100 * time.Microsecond)
					err := do()
					switch {
					case err == nil, errors.Is(err, cidstore.ErrClosed), errors.Is(err, cidstore.ErrSnapshotExpired):
					case readOnly && errors.Is(err, cidstore.ErrReadOnly):
					case errors.Is(err, cidstore.ErrCorrupt):
						t.Errorf("%s: %v", name, err)
					default:
						t.Errorf("%s (read-only %t): %v", name, readOnly, err)
					}
				})
			}
			time.Sleep(time.Duration(round%10) * 200 * time.Microsecond)
			soon(t, "Close beside everything", func() { must(t, s.Close()); group.Wait() })
		}
	}
}

// TestLoopsCallBack: the body of a loop may use the store, close the snapshot and
// close the store.
func TestLoopsCallBack(t *testing.T) {
	s, _ := fresh(t, &cidstore.Options{SplitThreshold: 8})
	for i := range 500 {
		must(t, s.Insert(cidstore.FromUint64(uint64(i%60)), cidstore.FromUint64(uint64(i))))
	}
	must(t, s.Checkpoint(context.Background()))
	key := cidstore.FromUint64(7)
	soon(t, "loops", func() {
		n := 0
		for value, err := range s.Values(key) {
			must(t, err)
			must(t, s.Insert(key, cidstore.FromUint64(1000+value.Low)), s.DeleteValue(key, value))
			must(t, s.Checkpoint(context.Background()))
			n++
		}
		if n != 9 {
			t.Errorf("%d values, want the 9 of the moment when the loop began", n)
		}
		v := mustGet(s.Snapshot())(t)
		for range v.Keys() {
			_ = v.Close() // in every round
		}
		if err := v.Err(); err != nil && !errors.Is(err, cidstore.ErrClosed) {
			t.Errorf("loop over a snapshot that its body closes: %v", err)
		}
		wantErr(t, v.Close(), cidstore.ErrClosed, "second Close")
		v = mustGet(s.Snapshot())(t)
		pairs := 0
		for range v.All() {
			if pairs == 0 {
				must(t, s.Close())
			}
			pairs++
		}
		wantErr(t, v.Err(), cidstore.ErrSnapshotExpired, "loop over a snapshot that outlives its store", pairs, "pairs")
	})
}

// TestCloseInsideALoop: a loop whose snapshot is closed yields nothing more, even what it has
// read already.
func TestCloseInsideALoop(t *testing.T) {
	s, _ := fresh(t, &cidstore.Options{GCInterval: -1})
	many := cidstore.FromUint64(100)
	fill := func(first uint64) {
		for i := range uint64(10) {
			must(t, s.Insert(cidstore.FromUint64(first+i), cidstore.E{}), s.Insert(many, cidstore.FromUint64(first+i)))
			must(t, s.Insert(cidstore.FromUint64(101), cidstore.FromUint64(i%3)))
		}
	}
	loops := map[string]func(v *cidstore.Snapshot, step func()){
		"All": func(v *cidstore.Snapshot, step func()) {
			for range v.All() {
				step()
			}
		},
		"Keys": func(v *cidstore.Snapshot, step func()) {
			for range v.Keys() {
				step()
			}
		},
		"Values": func(v *cidstore.Snapshot, step func()) {
			for _, err := range v.Values(many) {
				if err == nil {
					step()
				} else if !errors.Is(err, cidstore.ErrClosed) {
					t.Errorf("Values: %v", err)
				}
			}
		},
	}
	closeInside := func(when string) {
		t.Helper()
		for name, loop := range loops {
			for at := 1; at < 10; at++ {
				v := mustGet(s.Snapshot())(t)
				steps := 0
				loop(v, func() {
					if steps++; steps == at {
						must(t, v.Close())
					}
				})
				if steps != at || !errors.Is(v.Err(), cidstore.ErrClosed) {
					t.Errorf("%s, %s: %d steps, closed in step %d; Err is %v", when, name, steps, at, v.Err())
				}
			}
		}
	}
	fill(0)
	closeInside("pending")
	must(t, s.Checkpoint(context.Background()))
	closeInside("at rest")
	fill(5)
	closeInside("both")
}

// uses calls every method of a store that can fail, by name.
func uses(s *cidstore.Store, path string) map[string]func() error {
	ctx, key := context.Background(), cidstore.FromUint64(1)
	var b cidstore.Batch
	b.Insert(key, key)
	return map[string]func() error{
		"Insert":       func() error { return s.Insert(key, key) },
		"Delete":       func() error { return s.Delete(key) },
		"DeleteValue":  func() error { return s.DeleteValue(key, key) },
		"Apply":        func() error { return s.Apply(&b) },
		"Apply empty":  func() error { return s.Apply(new(cidstore.Batch)) },
		"Lookup":       func() error { _, err := s.Lookup(key); return err },
		"AppendLookup": func() error { _, err := s.AppendLookup(nil, key); return err },
		"Has":          func() error { _, err := s.Has(key, key); return err },
		"HasKey":       func() error { _, err := s.HasKey(key); return err },
		"Count":        func() error { _, err := s.Count(key); return err },
		"Len":          func() error { _, _, err := s.Len(ctx); return err },
		"Snapshot":     func() error { _, err := s.Snapshot(); return err },
		"Checkpoint":   func() error { return s.Checkpoint(ctx) },
		"Backup":       func() error { return s.Backup(ctx, path+".backup") },
		"BackupTo":     func() error { return s.BackupTo(ctx, io.Discard, nil) },
		"Check":        func() error { _, err := s.Check(ctx); return err },
		"Sync":         func() error { return s.Sync() },
		"Refresh":      func() error { return s.Refresh() },
		"AuditWAL":     func() error { return s.AuditWAL(0) },
		"Close":        func() error { return s.Close() },
		"Values": func() error {
			for _, err := range s.Values(key) {
				return err
			}
			return nil
		},
	}
}

func TestUseAfterClose(t *testing.T) {
	path := smallFile(t, 5)
	for _, readOnly := range []bool{false, true} {
		s := open(t, path, &cidstore.Options{ReadOnly: readOnly})
		v := mustGet(s.Snapshot())(t)
		must(t, s.Close())
		for name, use := range uses(s, path) {
			err := use()
			if readOnly && errors.Is(err, cidstore.ErrReadOnly) {
				continue
			}
			wantErr(t, err, cidstore.ErrClosed, "read-only", readOnly, name)
		}
		wantErr(t, errOf(v.Lookup(cidstore.E{})), cidstore.ErrSnapshotExpired, "snapshot")
		for range v.All() {
			t.Error("All of an expired snapshot yields")
		}
		for range v.Keys() {
			t.Error("Keys of an expired snapshot yields")
		}
		wantErr(t, v.Err(), cidstore.ErrSnapshotExpired, "Err of an expired snapshot")
		s.LogEvent("split", "bucket", 1)
		if m := s.Metrics(); m.SplitEvents == 0 || s.Recovery().Commit == 0 {
			t.Errorf("after Close: %+v, %+v", m, s.Recovery())
		}
	}
}
