package hdf5

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cidstore/cidstore/internal/oracle"
)

// TestMatrix reads what h5py writes: every version of the format with every
// layout, chunk index, filter and type, groups and attributes of every size. Each
// value is compared with what h5py reads.
func TestMatrix(t *testing.T) {
	python := oracle.H5py(t)
	dir := t.TempDir()
	if _, errout, err := oracle.Run(t, 8*time.Minute, python, filepath.Join("testdata", "matrix.py"), dir); err != nil {
		t.Fatalf("%v: %s", err, errout)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.h5"))
	if err != nil || len(files) < 17 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, path := range files {
		name := filepath.Base(path)
		if words, ok := unsupported[name]; ok {
			wantUnsupported(t, path, words)
		} else if !strings.HasPrefix(name, "unsupported") { // those are parts
			t.Run(name, func(t *testing.T) { wantDescription(t, path, path+".txt") })
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
