package cidstore_test

import (
	"context"
	"fmt"
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
		values, err := v.Lookup(groupKey(i))
		must(t, err)
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
		v, err := c.Snapshot()
		must(t, err)
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
			held, err := w.Snapshot() // a pin of an old root does not matter
			must(t, err)
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
	must(t, w.Close())
}
