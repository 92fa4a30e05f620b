package cidstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/cidstore/cidstore"
	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/internal/errfs"
	"github.com/cidstore/cidstore/internal/invariants"
	"github.com/cidstore/cidstore/internal/oracle"
	"github.com/cidstore/cidstore/vfs"
)

// loss is a way in which somebody takes the file from a writer.
type loss struct {
	name string
	take func(t *testing.T, path string)
	want error
}

var losses = []loss{
	{"cut to nothing", func(t *testing.T, path string) { must(t, os.Truncate(path, 0)) }, cidstore.ErrTruncated},
	{"cut to its slots", func(t *testing.T, path string) { must(t, os.Truncate(path, 12288)) }, cidstore.ErrTruncated},
	{"the last byte cut", func(t *testing.T, path string) {
		must(t, os.Truncate(path, mustGet(os.Stat(path))(t).Size()-1))
	}, cidstore.ErrTruncated},
	{"written over by a shorter file", func(t *testing.T, path string) {
		must(t, os.WriteFile(path, make([]byte, 30000), 0o666))
	}, cidstore.ErrTruncated},
	{"another renamed over it", func(t *testing.T, path string) {
		must(t, os.WriteFile(path+".other", make([]byte, 100<<20), 0o666), os.Rename(path+".other", path))
	}, cidstore.ErrReplaced},
	{"unlinked", func(t *testing.T, path string) { must(t, os.Remove(path)) }, cidstore.ErrReplaced},
	{"its directory removed", func(t *testing.T, path string) { must(t, os.RemoveAll(filepath.Dir(path))) }, cidstore.ErrReplaced},
	{"h5py with mode w", func(t *testing.T, path string) {
		python := oracle.H5py(t)
		out, err := exec.Command(python, "-c", "import h5py,sys\nh5py.File(sys.argv[1], 'w')", path).CombinedOutput()
		if err == nil {
			t.Fatalf("h5py has opened a locked file for writing: %s", out)
		}
	}, cidstore.ErrTruncated},
}

// TestNothingIsAcknowledgedOfALostFile: the first write after the loss fails, with
// its cause, and so does every later one; the store writes no byte more.
func TestNothingIsAcknowledgedOfALostFile(t *testing.T) {
	for _, l := range losses {
		for _, c := range []struct {
			name   string
			async  bool
			writes int // before the loss: the log is small, or has grown
		}{{"sync, small log", false, 0}, {"sync, grown log", false, 5}, {"async", true, 5}} {
			t.Run(l.name+", "+c.name, func(t *testing.T) {
				o := &cidstore.Options{GCInterval: -1}
				s, path := fresh(t, o)
				must(t, s.Close())
				if c.async {
					o.Durability = cidstore.Async
				}
				s = open(t, path, o)
				for i := range c.writes {
					must(t, s.Insert(cidstore.E{}, cidstore.FromUint64(uint64(i))))
				}
				must(t, s.Sync())
				l.take(t, path)
				cidstore.Unchecked(t, path, "it is lost")
				err := s.Insert(cidstore.E{}, cidstore.FromUint64(100))
				if c.async && err == nil {
					err = s.Sync()
				}
				lost := func(what string, err error) {
					t.Helper()
					if !errors.Is(err, l.want) || !errors.Is(err, cidstore.ErrPoisoned) {
						t.Errorf("%s: %v, want %v", what, err, l.want)
					}
				}
				lost("write", err)
				before, _ := os.ReadFile(path)
				lost("second write", s.Insert(cidstore.E{}, cidstore.FromUint64(101)))
				lost("Checkpoint", s.Checkpoint(context.Background()))
				lost("Close", s.Close())
				if after, _ := os.ReadFile(path); string(after) != string(before) {
					t.Errorf("the store has written to the file that it had lost: %d bytes, were %d", len(after), len(before))
				}
			})
		}
	}
}

// TestCloseOfALostFile: Close finds the loss if no write has, says so, and writes nothing.
func TestCloseOfALostFile(t *testing.T) {
	for _, l := range losses {
		t.Run(l.name, func(t *testing.T) {
			s, path := fresh(t, nil)
			must(t, s.Insert(cidstore.E{}, cidstore.E{}))
			l.take(t, path)
			cidstore.Unchecked(t, path, "it is lost")
			before, _ := os.ReadFile(path)
			wantErr(t, s.Close(), l.want, "Close")
			if after, _ := os.ReadFile(path); string(after) != string(before) {
				t.Errorf("Close has written to the file: %d bytes, were %d", len(after), len(before))
			}
		})
	}
}

