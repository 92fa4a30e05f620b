package table

import "encoding/binary"

// undefined is the address of what does not exist.
const undefined = ^uint64(0)

var le = binary.LittleEndian

// root is where the parts of the root group are.
type root struct{ header, tree, heap int64 }

// superblock makes a superblock of version 0 (II.A).
func superblock(group root, end int64) []byte {
	p := []byte("\x89HDF\r\n\x1a\n")
	p = append(p, 0, 0, 0, 0, 0, 8, 8, 0) // versions; sizes of addresses and of lengths
	p = le.AppendUint16(p, maxDatasets/2) // leaves of groups hold twice as many
	p = le.AppendUint16(p, groupNode/2)
	p = le.AppendUint32(p, 0)
	for _, address := range []uint64{0, undefined, uint64(end), undefined} {
		p = le.AppendUint64(p, address)
	}
	return appendEntry(p, 0, group.header, 1, group.tree, group.heap)
}

// appendEntry appends an entry of a symbol table (III.C). The scratch pad in the
// entry of the root group repeats the addresses of its parts.
func appendEntry(p []byte, name uint64, header int64, cache uint32, scratch ...int64) []byte {
	p = le.AppendUint64(p, name)
	p = le.AppendUint64(p, uint64(header))
	p = le.AppendUint64(p, uint64(cache))
	end := len(p) + 16
	for _, v := range scratch {
		p = le.AppendUint64(p, uint64(v))
	}
	return zeros(p, end)
}

// zeros appends zeros up to a length.
func zeros(p []byte, length int) []byte { return append(p, make([]byte, length-len(p))...) }

// padded appends zeros up to a multiple of 8.
func padded(p []byte) []byte { return zeros(p, (len(p)+7)&^7) }

const (
	groupNode = 32 // most children of a node of a group's B-tree
	chunkNode = 64 // most children of one of chunks, as a superblock of version 0 implies
)

// writeGroup writes the root group: its names, the leaf that has them all, the B-tree
// above that, and its header.
func (w *Writer) writeGroup(headers []int64) (root, error) {
	names := make([]byte, 8) // the empty name, which the first key has
	leaf := append([]byte("SNOD"), 1, 0, byte(len(headers)), 0)
	last := uint64(0)
	for i, d := range w.datasets {
		last = uint64(len(names))
		leaf = appendEntry(leaf, last, headers[i], 0)
		names = padded(append(names, d.name+"\x00"...))
	}
	leaf = zeros(leaf, 8+40*maxDatasets)
	at := func(p []byte, err error) (int64, error) { // writes p unless there was an error
		if err != nil {
			return 0, err
		}
		return w.write(p)
	}
	namesAt, err := at(names, nil)
	heap := append([]byte("HEAP"), 0, 0, 0, 0)
	for _, v := range []uint64{uint64(len(names)), 1, uint64(namesAt)} { // 1: no free space
		heap = le.AppendUint64(heap, v)
	}
	heapAt, err := at(heap, err)
	leafAt, err := at(leaf, err)
	tree := nodeHead(0, 0, 1, undefined, undefined)
	for _, v := range []uint64{0, uint64(leafAt), last} {
		tree = le.AppendUint64(tree, v)
	}
	treeAt, err := at(zeros(tree, 24+8*(2*groupNode+1)), err)
	table := le.AppendUint64(le.AppendUint64(nil, uint64(treeAt)), uint64(heapAt))
	headerAt, err := at(objectHeader([]message{{0x11, table}}), err)
	return root{headerAt, treeAt, heapAt}, err
}

// nodeHead begins a node of a B-tree of version 1 (III.A.1).
func nodeHead(kind, level byte, entries int, left, right uint64) []byte {
	p := append([]byte("TREE"), kind, level)
	p = le.AppendUint16(p, uint16(entries))
	return le.AppendUint64(le.AppendUint64(p, left), right)
}

// child is what a node has of a node below it: its first chunk, and its address.
type child struct {
	chunk   int
	address int64
}

// writeTree writes the B-tree of a dataset's chunks, level by level, and returns the
// address of its root.
func (w *Writer) writeTree(d *Dataset) (uint64, error) {
	if len(d.chunks) == 0 {
		return undefined, nil
	}
	children := make([]child, len(d.chunks))
	for i, c := range d.chunks {
		children[i] = child{i, c.address}
	}
	for level := byte(0); ; level++ {
		var err error
		if children, err = w.writeLevel(d, level, children); err != nil {
			return 0, err
		}
		if len(children) == 1 {
			return uint64(children[0].address), nil
		}
	}
}

