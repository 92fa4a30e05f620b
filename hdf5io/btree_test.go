package hdf5io

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/cidstore/cidstore/internal/corrupt"
)

// nodeMemory is a source and sink of nodes that keeps everything ever written.
type nodeMemory struct {
	nodes map[uint64][]byte
	next  uint64
	freed map[uint64]bool
	reads int
}

func newNodeMemory() *nodeMemory {
	return &nodeMemory{nodes: map[uint64][]byte{}, next: 4096, freed: map[uint64]bool{}}
}

func (m *nodeMemory) read(addr uint64, n int) ([]byte, error) {
	m.reads++
	p, ok := m.nodes[addr]
	if !ok || len(p) != n {
		return nil, corrupt.Errorf("test memory", int64(addr), "no node of %d bytes", n)
	}
	return p, nil
}

func (m *nodeMemory) alloc(n int) (uint64, error) {
	addr := m.next
	m.next += uint64(n)
	return addr, nil
}

func (m *nodeMemory) write(addr uint64, p []byte) error {
	if _, twice := m.nodes[addr]; twice {
		return fmt.Errorf("node %#x written twice", addr)
	}
	m.nodes[addr] = p
	return nil
}

func (m *nodeMemory) free(addr uint64, n int) {
	if m.freed[addr] {
		panic(fmt.Sprintf("node %#x freed twice", addr))
	}
	m.freed[addr] = true
}

// testTree is an index with the map that it must equal.
type testTree struct {
	mem    *nodeMemory
	shape  indexShape
	head   indexHeader
	model  map[[4]uint64]Chunk
	live   map[uint64]bool // nodes of head
	next   uint64          // address of the next chunk
	stored uint32          // size of a chunk

	unchecked bool // updates are not checked one by one
}

var everywhere = [4]uint64{^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0)}

func newTestTree(shape indexShape) *testTree {
	stored := shape.chunkBytes
	if shape.filtered {
		stored += checksumSize
	}
	return &testTree{mem: newNodeMemory(), shape: shape, head: emptyIndex(), model: map[[4]uint64]Chunk{}, live: map[uint64]bool{}, next: 1 << 40, stored: stored}
}

func (tt *testTree) geometry(t rapid.TB) *geometry {
	t.Helper()
	g, err := tt.shape.geometry()
	must(t, err)
	return g
}

// tree is the index that the memory holds.
func (tt *testTree) tree() indexTree { return indexTree{tt.mem, tt.shape, tt.head} }

func byCoord(a, b chunkEdit) int { return compareCoord(a.Coord, b.Coord) }

// insert sets n chunks along the first dimension, from one on, step apart.
func (tt *testTree) insert(t rapid.TB, from, step, n uint64) {
	t.Helper()
	var edits []chunkEdit
	for i := range n {
		edits = append(edits, tt.set([4]uint64{from + step*i}))
	}
	tt.update(t, edits)
}

// set is an edit that gives the chunk at coord a new address.
func (tt *testTree) set(coord [4]uint64) chunkEdit {
	tt.next += 8
	e := chunkEdit{Chunk: Chunk{Coord: coord, Address: tt.next, Size: tt.stored}}
	if tt.shape.packed && tt.next%16 == 0 {
		e.Size, e.Skipped = uint32(5+tt.next%999), tt.shape.optional
	}
	return e
}

// update applies edits to tree and model, and compares content, replaced records,
// freed nodes and structure.
func (tt *testTree) update(t rapid.TB, edits []chunkEdit) {
	t.Helper()
	slices.SortFunc(edits, byCoord)
	replaced := map[[4]uint64]Chunk{}
	wantReplaced := map[[4]uint64]Chunk{}
	for _, e := range edits {
		if old, ok := tt.model[e.Coord]; ok {
			wantReplaced[e.Coord] = old
		}
		if e.delete {
			delete(tt.model, e.Coord)
		} else {
			tt.model[e.Coord] = e.Chunk
		}
	}
	clear(tt.mem.freed)
	head, err := tt.tree().update(tt.mem, edits, moveNothing, func(r Chunk) {
		if _, twice := replaced[r.Coord]; twice {
			t.Fatalf("chunk %v replaced twice", r.Coord)
		}
		replaced[r.Coord] = r
	})
	if err != nil {
		t.Fatalf("update: %v", err)
	}
	if !maps.Equal(replaced, wantReplaced) {
		t.Fatalf("replaced %v, want %v", replaced, wantReplaced)
	}
	tt.head = head
	if tt.unchecked {
		return
	}
	live := tt.check(t)
	for addr := range tt.live {
		if tt.mem.freed[addr] == live[addr] {
			t.Fatalf("old node %#x: freed %v, in the new tree %v", addr, tt.mem.freed[addr], live[addr])
		}
	}
	for addr := range tt.mem.freed {
		if !tt.live[addr] {
			t.Fatalf("node %#x freed, it was not in the old tree", addr)
		}
	}
	tt.live = live
}