// TestAnotherFileWrittenOverIt: a longer file that was copied over the store is not
// changed by it: the next checkpoint, and Close, find that it is another.
func TestAnotherFileWrittenOverIt(t *testing.T) {
	for _, checkpoint := range []bool{false, true} {
		s, path := fresh(t, nil)
		cidstore.Unchecked(t, path, "another file is written over it")
		must(t, s.Insert(cidstore.E{}, cidstore.E{}))
		other := make([]byte, 32<<20)
		must(t, os.WriteFile(path, other, 0o666))
		if checkpoint {
			if err := s.Checkpoint(context.Background()); !errors.Is(err, cidstore.ErrForeignEdit) && !errors.Is(err, cidstore.ErrCorrupt) {
				t.Errorf("Checkpoint: %v", err)
			}
		}
		if err := s.Close(); err == nil {
			t.Error("Close of a file that is another: nil")
		}
		now := mustGet(os.ReadFile(path))(t)
		if changed := bytes.Compare(now[:12288], other[:12288]); changed != 0 {
			t.Errorf("checkpoint %t: superblock or slots were written to the other file", checkpoint)
		}
	}
}

// TestCutDuringAGroupCommit: the file is cut short between the look at it and the
// acknowledgement.
func TestCutDuringAGroupCommit(t *testing.T) {
	hooks := &errfs.Hooks{}
	cidstore.Unchecked(t, "s.h5", "it is cut short")
	s := open(t, "s.h5", &cidstore.Options{FS: hooks.On(crashfs.New(crashfs.Options{})), GCInterval: -1})
	must(t, s.Insert(cidstore.E{}, cidstore.E{}))
	hooks.Synced = func(f vfs.File, _ int64) { hooks.Synced = nil; must(t, f.Truncate(20000)) }
	wantErr(t, s.Insert(cidstore.E{}, cidstore.E{Low: 1}), cidstore.ErrTruncated, "Insert")
	if ok, err := s.Has(cidstore.E{}, cidstore.E{Low: 1}); ok {
		t.Errorf("what was not acknowledged is shown: %v", err)
	}
	wantErr(t, s.Close(), cidstore.ErrTruncated, "Close")
}

// TestLostAfterEachSync: after whichever sync of a life the file is taken, the store writes
// neither a slot nor a superblock to it, and does not make it longer or shorter.
func TestLostAfterEachSync(t *testing.T) {
	const size = 24 << 20
	for name, take := range map[string]func(f vfs.File) error{
		"cut to nothing": func(f vfs.File) error { return f.Truncate(0) },
		"another written over it": func(f vfs.File) error {
			return errors.Join(f.Truncate(0), f.WriteAt([]byte("another file"), 0), f.Truncate(size))
		},
	} {
		syncs := 0
		for nth, taken := 1, true; taken; nth += invariants.Sparse {
			hooks, disk := &errfs.Hooks{}, crashfs.New(crashfs.Options{FileLimit: size})
			cidstore.Unchecked(t, "s.h5", "it is lost")
			s := open(t, "s.h5", &cidstore.Options{FS: hooks.On(disk), GCInterval: -1})
			must(t, s.Apply(batchOf(0, 3000)))
			var now []byte
			syncs, taken = 0, false
			hooks.Synced = func(f vfs.File, _ int64) {
				if syncs++; syncs == nth {
					taken = true
					must(t, take(f))
					now = head(t, disk)
				}
			}
			err := errors.Join(s.Checkpoint(context.Background()), s.Apply(batchOf(3000, 1000)), s.Close())
			if after := head(t, disk); taken && !bytes.Equal(after, now) {
				t.Errorf("%s after sync %d: the file has another head or length; %v", name, nth, err)
			}
			if !taken {
				must(t, err)
			}
		}
		if syncs < 10 {
			t.Errorf("%s: %d syncs", name, syncs)
		}
	}
}

// head returns the superblock, the slots and the length of s.h5.
func head(t *testing.T, disk vfs.FS) []byte {
	t.Helper()
	f := mustGet(disk.OpenFile("s.h5", os.O_RDONLY, 0))(t)
	defer f.Close()
	p := make([]byte, 12288)
	n, _ := f.ReadAt(p, 0)
	return fmt.Appendf(p[:n], "%d bytes", mustGet(f.Info())(t).Size)
}

