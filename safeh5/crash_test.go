package safeh5

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/cidstore/cidstore/hdf5"
	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/internal/errfs"
	"github.com/cidstore/cidstore/vfs"
)

// campaign reports whether the long forms run: scripts/crash asks for them.
func campaign() bool { return os.Getenv("CIDSTORE_CAMPAIGN") == "1" }

const crashPath = "/a.h5"

// on is small on another file system.
func on(fs vfs.FS) *Options {
	o := small()
	o.FS = fs
	return o
}

// TestCrashEnumeration cuts the power at every call of a life from the creation of the file
// to Close, and of the next life. Each disk that may be left has a sound file with the last
// step that was acknowledged or the one under way, and goes on from there. While the file is
// being created there may be none.
func TestCrashEnumeration(t *testing.T) { crashEverywhere(t, nil) }

// TestCrashSeenByH5py is the same for h5py, which reads a file as the power cut left it or, where
// the superblock is torn, after the next Open.
func TestCrashSeenByH5py(t *testing.T) {
	h := &asH5py{reader: startReader(t), dir: t.TempDir(), every: 10}
	if campaign() {
		h.every = 5
	}
	crashEverywhere(t, h)
	if h.left == 0 {
		t.Error("h5py has read no file")
	}
	t.Logf("%d files read by h5py as they were left, %d after Open had mended the superblock", h.left, h.mended)
}

// crashEverywhere cuts the power at every call and looks at each disk; with h5py it looks at
// some of them, and h5py does too.
func crashEverywhere(t *testing.T, h5py *asH5py) {
	fs := crashfs.New(crashfs.Options{})
	trace := fs.Record()
	steps := 8
	plan := crashfs.Plan{Seed: 1, Subsets: 4, Random: 2, PerCut: 3}
	least := 80
	if campaign() {
		steps, least = 160, 5000
		plan = crashfs.Plan{Seed: 1, Subsets: 6, Random: 4, PerCut: 14}
	} else if testing.Short() {
		steps, plan.PerCut, least = 6, 2, 50
	}
	for n := 0; n < steps; n += steps / 2 {
		f := mustGet(Open(crashPath, on(fs)))(t)
		fs.Mark(n)
		for i := n; i < n+steps/2; i++ {
			must(t, stepTo(f, i, i+1))
			fs.Mark(i + 1)
		}
		must(t, f.Close())
	}
	trace.Stop()
	run := trace.Enumerate(plan)
	images := 0
	for image := range run.Images() {
		images++
		if h5py != nil && images%h5py.every != 0 {
			continue // TestCrashEnumeration looks at it
		}
		acked := -1
		if n := len(image.Marks); n > 0 {
			acked = image.Marks[n-1].(int)
		}
		if err := checkImage(image, acked, steps, h5py); err != nil {
			t.Fatalf("%v\nimage: %v", err, image)
		}
	}
	if images < least {
		t.Errorf("%d images, want %d", images, least)
	}
	if h5py == nil {
		t.Logf("%d images", images)
	}
}

// asH5py looks with h5py at files of simulated disks.
type asH5py struct {
	reader       *h5pyProgram
	dir          string
	every        int
	left, mended int
}

// look returns the step of the file that h5py sees, or its error.
func (h *asH5py) look(disk *crashfs.FS) (n int, data []byte, err error) {
	info, err := disk.Stat(crashPath)
	if err != nil {
		return 0, nil, err
	}
	raw, err := disk.OpenFile(crashPath, vfs.ReadOnly, 0)
	if err != nil {
		return 0, nil, err
	}
	data = make([]byte, info.Size)
	_, err = raw.ReadAt(data, 0)
	path := filepath.Join(h.dir, "a.h5")
	if err = errors.Join(err, raw.Close(), os.WriteFile(path, data, 0o600)); err != nil {
		return 0, nil, err
	}
	answer := h.reader.ask("check " + path)
	if _, err := fmt.Sscanf(answer, "step %d", &n); err != nil {
		return 0, data, errors.New(answer)
	}
	return n, data, nil
}

// asLeft looks at the file that a crash has left, unless none is there. h5py may fail only
// where the disk left garbage in the sector of the superblock.
func (h *asH5py) asLeft(image *crashfs.Image, acked int) error {
	disk := image.FS()
	if _, err := disk.Stat(crashPath); err != nil {
		return nil
	}
	n, data, err := h.look(disk)
	if err == nil {
		h.left++
		if n < acked || n > max(acked, 0)+1 {
			return fmt.Errorf("%d acknowledged, h5py sees %d", acked, n)
		}
		return nil
	}
	if _, tornErr := hdf5.NewReader(bytes.NewReader(data), int64(len(data)), nil); tornErr == nil || image.Class != crashfs.Garbage {
		return fmt.Errorf("h5py does not read what is not torn: %w", err)
	}
	h.mended++
	return nil
}

