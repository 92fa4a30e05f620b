package cidstore

import (
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"slices"
	"testing"

	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/internal/invariants"
)

// Marks of TestCrashBackup: what has begun, and what has returned.
type copying string

const (
	backupBegun  copying = "backup begun"
	backupDone   copying = "backup done"
	restoreBegun copying = "restore begun"
	restoreDone  copying = "restore done"
)

const batchesCopied = 12 // batches in the copy

// TestCrashBackup cuts the power at every call of a backup of a store in use, and of
// a restore over a store that has gone on: each file is complete, the old one or the new
// one, and a backup that was acknowledged stays.
func TestCrashBackup(t *testing.T) { crashBackup(t, nil) }

// TestCrashCompactBackup is TestCrashBackup with a compact copy.
func TestCrashCompactBackup(t *testing.T) { crashBackup(t, &BackupOptions{Compact: true}) }

func crashBackup(t *testing.T, o *BackupOptions) {
	crashCopy(t, backupPath, func(*scenario) {},
		func(c *scenario) error { return c.store.BackupWith(c.t.Context(), backupPath, o) },
		func(c *scenario) error { return RestoreWith(c.t.Context(), backupPath, crashPath, c.options(c.fs)) },
		func(c *scenario, disk *crashfs.FS) error { return c.holds(disk, backupPath, batchesCopied) })
}

// TestCrashIncrement is TestCrashBackup with an increment, since a full backup and
// another one, and a restore of all three.
func TestCrashIncrement(t *testing.T) {
	since := []string{backupPath, incrementPath(0)}
	all := append(slices.Clone(since), incrementPath(1))
	crashCopy(t, incrementPath(1), func(c *scenario) {
		c.some()
		c.backUpSeries(c.some)
	}, func(c *scenario) error {
		return c.store.BackupWith(c.t.Context(), incrementPath(1), &BackupOptions{Since: since})
	}, func(c *scenario) error {
		return RestoreSeries(c.t.Context(), all, crashPath, c.options(c.fs), nil)
	}, func(c *scenario, disk *crashfs.FS) error { return c.restores(disk, all, c.prints[batchesCopied]) })
}

// crashCopy cuts the power at every call of backUp, which makes path, and of restore,
// and lets whole judge what is at path.
func crashCopy(t *testing.T, path string, prepare func(*scenario), backUp, restore func(*scenario) error, whole func(*scenario, *crashfs.FS) error) {
	t.Parallel()
	seed := crashSeed(t)
	c := newScenario(t, seed, noQuarantine)
	c.open()
	prepare(c)
	for len(c.batches) < batchesCopied {
		c.apply(c.randomOps()...)
	}
	trace := c.fs.Record()
	c.fs.Mark(issued(batchesCopied - 1))
	c.fs.Mark(acked(batchesCopied - 1))
	c.fs.Mark(backupBegun)
	c.do(func() error { return backUp(c) })
	c.fs.Mark(backupDone)
	for range 5 {
		c.apply(c.randomOps()...)
	}
	c.close()
	c.fs.Mark(restoreBegun)
	c.do(func() error { return restore(c) })
	c.fs.Mark(restoreDone)
	trace.Stop()

	images, perCut := 0, campaign(3, 24)
	e := trace.Enumerate(crashfs.Plan{Seed: seed, PerCut: perCut, Shards: invariants.Sparse})
	for image := range e.Images() {
		images++
		mustAt(t, c.copiesSurvive(image, path, whole), image)
	}
	t.Logf("%d images, %d calls", images, trace.Len())
}

// copiesSurvive holds both files of an image against the marks.
func (c *scenario) copiesSurvive(image *crashfs.Image, path string, whole func(*scenario, *crashfs.FS) error) error {
	marks := map[any]bool{}
	for _, m := range image.Marks {
		marks[m] = true
	}
	disk := image.FS()
	if _, err := disk.Stat(path); err == nil {
		if !marks[backupBegun] {
			return errors.New("a backup before there was one")
		}
		if err := whole(c, disk); err != nil {
			return fmt.Errorf("backup: %w", err)
		}
	} else if marks[backupDone] || !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("backup: %w", err)
	}
	ack, issue := window(image.Marks)
	switch restored := c.holds(disk, crashPath, batchesCopied); {
	case marks[restoreDone]:
		return restored
	case marks[restoreBegun] && restored == nil:
		return nil
	case ack < batchesCopied: // the trace begins with the backup
		ack, issue = batchesCopied, max(issue, batchesCopied)
	}
	return c.recovered(disk, ack, issue, true)
}

// holds opens the store at path and wants so many batches in it. It looks at what the store
// holds only once for equal bytes.
func (c *scenario) holds(disk *crashfs.FS, path string, batches int) error {
	s, err := Open(path, readOnly(c.options(disk)))
	if err != nil {
		return err
	}
	content, err := bytesAt(disk, path)
	file := heldFile{maphash.Bytes(heldSeed, content), batches}
	if err == nil && !c.held[file] {
		_, err = c.stateOf(s, batches, batches)
	}
	if err = errors.Join(err, s.Close()); err == nil {
		c.held[file] = true
	}
	return err
}

// heldFile is the content of a file, and the number of batches that it holds.
type heldFile struct {
	hash    uint64
	batches int
}

var heldSeed = maphash.MakeSeed()
