package hdf5

import "math/bits"

// arrayReader reads the elements of a fixed or extensible array, which are the addresses
// of chunks in the order of their numbers.
type arrayReader struct {
	*indexReader
	header      uint64 // address of the array's header
	client      byte   // 0: chunks without filters, 1: with
	elementSize int
	grid        *grid // by which chunks are numbered
	slow        int   // the dimension that is numbered slowest
	at, turned  []uint64
}

// arrayHead reads the client and element size of an array's header.
func (r *indexReader) arrayHead(d *decoder, address uint64) (*arrayReader, error) {
	d.version(0, 0)
	a := &arrayReader{indexReader: r, header: address, client: d.u8(), elementSize: int(d.u8())}
	want, least := byte(0), r.file.super.offsetSize
	if r.filtered {
		want, least = 1, least+4+1
	}
	fits := a.elementSize == least || r.filtered && a.elementSize > least && a.elementSize <= least+7
	d.require(a.client == want && fits, "client %d with elements of %d bytes, want %d and %d", a.client, a.elementSize, want, least)
	if d.err != nil {
		return nil, d.err
	}
	g, err := r.maxGrid()
	if err != nil {
		return nil, err
	}
	a.grid = g
	a.at, a.turned = make([]uint64, len(g.dims)), make([]uint64, len(g.dims))
	return a, nil
}

// turn makes the unlimited dimension, if there is one, the slowest of the numbering.
func (a *arrayReader) turn() {
	for i, n := range a.dataset.space.max {
		if n == Unlimited {
			a.slow = i
		}
	}
	turned := grid{bytes: a.grid.bytes}
	for _, counts := range [][]uint64{a.grid.counts[a.slow : a.slow+1], a.grid.counts[:a.slow], a.grid.counts[a.slow+1:]} {
		turned.counts = append(turned.counts, counts...)
	}
	a.grid = &turned
}

// elements notes the chunks of n elements, the first of which has this number.
func (a *arrayReader) elements(d *decoder, number, n uint64) error {
	for i := range n {
		start := *d
		c := chunk{address: d.address(), size: a.indexReader.grid.bytes}
		if a.client == 1 {
			c.size = d.number(a.elementSize - a.file.super.offsetSize - 4)
			c.mask = d.u32()
		}
		if d.err != nil {
			return d.err
		}
		if c.address == undefined || !a.place(number+i) {
			continue // no chunk, or after the last of the shape
		}
		if err := a.add(start, c, a.at); err != nil {
			return err
		}
	}
	return d.err
}

// place sets at to the coordinates of a chunk. It returns false if there is none.
func (a *arrayReader) place(number uint64) bool {
	slowest := number
	for i := len(a.turned) - 1; i > 0; i-- {
		count := a.grid.counts[i]
		if count == 0 {
			return false
		}
		a.turned[i] = slowest % count
		slowest /= count
	}
	a.at[a.slow] = slowest
	copy(a.at[:a.slow], a.turned[1:])
	copy(a.at[a.slow+1:], a.turned[a.slow+1:])
	return true
}

// prefix reads version, client and header address of one of the array's blocks.
func (a *arrayReader) prefix(d *decoder) {
	d.version(0, 0)
	client, header := d.u8(), d.address()
	d.require(client == a.client && header == a.header, "of client %d and the array at %#x, want %d and %#x", client, header, a.client, a.header)
}

// bytesOf returns how many bytes n elements take in the file, saturated.
func (a *arrayReader) bytesOf(n uint64) uint64 {
	size, _ := product(n, uint64(a.elementSize))
	return min(size, 1<<62)
}

// pages reads n elements in pages of up to perPage elements, each with a checksum. It
// skips pages whose bit in bitmap, from firstBit on, is not set: they were never written.
func (a *arrayReader) pages(structure string, address, number, n, perPage uint64, bitmap []byte, firstBit uint64) error {
	for bit := firstBit; n > 0; bit++ {
		count := min(n, perPage)
		if bitmap[bit/8]&(0x80>>(bit%8)) != 0 {
			if err := a.page(structure, address, number, count); err != nil {
				return err
			}
		}
		address += a.bytesOf(count) + 4
		number, n = number+count, n-count
	}
	return nil
}

