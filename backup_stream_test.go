package cidstore

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/internal/errfs"
	"github.com/cidstore/cidstore/internal/invariants"
	"github.com/cidstore/cidstore/vfs"
)

// streamed makes a store, a backup of it as a stream, and then some more batches. It
// returns the stream and what is in it; the store is closed.
func (c *scenario) streamed() ([]byte, print) {
	c.t.Helper()
	c.open()
	c.some()
	var full bytes.Buffer
	c.do(func() error { return c.store.BackupTo(c.t.Context(), &full, nil) })
	held := c.model.print()
	c.some()
	c.close()
	return full.Bytes(), held
}

// keeps wants a restore of r to fail with an error, and the store to stay as it is.
func (c *scenario) keeps(ctx context.Context, disk vfs.FS, r io.Reader, want error, when ...any) {
	c.t.Helper()
	before := contentOf(c.t, c.fs, crashPath)
	wantErr(c.t, RestoreFrom(ctx, r, crashPath, c.options(disk), nil), want, when...)
	stays(c.t, c.fs, crashPath, before, when...)
	absent(c.t, c.fs, temporaryName(crashPath), when...)
}

// TestRestoreFrom restores a stream, in pieces of any size, to a new store and over another.
func TestRestoreFrom(t *testing.T) {
	c := newScenario(t, 11, noQuarantine)
	p, held := c.streamed()
	var last, total int64
	tell := func(done, of int64) {
		if done < last || of < done {
			t.Errorf("%d of %d after %d", done, of, last)
		}
		last, total = done, of
	}
	for path, r := range map[string]io.Reader{restoredPath: iotest.HalfReader(bytes.NewReader(p)), crashPath: iotest.DataErrReader(bytes.NewReader(p))} {
		last = 0
		mustAt(t, RestoreFrom(t.Context(), r, path, c.options(c.fs), tell), path)
		if last != total || total == 0 || total > int64(len(p)) {
			t.Errorf("%s: progress ended at %d of %d, the stream has %d bytes", path, last, total, len(p))
		}
		s := OpenStore(t, path, c.options(c.fs))
		mustDo(t, has(s, held), s.Close())
	}
}

// TestRestoreFromDamaged: a stream that is cut, flipped, no backup, or fails leaves the
// target as it was; so do a target that is open, a full disk, and a context that is done.
func TestRestoreFromDamaged(t *testing.T) {
	c := newScenario(t, 12, noQuarantine)
	p, _ := c.streamed()
	cuts := []int{0, 1, hdf5io.HeadSize - 1, hdf5io.HeadSize, hdf5io.HeadSize + 1, pieceBytes, pieceBytes + hdf5io.HeadSize}
	for i := range 20 / invariants.Sparse {
		cuts = append(cuts, len(p)*i/20)
	}
	for _, n := range cuts {
		if n < len(p) {
			c.keeps(t.Context(), c.fs, bytes.NewReader(p[:n]), ErrTruncated, "cut after", n, "bytes")
		}
	}
	flipped := bytes.Clone(p)
	for at := hdf5io.HeadSize; at < len(p); at += 64 { // a bit of everything that is not free
		flipped[at] ^= 16
	}
	increment := append([]byte(incrementMagic), p...)
	for name, s := range map[string]struct {
		r    io.Reader
		want error
	}{
		"flipped":       {bytes.NewReader(flipped), ErrCorrupt},
		"increment":     {bytes.NewReader(increment), ErrBackupSeries},
		"text":          {bytes.NewReader(bytes.Repeat([]byte("dog\tpuppy\n"), 5000)), ErrNotCIDStore},
		"endless zeros": {endless{}, ErrNotCIDStore},
		"fails":         {io.MultiReader(bytes.NewReader(p[:40000]), iotest.ErrReader(io.ErrClosedPipe)), ErrIO},
	} {
		c.keeps(t.Context(), c.fs, s.r, s.want, name)
	}
	ctx, cancel := context.WithCancel(t.Context())
	c.keeps(ctx, c.fs, io.MultiReader(bytes.NewReader(p[:40000]), calls(cancel), bytes.NewReader(p[40000:])), context.Canceled, "cancelled")
	for _, place := range placements {
		c.keeps(t.Context(), pinned(c.fs, place.rule), bytes.NewReader(p), place.rule.Err, place.name)
	}
	c.open()
	wantErr(t, RestoreFrom(t.Context(), bytes.NewReader(p), crashPath, c.options(c.fs), nil), ErrLocked, "open")
	c.close()
	c.fs.SetCapacity(usedBy(t, c.fs, crashPath) + 64<<10)
	c.keeps(t.Context(), c.fs, bytes.NewReader(p), ErrNoSpace, "full disk")
}

