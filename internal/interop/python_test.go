package interop

import (
	"path/filepath"
	"testing"

	"github.com/cidstore/cidstore/internal/invariants"
	"github.com/cidstore/cidstore/internal/oracle"
)

// TestPythonReaderIsShared runs the tests of python/cidstore.py about forks, spawned
// workers and threads, and about identifiers. make interop runs all of its tests.
func TestPythonReaderIsShared(t *testing.T) {
	if invariants.Enabled {
		t.Skip("it runs nothing in Go")
	}
	t.Parallel()
	tests := filepath.Join(filepath.Dir(reader(t)), "test_cidstore.py")
	if _, errout, err := oracle.Run(t, limit, oracle.H5py(t), "-W", "error", tests, "Shared", "Identifiers"); err != nil {
		t.Errorf("%v: %s", err, errout)
	}
}
