package hdf5io

import (
	"bytes"
	"encoding/binary"
	"io"
	"slices"

	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/internal/hdf5sum"
)

// When HDF5 programs add to an object of ours, they continue its header in other
// blocks, or, from nine members on, put its links into a heap. They put both at the
// end of the file (HDF5 spec IV.A.1.b, III.G).
const (
	messageContinuation   messageType = 0x10
	continuationSignature             = "OCHK"
	heapSignature                     = "FHDB" // a direct block of a fractal heap
	maxContinuations                  = 64
	maxContinuationBytes              = 1 << 20
	maxForeignBytes                   = 64 << 20 // bytes that are searched for links
	maxForeignLinks                   = 1000
	maxForeignAttributes              = 64
)

// foreignObject reads what it can of the header of an object that another program
// has written to. It leaves out what is wrong; the caller checks the result.
func (t *treeReader) foreignObject(header []byte, address uint64) (*objectHeader, error) {
	size, pos, err := parseHeaderPrefix(header, int64(address))
	if err != nil {
		return nil, err
	}
	if size > len(header) {
		return nil, corrupt.Errorf("object header", int64(address), "%d bytes, want %d", len(header), size)
	}
	g := &foreignReader{tree: t, names: make(map[string]bool)}
	blocks := [][]byte{header[pos : size-checksumSize]}
	for i := 0; i < len(blocks) && i < maxContinuations; i++ {
		blocks = append(blocks, g.messages(blocks[i])...)
	}
	if g.dense {
		g.heap()
	}
	c := &g.content
	c.links = g.links
	c.seen[messageLink] = len(c.links) > 0
	c.seen[messageAttribute] = len(c.attributes) > 0
	c.seen[messageAttributeInfo] = c.seen[messageAttribute]
	h, err := c.object()
	if err != nil {
		return nil, corrupt.Errorf("object header", int64(address), "%w", err)
	}
	return h, nil
}

type foreignReader struct {
	tree    *treeReader
	content headerContent
	links   []link
	names   map[string]bool
	dense   bool // links are in a heap
}

// messages reads the messages of a block, and returns the blocks in which they
// continue.
func (g *foreignReader) messages(p []byte) (further [][]byte) {
	for len(p) >= messagePrefix {
		t, size := messageType(p[0]), int(binary.LittleEndian.Uint16(p[1:]))
		if size > len(p)-messagePrefix {
			return further
		}
		data := p[messagePrefix : messagePrefix+size]
		p = p[messagePrefix+size:]
		switch t {
		case messageLink:
			g.link(data)
		case messageLinkInfo:
			g.dense = g.dense || string(data) != noDenseStorage
			g.content.seen[t] = true
		case messageAttribute:
			g.attribute(data)
		case messageContinuation:
			if block := g.continuation(data); block != nil {
				further = append(further, block)
			}
		default:
			if _, known := t.form(); known && t != messageNil && g.content.parseData(t, data) == nil {
				g.content.seen[t] = true
			}
		}
	}
	return further
}

func (g *foreignReader) attribute(p []byte) {
	a, err := parseAttribute(p)
	list := &g.content.attributes
	if err == nil && checkAttributes(append(slices.Clip(*list), a)) == nil && len(*list) < maxForeignAttributes {
		*list = append(*list, a)
	}
}

// link takes the link that p begins with, if it leads to an address before the
// root's end.
func (g *foreignReader) link(p []byte) {
	r := fieldReader{p: p}
	l := readLink(&r)
	if r.err != nil || len(g.names) == maxForeignLinks || checkName(l.name) != nil || g.names[l.name] || !insideData(l.address, headerPrefixRead, g.tree.end) {
		return
	}
	g.names[l.name] = true
	g.links = append(g.links, l)
}

// continuation reads the block that a continuation message names; nil if it is
// damaged.
func (g *foreignReader) continuation(data []byte) []byte {
	if len(data) < 16 {
		return nil
	}
	address, size := binary.LittleEndian.Uint64(data), binary.LittleEndian.Uint64(data[8:])
	if address > maxAddress || size < uint64(len(continuationSignature)+checksumSize) || size > maxContinuationBytes {
		return nil
	}
	p := make([]byte, size)
	if g.tree.file.readAt(p, int64(address)) != nil || string(p[:4]) != continuationSignature {
		return nil
	}
	end := len(p) - checksumSize
	if hdf5sum.Lookup3(p[:end]) != binary.LittleEndian.Uint32(p[end:]) {
		return nil
	}
	return p[len(continuationSignature):end]
}

// heap looks for links in the blocks of heaps that lie after the end of the root.
func (g *foreignReader) heap() {
	info, err := g.tree.file.file.Info()
	if err != nil || uint64(info.Size) <= g.tree.end {
		return
	}
	p, err := io.ReadAll(io.NewSectionReader(g.tree.file.file, int64(g.tree.end), min(info.Size-int64(g.tree.end), maxForeignBytes)))
	if err != nil {
		return
	}
	for at := bytes.Index(p, []byte(heapSignature)); at >= 0; {
		p = p[at+len(heapSignature):]
		at = bytes.Index(p, []byte(heapSignature))
		block := p
		if at >= 0 {
			block = p[:at]
		}
		for i := range block {
			if block[i] == linkVersion {
				g.link(block[i:])
			}
		}
	}
}

// edited refines err for an object tree whose headers are not those of the slot's
// root. If they match without the members that could not be read and the last
// attributes, another program has added those, and nothing else in the tree differs.
func (o *object) edited(s *commitSlot, err error) error {
	attributes := o.attributes
	for n := len(attributes); n >= 0; n-- { // other programs put theirs after ours
		o.attributes = attributes[:n]
		encodeErr := o.walk("/", func(_ string, o *object) (err error) {
			o.header, err = o.encode()
			return err
		})
		if encodeErr == nil && o.treeCRC() == s.treeCRC {
			return corrupt.Errorf("object /", int64(o.address), "%w: headers were edited; without that all are those of the root", ErrForeignEdit)
		}
	}
	o.attributes = attributes
	return err
}