// check compares the tree with the model and returns its nodes.
func (tt *testTree) check(t rapid.TB) map[uint64]bool {
	t.Helper()
	live := map[uint64]bool{}
	var records []Chunk
	tt.tree().check([4]uint64{}, everywhere,
		func(addr uint64, size int) { live[addr] = true },
		func(r Chunk) bool { records = append(records, r); return true },
		func(err error) { t.Fatalf("check: %v", err) })
	if want := tt.sorted(); !slices.Equal(records, want) {
		t.Fatalf("tree has %d records, want %d, or others", len(records), len(want))
	}
	if tt.head.total != uint64(len(records)) {
		t.Fatalf("total %d, want %d", tt.head.total, len(records))
	}
	return live
}

func (tt *testTree) sorted() []Chunk {
	records := slices.Collect(maps.Values(tt.model))
	slices.SortFunc(records, func(a, b Chunk) int { return compareCoord(a.Coord, b.Coord) })
	return records
}

// fill is how full the nodes are on average, and the least full one that has a
// neighbour and is not at the right edge.
func (tt *testTree) fill(t rapid.TB) (average, least float64) {
	t.Helper()
	if tt.head.root == undefinedAddress {
		return 1, 1
	}
	var used, room float64
	least = 1
	tt.eachNode(t, func(n nodeBytes, c child, edge bool) {
		most := n.g.levels[n.level].max
		used += float64(n.count)
		room += float64(most)
		if !edge && c.address != tt.head.root && n.count < n.g.least(n.level) {
			least = min(least, float64(n.count)/float64(most))
		}
		if n.count >= most {
			t.Fatalf("node %#x of level %d is full", c.address, n.level)
		}
	})
	return used / room, least
}

// eachNode calls visit for each node, with the pointer to it. edge says that it is the last
// of its level.
func (tt *testTree) eachNode(t rapid.TB, visit func(n nodeBytes, c child, edge bool)) {
	t.Helper()
	g := tt.geometry(t)
	var below func(c child, level int, edge bool)
	below = func(c child, level int, edge bool) {
		n, err := g.readNode(tt.mem, c, level)
		must(t, err)
		visit(n, c, edge)
		for i := 0; level > 0 && i <= n.count; i++ {
			below(n.child(i), level-1, edge && i == n.count)
		}
	}
	below(tt.head.rootChild(), tt.head.depth, true)
}

var testShapes = []indexShape{
	{rank: 1, chunkBytes: 4096, nodeSize: 512},
	{rank: 2, chunkBytes: 12288, nodeSize: 512},
	{rank: 2, filtered: true, chunkBytes: 12288, nodeSize: 512},
	{rank: 3, chunkBytes: 1, nodeSize: 1024},
	{rank: 4, filtered: true, chunkBytes: maxChunkBytes, nodeSize: 512},
	{rank: 1, filtered: true, chunkBytes: 192, nodeSize: 2048},
	{rank: 2, filtered: true, packed: true, optional: 2, chunkBytes: 1000, nodeSize: 512},
}

