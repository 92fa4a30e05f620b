package table

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cidstore/cidstore/hdf5"
	"github.com/cidstore/cidstore/internal/invariants"
	"github.com/cidstore/cidstore/internal/oracle"
)

// chunkRows is how many records a chunk has in these tests.
const chunkRows = 32

// rowsOf are numbers of rows: none, a part of a chunk, one chunk and a bit more, a
// leaf full of chunks and one row more, and trees of two levels above the leaves.
var rowsOf = []int{0, 1, chunkRows - 1, chunkRows, chunkRows + 1, 64 * chunkRows, 64*chunkRows + 1, 64*64*chunkRows + 1, 3 * 64 * 64 * chunkRows}

// makeFile writes a file with a table of records and one of numbers.
func makeFile(t testing.TB, rows int, pack bool) string {
	t.Helper()
	return makeChunks(t, rows, pack, chunkRows*32)
}

func makeChunks(t testing.TB, rows int, pack bool, chunk int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "table.h5")
	file, err := os.Create(path)
	must(t, err)
	defer file.Close()
	w := NewWriter(file, pack)
	w.chunk = chunk
	records, err := w.Dataset("records", "four numbers", "a", "number_b", "c", "d")
	must(t, err)
	numbers, err := w.Dataset("numbers", "a number")
	must(t, err)
	for i := range uint64(rows) {
		must(t, records.Append(i, i*i, ^i, 7), numbers.Append(i<<32))
	}
	must(t, w.Close())
	return path
}

func TestPackageHDF5ReadsIt(t *testing.T) {
	for _, pack := range []bool{false, true} {
		for _, rows := range rowsOf {
			t.Run(fmt.Sprint(rows, pack), func(t *testing.T) {
				if invariants.Sparse > 1 && rows > 64*chunkRows+1 {
					t.Skip("one goroutine reads millions of rows")
				}
				f, err := hdf5.Open(makeFile(t, rows, pack), nil)
				must(t, err)
				defer f.Close()
				root, err := f.Root()
				must(t, err)
				if f.Superblock().EndOfFile != f.Size() {
					t.Errorf("it ends at %d of %d bytes", f.Superblock().EndOfFile, f.Size())
				}
				holds(t, root, "records", rows, map[string]func(uint64) uint64{
					"a": func(i uint64) uint64 { return i }, "number_b": func(i uint64) uint64 { return i * i },
					"c": func(i uint64) uint64 { return ^i }, "d": func(uint64) uint64 { return 7 }})
				holds(t, root, "numbers", rows, map[string]func(uint64) uint64{"": func(i uint64) uint64 { return i << 32 }})
			})
		}
	}
}

// holds wants a dataset to have what was appended.
func holds(t *testing.T, root *hdf5.Group, name string, rows int, columns map[string]func(uint64) uint64) {
	t.Helper()
	d, err := root.Dataset(name)
	must(t, err)
	if d.Len() != uint64(rows) || d.MaxShape()[0] != hdf5.Unlimited {
		t.Errorf("%s: %d rows of at most %d, want %d without a limit", name, d.Len(), d.MaxShape()[0], rows)
	}
	for b, err := range d.Rows(0, d.Len()) {
		must(t, err)
		for column, want := range columns {
			var path []string
			if column != "" {
				path = []string{column}
			}
			got, err := b.Uint64s(path...)
			must(t, err)
			for i, v := range got {
				if row := b.Start + uint64(i); v != want(row) {
					t.Fatalf("%s, row %d: %s is %d, want %d", name, row, column, v, want(row))
				}
			}
		}
	}
}

