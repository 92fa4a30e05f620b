package safeh5

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"path"
	"slices"
	"strings"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/corrupt"
)

// Unlimited in Spec.MaxDims allows a dimension to grow without end.
const Unlimited uint64 = math.MaxUint64

// Spec describes a dataset to make.
type Spec struct {
	// Type is a Go value of the type of an element, such as float64(0) or Reading{}, or
	// an hdf5io.Datatype.
	Type any
	// Dims has the number of elements along each dimension, for up to 4 dimensions. Nil
	// means one element.
	Dims []uint64
	// MaxDims is what Dims may grow to. Nil means that they are fixed.
	MaxDims []uint64
	// Chunk has the number of elements of a chunk along each dimension, which is at most
	// what the dimension may grow to. A chunk has at most 64 MiB. If Chunk is nil, chunks
	// have about 64 KiB, or, if neither MaxDims nor filters need chunks, the data are in
	// one piece. Any change in a chunk rewrites the whole chunk.
	Chunk []uint32
	// Shuffle, and Gzip with a level of 1 to 9, say how chunks are packed.
	Shuffle bool
	Gzip    int
}

const (
	goodChunk = 64 << 10
	mostChunk = 64 << 20
	// mostPiece limits datasets in one piece, which are in memory while they change.
	mostPiece = 256 << 20
)

// Dataset is a dataset in an Update. It can be used as long as its Tx.
type Dataset struct {
	tx    *Tx
	path  string
	inner *hdf5io.TxDataset
	typ   hdf5io.Datatype
	dims  []uint64
	max   []uint64
	chunk []uint64 // nil: in one piece
	packer
	gone bool

	open   map[[4]uint64][]byte       // chunks that were changed and not written yet
	placed map[[4]uint64]hdf5io.Chunk // those that were written
	piece  []byte                     // of a dataset in one piece that was changed

	scratch []byte // see encode
}

// CreateDataset makes a dataset of zeros at a path that does not exist yet. It also makes
// the groups above it that are missing.
func (tx *Tx) CreateDataset(path string, spec Spec) (d *Dataset, err error) {
	err = tx.do(func() error {
		d, err = tx.createDataset(path, spec)
		return about(path, err)
	})
	return d, err
}

