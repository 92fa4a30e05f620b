package hdf5io

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/cidstore/cidstore/internal/crc32c"
	"github.com/cidstore/cidstore/internal/hdf5sum"
)

// TxDataset collects what a Tx does to a dataset. Its methods are cheap: the
// index is updated once, at the commit. The last edit of a chunk counts.
type TxDataset struct {
	shaped
	tx      *Tx
	path    string
	shape   indexShape
	stored  uint32 // bytes of a stored chunk
	edits   []chunkEdit
	pages   []pageEdit
	pruned  bool // Resize has made a dimension smaller
	removed bool
	err     error // of the first edit that is not possible; Commit returns it
}

// tree is the index in the root that the Tx began with.
func (t *TxDataset) tree() indexTree { return indexTree{t.tx.base, t.shape, t.object.index} }

// MaxDims returns the limits of Dims, Unlimited for a dimension without one; nil if
// Dims are fixed.
func (t *TxDataset) MaxDims() []uint64 { return slices.Clone(t.object.dataset.maxDims) }

// Packing returns which filters come before the Fletcher32: shuffle, and deflate with
// its level, 0 if it is not used.
func (t *TxDataset) Packing() (shuffle bool, deflate int) {
	return t.object.dataset.shuffle, int(t.object.dataset.deflate)
}

// Stored returns a chunk of the root that the Tx began with, as Dataset.Read does,
// and the filters that were not used for it. data is nil if there is no such chunk.
func (t *TxDataset) Stored(coord ...uint64) (data []byte, skipped uint32, err error) {
	if t.object.address == 0 {
		return nil, 0, nil
	}
	d := newDataset(t.tx.base, t.path, t.object)
	c, found, err := d.Find(coord...)
	if err != nil || !found {
		return nil, 0, err
	}
	data, err = d.readChunk(c)
	return data, c.Skipped, err
}

// Replace gives a contiguous dataset new data, all of them, in new space.
func (t *TxDataset) Replace(data []byte) error {
	d := t.object.dataset
	if t.object.chunked() || uint64(len(data)) != d.size {
		return fmt.Errorf("dataset %s: %d bytes of data, want %d", t.path, len(data), d.size)
	}
	if d.size == 0 {
		return nil
	}
	t.object.changed = true
	return t.tx.replace(&d.address, d.size, data)
}

// Put makes the size bytes that Place has put at address a chunk. The commit frees
// what the chunk was before, and reports what is wrong here.
func (t *TxDataset) Put(address uint64, size uint32, coord ...uint64) {
	at, err := t.object.coordOf(coord)
	if err == nil && (!t.shape.fits(size) || address%ExtentUnit != 0) {
		err = fmt.Errorf("chunk %v of %d bytes at %#x, want %d", coord, size, address, t.stored)
	}
	t.edit(chunkEdit{Chunk: Chunk{Coord: at, Address: address, Size: size}}, err)
}

// Delete deletes a chunk. It is no error if there is none.
func (t *TxDataset) Delete(coord ...uint64) {
	at, err := t.object.coordOf(coord)
	t.edit(chunkEdit{Chunk{Coord: at}, true}, err)
	if t.object.chunkMap != Unmapped {
		t.pages = append(t.pages, pageEdit{number: at[0]})
	}
}

func (t *TxDataset) edit(e chunkEdit, err error) {
	if err != nil && t.err == nil {
		t.err = fmt.Errorf("dataset %s: %w", t.path, err)
	}
	t.edits = append(t.edits, e)
}

// Write places data, which is a complete chunk, with its filter, and names it.
func (t *TxDataset) Write(data []byte, coord ...uint64) (address uint64, err error) {
	address, _, err = t.place(data)
	if err != nil {
		return 0, err
	}
	t.Put(address, t.stored, coord...)
	return address, nil
}

// WritePacked is Write for a chunk that has passed the filters before the
// Fletcher32. Bit i of skipped says that filter i was not used. It returns where
// the chunk lies, and in how many bytes.
func (t *TxDataset) WritePacked(data []byte, skipped uint32, coord ...uint64) (Chunk, error) {
	at, err := t.object.coordOf(coord)
	size := uint64(len(data))
	if t.shape.filtered {
		size += checksumSize
	}
	if err == nil && (size > uint64(t.stored) || !t.shape.fits(uint32(size))) {
		err = fmt.Errorf("chunk of %d bytes, want %d", size, t.stored)
	}
	if err != nil {
		return Chunk{}, fmt.Errorf("dataset %s: %w", t.path, err)
	}
	address, _, err := t.store(data)
	if err != nil {
		return Chunk{}, err
	}
	c := Chunk{at, address, uint32(size), skipped}
	t.edit(chunkEdit{Chunk: c}, nil)
	return c, nil
}

// place is store for a chunk that is not packed.
func (t *TxDataset) place(data []byte) (address uint64, sum []byte, err error) {
	if uint32(len(data)) != t.shape.chunkBytes || !t.object.chunked() {
		return 0, nil, fmt.Errorf("dataset %s: %d bytes of data, want %d", t.path, len(data), t.shape.chunkBytes)
	}
	return t.store(data)
}

// store writes a chunk into new space, and after it its Fletcher32, if it has one, which
// it returns.
func (t *TxDataset) store(data []byte) (address uint64, sum []byte, err error) {
	if t.shape.filtered {
		sum = binary.LittleEndian.AppendUint32(nil, hdf5sum.Fletcher32(data))
	}
	w := &t.tx.writer
	address, err = w.alloc(uint64(len(data) + len(sum)))
	if err == nil {
		err = w.write(address, data)
	}
	if err == nil {
		err = w.write(address+uint64(len(data)), sum)
	}
	return address, sum, err
}

// WritePage is Write for chunk i of a dataset with a chunk map, which will name it too.
// The new page keeps those marks of the page that it replaces which are set in keep.
func (t *TxDataset) WritePage(i uint64, data []byte, keep Marks) error {
	if t.object.chunkMap == Unmapped {
		return fmt.Errorf("dataset %s is in no chunk map", t.path)
	}
	if chunks := t.object.dataset.chunks(0); i >= chunks {
		return fmt.Errorf("dataset %s: chunk %d of %d", t.path, i, chunks)
	}
	address, sum, err := t.place(data)
	if err != nil {
		return err
	}
	t.edit(chunkEdit{Chunk: Chunk{Coord: [4]uint64{i}, Address: address, Size: t.stored}}, nil)
	t.pages = append(t.pages, pageEdit{number: i, keep: keep, page: &Page{
		number: i, address: address, commit: t.tx.number, size: t.stored,
		crc: crc32c.Extend(chunkCRC(t.tx.file.uuid, i, t.tx.number, data), sum),
	}})
	return nil
}

// Resize sets the dimensions of a chunked dataset, within its maximum. The commit
// deletes chunks that lie outside then.
func (t *TxDataset) Resize(dims ...uint64) error {
	d := *t.object.dataset
	if !t.object.chunked() || len(dims) != len(d.dims) || d.maxDims == nil && !slices.Equal(dims, d.dims) {
		return fmt.Errorf("dataset %s: resize %v to %v", t.path, d.dims, dims)
	}
	old := d.dims
	d.dims = slices.Clone(dims)
	d.address = FirstExtent // checked as if it were placed, which that of a new dataset is not yet
	if err := d.check(); err != nil {
		return fmt.Errorf("dataset %s: %w", t.path, err)
	}
	for i := range dims {
		t.pruned = t.pruned || dims[i] < old[i]
	}
	if !slices.Equal(old, dims) {
		t.object.dataset.dims = d.dims
		t.object.changed = true
	}
	return nil
}