// endless is a stream of zeros without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// calls is an empty reader that calls a function when it is read.
type calls func()

func (c calls) Read([]byte) (int, error) { c(); return 0, io.EOF }

// TestFaultRestoreFrom lets each call that changes or syncs something fail once while a
// stream is restored: the error is returned, and the target is as it was, or is restored.
func TestFaultRestoreFrom(t *testing.T) {
	c := newScenario(t, 13, noQuarantine)
	p, held := c.streamed()
	step := campaign(5, 1)
	before := contentOf(t, c.fs, crashPath)
	for nth := 1; ; nth += step {
		disk := c.fs.Copy()
		faulty := errfs.New(disk)
		fault := faulty.Add(errfs.Rule{Ops: errfs.Changes | errfs.Syncs | errfs.Read, Nth: nth, Partial: 100})
		err := RestoreFrom(t.Context(), bytes.NewReader(p), crashPath, c.options(faulty), nil)
		if fault.Failed() == 0 {
			if err != nil || nth < 4 {
				t.Fatalf("nothing failed after %d calls: %v", nth-1, err)
			}
			return
		}
		if err != nil && !errors.Is(err, errfs.ErrIO) {
			t.Fatalf("call %d failed: %v", nth, err)
		}
		if !bytes.Equal(contentOf(t, disk, crashPath), before) {
			mustAt(t, holdsPairs(disk, crashPath, held), "call", nth, "failed")
		}
	}
}

// TestCrashRestoreFrom is TestCrashBackup with a stream.
func TestCrashRestoreFrom(t *testing.T) {
	var stream bytes.Buffer
	crashCopy(t, backupPath, func(*scenario) {}, func(c *scenario) error {
		stream.Reset()
		if err := c.store.BackupTo(c.t.Context(), &stream, nil); err != nil {
			return err
		}
		return RestoreFrom(c.t.Context(), bytes.NewReader(stream.Bytes()), backupPath, c.options(c.fs), nil)
	}, func(c *scenario) error {
		return RestoreFrom(c.t.Context(), bytes.NewReader(stream.Bytes()), crashPath, c.options(c.fs), nil)
	}, func(c *scenario, disk *crashfs.FS) error { return c.holds(disk, backupPath, batchesCopied) })
}

// TestRestoreFromNotInPlace: a stream cannot be read twice, so where no file can be
// renamed to the store it says so, and the store stays as it was.
func TestRestoreFromNotInPlace(t *testing.T) {
	c := newScenario(t, 13, noQuarantine)
	p, _ := c.streamed()
	for _, place := range placements {
		t.Run(place.name, func(t *testing.T) {
			disk := pinned(c.fs, place.rule)
			c.keeps(t.Context(), disk, bytes.NewReader(p), place.rule.Err)
			err := RestoreFrom(t.Context(), bytes.NewReader(p), crashPath, c.options(disk), nil)
			wantSays(t, err, nil, "keep the backup in a file, and restore that")
			err = RestoreFrom(t.Context(), bytes.NewReader(p), restoredPath, c.options(disk), nil)
			if !errors.Is(err, place.rule.Err) || strings.Contains(err.Error(), "keep the backup in a file") {
				t.Errorf("a new store: %v", err)
			}
			absent(t, c.fs, restoredPath)
		})
	}
}

// TestVerifyTellsProgress: VerifyBackup reports its progress, for a full backup too.
func TestVerifyTellsProgress(t *testing.T) {
	c := newScenario(t, 14, noQuarantine)
	paths := c.series(1)
	for _, series := range [][]string{paths[:1], paths} {
		calls, last, whole := 0, int64(0), int64(0)
		err := VerifyBackup(t.Context(), series, c.options(c.fs), func(done, total int64) {
			if calls++; done < last || done > total {
				t.Errorf("%d of %d after %d", done, total, last)
			}
			last, whole = done, total
		})
		if err != nil || calls == 0 || last != whole || whole == 0 {
			t.Errorf("%v: %d calls, the last %d of %d: %v", series, calls, last, whole, err)
		}
	}
}
