package hdf5io

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/internal/crc32c"
	"github.com/cidstore/cidstore/internal/seedbug"
	"github.com/cidstore/cidstore/vfs"
)

// A chunk map names every chunk of a one-dimensional dataset with its checksum and
// the commit that wrote it. A change writes new nodes and leaves the old ones. All
// nodes are verified when the file is opened, each chunk when it is first read. All
// integers are little-endian.

// A chunk map root.
// FORMAT.md: chunk map root
//
//	offset  size  field    meaning
//	     0     8  address  of the top node; 0: the map is empty
//	     8     8  count    chunks that it covers
//	    16     8  commit
//	    24     4  depth    0: the top node is a leaf
//	    28     4  crc32c   of the top node
const (
	offRootAddress, offRootCount, offRootCommit = 0, 8, 16
	offRootDepth, offRootCRC                    = 24, 28
	mapRootSize                                 = 32
)

// A chunk record, in a leaf.
// FORMAT.md: chunk record
//
//	offset  size  field    meaning
//	     0     8  address  0: no chunk
//	     8     8  commit   in which the chunk was written
//	    16     4  size     stored bytes
//	    20     4  crc32c   of the stored bytes, seeded
const (
	offChunkAddress, offChunkCommit, offChunkSize, offChunkCRC = 0, 8, 16, 20
	chunkRecordSize                                            = 24
)

// A node record, in an inner node.
// FORMAT.md: node record
//
//	offset  size  field     meaning
//	     0     8  address
//	     8     8  commit
//	    16     4  crc32c    of the node
//	    20     4  reserved  0
const (
	offNodeAddress, offNodeCommit, offNodeCRC, offNodeReserved = 0, 8, 16, 20
	nodeRecordSize                                             = 24
)

const (
	mapNodeSize   = 4096
	mapLeafChunks = 170 // chunk records in a leaf
	mapFanout     = 128 // node records in an inner node
)

const _ = uint(mapNodeSize - mapLeafChunks*chunkRecordSize) // a leaf holds its records

// mapRoot is what a slot says about a chunk map. The zero value is an empty map.
type mapRoot struct {
	address, count uint64
	commit         Commit
	depth, crc     uint32
}

func (r *mapRoot) put(p []byte) {
	binary.LittleEndian.PutUint64(p[offRootAddress:], r.address)
	binary.LittleEndian.PutUint64(p[offRootCount:], r.count)
	binary.LittleEndian.PutUint64(p[offRootCommit:], uint64(r.commit))
	binary.LittleEndian.PutUint32(p[offRootDepth:], r.depth)
	binary.LittleEndian.PutUint32(p[offRootCRC:], r.crc)
}

func parseMapRoot(p []byte) mapRoot {
	return mapRoot{
		address: binary.LittleEndian.Uint64(p[offRootAddress:]),
		count:   binary.LittleEndian.Uint64(p[offRootCount:]),
		commit:  Commit(binary.LittleEndian.Uint64(p[offRootCommit:])),
		depth:   binary.LittleEndian.Uint32(p[offRootDepth:]),
		crc:     binary.LittleEndian.Uint32(p[offRootCRC:]),
	}
}

// check reports why r cannot be a map of a root of the commit in a file of end
// bytes. Every leaf has bytes of its own, which bounds the count.
func (r *mapRoot) check(commit Commit, end uint64) error {
	if r.count == 0 {
		if *r != (mapRoot{}) {
			return errors.New("no chunks, but a root")
		}
		return nil
	}
	leaves := (r.count-1)/mapLeafChunks + 1
	if leaves > min(end/mapNodeSize, 1<<30) {
		return fmt.Errorf("%d chunks in a file of %d bytes", r.count, end)
	}
	if depth := len(levelSizes(r.count)) - 1; r.depth != uint32(depth) {
		return fmt.Errorf("depth %d for %d chunks, want %d", r.depth, r.count, depth)
	}
	top := nodeRecord{r.address, r.commit, r.crc}
	return top.check(commit, end)
}

