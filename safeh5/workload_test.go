package safeh5

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"testing"

	"github.com/cidstore/cidstore/hdf5"
)

// The workload of the tests that crash, kill and break: after step n the file is what
// n alone says, and the attribute step of the root says n.

// reading is a row of /log.
type reading struct {
	Seq   uint32
	Value float64 `h5:"value"`
	Ok    bool    `h5:"ok"`
	Place [2]int16
	Name  string  `h5:"name,10"`
	Unit  [3]byte `h5:"unit,string"`
}

// rowsOf is how many rows /log has after step n.
func rowsOf(n int) (rows int) {
	for i := 1; i <= n; i++ {
		rows += 1 + i%7
	}
	return rows
}

func rowOf(r int) reading {
	return reading{uint32(r), float64(r) / 2, r%3 == 0, [2]int16{int16(-r), int16(r)}, fmt.Sprintf("row %d", r), [3]byte{'m', byte('a' + r%26)}}
}

// fileBytes is the row as it stands in the file.
func fileBytes(r reading) []byte {
	p := binary.LittleEndian.AppendUint32(nil, r.Seq)
	p = binary.LittleEndian.AppendUint64(p, math.Float64bits(r.Value))
	if r.Ok {
		p = append(p, 1)
	} else {
		p = append(p, 0)
	}
	p = binary.LittleEndian.AppendUint16(p, uint16(r.Place[0]))
	p = binary.LittleEndian.AppendUint16(p, uint16(r.Place[1]))
	p = append(p, append([]byte(r.Name), make([]byte, 10-len(r.Name))...)...)
	return append(p, r.Unit[:]...)
}

// step is step n, in an Update.
func step(tx *Tx, n int) error {
	if n == 1 {
		if err := begin(tx); err != nil {
			return err
		}
	}
	log, err := tx.Dataset("/log/rows")
	if err != nil {
		return err
	}
	var rows []reading
	for r := rowsOf(n - 1); r < rowsOf(n); r++ {
		rows = append(rows, rowOf(r))
	}
	grid, err := tx.Dataset("/grid")
	if err != nil {
		return err
	}
	err = errors.Join(Append(log, rows), Write(grid, []uint64{uint64(n % 5), uint64(n % 8)}, []uint64{2, 3}, []float32{1, 2, 3, 4, 5, float32(n)}))
	if n%3 == 0 {
		piece, pieceErr := tx.Dataset("/piece")
		if pieceErr != nil {
			return pieceErr
		}
		err = errors.Join(err, Write(piece, []uint64{1}, []uint64{3}, []int32{int32(n), int32(-n), 7}))
	}
	passing, passingErr := tx.CreateDataset(fmt.Sprintf("/passing/of/%d", n), Spec{Type: uint16(0), Dims: []uint64{300}, Chunk: []uint32{128}})
	if passingErr != nil {
		return errors.Join(err, passingErr)
	}
	err = errors.Join(err, Write(passing, nil, nil, passingValues(n)))
	if n > 2 {
		err = errors.Join(err, tx.Delete(fmt.Sprintf("/passing/of/%d", n-2)))
	}
	return errors.Join(err, tx.SetAttribute("/", "step", int64(n)))
}

func begin(tx *Tx) error {
	_, err := tx.CreateDataset("/log/rows", Spec{Type: reading{}, Dims: []uint64{0}, MaxDims: []uint64{Unlimited}, Chunk: []uint32{16}, Shuffle: true, Gzip: 6})
	_, err2 := tx.CreateDataset("/grid", Spec{Type: float32(0), Dims: []uint64{6, 10}, Chunk: []uint32{4, 4}})
	_, err3 := tx.CreateDataset("/piece", Spec{Type: int32(0), Dims: []uint64{5}})
	return errors.Join(err, err2, err3)
}

func passingValues(n int) []uint16 {
	values := make([]uint16, 300)
	for i := range values {
		values[i] = uint16(n*1000 + i)
	}
	return values
}

// wanted is all that the file holds after step n, by path.
func wanted(n int) map[string]any {
	if n == 0 {
		return map[string]any{}
	}
	var rows []byte
	for r := range rowsOf(n) {
		rows = append(rows, fileBytes(rowOf(r))...)
	}
	grid, piece := make([]float64, 60), make([]int64, 5)
	for i := 1; i <= n; i++ {
		at := i%5*10 + i%8
		copy(grid[at:], []float64{1, 2, 3})
		copy(grid[at+10:], []float64{4, 5, float64(i)})
		if i%3 == 0 {
			copy(piece[1:], []int64{int64(i), int64(-i), 7})
		}
	}
	want := map[string]any{"/log/rows": rows, "/grid": grid, "/piece": piece}
	for i := max(1, n-1); i <= n; i++ {
		var values []uint64
		for _, v := range passingValues(i) {
			values = append(values, uint64(v))
		}
		want[fmt.Sprintf("/passing/of/%d", i)] = values
	}
	return want
}

// stepOf returns the step that the file is of, and an error if it is not all of that.
func stepOf(f *File) (n int, err error) {
	err = f.View(func(h *hdf5.File) error {
		n, err = stepOfFile(h)
		return err
	})
	return n, err
}

func stepOfFile(h *hdf5.File) (n int, err error) {
	root, err := h.Root()
	if err != nil {
		return 0, err
	}
	if a, err := root.Attribute("step"); err == nil {
		v, err := a.Value()
		if err != nil {
			return 0, err
		}
		n = int(v.([]int64)[0])
	} else if !errors.Is(err, hdf5.ErrNotFound) {
		return 0, err
	}
	found := make(map[string]any)
	for o, err := range h.Objects() {
		if err != nil {
			return n, err
		}
		if d, ok := o.(*hdf5.Dataset); ok {
			if found[d.Path()], err = contents(d); err != nil {
				return n, err
			}
		}
	}
	if want := wanted(n); !reflect.DeepEqual(found, want) {
		return n, fmt.Errorf("step %d: %v, want %v", n, found, want)
	}
	return n, nil
}

// contents are all values of a dataset; records as bytes.
func contents(d *hdf5.Dataset) (any, error) {
	b, err := d.Read(0, d.Len())
	if err != nil {
		return nil, err
	}
	if d.Type().Class == hdf5.Compound {
		return slices.Clone(b.Data), nil
	}
	return b.Value()
}

// stepTo goes from the step that the file is of to step n, one Update each.
func stepTo(f *File, from, to int) error {
	for n := from + 1; n <= to; n++ {
		if err := f.Update(func(tx *Tx) error { return step(tx, n) }); err != nil {
			return fmt.Errorf("step %d: %w", n, err)
		}
	}
	return nil
}

// checkWhole fails the test for everything that is wrong with the file.
func checkWhole(t testing.TB, f *File) {
	t.Helper()
	must(t, f.Check(context.Background(), func(err error) { t.Errorf("check: %v", err) }))
}

// small makes files of some 100 KiB, in which space is used again soon.
func small() *Options { return &Options{KeepUpdates: 1, growStep: 32 << 10} }

func TestWorkload(t *testing.T) {
	path := t.TempDir() + "/a.h5"
	for life, n := 0, 0; life < 4; life++ {
		f := mustGet(Open(path, small()))(t)
		must(t, stepTo(f, n, n+10))
		n += 10
		wantIs(t, n, "step")(stepOf(f))
		checkWhole(t, f)
		must(t, f.Close())
		h := mustGet(hdf5.Open(path, nil))(t)
		wantIs(t, n, "step")(stepOfFile(h))
		if h.Size() > 100<<10 {
			t.Errorf("%d bytes", h.Size())
		}
		must(t, h.Close())
	}
}