// TestCutAtEachMoment: the file is cut to nothing after a look at it or a sync, or before it
// grows, each in turn, and the writer goes on to read a mapping of nothing. The process
// lives, and no later write is acknowledged.
func TestCutAtEachMoment(t *testing.T) {
	const keys = 200
	moments := 0
	for nth, cut := 1, true; cut; nth += invariants.Sparse {
		hooks, o := &errfs.Hooks{}, &cidstore.Options{GCInterval: -1, SplitThreshold: 8}
		cidstore.SetSmallGrowth(o)
		o.FS = hooks.On(vfs.OS())
		s, path := fresh(t, o)
		cidstore.Unchecked(t, path, "it is cut short")
		must(t, s.Apply(batchOf(0, keys)), s.Checkpoint(t.Context()), s.Apply(cidstore.InsertsOf(0, 30, 6)))
		moments, cut = 0, false
		moment := func() {
			if moments++; moments == nth {
				cut = true
				must(t, os.Truncate(path, 0))
			}
		}
		hooks.Shaped, hooks.Grows, hooks.Synced = moment, moment, func(vfs.File, int64) { moment() }
		for i, do := range []func() error{
			func() error { return s.Checkpoint(t.Context()) },
			func() error { return s.Apply(batchOf(keys, 20)) },
			func() error { return s.Checkpoint(t.Context()) },      // they wait in a run
			func() error { return s.Apply(batchOf(2*keys, 2500)) }, // the file grows
			func() error { return s.DeleteValue(cidstore.FromUint64(3), cidstore.FromUint64(2)) },
			s.Close,
		} {
			before := cut
			for k := range uint64(keys) { // so that what is read next is verified already
				_, _ = s.Has(cidstore.FromUint64(k), cidstore.E{})
			}
			err := do()
			lost := errors.Is(err, cidstore.ErrTruncated) || errors.Is(err, cidstore.ErrForeignEdit) // the latter where it is long again
			if (before || err != nil) && !(lost && errors.Is(err, cidstore.ErrPoisoned)) || err != nil && !cut {
				t.Errorf("cut at moment %d: call %d: %v", nth, i, err)
			}
		}
	}
	if moments < 20 {
		t.Errorf("%d moments", moments)
	}
}

// TestRefreshOfACutFile: a reader learns that its file was cut short, wherever.
func TestRefreshOfACutFile(t *testing.T) {
	for _, noMmap := range []bool{false, true} {
		for _, left := range []int64{0, 5000, 12288, 1 << 20} {
			path := smallFile(t, 3000)
			r := open(t, path, &cidstore.Options{NoMmap: noMmap, ReadOnly: true})
			cidstore.Unchecked(t, path, "it is cut short")
			must(t, os.Truncate(path, min(left, mustGet(os.Stat(path))(t).Size()-1)))
			wantErr(t, r.Refresh(), cidstore.ErrTruncated, "Refresh", left)
		}
	}
}

// TestGrowthDuringAGroupCommit: a checkpoint that makes the file longer between the
// look at it and the comparison does not make it look cut.
func TestGrowthDuringAGroupCommit(t *testing.T) {
	hooks := &errfs.Hooks{}
	s := open(t, "s.h5", &cidstore.Options{FS: hooks.On(crashfs.New(crashfs.Options{FileLimit: 64 << 20})), GCInterval: -1})
	must(t, s.Insert(cidstore.E{}, cidstore.E{}))
	before := s.Metrics().FileBytes
	hooks.Shaped = func() { hooks.Shaped = nil; must(t, cidstore.Reserve(s, 32<<20)) }
	must(t, s.Insert(cidstore.E{}, cidstore.E{Low: 1}))
	if after := s.Metrics().FileBytes; after <= before {
		t.Fatalf("%d bytes, were %d: the file did not grow", after, before)
	}
}

