package hdf5

import (
	"cmp"
	"iter"
	"math"
	"slices"
	"sync"
)

// Dataset is an array of elements of one type. Its first dimension counts rows: a row
// consists of all elements with the same first coordinate. A dataset without dimensions
// has one row.
type Dataset struct {
	objectHeader
	datatype *Type
	space    dataspace
	layout   layout
	filters  []Filter
	fill     []byte // an element; nil: zeros
	grid     *grid  // of a chunked dataset

	mu    sync.Mutex
	index *chunkIndex // once it was read
}

func newDataset(b *budget, o objectHeader) (*Dataset, error) {
	d := &Dataset{objectHeader: o}
	typeMessage, spaceMessage := o.need(b, messageDatatype), o.need(b, messageDataspace)
	d.datatype, d.space = typeMessage.datatype(0), spaceMessage.dataspace()
	filterMessage, ok := o.find(b, messageFilters)
	if ok {
		d.filters = filterMessage.filters()
	}
	layoutMessage, _ := o.find(b, messageLayout)
	d.layout = layoutMessage.layout()
	if err := cmp.Or(typeMessage.err, spaceMessage.err, filterMessage.err, layoutMessage.err); err != nil {
		return nil, err
	}
	if err := d.readFill(b); err != nil {
		return nil, err
	}
	if err := d.checkLayout(); err != nil {
		return nil, err
	}
	return d, nil
}

// need finds a message that a dataset must have.
func (o *objectHeader) need(b *budget, kind int) decoder {
	m, ok := o.find(b, kind)
	if !ok {
		m.err = fault(ErrCorrupt, "object header", o.offset, "a dataset without a %s", nameOf(kind))
	}
	return m
}

// readFill reads the fill value, from the new message if there is one, or the old.
func (d *Dataset) readFill(b *budget) error {
	for _, kind := range []int{messageFill, messageOldFill} {
		m, ok := d.find(b, kind)
		if !ok {
			continue
		}
		fill := m.fillValue(kind == messageOldFill)
		if m.err != nil {
			return m.err
		}
		if len(fill) == 0 {
			continue
		}
		if int64(len(fill)) != d.datatype.Size {
			return m.corrupt("a fill value of %d bytes for elements of %d", len(fill), d.datatype.Size)
		}
		d.fill = fill
		return nil
	}
	return nil
}

func (d *Dataset) checkLayout() error {
	l := &d.layout
	if d.has(messageExternal) {
		return l.at.fault(ErrUnsupported, "elements in other files")
	}
	if l.class != Chunked {
		d.filters = nil // they would have no effect; the library allows them too
		size, ok := product(d.space.elements, uint64(d.datatype.Size))
		switch {
		case !ok:
			return l.at.corrupt("%v elements of %d bytes", d.space.dims, d.datatype.Size)
		case l.class == Compact && len(l.data.data) != 0 && uint64(len(l.data.data)) < size:
			return l.at.corrupt("%d bytes of compact data, want %d", len(l.data.data), size)
		case l.class == Contiguous && l.address != undefined && l.size < size:
			return l.at.corrupt("%d bytes of contiguous data, want %d", l.size, size)
		}
		return nil
	}
	if len(l.chunk) != len(d.space.dims) || d.space.null {
		return l.at.corrupt("chunks of %d dimensions in a dataset of %d", len(l.chunk), len(d.space.dims))
	}
	if l.elementSize != uint64(d.datatype.Size) {
		return l.at.corrupt("chunks of elements of %d bytes, want %d", l.elementSize, d.datatype.Size)
	}
	bytes := l.elementSize
	for _, n := range l.chunk {
		bytes, _ = product(bytes, n)
	}
	if bytes > math.MaxUint32 {
		return l.at.fault(ErrLimit, "chunks of %d bytes, at most 2^32-1", bytes)
	}
	var fits bool
	if d.grid, fits = newGrid(d.space.dims, l.chunk, bytes); !fits {
		return l.at.fault(ErrLimit, "2^63 chunks or more")
	}
	return nil
}

// Type returns the type of the elements.
func (d *Dataset) Type() *Type { return d.datatype }

// Shape returns the dimensions. A single element has none.
func (d *Dataset) Shape() []uint64 { return slices.Clone(d.space.dims) }

// MaxShape returns the dimensions that the dataset may grow to. A dimension without a
// limit is Unlimited.
func (d *Dataset) MaxShape() []uint64 { return slices.Clone(d.space.max) }

// IsNull reports whether the dataset can have no elements, like one that h5py.Empty
// makes.
func (d *Dataset) IsNull() bool { return d.space.null }

// Layout returns how the elements are stored.
func (d *Dataset) Layout() LayoutClass { return d.layout.class }

// Index returns how chunks are found, or NoIndex if the dataset is not chunked.
func (d *Dataset) Index() ChunkIndex { return d.layout.index }

// ChunkShape returns the number of elements of a chunk along each dimension, or nil if the
// dataset is not chunked.
func (d *Dataset) ChunkShape() []uint64 { return slices.Clone(d.layout.chunk) }

// Filters returns the filters of the chunks, in the order of writing.
func (d *Dataset) Filters() []Filter { return slices.Clone(d.filters) }

// FillValue returns the bytes of an element that was never written. Nil means zeros.
func (d *Dataset) FillValue() []byte { return slices.Clone(d.fill) }

// StoredSize returns how many bytes the elements take in the file, without those of an
// index. It reads the index of a chunked dataset.
func (d *Dataset) StoredSize() (uint64, error) {
	switch {
	case d.layout.class == Compact:
		return uint64(len(d.layout.data.data)), nil
	case d.layout.class == Contiguous && d.layout.address == undefined:
		return 0, nil
	case d.layout.class == Contiguous && d.layout.size != undefined:
		return d.layout.size, nil
	case d.layout.class == Contiguous:
		return d.space.elements * uint64(d.datatype.Size), nil
	}
	x, err := d.chunkIndex()
	if err != nil {
		return 0, err
	}
	return x.stored, nil
}