func TestGeometry(t *testing.T) {
	for _, row := range []struct {
		rank     int
		filtered bool
		node     uint32
		max      [4]int
		width    int
		totals   [4]int
		capacity [4]uint64
	}{
		{1, false, 2048, [4]int{127, 81, 75, 72}, 1, [4]int{0, 2, 3, 4}, [4]uint64{127, 10495, 797695, 58231807}},
		{2, false, 512, [4]int{20, 14, 14, 14}, 1, [4]int{0, 2, 2, 3}, [4]uint64{20, 314, 4724, 70874}},
		{2, false, 1024, [4]int{42, 30, 28, 28}, 1, [4]int{0, 2, 2, 3}, [4]uint64{42, 1332, 38656, 1121052}},
		{2, false, 2048, [4]int{84, 61, 57, 56}, 1, [4]int{0, 2, 3, 4}, [4]uint64{84, 5269, 305659, 17422619}},
		{2, false, 4096, [4]int{170, 123, 116, 113}, 1, [4]int{0, 2, 3, 4}, [4]uint64{170, 21203, 2480867, 282818951}},
		{2, false, 16384, [4]int{682, 481, 442, 430}, 2, [4]int{0, 3, 4, 5}, [4]uint64{682, 329205, 145838257, 62856289197}},
		{2, true, 512, [4]int{16, 12, 12, 11}, 1, [4]int{0, 1, 2, 2}, [4]uint64{16, 220, 2872, 34475}},
		{2, true, 2048, [4]int{65, 50, 48, 47}, 1, [4]int{0, 2, 3, 3}, [4]uint64{65, 3365, 164933, 7916831}},
		{2, true, 4096, [4]int{131, 101, 97, 94}, 1, [4]int{0, 2, 3, 4}, [4]uint64{131, 13463, 1319471, 125349839}},
	} {
		g, err := indexShape{rank: row.rank, filtered: row.filtered, chunkBytes: 12288, nodeSize: row.node}.geometry()
		must(t, err)
		if g.countWidth != row.width {
			t.Errorf("record %d node %d: count width %d, want %d", g.recordSize, row.node, g.countWidth, row.width)
		}
		for i := range 4 {
			l := g.levels[i]
			if l.max != row.max[i] || l.totalWidth != row.totals[i] || l.capacity != row.capacity[i] {
				t.Errorf("record %d node %d level %d: %+v, want max %d, total width %d, capacity %d", g.recordSize, row.node, i, l, row.max[i], row.totals[i], row.capacity[i])
			}
		}
	}
	for chunkBytes, want := range map[uint32]int{1: 2, 192: 2, 255: 2, 256: 3, 12288: 3, 65536: 4, 1 << 24: 5} {
		g, err := indexShape{rank: 1, filtered: true, chunkBytes: chunkBytes, nodeSize: 512}.geometry()
		if err != nil || g.sizeWidth != want {
			t.Errorf("chunk of %d bytes: size width %d, %v, want %d", chunkBytes, g.sizeWidth, err, want)
		}
	}
}

