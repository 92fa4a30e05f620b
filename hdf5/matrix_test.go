package hdf5

import (
	"path/filepath"
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
	if _, errout, err := oracle.Run(t, 2*time.Minute, python, filepath.Join("testdata", "matrix.py"), dir); err != nil {
		t.Fatalf("%v: %s", err, errout)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.h5"))
	if err != nil || len(files) < 17 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, path := range files {
		t.Run(filepath.Base(path), func(t *testing.T) { wantDescription(t, path, path+".txt") })
	}
}
