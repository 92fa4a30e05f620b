package hdf5

import (
	"encoding/binary"
	"math/bits"

	"github.com/cidstore/cidstore/internal/hdf5sum"
)

// fractalHeap holds links or attributes in dense storage (spec III.G). It keeps every
// block that it has read.
type fractalHeap struct {
	file    *File
	b       *budget
	at      decoder // of the header, for errors
	idSize  int
	flags   byte
	address uint64 // of the header

	width          uint64 // blocks in a row
	startSize      uint64 // bytes of a block in the first two rows
	maxDirect      uint64 // bytes of the largest block with data
	maxBits        int    // a heap offset has no more
	root           uint64
	rows           int // of the root; 0: it is a direct block
	offsetBytes    int // of a heap offset
	lengthBytes    int // of an object's length
	hugeTree       uint64
	direct, blocks map[uint64]decoder // by address: direct blocks, indirect blocks
	huge           map[uint64]hugeObject
}

// hugeObject says where an object is that is too large for a block.
type hugeObject struct{ address, size uint64 }

// fractalHeap reads the header of the heap at an address.
func (f *File) fractalHeap(b *budget, address uint64) (*fractalHeap, error) {
	o, l := uint64(f.super.offsetSize), uint64(f.super.lengthSize)
	d := f.signed(b, "fractal heap header", "FRHP", address, 26+12*l+3*o)
	h := &fractalHeap{file: f, b: b, at: d, address: address, direct: map[uint64]decoder{}, blocks: map[uint64]decoder{}}
	d.version(0, 0)
	h.idSize = int(d.u16())
	if filters := d.u16(); filters > 0 {
		d.fail(ErrUnsupported, "a fractal heap with filters")
	}
	d.unseal()
	h.flags = d.u8()
	maxManaged := d.u32()
	d.length() // next huge id
	h.hugeTree = d.address()
	d.length() // free space
	d.address()
	d.take(8 * l) // statistics
	h.width = uint64(d.u16())
	h.startSize, h.maxDirect = d.length(), d.length()
	h.maxBits = int(d.u16())
	d.u16() // rows at the beginning
	h.root = d.address()
	h.rows = int(d.u16())
	if d.err != nil {
		return nil, d.err
	}
	powers := h.width&(h.width-1) == 0 && h.startSize&(h.startSize-1) == 0 && h.maxDirect&(h.maxDirect-1) == 0
	if !powers || h.width == 0 || h.startSize == 0 || h.maxDirect < h.startSize || h.maxDirect > 1<<31 || h.maxBits > 64 || h.idSize > 4096 || h.idSize < 1 || h.rows > 64 {
		return nil, d.corrupt("table of width %d, blocks of %d to %d bytes, %d bits, ids of %d bytes", h.width, h.startSize, h.maxDirect, h.maxBits, h.idSize)
	}
	h.offsetBytes = (h.maxBits + 7) / 8
	h.lengthBytes = min(bytesFor(h.maxDirect), bytesFor(uint64(maxManaged)))
	return h, nil
}

// bytesFor returns how many bytes the library uses for a number that is at most n.
func bytesFor(n uint64) int {
	return (bits.Len64(max(n, 1))-1)/8 + 1
}

// object returns the bytes of the object with an id. They are shared.
func (h *fractalHeap) object(id decoder) decoder {
	const structure = "fractal heap object"
	kind := id.u8()
	if kind>>6 != 0 {
		id.fail(ErrUnsupported, "heap id of version %d", kind>>6)
	}
	var d decoder
	switch kind >> 4 & 3 {
	case 0:
		offset := id.number(h.offsetBytes)
		size := id.number(h.lengthBytes)
		if id.err != nil {
			return id
		}
		d = h.managed(offset, size)
	case 1:
		key := id.number(min(h.idSize-1, h.file.super.lengthSize))
		if id.err != nil {
			return id
		}
		return h.hugeObject(id, key)
	case 2:
		size := uint64(kind&15) + 1
		if h.idSize > 18 {
			size = (uint64(kind&15)<<8 | uint64(id.u8())) + 1
		}
		d = id.part(structure, size)
	default:
		id.fail(ErrCorrupt, "heap id of type 3")
		return id
	}
	d.structure = structure
	if d.err == nil {
		d.err = h.b.spend(structure, d.start, uint64(len(d.data)))
	}
	return d
}