// levelSizes returns how many nodes a map of count chunks has on each level, leaves
// first. count is not 0.
func levelSizes(count uint64) []int {
	n := int((count-1)/mapLeafChunks + 1)
	sizes := []int{n}
	for n > 1 {
		n = (n-1)/mapFanout + 1
		sizes = append(sizes, n)
	}
	return sizes
}

// nodeRecord names one node of a map.
type nodeRecord struct {
	address uint64
	commit  Commit
	crc     uint32
}

func (r *nodeRecord) check(commit Commit, end uint64) error {
	if !insideData(r.address, mapNodeSize, end) {
		return fmt.Errorf("node at %#x", r.address)
	}
	if r.commit == 0 || r.commit > commit {
		return fmt.Errorf("node of commit %d, want 1 to %d", r.commit, commit)
	}
	return nil
}

func (r *nodeRecord) put(b []byte) {
	binary.LittleEndian.PutUint64(b[offNodeAddress:], r.address)
	binary.LittleEndian.PutUint64(b[offNodeCommit:], uint64(r.commit))
	binary.LittleEndian.PutUint32(b[offNodeCRC:], r.crc)
}

// Page is one chunk of a dataset with a chunk map. All Views in which the chunk is
// the same share it. A Page that Dataset.Page returned is verified.
type Page struct {
	// The first fields are what each read needs: they share a line of the cache.

	// bytes is the first byte of the data; nil: not verified yet. The data never
	// changes, but bytes moves from one window on the file to the next. Whoever sets
	// bytes holds mu, and has set n before.
	bytes atomic.Pointer[byte]
	n     int          // bytes of data, without the Fletcher32
	note  atomic.Value // see Note
	mu    sync.Mutex

	number, address uint64
	commit          Commit
	size, crc       uint32

	marks [PageMarks / 64]atomic.Uint64
}

// PageMarks is how many marks a page has.
const PageMarks = 128

// Marks are marks of one page: mark i is bit i%64 of word i/64.
type Marks [PageMarks / 64]uint64

// Offset is where the chunk lies in the file.
func (p *Page) Offset() int64 { return int64(p.address) }

// Data returns the chunk's bytes, without its filter. They are valid while a
// View that holds the page is pinned, and must not be changed.
func (p *Page) Data() []byte { return unsafe.Slice(p.bytes.Load(), p.n) }

// Note is what SetNote was given, or nil.
func (p *Page) Note() any { return p.note.Load() }

// SetNote keeps with the page what the caller has derived from its bytes. All notes of a
// page have the same type. Safe for concurrent use.
func (p *Page) SetNote(note any) { p.note.Store(note) }

// Mark sets mark i, 0 to 127. The caller decides what marks mean: something about
// the page's bytes that stays true as long as the bytes do. Safe for concurrent
// use.
func (p *Page) Mark(i int) { p.marks[uint(i)/64%2].Or(1 << (uint(i) % 64)) }

// Marked reports whether mark i is set.
func (p *Page) Marked(i int) bool { return p.marks[uint(i)/64%2].Load()&(1<<(uint(i)%64)) != 0 }

// chunkCRC is the checksum that a chunk record holds.
func chunkCRC(uuid [16]byte, number uint64, commit Commit, stored []byte) uint32 {
	seed := crc32c.ExtendUint64(crc32c.ExtendUint64(crc32c.Sum(uuid[:]), number), uint64(commit))
	return crc32c.Extend(seed, stored)
}

// verify reads the chunk and compares it with its record. It returns the stored
// bytes.
func (p *Page) verify(v *View) ([]byte, error) {
	stored, err := v.Bytes(int64(p.address), int(p.size))
	if err != nil {
		return nil, err
	}
	var got uint32
	if err := vfs.Guard(func() error { got = chunkCRC(v.slot.uuid, p.number, p.commit, stored); return nil }); err != nil {
		return nil, ioError(int64(p.address), int(p.size), err)
	}
	if got != p.crc && !seedbug.On("crc-skipped") {
		return nil, corrupt.Errorf(fmt.Sprintf("chunk %d", p.number), int64(p.address), "crc32c %#08x, want %#08x", got, p.crc)
	}
	return stored, nil
}

