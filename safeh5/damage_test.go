package safeh5

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cidstore/cidstore/hdf5"
	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/vfs"
)

// closedFile is a file of step n after Close, and where /piece lies in it.
func closedFile(t *testing.T, n int) (data []byte, pieceAt, pieceSize int64) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.h5")
	for range 2 { // what Close moves is written in the first
		f := opened(t, path, small())
		from := mustGet(stepOf(f))(t)
		must(t, stepTo(f, from, n))
		d := mustGet(f.file.View().Dataset("/piece"))(t)
		pieceAt, pieceSize = d.Extent()
		must(t, f.Close())
	}
	return mustGet(os.ReadFile(path))(t), pieceAt, pieceSize
}

// diskOf is a disk with these bytes at crashPath.
func diskOf(t *testing.T, data []byte) *crashfs.FS {
	t.Helper()
	disk := crashfs.New(crashfs.Options{})
	raw := mustGet(disk.OpenFile(crashPath, vfs.ReadWrite|vfs.Create, 0o600))(t)
	must(t, raw.WriteAt(data, 0), raw.Close())
	return disk
}

// knownError reports whether err is one that the documentation names.
func knownError(err error) bool {
	return errors.Is(err, ErrCorrupt) || errors.Is(err, ErrForeign) || errors.Is(err, hdf5.ErrCorrupt) || errors.Is(err, hdf5.ErrUnsupported)
}

// TestFlippedBits flips bits all over a file: Open, View or Check notices, unless the bit has no
// meaning or is in data without a checksum. Nothing panics, and an Update on such a file damages
// nothing else.
func TestFlippedBits(t *testing.T) {
	data, pieceAt, pieceSize := closedFile(t, 8)
	stride := 499
	if campaign() {
		stride = 7
	} else if testing.Short() {
		stride = 997
	}
	noticed := 0
	for at := 0; at < len(data); at += stride {
		damaged := append([]byte(nil), data...)
		damaged[at] ^= 1 << (at % 8)
		f, err := Open(crashPath, on(diskOf(t, damaged)))
		if err != nil {
			if !knownError(err) {
				t.Fatalf("byte %#x: %v", at, err)
			}
			noticed++
			continue
		}
		n, readErr := stepOf(f)
		checkErr := f.Check(context.Background(), nil)
		inPiece := int64(at) >= pieceAt && int64(at) < pieceAt+pieceSize
		switch {
		case readErr == nil && n != 8:
			t.Fatalf("byte %#x: step %d", at, n)
		case readErr != nil && checkErr == nil && !inPiece:
			t.Fatalf("byte %#x: Check sees nothing, but: %v", at, readErr)
		case checkErr != nil && !knownError(checkErr):
			t.Fatalf("byte %#x: %v", at, checkErr)
		case readErr != nil || checkErr != nil:
			noticed++
		}
		if err := stepTo(f, 8, 9); err == nil && readErr == nil {
			wantIs(t, 9, "step after a flip at", at)(stepOf(f))
		} else if err != nil && !knownError(err) {
			t.Fatalf("byte %#x: step 9: %v", at, err)
		}
		if err := f.Close(); err != nil && !knownError(err) && !errors.Is(err, ErrFailed) {
			t.Fatalf("byte %#x: close: %v", at, err)
		}
	}
	if noticed == 0 {
		t.Error("nothing was noticed")
	}
	t.Logf("%d of %d were noticed, in %d bytes", noticed, (len(data)+stride-1)/stride, len(data))
}

// TestCutFile: a file that is shorter than it was is refused, and stays as it is.
func TestCutFile(t *testing.T) {
	data, _, _ := closedFile(t, 5)
	for size := 0; size < len(data); size += 509 {
		for _, readOnly := range []bool{false, true} {
			disk := diskOf(t, data[:size])
			o := on(disk)
			o.ReadOnly = readOnly
			if f, err := Open(crashPath, o); !knownError(err) {
				t.Fatalf("%d of %d bytes: %v, %v", size, len(data), f, err)
			}
			if info, err := disk.Stat(crashPath); err != nil || info.Size != int64(size) {
				t.Fatalf("%d bytes became %d: %v", size, info.Size, err)
			}
		}
	}
}

// TestTakeOlder: the state before the last one is taken only where the caller says so.
func TestTakeOlder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.h5")
	f := opened(t, path, small())
	must(t, stepTo(f, 0, 6))
	data := mustGet(os.ReadFile(path))(t) // as a kill leaves it
	must(t, f.Close())
	root := binary.LittleEndian.Uint64(data[36:]) // of the superblock: the header of the root group
	data[root+20] ^= 1
	disk := diskOf(t, data)
	wantErr(t, errOf(Open(crashPath, on(disk))), ErrCorrupt, "damaged")
	o := on(disk)
	o.TakeOlder = true
	f = opened(t, crashPath, o)
	wantIs(t, 5, "step")(stepOf(f))
	must(t, stepTo(f, 5, 8))
	checkWhole(t, f)
	must(t, f.Close())
	f = opened(t, crashPath, on(disk))
	wantIs(t, 8, "step")(stepOf(f))
}

// TestTornSuperblock: where the disk left garbage in the first sector, a File for reading reads
// the file as it is, HDF5 programs do not, and the next Open for writing mends it. No second
// superblock would help those programs: they count addresses from where they find one.
func TestTornSuperblock(t *testing.T) {
	data, _, _ := closedFile(t, 5)
	whole := bytes.Clone(data)
	for i := range 512 {
		data[i] = byte(i*89 + 7)
	}
	disk := diskOf(t, data)
	o := on(disk)
	o.ReadOnly = true
	f := opened(t, crashPath, o)
	wantIs(t, 5, "for reading: step")(stepOf(f))
	if err := f.Check(context.Background(), nil); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "the next open for writing mends it") {
		t.Errorf("check: %v", err)
	}
	must(t, f.Close())
	first := func() []byte {
		t.Helper()
		raw := mustGet(disk.OpenFile(crashPath, vfs.ReadOnly, 0))(t)
		p := make([]byte, 48)
		must(t, errOf(raw.ReadAt(p, 0)), raw.Close())
		return p
	}
	if !bytes.Equal(first(), data[:48]) {
		t.Error("a reader has written")
	}
	f = opened(t, crashPath, on(disk))
	if !bytes.Equal(first(), whole[:48]) {
		t.Error("Open has not mended the superblock")
	}
	wantIs(t, 5, "for writing: step")(stepOf(f))
}
