package cidstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"testing"

	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/internal/errfs"
	"github.com/cidstore/cidstore/internal/invariants"
	"github.com/cidstore/cidstore/vfs"
)

// faultKinds are the calls that are made to fail, each kind in turn.
var faultKinds = []struct {
	name    string
	ops     errfs.Op
	partial int  // bytes that a failing call moves first, every other time
	full    bool // the disk can be full
	without bool // a run can do without these calls
}{
	{"open", errfs.Open, 0, true, false},
	{"stat", errfs.Stat | errfs.Info, 0, false, false},
	{"rename and remove", errfs.Rename | errfs.Remove, 0, true, false},
	{"sync dir", errfs.SyncDir, 0, false, false},
	{"write", errfs.Write, 700, true, false},
	{"write sync", errfs.WriteSync, 700, true, false},
	{"allocate and truncate", errfs.Allocate | errfs.Truncate, 0, true, false},
	{"sync", errfs.Datasync | errfs.Sync, 0, true, false},
	{"lock", errfs.TryLock | errfs.ProbeLock | errfs.Unlock, 0, false, false},
	{"map", errfs.Map, 0, false, true},   // so does it here
	{"view", errfs.View, 0, false, true}, // ReadAt serves instead
	{"close", errfs.Close, 0, false, false},
	{"read", errfs.Read, 100, false, false},
}

// TestFaultEachCall makes every call of a run to the file system fail, once or from
// then on, with an I/O error or for lack of space. The run succeeds, or returns an error
// that has the cause; then, on a disk that works again, the store opens and has what was
// acknowledged, and all or nothing of each other batch.
func TestFaultEachCall(t *testing.T) {
	seed := crashSeed(t)
	for _, k := range faultKinds {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			calls := countCalls(t, seed, k.ops)
			step := campaign(max(1, calls/12*invariants.Sparse), 1)
			runs, told := 0, 0
			for nth := 1 + int(seed)%step; nth <= calls; nth += step {
				for variant := range 4 {
					rule := errfs.Rule{Ops: k.ops, Nth: nth, Forever: variant%2 == 1, Partial: k.partial * (nth % 2)}
					if variant >= 2 {
						if !k.full {
							continue
						}
						rule.Err = vfs.ErrNoSpace
					}
					stop := watchdog(fmt.Sprintf("%s call %d failed (%+v): the run", k.name, nth, rule), hangLimit)
					failed, err := failOneCall(t, seed, rule)
					stop()
					mustAt(t, err, "call", nth, "of", calls, rule)
					runs++
					if failed {
						told++
					}
				}
			}
			t.Logf("%d calls, %d runs, of which %d ended in an error", calls, runs, told)
			if runs == 0 || told == 0 && !k.without && invariants.Sparse == 1 {
				t.Fatal("nothing failed")
			}
		})
	}
}

// failOneCall runs work with one rule, and reports whether it ended in an error.
func failOneCall(t *testing.T, seed uint64, rule errfs.Rule) (failed bool, err error) {
	c := newScenario(t, seed, noQuarantine)
	defer c.fs.Release()
	disk := errfs.New(c.fs)
	fault := disk.Add(rule)
	cause := rule.Err
	if cause == nil {
		cause = errfs.ErrIO
	}
	worked := c.work(disk)
	if fault.Failed() == 0 {
		return false, errors.New("no call failed")
	}
	if worked != nil && !errors.Is(worked, cause) {
		return true, fmt.Errorf("the error does not have its cause: %w", worked)
	}
	if c.store != nil {
		if p, err := printOf(c.store); err != nil && !errors.Is(err, cause) {
			return true, fmt.Errorf("read: %w", err)
		} else if err == nil && p != c.prints[c.acked] && p != c.prints[len(c.batches)] {
			return true, fmt.Errorf("read: %d pairs", p.pairs)
		}
	}
	c.abandon()
	disk.Clear()
	if _, err := c.fs.Stat(crashPath); errors.Is(err, fs.ErrNotExist) && c.acked > 0 {
		return true, errors.New("the store is gone")
	}
	if err := c.backupIsWhole(); err != nil {
		return true, err
	}
	// Opened past the failing file system: a lock that was left would show.
	if err := c.recovered(c.fs, c.acked, len(c.batches), true); err != nil {
		return true, fmt.Errorf("after %v: on a disk that is well again: %w", worked, err)
	}
	return worked != nil, nil
}

