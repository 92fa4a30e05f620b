package hdf5

import (
	"iter"
	"slices"
)

// Hyperslab selects elements of a dataset: along each dimension Count blocks of Block
// elements. The first begins at Start, and each other one Stride elements after the one
// before. Blocks must not overlap. Every slice has a number for each dimension. A Stride
// or Block that is nil is 1 in all of them: Start and Count alone select a box.
type Hyperslab struct {
	Start, Stride, Count, Block []uint64
}

// ReadSlab reads what a Hyperslab selects into p, as it is in the file except for filters,
// in the order of the dataset. p must have as many bytes. Otherwise it is like ReadRows.
// Of chunks without filters, and of datasets without chunks, it reads only what is
// selected, and gaps of up to 4 KiB.
func (d *Dataset) ReadSlab(p []byte, h Hyperslab) error {
	s, err := d.selection(h)
	if err != nil {
		return within(d.path, err)
	}
	return d.readInto(p, s, 0, s.len())
}

// Slab returns what a Hyperslab selects. The rows of the Block are those that have
// selected elements, and count from 0; each has only its selected elements. More than
// Options.MaxChunkBytes bytes, and elements outside of the dataset, are an ErrLimit.
func (d *Dataset) Slab(h Hyperslab) (*Block, error) {
	s, err := d.selection(h)
	if err != nil {
		return nil, within(d.path, err)
	}
	return d.readBlock(s, 0, s.len())
}

// Slabs yields what a Hyperslab selects in blocks of rows, as Rows does for all elements
// of its rows.
func (d *Dataset) Slabs(h Hyperslab) iter.Seq2[*Block, error] {
	return func(yield func(*Block, error) bool) {
		s, err := d.selection(h)
		if err != nil {
			yield(nil, within(d.path, err))
			return
		}
		d.eachBlock(s, 0, s.len(), yield)
	}
}

// pattern is a Hyperslab along one dimension. Elements that follow each other are one block.
type pattern struct{ start, stride, count, block uint64 }

// len returns how many are selected.
func (s pattern) len() uint64 { return s.count * s.block }

// at returns the coordinate of the nth that is selected.
func (s pattern) at(n uint64) uint64 { return s.start + n/s.block*s.stride + n%s.block }

// before returns how many are selected below a coordinate.
func (s pattern) before(coordinate uint64) uint64 {
	if coordinate <= s.start {
		return 0
	}
	blocks, rest := (coordinate-s.start)/s.stride, (coordinate-s.start)%s.stride
	if blocks >= s.count {
		return s.len()
	}
	return blocks*s.block + min(rest, s.block)
}

// selection says which elements of a dataset to read. Its rows are what is selected along
// the first dimension. A dataset without dimensions counts as one of a single dimension.
type selection struct {
	patterns []pattern
	element  uint64 // bytes
}

// len returns the number of rows.
func (s *selection) len() uint64 { return s.patterns[0].len() }

// cells returns the number of selected elements of a row, saturated.
func (s *selection) cells() uint64 {
	n := uint64(1)
	for _, along := range s.patterns[1:] {
		n, _ = product(n, along.len())
	}
	return n
}

// rowSize returns how many bytes are selected in a row, or the largest number if there
// are more.
func (s *selection) rowSize() uint64 {
	n, _ := product(s.cells(), s.element)
	return n
}

// checkRange refuses rows that the selection does not have.
func (s *selection) checkRange(start, count uint64) error {
	if n := s.len(); start > n || count > n-start {
		return fault(ErrLimit, "rows", -1, "%d rows from %d of %d", count, start, n)
	}
	return nil
}

// upTo returns how many rows from start on make the next block, which has about rows. It
// ends where a chunk of high rows ends, so that no chunk is in two blocks.
func (s *selection) upTo(start, rows, high uint64) uint64 {
	along := s.patterns[0]
	at := along.at(start)
	if along.count == 1 {
		return rows - at%rows
	}
	step, _ := product(max(1, rows/along.block), along.stride)
	if over := step % high; over > 0 {
		step += high - over
	}
	if step < high { // the sum was too large a number
		return along.len() - start
	}
	return along.before(sum(at-at%step, step)) - start
}

// shape returns the dimensions, of which there is at least one.
func (d *Dataset) shape() []uint64 {
	if len(d.space.dims) > 0 && !d.space.null {
		return d.space.dims
	}
	return []uint64{d.Len()}
}

func (d *Dataset) everything() selection {
	s := selection{element: uint64(d.datatype.Size)}
	for _, n := range d.shape() {
		s.patterns = append(s.patterns, pattern{0, max(n, 1), 1, n})
	}
	return s
}

