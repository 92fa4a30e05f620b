package hdf5

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cidstore/cidstore/internal/invariants"
	"github.com/cidstore/cidstore/internal/oracle"
)

// made runs a Python script of testdata, which writes files with h5py into a new folder, and
// returns the folder and what the script prints.
func made(t *testing.T, script string, args ...string) (dir, printed string) {
	t.Helper()
	if testing.Short() {
		t.Skip("it asks foreign programs for files")
	}
	dir = t.TempDir()
	printed, errout, err := oracle.Run(t, 20*time.Minute, oracle.H5py(t), slices.Concat([]string{filepath.Join("testdata", script), dir}, args)...)
	if err != nil {
		t.Fatalf("%v: %s", err, errout)
	}
	return dir, printed
}

// filesIn returns the HDF5 files of a folder.
func filesIn(t *testing.T, dir string, least int) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.h5"))
	if err != nil || len(files) < least {
		t.Fatalf("%d files in %s, want %d: %v", len(files), dir, least, err)
	}
	return files
}

// TestMatrix reads what h5py writes: every version of the format with every
// layout, chunk index, filter and type, groups and attributes of every size. Each
// value is compared with what h5py reads.
func TestMatrix(t *testing.T) {
	if invariants.Sparse > 1 {
		t.Skip("TestCells is a sample")
	}
	dir, _ := made(t, "matrix.py")
	for _, path := range filesIn(t, dir, 17) {
		name := filepath.Base(path)
		if words, ok := unsupported[name]; ok {
			wantUnsupported(t, path, words)
		} else if !strings.HasPrefix(name, "unsupported") { // those are parts
			t.Run(name, func(t *testing.T) { wantDescription(t, path, path+".txt") })
		}
	}
}

// TestConventions reads files in the form of AnnData and of NeXus, in every version of the
// format, plain and packed: all of each is what h5py reads.
func TestConventions(t *testing.T) {
	dir, _ := made(t, "conventions.py")
	for _, path := range filesIn(t, dir, 24) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			wantDescription(t, path, path+".txt")
			wantRanges(t, path)
		})
	}
}

// cellShares is how many runs of TestCells make up all of its cells.
const cellShares = 61

// TestCells reads datasets of every version of the format × layout and chunk index ×
// filter × type, with 0, 3, 20 or 2,000 attributes, in groups of 3 or 20 links, and a
// group of 20,000 links. There are 7,000: a run takes a share of them, by the day.
// CIDSTORE_MATRIX=N takes share N, from 0 to 60, and CIDSTORE_MATRIX=all takes all.
func TestCells(t *testing.T) {
	share, shares := time.Now().YearDay()%cellShares, cellShares
	switch text := os.Getenv("CIDSTORE_MATRIX"); text {
	case "":
	case "all":
		share, shares = 0, 1
	default:
		var err error
		if share, err = strconv.Atoi(text); err != nil || share < 0 || share >= cellShares {
			t.Fatalf("CIDSTORE_MATRIX=%s", text)
		}
	}
	t.Logf("CIDSTORE_MATRIX=%d repeats this share of %d", share, shares)
	dir, cells := made(t, "cells.py", strconv.Itoa(share), strconv.Itoa(shares))
	t.Logf("%s cells", strings.TrimSpace(cells))
	for _, path := range filesIn(t, dir, 5) {
		wantDescription(t, path, path+".txt")
		wantRanges(t, path)
		if t.Failed() {
			return
		}
	}
}

// wantRanges reads some rows of each dataset of a file, and compares them with the
// same rows of a reading of all.
func wantRanges(t *testing.T, path string) {
	t.Helper()
	for o, err := range openFile(t, path, nil).Objects() {
		must(t, err)
		d, ok := o.(*Dataset)
		if !ok || d.Len() == 0 {
			continue
		}
		n, row := d.Len(), d.RowSize()
		all := make([]byte, n*row)
		must(t, d.ReadRows(all, 0, n))
		for _, c := range [][2]uint64{{0, 1}, {n - 1, 1}, {n / 2, n - n/2}, {n / 3, n / 3}, {1, n - 1}} {
			p := bytes.Repeat([]byte{0xa5}, int(c[1]*row))
			if err := d.ReadRows(p, c[0], c[1]); err != nil || !bytes.Equal(p, all[c[0]*row:(c[0]+c[1])*row]) {
				t.Errorf("%s: %d rows from %d: %v", d.Path(), c[1], c[0], err)
			}
		}
	}
}

// unsupported is what the error says of files that are not read.
var unsupported = map[string]string{
	"unsupported-virtual.h5":  "/d: data layout at 0x",
	"unsupported-external.h5": "elements in other files",
	"unsupported-family0.h5":  "one of several parts",
	"unsupported-split-m.h5":  "one of several parts",
}

func wantUnsupported(t *testing.T, path, words string) {
	t.Helper()
	f, err := Open(path, nil)
	if err == nil {
		_, err = describe(f)
		_ = f.Close()
	}
	if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), words) {
		t.Errorf("%s: %v, want ErrUnsupported with %q", filepath.Base(path), err, words)
	}
}
