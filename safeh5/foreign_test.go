package safeh5

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/oracle"
)

const foreignTime = 2 * time.Minute

// color is an enum.
type color int16

const (
	red  color = 1
	blue color = -3
)

func (color) H5Enum() []hdf5io.EnumMember {
	return []hdf5io.EnumMember{{Name: "red", Value: int64(red)}, {Name: "blue", Value: int64(blue)}}
}

// everything makes a tree with each type, shape and filter.
func everything(tx *Tx) error {
	err := errors.Join(
		numbers[uint8](tx, "u8"), numbers[int16](tx, "i16"), numbers[uint32](tx, "u32"),
		numbers[int64](tx, "i64"), numbers[float32](tx, "f32"), numbers[float64](tx, "f64"),
		dataset(tx, "/bools", Spec{Dims: []uint64{3}, Type: true}, []bool{true, false, true}),
		dataset(tx, "/complex", Spec{Dims: []uint64{2}, Type: complex128(0)}, []complex128{1 + 2i, -3i}),
		dataset(tx, "/texts", Spec{Dims: []uint64{3}, Type: hdf5io.String(6), Chunk: []uint32{2}}, []string{"ä", "six by", ""}),
		dataset(tx, "/scalar", Spec{Type: 0.0}, []float64{2.5}),
		dataset(tx, "/empty", Spec{Type: 0.0, Dims: []uint64{0}, MaxDims: []uint64{Unlimited}}, []float64{}),
	)
	err = errors.Join(err, dataset(tx, "/colors", Spec{Dims: []uint64{4}, Type: color(0)}, []color{red, blue, 9, red}),
		dataset(tx, "/states", Spec{Dims: []uint64{3}, Type: hdf5io.Enum(hdf5io.Uint(1), hdf5io.EnumMember{Name: "off"}, hdf5io.EnumMember{Name: "on", Value: 200}), Gzip: 1}, []uint8{0, 200, 200}),
		tx.SetAttribute("/colors", "first", red), tx.SetAttribute("/colors", "some", []color{blue, red}))
	type depth struct {
		Depth float32 `h5:"depth"`
		Kind  int8    `h5:"kind"`
	}
	type row struct {
		ID    uint64      `h5:"id"`
		Inner depth       `h5:"inner"`
		Pair  [2][2]int16 `h5:"pair"`
		Name  string      `h5:"name,5"`
		Color color       `h5:"color"`
		note  string      `h5:"-"`
	}
	type plainRow struct {
		ID    uint64  `h5:"id"`
		Value float64 `h5:"value"`
	}
	var rows []row
	var plain []plainRow
	for i := range 50 {
		rows = append(rows, row{uint64(i), depth{float32(i) / 4, int8(-i)}, [2][2]int16{{1, 2}, {3, 4}}, "name", blue, "not in the file"})
		plain = append(plain, plainRow{uint64(i), float64(i) / 2})
	}
	growing := Spec{Type: row{}, Dims: []uint64{50}, MaxDims: []uint64{Unlimited}, Gzip: 9}
	flat := Spec{Type: plainRow{}, Dims: []uint64{50}, MaxDims: []uint64{Unlimited}, Shuffle: true, Gzip: 1}
	err = errors.Join(err, dataset(tx, "/table", growing, rows), dataset(tx, "/readings", flat, plain),
		tx.SetAttribute("/table", "unit", "mm"), tx.SetAttribute("/table", "range", []float64{0.5, 9.5}),
		tx.SetAttribute("/", "names", []string{"a", "bcd"}), tx.SetAttribute("/", "flag", true), tx.SetAttribute("/", "none", []int32{}))
	cube, cubeErr := tx.CreateDataset("/cube", Spec{Type: int32(0), Dims: []uint64{2, 3, 4}, Chunk: []uint32{1, 2, 3}})
	if cubeErr != nil {
		return errors.Join(err, cubeErr)
	}
	return errors.Join(err, Write(cube, []uint64{1, 2, 1}, []uint64{1, 1, 2}, []int32{8, 9}), wild(tx))
}

// wild is a dataset that deflate does not make smaller.
func wild(tx *Tx) error {
	values, sum, x := make([]uint16, 5000), uint64(0), uint32(1)
	for i := range values {
		x = x*1664525 + 1013904223
		values[i] = uint16(x >> 16)
		sum += uint64(values[i])
	}
	return errors.Join(dataset(tx, "/wild", Spec{Type: uint16(0), Dims: []uint64{5000}, Chunk: []uint32{1000}, Shuffle: true, Gzip: 6}, values),
		tx.SetAttribute("/wild", "sum", sum))
}

func numbers[T uint8 | int16 | uint32 | int64 | float32 | float64](tx *Tx, name string) error {
	values := make([]T, 35)
	for i := range values {
		values[i] = T(i)
	}
	dims := []uint64{7, 5}
	return errors.Join(
		dataset(tx, "/numbers/"+name+"/piece", Spec{Type: T(0), Dims: dims}, values),
		dataset(tx, "/numbers/"+name+"/chunked", Spec{Type: T(0), Dims: dims, Chunk: []uint32{2, 3}}, values),
		dataset(tx, "/numbers/"+name+"/packed", Spec{Type: T(0), Dims: dims, MaxDims: []uint64{Unlimited, Unlimited}, Chunk: []uint32{3, 4}, Shuffle: true, Gzip: 5}, values))
}

func dataset[T any](tx *Tx, path string, spec Spec, values []T) error {
	d, err := tx.CreateDataset(path, spec)
	if err != nil {
		return err
	}
	return Write(d, nil, nil, values)
}

// TestForeignReaders: h5py, PyTables, pandas, h5wasm, h5dump, h5repack and h5diff read what
// was written.
func TestForeignReaders(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "everything.h5")
	f := mustGet(Open(path, nil))(t)
	must(t, f.Update(everything))
	checkWhole(t, f)
	must(t, f.Close())
	run := func(t *testing.T, name string, args ...string) {
		out, errout, err := oracle.Run(t, foreignTime, name, args...)
		if err != nil || strings.Contains(out+errout, "HDF5-DIAG") {
			t.Fatalf("%v\n%s%s", err, out, errout)
		}
		t.Log(strings.TrimSpace(out[:min(len(out), 100)]))
	}
	t.Run("python", func(t *testing.T) {
		run(t, oracle.Python(t, "h5py", "numpy", "tables", "pandas"), filepath.Join("testdata", "readers.py"), path)
	})
	t.Run("h5wasm", func(t *testing.T) {
		node, module := oracle.H5wasm(t)
		run(t, node, filepath.Join("testdata", "readers.mjs"), module, path)
	})
	t.Run("h5dump", func(t *testing.T) { run(t, oracle.H5dump(t), path) })
	t.Run("h5repack", func(t *testing.T) {
		for i, filter := range []string{"NONE", "GZIP=1"} {
			copied := filepath.Join(dir, "copy"+string(rune('0'+i))+".h5")
			run(t, oracle.H5repack(t), "-f", filter, path, copied)
			run(t, oracle.H5diff(t), path, copied)
			wantErr(t, errOf(Open(copied, nil)), ErrForeign, "a copy by h5repack")
		}
	})
}
