package hdf5

import (
	"cmp"
	"iter"
	"strings"

	"github.com/cidstore/cidstore/internal/hdf5sum"
)

// Attribute is a named value of an object. The methods of Block read its elements, and
// Value reads all of them at once.
type Attribute struct {
	Block
	name  string
	space dataspace
}

// Name returns the attribute's name.
func (a *Attribute) Name() string { return a.name }

// Shape returns the dimensions; none for a single value.
func (a *Attribute) Shape() []uint64 { return append([]uint64(nil), a.space.dims...) }

// IsNull reports whether the attribute has no value at all, as h5py.Empty makes it.
func (a *Attribute) IsNull() bool { return a.space.null }

// Attributes yields the object's attributes. An error comes with a nil Attribute. If the
// error concerns only one attribute, others follow.
func (o *objectHeader) Attributes() iter.Seq2[*Attribute, error] {
	return func(yield func(*Attribute, error) bool) {
		b := o.file.newBudget()
		err := o.walkAttributes(b, nil, func(d decoder) error {
			a, err := o.attribute(b, d)
			if !yield(a, within(o.path, err)) {
				return errDone
			}
			return nil
		})
		if err != nil {
			yield(nil, within(o.path, err))
		}
	}
}

// Attribute returns the attribute with a name. If there is none it returns ErrNotFound,
// or the error of an attribute whose name cannot be read.
func (o *objectHeader) Attribute(name string) (*Attribute, error) {
	b := o.file.newBudget()
	var found *Attribute
	var nameless error
	err := o.walkAttributes(b, &name, func(d decoder) error {
		if peek := d; peek.attributeName() != name {
			nameless = cmp.Or(nameless, peek.err)
			return nil
		}
		a, err := o.attribute(b, d)
		if err != nil {
			return err
		}
		found = a
		return errDone
	})
	if err == nil && found == nil {
		err = cmp.Or(nameless, fault(ErrNotFound, "object header", o.offset, "no attribute %q", name))
	}
	return found, within(o.path, err)
}

// walkAttributes calls visit with the message of each attribute. If a name is wanted, it
// may leave out attributes of other names.
func (o *objectHeader) walkAttributes(b *budget, wanted *string, visit func(decoder) error) error {
	for m := range o.messages() {
		var err error
		switch m.kind {
		case messageAttribute:
			body := o.file.resolve(b, m)
			if err = body.err; err == nil {
				err = visit(body)
			}
		case messageAttributeInfo:
			err = o.denseAttributes(b, m.body, wanted, visit)
		}
		if err != nil {
			return done(err)
		}
	}
	return nil
}

// denseAttributes walks through the attributes of an attribute info message
// (spec IV.A.2.v).
func (o *objectHeader) denseAttributes(b *budget, d decoder, wanted *string, visit func(decoder) error) error {
	d.version(0, 0)
	if flags := d.u8(); flags&1 != 0 {
		d.take(2) // largest creation order
	}
	heapAddress, treeAddress := d.address(), d.address()
	if d.err != nil || heapAddress == undefined {
		return d.err
	}
	heap, err := o.file.fractalHeap(b, heapAddress)
	if err != nil {
		return err
	}
	tree, err := o.file.tree2(b, treeAddress, 8)
	if err != nil {
		return err
	}
	var compare func(decoder) int
	if wanted != nil {
		compare = hashCompare(*wanted, 13)
	}
	return tree.each(compare, func(r decoder) error {
		id := r.part("heap id", 8)
		flags := r.u8()
		r.take(4) // creation order
		hash := r.u32()
		if r.err != nil {
			return r.err
		}
		var d decoder
		if flags&messageShared != 0 {
			d = o.file.inSharedTable(b, id, messageAttribute)
		} else {
			d = heap.object(id)
		}
		if d.err != nil {
			return d.err
		}
		d.structure = "attribute"
		peek := d
		if name := peek.attributeName(); peek.err == nil && hdf5sum.Lookup3([]byte(name)) != hash {
			return r.corrupt("hash %08x of attribute %q, want %08x", hash, name, hdf5sum.Lookup3([]byte(name)))
		}
		return visit(d)
	})
}

// attributeHead is the beginning of an attribute message (spec IV.A.2.m).
type attributeHead struct {
	version                       byte
	flags                         byte
	nameSize, typeSize, spaceSize uint64
}

func (d *decoder) attributeHead() attributeHead {
	var h attributeHead
	h.version, h.flags = d.version(1, 3), d.u8()
	h.nameSize, h.typeSize, h.spaceSize = uint64(d.u16()), uint64(d.u16()), uint64(d.u16())
	if h.version == 3 {
		d.take(1) // character set of the name
	}
	return h
}

func (d *decoder) attributeName() string {
	h := d.attributeHead()
	name, _, _ := strings.Cut(string(d.take(h.nameSize)), "\x00")
	return name
}

func (o *objectHeader) attribute(b *budget, d decoder) (*Attribute, error) {
	h := d.attributeHead()
	a := &Attribute{}
	field := func(structure string, size uint64) decoder {
		start := d.pos
		part := d.part(structure, size)
		if h.version == 1 {
			d.align(start)
		}
		return part
	}
	nameField := field("attribute name", h.nameSize)
	a.name, _, _ = strings.Cut(string(nameField.data), "\x00")
	typeField := field("datatype", h.typeSize)
	spaceField := field("dataspace", h.spaceSize)
	if h.version > 1 && h.flags&1 != 0 {
		typeField = o.file.shared(b, typeField, messageDatatype)
	}
	if h.version > 1 && h.flags&2 != 0 {
		spaceField = o.file.shared(b, spaceField, messageDataspace)
	}
	t := typeField.datatype(0)
	a.space = spaceField.dataspace()
	if err := cmp.Or(d.err, typeField.err, spaceField.err); err != nil {
		return nil, err
	}
	size, ok := product(a.space.elements, uint64(t.Size))
	data := d.take(size)
	if !ok || d.err != nil {
		return nil, d.corrupt("attribute %q has %d bytes of data, want %d", a.name, d.left(), size)
	}
	a.Block = Block{Rows: int(a.space.elements), Data: data, file: o.file, path: o.path + " attribute " + a.name, datatype: t, cells: 1}
	return a, nil
}
