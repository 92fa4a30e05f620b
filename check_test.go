package cidstore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/cidstore/cidstore"
	"github.com/cidstore/cidstore/internal/errfs"
	"github.com/cidstore/cidstore/vfs"
)

// TestCheckReadOnlyHead: Check of a store that is open for reading reports damage
// that keeps HDF5 programs out, or takes away the second slot, though every key
// can be read; opening it for writing mends it.
func TestCheckReadOnlyHead(t *testing.T) {
	for _, at := range []int64{0, 8, 9, 11, 12, 20, 27, 30, 36, 40, 44, 48, 4095, 4096, 5000, 8192, 9000} {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s.h5")
			s := open(t, path, nil)
			must(t, s.Insert(cidstore.FromUint64(1), cidstore.FromUint64(2)), s.Close())
			p := mustGet(os.ReadFile(path))(t)
			p[at] ^= 1
			must(t, os.WriteFile(path, p, 0))
			for _, want := range []error{cidstore.ErrCorrupt, nil} {
				r := open(t, path, &cidstore.Options{ReadOnly: true})
				wantIs(t, true, "Has")(r.Has(cidstore.FromUint64(1), cidstore.FromUint64(2)))
				report, err := r.Check(context.Background())
				if !errors.Is(err, want) || want != nil && report.DefectCount != 1 {
					t.Errorf("Check: %v, %v, want %v", err, report.Defects, want)
				}
				must(t, r.Close(), open(t, path, nil).Close())
			}
		})
	}
}

// TestCheckBesideWriter: a writer that commits between any two reads of a Check
// is no damage.
func TestCheckBesideWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.h5")
	w := open(t, path, &cidstore.Options{WALBytes: 64 << 10, GCInterval: -1})
	n := uint64(0)
	commit := func() {
		n++
		must(t, w.Insert(cidstore.FromUint64(n), cidstore.FromUint64(n)), w.Checkpoint(context.Background()))
	}
	commit()
	hooks := &errfs.Hooks{}
	r := open(t, path, &cidstore.Options{ReadOnly: true, NoMmap: true, FS: hooks.On(vfs.OS())})
	const slots = 4096  // and superblock: a page each
	const headReads = 3 // of one look
	for every := 1; every <= headReads+1; every++ {
		reads := 0
		hooks.Read = func(off int64, _ int) {
			if off > 2*slots {
				return
			}
			// Not without end: an opener begins again when the slot that it read is gone.
			if reads++; reads <= 4*headReads && reads%every == 0 {
				commit()
			}
		}
		report, err := r.Check(context.Background())
		hooks.Read = nil
		if err != nil {
			t.Errorf("a commit at every read %d: %v, %v", every, err, report.Defects)
		}
		if reads < headReads {
			t.Errorf("%d reads of slots and superblock", reads)
		}
		must(t, r.Refresh())
	}
	must(t, r.Close(), w.Close())
}