// load verifies the page and sets its bytes. Concurrent calls wait for the first.
func (p *Page) load(v *View, dataSize int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bytes.Load() != nil {
		return nil
	}
	stored, err := p.verify(v)
	if err != nil {
		return err
	}
	p.n = dataSize
	p.bytes.Store(unsafe.SliceData(v.file.newest(p, stored)))
	return nil
}

func (p *Page) put(b []byte) {
	binary.LittleEndian.PutUint64(b[offChunkAddress:], p.address)
	binary.LittleEndian.PutUint64(b[offChunkCommit:], uint64(p.commit))
	binary.LittleEndian.PutUint32(b[offChunkSize:], p.size)
	binary.LittleEndian.PutUint32(b[offChunkCRC:], p.crc)
}

// mapLeaf holds the pages of one leaf; nil: no chunk. Immutable.
type mapLeaf [mapLeafChunks]*Page

// chunkMap is a map in memory. It is immutable; Views share its leaves and pages.
type chunkMap struct {
	count  uint64
	leaves []*mapLeaf
	levels [][]nodeRecord // of the leaves, of the nodes above them, up to the top node
}

// page returns the page of chunk i, or nil.
func (m *chunkMap) page(i uint64) *Page {
	if i >= m.count {
		return nil
	}
	leaf := m.leaves[i/mapLeafChunks]
	if leaf == nil { // it was damaged: Options.Salvage
		return nil
	}
	return leaf[i%mapLeafChunks]
}

func (m *chunkMap) pages() iter.Seq[*Page] {
	return func(yield func(*Page) bool) {
		for _, leaf := range m.leaves {
			for i := 0; leaf != nil && i < len(leaf); i++ {
				if leaf[i] != nil && !yield(leaf[i]) {
					return
				}
			}
		}
	}
}

func (m *chunkMap) root() mapRoot {
	if m.count == 0 {
		return mapRoot{}
	}
	depth := len(m.levels) - 1
	top := m.levels[depth][0]
	return mapRoot{top.address, m.count, top.commit, uint32(depth), top.crc}
}

// mapLoader reads and verifies all nodes of a map, except the leaves that known
// also has.
type mapLoader struct {
	src    nodeSource
	known  *chunkMap // of an older root, or nil
	stored uint32    // bytes of each chunk
	commit Commit
	end    uint64
	bad    func(error) // if not nil, it is called for nodes that are left out
}

// load reads the map of a root that has passed check.
func (l *mapLoader) load(root mapRoot) (*chunkMap, error) {
	m := &chunkMap{count: root.count}
	if root.count == 0 {
		return m, nil
	}
	sizes := levelSizes(root.count)
	m.levels = make([][]nodeRecord, len(sizes))
	top := len(sizes) - 1
	m.levels[top] = []nodeRecord{{root.address, root.commit, root.crc}}
	for level := top; level > 0; level-- {
		below := make([]nodeRecord, sizes[level-1])
		for i, r := range m.levels[level] {
			first := i * mapFanout
			children := below[first:min(first+mapFanout, len(below))]
			if r.address == 0 { // below a node that was left out
				continue
			}
			if err := l.inner(r, children); err != nil {
				if l.bad == nil {
					return nil, err
				}
				clear(children)
				l.bad(err)
			}
		}
		m.levels[level-1] = below
	}
	m.leaves = make([]*mapLeaf, sizes[0])
	for i, r := range m.levels[0] {
		var err error
		if m.leaves[i], err = l.leaf(r, i, root.count); err != nil {
			if l.bad == nil {
				return nil, err
			}
			l.bad(err)
		}
	}
	return m, nil
}

