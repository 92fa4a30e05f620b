package cidstore

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/internal/invariants"
)

// onFullDisk opens the store of a disk.
func onFullDisk(t *testing.T, disk *crashfs.FS, seed byte) *Store {
	t.Helper()
	return OpenStore(t, crashPath, &Options{FS: disk, GCInterval: -1, Rand: rand.NewChaCha8([32]byte{seed})})
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
			mustDo(t, s.Delete(FromUint64(1)), s.Maintain(t.Context()), s.Close())
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

// TestManyValuesOnAFullDisk: what waits for one group takes more room than a full disk has.
// The checkpoint writes it in parts, so that many lives can follow each other.
func TestManyValuesOnAFullDisk(t *testing.T) {
	if invariants.Sparse > 1 {
		t.Skip("one goroutine, for seconds")
	}
	const capacity, step = 11025408, 4096
	disk, random := crashfs.New(crashfs.Options{FileLimit: 64 << 20}), rand.New(rand.NewPCG(3, 1))
	disk.SetCapacity(capacity)
	life := func(write func(s *Store) error) error {
		o := &Options{FS: disk, GCInterval: -1, Rand: rand.NewChaCha8([32]byte{3})}
		s, err := Open(crashPath, o)
		if err != nil {
			return err
		}
		willCheck(t, crashPath, o)
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
	for k := uint64(1); k < 30; k++ {
		var b Batch
		b.Delete(FromUint64(k))
		mustDo(t, life(func(s *Store) error { return s.Apply(&b) }))
		model.apply(b.ops)
	}
	s := onFullDisk(t, disk, 4)
	mustHold(t, s, model)
	mustDo(t, s.Close())
}

// TestDeletesOnAFullDisk fills a disk with a store of one value a key, and deletes
// every key, one by one or by batches: little of the space that is free then is in long
// pieces, and what a delete writes must fit the short ones. After all of them there is
// room again for inserts.
func TestDeletesOnAFullDisk(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	for _, c := range []struct {
		name          string
		first, second int64 // WALBytes before and after reopening; second 0: it stays open
		disk          int64
		step          int  // keys a batch
		slow          bool // not with the race detector
	}{
		{"small log", 64 << 10, 0, 8 << 20, 20, true},
		{"reopened with a larger log", 64 << 10, 64 << 20, 8 << 20, 20, true},
		{"larger disk", 1 << 20, 0, 16 << 20, 20, true},
		{"one by one on 4 MiB", 64 << 10, 0, 4 << 20, 1, true},
		{"one by one on 8 MiB", 64 << 10, 0, 8 << 20, 1, true},
		{"one by one on 16 MiB", 1 << 20, 0, 16 << 20, 1, true},
		{"large batches on 4 MiB", 256 << 10, 0, 4 << 20, 1000, false},
		{"large batches on 48 MiB", 1 << 20, 0, 48 << 20, 1000, true},
		{"one by one on 48 MiB", 1 << 20, 0, 48 << 20, 1, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.slow && invariants.Sparse > 1 || c.step == 1 && c.disk > 16<<20 && shortCampaign() {
				t.Skip("takes minutes")
			}
			t.Parallel()
			deletesOnAFullDisk(t, c.disk, c.first, c.second, c.step)
		})
	}
}

// deletesOnAFullDisk fills a disk of so many bytes in batches of step keys, and deletes all of
// them. The log may have first bytes, and second, unless that is 0, after a reopening.
func deletesOnAFullDisk(t *testing.T, bytes, first, second int64, step int) {
	disk := crashfs.New(crashfs.Options{FileLimit: 64 << 20})
	open := func(walBytes int64) *Store {
		return OpenStore(t, crashPath, &Options{FS: disk, GCInterval: -1, WALBytes: walBytes, Rand: rand.NewChaCha8([32]byte{7})})
	}
	key := func(i int) E { return FromUint64(uint64(i) * 0x9e3779b97f4a7c15) }
	s := open(first)
	disk.SetCapacity(bytes)
	batches := func(most int, do func(b *Batch, key E)) (n int) { // until the disk is full
		for n < most {
			var b Batch
			for i := range step {
				do(&b, key(n+i))
			}
			err := s.Apply(&b)
			if errors.Is(err, ErrNoSpace) {
				break
			}
			mustDo(t, err)
			n += step
		}
		return n
	}
	n := batches(math.MaxInt, func(b *Batch, key E) { b.Insert(key, E{}) })
	if second != 0 {
		mustDo(t, s.Close())
		s = open(second)
	}
	deleted := batches(n, (*Batch).Delete)
	t.Logf("%d of %d keys deleted: %+v", deleted, n, s.file.Space())
	if err := s.Checkpoint(t.Context()); err != nil {
		t.Errorf("Checkpoint: %v", err)
	}
	if deleted < n {
		t.Errorf("%d of %d keys deleted", deleted, n)
	}
	if err := s.Insert(key(0), E{}); err == nil {
		deleted--
	} else {
		t.Errorf("Insert after the deletes: %v", err)
	}
	mustDo(t, s.Close())
	s = open(first)
	if keys, _, err := s.Len(t.Context()); keys != uint64(n-deleted) || err != nil {
		t.Errorf("%d keys, %v; want %d", keys, err, n-deleted)
	}
}