// checkImage looks at a disk that a crash has left after step acked; -1: before the
// file was there.
func checkImage(image *crashfs.Image, acked, last int, h5py *asH5py) error {
	if h5py != nil {
		if err := h5py.asLeft(image, acked); err != nil {
			return err
		}
	}
	disk := image.FS()
	if _, err := disk.Stat(crashPath); err != nil && acked >= 0 {
		return err
	}
	f, err := Open(crashPath, on(disk))
	if err != nil {
		return fmt.Errorf("%d acknowledged: %w", acked, err)
	}
	n, err := stepOf(f)
	if err != nil || n < acked || n > max(acked, 0)+1 || n > last {
		return fmt.Errorf("%d acknowledged, %d found: %v", acked, n, err)
	}
	if err := stepTo(f, n, n+2); err != nil {
		return err
	}
	again, err := stepOf(f)
	if err == nil && again != n+2 {
		err = fmt.Errorf("step %d, want %d", again, n+2)
	}
	if err == nil {
		err = f.Check(context.Background(), nil)
	}
	if err = errors.Join(err, f.Close()); err != nil || h5py == nil {
		return err
	}
	if seen, _, err := h5py.look(disk); err != nil || seen != n+2 {
		return fmt.Errorf("after the next life h5py sees step %d, want %d: %v", seen, n+2, err)
	}
	return nil
}

// TestFaultEachCall lets each call to the file system fail, once and from then on, by an
// error of the disk and by a full one: what was acknowledged is there afterwards.
func TestFaultEachCall(t *testing.T) {
	for _, forever := range []bool{false, true} {
		for _, err := range []error{errfs.ErrIO, vfs.ErrNoSpace} {
			ops := errfs.Any &^ errfs.Unlock
			calls := failCall(t, errfs.Rule{Ops: ops, Err: err})
			if calls < 50 {
				t.Fatalf("%d calls", calls)
			}
			every := 23
			if campaign() {
				every = 1
			} else if testing.Short() {
				every = 53
			}
			for n := 1; n <= calls; n += every {
				failCall(t, errfs.Rule{Ops: ops, Nth: n, Forever: forever, Partial: 100, Err: err})
				if t.Failed() {
					t.Fatalf("call %d of %d, forever %v, %v", n, calls, forever, err)
				}
			}
		}
	}
}

// failCall runs a life under the rule and returns how many calls matched.
func failCall(t *testing.T, rule errfs.Rule) int {
	t.Helper()
	disk := crashfs.New(crashfs.Options{})
	fs := errfs.New(disk)
	fault := fs.Add(rule)
	acked, tried := -1, 0
	if f, err := Open(crashPath, on(fs)); err == nil {
		acked = 0
		for range 8 { // some fail, and others may succeed after that
			tried = acked + 1
			if stepTo(f, acked, acked+1) == nil {
				acked++
			} else if n, err := stepOf(f); err == nil && n != acked && f.file.Failed() == nil {
				t.Errorf("step %d is seen, %d was acknowledged", n, acked)
			}
		}
		_ = f.Close() // it may fail too
	}
	calls := fault.Matched()
	fs.Clear()
	f, err := Open(crashPath, on(disk))
	if err != nil {
		t.Errorf("afterwards: %v", err)
		return calls
	}
	n, err := stepOf(f)
	if err != nil || n < acked || n > tried {
		t.Errorf("%d acknowledged, %d tried, %d found: %v", acked, tried, n, err)
	}
	wantErr(t, stepTo(f, n, n+2), nil)
	checkWhole(t, f)
	wantErr(t, f.Close(), nil)
	return calls
}

// TestFaultSync: a sync that fails is not tried again; the file that is opened after it has what was
// acknowledged, whatever the cache says.
func TestFaultSync(t *testing.T) {
	for _, mode := range []crashfs.SyncFailure{crashfs.FailKeep, crashfs.FailRevert, crashfs.FailLost} {
		for skip := range 3 { // of the data, the slot, the superblock
			disk := crashfs.New(crashfs.Options{})
			f := mustGet(Open(crashPath, on(disk)))(t)
			must(t, stepTo(f, 0, 3))
			disk.FailSync(mode, skip, 1)
			for time := range 2 {
				wantErr(t, stepTo(f, 3, 4), ErrFailed, "time", time)
			}
			wantIs(t, 3, "step")(stepOf(f))
			must(t, f.Close())
			f = mustGet(Open(crashPath, on(disk)))(t)
			if n, err := stepOf(f); err != nil || n < 3 || n > 4 || n == 4 && skip == 0 {
				t.Errorf("mode %d, sync %d: step %d: %v", mode, skip, n, err)
			}
			must(t, f.Close())
		}
	}
}

// TestFaultDiskFull runs on disks of many sizes: an Update that finds no room says so and
// changes nothing, the file stays sound, and a larger disk lets it go on.
func TestFaultDiskFull(t *testing.T) {
	full := 0
	for size := int64(48 << 10); size <= 192<<10; size += 36 << 10 {
		disk := crashfs.New(crashfs.Options{Capacity: size})
		f, err := Open(crashPath, on(disk))
		if errors.Is(err, ErrNoSpace) {
			if _, err := disk.Stat(crashPath + newSuffix); err == nil {
				t.Error("a half-made file is left")
			}
			full++
			continue
		}
		must(t, err)
		n := 0
		for ; n < 60; n++ {
			if err := stepTo(f, n, n+1); errors.Is(err, ErrNoSpace) {
				full++
				break
			} else if err != nil {
				t.Fatalf("%d bytes, step %d: %v", size, n, err)
			}
		}
		wantIs(t, n, "step, in bytes", size)(stepOf(f))
		checkWhole(t, f)
		must(t, f.Close())
		disk.SetCapacity(0)
		if f, err = Open(crashPath, on(disk)); err != nil {
			t.Fatal(err)
		}
		must(t, stepTo(f, n, n+3), f.Close())
	}
	if full == 0 {
		t.Error("no disk was full")
	}
}
