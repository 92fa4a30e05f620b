package hdf5

import (
	"bytes"
	"errors"
	"fmt"
	"hash/fnv"
	"runtime/metrics"
	"slices"
)

// exercise reads all that can be read of a file, and returns the errors that it
// met. It panics when an error has no kind, or a step takes too much memory.
type exercise struct {
	size      int
	chunk     int
	unchecked bool
	errs      []error
	values    map[string]uint64 // a hash of each that was read, by its place
	sample    []metrics.Sample
	worst     uint64 // bytes that a step allocated
}

// Limits of one exercise: what a good sample never reaches.
const (
	exerciseObjects = 3000
	exerciseBytes   = 1 << 20 // of the rows of a dataset
)

func newExercise(data []byte, chunk int, unchecked bool) *exercise {
	x := &exercise{size: len(data), chunk: chunk, unchecked: unchecked, values: make(map[string]uint64), sample: []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}}
	var f *File
	x.step("open", func() error {
		var err error
		f, err = newFile(&File{reader: bytes.NewReader(data), size: int64(len(data)), maxChunk: int64(chunk), unchecked: unchecked}, nil)
		return err
	})
	if f == nil {
		return x
	}
	objects := 0
	for o, err := range f.Objects() {
		x.note(err)
		if o != nil {
			x.object(o)
		}
		if objects++; objects > exerciseObjects {
			panic("more objects than the file has bytes for")
		}
	}
	return x
}

// allocated is how many bytes the program has allocated since it began.
func (x *exercise) allocated() uint64 {
	metrics.Read(x.sample)
	return x.sample[0].Value.Uint64()
}

// limit is how much a step may allocate, by the package comment.
func (x *exercise) limit() uint64 { return uint64(16*x.size + 1<<20 + 6*x.chunk) }

// step runs one step, and judges its memory: all that it allocated, not just what
// was used at the same time.
func (x *exercise) step(name string, run func() error) {
	before := x.allocated()
	err := run()
	took := x.allocated() - before
	x.worst = max(x.worst, took)
	if took > x.limit() {
		panic(fmt.Sprintf("%s allocated %d bytes, at most %d", name, took, x.limit()))
	}
	x.note(err)
}

// note notes an error, which must have a kind and words.
func (x *exercise) note(err error) {
	if err == nil {
		return
	}
	known := false
	for _, kind := range []error{ErrNotHDF5, ErrCorrupt, ErrUnsupported, ErrLimit, ErrNotFound, ErrWrongType} {
		known = known || errors.Is(err, kind)
	}
	var e *Error
	if !known || !errors.As(err, &e) || e.Structure == "" || e.Error() == "" {
		panic(fmt.Sprintf("an error without a kind: %v", err))
	}
	x.errs = append(x.errs, err)
}

func (x *exercise) object(o Object) {
	var attributes []string
	for a, err := range o.Attributes() {
		x.note(err)
		if a == nil {
			continue
		}
		if len(attributes) < 20 {
			attributes = append(attributes, a.Name())
		}
		x.step("value", func() error { return x.value(&a.Block) })
	}
	for _, name := range attributes {
		x.step("attribute", func() error { _, err := o.Attribute(name); return err })
	}
	switch o := o.(type) {
	case *Group:
		x.group(o)
	case *Dataset:
		x.dataset(o)
	case *NamedType:
		_ = o.Type().String()
	}
}

func (x *exercise) value(b *Block) error {
	v, err := b.Value()
	if err == nil {
		hash := fnv.New64a()
		fmt.Fprint(hash, b.Data, v)
		x.values[fmt.Sprint(b.path, b.Start)] = hash.Sum64()
	}
	_ = b.Type().String()
	return err
}

func (x *exercise) group(g *Group) {
	n := 0
	for l, err := range g.Links() {
		x.note(err)
		if n++; n > 30 || err != nil {
			continue
		}
		x.step("link", func() error { _, err := g.Link(l.Name); return err })
		if l.Kind != HardLink {
			x.step("open", func() error { _, err := g.Open(l.Name); return err })
		}
	}
}

func (x *exercise) dataset(d *Dataset) {
	_ = fmt.Sprint(d.Shape(), d.MaxShape(), d.Layout(), d.Index(), d.ChunkShape(), d.Filters(), d.FillValue(), d.IsNull(), d.RowSize())
	x.step("stored size", func() error { _, err := d.StoredSize(); return err })
	count := d.Len()
	if row := d.RowSize(); row > 0 {
		count = min(count, exerciseBytes/row+1)
	}
	// Each chunk of bzip2 has a decoder of its own, of up to 4 MiB.
	bzip2 := slices.ContainsFunc(d.Filters(), func(f Filter) bool { return f.ID == filterBzip2 })
	before := x.allocated()
	for b, err := range d.Rows(d.Len()-count, count) {
		x.note(err)
		took := x.allocated() - before
		if took > x.limit() && !bzip2 {
			panic(fmt.Sprintf("a block of rows allocated %d bytes", took))
		}
		if !bzip2 {
			x.worst = max(x.worst, took)
		}
		if b != nil && len(b.Data) <= 4096 {
			x.step("values", func() error { return x.value(b) })
		}
		before = x.allocated()
	}
	if !bzip2 && len(d.Shape()) <= 4 {
		x.step("slab", func() error { return slab(d) })
	}
}

// slab reads every other element along each dimension, four at most.
func slab(d *Dataset) error {
	var h Hyperslab
	for _, n := range d.Shape() {
		h.Start, h.Stride, h.Count = append(h.Start, n/2), append(h.Stride, 2), append(h.Count, min((n-n/2+1)/2, 4))
	}
	_, err := d.Slab(h)
	return err
}