// managed returns an object in a direct block. It walks down from the root.
func (h *fractalHeap) managed(offset, size uint64) decoder {
	node := h.at
	node.require(h.root != undefined, "an object at %d of an empty heap", offset)
	address, rows, base := h.root, h.rows, uint64(0)
	if node.err == nil && rows == 0 {
		return h.inDirect(address, 0, h.startSize, offset, size)
	}
	for node.err == nil { // rows become fewer at each turn
		node = h.indirect(address, rows, base)
		row, column, start := h.place(offset - base)
		node.require(row < rows, "an object at %d, after the end of the heap", offset)
		node.take((uint64(row)*h.width + column) * uint64(h.file.super.offsetSize))
		address, base = node.address(), base+start
		blockSize := h.rowSize(row)
		if node.err == nil && blockSize <= h.maxDirect {
			return h.inDirect(address, base, blockSize, offset, size)
		}
		below := bits.Len64(blockSize) - bits.Len64(h.startSize*h.width) + 1
		node.require(below >= 1 && below < rows, "an indirect block of %d rows below one of %d", below, rows)
		rows = below
	}
	return node
}

// rowSize returns the size in bytes of the blocks in a row. The first two rows have the
// smallest blocks.
func (h *fractalHeap) rowSize(row int) uint64 {
	return h.startSize << max(row-1, 0)
}

// place returns in which row and column of an indirect block an offset lies, and
// where that block starts.
func (h *fractalHeap) place(offset uint64) (row int, column, start uint64) {
	if n := h.startSize * h.width; offset >= n {
		row = bits.Len64(offset) - bits.Len64(n) + 1
		start = n << (row - 1)
	}
	size := h.rowSize(row)
	column = (offset - start) / size
	return row, column, start + column*size
}

// indirect reads an indirect block. The decoder is then at its first child.
func (h *fractalHeap) indirect(address uint64, rows int, base uint64) decoder {
	d, ok := h.blocks[address]
	if !ok {
		o := uint64(h.file.super.offsetSize)
		d = h.file.sealed(h.b, "fractal heap indirect block", "FHIB", address, 5+o+uint64(h.offsetBytes)+uint64(rows)*h.width*o+4)
		h.checkBlock(&d, base)
		if d.err == nil {
			h.blocks[address] = d
		}
	}
	return d
}

// inDirect returns size bytes at a heap offset from the direct block at base.
func (h *fractalHeap) inDirect(address, base, blockSize, offset, size uint64) decoder {
	d, ok := h.direct[address]
	if !ok {
		d = h.file.signed(h.b, "fractal heap direct block", "FHDB", address, blockSize)
		h.checkBlock(&d, base)
		if h.flags&2 != 0 {
			d.unsealInside()
		}
		if d.err == nil {
			h.direct[address] = d
		}
	}
	start := offset - base
	d.require(start >= uint64(d.pos) && start <= uint64(len(d.data)), "an object at %d of a block of %d bytes, whose head has %d", start, len(d.data), d.pos)
	d.take(start - uint64(d.pos))
	return d.part(d.structure, size)
}

// checkBlock reads a block's version, its heap and its place in the heap.
func (h *fractalHeap) checkBlock(d *decoder, base uint64) {
	d.version(0, 0)
	heap := d.address()
	place := d.number(h.offsetBytes)
	d.require(heap == h.address && place == base, "block %d of the heap at %#x, want %d and %#x", place, heap, base, h.address)
}

// unsealInside verifies a checksum that is at the decoder's place and was calculated with
// zeros in that place.
func (d *decoder) unsealInside() {
	want := d.u32()
	if d.err != nil {
		return
	}
	stored := d.data[d.pos-4 : d.pos]
	clear(stored)
	got := hdf5sum.Lookup3(d.data)
	binary.LittleEndian.PutUint32(stored, want)
	if got != want && !d.file.unchecked {
		d.pos = 0
		d.err = d.corrupt("checksum %08x, stored %08x", got, want)
	}
}

// hugeObject returns an object that is not in a block, by its number. The first call reads
// the index of all such objects.
func (h *fractalHeap) hugeObject(id decoder, key uint64) decoder {
	f := h.file
	direct := f.super.offsetSize + f.super.lengthSize
	if h.idSize-1 >= direct { // the id itself is the place
		id.pos = 1
		address, size := id.address(), id.length()
		if id.err != nil {
			return id
		}
		return f.read(h.b, "fractal heap object", address, size)
	}
	if h.huge == nil {
		tree, err := f.tree2(h.b, h.hugeTree, 1)
		if err == nil {
			h.huge = make(map[uint64]hugeObject)
			err = tree.each(nil, func(r decoder) error {
				o := hugeObject{r.address(), r.length()}
				h.huge[r.length()] = o
				return r.err
			})
		}
		if err != nil {
			return decoder{file: f, err: err}
		}
	}
	o, ok := h.huge[key]
	id.require(ok, "no huge object %d", key)
	if id.err != nil {
		return id
	}
	return f.read(h.b, "fractal heap object", o.address, o.size)
}
