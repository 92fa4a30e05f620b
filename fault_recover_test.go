package cidstore

import (
	"errors"
	"testing"

	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/internal/errfs"
)

// TestFaultRecovery lets each write and sync of an Open that recovers fail in turn,
// from then on: an error, no panic, and the next opener finds everything. The last
// batch is logged again in the first case, and does not fit a second time in the
// other, so that Open checkpoints it.
func TestFaultRecovery(t *testing.T) {
	for name, operations := range map[string]uint64{"logged again": 3, "checkpointed": 160} {
		t.Run(name, func(t *testing.T) {
			failed := 0
			for nth := 1; ; nth++ {
				disk := errfs.New(crashfs.New(crashfs.Options{FileLimit: 8 << 20}))
				s := openOn(t, disk)
				for round := range uint64(2) {
					var b Batch
					for i := range operations {
						b.Insert(FromUint64(i), FromUint64(i+round))
					}
					mustDo(t, s.Apply(&b))
				}
				want := mustGet(printOf(s))(t)
				s.kill()
				fault := disk.Add(errfs.Rule{Ops: errfs.Syncs | errfs.Write, Nth: nth, Forever: true})
				recovered, err := Open(crashPath, smallOptions(disk))
				disk.Clear()
				if fault.Failed() > 0 {
					failed++
					if err == nil {
						recovered.kill() // a fault that may be ignored, as of a hint
					} else if !errors.Is(err, errfs.ErrIO) {
						t.Fatalf("call %d: %v", nth, err)
					}
				} else if err != nil {
					t.Fatal(err)
				} else if err := recovered.Close(); err != nil {
					t.Fatal(err)
				}
				s = openOn(t, disk)
				wantIs(t, want, "call", nth)(printOf(s))
				mustDo(t, s.Close())
				if fault.Failed() == 0 {
					break
				}
			}
			if failed < 4 {
				t.Fatalf("%d calls failed", failed)
			}
			t.Logf("%d calls failed in turn", failed)
		})
	}
}

func openOn(t *testing.T, disk *errfs.FS) *Store {
	t.Helper()
	return OpenStore(t, crashPath, smallOptions(disk))
}