func TestGeometryRefuses(t *testing.T) {
	good := indexShape{rank: 1, chunkBytes: 1, nodeSize: 512}
	for name, change := range map[string]func(s *indexShape){
		"rank 0":         func(s *indexShape) { s.rank = 0 },
		"rank 5":         func(s *indexShape) { s.rank = 5 },
		"empty chunk":    func(s *indexShape) { s.chunkBytes = 0 },
		"huge chunk":     func(s *indexShape) { s.chunkBytes = maxChunkBytes + 1 },
		"node too small": func(s *indexShape) { s.nodeSize = 511 },
		"node too large": func(s *indexShape) { s.nodeSize = 65537 },
	} {
		s := good
		change(&s)
		if _, err := s.geometry(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for _, s := range testShapes { // the depth limit is no limit of the store
		if g := (&testTree{shape: s}).geometry(t); g.levels[maxIndexDepth].capacity < 1e8 {
			t.Errorf("%+v holds %d records", s, g.levels[maxIndexDepth].capacity)
		}
	}
}

func TestIndexBytes(t *testing.T) {
	shape := indexShape{rank: 2, chunkBytes: 192, nodeSize: 512}
	head := indexHeader{root: 0x4770, depth: 1, rootRecords: 1, total: 25}
	want := unhex(t, `"BTHD" 00 0a  00 02 00 00  18 00  01 00  64 28  70 47 00*6  01 00  19 00*7  47 53 49 fd`)
	got, err := head.append(nil, shape)
	must(t, err)
	sameBytes(t, got, want)
	parsed, err := parseIndexHeader(want, 0, shape)
	if err != nil || parsed != head {
		t.Errorf("parsed %+v, %v, want %+v", parsed, err, head)
	}
	cutAndFlip(t, want, func(p []byte) error { _, err := parseIndexHeader(p, 0, shape); return err })

	g, err := shape.geometry()
	must(t, err)
	root := &openNode{level: 1, records: []Chunk{{Coord: [4]uint64{19, 0}, Address: 0x0ef0, Size: 192}},
		children: []subtree{{child: child{0x4370, 19, 19}}, {child: child{0x4570, 5, 5}}}}
	want = unhex(t, `"BTIN" 00 0a | f0 0e 00*6  13 00*7  00*8
		70 43 00*6  13 | 70 45 00*6  05 | be 49 fb 21`)
	node := g.appendNode(nil, root)
	sameBytes(t, node[:len(want)], want)
	if len(node) != 512 || len(bytes.Trim(node[len(want):], "\x00")) > 0 {
		t.Errorf("node of %d bytes, or not zero behind its checksum", len(node))
	}
	b, err := g.parseNode(node, 1, 1)
	if err != nil || b.child(0) != root.children[0].child || b.child(1) != root.children[1].child {
		t.Errorf("children %+v and %+v, %v", b.child(0), b.child(1), err)
	}

	leaf := &openNode{}
	for i := range uint64(19) {
		leaf.records = append(leaf.records, Chunk{[4]uint64{i}, 0xb0 + i*192, 192, 0})
	}
	node = g.appendNode(nil, leaf)
	sameBytes(t, node[:54], unhex(t, `"BTLF" 00 0a | b0 00*7  00*8  00*8 | 70 01 00*6  01 00*7  00*8`))
	sameBytes(t, node[438:466], unhex(t, `30 0e 00*6  12 00*7  00*8 | 0a e0 f8 eb`))

	shape.filtered = true
	g, err = shape.geometry()
	must(t, err)
	node = g.appendNode(nil, &openNode{records: []Chunk{{Address: 0xb0, Size: 196}}})
	sameBytes(t, node[:36], unhex(t, `"BTLF" 00 0b | b0 00*7  c4 00  00 00 00 00  00*8  00*8`))
}

func TestIndexNodeDamage(t *testing.T) {
	for _, shape := range testShapes[1:3] { // one of each record type
		tt := newTestTree(shape)
		tt.insert(t, 0, 1, 200)
		visited := 0
		tt.eachNode(t, func(n nodeBytes, c child, _ bool) {
			if visited++; visited > 3 {
				return
			}
			whole := tt.mem.nodes[c.address]
			cutAndFlip(t, whole[:len(n.p)+checksumSize], func(p []byte) error {
				if len(p) == len(n.p)+checksumSize { // flipped, not cut
					p = append(p[:len(p):len(p)], whole[len(p):]...)
				}
				_, err := n.g.readNode(nodeBytesSource{p}, c, n.level)
				return err
			})
		})
	}
}

// nodeBytesSource gives the same bytes for every address.
type nodeBytesSource struct{ p []byte }

func (s nodeBytesSource) read(uint64, int) ([]byte, error) { return s.p, nil }

func TestUpdateRandom(t *testing.T) {
	for _, shape := range testShapes {
		t.Run(fmt.Sprintf("rank %d filtered %v node %d", shape.rank, shape.filtered, shape.nodeSize), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				tt := newTestTree(shape)
				space := rapid.SampledFrom([]uint64{3, 40, 400, 5000}).Draw(t, "space")
				rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
				for range rapid.IntRange(1, 12).Draw(t, "batches") {
					size := rapid.SampledFrom([]int{0, 1, 2, 10, 100, 800}).Draw(t, "size")
					deletes := rapid.IntRange(0, 10).Draw(t, "deletes of 10")
					tt.update(t, tt.randomEdits(rng, space, size, deletes))
					if _, least := tt.fill(t); least < 1 {
						t.Fatalf("a node is only %.2f full", least)
					}
				}
			})
		})
	}
}

func (tt *testTree) randomEdits(rng *rand.Rand, space uint64, size, deletes int) []chunkEdit {
	chosen := map[[4]uint64]chunkEdit{}
	for range size {
		var coord [4]uint64
		n := rng.Uint64N(space)
		for i := tt.shape.rank - 1; i > 0; i-- {
			coord[i] = n % 3
			n /= 3
		}
		coord[0] = n
		e := tt.set(coord)
		if rng.IntN(10) < deletes {
			e = chunkEdit{Chunk{Coord: coord}, true}
		}
		chosen[coord] = e
	}
	return slices.Collect(maps.Values(chosen))
}

