package cidstore_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cidstore/cidstore"
)

// groupKeys keys have the same single value at every moment: the batch's number.
const groupKeys = 64

func groupKey(i int) cidstore.E { return cidstore.E{High: 1, Low: uint64(i)} }

// setGroup gives all keys of the group the value n.
func setGroup(b *cidstore.Batch, n uint64) {
	for i := range groupKeys {
		b.Delete(groupKey(i))
		b.Insert(groupKey(i), cidstore.FromUint64(n))
	}
}

// groupValue is the one value that all keys of the group have; 0: none has any.
func groupValue(t *testing.T, v *cidstore.Snapshot) uint64 {
	t.Helper()
	group := uint64(0)
	for i := range groupKeys {
		values := mustGet(v.Lookup(groupKey(i)))(t)
		value := uint64(0)
		if len(values) == 1 && values[0].High == 0 {
			value = values[0].Low
		} else if len(values) > 0 {
			t.Fatalf("key %d has %v", i, values)
		}
		if i > 0 && value != group {
			t.Fatalf("key %d has value %d, key 0 has %d", i, value, group)
		}
		group = value
	}
	return group
}

// TestBackupBesideAWriter: each copy, of the writer's store and of a reader's, and each
// series of increments, shows one moment, not before the call, while batches and
// checkpoints go on.
func TestBackupBesideAWriter(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	ctx := context.Background()
	dir := t.TempDir()
	path := filepath.Join(dir, "s.h5")
	w := open(t, path, &cidstore.Options{WALBytes: 64 << 10, SplitThreshold: 8})
	r := open(t, path, &cidstore.Options{ReadOnly: true, NoMmap: true})
	var acked atomic.Uint64
	var stop atomic.Bool
	var group sync.WaitGroup
	group.Go(func() {
		for n := uint64(1); !stop.Load(); n++ {
			var b cidstore.Batch
			setGroup(&b, n)
			for i := range 180 { // the largest batch that the log takes, nearly
				b.Insert(cidstore.E{High: 2, Low: n * uint64(i) % 3000}, cidstore.FromUint64(n%5))
			}
			if err := w.Apply(&b); err != nil {
				t.Error(err)
				return
			}
			acked.Store(n)
		}
	})
	shows := func(name, path string, before uint64) {
		t.Helper()
		c := open(t, path, nil)
		v := mustGet(c.Snapshot())(t)
		if got := groupValue(t, v); got < before {
			t.Errorf("the %s's backup shows batch %d, batch %d was acknowledged before", name, got, before)
		}
		must(t, v.Close())
		mustBeWhole(t, c)
		must(t, c.Close())
	}
	series := map[string][]string{}
	for round := range 4 {
		for name, s := range map[string]*cidstore.Store{"writer": w, "reader": r} {
			held := mustGet(w.Snapshot())(t) // a pin of an old root does not matter
			before := acked.Load()
			must(t, s.Refresh())
			backup := filepath.Join(dir, fmt.Sprint(name, round))
			must(t, s.Backup(ctx, backup))
			shows(name, backup, before)

			before = acked.Load()
			must(t, s.Refresh())
			part, restored := backup+".part", backup+".restored"
			must(t, s.BackupWith(ctx, part, &cidstore.BackupOptions{Since: series[name]}))
			series[name] = append(series[name], part)
			must(t, cidstore.RestoreSeries(ctx, series[name], restored, nil, nil))
			shows(name, restored, before)
			must(t, held.Close())
		}
	}
	stop.Store(true)
	group.Wait()
	must(t, r.Close())
	mustBeWhole(t, w)
}

func TestRestoreOfABadBackup(t *testing.T) {
	path, backup := smallFile(t, 5), smallFile(t, 50)
	want := mustGet(os.ReadFile(path))(t)
	whole := mustGet(os.ReadFile(backup))(t)
	for name, spoil := range map[string]func([]byte) []byte{
		"cut":      func(p []byte) []byte { return p[:len(p)/2] },
		"not ours": func([]byte) []byte { return []byte("hello") },
		"empty":    func([]byte) []byte { return nil },
		"flipped":  func(p []byte) []byte { p[len(p)-100] ^= 4; p[5000] ^= 1; p[9000] ^= 1; return p },
	} {
		must(t, os.WriteFile(backup, spoil(bytes.Clone(whole)), 0o666))
		if err := cidstore.Restore(context.Background(), backup, path); err == nil {
			t.Errorf("%s: restored", name)
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: the target was changed: %v", name, err)
		}
	}
	wantErr(t, cidstore.Restore(context.Background(), backup+".none", path), fs.ErrNotExist, "no backup")
	must(t, os.WriteFile(backup, whole, 0o666), cidstore.Restore(context.Background(), backup, path))
	s := open(t, path, nil)
	if keys, _, err := s.Len(context.Background()); keys != 50 || err != nil {
		t.Errorf("restored: %d keys, %v", keys, err)
	}
}

// TestRestoreOverAnOpenStore is refused while somebody writes it.
func TestRestoreOverAnOpenStore(t *testing.T) {
	ctx := context.Background()
	s, path := fresh(t, nil)
	must(t, s.Insert(cidstore.E{}, cidstore.E{}))
	backup := path + ".backup"
	must(t, s.Backup(ctx, backup), s.Insert(cidstore.E{}, cidstore.E{Low: 1}))
	wantErr(t, cidstore.Restore(ctx, backup, path), cidstore.ErrLocked, "Restore")
	must(t, s.Checkpoint(ctx))
	wantIs(t, 2, "values")(s.Count(cidstore.E{}))
	must(t, s.Close(), cidstore.Restore(ctx, backup, path))
	s = open(t, path, nil)
	wantIs(t, 1, "values")(s.Count(cidstore.E{}))
}

// TestBackupOfPendingOperations: more of them than one batch of the copy's small
// log takes.
func TestBackupOfPendingOperations(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s.h5")
	o := &cidstore.Options{WALBytes: 64 << 10, GCInterval: -1}
	w := open(t, path, &cidstore.Options{WALBytes: 1 << 20, GCInterval: -1})
	must(t, w.Apply(batchOf(0, 3000)))
	o.ReadOnly = true
	r := open(t, path, o)
	must(t, r.Backup(context.Background(), filepath.Join(dir, "b.h5")), r.Close(), w.Close())
	s := open(t, filepath.Join(dir, "b.h5"), nil)
	if keys, _, err := s.Len(context.Background()); keys != 3000 || err != nil {
		t.Errorf("the copy has %d keys, %v; want 3000", keys, err)
	}
}
