package cidstore

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/internal/invariants"
)

// onFullDisk opens the store of a disk.
func onFullDisk(t *testing.T, disk *crashfs.FS, seed byte) *Store {
	t.Helper()
	s, err := Open(crashPath, &Options{FS: disk, GCInterval: -1, Rand: rand.NewChaCha8([32]byte{seed})})
	mustDo(t, err)
	return s
}

// importUntilFull writes pairs of the keys from 1 on, in batches, until the disk is full.
func importUntilFull(t *testing.T, s *Store) (stored uint64) {
	t.Helper()
	const step = 4096
	for {
		var b Batch
		for k := range uint64(step) {
			b.Insert(FromUint64(stored+k+1), FromUint64(7*(stored+k+1)))
		}
		switch err := s.Apply(&b); {
		case errors.Is(err, ErrNoSpace):
			return stored
		case err != nil:
			t.Fatal(err)
		}
		stored += step
	}
}

// TestShrinkOnAFullDisk: on a disk that is full, or has less room than the data take, a
// store that is half free gets short, by Close as by Shrink, and neither makes it longer.
func TestShrinkOnAFullDisk(t *testing.T) {
	for seed := byte(1); seed < 8; seed += 2 {
		if int(seed)/2%invariants.Sparse != 0 {
			continue
		}
		for _, keep := range []bool{true, false} { // the gaps, up to Shrink
			disk := crashfs.New(crashfs.Options{FileLimit: 64 << 20})
			disk.SetCapacity(12 << 20)
			s := onFullDisk(t, disk, seed)
			s.opts.keepPlaces = keep
			stored := importUntilFull(t, s)
			mustDo(t, s.Close())
			s = onFullDisk(t, disk, seed+100)
			s.opts.keepPlaces = keep
			mustDo(t, s.Delete(FromUint64(1)), s.Maintain(t.Context()))
			mustDo(t, s.Close())
			disk.SetCapacity(int64(12+seed) << 20)
			before := use(t, disk)
			s = onFullDisk(t, disk, seed+200)
			mustDo(t, s.Shrink(t.Context()))
			live, shrunk := s.liveBytes(), use(t, disk)
			mustDo(t, s.Close())
			after := use(t, disk)
			if most := live*12/10 + 64<<10; shrunk > before || after > before || shrunk > most || after > most {
				t.Errorf("disk of %d MiB: %d bytes before Shrink, %d after it, %d after Close, %d of them live; want at most %d",
					12+seed, before, shrunk, after, live, most)
			}
			t.Logf("disk of %d MiB, gaps kept %t: %d bytes before Shrink, %d after it, %d after Close, %d of them live", 12+seed, keep, before, shrunk, after, live)
			s = onFullDisk(t, disk, seed)
			if keys, _, err := s.Len(t.Context()); err != nil || keys != stored-1 {
				t.Errorf("%d keys, %v; want %d", keys, err, stored-1)
			}
			if report, err := s.Check(t.Context()); err != nil || len(report.Defects) > 0 {
				t.Errorf("%v: %+v", err, report)
			}
			mustDo(t, s.Close())
		}
	}
}

// TestEachLifeDeletesOnAFullDisk: lives of one write each, on a disk that is full: an
// import that is refused, an insert that may be, deletes that are all taken.
func TestEachLifeDeletesOnAFullDisk(t *testing.T) {
	for seed := range byte(6) {
		if int(seed)%invariants.Sparse != 0 {
			continue
		}
		disk := crashfs.New(crashfs.Options{FileLimit: 64 << 20})
		disk.SetCapacity(9<<20 + int64(seed)*(717<<10))
		lives := seed
		life := func(f func(s *Store)) {
			lives += 6
			s := onFullDisk(t, disk, lives)
			f(s)
			mustDo(t, s.Close())
		}
		stored := uint64(0)
		for range 2 {
			life(func(s *Store) { stored = max(stored, importUntilFull(t, s)) })
		}
		deleted := uint64(0)
		for n := range uint64(8) {
			life(func(s *Store) {
				if err := s.Insert(FromUint64(1<<40), FromUint64(n)); err != nil && !errors.Is(err, ErrNoSpace) {
					t.Fatal(err)
				}
			})
			life(func(s *Store) {
				if err := s.Delete(FromUint64(deleted + 1)); err != nil {
					t.Errorf("seed %d: delete %d of %d: %v", seed, n, stored, err)
					return
				}
				deleted++
			})
		}
		life(func(s *Store) {
			mustDo(t, s.Delete(FromUint64(1<<40)))
			if keys, _, err := s.Len(t.Context()); err != nil || keys != stored-deleted {
				t.Errorf("seed %d: %d keys, %v; want %d", seed, keys, err, stored-deleted)
			}
		})
	}
}

// TestManyValuesOnAFullDisk: what waits for one group may take more room than a full disk
// has. Then Close leaves it to the log, and in the end Open needs more room; nothing is lost.
func TestManyValuesOnAFullDisk(t *testing.T) {
	const capacity, step = 11025408, 4096
	disk, random := crashfs.New(crashfs.Options{FileLimit: 64 << 20}), rand.New(rand.NewPCG(3, 1))
	disk.SetCapacity(capacity)
	life := func(write func(s *Store) error) error {
		s, err := Open(crashPath, &Options{FS: disk, GCInterval: -1, Rand: rand.NewChaCha8([32]byte{3})})
		if err != nil {
			return err
		}
		mustDo(t, write(s))
		if err := s.Close(); !errors.Is(err, ErrNoSpace) {
			return err
		}
		return nil
	}
	model := contents{}
	mustDo(t, life(func(s *Store) error {
		for {
			var b Batch
			for range step {
				b.Insert(FromUint64(random.Uint64N(300)+1), FromUint64(random.Uint64()))
			}
			if err := s.Apply(&b); err != nil {
				if errors.Is(err, ErrNoSpace) {
					return nil
				}
				return err
			}
			model.apply(b.ops)
		}
	}))
	refused := false
	for k := uint64(1); k < 15; k++ {
		var b Batch
		b.Delete(FromUint64(k))
		err := life(func(s *Store) error { return s.Apply(&b) })
		if errors.Is(err, ErrNoSpace) && !refused {
			refused = true
			r, err := Open(crashPath, &Options{FS: disk, ReadOnly: true})
			mustDo(t, err)
			mustHold(t, r, model)
			mustDo(t, r.Close())
			disk.SetCapacity(2 * capacity)
			err = life(func(s *Store) error { return s.Apply(&b) })
			mustDo(t, err)
		} else {
			mustDo(t, err)
		}
		model.apply(b.ops)
	}
	s := onFullDisk(t, disk, 4)
	mustHold(t, s, model)
	mustDo(t, s.Close())
	t.Logf("Open refused on the full disk: %t", refused)
}