func TestUpdateFill(t *testing.T) {
	shape := indexShape{rank: 2, filtered: true, chunkBytes: 12288, nodeSize: 2048}
	ascending := func(tt *testTree, from, n uint64) (edits []chunkEdit) {
		for i := from; i < from+n; i++ {
			edits = append(edits, tt.set([4]uint64{i / 3, i % 3}))
		}
		return edits
	}
	expect := func(what string, tt *testTree, want float64) {
		t.Helper()
		tt.check(t)
		average, least := tt.fill(t)
		t.Logf("%s: depth %d, nodes %.3f full", what, tt.head.depth, average)
		if average < want || least < 1 {
			t.Errorf("%s: nodes are %.3f full, want %.2f; least node %.2f", what, average, want, least)
		}
	}
	bulk := newTestTree(shape)
	bulk.unchecked = true
	bulk.update(t, ascending(bulk, 0, 15000))
	expect("bulk", bulk, 0.9)

	for _, step := range []uint64{1, 7, 50, 64, 65, 66, 100, 1000} {
		tt := newTestTree(shape)
		tt.unchecked = true
		for from := uint64(0); from < 1500; from += step {
			tt.update(t, ascending(tt, from, step))
		}
		expect(fmt.Sprintf("appends of %d", step), tt, 0.9)
	}

	rng := rand.New(rand.NewPCG(1, 2))
	for _, size := range []int{1, 30, 3000} {
		for range min(300, 15000/size) {
			bulk.update(t, bulk.randomEdits(rng, 22000, size, 4))
		}
		expect(fmt.Sprintf("random batches of %d", size), bulk, 0.5)
	}
	for len(bulk.model) > 300 {
		bulk.update(t, bulk.randomEdits(rng, 22000, 4000, 10))
	}
	expect("mostly deleted", bulk, 0.5)
	var all []chunkEdit
	for coord := range bulk.model {
		all = append(all, chunkEdit{Chunk{Coord: coord}, true})
	}
	bulk.update(t, all)
	if bulk.head != emptyIndex() {
		t.Errorf("head %+v after all was deleted, want an empty index", bulk.head)
	}
}

// A batch reads and writes the nodes on its paths, and a neighbour here and
// there; not the tree.
func TestUpdateTouchesPathsOnly(t *testing.T) {
	tt := newTestTree(indexShape{rank: 1, chunkBytes: 4096, nodeSize: 512})
	tt.insert(t, 0, 2, 20000)
	nodes := len(tt.live)
	rng := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		before, reads := len(tt.mem.nodes), tt.mem.reads
		coord := [4]uint64{rng.Uint64N(40000)}
		e := tt.set(coord)
		if rng.IntN(2) == 0 {
			e = chunkEdit{Chunk{Coord: coord}, true}
		}
		head, err := tt.tree().update(tt.mem, []chunkEdit{e}, moveNothing, func(Chunk) {})
		must(t, err)
		// A deleted separator opens two paths, each with a neighbour a level.
		most := 4 * (tt.head.depth + 1)
		if written, read := len(tt.mem.nodes)-before, tt.mem.reads-reads; written > most || read > most {
			t.Fatalf("one edit wrote %d and read %d of %d nodes, want at most %d", written, read, nodes, most)
		}
		tt.head = head
	}
}

func TestUpdateWithoutEffect(t *testing.T) {
	tt := newTestTree(testShapes[0])
	tt.update(t, []chunkEdit{{Chunk{Coord: [4]uint64{1}}, true}})
	if tt.head != emptyIndex() || len(tt.mem.nodes) > 0 {
		t.Fatalf("head %+v and %d nodes after a delete from an empty index", tt.head, len(tt.mem.nodes))
	}
	var absent []chunkEdit
	for i := range uint64(1000) {
		absent = append(absent, chunkEdit{Chunk{Coord: [4]uint64{2*i + 1}}, true})
	}
	tt.insert(t, 0, 2, 1000)
	head, nodes := tt.head, len(tt.mem.nodes)
	tt.update(t, absent)
	tt.update(t, nil)
	if tt.head != head || len(tt.mem.nodes) != nodes {
		t.Errorf("deletes of absent chunks made %d nodes, head %+v, want none and %+v", len(tt.mem.nodes)-nodes, tt.head, head)
	}
}

