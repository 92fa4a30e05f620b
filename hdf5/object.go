package hdf5

import (
	"iter"
	"strings"
)

// Object is what a hard link names: a *Group, a *Dataset or a *NamedType.
type Object interface {
	// Path is the path by which the object was reached, from the root.
	Path() string
	// Address identifies the object in its file.
	Address() uint64
	// Attributes yields the object's attributes. More may follow after an error with a
	// nil Attribute, unless the walk itself failed.
	Attributes() iter.Seq2[*Attribute, error]
	// Attribute returns the attribute with a name, or ErrNotFound if there is none.
	Attribute(name string) (*Attribute, error)
}

// NamedType is a "committed" datatype, which has a place of its own in the file.
type NamedType struct {
	objectHeader
	datatype *Type
}

// Type returns the type.
func (t *NamedType) Type() *Type { return t.datatype }

// objectHeader has what all objects have in common.
type objectHeader struct {
	*header
	path string
}

// Path returns the path from the root by which the object was reached.
func (o *objectHeader) Path() string { return o.path }

// Address returns the address of the object header, which identifies the object.
func (o *objectHeader) Address() uint64 { return o.address }

func kindOf(o Object) string {
	switch o.(type) {
	case *Group:
		return "group"
	case *Dataset:
		return "dataset"
	}
	return "datatype"
}

func (f *File) object(b *budget, address uint64, path string) (Object, error) {
	h, err := f.header(b, address)
	if err != nil {
		return nil, within(path, err)
	}
	o := objectHeader{h, path}
	switch {
	case h.has(messageLayout):
		d, err := newDataset(b, o)
		if err != nil {
			return nil, within(path, err)
		}
		return d, nil
	case h.has(messageSymbolTable), h.has(messageLinkInfo), h.has(messageLink):
		return &Group{objectHeader: o}, nil
	case h.has(messageDatatype):
		d, _ := h.find(b, messageDatatype)
		t := d.datatype(0)
		if d.err != nil {
			return nil, within(path, d.err)
		}
		return &NamedType{o, t}, nil
	}
	return nil, within(path, fault(ErrCorrupt, "object header", h.offset, "the messages make no group, dataset or datatype"))
}

// Objects yields every object to which hard links lead from the root. It yields each object
// once, with one of its paths, and a group before what is in it. An object that cannot be
// read gives an error, and the walk goes on. Objects does not follow soft and external
// links; Group.Links yields them.
func (f *File) Objects() iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		root, err := f.Root()
		if err != nil {
			yield(nil, err)
			return
		}
		w := objectWalk{f, f.newBudget(), map[uint64]bool{root.address: true}, yield}
		w.group(root, 0)
	}
}

type objectWalk struct {
	file  *File
	b     *budget
	seen  map[uint64]bool
	yield func(Object, error) bool
}

const maxGroupDepth = 1000 // of groups in groups, in a walk through all objects

// group yields a group and what is in it. It returns false to end the walk.
func (w *objectWalk) group(g *Group, depth int) bool {
	if !w.yield(g, nil) {
		return false
	}
	if depth == maxGroupDepth {
		return w.yield(nil, within(g.path, fault(ErrLimit, "group", -1, "groups in groups, more than %d deep", maxGroupDepth)))
	}
	var links []Link
	err := g.walkLinks(w.b, nil, func(l Link) error {
		if l.Kind == HardLink && !w.seen[l.address] {
			w.seen[l.address] = true
			links = append(links, l)
		}
		return nil
	})
	for _, l := range links {
		object, err := w.file.object(w.b, l.address, join(g.path, l.Name))
		more := false
		if child, ok := object.(*Group); ok {
			more = w.group(child, depth+1)
		} else {
			more = w.yield(object, err)
		}
		if !more {
			return false
		}
	}
	return err == nil || w.yield(nil, err)
}

func join(group, name string) string {
	return strings.TrimSuffix(group, "/") + "/" + name
}
