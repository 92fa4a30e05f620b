package hdf5io

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"

	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/internal/hdf5sum"
)

// The index of a chunked dataset is a version-2 B-tree (HDF5 spec III.A.2): a
// header that names the root, and nodes of one size. It is a B-tree and not a
// B+tree: a record is there once, in a leaf or in an internal node, where it
// separates two children. Nothing points back or sideways, so nodes can be replaced
// by path copying (btree_update.go).
//
// A level is the height of a node above the leaves, which are level 0. Widths of
// fields depend only on the level, so nodes stay valid when the tree grows.

// indexTree is an index as it is stored: where to read its nodes, and its head.
type indexTree struct {
	src   nodeSource
	shape indexShape
	head  indexHeader
}

// nodeSource reads nodes of an index.
type nodeSource interface {
	// read returns the n bytes at addr. They are valid as long as the operation
	// that was given the source runs. read refuses addresses outside the file.
	read(addr uint64, n int) ([]byte, error)
}

// nodeSink takes the nodes of a new tree.
type nodeSink interface {
	// alloc returns n bytes of space that nothing durable reaches.
	alloc(n int) (addr uint64, err error)
	// write stores p at addr. The caller does not touch p again.
	write(addr uint64, p []byte) error
	// free says that the new tree does not have the n bytes at addr, which the old
	// one has.
	free(addr uint64, n int)
}

// indexShape is what the header of a dataset says about its index.
type indexShape struct {
	rank       int  // dimensions, 1 to 4
	filtered   bool // chunks end in their Fletcher32
	chunkBytes uint32
	nodeSize   uint32
	// packed: other filters come before the Fletcher32, so that chunks may be stored
	// in fewer bytes. Those in optional may be left out for a chunk.
	packed   bool
	optional uint32
}

// indexHeader is what the index header says: where the tree is. An empty tree has
// emptyIndex, not the zero value.
type indexHeader struct {
	root        uint64 // address of the root node; undefinedAddress: no chunk
	depth       int    // level of the root
	rootRecords int    // records in the root node itself
	total       uint64 // records in the tree
}

func emptyIndex() indexHeader { return indexHeader{root: undefinedAddress} }

// Index header, all integers little-endian:
//
//	offset  size  field
//	     0     4  signature "BTHD"
//	     4     1  version, 0
//	     5     1  record type
//	     6     4  node size
//	    10     2  record size
//	    12     2  depth
//	    14     1  split percent
//	    15     1  merge percent
//	    16     8  address of the root node
//	    24     2  records in the root node
//	    26     8  records in the tree
//	    34     4  lookup3 of bytes 0..33
const (
	indexSignature  = "BTHD"
	indexHeaderSize = 38

	leafSignature     = "BTLF"
	internalSignature = "BTIN"
	nodePrefix        = 6 // signature, version 0, record type
	nodeOverhead      = nodePrefix + checksumSize

	recordUnfiltered = 10
	recordFiltered   = 11

	// splitPercent and mergePercent are the HDF5 library's own: its writers
	// crash on nodes fuller than the first.
	splitPercent = 100
	mergePercent = 40

	minNodeSize, maxNodeSize = 512, 65536
	// maxIndexDepth bounds recursion. It is no limit in practice: with nodes of
	// 2048 bytes, 10^7 records need a depth of 3, and each further level gives room
	// for 40 times as many.
	maxIndexDepth = 8
)

// geometry is what follows from an indexShape.
type geometry struct {
	indexShape
	recordSize int
	sizeWidth  int // bytes of a record's size; 0: unfiltered
	countWidth int // bytes of the count in a child pointer
	levels     [maxIndexDepth + 1]levelGeometry
}

type levelGeometry struct {
	max        int    // records that fit in a node
	pointer    int    // bytes of a child pointer in a node of this level
	totalWidth int    // bytes of the total in a pointer to a node of this level; 0: none
	capacity   uint64 // records that fit in a node and below; saturates
}

