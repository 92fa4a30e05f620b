package cidstore

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cidstore/cidstore/gc"
)

// TestTimesOfDeletions: the deletion log says when a value was deleted, not when
// a checkpoint noticed: of inline sets, rows and trees, and of operations that were
// replayed after a kill, or after two, the first of which logged them again.
func TestTimesOfDeletions(t *testing.T) {
	for kills := range 3 {
		t.Run(fmt.Sprint("kills ", kills), func(t *testing.T) {
			now := int64(1000)
			dir := t.TempDir()
			life := 0
			o := &Options{GCInterval: -1, Clock: func() time.Time { return time.Unix(now, 0) }}
			reopen := func() *Store {
				s, err := Open(filepath.Join(dir, fmt.Sprint(life, ".h5")), o)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = s.Close() }) // its end is of no interest
				return s
			}
			s := reopen()
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			sizes := []int{1, 3, 60, 5000}
			var b Batch
			for key, n := range sizes {
				for i := range n {
					b.Insert(E{High: 1, Low: uint64(key)}, E{Low: uint64(i)})
					b.Insert(E{High: 2, Low: uint64(key)}, E{Low: uint64(i)})
				}
			}
			must(s.Apply(&b))
			must(s.Checkpoint(context.Background()))

			want := map[gc.Record]bool{}
			deleteAll := func(value int) {
				now += 1000
				for key, n := range sizes {
					if value < n {
						must(s.DeleteValue(E{High: 1, Low: uint64(key)}, E{Low: uint64(value)}))
						want[gc.Record{Key: E{High: 1, Low: uint64(key)}, Value: E{Low: uint64(value)}, Timestamp: float64(now)}] = true
					}
				}
			}
			deleteAll(0)
			deleteAll(2)
			now += 1000
			for key := range sizes {
				must(s.Delete(E{High: 2, Low: uint64(key)}))
				want[gc.Record{Key: E{High: 2, Low: uint64(key)}, Timestamp: float64(now), Whole: true}] = true
			}
			deleteAll(4000)
			for range kills {
				from := filepath.Join(dir, fmt.Sprint(life, ".h5"))
				life++
				data, err := os.ReadFile(from)
				must(err)
				must(os.WriteFile(filepath.Join(dir, fmt.Sprint(life, ".h5")), data, 0o600))
				now += 100_000
				s = reopen()
				if life == 1 && s.Recovery().RewrittenFrames == 0 {
					t.Error("no frame was logged again")
				}
			}
			now = 1_000_000
			must(s.Checkpoint(context.Background()))
			v, err := s.Snapshot()
			must(err)
			defer v.Close()
			must(gc.Open(v.view.View, v.view.record.numDeletions).Scan(func(i uint64, r gc.Record) bool {
				if !want[r] {
					t.Errorf("row %d: %+v", i, r)
				}
				delete(want, r)
				return true
			}))
			for r := range want {
				t.Errorf("missing: %+v", r)
			}
		})
	}
}