func TestUpdateRefusesEdits(t *testing.T) {
	shape := testShapes[1]
	good := chunkEdit{Chunk: Chunk{Coord: [4]uint64{5, 5}, Address: 4096, Size: shape.chunkBytes}}
	for name, edits := range map[string][]chunkEdit{
		"descending":              {good, {Chunk{Coord: [4]uint64{5, 4}}, true}},
		"twice":                   {good, good},
		"wrong size":              {{Chunk{Coord: good.Coord, Address: 4096, Size: 5}, false}},
		"no address":              {{Chunk{Coord: good.Coord, Address: undefinedAddress, Size: shape.chunkBytes}, false}},
		"beyond the rank":         {{Chunk{Coord: [4]uint64{0, 0, 1}, Address: 4096, Size: shape.chunkBytes}, false}},
		"delete beyond the rank":  {{Chunk{Coord: [4]uint64{0, 0, 1}}, true}},
		"address in superblock":   {{Chunk{Coord: good.Coord, Address: 47, Size: shape.chunkBytes}, false}},
		"chunk beyond all files":  {{Chunk{Coord: good.Coord, Address: maxAddress, Size: shape.chunkBytes}, false}},
		"refused after good ones": {{Chunk{Coord: [4]uint64{1, 1}}, true}, {Chunk{Coord: good.Coord, Address: 1, Size: shape.chunkBytes}, false}},
	} {
		mem := newNodeMemory()
		if _, err := (indexTree{mem, shape, emptyIndex()}).update(mem, edits, moveNothing, func(Chunk) {}); err == nil || errors.Is(err, corrupt.Err) {
			t.Errorf("%s: error %v, want one that is not corrupt", name, err)
		}
	}
}

func TestLookupAndWalk(t *testing.T) {
	for _, shape := range testShapes {
		tt := newTestTree(shape)
		rng := rand.New(rand.NewPCG(5, 6))
		for range 5 {
			tt.update(t, tt.randomEdits(rng, 3000, 1000, 3))
		}
		sorted := tt.sorted()
		for n := range uint64(3000) {
			coord := [4]uint64{n}
			r, found, err := indexTree{tt.mem, shape, tt.head}.lookup(coord)
			want, exists := tt.model[coord]
			if err != nil || found != exists || r != want {
				t.Fatalf("lookup %v: %+v %v %v, want %+v %v", coord, r, found, err, want, exists)
			}
			if n%50 > 0 {
				continue
			}
			first, _ := slices.BinarySearchFunc(sorted, coord, func(r Chunk, c [4]uint64) int { return compareCoord(r.Coord, c) })
			rest, count := sorted[first:], int(n%200)
			var got []Chunk
			err = indexTree{tt.mem, shape, tt.head}.walk(coord, nil, func(r Chunk) (bool, error) {
				got = append(got, r)
				return len(got) <= count, nil
			})
			if want := rest[:min(len(rest), count+1)]; err != nil || !slices.Equal(got, want) {
				t.Fatalf("walk from %v: %d records, %v, want %d", coord, len(got), err, len(want))
			}
		}
		stop := errors.New("stop")
		if err := (indexTree{tt.mem, shape, tt.head}).walk([4]uint64{}, nil, func(Chunk) (bool, error) { return true, stop }); err != stop {
			t.Errorf("walk returned %v, want the visitor's error", err)
		}
	}
}

// Old heads keep reading what they had: no update writes to a node of theirs.
func TestOldRootsStay(t *testing.T) {
	tt := newTestTree(testShapes[2])
	rng := rand.New(rand.NewPCG(7, 8))
	var old []testTree
	for range 15 {
		tt.update(t, tt.randomEdits(rng, 2000, 300, 4))
		snapshot := *tt
		snapshot.model = maps.Clone(tt.model)
		old = append(old, snapshot)
	}
	for i := range old {
		old[i].check(t)
	}
}