func (tx *Tx) createDataset(name string, spec Spec) (*Dataset, error) {
	t, err := datatypeOf(spec.Type)
	if err != nil {
		return nil, err
	}
	chunk, err := spec.chunks(t)
	if err != nil {
		return nil, err
	}
	if err := tx.groups(path.Dir(name)); err != nil {
		return nil, err
	}
	inner, err := tx.inner.CreateDataset(name, hdf5io.DatasetSpec{
		Type: t, Dims: spec.Dims, MaxDims: spec.MaxDims, Chunk: chunk,
		Fletcher32: chunk != nil, Shuffle: spec.Shuffle, Deflate: spec.Gzip, Later: chunk == nil,
	})
	if err != nil {
		return nil, err
	}
	tx.adds = true
	d := tx.dataset(name, inner)
	if chunk == nil {
		size, ok := bytesOf(t, spec.Dims)
		if !ok || size > mostPiece {
			return nil, fmt.Errorf("%v elements of %d bytes in one piece, limit %d bytes; give Spec.Chunk", spec.Dims, t.Size(), mostPiece)
		}
		if err := d.openPiece(int64(size)); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// chunks returns the form of the chunks, or nil without chunks.
func (s *Spec) chunks(t hdf5io.Datatype) ([]uint32, error) {
	chunk := s.Chunk
	if chunk == nil {
		if s.MaxDims == nil && !s.Shuffle && s.Gzip == 0 {
			return nil, nil
		}
		if len(s.Dims) == 0 {
			return nil, errors.New("a single element has no chunks, want no MaxDims and no filters")
		}
		chunk = s.defaultChunk(t)
	}
	size := uint64(t.Size())
	for i, n := range chunk {
		// The HDF5 library, and so h5repack, cannot make any others.
		if most := s.most(i); uint64(n) > most {
			return nil, fmt.Errorf("chunks of %d elements along dimension %d, which has at most %d", n, i, most)
		}
		size *= uint64(n)
		if size == 0 || size > mostChunk {
			return nil, fmt.Errorf("chunks of %v elements of %d bytes, want 1 to %d bytes", chunk, t.Size(), mostChunk)
		}
	}
	return chunk, nil
}

// most returns what dimension i may grow to, at least 1.
func (s *Spec) most(i int) uint64 {
	switch {
	case i < len(s.MaxDims):
		return max(s.MaxDims[i], 1)
	case i < len(s.Dims):
		return max(s.Dims[i], 1)
	}
	return Unlimited // the dimensions are refused later
}

// defaultChunk returns a chunk of about 64 KiB, with as many of the last dimensions
// complete as fit.
func (s *Spec) defaultChunk(t hdf5io.Datatype) []uint32 {
	chunk := make([]uint32, len(s.Dims))
	room := max(1, goodChunk/uint64(max(t.Size(), 1)))
	for i := len(s.Dims) - 1; i >= 0; i-- {
		n := min(s.most(i), room)
		if i > 0 {
			n = min(max(s.Dims[i], 1), room)
		}
		chunk[i] = uint32(n)
		room = max(1, room/n)
	}
	return chunk
}

// Dataset returns the dataset at path. The error is ErrNotFound if there is none.
func (tx *Tx) Dataset(path string) (*Dataset, error) {
	if err := tx.begin(); err != nil {
		return nil, err
	}
	if d := tx.datasets[path]; d != nil {
		return d, nil
	}
	inner, err := tx.inner.Dataset(path)
	if errors.Is(err, ErrNotFound) {
		return nil, err // the Update does not fail: the caller may make it
	}
	if tx.err = err; err != nil {
		return nil, err
	}
	d := tx.dataset(path, inner)
	if size, ok := bytesOf(d.typ, d.chunk); d.chunk != nil && (!ok || size > mostChunk) {
		tx.err = corrupt.Errorf("dataset "+path, -1, "chunks of %v elements of %d bytes, limit %d bytes", d.chunk, d.typ.Size(), mostChunk)
		return nil, tx.err
	}
	return d, nil
}

// bytesOf returns the size of that many elements, and whether a dataset can have them.
func bytesOf(t hdf5io.Datatype, dims []uint64) (uint64, bool) {
	size := uint64(t.Size())
	for _, n := range dims {
		if n > 0 && size > math.MaxInt64/n {
			return 0, false
		}
		size *= n
	}
	return size, true
}

func (tx *Tx) dataset(path string, inner *hdf5io.TxDataset) *Dataset {
	d := &Dataset{tx: tx, path: path, inner: inner, typ: inner.Type(), dims: inner.Dims(), max: inner.MaxDims()}
	for _, n := range inner.ChunkDims() {
		d.chunk = append(d.chunk, uint64(n))
	}
	d.packer.shuffle, d.packer.level = inner.Packing()
	d.packer.element = int(d.typ.Size())
	tx.datasets[path] = d
	return d
}

// Dims returns the number of elements along each dimension, as this Update has made them.
func (d *Dataset) Dims() []uint64 { return slices.Clone(d.dims) }

// Type returns the type of an element.
func (d *Dataset) Type() hdf5io.Datatype { return d.typ }

// Grow makes dimensions larger, within Spec.MaxDims. New elements are zero.
func (d *Dataset) Grow(dims ...uint64) error {
	return d.do(func() error { return d.grow(dims) })
}

func (d *Dataset) grow(dims []uint64) error {
	if len(dims) != len(d.dims) {
		return fmt.Errorf("%d dimensions, want %d", len(dims), len(d.dims))
	}
	if slices.Equal(dims, d.dims) {
		return nil
	}
	for i, n := range dims {
		limit := d.dims[i]
		if d.max != nil {
			limit = d.max[i]
		}
		switch {
		case n < d.dims[i] || n > limit && d.max != nil:
			return fmt.Errorf("%v elements, want %v to %v", dims, d.dims, d.max)
		case n > limit:
			return fmt.Errorf("%v elements, and there are %v for good: it was made without MaxDims", dims, d.dims)
		}
	}
	if err := d.inner.Resize(dims...); err != nil {
		return err
	}
	d.dims = slices.Clone(dims)
	d.tx.adds = true
	return nil
}

// do is Tx.do for a change of the dataset.
func (d *Dataset) do(change func() error) error {
	if d.gone {
		return fmt.Errorf("dataset %s: it was deleted", d.path)
	}
	return d.tx.do(func() error { return about(d.path, change()) })
}

// about adds the path of the dataset to an error, unless hdf5io has done so.
func about(path string, err error) error {
	if err == nil || strings.HasPrefix(err.Error(), "dataset "+path+": ") {
		return err
	}
	return fmt.Errorf("dataset %s: %w", path, err)
}

// AppendBytes appends rows along the first dimension. p holds their elements as the file
// stores them, row after row.
func (d *Dataset) AppendBytes(p []byte) error {
	return d.do(func() error { return d.append(p) })
}

func (d *Dataset) append(p []byte) error {
	if len(d.dims) == 0 {
		return errors.New("a single element has no rows")
	}
	row, ok := bytesOf(d.typ, d.dims[1:])
	if !ok || row == 0 || uint64(len(p))%row != 0 {
		return fmt.Errorf("%d bytes, want rows of %d", len(p), row)
	}
	start, count := make([]uint64, len(d.dims)), slices.Clone(d.dims)
	start[0], count[0] = d.dims[0], uint64(len(p))/row
	dims := slices.Clone(d.dims)
	if dims[0] > math.MaxUint64-1-count[0] {
		return fmt.Errorf("%d rows after %d", count[0], dims[0])
	}
	dims[0] += count[0]
	if err := d.grow(dims); err != nil {
		return err
	}
	return d.write(start, count, p)
}

// WriteBytes writes the box that begins at start and has count elements along each
// dimension. p holds these elements as the file stores them, the last dimension varying
// fastest. If start and count are nil, the box is all elements.
func (d *Dataset) WriteBytes(start, count []uint64, p []byte) error {
	return d.do(func() error { return d.write(start, count, p) })
}

func (d *Dataset) write(start, count []uint64, p []byte) error {
	if start == nil && count == nil {
		start, count = make([]uint64, len(d.dims)), d.dims
	}
	if len(start) != len(d.dims) || len(count) != len(d.dims) {
		return fmt.Errorf("a box of %d and %d dimensions, want %d", len(start), len(count), len(d.dims))
	}
	for i, n := range count {
		if start[i] > d.dims[i] || n > d.dims[i]-start[i] {
			return fmt.Errorf("a box of %v elements at %v, the dataset has %v", count, start, d.dims)
		}
	}
	if size, ok := bytesOf(d.typ, count); !ok || size != uint64(len(p)) {
		return fmt.Errorf("%d bytes for %v elements of %d bytes", len(p), count, d.typ.Size())
	}
	if len(p) == 0 {
		return nil
	}
	d.tx.adds = true
	if d.chunk == nil {
		return d.writePiece(start, count, p)
	}
	return d.writeChunks(start, count, p)
}

func (d *Dataset) writePiece(start, count []uint64, p []byte) error {
	if d.piece == nil {
		address, size := d.inner.Extent()
		if err := d.openPiece(size); err != nil {
			return err
		}
		old, err := d.tx.inner.Base().Bytes(address, int(size))
		if err != nil {
			return err
		}
		copy(d.piece, old)
	}
	b := box{side{d.piece, d.dims, start}, side{p, count, nil}, count, uint64(d.typ.Size())}
	b.copy(0, 0, 0)
	return nil
}

// openPiece makes memory for a dataset in one piece, which it has until the Update ends.
func (d *Dataset) openPiece(size int64) error {
	if size > mostPiece-d.tx.pieces {
		return fmt.Errorf("%d bytes in one piece and %d of others, limit of an Update %d", size, d.tx.pieces, mostPiece)
	}
	d.tx.pieces += size
	d.piece = make([]byte, size)
	return nil
}

// writeChunks changes the chunks that a box touches, in order.
func (d *Dataset) writeChunks(start, count []uint64, p []byte) error {
	rank := len(d.dims)
	first, last, at := make([]uint64, rank), make([]uint64, rank), make([]uint64, rank)
	for i := range rank {
		first[i], last[i] = start[i]/d.chunk[i], (start[i]+count[i]-1)/d.chunk[i]
	}
	copy(at, first)
	for {
		if err := d.writeChunk(at, start, count, p); err != nil {
			return err
		}
		i := rank - 1
		for ; i >= 0 && at[i] == last[i]; i-- {
			at[i] = first[i]
		}
		if i < 0 {
			return nil
		}
		at[i]++
	}
}

// writeChunk changes the part of chunk at that lies in the box.
func (d *Dataset) writeChunk(at, start, count []uint64, p []byte) error {
	rank := len(d.dims)
	to, from, part := make([]uint64, rank), make([]uint64, rank), make([]uint64, rank)
	whole, piece := true, true // the box has all of the chunk; the chunk is in one piece in p
	for i := range rank {
		begin := at[i] * d.chunk[i]
		low, high := max(begin, start[i]), min(begin+d.chunk[i], start[i]+count[i])
		to[i], from[i], part[i] = low-begin, low-start[i], high-low
		whole = whole && part[i] == d.chunk[i]
		piece = piece && (i == 0 || part[i] == count[i])
	}
	var key [4]uint64
	copy(key[:], at)
	element := uint64(d.typ.Size())
	if whole && piece {
		d.close(key)
		offset := from[0] * element
		for _, n := range count[1:] {
			offset *= n
		}
		return d.store(key, p[offset:offset+uint64(d.chunkBytes())])
	}
	chunk, err := d.openChunk(key, whole)
	if err != nil {
		return err
	}
	b := box{side{chunk, d.chunk, to}, side{p, count, from}, part, element}
	b.copy(0, 0, 0)
	if d.tx.open > d.tx.mostOpen {
		return d.tx.each((*Dataset).flush)
	}
	return nil
}

func (d *Dataset) chunkBytes() int {
	size, _ := bytesOf(d.typ, d.chunk)
	return int(size)
}

// openChunk returns a chunk to change. fresh says that all of it will be written.
func (d *Dataset) openChunk(key [4]uint64, fresh bool) ([]byte, error) {
	if chunk := d.open[key]; chunk != nil {
		return chunk, nil
	}
	var chunk []byte
	if !fresh {
		var err error
		if chunk, err = d.load(key); err != nil {
			return nil, err
		}
	}
	if chunk == nil {
		chunk = make([]byte, d.chunkBytes())
	}
	if d.open == nil {
		d.open = make(map[[4]uint64][]byte)
	}
	d.open[key] = chunk
	d.tx.open += len(chunk)
	return chunk, nil
}

// load reads a chunk as the Update has it. It returns nil if there is none.
func (d *Dataset) load(key [4]uint64) ([]byte, error) {
	if c, ok := d.placed[key]; ok {
		stored := make([]byte, c.Size)
		if err := d.tx.inner.ReadPlaced(stored, c.Address); err != nil {
			return nil, err
		}
		return d.unpack(stored[:len(stored)-fletcherSize], c.Skipped, d.chunkBytes())
	}
	stored, skipped, err := d.inner.Stored(key[:len(d.dims)]...)
	if err != nil || stored == nil {
		return nil, err
	}
	chunk, err := d.unpack(stored, skipped, d.chunkBytes())
	if err != nil {
		return nil, fmt.Errorf("chunk %v: %w", key[:len(d.dims)], err)
	}
	return chunk, nil
}

const fletcherSize = 4 // bytes of the checksum after each chunk

func (d *Dataset) store(key [4]uint64, chunk []byte) error {
	packed, skipped, err := d.pack(chunk)
	if err != nil {
		return err
	}
	c, err := d.inner.WritePacked(packed, skipped, key[:len(d.dims)]...)
	if err != nil {
		return err
	}
	if d.placed == nil {
		d.placed = make(map[[4]uint64]hdf5io.Chunk)
	}
	d.placed[key] = c
	return nil
}

// close forgets a chunk in memory.
func (d *Dataset) close(key [4]uint64) {
	if chunk := d.open[key]; chunk != nil {
		d.tx.open -= len(chunk)
		delete(d.open, key)
	}
}

// flush writes the chunks that are in memory.
func (d *Dataset) flush() error {
	keys := slices.SortedFunc(maps.Keys(d.open), func(a, b [4]uint64) int { return slices.Compare(a[:], b[:]) })
	for _, key := range keys {
		if err := d.store(key, d.open[key]); err != nil {
			return fmt.Errorf("dataset %s: %w", d.path, err)
		}
		d.close(key)
	}
	return nil
}

// finish writes all that is in memory, for the commit.
func (d *Dataset) finish() error {
	if err := d.flush(); err != nil || d.piece == nil {
		return err
	}
	return d.inner.Replace(d.piece)
}

// forget drops what is in memory, because the dataset is deleted.
func (d *Dataset) forget() {
	for _, chunk := range d.open {
		d.tx.open -= len(chunk)
	}
	d.open, d.piece, d.gone = nil, nil, true
}

// box is a box of elements to copy from one array into another.
type box struct {
	to, from side
	count    []uint64
	element  uint64 // bytes
}

// side is one of the arrays, and where the box begins in it; nil: at the beginning.
type side struct {
	p           []byte
	dims, start []uint64
}

// copy copies the box from dimension i on. to and from are its places in the arrays by the
// dimensions before i.
func (b *box) copy(i int, to, from uint64) {
	if i == len(b.count) { // no dimension at all
		copy(b.to.p[:b.element], b.from.p[:b.element])
		return
	}
	to, from = b.to.at(to, i), b.from.at(from, i)
	if i == len(b.count)-1 {
		copy(b.to.p[to*b.element:(to+b.count[i])*b.element], b.from.p[from*b.element:])
		return
	}
	for n := range b.count[i] {
		b.copy(i+1, to+n, from+n)
	}
}

// at is where the box starts by dimensions up to i, if place is where by those before i.
func (s *side) at(place uint64, i int) uint64 {
	place *= s.dims[i]
	if s.start != nil {
		place += s.start[i]
	}
	return place
}
