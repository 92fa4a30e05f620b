package hdf5io

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
)

// Fill value message, version 3 (HDF5 spec IV.A.2.f): version and flags, without a
// value, so that absent chunks read as zeros.
const (
	fillValueVersion = 3
	fillContiguous   = 0x0a // space is allocated when data is written; fill value if set
	fillChunked      = 0x0b // space is allocated chunk by chunk; fill value if set
)

// Data layout message, version 4 (HDF5 spec IV.A.2.i).
//
//	contiguous: version, class 1, address u64, size u64
//	chunked:    version, class 2, flags 0, rank + 1, width w, chunk sizes and
//	            element size (w bytes each), index type 5, node size u32, split
//	            and merge percent, address of the index header u64
const (
	layoutVersion    = 4
	layoutContiguous = 1
	layoutChunked    = 2
	layoutIndexBTree = 5
)

// Filter pipeline message, version 2 (HDF5 spec IV.A.2.l): version, number of filters,
// then for each its id, flags and number of values, u16 each, and the values, u32.
// Shuffle, with the size of an element, and deflate, with its level, may come before
// Fletcher32.
const (
	pipelineVersion  = 2
	filterDeflate    = 1
	filterShuffle    = 2
	filterFletcher32 = "\x03\x00\x00\x00\x00\x00"
	filterOptional   = 1 // flag: it need not be used for a chunk
	maxDeflate       = 9
)

// packing is what is done to a chunk before its checksum is taken.
type packing struct {
	shuffle bool
	deflate uint8 // level, 1 to 9; 0: none
}

func (p packing) any() bool { return p != packing{} }

// optional is the mask of the filters that need not be used for a chunk.
func (p packing) optional() uint32 {
	switch {
	case p.deflate == 0:
		return 0
	case p.shuffle:
		return 1 << 1
	}
	return 1 << 0
}

func (d *datasetHeader) appendFilterPipeline(dst []byte) []byte {
	count := len(dst) + 1
	dst = append(dst, pipelineVersion, 1)
	for _, f := range [...]struct {
		on    bool
		id    byte
		value uint32
	}{{d.shuffle, filterShuffle, d.Type.size}, {d.deflate > 0, filterDeflate, uint32(d.deflate)}} {
		if f.on {
			dst[count]++
			dst = append(dst, f.id, 0, filterOptional, 0, 1, 0)
			dst = binary.LittleEndian.AppendUint32(dst, f.value)
		}
	}
	return append(dst, filterFletcher32...)
}

// readFilterPipeline reads the packing; shuffled is the size of an element that it names.
func readFilterPipeline(r *fieldReader) (p packing, shuffled uint32) {
	r.want("version", r.uint(1), pipelineVersion)
	for n := r.uint(1); n > 1 && r.err == nil; n-- {
		id := r.uint(2)
		r.want("filter flags", r.uint(2), filterOptional)
		r.want("number of filter values", r.uint(2), 1)
		value := uint32(r.uint(4))
		switch {
		case id == filterShuffle && !p.any():
			p.shuffle, shuffled = true, value
		case id == filterDeflate && p.deflate == 0 && value > 0 && value <= maxDeflate:
			p.deflate = uint8(value)
		default:
			r.fail("filter %d with value %d, after %+v", id, value, p)
		}
	}
	r.constant(filterFletcher32)
	return p, shuffled
}

// maxChunkBytes bounds a chunk so that its size fits an int everywhere, its
// checksum included.
const maxChunkBytes = math.MaxInt32 - checksumSize

// fillFlags are the flags of the fill value that go with the layout.
func (d *datasetHeader) fillFlags() byte {
	if d.chunk == nil {
		return fillContiguous
	}
	return fillChunked
}

// indexShape is the shape of the index of a chunked dataset that has passed check.
func (d *datasetHeader) indexShape() indexShape {
	chunkBytes, _ := elementBytes(d.Type.size, d.chunk)
	return indexShape{rank: len(d.dims), filtered: d.filtered, chunkBytes: chunkBytes, nodeSize: d.nodeSize,
		packed: d.any(), optional: d.optional()}
}

// check reports why d cannot be written; attributes are checked elsewhere.
func (d *datasetHeader) check() error {
	if err := d.Type.check(); err != nil {
		return err
	}
	switch {
	case len(d.dims) > maxRank:
		return fmt.Errorf("%d dimensions, limit %d", len(d.dims), maxRank)
	case d.any() && !d.filtered || d.deflate > maxDeflate:
		return fmt.Errorf("filters %+v, want a Fletcher32 with them and a level of at most %d", d.packing, maxDeflate)
	case d.maxDims != nil && len(d.maxDims) != len(d.dims):
		return fmt.Errorf("%d maximum sizes of %d dimensions", len(d.maxDims), len(d.dims))
	}
	for i, limit := range d.maxDims {
		if d.dims[i] > limit {
			return fmt.Errorf("dimension %d of size %d, its maximum is %d", i, d.dims[i], limit)
		}
	}
	size, ok := dataBytes(d.Type.size, d.dims)
	if !ok {
		return fmt.Errorf("%v elements of %d bytes are too many", d.dims, d.Type.size)
	}
	if d.chunk == nil {
		return d.checkContiguous(size)
	}
	return d.checkChunked()
}

// checkKind reports why d cannot be in a file of the kind. What reads a store
// relies on chunks that all have one size, and on a first dimension.
func (d *datasetHeader) checkKind(plain bool) error {
	if !plain && (d.any() || len(d.dims) == 0) {
		return fmt.Errorf("dataset of %v with the filters %+v in a store", d.dims, d.packing)
	}
	return nil
}