// geometry derives all widths, or reports what is wrong with the shape.
func (s indexShape) geometry() (*geometry, error) {
	switch {
	case s.rank < 1 || s.rank > maxRank:
		return nil, fmt.Errorf("index of %d dimensions, want 1 to %d", s.rank, maxRank)
	case s.chunkBytes == 0 || s.chunkBytes > maxChunkBytes:
		return nil, fmt.Errorf("index of chunks of %d bytes, want 1 to %d", s.chunkBytes, maxChunkBytes)
	case s.nodeSize < minNodeSize || s.nodeSize > maxNodeSize:
		return nil, fmt.Errorf("index nodes of %d bytes, want %d to %d", s.nodeSize, minNodeSize, maxNodeSize)
	}
	g := &geometry{indexShape: s, recordSize: 8 + 8*s.rank}
	if s.filtered {
		// One byte more than the largest chunk needs: a filter may make it grow.
		g.sizeWidth = byteWidth(uint64(s.chunkBytes)) + 1
		g.recordSize += g.sizeWidth + 4 // filter mask
	}
	leaf := &g.levels[0]
	leaf.max = (int(s.nodeSize) - nodeOverhead) / g.recordSize
	leaf.capacity = uint64(leaf.max)
	g.countWidth = byteWidth(uint64(leaf.max))
	for i := 1; i <= maxIndexDepth; i++ {
		below, l := &g.levels[i-1], &g.levels[i]
		l.pointer = 8 + g.countWidth + below.totalWidth
		l.max = (int(s.nodeSize) - nodeOverhead - l.pointer) / (g.recordSize + l.pointer)
		l.capacity = saturatingCapacity(below.capacity, uint64(l.max))
		l.totalWidth = byteWidth(l.capacity)
	}
	return g, nil
}

// saturatingCapacity is (n + 1) times below, plus n, but at most 2^64 - 1.
func saturatingCapacity(below, n uint64) uint64 {
	if below >= math.MaxUint64/(n+1)-1 {
		return math.MaxUint64
	}
	return (n+1)*below + n
}

// least is the smallest number of records that a node of the level may hold when it
// has neighbours.
func (g *geometry) least(level int) int { return max(1, g.levels[level].max*mergePercent/100) }

// limit is how many records we put into a node of the level. It is one fewer than
// fit, so that the HDF5 library can insert one before it must split the node.
func (g *geometry) limit(level int) int { return g.levels[level].max - 1 }

func (g *geometry) recordType() byte {
	if g.filtered {
		return recordFiltered
	}
	return recordUnfiltered
}

// append encodes the header of an index of the shape. The error says what cannot be
// written.
func (h indexHeader) append(dst []byte, shape indexShape) ([]byte, error) {
	g, err := shape.geometry()
	if err != nil {
		return nil, err
	}
	if err := g.checkHeader(h); err != nil {
		return nil, fmt.Errorf("index header: %w", err)
	}
	start := len(dst)
	dst = append(append(dst, indexSignature...), 0, g.recordType())
	dst = binary.LittleEndian.AppendUint32(dst, g.nodeSize)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(g.recordSize))
	dst = binary.LittleEndian.AppendUint16(dst, uint16(h.depth))
	dst = append(dst, splitPercent, mergePercent)
	dst = binary.LittleEndian.AppendUint64(dst, h.root)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(h.rootRecords))
	dst = binary.LittleEndian.AppendUint64(dst, h.total)
	return sealed(dst, start), nil
}

// parseIndexHeader reads the index header at the start of p, which lies at
// offset in the file and must fit the dataset's shape.
func parseIndexHeader(p []byte, offset int64, shape indexShape) (indexHeader, error) {
	g, err := shape.geometry()
	if err != nil {
		return indexHeader{}, err
	}
	bad := func(format string, args ...any) (indexHeader, error) {
		return indexHeader{}, corrupt.Errorf("index header", offset, format, args...)
	}
	if len(p) < indexHeaderSize {
		return bad("%d bytes, want %d", len(p), indexHeaderSize)
	}
	u16, u32, u64 := binary.LittleEndian.Uint16, binary.LittleEndian.Uint32, binary.LittleEndian.Uint64
	h := indexHeader{depth: int(u16(p[12:])), root: u64(p[16:]), rootRecords: int(u16(p[24:])), total: u64(p[26:])}
	switch sum := hdf5sum.Lookup3(p[:34]); {
	case string(p[:4]) != indexSignature || p[4] != 0:
		return bad("signature %q version %d, want %q version 0", p[:4], p[4], indexSignature)
	case u32(p[34:]) != sum:
		return bad("checksum %#08x, want %#08x", u32(p[34:]), sum)
	case p[5] != g.recordType():
		return bad("record type %d, want %d", p[5], g.recordType())
	case u32(p[6:]) != g.nodeSize:
		return bad("node size %d, want %d", u32(p[6:]), g.nodeSize)
	case int(u16(p[10:])) != g.recordSize:
		return bad("record size %d, want %d", u16(p[10:]), g.recordSize)
	case p[14] != splitPercent || p[15] != mergePercent:
		return bad("split and merge percent %d and %d, want %d and %d", p[14], p[15], splitPercent, mergePercent)
	}
	if err := g.checkHeader(h); err != nil {
		return bad("%w", err)
	}
	return h, nil
}