// reads checks a file with h5py, appends to it with h5py, and checks it again.
const reads = `
import sys, h5py, numpy
path, rows = sys.argv[1], int(sys.argv[2])
def check(f, rows):
    i = numpy.arange(rows, dtype="u8")
    r = f["records"]
    assert r.shape == (rows,) and r.maxshape == (None,), r.shape
    assert r.dtype == numpy.dtype([(n, "<u8") for n in ("a", "number_b", "c", "d")]), r.dtype
    assert r.attrs["description"] == b"four numbers", r.attrs["description"]
    for name, want in ("a", i), ("number_b", i * i), ("c", ~i), ("d", i * 0 + 7):
        assert (r[name] == want).all(), name
    assert f["numbers"].dtype == "<u8" and (f["numbers"][:] == i << 32).all()
with h5py.File(path, "r") as f:
    assert sorted(f) == ["numbers", "records"]
    check(f, rows)
with h5py.File(path, "a") as f:
    more = numpy.arange(rows, rows + 20000, dtype="u8")
    for name in "records", "numbers":
        f[name].resize((rows + 20000,))
    f["numbers"][rows:] = more << 32
    new = numpy.zeros(20000, f["records"].dtype)
    new["a"], new["number_b"], new["c"], new["d"] = more, more * more, ~more, 7
    f["records"][rows:] = new
    f["sub/new"] = 1
with h5py.File(path, "r") as f:
    check(f, rows + 20000)
`

func TestH5pyReadsItAndAppends(t *testing.T) {
	python := oracle.H5py(t)
	for _, rows := range rowsOf {
		for _, pack := range []bool{false, true} {
			if pack && rows > 100*chunkRows {
				continue
			}
			t.Run(fmt.Sprint(rows, pack), func(t *testing.T) {
				_, stderr, err := oracle.Run(t, time.Minute, python, "-c", reads, makeFile(t, rows, pack), fmt.Sprint(rows))
				if err != nil {
					t.Error(stderr)
				}
			})
		}
	}
}

// reader is what pandas makes of a table.
const reader = `
import sys, pandas
frame = pandas.read_hdf(sys.argv[1], "records")
assert list(frame.columns) == ["a", "number_b", "c", "d"], frame.columns
assert len(frame) == 20000 and (frame.a == range(20000)).all()
assert frame.dtypes.tolist() == ["uint64"] * 4, frame.dtypes
`

func TestPandasReadsIt(t *testing.T) {
	python := oracle.Python(t, "pandas", "tables")
	if _, stderr, err := oracle.Run(t, time.Minute, python, "-c", reader, makeChunks(t, 20000, false, usualChunk)); err != nil {
		t.Error(stderr)
	}
}

func TestHDF5ToolsReadIt(t *testing.T) {
	path := makeChunks(t, 8193, true, usualChunk)
	for _, c := range [][]string{{oracle.H5dump(t), path}, {oracle.H5stat(t), path}, {oracle.H5repack(t), path, path + ".new"}, {oracle.H5diff(t), path, path + ".new"}} {
		if _, stderr, err := oracle.Run(t, time.Minute, c[0], c[1:]...); err != nil || stderr != "" {
			t.Errorf("%s: %v %s", c[0], err, stderr)
		}
	}
}

// full is a disk with room for some bytes.
type full int64

func (f full) WriteAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > int64(f) {
		return 0, errFull
	}
	return len(p), nil
}

var errFull = errors.New("no room")

func TestAFullDiskIsTold(t *testing.T) {
	for _, room := range []full{0, 95, 600, 300_000, 600_000} {
		w := NewWriter(room, false)
		d, err := w.Dataset("d", "numbers")
		for i := uint64(0); i < 70_000 && err == nil; i++ {
			err = d.Append(i)
		}
		if err == nil {
			err = w.Close()
		}
		if room < 560_000 && !errors.Is(err, errFull) {
			t.Errorf("room for %d bytes: %v", room, err)
		}
	}
}

func TestNineDatasetsAreTooMany(t *testing.T) {
	w := NewWriter(full(1<<20), false)
	for i := range maxDatasets {
		if _, err := w.Dataset(fmt.Sprint(i), "numbers"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Dataset("9", "numbers"); err == nil {
		t.Error("a ninth dataset is taken")
	}
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}