// chunkIndex returns the index of the chunks, which it reads only once.
func (d *Dataset) chunkIndex() (*chunkIndex, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.index == nil {
		x, err := d.readIndex()
		if err != nil {
			return nil, within(d.path, err)
		}
		d.index = x
	}
	return d.index, nil
}

// Len returns the number of rows.
func (d *Dataset) Len() uint64 {
	switch {
	case d.space.null:
		return 0
	case len(d.space.dims) == 0:
		return 1
	}
	return d.space.dims[0]
}

// RowSize returns how many bytes a row has, or the largest number if a row has more.
func (d *Dataset) RowSize() uint64 {
	s := d.everything()
	return s.rowSize()
}

// ReadRows reads count rows from start on into p, as they are in the file except for
// filters. p must have count·RowSize bytes. ReadRows decodes every chunk that the rows
// touch once. It uses as many cores as there are, as long as the chunks under way have
// together at most Options.MaxChunkBytes. Rows outside of the dataset, and a chunk over
// Options.MaxChunkBytes, are an ErrLimit. After an error the contents of p are undefined.
func (d *Dataset) ReadRows(p []byte, start, count uint64) error {
	return d.readInto(p, d.everything(), start, count)
}

func (d *Dataset) readInto(p []byte, s selection, start, count uint64) error {
	r := rowReader{Dataset: d, selection: s}
	defer r.close()
	return within(d.path, r.read(p, start, count))
}

// Read returns count rows from start on. More than Options.MaxChunkBytes bytes, and rows
// outside of the dataset, are an ErrLimit.
func (d *Dataset) Read(start, count uint64) (*Block, error) {
	return d.readBlock(d.everything(), start, count)
}

func (d *Dataset) readBlock(s selection, start, count uint64) (*Block, error) {
	if err := s.checkRange(start, count); err != nil {
		return nil, within(d.path, err)
	}
	size, fits := product(s.rowSize(), count)
	if !fits || size > uint64(d.file.maxChunk) {
		return nil, within(d.path, fault(ErrLimit, "rows", -1, "%d rows of %d bytes, at most %d bytes", count, s.rowSize(), d.file.maxChunk))
	}
	if size == 0 {
		count = 0
	}
	p := make([]byte, size)
	if err := d.readInto(p, s, start, count); err != nil {
		return nil, err
	}
	return d.block(s, p, start, count), nil
}

// maxExpansion limits all rows of Rows to this many times the size of the file, plus one
// GiB. Deflate can pack no better. Without a limit a file with holes would never end.
const maxExpansion = 2048

// blockChunks is how many chunks with filters make a block of Rows, so that several cores
// have work.
const blockChunks = 8

// Rows yields count rows from start on, in blocks. A block has one MiB, or the rows of a
// chunk, or the rows of eight chunks with filters, but at most Options.MaxChunkBytes. It
// is valid until the next turn of the loop. An error ends the loop.
//
// Rows returns ErrLimit for rows that are more than a GiB and 2,048 times as large as the
// file. Such a dataset consists almost only of its fill value; read it with ReadRows.
func (d *Dataset) Rows(start, count uint64) iter.Seq2[*Block, error] {
	return func(yield func(*Block, error) bool) { d.eachBlock(d.everything(), start, count, yield) }
}

func (d *Dataset) eachBlock(s selection, start, count uint64, yield func(*Block, error) bool) {
	rows, err := d.blockRows(&s, start, count)
	if err != nil {
		yield(nil, within(d.path, err))
		return
	}
	r := rowReader{Dataset: d, selection: s}
	defer r.close()
	row := s.rowSize()
	var p []byte
	for end := start + count; start < end && rows > 0; {
		n := min(s.upTo(start, rows, d.bandRows()), uint64(d.file.maxChunk)/row, end-start)
		p = slices.Grow(p[:0], int(n*row))[:n*row]
		if err := r.read(p, start, n); err != nil {
			yield(nil, within(d.path, err))
			return
		}
		if !yield(d.block(s, p, start, n), nil) {
			return
		}
		start += n
	}
}

func (d *Dataset) block(s selection, p []byte, start, n uint64) *Block {
	return &Block{Start: start, Rows: int(n), Data: p, file: d.file, path: d.path, datatype: d.datatype, cells: int(s.cells())}
}

// bandRows returns how many rows a chunk has.
func (d *Dataset) bandRows() uint64 {
	if d.grid != nil {
		return d.grid.chunk[0]
	}
	return 1
}

// blockRows returns how many rows of a selection make a block, or 0 if they have no bytes.
func (d *Dataset) blockRows(s *selection, start, count uint64) (uint64, error) {
	if err := s.checkRange(start, count); err != nil {
		return 0, err
	}
	row, limit := s.rowSize(), uint64(d.file.maxChunk)
	if row > limit {
		return 0, fault(ErrLimit, "row", -1, "%d bytes, at most %d", row, limit)
	}
	all, _ := product(row, count)
	if most := maxExpansion*uint64(d.file.size) + 1<<30; all > most {
		return 0, fault(ErrLimit, "rows", -1, "%d rows of %d bytes are more than %d", count, row, most)
	}
	if row == 0 {
		return 0, nil
	}
	high, abreast := d.bandRows(), uint64(blockChunks)
	if d.grid != nil && len(d.filters) > 0 {
		abreast = d.grid.perBand()
	}
	bands := max(1, 1<<20/max(high*row, 1), blockChunks/max(abreast, 1))
	return max(1, min(high*bands, limit/row)), nil
}