func (g *geometry) checkHeader(h indexHeader) error {
	switch {
	case h == emptyIndex():
		return nil
	case h.root == undefinedAddress:
		return fmt.Errorf("depth %d, %d root records and %d in all without a root", h.depth, h.rootRecords, h.total)
	case h.depth < 0 || h.depth > maxIndexDepth:
		return fmt.Errorf("depth %d, limit %d", h.depth, maxIndexDepth)
	}
	return g.checkChild(h.rootChild(), h.depth)
}

// open derives the widths of the tree, and checks its head.
func (t indexTree) open() (*geometry, error) {
	g, err := t.shape.geometry()
	if err != nil {
		return nil, err
	}
	if err := g.checkHeader(t.head); err != nil {
		return nil, nodeError(t.head.root, err)
	}
	return g, nil
}

func (h indexHeader) rootChild() child { return child{h.root, h.rootRecords, h.total} }

// child is a pointer to a node: where it is and what must be found there.
type child struct {
	address uint64
	count   int    // records in the node
	total   uint64 // records in the node and below
}

func (g *geometry) checkChild(c child, level int) error {
	if c.address < superblockSize || c.address > maxAddress-uint64(g.nodeSize) {
		return fmt.Errorf("node address %#x", c.address)
	}
	l := &g.levels[level]
	if c.count < 1 || c.count > l.max {
		return fmt.Errorf("node of %d records, want 1 to %d", c.count, l.max)
	}
	if level == 0 && c.total != uint64(c.count) || c.total < uint64(c.count) || c.total > l.capacity {
		return fmt.Errorf("node of %d records with %d in all at level %d", c.count, c.total, level)
	}
	return nil
}

func (g *geometry) appendRecord(dst []byte, r *Chunk) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, r.Address)
	if g.filtered {
		dst = appendUint(dst, uint64(r.Size), g.sizeWidth)
		dst = binary.LittleEndian.AppendUint32(dst, r.Skipped)
	}
	for _, c := range r.Coord[:g.rank] {
		dst = binary.LittleEndian.AppendUint64(dst, c)
	}
	return dst
}

// storedSize is the size of every chunk of the dataset in the file; of those that
// are packed, the largest.
func (s indexShape) storedSize() uint32 {
	if s.filtered {
		return s.chunkBytes + checksumSize
	}
	return s.chunkBytes
}

// fits reports whether a chunk can be stored in size bytes.
func (s indexShape) fits(size uint32) bool {
	most := s.storedSize()
	return size == most || s.packed && size > checksumSize && size < most
}

// place is a coord as error messages show it. It is a copy, so that coord itself
// need not be on the heap.
func (g *geometry) place(coord [4]uint64) []uint64 { return slices.Clone(coord[:g.rank]) }

// nodeBytes is a node as it is in the file, its checksum verified.
type nodeBytes struct {
	g     *geometry
	p     []byte // from the signature to the checksum
	level int
	count int
}

// readNode reads and verifies the node that c points to.
func (g *geometry) readNode(src nodeSource, c child, level int) (nodeBytes, error) {
	if err := g.checkChild(c, level); err != nil {
		return nodeBytes{}, nodeError(c.address, err)
	}
	p, err := src.read(c.address, int(g.nodeSize))
	if err != nil {
		return nodeBytes{}, err
	}
	n, err := g.parseNode(p, c.count, level)
	if err == nil {
		err = n.checkTotal(c.total)
	}
	if err != nil {
		return nodeBytes{}, nodeError(c.address, err)
	}
	return n, nil
}

func nodeError(address uint64, err error) error {
	return corrupt.Errorf("index node", int64(address), "%w", err)
}

