package cidstore_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/cidstore/cidstore"
	"github.com/cidstore/cidstore/internal/invariants"
)

// killed copies the file of an open store: what a kill of its process leaves.
func killed(t *testing.T, path, to string) {
	t.Helper()
	src, err := os.Open(path)
	must(t, err)
	defer src.Close()
	dst, err := os.Create(to)
	must(t, err)
	_, err = io.Copy(dst, src)
	must(t, err)
	must(t, dst.Close())
}

// TestManyLivesWithoutCheckpoint: more lives than the epochs that a root lists, each
// ended by a kill, with little in the log and with more than is left of the ring
// when the last batch is logged again.
func TestManyLivesWithoutCheckpoint(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	for _, size := range invariants.Sample([]int{319, 1, 40, 200}) {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			dir := t.TempDir()
			name := func(life int) string { return filepath.Join(dir, fmt.Sprint(life, ".h5")) }
			o := &cidstore.Options{WALBytes: 64 << 10, SplitThreshold: 8, GCInterval: -1}
			const lives = 30
			for life := range lives {
				s := open(t, name(life), o)
				defer s.Close() // its end is of no interest
				for before := range life {
					first := before * size
					for _, i := range []int{first, first + size - 1} {
						if ok, err := s.Has(cidstore.FromUint64(uint64(i)), cidstore.FromUint64(uint64(i-first))); !ok || err != nil {
							t.Fatalf("life %d: key %d of life %d: %t, %v", life, i, before, ok, err)
						}
					}
				}
				if life%10 == 9 {
					mustBeWhole(t, s)
				}
				if life%3 != 2 || size < 300 { // some lives write nothing
					must(t, s.Apply(batchOf(life*size, size)))
				} else {
					must(t, s.Apply(batchOf(life*size, size-1)))
					must(t, s.Insert(cidstore.FromUint64(uint64(life*size+size-1)), cidstore.FromUint64(uint64(size-1))))
				}
				killed(t, name(life), name(life+1))
				if life%4 == 3 { // killed again before it has done anything
					s := open(t, name(life+1), o)
					killed(t, name(life+1), name(life+1)+".again")
					must(t, os.Rename(name(life+1)+".again", name(life+1)))
					_ = s.Close() // its file has no name
				}
			}
			s := open(t, name(lives), o)
			if keys, _, err := s.Len(context.Background()); keys != uint64(lives*size) || err != nil {
				t.Errorf("%d keys, %v; want %d", keys, err, lives*size)
			}
			mustBeWhole(t, s)
		})
	}
}
