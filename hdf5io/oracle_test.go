package hdf5io

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/internal/oracle"
)

// oracleTime limits one run of a foreign program.
const oracleTime = 60 * time.Second

// run runs a foreign program, and returns what it prints.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, errout, err := oracle.Run(t, oracleTime, name, args...)
	if err != nil || strings.Contains(errout, "error") {
		t.Fatalf("%v\n%.2000s%s", err, out, errout)
	}
	return out
}

// readTestFile is readRound in Python: it reads all of the small file with h5py
// and compares it with what round wrote.
const readTestFile = `
import sys, h5py, numpy
f = h5py.File(sys.argv[1], 'r')
rnd = int(sys.argv[2])
assert f['/config'].attrs['round'] == rnd, f['/config'].attrs['round']
def last(index, step):
    for r in range(rnd, -1, -1):
        if r % step == index % step: return r
    return None
rows = f['/buckets/entries']
assert rows.shape == (40, 8) and rows.chunks == (1, 4), rows
data = rows[...]
for i in range(40):
    r = last(i, 3)
    words = numpy.frombuffer(data[i].tobytes(), '<u8')
    want = numpy.arange(0, 384, 8, dtype='<u8') | ((i << 32) | (r << 16)) if r is not None else numpy.zeros(48, '<u8')
    assert (words == want).all(), ('row', i)
state = f['/buckets/state']
assert state.shape == (512,) and state.fletcher32 and state.attrs['chunk_map'] == 0
for i in range(8):
    r = last(i, 2)
    want = numpy.arange(0, 512, 8, dtype='<u8') | ((i << 40) | (r << 20)) if r is not None else numpy.zeros(64, '<u8')
    assert (state[i*64:i*64+64] == want).all(), ('page', i)
assert f['/wal'].shape == (512,) and (f['/wal'][...] == 0).all()
print('read')
`

// TestH5pyReadsEveryCommit: after each commit, when all free space has been
// overwritten, h5py reads all of the root. The writer has the file open.
func TestH5pyReadsEveryCommit(t *testing.T) {
	python := oracle.H5py(t)
	f, path := testFile(t, smallGrowth)
	rounds := uint64(8)
	if testing.Short() {
		rounds = 3
	}
	for round := uint64(0); round < rounds; round++ {
		if round > 0 {
			step(t, f, round)
		}
		if out := run(t, python, "-c", readTestFile, path, fmt.Sprint(round)); out != "read\n" {
			t.Fatalf("round %d: %s", round, out)
		}
	}
}

// TestToolsReadFile: h5dump reads every byte, and what h5repack copies is the same.
func TestToolsReadFile(t *testing.T) {
	f, path := testFile(t, Options{GrowStep: 32 << 10})
	for round := uint64(1); round < 6; round++ {
		commitRound(t, f, round)
	}
	must(t, f.Settle())
	if out := run(t, oracle.H5dump(t), path); !strings.Contains(out, `DATASET "entries"`) {
		t.Fatalf("h5dump: %.2000s", out)
	}
	copied := filepath.Join(t.TempDir(), "copied.h5")
	run(t, oracle.H5repack(t), "-f", "NONE", path, copied)
	run(t, oracle.H5diff(t), path, copied)
}

// TestLibraryWriter: if an HDF5 program writes to the file after it was closed,
// that is noticed, and what it did is not overwritten.
func TestLibraryWriter(t *testing.T) {
	python := oracle.H5py(t)
	f, path := testFile(t, Options{GrowStep: 32 << 10})
	for round := uint64(1); round < 4; round++ {
		commitRound(t, f, round)
	}
	const write = "import sys, h5py; f = h5py.File(sys.argv[1], 'r+'); f['/config'].attrs['foreign'] = 1; f.close()"
	if _, _, err := oracle.Run(t, oracleTime, python, "-c", write, path); err == nil {
		t.Fatal("h5py opened the file for writing beside us")
	}
	must(t, f.Settle())
	f.Close()
	run(t, python, "-c", write, path)
	before, err := os.ReadFile(path)
	must(t, err)
	if _, _, err := reopen(t, path, Options{}); !errors.Is(err, corrupt.Err) {
		t.Fatalf("after an HDF5 program has written: %v", err)
	}
	after, err := os.ReadFile(path)
	if err != nil || string(before) != string(after) {
		t.Fatalf("%v: changed by Open", err)
	}
}
