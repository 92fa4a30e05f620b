package safeh5_test

import (
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cidstore/cidstore/hdf5"
	"github.com/cidstore/cidstore/safeh5"
)

// Reading is a row of the log, and a record in the file.
type Reading struct {
	Time  int64   `h5:"time"` // ns since 1970
	Value float32 `h5:"value"`
	Place string  `h5:"place,8"`
}

// A log of a sensor: it is there after every restart, also after a power cut, and
// h5py reads it at any time.
func Example() {
	dir, err := os.MkdirTemp("", "safeh5")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "log.h5")

	for life := range int64(2) { // the second goes on where the first ended
		f, err := safeh5.Open(path, nil) // makes the file if it is not there
		if err != nil {
			log.Fatal(err)
		}
		err = f.Update(func(tx *safeh5.Tx) error {
			readings, err := tx.Dataset("/roof/readings")
			if errors.Is(err, safeh5.ErrNotFound) {
				readings, err = tx.CreateDataset("/roof/readings", safeh5.Spec{
					Type: Reading{}, Dims: []uint64{0}, MaxDims: []uint64{safeh5.Unlimited},
					Chunk: []uint32{256}, Shuffle: true, Gzip: 4,
				})
				if err == nil {
					err = tx.SetAttribute("/roof/readings", "unit", "°C")
				}
			}
			if err != nil {
				return err
			}
			return safeh5.Append(readings, []Reading{{life, 20.5, "north"}, {life, 21, "south"}})
		})
		if err != nil {
			log.Fatal(err) // nothing of the Update is in the file
		}
		if err := f.Close(); err != nil {
			log.Fatal(err)
		}
	}

	f, err := safeh5.Open(path, &safeh5.Options{ReadOnly: true}) // or hdf5.Open
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if err := f.View(printReadings); err != nil {
		log.Fatal(err)
	}
	// Output:
	// 0 20.5 north
	// 0 21 south
	// 1 20.5 north
	// 1 21 south
}

// printReadings prints the log.
func printReadings(h *hdf5.File) error {
	root, err := h.Root()
	if err != nil {
		return err
	}
	readings, err := root.Dataset("roof/readings")
	if err != nil {
		return err
	}
	for block, err := range readings.Rows(0, readings.Len()) {
		if err != nil {
			return err
		}
		times, _ := block.Int64s("time")
		values, _ := block.Float64s("value")
		places, err := block.Strings("place")
		if err != nil {
			return err
		}
		for i := range times {
			fmt.Println(times[i], values[i], places[i])
		}
	}
	return nil
}

// A table of two dimensions that grows by rows, of which a part is written again.
func ExampleWrite() {
	dir, err := os.MkdirTemp("", "safeh5")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	f, err := safeh5.Open(filepath.Join(dir, "grid.h5"), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	err = f.Update(func(tx *safeh5.Tx) error {
		grid, err := tx.CreateDataset("/grid", safeh5.Spec{Type: int32(0), Dims: []uint64{0, 3}, MaxDims: []uint64{safeh5.Unlimited, 3}})
		if err != nil {
			return err
		}
		if err := safeh5.Append(grid, []int32{1, 2, 3, 4, 5, 6}); err != nil { // two rows
			return err
		}
		return safeh5.Write(grid, []uint64{0, 1}, []uint64{2, 1}, []int32{20, 50}) // the middle column
	})
	if err != nil {
		log.Fatal(err)
	}
	err = f.View(func(h *hdf5.File) error {
		root, err := h.Root()
		if err != nil {
			return err
		}
		grid, err := root.Dataset("grid")
		if err != nil {
			return err
		}
		block, err := grid.Read(0, grid.Len())
		if err != nil {
			return err
		}
		values, err := block.Int64s()
		fmt.Println(grid.Shape(), values)
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output: [2 3] [1 20 3 4 50 6]
}

// TestDocumentIsExample: each paragraph of the program in docs/HDF5.md is in Example.
func TestDocumentIsExample(t *testing.T) {
	document, err := os.ReadFile(filepath.Join("..", "docs", "HDF5.md"))
	if err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	_, program, _ := strings.Cut(string(document), "```go\n")
	program, _, _ = strings.Cut(program, "```")
	flat := func(text string) string { return strings.ReplaceAll(text, "\t", "") }
	for part := range strings.SplitSeq(program, "\n\n") {
		if len(part) < 100 || !strings.Contains(flat(string(example)), flat(part)) {
			t.Errorf("docs/HDF5.md has what the example has not:\n%s", part)
		}
	}
}