// backupIsWhole opens the copy that work makes, if it has its name.
func (c *scenario) backupIsWhole() error {
	if _, err := c.fs.Stat(backupPath); err != nil {
		if c.copied {
			return fmt.Errorf("the backup is gone: %w", err)
		}
		return nil
	}
	s, err := Open(backupPath, c.options(c.fs))
	if err != nil {
		return err
	}
	p, err := printOf(s)
	if err == nil && !slices.Contains(c.prints, p) {
		err = fmt.Errorf("the backup has %d pairs", p.pairs)
	}
	if err == nil {
		_, err = s.Check(context.Background())
	}
	return errors.Join(err, s.Close())
}

// TestFaultReaders makes every call of a read-only store fail: what it returns is right or
// an error, and the file is not changed.
func TestFaultReaders(t *testing.T) {
	c := newScenario(t, crashSeed(t), noQuarantine)
	c.open()
	for range 30 {
		c.apply(c.randomOps()...)
	}
	mustDo(t, c.store.Checkpoint(context.Background()))
	for range 3 {
		c.apply(c.randomOps()...)
	}
	want := c.model.print()
	disk := errfs.New(c.fs)
	read := func() error { return readAllOf(c.options(disk), want) }
	count := disk.Add(errfs.Rule{})
	mustDo(t, read())
	calls := count.Matched()
	step := campaign(1+calls/60*invariants.Sparse, 1)
	failures, before := 0, contentOf(t, c.fs, crashPath)
	for nth := 1; nth <= calls; nth += step {
		for _, forever := range []bool{false, true} {
			disk.Clear()
			disk.Add(errfs.Rule{Nth: nth, Forever: forever, Partial: 50})
			stop := watchdog(fmt.Sprintf("call %d of a reader failed: it", nth), hangLimit)
			err := read()
			stop()
			if err != nil && !errors.Is(err, errfs.ErrIO) {
				t.Fatalf("call %d of %d: %v", nth, calls, err)
			}
			if err != nil {
				failures++
			}
		}
	}
	if !bytes.Equal(before, contentOf(t, c.fs, crashPath)) {
		t.Fatal("a reader changed the file")
	}
	t.Logf("%d calls, %d errors", calls, failures)
	if failures == 0 {
		t.Fatal("nothing failed")
	}
	disk.Clear()
	mustAt(t, read(), "on a disk that is well again")
	c.close()
}

// readAllOf reads a store that must have the pairs of want, in every way that a reader has.
func readAllOf(o *Options, want print) error {
	o.ReadOnly = true
	s, err := Open(crashPath, o)
	if err != nil {
		return err
	}
	defer s.Close()
	for range 2 {
		if p, err := printOf(s); err != nil || p != want {
			return fmt.Errorf("%d pairs, want %d: %w", p.pairs, want.pairs, err)
		}
		if err := s.Refresh(); err != nil {
			return fmt.Errorf("refresh: %w", err)
		}
	}
	if _, err := s.Space(); err != nil {
		return err
	}
	_, err = s.Check(context.Background())
	return err
}

// TestFaultGrowth: a file that cannot grow for another reason than a full disk
// poisons the store, not its file alone: no later write is taken, and no delete
// passes for one that a full disk has room for.
func TestFaultGrowth(t *testing.T) {
	for name, write := range map[string]func(*Batch, E){
		"inserts": func(b *Batch, k E) { b.Insert(k, E{}) },
		"deletes": (*Batch).Delete,
	} {
		for _, durability := range []Durability{Sync, Async} {
			t.Run(fmt.Sprint(name, durability), func(t *testing.T) {
				disk := errfs.New(crashfs.New(crashfs.Options{FileLimit: 8 << 20}))
				o := smallOptions(disk)
				o.Durability, o.WALBytes = durability, 1<<20
				s := mustGet(Open(crashPath, o))(t)
				fault := disk.Add(errfs.Rule{Ops: errfs.Allocate, Nth: 3})
				var err error
				for i := uint64(0); err == nil && fault.Failed() == 0; {
					var b Batch // larger than what the writes before it have had covered
					for range 300 {
						write(&b, FromUint64(i))
						i++
					}
					err = s.Apply(&b)
				}
				if !errors.Is(err, ErrPoisoned) || !errors.Is(err, errfs.ErrIO) {
					t.Errorf("the write that needed the growth: %v", err)
				}
				wantErr(t, s.Delete(E{}), ErrPoisoned, "Delete afterwards")
				wantErr(t, s.Close(), ErrPoisoned, "Close")
			})
		}
	}
}
