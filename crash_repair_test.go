package cidstore

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"github.com/cidstore/cidstore/internal/crashfs"
)

// TestRepairKilled cuts the power at every call of a Repair of a damaged store: there
// is no copy, or a whole one, and the original is what it was.
func TestRepairKilled(t *testing.T) {
	seed := crashSeed(t)
	c := newScenario(t, seed, noQuarantine)
	c.open()
	for range batchesCopied {
		c.apply(c.randomOps()...)
	}
	c.close()
	trace := c.fs.Record()
	report, err := RepairWith(t.Context(), crashPath, backupPath, RepairRollback, c.options(c.fs))
	if err != nil || report.LeftOutCount != 0 {
		t.Fatalf("%v, %+v", err, report)
	}
	c.fs.Mark(backupDone)
	trace.Stop()
	images, there, perCut := 0, 0, campaign(3, 24)
	e := trace.Enumerate(crashfs.Plan{Seed: seed, PerCut: perCut})
	for image := range e.Images() {
		images++
		disk := image.FS()
		_, err := disk.Stat(backupPath)
		switch {
		case err == nil:
			there++
			err = c.holds(disk, backupPath, batchesCopied)
		case errors.Is(err, fs.ErrNotExist) && len(image.Marks) == 0:
			err = nil
		}
		if err == nil {
			if err = c.holds(disk, crashPath, batchesCopied); err != nil {
				err = fmt.Errorf("original: %w", err)
			}
		}
		mustAt(t, err, image)
	}
	t.Logf("%d images, the copy is in %d", images, there)
	if there == 0 {
		t.Error("the copy is in no image")
	}
}