func (d *datasetHeader) checkContiguous(size uint64) error {
	switch {
	case d.filtered || d.nodeSize != 0:
		return errors.New("contiguous data with a filter or an index")
	case d.maxDims != nil && !slices.Equal(d.maxDims, d.dims):
		return fmt.Errorf("contiguous data of %v that may grow to %v", d.dims, d.maxDims)
	case d.size != size:
		return fmt.Errorf("%d bytes of contiguous data, want %d", d.size, size)
	case size == 0 && d.address == undefinedAddress:
		return nil
	case d.address < superblockSize || d.address > maxAddress-size:
		return fmt.Errorf("%d bytes of data at %#x", d.size, d.address)
	}
	return nil
}

func (d *datasetHeader) checkChunked() error {
	switch chunkBytes, ok := elementBytes(d.Type.size, d.chunk); {
	case d.size != 0:
		return fmt.Errorf("chunked data with a contiguous size of %d", d.size)
	case len(d.chunk) != len(d.dims) || len(d.dims) == 0:
		return fmt.Errorf("chunks of %d dimensions, want %d, and at least 1", len(d.chunk), len(d.dims))
	case !ok || chunkBytes == 0 || chunkBytes > maxChunkBytes:
		return fmt.Errorf("chunks of %v elements of %d bytes, want 1 to %d bytes", d.chunk, d.Type.size, maxChunkBytes)
	case d.address < superblockSize || d.address > maxAddress-indexHeaderSize:
		return fmt.Errorf("index at %#x", d.address)
	}
	_, err := d.indexShape().geometry()
	return err
}

func (d *datasetHeader) appendLayout(dst []byte) []byte {
	if d.chunk == nil {
		dst = append(dst, layoutVersion, layoutContiguous)
		dst = binary.LittleEndian.AppendUint64(dst, d.address)
		return binary.LittleEndian.AppendUint64(dst, d.size)
	}
	width := d.chunkWidth()
	dst = append(dst, layoutVersion, layoutChunked, 0, byte(len(d.chunk)+1), byte(width))
	for _, n := range d.chunk {
		dst = appendUint(dst, uint64(n), width)
	}
	dst = appendUint(dst, uint64(d.Type.size), width)
	dst = append(dst, layoutIndexBTree)
	dst = binary.LittleEndian.AppendUint32(dst, d.nodeSize)
	dst = append(dst, splitPercent, mergePercent)
	return binary.LittleEndian.AppendUint64(dst, d.address)
}

// datasetLayout is what a layout message says, before the other messages of its
// header are known.
type datasetLayout struct {
	chunk         []uint32
	elementSize   uint32 // chunked
	width         int    // chunked: bytes of each chunk size
	nodeSize      uint32
	address, size uint64
}

func readLayout(r *fieldReader) (l datasetLayout) {
	r.want("version", r.uint(1), layoutVersion)
	switch kind := r.uint(1); kind {
	case layoutContiguous:
		l.address, l.size = r.uint(8), r.uint(8)
		return l
	case layoutChunked:
	default:
		r.fail("layout class %d, want %d or %d", kind, layoutContiguous, layoutChunked)
		return l
	}
	r.want("flags", r.uint(1), 0)
	dims := r.uint(1)
	if dims < 2 || dims > maxRank+1 {
		r.fail("chunks of %d dimensions, want 2 to %d", dims, maxRank+1)
	}
	l.width = int(r.uint(1))
	if l.width < 1 || l.width > 4 {
		r.fail("chunk sizes of %d bytes, want 1 to 4", l.width)
	}
	if r.err != nil {
		return l
	}
	for range dims - 1 {
		l.chunk = append(l.chunk, uint32(r.uint(l.width)))
	}
	l.elementSize = uint32(r.uint(l.width))
	r.want("index type", r.uint(1), layoutIndexBTree)
	l.nodeSize = uint32(r.uint(4))
	r.want("split percent", r.uint(1), splitPercent)
	r.want("merge percent", r.uint(1), mergePercent)
	l.address = r.uint(8)
	return l
}

// setLayout completes d with its layout and checks the result.
func (d *datasetHeader) setLayout(l datasetLayout, fillFlags byte) error {
	d.chunk, d.nodeSize, d.address, d.size = l.chunk, l.nodeSize, l.address, l.size
	if err := d.check(); err != nil {
		return err
	}
	switch {
	case fillFlags != d.fillFlags():
		return fmt.Errorf("fill value flags %#02x, want %#02x", fillFlags, d.fillFlags())
	case d.chunk == nil:
		return nil
	case l.elementSize != d.Type.size:
		return fmt.Errorf("layout has elements of %d bytes, datatype of %d", l.elementSize, d.Type.size)
	case l.width != d.chunkWidth():
		return fmt.Errorf("chunk sizes of %d bytes each, want %d", l.width, d.chunkWidth())
	}
	return nil
}

// chunks is the number of chunks along dimension k.
func (d *datasetHeader) chunks(k int) uint64 {
	n := uint64(d.chunk[k])
	return d.dims[k]/n + min(d.dims[k]%n, 1)
}

// chunkWidth is the number of bytes that the layout has for each size of a chunk.
func (d *datasetHeader) chunkWidth() int {
	return byteWidth(uint64(max(d.Type.size, slices.Max(d.chunk))))
}