func (a *arrayReader) page(structure string, address, number, n uint64) error {
	d := a.file.read(a.b, structure, address, a.bytesOf(n)+4)
	d.unseal()
	return a.elements(&d, number, n)
}

// fixedArray reads a fixed array (spec VII.C).
func (r *indexReader) fixedArray(address uint64) error {
	f := r.file
	o := uint64(f.super.offsetSize)
	d := f.sealed(r.b, "fixed array header", "FAHD", address, 8+uint64(f.super.lengthSize)+o+4)
	a, err := r.arrayHead(&d, address)
	if err != nil {
		return err
	}
	pageBits := d.u8()
	n := d.length()
	block := d.address()
	if d.err != nil || block == undefined {
		return d.err
	}
	if pageBits > 62 || n > uint64(f.size)*8 {
		return d.corrupt("%d elements in pages of 2^%d", n, pageBits)
	}
	const structure = "fixed array data block"
	perPage := uint64(1) << pageBits
	head := 6 + o
	if n <= perPage {
		d := f.sealed(r.b, structure, "FADB", block, head+a.bytesOf(n)+4)
		a.prefix(&d)
		return a.elements(&d, 0, n)
	}
	bitmap := ((n+perPage-1)/perPage + 7) / 8
	d = f.sealed(r.b, structure, "FADB", block, head+bitmap+4)
	a.prefix(&d)
	written := d.take(bitmap)
	if d.err != nil {
		return d.err
	}
	return a.pages("fixed array page", block+head+bitmap+4, 0, n, perPage, written, 0)
}

// extensibleArray describes the shape of an extensible array (spec VII.D).
type extensibleArray struct {
	*arrayReader
	maxBits      int    // of an element's number
	inIndex      uint64 // elements in the index block
	minElements  uint64 // in a data block
	minPointers  uint64 // of a secondary block
	perPage      uint64 // elements in a page
	blockNumbers int    // bytes of a block's first element number

	firstSecondary uint64 // number of the first element below a secondary block
}

// extensibleArray reads the header of an extensible array, and all below it.
func (r *indexReader) extensibleArray(address uint64) error {
	f := r.file
	o := uint64(f.super.offsetSize)
	d := f.sealed(r.b, "extensible array header", "EAHD", address, 12+6*uint64(f.super.lengthSize)+o+4)
	a, err := r.arrayHead(&d, address)
	if err != nil {
		return err
	}
	a.turn()
	e := &extensibleArray{arrayReader: a, maxBits: int(d.u8()), inIndex: uint64(d.u8())}
	e.minElements, e.minPointers = uint64(d.u8()), uint64(d.u8())
	pageBits := d.u8()
	e.blockNumbers = (e.maxBits + 7) / 8
	d.take(6 * uint64(f.super.lengthSize)) // statistics
	block := d.address()
	if d.err != nil || block == undefined {
		return d.err
	}
	power := func(n uint64) bool { return n > 0 && n&(n-1) == 0 }
	if !power(e.minElements) || !power(e.minPointers) || e.minPointers < 2 || pageBits > 62 || e.maxBits > 64 || e.maxBits < bits.Len64(e.minElements) {
		return d.corrupt("%d bits, blocks of %d elements, secondary blocks of %d, pages of 2^%d", e.maxBits, e.minElements, e.minPointers, pageBits)
	}
	e.perPage = 1 << pageBits
	return e.indexBlock(block)
}

