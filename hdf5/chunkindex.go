package hdf5

import (
	"cmp"
	"slices"
)

// chunk says where a stored chunk is.
type chunk struct {
	number  uint64 // of the chunk in the grid, the last dimension fastest
	address uint64
	size    uint64 // bytes in the file
	mask    uint32 // filters that were skipped
}

// grid describes how the chunks of a dataset lie side by side.
type grid struct {
	dims   []uint64 // elements
	chunk  []uint64
	counts []uint64 // chunks along each dimension
	bytes  uint64   // of a chunk before filters
}

// number returns the number of the chunk with coordinates in units of chunks, and false
// if it is outside of the dataset.
func (g *grid) number(at []uint64) (uint64, bool) {
	var n uint64
	for i, count := range g.counts {
		if at[i] >= count {
			return 0, false
		}
		n = n*count + at[i]
	}
	return n, true
}

func (g *grid) coordinates(number uint64, at []uint64) {
	for i := len(g.counts) - 1; i >= 0; i-- {
		at[i] = number % g.counts[i]
		number /= g.counts[i]
	}
}

// perBand returns how many chunks have the same first coordinate.
func (g *grid) perBand() uint64 {
	n := uint64(1)
	for _, count := range g.counts[1:] {
		n *= count
	}
	return n
}

// newGrid counts the chunks. It returns false if there are 2^63 or more.
func newGrid(dims, chunk []uint64, bytes uint64) (*grid, bool) {
	g := &grid{dims: dims, chunk: chunk, bytes: bytes}
	total, fits := uint64(1), true
	for i, n := range dims {
		count := n/chunk[i] + min(n%chunk[i], 1)
		g.counts = append(g.counts, count)
		total, _ = product(total, max(count, 1))
		fits = fits && total < 1<<63
	}
	return g, fits
}

// chunkIndex holds the place of every stored chunk.
type chunkIndex struct {
	chunks []chunk // by number
	stored uint64  // their bytes

	implicit *grid  // of the maximum shape, if chunks lie by their number
	base     uint64 // with implicit: address of the first
}

// between returns the places of the stored chunks whose numbers are at least low and less
// than high. They are the chunks from first up to, but not including, last.
func (x *chunkIndex) between(low, high uint64) (first, last uint64) {
	if x.implicit != nil {
		return low, high
	}
	place := func(n uint64) uint64 {
		i, _ := slices.BinarySearchFunc(x.chunks, n, func(c chunk, n uint64) int { return cmp.Compare(c.number, n) })
		return uint64(i)
	}
	return place(low), place(high)
}

func (x *chunkIndex) number(place uint64) uint64 {
	if x.implicit != nil {
		return place
	}
	return x.chunks[place].number
}

// at returns the chunk at a place, and sets coordinates to those of the chunk.
func (x *chunkIndex) at(g *grid, place uint64, coordinates []uint64) chunk {
	if x.implicit == nil {
		c := x.chunks[place]
		g.coordinates(c.number, coordinates)
		return c
	}
	g.coordinates(place, coordinates)
	n, _ := x.implicit.number(coordinates)
	offset, fits := product(n, g.bytes)
	address := x.base + offset
	if !fits || address < offset {
		address = undefined
	}
	return chunk{number: place, address: address, size: g.bytes}
}

// indexReader reads an index of any type.
type indexReader struct {
	dataset  *Dataset
	file     *File
	b        *budget
	grid     *grid
	filtered bool
	index    chunkIndex
}

func (d *Dataset) readIndex() (*chunkIndex, error) {
	r := &indexReader{dataset: d, file: d.file, b: d.file.newBudget(), grid: d.grid, filtered: len(d.filters) > 0}
	l := &d.layout
	if l.address == undefined {
		return &r.index, nil
	}
	var err error
	switch l.index {
	case BTree1:
		err = r.tree1(l.address)
	case SingleChunk:
		c := chunk{number: 0, address: l.address, size: l.single.size, mask: l.single.mask}
		if c.size == undefined {
			c.size = r.grid.bytes
		}
		err = r.add(l.at, c, make([]uint64, len(l.chunk)))
	case Implicit:
		err = r.implicit(l)
	case FixedArray:
		err = r.fixedArray(l.address)
	case ExtensibleArray:
		err = r.extensibleArray(l.address)
	case BTree2:
		err = r.tree2(l.address)
	}
	if err != nil {
		return nil, err
	}
	return &r.index, r.finish()
}

