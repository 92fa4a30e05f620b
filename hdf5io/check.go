package hdf5io

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/cidstore/cidstore/internal/corrupt"
)

// CheckStats counts what Check has seen.
type CheckStats struct {
	Groups, Datasets int
	Nodes            uint64 // of indexes and chunk maps
	Chunks           uint64 // through the indexes
	Used, Free       int64  // bytes; with the first 12,288 they are all of the file
}

// Check reads every structure of the root from the file and reports all that is
// wrong: headers, indexes (checksums, order, counts, bounds), chunk maps and their
// chunks, filters; and whether used, free and freed extents cover the file, each
// byte once. An opener for reading looks at slots and superblock too, an opener for
// writing if the View is the newest. It is also a defect if the newest root did not
// validate when this one was opened. The data of chunks that have neither filter
// nor map are for the caller to check. Check changes nothing. The View must be
// pinned. The error is the context's, or the first defect.
//
// It takes 24 bytes of memory for each extent that does not continue the one before
// it.
func (v *View) Check(ctx context.Context, report func(error)) (CheckStats, error) {
	c := checker{ctx: ctx, view: v, report: report, limit: math.MaxInt64}
	if c.structures() {
		c.partition()
	}
	if err := ctx.Err(); err != nil {
		return c.stats, err
	}
	return c.stats, c.first
}

// Place is where a check in parts continues: an object and a chunk, or, after all
// objects, a node of the chunk maps. The zero value is the beginning.
type Place struct {
	path  string
	coord [4]uint64
	maps  bool
	node  int
}

// CheckPart is Check in parts, each of which may be of another View. Beginning at a
// place, it verifies what has a checksum of its own, until it has read about limit
// bytes, and at least one structure. It returns where the next part begins, whether
// there is one, and how many bytes it has read. It does not check which structure
// owns which bytes; only Check does. The View must be pinned.
func (v *View) CheckPart(ctx context.Context, from Place, limit int64, report func(error)) (next Place, more bool, read int64) {
	c := checker{ctx: ctx, view: v, report: report, limit: limit, from: from}
	if !c.structures() {
		return c.next, ctx.Err() == nil, c.bytes
	}
	_, err := v.freeMap()
	c.defect(err)
	return Place{}, false, c.bytes + int64(v.slot.freeMapSize)
}

type checker struct {
	ctx    context.Context
	view   *View
	report func(error)
	first  error
	stats  CheckStats
	owners []string
	used   []ownedExtent

	from, next Place
	limit      int64 // of bytes
	bytes      int64 // read so far
	begun      bool  // a structure was verified
}

// errPart ends a walk when its part is over.
var errPart = errors.New("part is over")

// stops reports whether the part is over before what lies at a place.
func (c *checker) stops(at Place) bool {
	if c.begun && c.bytes >= c.limit {
		c.next = at
		return true
	}
	c.begun = true
	return false
}

// structures checks the head of the file, the objects and the chunk maps, and
// reports whether it came to the end.
func (c *checker) structures() (end bool) {
	if c.from == (Place{}) {
		if c.view.fellBack != nil {
			c.defect(fmt.Errorf("the newest root, which the next commit replaces: %w", c.view.fellBack))
		}
		c.head()
	}
	if !c.from.maps {
		err := c.view.root.walk("/", func(path string, o *object) error {
			if comparePaths(path, c.from.path) < 0 {
				return nil
			}
			if c.stops(Place{path: path}) || !c.object(path, o) {
				return errPart
			}
			return c.ctx.Err()
		})
		if err != nil {
			return false
		}
	}
	number := 0
	for _, m := range c.view.maps {
		if !c.mapNodes(m, &number) {
			return false
		}
	}
	return c.ctx.Err() == nil
}

// comparePaths orders paths as walks visit them: a group before its members.
func comparePaths(a, b string) int {
	return slices.Compare(strings.Split(strings.Trim(a, "/"), "/"), strings.Split(strings.Trim(b, "/"), "/"))
}

type ownedExtent struct {
	extent
	owner int // index in checker.owners
}

func (c *checker) defect(err error) {
	if err == nil || c.ctx.Err() != nil {
		return
	}
	if c.first == nil {
		c.first = err
	}
	if c.report != nil {
		c.report(err)
	}
}

// read is the source of nodes. It ends a long check soon after its context is done.
func (c *checker) read(address uint64, n int) ([]byte, error) {
	if err := c.ctx.Err(); err != nil {
		return nil, err
	}
	c.bytes += int64(n)
	return c.view.read(address, n)
}

// owner begins the extents of a new owner.
func (c *checker) owner(name string) { c.owners = append(c.owners, name) }