// indexBlock reads the index block: the first elements, and the addresses of data
// blocks and of secondary blocks.
func (e *extensibleArray) indexBlock(address uint64) error {
	f := e.file
	o := uint64(f.super.offsetSize)
	// Secondary blocks are numbered from 0; number u stands for 2^(u/2) data blocks
	// of minElements·2^((u+1)/2) elements. The data blocks of the first are named
	// in the index block itself.
	secondaries := uint64(1 + e.maxBits - (bits.Len64(e.minElements) - 1))
	inline := min(2*uint64(bits.Len64(e.minPointers)-1), secondaries)
	direct := 2 * (e.minPointers - 1)
	d := f.sealed(e.b, "extensible array index block", "EAIB", address, 6+o+e.bytesOf(e.inIndex)+(direct+secondaries-inline)*o+4)
	e.prefix(&d)
	if err := e.elements(&d, 0, e.inIndex); err != nil {
		return err
	}
	number := e.inIndex
	e.firstSecondary = number
	for u := range inline {
		e.firstSecondary += (1 << (u / 2)) * (e.minElements << ((u + 1) / 2))
	}
	for u := range secondaries {
		blocks, elements := uint64(1)<<(u/2), e.minElements<<((u+1)/2)
		if u >= inline {
			if err := e.secondaryBlock(d.address(), number, blocks, elements); err != nil {
				return err
			}
		} else {
			for i := range blocks {
				if err := e.dataBlock(d.address(), number+i*elements, elements, nil, 0); err != nil {
					return err
				}
			}
		}
		if d.err != nil {
			return d.err
		}
		number += blocks * elements
	}
	return nil
}

// checkBlock reads the prefix of a block and the number of its first element,
// which is not compared if undefined is wanted.
func (e *extensibleArray) checkBlock(d *decoder, number uint64) {
	e.prefix(d)
	// Numbers of blocks do not count the elements in the index block.
	got := d.number(e.blockNumbers)
	d.require(got == number-e.inIndex || number == undefined, "block of element %d, want %d", got, number-e.inIndex)
}

// pageBytes returns what a data block adds to the bitmap of pages, 0 if it has no pages.
// The bits of all blocks follow each other, and may end before the bitmap does.
func (e *extensibleArray) pageBytes(elements uint64) uint64 {
	if elements <= e.perPage {
		return 0
	}
	return (elements/e.perPage + 7) / 8
}

// secondaryBlock reads a secondary block and its data blocks.
func (e *extensibleArray) secondaryBlock(address, number, blocks, elements uint64) error {
	if address == undefined {
		return nil
	}
	f := e.file
	o := uint64(f.super.offsetSize)
	bitmap := e.pageBytes(elements)
	size, fits := product(blocks, o+bitmap)
	if !fits || size > uint64(f.size) {
		return fault(ErrCorrupt, "extensible array secondary block", -1, "%d data blocks of %d elements", blocks, elements)
	}
	d := f.sealed(e.b, "extensible array secondary block", "EASB", address, 6+o+uint64(e.blockNumbers)+size+4)
	e.checkBlock(&d, number)
	bitmaps := d.take(blocks * bitmap)
	for i := range blocks {
		block := d.address()
		if d.err != nil {
			return d.err
		}
		if err := e.dataBlock(block, number+i*elements, elements, bitmaps, i*(elements/e.perPage)); err != nil {
			return err
		}
	}
	return nil
}

// dataBlock reads the elements of a data block, in pages if there is a bitmap of
// them. firstBit is the bit of its first page.
func (e *extensibleArray) dataBlock(address, number, elements uint64, bitmap []byte, firstBit uint64) error {
	if address == undefined {
		return nil
	}
	const structure = "extensible array data block"
	size := 6 + uint64(e.file.super.offsetSize) + uint64(e.blockNumbers)
	if len(bitmap) == 0 {
		size += e.bytesOf(elements)
	}
	d := e.file.sealed(e.b, structure, "EADB", address, size+4)
	// The library writes another number into blocks that the index block names.
	want := number
	if number < e.firstSecondary {
		want = undefined
	}
	e.checkBlock(&d, want)
	if d.err != nil || len(bitmap) == 0 {
		return e.elements(&d, number, elements)
	}
	return e.pages("extensible array page", address+size+4, number, elements, e.perPage, bitmap, firstBit)
}
