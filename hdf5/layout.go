package hdf5

// LayoutClass says how the elements of a dataset are stored.
type LayoutClass int

// These are the layouts of HDF5, with the numbers of HDF5.
const (
	Compact    LayoutClass = 0 // in the object header
	Contiguous LayoutClass = 1 // in one piece
	Chunked    LayoutClass = 2
	Virtual    LayoutClass = 3 // in other datasets
)

// String returns the name of the layout.
func (l LayoutClass) String() string {
	return nameIn("layout", int(l), "compact", "contiguous", "chunked", "virtual")
}

// ChunkIndex says how the chunks of a dataset are found.
type ChunkIndex int

// These are the indexes of HDF5; from SingleChunk on they have the numbers of HDF5.
const (
	NoIndex         ChunkIndex = -1 // not chunked
	BTree1          ChunkIndex = 0  // B-tree of version 1
	SingleChunk     ChunkIndex = 1
	Implicit        ChunkIndex = 2
	FixedArray      ChunkIndex = 3
	ExtensibleArray ChunkIndex = 4
	BTree2          ChunkIndex = 5 // B-tree of version 2
)

// String returns the name of the index.
func (x ChunkIndex) String() string {
	if x == NoIndex {
		return "none"
	}
	return nameIn("index", int(x), "B-tree v1", "single chunk", "implicit", "fixed array", "extensible array", "B-tree v2")
}

// layout is a data layout message (spec IV.A.2.i).
type layout struct {
	class   LayoutClass
	at      decoder // for errors
	data    decoder // Compact
	address uint64  // Contiguous: of the data, Chunked: of the index
	size    uint64  // Contiguous: bytes; undefined if the file does not say

	index       ChunkIndex
	chunk       []uint64 // elements along each dimension
	elementSize uint64   // as the layout has it
	plainEdges  bool     // chunks that stick out of the dataset are not filtered
	single      chunk    // SingleChunk with filters: size and mask
}

func (d *decoder) layout() layout {
	l := layout{index: NoIndex, at: *d}
	version := d.version(1, 5)
	if version < 3 {
		d.oldLayout(&l)
		return l
	}
	l.class = LayoutClass(d.u8())
	switch {
	case l.class == Compact:
		l.data = d.part("compact data", uint64(d.u16()))
	case l.class == Contiguous:
		l.address, l.size = d.address(), d.length()
	case l.class == Chunked && version == 3:
		rank := int(d.u8())
		l.address = d.address()
		d.chunkDims(&l, rank, 4)
		l.index = BTree1
	case l.class == Chunked:
		d.newChunked(&l)
	case l.class == Virtual:
		d.fail(ErrUnsupported, "virtual layout")
	default:
		d.fail(ErrCorrupt, "layout class %d", l.class)
	}
	return l
}

// oldLayout parses versions 1 and 2.
func (d *decoder) oldLayout(l *layout) {
	rank := int(d.u8())
	l.class = LayoutClass(d.u8())
	d.take(5)
	d.require(l.class <= Chunked, "layout class %d", l.class)
	if l.class != Compact {
		l.address = d.address()
	}
	if l.class == Chunked {
		d.chunkDims(l, rank, 4)
		l.index = BTree1
		return
	}
	d.take(4 * uint64(rank)) // sizes, which the dataspace has too
	l.size = undefined
	if l.class == Compact {
		l.data = d.part("compact data", uint64(d.u32()))
	}
}

// chunkDims reads the sizes of a chunk, width bytes each, the last of which is
// the size of an element.
func (d *decoder) chunkDims(l *layout, n, width int) {
	d.require(n >= 2 && n <= maxRank+1, "chunks of %d dimensions and 1", n-1)
	for i := 0; i < n && d.err == nil; i++ {
		size := d.number(width)
		d.require(size > 0, "chunk dimension %d is 0", i)
		l.chunk = append(l.chunk, size)
	}
	if d.err == nil {
		l.chunk, l.elementSize = l.chunk[:n-1], l.chunk[n-1]
	}
}

// newChunked parses the chunked layout of versions 4 and 5, which differ only in
// the width of sizes in the index, and the index has that itself.
func (d *decoder) newChunked(l *layout) {
	flags, rank, width := d.u8(), int(d.u8()), int(d.u8())
	d.require(width >= 1 && width <= 8 && flags <= 3, "chunk sizes of %d bytes, flags %#x", width, flags)
	d.chunkDims(l, rank, width)
	l.plainEdges = flags&1 != 0
	l.index = ChunkIndex(d.u8())
	l.single.size = undefined
	switch l.index {
	case SingleChunk:
		if flags&2 != 0 {
			l.single.size, l.single.mask = d.length(), d.u32()
		}
	case Implicit:
	case FixedArray:
		d.take(1) // these are in the index too
	case ExtensibleArray:
		d.take(5)
	case BTree2:
		d.take(6)
	default:
		d.fail(ErrUnsupported, "chunk index of type %d", l.index)
	}
	l.address = d.address()
}

// fillValue parses a fill value message, old or new (spec IV.A.2.e and f). Nil means
// zeros.
func (d *decoder) fillValue(old bool) []byte {
	if old {
		return d.take(uint64(d.u32()))
	}
	var defined bool
	if d.version(1, 3) == 3 {
		defined = d.u8()&(1<<5) != 0
	} else {
		d.take(2) // when to allocate, when to write
		defined = d.u8() != 0
	}
	if !defined {
		return nil
	}
	size := d.u32()
	if size == 1<<32-1 { // the default, in version 1 and 2
		return nil
	}
	return d.take(uint64(size))
}
