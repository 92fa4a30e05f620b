package hdf5io

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/internal/hdf5sum"
	"github.com/cidstore/cidstore/vfs"
)

// Dataset is a dataset of one View. It is immutable; any number of goroutines may
// use it while the View is pinned.
type Dataset struct {
	shaped
	view  *View
	path  string
	shape indexShape
	pages *chunkMap // nil: it has none
}

func newDataset(v *View, path string, o *object) *Dataset {
	d := &Dataset{shaped: shaped{o}, view: v, path: path}
	if o.chunked() {
		d.shape = o.dataset.indexShape()
	}
	if o.chunkMap != Unmapped {
		d.pages = v.maps[o.chunkMap-FirstMap]
	}
	return d
}

// Path is the dataset's place in the tree.
func (d *Dataset) Path() string { return d.path }

// Offset is where the dataset's object header lies in the file.
func (d *Dataset) Offset() int64 { return int64(d.object.address) }

// Filtered reports whether chunks end with a Fletcher32.
func (d *Dataset) Filtered() bool { return d.object.dataset.filtered }

// shaped is a dataset of a View or of a Tx: what its header says.
type shaped struct{ object *object }

// Dims returns the number of elements along each dimension.
func (s shaped) Dims() []uint64 { return slices.Clone(s.object.dataset.dims) }

// ChunkDims returns the elements of a chunk along each dimension; nil for a
// contiguous dataset.
func (s shaped) ChunkDims() []uint32 { return slices.Clone(s.object.dataset.chunk) }

// Type is the datatype of the elements.
func (s shaped) Type() Datatype { return s.object.dataset.Type }

// Extent is where the data of a contiguous dataset lie; zeros for a chunked one.
func (s shaped) Extent() (offset, size int64) {
	if s.object.chunked() {
		return 0, 0
	}
	return int64(s.object.dataset.address), int64(s.object.dataset.size)
}

// Chunk says where one chunk lies.
type Chunk struct {
	Coord   [4]uint64 // number of the chunk along each dimension
	Address uint64    // in the file, bytes
	Size    uint32    // stored bytes, filter included
	Skipped uint32    // bit i: filter i was not used for this chunk
}

// inFile checks a record of the index against the size of the file.
func (d *Dataset) inFile(c Chunk) error {
	if !insideData(c.Address, uint64(c.Size), d.view.slot.endOfFile) {
		return corrupt.Errorf(d.chunkName(c.Coord), int64(c.Address), "%d bytes, the file ends at %#x", c.Size, d.view.slot.endOfFile)
	}
	return nil
}

func (d *Dataset) chunkName(coord [4]uint64) string {
	return fmt.Sprintf("chunk %v of %s", coord[:d.shape.rank], d.path)
}

// coordOf turns chunk numbers into a key of the index.
func (o *object) coordOf(coord []uint64) (out [4]uint64, err error) {
	if !o.chunked() {
		return out, fmt.Errorf("dataset is not chunked")
	}
	if len(coord) != len(o.dataset.dims) {
		return out, fmt.Errorf("chunk %v of a dataset of %d dimensions", coord, len(o.dataset.dims))
	}
	copy(out[:], coord)
	return out, nil
}

func (d *Dataset) tree() indexTree { return indexTree{d.view, d.shape, d.object.index} }

// Find looks a chunk up in the HDF5 index by its number along each dimension.
func (d *Dataset) Find(coord ...uint64) (Chunk, bool, error) {
	at, err := d.object.coordOf(coord)
	if err != nil {
		return Chunk{}, false, err
	}
	c, found, err := d.tree().lookup(at)
	if err == nil && found {
		err = d.inFile(c)
	}
	return c, found && err == nil, err
}

// Read returns the data of a chunk, its Fletcher32 verified and stripped: the
// mapped bytes, valid while the View is pinned, or a copy. The caller undoes other
// filters. nil means that there is no such chunk.
func (d *Dataset) Read(coord ...uint64) ([]byte, error) {
	c, found, err := d.Find(coord...)
	if err != nil || !found {
		return nil, err
	}
	return d.readChunk(c)
}

func (d *Dataset) readChunk(c Chunk) ([]byte, error) {
	p, err := d.view.Bytes(int64(c.Address), int(c.Size))
	if err != nil {
		return nil, err
	}
	if !d.shape.filtered {
		return p, nil
	}
	if err := d.verifyFilter(c, p); err != nil {
		return nil, err
	}
	n := len(p) - checksumSize
	return p[:n:n], nil
}

// verifyFilter compares the Fletcher32 that follows the data with the data.
func (d *Dataset) verifyFilter(c Chunk, p []byte) error {
	var got, want uint32
	err := vfs.Guard(func() error {
		n := len(p) - checksumSize
		got, want = binary.LittleEndian.Uint32(p[n:]), hdf5sum.Fletcher32(p[:n])
		return nil
	})
	if err != nil {
		return ioError(int64(c.Address), len(p), err)
	}
	if got != want {
		return corrupt.Errorf(d.chunkName(c.Coord), int64(c.Address), "Fletcher32 %#08x, want %#08x", got, want)
	}
	return nil
}

// Walk visits the chunks in the order of their numbers, beginning with the first
// that is not before from (nil: all), until visit returns false.
func (d *Dataset) Walk(from []uint64, visit func(Chunk) (bool, error)) error {
	if from == nil && d.object.chunked() {
		from = make([]uint64, d.shape.rank)
	}
	at, err := d.object.coordOf(from)
	if err != nil {
		return err
	}
	return d.tree().walk(at, nil, func(c Chunk) (bool, error) {
		if err := d.inFile(c); err != nil {
			return false, err
		}
		return visit(c)
	})
}

// Page returns chunk i of a dataset with a chunk map, verified when it is first read;
// nil if there is no such chunk. After that it takes no lock and allocates nothing.
func (d *Dataset) Page(i uint64) (*Page, error) {
	if d.pages == nil {
		return nil, corrupt.Errorf("dataset "+d.path, d.Offset(), "it is in no chunk map")
	}
	p := d.pages.page(i)
	if p == nil || p.bytes.Load() != nil {
		return p, nil
	}
	if err := p.load(d.view, int(d.shape.chunkBytes)); err != nil {
		return nil, fmt.Errorf("dataset %s: %w", d.path, err)
	}
	return p, nil
}

// PageAgain is Page, but verifies the chunk's bytes at every call.
func (d *Dataset) PageAgain(i uint64) (*Page, error) {
	p, err := d.Page(i)
	if p == nil || err != nil {
		return nil, err
	}
	if _, err := p.verify(d.view); err != nil {
		return nil, fmt.Errorf("dataset %s: %w", d.path, err)
	}
	return p, nil
}

// Pages is the number of chunks that the dataset's chunk map covers, including those
// that do not exist; 0 without one.
func (d *Dataset) Pages() uint64 {
	if d.pages == nil {
		return 0
	}
	return d.pages.count
}