// selection checks a Hyperslab against the shape of the dataset.
func (d *Dataset) selection(h Hyperslab) (selection, error) {
	s := d.everything()
	rank := len(d.space.dims)
	ones := slices.Repeat([]uint64{1}, rank)
	if h.Stride == nil {
		h.Stride = ones
	}
	if h.Block == nil {
		h.Block = ones
	}
	for i, list := range [][]uint64{h.Start, h.Count, h.Stride, h.Block} {
		if len(list) != rank {
			return s, fault(ErrLimit, "hyperslab", -1, "%d numbers in %s, want %d", len(list), []string{"Start", "Count", "Stride", "Block"}[i], rank)
		}
	}
	for i := range rank {
		along := pattern{h.Start[i], h.Stride[i], h.Count[i], h.Block[i]}
		if err := along.check(i, d.space.dims[i]); err != nil {
			return s, err
		}
		if along.count <= 1 || along.block == along.stride || along.block == 0 {
			along.block *= along.count
			along.count, along.stride = 1, max(along.block, 1)
		}
		s.patterns[i] = along
	}
	return s, nil
}

// check refuses blocks that overlap, and those that are not in a dimension of n elements.
func (s pattern) check(dimension int, n uint64) error {
	if s.count > 1 && s.stride < max(s.block, 1) {
		return fault(ErrLimit, "hyperslab", -1, "dimension %d: a stride of %d for blocks of %d", dimension, s.stride, s.block)
	}
	fits := s.start <= n
	if fits && s.count > 0 && s.block > 0 {
		gaps, whole := product(s.count-1, s.stride)
		fits = whole && gaps <= n-s.start && s.block <= n-s.start-gaps
	}
	if !fits {
		return fault(ErrLimit, "hyperslab", -1, "dimension %d: %d blocks of %d from %d, each %d after the one before, are outside of %d", dimension, s.count, s.block, s.start, s.stride, n)
	}
	return nil
}

// axis is an overlap along one dimension.
type axis struct {
	pattern
	low      uint64 // coordinate where the part begins
	first, n uint64 // of the selected elements that lie in the part
	from, to uint64 // bytes of a step in the part, and in the destination
}

// overlap is that of a selection and a part of a dataset: a chunk, or all of it.
type overlap struct {
	axes []axis

	// What lies together on both sides is read and copied together: along the last axes
	// all of it and, if blocks is set, along the one before them a block.
	counted  int // axes that are not together
	blocks   bool
	run      uint64 // bytes that are together
	from, to uint64 // where the first are in the part, and in the destination
}

// set computes the overlap of some rows of a selection with the part of a dataset that has
// a shape and begins at a multiple of that shape. The destination has these rows. set
// reports whether there is any overlap.
func (o *overlap) set(s *selection, rows rowRange, at, shape []uint64) bool {
	o.axes = o.axes[:0]
	for i, along := range s.patterns {
		low := at[i] * shape[i]
		first, end := along.before(low), along.before(sum(low, shape[i]))
		if i == 0 {
			first, end = max(first, rows.start), min(end, rows.start+rows.count)
		}
		if first >= end {
			return false
		}
		o.axes = append(o.axes, axis{pattern: along, low: low, first: first, n: end - first})
	}
	o.counted, o.blocks, o.run, o.from, o.to = len(s.patterns), false, s.element, 0, 0
	from, to, together := s.element, s.element, true
	for i := len(o.axes) - 1; i >= 0; i-- {
		a := &o.axes[i]
		a.from, a.to = from, to
		o.from += (a.at(a.first) - a.low) * from
		if i > 0 {
			o.to += a.first * to
		} else {
			o.to += (a.first - rows.start) * to
		}
		if together {
			if together = a.first%a.block+a.n <= a.block; together {
				o.counted, o.run = i, a.n*from
			} else {
				o.blocks = true
			}
			together = together && a.n == shape[i] && a.n == a.len()
		}
		from, to = from*shape[i], to*a.len()
	}
	return true
}

// walk is how far a walk along an axis has come.
type walk struct{ left, into, from, to uint64 }

func (a *axis) walk(from, to uint64) walk { return walk{a.n, a.first % a.block, from, to} }

// take goes n elements on, which must not be more than the block has left.
func (a *axis) take(w *walk, n uint64) {
	w.left -= n
	w.from += n * a.from
	w.to += n * a.to
	if w.into += n; w.into == a.block {
		w.into = 0
		w.from += (a.stride - a.block) * a.from
	}
}

// runs calls do for all bytes that are selected, in the order of the part and of the
// destination: with where n bytes are in one, and where they go in the other.
func (o *overlap) runs(do func(from, to, n uint64) error) error {
	if o.counted == 0 {
		return do(o.from, o.to, o.run)
	}
	var space [maxRank]walk
	outer := space[:o.counted-1]
	for i := range outer {
		outer[i] = o.axes[i].walk(0, 0)
	}
	last := &o.axes[o.counted-1]
	from, to := o.from, o.to
	for {
		for w := last.walk(from, to); w.left > 0; {
			n, size := uint64(1), o.run
			if o.blocks {
				n = min(last.block-w.into, w.left)
				size = n * last.from
			}
			if err := do(w.from, w.to, size); err != nil {
				return err
			}
			last.take(&w, n)
		}
		i := len(outer) - 1
		for ; i >= 0; i-- {
			if o.axes[i].take(&outer[i], 1); outer[i].left > 0 {
				break
			}
			outer[i] = o.axes[i].walk(0, 0)
		}
		if i < 0 {
			return nil
		}
		from, to = o.from, o.to
		for j := range outer {
			from += outer[j].from
			to += outer[j].to
		}
	}
}