// use enters size bytes at address for the present owner.
func (c *checker) use(address, size uint64) {
	if !insideData(address, size, c.view.slot.endOfFile) {
		c.defect(corrupt.Errorf(c.owners[len(c.owners)-1], int64(address), "%d bytes, the file ends at %#x", size, c.view.slot.endOfFile))
		return
	}
	e := ownedExtent{extent{address, padded(size)}, len(c.owners) - 1}
	if n := len(c.used); n > 0 && c.used[n-1].owner == e.owner && c.used[n-1].end() == e.start {
		c.used[n-1].size += e.size
		return
	}
	c.used = append(c.used, e)
}

func (c *checker) useAll(owner string, list []extent) {
	c.owner(owner)
	for _, e := range list {
		c.use(e.start, e.size)
	}
}

// head checks what lies before the first extent: superblock, zeros, slots.
func (c *checker) head() {
	f := c.view.file
	if f.options.ReadOnly {
		c.othersHead()
		return
	}
	f.slotMu.Lock()
	defer f.slotMu.Unlock()
	if f.view.Load() != c.view || f.Failed() != nil {
		return // of a newer root, or of a commit that failed
	}
	pair, err := readSlots(f.file)
	c.defect(err)
	for i, err := range pair.errs {
		// A slot that was torn when the file was opened stays so until the next
		// commit. OpenReport has reported it.
		if err != nil && f.space.slots[i] != 0 {
			c.defect(fmt.Errorf("slot %d: %w", i, err))
		}
	}
	if s := pair.slots[f.slot]; s != nil && (s.commit != c.view.slot.commit || s.generation != f.generation) {
		c.defect(corrupt.Errorf("commit slot", slotOffset(f.slot), "commit %d of generation %d, want %d of %d", s.commit, s.generation, c.view.slot.commit, f.generation))
	}
	p := make([]byte, firstSlot)
	if err := f.readAt(p, 0); err != nil {
		c.defect(err)
		return
	}
	if !bytes.Equal(p[:superblockSize], c.view.slot.superblock[:]) {
		c.defect(corrupt.Errorf("superblock", 0, "% x, want % x", p[:superblockSize], c.view.slot.superblock))
	}
	c.defect(notZero(p))
}

// notZero reports bytes between superblock and slots that are not zero.
func notZero(p []byte) error {
	for i, b := range p[superblockSize:] {
		if b != 0 {
			return corrupt.Errorf("space after the superblock", int64(superblockSize+i), "%#02x, want 0; the next open for writing mends it", b)
		}
	}
	return nil
}

// A writer in another process may change slots and superblock while they are read.
// So only what is found at every look, with the same bytes in the same place, is a
// defect. A single write ends long before the last look, and between two writes of
// a commit there is nothing to report.
const (
	headLooks = 4
	headPause = 10 * time.Millisecond
)

func (c *checker) othersHead() {
	defects := c.view.file.headDefects()
	for look := 1; look < headLooks && len(defects) > 0; look++ {
		select {
		case <-c.ctx.Done():
			return
		case <-time.After(headPause):
		}
		again := c.view.file.headDefects()
		defects = slices.DeleteFunc(defects, func(d error) bool {
			return !slices.ContainsFunc(again, func(e error) bool { return e.Error() == d.Error() })
		})
	}
	for _, d := range defects {
		c.defect(d)
	}
}

// headDefects returns what seems wrong with the head at one look.
func (f *File) headDefects() (defects []error) {
	add := func(err error) {
		if err != nil {
			defects = append(defects, err)
		}
	}
	pair, err := readSlots(f.file)
	add(err)
	for i, err := range pair.errs {
		if err != nil {
			add(fmt.Errorf("slot %d, which the next commit mends: %w", i, err))
		}
	}
	p := make([]byte, firstSlot)
	if err := f.readAt(p, 0); err != nil {
		return append(defects, err)
	}
	named := func(s *commitSlot) bool { return s != nil && bytes.Equal(s.superblock[:], p[:superblockSize]) }
	err = f.foreignSuperblock(pair)
	if err == nil && !slices.ContainsFunc(pair.slots[:], named) {
		err = corrupt.Errorf("superblock", 0, "% x is not that of a valid slot; the next open for writing mends it", p[:superblockSize])
	}
	add(err)
	add(notZero(p))
	return defects
}

// stored compares bytes of the tree with those in the file.
func (c *checker) stored(structure string, address uint64, want []byte) {
	c.use(address, uint64(len(want)))
	got, err := c.read(address, len(want))
	if err != nil {
		c.defect(err)
	} else if !bytes.Equal(got, want) {
		c.defect(corrupt.Errorf(structure, int64(address), "other bytes than when it was opened"))
	}
}