// parseNode verifies the node at the start of p. It has count records, which are at
// most the level's max.
func (g *geometry) parseNode(p []byte, count, level int) (nodeBytes, error) {
	signature, pointers := leafSignature, 0
	if level > 0 {
		signature, pointers = internalSignature, count+1
	}
	if len(p) < int(g.nodeSize) {
		return nodeBytes{}, fmt.Errorf("%d bytes, want %d", len(p), g.nodeSize)
	}
	if string(p[:4]) != signature || p[4] != 0 || p[5] != g.recordType() {
		return nodeBytes{}, fmt.Errorf("signature %q version %d type %d, want %q version 0 type %d", p[:4], p[4], p[5], signature, g.recordType())
	}
	used := nodePrefix + count*g.recordSize + pointers*g.levels[level].pointer
	if got, want := binary.LittleEndian.Uint32(p[used:]), hdf5sum.Lookup3(p[:used]); got != want {
		return nodeBytes{}, fmt.Errorf("checksum %#08x, want %#08x", got, want)
	}
	return nodeBytes{g: g, p: p[:used], level: level, count: count}, nil
}

// checkTotal compares what the children say with what the parent said.
func (n nodeBytes) checkTotal(total uint64) error {
	if n.level == 0 {
		return nil // checkChild has seen it
	}
	sum := uint64(n.count)
	for i := range n.count + 1 {
		c := n.child(i)
		if c.total > total || sum > total {
			sum = math.MaxUint64
			break
		}
		sum += c.total
	}
	if sum != total {
		return fmt.Errorf("%d records in the node and below, its parent says %d", sum, total)
	}
	return nil
}

// coord is the chunk of record i, as its number along each dimension.
func (n nodeBytes) coord(i int) (coord [4]uint64) {
	end := nodePrefix + (i+1)*n.g.recordSize
	for k := range n.g.rank {
		coord[k] = binary.LittleEndian.Uint64(n.p[end-8*(n.g.rank-k):])
	}
	return coord
}

// record decodes record i and checks it, as far as that is possible without its
// neighbours.
func (n nodeBytes) record(i int) (Chunk, error) {
	p := n.p[nodePrefix+i*n.g.recordSize:]
	r := Chunk{Coord: n.coord(i), Address: binary.LittleEndian.Uint64(p), Size: n.g.chunkBytes}
	if n.g.filtered {
		size := readUint(p[8:], n.g.sizeWidth)
		if size > uint64(n.g.storedSize()) {
			return r, fmt.Errorf("record %d: %d bytes stored, want %d", i, size, n.g.storedSize())
		}
		r.Size, r.Skipped = uint32(size), binary.LittleEndian.Uint32(p[8+n.g.sizeWidth:])
	}
	return r, n.g.checkRecord(r)
}

func (g *geometry) checkRecord(r Chunk) error {
	switch {
	case !g.fits(r.Size):
		return fmt.Errorf("chunk %v of %d bytes, want %d", g.place(r.Coord), r.Size, g.storedSize())
	case r.Skipped&^g.optional != 0:
		return fmt.Errorf("chunk %v with filter mask %#x, want bits of %#x", g.place(r.Coord), r.Skipped, g.optional)
	case r.Address < superblockSize || r.Address > maxAddress-uint64(r.Size):
		return fmt.Errorf("chunk %v at %#x", g.place(r.Coord), r.Address)
	}
	for _, c := range r.Coord[g.rank:] {
		if c != 0 {
			return errors.New("chunk with a place beyond its dimensions")
		}
	}
	return nil
}

// child decodes child pointer i of an internal node, unchecked.
func (n nodeBytes) child(i int) child {
	l := &n.g.levels[n.level]
	p := n.p[nodePrefix+n.count*n.g.recordSize+i*l.pointer:]
	c := child{address: binary.LittleEndian.Uint64(p), count: int(readUint(p[8:], n.g.countWidth))}
	c.total = uint64(c.count)
	if width := n.g.levels[n.level-1].totalWidth; width > 0 {
		c.total = readUint(p[8+n.g.countWidth:], width)
	}
	return c
}

// search returns the index of the first record that is not before coord, and
// whether it is the record of coord.
func (n nodeBytes) search(coord [4]uint64) (index int, found bool) {
	index = sort.Search(n.count, func(i int) bool { return compareCoord(n.coord(i), coord) >= 0 })
	return index, index < n.count && n.coord(index) == coord
}

// compareCoord orders places by their first dimension first. Dimensions beyond
// the rank are zero.
func compareCoord(a, b [4]uint64) int {
	for i, x := range a {
		if x != b[i] {
			if x < b[i] {
				return -1
			}
			return 1
		}
	}
	return 0
}
