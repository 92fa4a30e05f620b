package cidstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"github.com/cidstore/cidstore/internal/crashfs"
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
// a restore over a store that has gone on: each file is there as it was or as it
// is to be, whole, and a backup that was acknowledged stays.
func TestCrashBackup(t *testing.T) {
	seed := crashSeed(t)
	c := newScenario(t, seed, noQuarantine)
	c.open()
	for range batchesCopied {
		c.apply(c.randomOps()...)
	}
	trace := c.fs.Record()
	c.fs.Mark(issued(batchesCopied - 1))
	c.fs.Mark(acked(batchesCopied - 1))
	c.fs.Mark(backupBegun)
	if err := c.store.Backup(context.Background(), backupPath); err != nil {
		t.Fatal(err)
	}
	c.fs.Mark(backupDone)
	for range 5 {
		c.apply(c.randomOps()...)
	}
	c.close()
	c.fs.Mark(restoreBegun)
	if err := RestoreWith(context.Background(), backupPath, crashPath, c.options(c.fs)); err != nil {
		t.Fatal(err)
	}
	c.fs.Mark(restoreDone)
	trace.Stop()

	images, perCut := 0, 24
	if shortCampaign() {
		perCut = 3
	}
	e := trace.Enumerate(crashfs.Plan{Seed: seed, PerCut: perCut})
	for image := range e.Images() {
		images++
		if err := c.copiesSurvive(image); err != nil {
			t.Fatalf("%v: %v", image, err)
		}
	}
	t.Logf("%d images, %d calls", images, trace.Len())
}

// copiesSurvive holds both files of an image against the marks.
func (c *scenario) copiesSurvive(image *crashfs.Image) error {
	marks := map[any]bool{}
	for _, m := range image.Marks {
		marks[m] = true
	}
	disk := image.FS()
	if _, err := disk.Stat(backupPath); err == nil {
		if !marks[backupBegun] {
			return errors.New("a backup before there was one")
		}
		if err := c.holds(disk, backupPath, batchesCopied); err != nil {
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

// holds opens the store at path and wants so many batches in it.
func (c *scenario) holds(disk *crashfs.FS, path string, batches int) error {
	o := c.options(disk)
	o.ReadOnly = true
	s, err := Open(path, o)
	if err != nil {
		return err
	}
	_, err = c.stateOf(s, batches, batches)
	return errors.Join(err, s.Close())
}
