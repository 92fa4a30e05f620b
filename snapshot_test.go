package cidstore

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/cidstore/cidstore/wal"
)

// TestSnapshotsKeepTheirSpace: readers hold snapshots while a writer sets one fresh
// value on 64 keys in each batch and checkpoints reuse space as early as they may.
// Each snapshot has one value on all keys, has it to its end, and none is older than
// the reader's last. The mapping is the writer's memory here: under the race
// detector a write to what a snapshot reaches is reported even if it is not seen.
func TestSnapshotsKeepTheirSpace(t *testing.T) {
	const width = 64
	defer watchdog(t.Name(), 2*hangLimit)()
	c := newScenario(t, 1, func(o *Options) { noQuarantine(o); o.GCInterval = 0 })
	c.open()
	rounds := campaign(120, uint64(400))
	var done atomic.Bool
	var readers failures
	for range 3 {
		readers.Go(func() error {
			for last := uint64(0); !done.Load(); {
				value, err := heldValue(c.store, width)
				if err != nil || value < last {
					return fmt.Errorf("value %d after %d: %w", value, last, err)
				}
				last = value
			}
			return nil
		})
	}
	for n := range rounds {
		var ops []wal.Op
		for k := range uint64(width) {
			ops = append(ops, del(k), ins(k, n+1))
		}
		mustDo(t, c.store.Apply(&Batch{ops: ops}))
		if n%2 == 0 {
			mustDo(t, c.store.Checkpoint(context.Background()))
		}
	}
	done.Store(true)
	mustDo(t, readers.Wait())
	c.close()
}

// heldValue reads all keys of one snapshot a few times; they have one value, or none
// before the first batch.
func heldValue(s *Store, width uint64) (common uint64, err error) {
	v, err := s.Snapshot()
	if err != nil {
		return 0, err
	}
	defer v.Close()
	for read := range 4 {
		for k := range width {
			values, err := v.Lookup(FromUint64(k))
			if err != nil {
				return 0, err
			}
			var value uint64
			if len(values) == 1 {
				value = values[0].Low
			}
			if read+int(k) == 0 {
				common = value
			}
			if value != common || len(values) > 1 {
				return 0, fmt.Errorf("read %d: key %d has %v, the first has %d", read, k, values, common)
			}
		}
	}
	return common, nil
}