// object checks one object. end is false if the part ends before all of it is checked.
func (c *checker) object(path string, o *object) (end bool) {
	c.owner("object " + path)
	c.stored("header of "+path, o.address, o.header)
	if o.dataset == nil {
		c.stats.Groups++
		return true
	}
	c.stats.Datasets++
	if !o.chunked() {
		if o.dataset.size > 0 {
			c.use(o.dataset.address, o.dataset.size)
		}
		return true
	}
	c.stored("index of "+path, o.dataset.address, o.indexBytes)
	return c.chunks(c.view.datasets[path])
}

// chunks is object for the index and the chunks of a dataset.
func (c *checker) chunks(d *Dataset) (end bool) {
	var from [4]uint64
	if c.from.path == d.path {
		from = c.from.coord
	}
	checked := false // a chunk: each part checks at least one, however many nodes lead to it
	var bounds [4]uint64
	for k := range d.shape.rank {
		bounds[k] = d.object.dataset.chunks(k)
	}
	var nodes []extent
	c.owner("chunks of " + d.path)
	paged := uint64(0)
	node := func(address uint64, size int) {
		c.stats.Nodes++
		nodes = append(nodes, extent{address, uint64(size)})
	}
	end = true
	indexTree{c, d.shape, d.object.index}.check(from, bounds, node, func(r Chunk) bool {
		if checked && c.stops(Place{path: d.path, coord: r.Coord}) {
			end = false
			return false
		}
		checked = true
		c.stats.Chunks++
		c.use(r.Address, uint64(r.Size))
		if d.shape.filtered {
			_, err := d.readChunk(r)
			c.bytes += int64(r.Size)
			c.defect(err)
		}
		if d.pages != nil && c.page(d, r) {
			paged++
		}
		return c.ctx.Err() == nil
	}, c.defect)
	whole := end && from == [4]uint64{} && c.ctx.Err() == nil
	if want := d.mappedChunks(); whole && paged != want {
		c.defect(corrupt.Errorf("chunk map of "+d.path, d.Offset(), "%d chunks, %d of them in the index", want, paged))
	}
	c.useAll("index nodes of "+d.path, nodes)
	return end
}

// page compares a record of the index with the chunk map, and the chunk with its
// checksum.
func (c *checker) page(d *Dataset, r Chunk) bool {
	p := d.pages.page(r.Coord[0])
	if p == nil || p.address != r.Address || p.size != r.Size {
		c.defect(corrupt.Errorf(d.chunkName(r.Coord), int64(r.Address), "not what the chunk map names"))
		return p != nil
	}
	_, err := p.verify(d.view)
	c.bytes += int64(p.size)
	c.defect(err)
	return true
}

func (d *Dataset) mappedChunks() (n uint64) {
	if d.pages == nil {
		return 0
	}
	for range d.pages.pages() {
		n++
	}
	return n
}

// mapNodes is object for the nodes of a map, the first of which has this number.
func (c *checker) mapNodes(m *chunkMap, number *int) (end bool) {
	c.owner("chunk map")
	for _, level := range m.levels {
		for _, r := range level {
			at := Place{maps: true, node: *number}
			if *number++; c.from.maps && at.node < c.from.node {
				continue
			}
			if c.stops(at) || c.ctx.Err() != nil {
				return false
			}
			c.stats.Nodes++
			c.use(r.address, mapNodeSize)
			_, err := readMapBytes(c, r, mapNodeSize)
			c.defect(err)
		}
	}
	return true
}

// partition checks that all extents together cover the file.
func (c *checker) partition() {
	if c.ctx.Err() != nil {
		return
	}
	s := c.view.slot
	c.owner("free map")
	c.use(s.freeMapAddress, s.freeMapSize)
	free, err := c.view.freeMap()
	if err != nil {
		c.defect(err)
		return
	}
	for _, e := range c.used {
		c.stats.Used += int64(e.size)
	}
	c.stats.Free = int64(sumExtents(free.free) + sumExtents(free.freed))
	c.useAll("free space", free.free)
	c.useAll("freed space", free.freed)
	slices.SortFunc(c.used, func(a, b ownedExtent) int { return cmp.Compare(a.start, b.start) })
	at, last := uint64(FirstExtent), "the slots"
	for _, e := range append(c.used, ownedExtent{extent{s.endOfFile, 0}, -1}) {
		switch {
		case e.start > at:
			c.defect(corrupt.Errorf("space", int64(at), "%d bytes after %s belong to nobody", e.start-at, last))
		case e.start < at:
			c.defect(corrupt.Errorf("space", int64(e.start), "%d bytes of %s lie in %s", e.size, c.owners[e.owner], last))
		}
		if e.owner >= 0 && e.end() > at {
			at, last = e.end(), c.owners[e.owner]
		}
	}
}