// leaf returns leaf i of a map of count chunks: the known one, or a new one with
// those known pages that are the same chunks.
func (l *mapLoader) leaf(r nodeRecord, i int, count uint64) (*mapLeaf, error) {
	if r.address == 0 {
		return nil, nil
	}
	var known *mapLeaf
	if l.known != nil && i < len(l.known.leaves) {
		known = l.known.leaves[i]
		if l.known.levels[0][i] == r {
			return known, nil
		}
	}
	first := uint64(i) * mapLeafChunks
	leaf, err := l.readLeaf(r, first, min(mapLeafChunks, count-first))
	if err != nil || known == nil {
		return leaf, err
	}
	for k, p := range known {
		if q := leaf[k]; p != nil && q != nil && p.address == q.address && p.commit == q.commit && p.crc == q.crc {
			leaf[k] = p
		}
	}
	return leaf, nil
}

func mapNodeError(address uint64, format string, args ...any) error {
	return corrupt.Errorf("chunk map node", int64(address), format, args...)
}

// readMapBytes reads one node and verifies its checksum. After the used bytes there
// must be zeros.
func readMapBytes(src nodeSource, r nodeRecord, used int) ([]byte, error) {
	p, err := src.read(r.address, mapNodeSize)
	if err != nil {
		return nil, err
	}
	if got := crc32c.Sum(p); got != r.crc {
		return nil, mapNodeError(r.address, "crc32c %#08x, want %#08x", got, r.crc)
	}
	for i, b := range p[used:] {
		if b != 0 {
			return nil, mapNodeError(r.address, "%#02x at %d, want 0", b, used+i)
		}
	}
	return p, nil
}

// inner reads the inner node r into the records of its children.
func (l *mapLoader) inner(r nodeRecord, children []nodeRecord) error {
	p, err := readMapBytes(l.src, r, len(children)*nodeRecordSize)
	if err != nil {
		return err
	}
	for i := range children {
		b := p[i*nodeRecordSize:]
		c := &children[i]
		c.address = binary.LittleEndian.Uint64(b[offNodeAddress:])
		c.commit = Commit(binary.LittleEndian.Uint64(b[offNodeCommit:]))
		c.crc = binary.LittleEndian.Uint32(b[offNodeCRC:])
		if reserved := binary.LittleEndian.Uint32(b[offNodeReserved:]); reserved != 0 {
			return mapNodeError(r.address, "record %d: reserved %#x, want 0", i, reserved)
		}
		if err := c.check(l.commit, l.end); err != nil {
			return mapNodeError(r.address, "record %d: %w", i, err)
		}
	}
	return nil
}

// readLeaf reads the leaf r, whose n records begin with the one of chunk first.
func (l *mapLoader) readLeaf(r nodeRecord, first, n uint64) (*mapLeaf, error) {
	p, err := readMapBytes(l.src, r, int(n)*chunkRecordSize)
	if err != nil {
		return nil, err
	}
	leaf := new(mapLeaf)
	for i := range n {
		b := p[i*chunkRecordSize:][:chunkRecordSize]
		c := &Page{
			number:  first + i,
			address: binary.LittleEndian.Uint64(b[offChunkAddress:]),
			commit:  Commit(binary.LittleEndian.Uint64(b[offChunkCommit:])),
			size:    binary.LittleEndian.Uint32(b[offChunkSize:]),
			crc:     binary.LittleEndian.Uint32(b[offChunkCRC:]),
		}
		if c.address == 0 {
			if slices.ContainsFunc(b, func(x byte) bool { return x != 0 }) {
				return nil, mapNodeError(r.address, "record %d: no address, but other fields", i)
			}
			continue
		}
		if c.size != l.stored || !insideData(c.address, uint64(c.size), l.end) {
			return nil, mapNodeError(r.address, "record %d: chunk of %d bytes at %#x, want %d", i, c.size, c.address, l.stored)
		}
		if c.commit == 0 || c.commit > l.commit {
			return nil, mapNodeError(r.address, "record %d: chunk of commit %d, want 1 to %d", i, c.commit, l.commit)
		}
		leaf[i] = c
	}
	return leaf, nil
}

