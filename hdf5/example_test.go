package hdf5_test

import (
	"errors"
	"fmt"
	"log"

	"github.com/cidstore/cidstore/hdf5"
)

// A file is walked through, object by object.
func ExampleFile_Objects() {
	f, err := hdf5.Open("testdata/netcdf4.h5", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	for object, err := range f.Objects() {
		if err != nil {
			log.Print(err) // and go on with the others
			continue
		}
		if d, ok := object.(*hdf5.Dataset); ok {
			fmt.Println(d.Path(), d.Shape(), d.Type(), d.Layout(), d.Filters())
		}
	}
	// Output:
	// /time [0] f32-be chunked []
	// /temperature [3 5] f32 chunked [shuffle deflate]
	// /names [5] string contiguous []
	// /x [5] i16-be contiguous []
	// /group/y [5] u64 contiguous []
	// /group/k [5] enum u8 contiguous []
}

// Of each tenth row the columns 28 and 29 are selected.
func ExampleDataset_Slabs() {
	f, err := hdf5.Open("testdata/tiles.h5", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	root, err := f.Root()
	if err != nil {
		log.Fatal(err)
	}
	d, err := root.Dataset("d") // 100 × 30 numbers that count up
	if err != nil {
		log.Fatal(err)
	}
	rows := hdf5.Hyperslab{Start: []uint64{0, 28}, Stride: []uint64{10, 1}, Count: []uint64{10, 2}}
	for block, err := range d.Slabs(rows) {
		if err != nil {
			log.Fatal(err)
		}
		values, err := block.Uint64s()
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(block.Start, block.Rows, values)
	}
	// Output:
	// 0 10 [28 29 328 329 628 629 928 929 1228 1229 1528 1529 1828 1829 2128 2129 2428 2429 2728 2729]
}

// The columns of a table are read block by block, in memory that does not depend
// on the number of rows.
func ExampleDataset_Rows() {
	f, err := hdf5.Open("testdata/pytables.h5", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	root, err := f.Root()
	if err != nil {
		log.Fatal(err)
	}
	table, err := root.Dataset("zlib")
	if err != nil {
		log.Fatal(err)
	}
	var names, sum = 0, int64(0)
	for rows, err := range table.Rows(0, table.Len()) {
		if err != nil {
			log.Fatal(err)
		}
		name, err1 := rows.Strings("name")
		count, err2 := rows.Int64s("count")
		if err := errors.Join(err1, err2); err != nil {
			log.Fatal(err)
		}
		names += len(name)
		for _, n := range count {
			sum += n
		}
	}
	fmt.Println(names, sum)
	// Output: 20 190
}

// An attribute has a value of a Go type.
func ExampleBlock_Value() {
	f, err := hdf5.Open("testdata/layout-attr-earliest.h5", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	root, err := f.Root()
	if err != nil {
		log.Fatal(err)
	}
	config, err := root.Open("config")
	if err != nil {
		log.Fatal(err)
	}
	attribute, err := config.Attribute("format_version")
	if err != nil {
		log.Fatal(err)
	}
	value, err := attribute.Value()
	fmt.Printf("%T %v %v\n", value, value, err)
	// Output: []int64 [1] <nil>
}
