package hdf5

import (
	"slices"
	"strings"
)

// LinkKind says how a link names its object.
type LinkKind int

// These are the kinds of links, with the numbers of HDF5.
const (
	HardLink     LinkKind = 0
	SoftLink     LinkKind = 1  // by a path in the same file, which need not exist
	ExternalLink LinkKind = 64 // by a path in another file
)

// Link is an entry of a group. Numbers of LinkKind without a name are user-defined links,
// which only their writer can follow.
type Link struct {
	Name   string
	Kind   LinkKind
	Target string // SoftLink, ExternalLink: the path of the object
	File   string // ExternalLink: the name of its file

	address uint64 // HardLink
}

// link parses a link message (spec IV.A.2.g).
func (d *decoder) link() (l Link) {
	d.version(1, 1)
	flags := d.u8()
	if flags&(1<<3) != 0 {
		l.Kind = LinkKind(d.u8())
	}
	if flags&(1<<2) != 0 {
		d.take(8) // creation order
	}
	if flags&(1<<4) != 0 {
		d.take(1) // character set
	}
	l.Name = string(d.take(d.number(1 << (flags & 3))))
	d.require(l.Name != "", "a link without a name")
	switch {
	case l.Kind == HardLink:
		l.address = d.address()
	case l.Kind == SoftLink:
		l.Target = string(d.take(uint64(d.u16())))
	case l.Kind == ExternalLink:
		value := d.part("external link", uint64(d.u16()))
		value.version(0, 0) // and flags, none
		l.File, l.Target = value.text(), value.text()
		if d.err == nil {
			d.err = value.err
		}
	case l.Kind < 64:
		d.fail(ErrUnsupported, "link %q of type %d", l.Name, l.Kind)
	}
	return l
}

// symbol parses an entry of a symbol table node (spec III.C), whose name and
// target are in the group's heap.
func (d *decoder) symbol(h *localHeap) Link {
	name := d.length()
	l := Link{address: d.address()}
	cache := d.u32()
	d.take(4)
	scratch := d.part("symbol table entry", 16)
	if d.err == nil {
		l.Name, d.err = h.text(name)
	}
	d.require(l.Name != "", "a link without a name")
	if cache == 2 && d.err == nil {
		l.Kind, l.address = SoftLink, 0
		l.Target, d.err = h.text(uint64(scratch.u32()))
	}
	return l
}

// components splits a path at its slashes; "." and empty parts do not count.
func components(path string) []string {
	parts := strings.Split(path, "/")
	return slices.DeleteFunc(parts, func(part string) bool { return part == "" || part == "." })
}
