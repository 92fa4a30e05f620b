package fuzz_test

import (
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/cidstore/cidstore"
	"github.com/cidstore/cidstore/fuzz"
	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/internal/invariants"
)

// small are options that make every structure small.
var small = cidstore.Options{WALBytes: 64 << 10, SplitThreshold: 8}

func machine(t *testing.T, config fuzz.Config) *fuzz.Machine {
	t.Helper()
	m, err := fuzz.New(config)
	must(t, err)
	return m
}

func must(t rapid.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// TestChainEmptied: deleting every key of a bucket that is too full to be divided is an
// effect, though nothing is left to write.
func TestChainEmptied(t *testing.T) {
	m := machine(t, fuzz.Config{Options: small})
	var inserts, deletes []fuzz.Op
	for _, key := range m.Near {
		inserts = append(inserts, fuzz.Op{Key: key})
		deletes = append(deletes, fuzz.Op{Kind: fuzz.Delete, Key: key})
	}
	must(t, m.Apply(inserts...), m.Checkpoint(), m.Apply(deletes...), m.Checkpoint(), m.Finish())
}

// TestRefusedIsNotApplied: a batch refused for want of space is not there, however
// much space was left, also when the log was about to grow.
func TestRefusedIsNotApplied(t *testing.T) {
	const path = "db/s.h5"
	for room := int64(0); room < 64; room += invariants.Sparse {
		disk := crashfs.New(crashfs.Options{})
		o := small
		o.FS, o.GCInterval = disk, -1
		s, err := cidstore.Open(path, &o)
		must(t, err)
		model, random := make(fuzz.Model), fuzz.NewRandom(uint64(room))
		write := func(n int) error {
			var ops []fuzz.Op
			for range n {
				ops = append(ops, fuzz.Op{Key: cidstore.FromUint64(random.Uint64N(4096)), Value: cidstore.FromUint64(random.Uint64N(50))})
			}
			err := s.Apply(fuzz.BatchOf(ops))
			if err == nil {
				model.Apply(ops)
			}
			return err
		}
		for range 20 {
			must(t, write(50))
		}
		must(t, s.Close())
		o.WALBytes = 256 << 10
		s, err = cidstore.Open(path, &o)
		must(t, err)
		info, err := disk.Stat(path)
		must(t, err)
		disk.SetCapacity(info.Size + room<<12)
		for err = nil; err == nil; err = write(50) {
		}
		if !errors.Is(err, cidstore.ErrNoSpace) || errors.Is(err, cidstore.ErrPoisoned) {
			t.Fatalf("room %d: %v", room, err)
		}
		v, err := s.Snapshot()
		must(t, err)
		if err := fuzz.CompareAll(v, model); err != nil {
			t.Fatalf("room %d: %v", room, err)
		}
		must(t, v.Close())
		disk.SetCapacity(0)
		must(t, write(50), fuzz.CompareStore(s, model), s.Close())
	}
}