// TestWhatIsNoLoss: a further name, another name, or a longer file stops no write before the
// next checkpoint.
func TestWhatIsNoLoss(t *testing.T) {
	for name, do := range map[string]func(path string) error{
		"linked":   func(path string) error { return os.Link(path, path+".link") },
		"extended": func(path string) error { return os.Truncate(path, 64<<20) },
		"touched":  func(path string) error { return os.Chmod(path, 0o600) },
		"renamed there and back": func(path string) error {
			return errors.Join(os.Rename(path, path+".moved"), os.Rename(path+".moved", path))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, path := fresh(t, nil)
			must(t, s.Insert(cidstore.E{}, cidstore.E{}), do(path))
			for i := range uint64(10) {
				must(t, s.Insert(cidstore.E{}, cidstore.E{Low: i}))
			}
			must(t, s.Checkpoint(context.Background()), s.Close())
			s = open(t, path, nil)
			wantIs(t, 10, "values")(s.Count(cidstore.E{}))
			mustBeWhole(t, s)
		})
	}
}

// TestReplacedWhileOpen: the store stops at the next checkpoint, and the file that
// it has open, by whatever name that still is, has all that was acknowledged.
func TestReplacedWhileOpen(t *testing.T) {
	for name, replace := range map[string]func(path string) error{
		"unlinked": os.Remove,
		"replaced": func(path string) error {
			if err := os.WriteFile(path+".other", []byte("other"), 0o666); err != nil {
				return err
			}
			return os.Rename(path+".other", path)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, path := fresh(t, nil)
			cidstore.Unchecked(t, path, "another may lie there")
			kept := path + ".kept"
			must(t, os.Link(path, kept), s.Insert(cidstore.FromUint64(1), cidstore.FromUint64(2)), replace(path))
			must(t, s.Insert(cidstore.FromUint64(1), cidstore.FromUint64(3)))
			wantErr(t, s.Checkpoint(context.Background()), cidstore.ErrReplaced, "Checkpoint")
			if err := s.Insert(cidstore.FromUint64(1), cidstore.E{}); !errors.Is(err, cidstore.ErrReplaced) || !errors.Is(err, cidstore.ErrPoisoned) {
				t.Errorf("Insert: %v", err)
			}
			wantIs(t, 2, "Count")(s.Count(cidstore.FromUint64(1)))
			wantErr(t, s.Close(), cidstore.ErrReplaced, "Close")
			if name == "replaced" {
				if p, err := os.ReadFile(path); err != nil || string(p) != "other" {
					t.Errorf("the other file: %q, %v", p, err)
				}
			}
			s = open(t, kept, nil)
			defer s.Close()
			wantIs(t, 2, "by its other name")(s.Count(cidstore.FromUint64(1)))
			mustBeWhole(t, s)
		})
	}
}

// TestReplacedBeforeClose: Close finds that the file was replaced, and says so.
func TestReplacedBeforeClose(t *testing.T) {
	s, path := fresh(t, nil)
	must(t, s.Insert(cidstore.E{}, cidstore.E{}), os.Remove(path))
	wantErr(t, s.Close(), cidstore.ErrReplaced, "Close")
}

// TestCutShortWhileOpen: the file is truncated under the mapping. Reads are ErrIO,
// the process lives, and pending operations still serve.
func TestCutShortWhileOpen(t *testing.T) {
	for _, noMmap := range []bool{false, true} {
		for _, readOnly := range []bool{false, true} {
			path := smallFile(t, 3000)
			s := open(t, path, &cidstore.Options{NoMmap: noMmap, ReadOnly: readOnly, GCInterval: -1})
			cidstore.Unchecked(t, path, "it is cut short")
			must(t, os.Truncate(path, 12288))
			failed := 0
			for i := range uint64(3000) {
				got, err := s.Lookup(cidstore.FromUint64(i))
				switch {
				case errors.Is(err, cidstore.ErrIO):
					failed++
				case err != nil:
					t.Fatalf("no mapping %v: %v", noMmap, err)
				case len(got) != 1 || got[0] != cidstore.FromUint64(i+1):
					t.Fatalf("no mapping %v: key %d: %v", noMmap, i, got)
				}
			}
			if failed == 0 {
				t.Errorf("no mapping %v: nothing was read from the file", noMmap)
			}
			v := mustGet(s.Snapshot())(t)
			for range v.All() {
			}
			wantErr(t, v.Err(), cidstore.ErrIO, "All")
			if _, err := s.Check(context.Background()); err == nil {
				t.Error("Check finds nothing")
			}
			_ = s.Close() // it cannot put right what is gone; that it returns is what counts
		}
	}
}
