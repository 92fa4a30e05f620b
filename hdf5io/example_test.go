package hdf5io_test

import (
	"encoding/binary"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/vfs"
)

// A plain HDF5 file is made, changed in one transaction, and read.
func Example() {
	dir, err := os.MkdirTemp("", "hdf5io")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	raw, err := vfs.OS().OpenFile(filepath.Join(dir, "measures.h5"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		log.Fatal(err)
	}
	defer raw.Close()
	options := hdf5io.Options{Plain: true, UUID: [16]byte{1}}
	file, err := hdf5io.Create(raw, options, nil, func(tx *hdf5io.Tx) error {
		_, err := tx.CreateDataset("/temperatures", hdf5io.DatasetSpec{
			Type: hdf5io.Int(4), Dims: []uint64{0}, MaxDims: []uint64{hdf5io.Unlimited}, Chunk: []uint32{3},
			Fletcher32: true, Attributes: hdf5io.Described("noon", "degrees Celsius"),
		})
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	defer file.Close()

	tx, err := file.Begin()
	if err != nil {
		log.Fatal(err)
	}
	defer tx.Abort() // does nothing after Commit
	dataset, err := tx.Dataset("/temperatures")
	if err != nil {
		log.Fatal(err)
	}
	var chunk []byte
	for _, t := range []uint32{17, 19, 23} {
		chunk = binary.LittleEndian.AppendUint32(chunk, t)
	}
	if _, err := dataset.Write(chunk, 0); err != nil {
		log.Fatal(err)
	}
	if err := dataset.Resize(3); err != nil {
		log.Fatal(err)
	}
	view, err := tx.Commit(nil)
	if err != nil {
		log.Fatal(err)
	}

	read, err := view.Dataset("/temperatures")
	if err != nil {
		log.Fatal(err)
	}
	data, err := read.Read(0)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(read.Dims(), read.Type(), binary.LittleEndian.Uint32(data[8:]))
	// Output: [3] i32 23
}