// writeLevel writes the nodes above the children.
func (w *Writer) writeLevel(d *Dataset, level byte, children []child) ([]child, error) {
	const key = 8 + 2*8
	const size = 24 + chunkNode*(key+8) + key
	var nodes []child
	first := w.at
	for from := 0; from < len(children); from += chunkNode {
		some := children[from:min(from+chunkNode, len(children))]
		left, right, end := undefined, undefined, len(d.chunks)
		if from > 0 {
			left = uint64(first + int64(len(nodes)-1)*size)
		}
		if from+chunkNode < len(children) {
			right, end = uint64(first+int64(len(nodes)+1)*size), children[from+chunkNode].chunk
		}
		p := nodeHead(1, level, len(some), left, right)
		for _, c := range some {
			p = le.AppendUint64(d.appendKey(p, c.chunk), uint64(c.address))
		}
		address, err := w.write(zeros(d.appendKey(p, end), size))
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, child{some[0].chunk, address})
	}
	return nodes, nil
}

// appendKey appends the key of a chunk: its size, no filter left out, its first
// row, and the first byte of the element. After the last chunk there is one more
// key, of size 0.
func (d *Dataset) appendKey(p []byte, chunk int) []byte {
	size := uint32(0)
	if chunk < len(d.chunks) {
		size = d.chunks[chunk].size
	}
	p = le.AppendUint64(p, uint64(size))
	p = le.AppendUint64(p, uint64(chunk)*uint64(d.chunkRows))
	return le.AppendUint64(p, 0)
}

// message is a message of an object header (IV.A.2).
type message struct {
	kind byte
	data []byte
}

// objectHeader makes an object header of version 1 (IV.A.1.a).
func objectHeader(messages []message) []byte {
	var body []byte
	for _, m := range messages {
		data := padded(m.data)
		body = le.AppendUint16(body, uint16(m.kind))
		body = le.AppendUint16(body, uint16(len(data)))
		body = append(append(body, 0, 0, 0, 0), data...)
	}
	p := le.AppendUint16([]byte{1, 0}, uint16(len(messages)))
	p = le.AppendUint32(p, 1) // links to it
	p = le.AppendUint32(p, uint32(len(body)))
	return append(zeros(p, 16), body...)
}

// messages returns the messages of a dataset: dataspace, type, fill value of zeros,
// layout, filter and description.
func (d *Dataset) messages(tree uint64) []message {
	space := []byte{1, 1, 1, 0, 0, 0, 0, 0} // one dimension, with a maximum
	space = le.AppendUint64(le.AppendUint64(space, d.rows), undefined)
	layout := le.AppendUint64([]byte{3, 2, 2}, tree) // chunked, the bytes of the element being a dimension
	layout = le.AppendUint32(le.AppendUint32(layout, uint32(d.chunkRows)), uint32(d.width()))
	list := []message{{0x01, space}, {0x03, d.datatype()}, {0x05, []byte{2, 3, 2, 1, 0, 0, 0, 0}}, {0x08, layout}}
	if d.w.pack {
		list = append(list, message{0x0b, []byte("\x01\x01\x00\x00\x00\x00\x00\x00" + // one filter
			"\x01\x00\x08\x00\x01\x00\x01\x00deflate\x00\x06\x00\x00\x00\x00\x00\x00\x00")}) // optional, of level 6
	}
	return append(list, message{0x0c, textAttribute("description", d.description)})
}

// number is the type of a u64 (IV.A.2.d).
var number = []byte{0x10, 0, 0, 0, 8, 0, 0, 0, 0, 0, 64, 0}

// datatype returns the datatype of the elements.
func (d *Dataset) datatype() []byte {
	if len(d.fields) == 0 {
		return number
	}
	p := []byte{0x16, byte(len(d.fields)), 0, 0}
	p = le.AppendUint32(p, uint32(d.width()))
	for i, name := range d.fields {
		p = append(p, padded([]byte(name+"\x00"))...)
		p = le.AppendUint32(p, uint32(8*i))
		p = append(zeros(p, len(p)+28), number...) // not an array
	}
	return p
}

// textAttribute makes an attribute message of one ASCII text (IV.A.2.m).
func textAttribute(name, text string) []byte {
	kind := le.AppendUint32([]byte{0x13, 1, 0, 0}, uint32(len(text))) // padded with NUL
	p := []byte{1, 0}
	for _, length := range []int{len(name) + 1, len(kind), 8} {
		p = le.AppendUint16(p, uint16(length))
	}
	p = padded(append(p, name+"\x00"...))
	p = append(p, kind...)
	p = append(p, 1, 0, 0, 0, 0, 0, 0, 0) // a scalar
	return append(p, text...)
}