// add notes the chunk with coordinates in units of chunks. Chunks outside of the
// shape are left over from when it was larger. d is the place of the entry.
func (r *indexReader) add(d decoder, c chunk, at []uint64) error {
	var inside bool
	if c.number, inside = r.grid.number(at); !inside {
		return nil
	}
	if !r.filtered && c.size != r.grid.bytes {
		return d.corrupt("chunk %v has %d bytes, want %d", at, c.size, r.grid.bytes)
	}
	if _, err := r.file.offsetOf("chunk", c.address, c.size); err != nil {
		return d.corrupt("chunk %v has %d bytes at %#x, outside of the file", at, c.size, c.address)
	}
	r.index.chunks = append(r.index.chunks, c)
	return nil
}

// finish sorts the chunks, and refuses an index with two chunks of the same number or with
// two that share bytes, with which a small file could claim any number of rows to read.
func (r *indexReader) finish() error {
	x := &r.index
	at := r.dataset.layout.at
	byAddress := func(a, b chunk) int { return cmp.Compare(a.address, b.address) }
	byNumber := func(a, b chunk) int { return cmp.Compare(a.number, b.number) }
	if !slices.IsSortedFunc(x.chunks, byAddress) {
		slices.SortFunc(x.chunks, byAddress)
	}
	for i, c := range x.chunks {
		if i > 0 {
			before := x.chunks[i-1]
			if end := before.address + before.size; c.address < end {
				return at.corrupt("chunks overlap: chunk %d is from address %#x to %#x, and chunk %d begins at %#x", before.number, before.address, end, c.number, c.address)
			}
		}
		x.stored += c.size
	}
	if !slices.IsSortedFunc(x.chunks, byNumber) {
		slices.SortFunc(x.chunks, byNumber)
	}
	for i, c := range x.chunks {
		if i > 0 && x.chunks[i-1].number == c.number {
			return at.corrupt("chunk %d is in the index twice", c.number)
		}
	}
	return nil
}

// maxGrid returns the grid of the maximum shape, by which arrays number chunks.
// Unlimited dimensions count as the shape has them.
func (r *indexReader) maxGrid() (*grid, error) {
	d := r.dataset
	dims := slices.Clone(d.space.max)
	for i := range dims {
		if dims[i] == Unlimited {
			dims[i] = d.space.dims[i]
		}
	}
	g, fits := newGrid(dims, d.layout.chunk, d.grid.bytes)
	if !fits {
		return nil, d.layout.at.fault(ErrLimit, "a maximum shape of 2^63 chunks or more")
	}
	return g, nil
}

// implicit does not read an index: the chunks lie one after another.
func (r *indexReader) implicit(l *layout) error {
	g, err := r.maxGrid()
	if err != nil {
		return err
	}
	x := &r.index
	x.implicit, x.base = g, l.address
	x.stored = r.grid.bytes
	for _, n := range r.grid.counts {
		x.stored, _ = product(x.stored, n)
	}
	if _, err := r.file.offsetOf("chunk", l.address, x.stored); err != nil {
		return l.at.corrupt("chunks of %d bytes at %#x, outside of the file", x.stored, l.address)
	}
	return nil
}

// tree1 reads a B-tree of version 1. Its keys have offsets in elements.
func (r *indexReader) tree1(address uint64) error {
	rank := len(r.grid.dims)
	at := make([]uint64, rank)
	tree := tree1{file: r.file, b: r.b, kind: 1, keySize: 8 + 8*uint64(rank+1)}
	tree.visit = func(key decoder, child uint64) error {
		c := chunk{address: child, size: uint64(key.u32()), mask: key.u32()}
		for i := range at {
			n := key.number(8)
			if n%r.grid.chunk[i] != 0 {
				return key.corrupt("a chunk at element %d, which is no multiple of %d", n, r.grid.chunk[i])
			}
			at[i] = n / r.grid.chunk[i]
		}
		return r.add(key, c, at)
	}
	return tree.walk(address)
}

// tree2 reads a B-tree of version 2 (spec III.A.2, types 10 and 11).
func (r *indexReader) tree2(address uint64) error {
	kind := byte(10)
	if r.filtered {
		kind = 11
	}
	tree, err := r.file.tree2(r.b, address, kind)
	if err != nil {
		return err
	}
	rank := len(r.grid.dims)
	sizeWidth := int(tree.recordSize) - r.file.super.offsetSize - 4 - 8*rank
	want := uint64(r.file.super.offsetSize + 8*rank)
	if r.filtered && (sizeWidth < 1 || sizeWidth > 8) || !r.filtered && tree.recordSize != want {
		return tree.head.corrupt("records of %d bytes in an index of %d dimensions", tree.recordSize, rank)
	}
	at := make([]uint64, rank)
	return tree.each(nil, func(d decoder) error {
		c := chunk{address: d.address(), size: r.grid.bytes}
		if r.filtered {
			c.size, c.mask = d.number(sizeWidth), d.u32()
		}
		for i := range at {
			at[i] = d.number(8)
		}
		if c.address == undefined {
			return d.err
		}
		return r.add(d, c, at)
	})
}
