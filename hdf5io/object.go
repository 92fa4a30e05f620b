package hdf5io

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/internal/crc32c"
)

// Limits of the object tree, all of which is in memory.
const (
	maxObjects     = 10_000
	maxObjectDepth = 8

	indexNodeSize = 2048

	// mapAttribute, a u8 of a dataset, says which chunk map it has.
	mapAttribute = "chunk_map"
)

// object is a group or dataset. Objects of a View are immutable; a Tx copies those
// that it changes, and those above them.
type object struct {
	dataset    *datasetHeader // nil: a group
	members    []member       // of a group, ascending by name
	attributes []Attribute
	index      indexHeader // of a chunked dataset
	chunkMap   ChunkMap    // that names the chunks

	// As stored in the file; address 0: not stored yet.
	address    uint64
	header     []byte
	indexBytes []byte // at dataset.address

	tx      *Tx // the Tx that may change the object; nil: none
	changed bool
	pending *TxDataset // what the Tx does to the dataset
}

type member struct {
	name   string
	object *object
}

func (o *object) find(name string) (int, bool) {
	return slices.BinarySearchFunc(o.members, name, func(m member, name string) int { return cmp.Compare(m.name, name) })
}

func (o *object) attribute(name string) int {
	return slices.IndexFunc(o.attributes, func(a Attribute) bool { return a.Name == name })
}

func (o *object) chunked() bool { return o.dataset != nil && o.dataset.chunk != nil }

// ErrNotFound: no object, or none of the wanted kind, has this path.
var ErrNotFound = errors.New("not found")

// splitPath returns the names of an absolute path; "/" has none.
func splitPath(path string) ([]string, error) {
	if !strings.HasPrefix(path, "/") {
		return nil, fmt.Errorf("path %q does not begin with /", path)
	}
	if path == "/" {
		return nil, nil
	}
	names := strings.Split(path[1:], "/")
	if len(names) > maxObjectDepth || slices.Contains(names, "") {
		return nil, fmt.Errorf("path %q has an empty name or more than %d", path, maxObjectDepth)
	}
	return names, nil
}

func joinPath(parent, name string) string {
	if parent == "/" {
		return parent + name
	}
	return parent + "/" + name
}

// walk visits o and all objects below it, in order of their paths, each group
// before its members.
func (o *object) walk(path string, visit func(path string, o *object) error) error {
	if err := visit(path, o); err != nil {
		return err
	}
	for _, m := range o.members {
		if err := m.object.walk(joinPath(path, m.name), visit); err != nil {
			return err
		}
	}
	return nil
}

// treeCRC is the checksum of all headers, which a slot holds.
func (o *object) treeCRC() uint32 {
	crc := uint32(0)
	o.walk("/", func(_ string, o *object) error {
		crc = crc32c.Extend(crc, o.header)
		crc = crc32c.Extend(crc, o.indexBytes)
		return nil
	})
	return crc
}

// treeReader parses an object tree. Headers do not overlap in a sound file, so all
// of them together are not longer than the file. This bounds the work that a
// damaged file can cause.
type treeReader struct {
	src     nodeSource
	end     uint64
	objects int
	bytes   uint64
	file    *File
	maps    [2]string   // path of the dataset in each chunk map
	bad     func(error) // if not nil, it is called for members that are left out
}

func (t *treeReader) object(path string, address uint64, depth int) (*object, error) {
	bad := func(format string, args ...any) (*object, error) {
		return nil, corrupt.Errorf("object "+path, int64(address), format, args...)
	}
	if t.objects++; t.objects > maxObjects || depth > maxObjectDepth {
		return bad("more than %d objects or deeper than %d", maxObjects, maxObjectDepth)
	}
	if !insideData(address, headerPrefixRead, t.end) {
		return bad("address outside the file of %d bytes", t.end)
	}
	prefix, err := t.src.read(address, headerPrefixRead)
	if err != nil {
		return nil, err
	}
	size, _, err := parseHeaderPrefix(prefix, -1)
	if err != nil {
		return bad("%w", err)
	}
	t.bytes += uint64(size)
	if uint64(size) > t.end-address || t.bytes > t.end {
		return bad("header of %d bytes in a file of %d", size, t.end)
	}
	o := &object{address: address}
	if o.header, err = t.src.read(address, size); err != nil {
		return nil, err
	}
	h, _, err := parseObjectHeader(o.header, int64(address))
	if err != nil && t.bad != nil {
		t.bad(fmt.Errorf("object %s: %w", path, err))
		h, err = t.foreignObject(o.header, address)
	}
	if err != nil {
		return nil, fmt.Errorf("object %s: %w", path, err)
	}
	o.dataset, o.attributes = h.dataset, h.attributes
	if h.dataset != nil {
		return o, t.dataset(path, o, h.dataset)
	}
	return o, t.group(path, o, h.links, depth)
}

func (t *treeReader) group(path string, o *object, links []link, depth int) error {
	for _, l := range links {
		child, err := t.object(joinPath(path, l.name), l.address, depth+1)
		if err != nil && t.bad != nil {
			t.bad(err)
			continue
		}
		if err != nil {
			return err
		}
		o.members = append(o.members, member{l.name, child})
	}
	slices.SortFunc(o.members, func(a, b member) int { return cmp.Compare(a.name, b.name) })
	return nil
}

func (t *treeReader) dataset(path string, o *object, d *datasetHeader) error {
	if err := d.checkKind(t.file.options.Plain); err != nil {
		return corrupt.Errorf("object "+path, int64(o.address), "%w", err)
	}
	if d.chunk == nil {
		if d.size > 0 && !insideData(d.address, d.size, t.end) {
			return corrupt.Errorf("object "+path, int64(o.address), "%d bytes of data at %#x", d.size, d.address)
		}
		return nil
	}
	if !insideData(d.address, indexHeaderSize, t.end) {
		return corrupt.Errorf("object "+path, int64(o.address), "index at %#x", d.address)
	}
	var err error
	if o.indexBytes, err = t.src.read(d.address, indexHeaderSize); err != nil {
		return err
	}
	if o.index, err = parseIndexHeader(o.indexBytes, int64(d.address), d.indexShape()); err != nil {
		return fmt.Errorf("object %s: %w", path, err)
	}
	return t.chunkMap(path, o)
}

// chunkMap reads the attribute that puts a dataset into a chunk map.
func (t *treeReader) chunkMap(path string, o *object) error {
	i := o.attribute(mapAttribute)
	if i < 0 {
		return nil
	}
	a := o.attributes[i]
	if len(o.dataset.dims) != 1 || !a.Type.Equal(Uint(1)) || len(a.Data) != 1 || a.Data[0] > 1 {
		return corrupt.Errorf("object "+path, int64(o.address), "attribute %s: % x of %v", mapAttribute, a.Data, a.Type)
	}
	m := &t.maps[a.Data[0]]
	if *m != "" {
		return corrupt.Errorf("object "+path, int64(o.address), "its chunk map is that of %s", *m)
	}
	*m = path
	o.chunkMap = FirstMap + ChunkMap(a.Data[0])
	return nil
}

// encode makes the header of o as it is now. The index of a chunked dataset is placed
// already.
func (o *object) encode() ([]byte, error) {
	h := objectHeader{dataset: o.dataset, attributes: o.attributes}
	for _, m := range o.members {
		h.links = append(h.links, link{m.name, m.object.address})
	}
	return h.append(nil)
}