// pageEdit sets chunk number to page, or removes it where page is nil.
type pageEdit struct {
	number uint64
	page   *Page
	keep   Marks // marks that the page inherits from the one it replaces
}

// update returns m with the edits, which are sorted and unique. The Tx places the nodes
// that changed, and those that MoveFrom moves.
func (m *chunkMap) update(edits []pageEdit, tx *Tx) (*chunkMap, error) {
	next := &chunkMap{count: m.count}
	for _, e := range edits {
		if e.page != nil {
			next.count = max(next.count, e.number+1)
		}
	}
	if next.count == 0 {
		return next, nil
	}
	sizes := levelSizes(next.count)
	next.leaves = make([]*mapLeaf, sizes[0])
	copy(next.leaves, m.leaves)
	next.levels = make([][]nodeRecord, len(sizes))
	for level, n := range sizes {
		next.levels[level] = make([]nodeRecord, n)
		if level < len(m.levels) {
			copy(next.levels[level], m.levels[level])
		}
	}
	return next, next.place(next.edit(edits, tx.from), tx)
}

// place writes the changed leaves and the nodes above them.
func (m *chunkMap) place(changed []int, tx *Tx) error {
	var node [mapNodeSize]byte
	for _, i := range changed {
		clear(node[:])
		for k, p := range m.leaves[i] {
			if p != nil {
				p.put(node[k*chunkRecordSize:])
			}
		}
		if err := tx.placeMapNode(&m.levels[0][i], node[:]); err != nil {
			return err
		}
	}
	for level := 1; level < len(m.levels); level++ {
		changed = m.parents(changed, level, tx.from)
		for _, i := range changed {
			clear(node[:])
			below := m.levels[level-1]
			for k, r := range below[i*mapFanout : min((i+1)*mapFanout, len(below))] {
				r.put(node[k*nodeRecordSize:])
			}
			if err := tx.placeMapNode(&m.levels[level][i], node[:]); err != nil {
				return err
			}
		}
	}
	return nil
}

// edit puts the edits into copies of the leaves that they touch. It returns, in
// order, the numbers of these leaves, of those that are new, and of those at the
// address from and after it.
func (m *chunkMap) edit(edits []pageEdit, from uint64) []int {
	var changed []int
	for i := range m.leaves {
		first := uint64(i) * mapLeafChunks
		n := 0
		for n < len(edits) && edits[n].number < first+mapLeafChunks {
			n++
		}
		if n == 0 && m.leaves[i] != nil {
			if m.levels[0][i].address >= from {
				changed = append(changed, i)
			}
			continue
		}
		leaf := new(mapLeaf)
		if m.leaves[i] != nil {
			*leaf = *m.leaves[i]
		}
		for _, e := range edits[:n] {
			slot := &leaf[e.number-first]
			if e.page != nil && *slot != nil {
				for k := range e.keep {
					e.page.marks[k].Store((*slot).marks[k].Load() & e.keep[k])
				}
			}
			*slot = e.page
		}
		edits = edits[n:]
		m.leaves[i] = leaf
		changed = append(changed, i)
	}
	return changed
}

// parents returns, in order, the numbers of the nodes of a level that are above the
// given ones, or are at the address from or after it.
func (m *chunkMap) parents(below []int, level int, from uint64) []int {
	var above []int
	for i, r := range m.levels[level] {
		n, _ := slices.BinarySearch(below, i*mapFanout)
		if n < len(below) && below[n] < (i+1)*mapFanout || r.address >= from {
			above = append(above, i)
		}
	}
	return above
}

// placeMapNode writes a node, and changes its record to name it instead of the old
// one.
func (tx *Tx) placeMapNode(r *nodeRecord, node []byte) error {
	err := tx.replace(&r.address, mapNodeSize, node)
	r.commit, r.crc = tx.number, crc32c.Sum(node)
	return err
}
