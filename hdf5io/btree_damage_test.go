package hdf5io

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/cidstore/cidstore/internal/corrupt"
)

// damagedTree is a tree of depth 2 whose nodes can be changed with their
// checksums made right again.
func damagedTree(t *testing.T) *testTree {
	tt := newTestTree(indexShape{rank: 1, filtered: true, chunkBytes: 4096, nodeSize: 512})
	tt.insert(t, 1, 2, 2000)
	if tt.head.depth != 2 {
		t.Fatalf("depth %d, want 2", tt.head.depth)
	}
	return tt
}

// change edits the used bytes of the node at c.
func (tt *testTree) change(t *testing.T, c child, level int, edit func(g *geometry, p []byte)) {
	t.Helper()
	g := tt.geometry(t)
	n, err := g.readNode(tt.mem, c, level)
	must(t, err)
	p := bytes.Clone(n.p)
	edit(g, p)
	tt.mem.nodes[c.address] = append(sealed(p, 0), make([]byte, 512)...)[:512]
}

// recordOf and pointerOf are the bytes of record i and of pointer i of a node p.
func (g *geometry) recordOf(p []byte, i int) []byte {
	return p[nodePrefix+i*g.recordSize:][:g.recordSize]
}
func (g *geometry) pointerOf(p []byte, level, count, i int) []byte {
	return p[nodePrefix+count*g.recordSize+i*g.levels[level].pointer:]
}

// indexDamages change a tree of depth 2, and say what the errors must name.
var indexDamages = map[string]struct {
	damage func(t *testing.T, tt *testTree, root, inner, leaf child)
	names  string
}{
	"records swapped": {func(t *testing.T, tt *testTree, root, inner, leaf child) {
		tt.change(t, leaf, 0, func(g *geometry, p []byte) {
			first := bytes.Clone(g.recordOf(p, 3))
			copy(g.recordOf(p, 3), g.recordOf(p, 4))
			copy(g.recordOf(p, 4), first)
		})
	}, "record 4"},
	"record beyond the separator": {func(t *testing.T, tt *testTree, root, inner, leaf child) {
		tt.change(t, leaf, 0, func(g *geometry, p []byte) {
			binary.LittleEndian.PutUint64(g.recordOf(p, leaf.count-1)[g.recordSize-8:], 500)
		})
	}, "[500]"},
	"filter mask": {func(t *testing.T, tt *testTree, root, inner, leaf child) {
		tt.change(t, leaf, 0, func(g *geometry, p []byte) { g.recordOf(p, 2)[8+g.sizeWidth] = 1 })
	}, "filter mask 0x1"},
	"stored size": {func(t *testing.T, tt *testTree, root, inner, leaf child) {
		tt.change(t, leaf, 0, func(g *geometry, p []byte) { g.recordOf(p, 2)[8]++ })
	}, "4101 bytes stored"},
	"chunk in the superblock": {func(t *testing.T, tt *testTree, root, inner, leaf child) {
		tt.change(t, leaf, 0, func(g *geometry, p []byte) { clear(g.recordOf(p, 2)[:8]) })
	}, "at 0x0"},
	"two pointers to one leaf": {func(t *testing.T, tt *testTree, root, inner, leaf child) {
		tt.change(t, inner, 1, func(g *geometry, p []byte) {
			copy(g.pointerOf(p, 1, inner.count, 1)[:9], g.pointerOf(p, 1, inner.count, 0)[:9])
		})
	}, "after"},
	"pointer to the root": {func(t *testing.T, tt *testTree, root, inner, leaf child) {
		tt.change(t, inner, 1, func(g *geometry, p []byte) {
			binary.LittleEndian.PutUint64(g.pointerOf(p, 1, inner.count, 0), root.address)
		})
	}, "signature"},
	"pointer outside the file": {func(t *testing.T, tt *testTree, root, inner, leaf child) {
		tt.change(t, inner, 1, func(g *geometry, p []byte) {
			binary.LittleEndian.PutUint64(g.pointerOf(p, 1, inner.count, 0), 1<<63)
		})
	}, "node address"},
	"pointer with count 0": {func(t *testing.T, tt *testTree, root, inner, leaf child) {
		tt.change(t, inner, 1, func(g *geometry, p []byte) { g.pointerOf(p, 1, inner.count, 0)[8] = 0 })
	}, "records"},
	"total of a child": {func(t *testing.T, tt *testTree, root, inner, leaf child) {
		tt.change(t, root, 2, func(g *geometry, p []byte) { g.pointerOf(p, 2, root.count, 0)[9]++ })
	}, "parent says"},
	"total of the tree":   {func(t *testing.T, tt *testTree, root, inner, leaf child) { tt.head.total++ }, "parent says"},
	"records of the root": {func(t *testing.T, tt *testTree, root, inner, leaf child) { tt.head.rootRecords-- }, "checksum"},
	"depth":               {func(t *testing.T, tt *testTree, root, inner, leaf child) { tt.head.depth = 1 }, ""},
	"depth beyond limit":  {func(t *testing.T, tt *testTree, root, inner, leaf child) { tt.head.depth = maxIndexDepth + 1 }, "depth 9"},
}

func TestDamagedIndex(t *testing.T) {
	for name, row := range indexDamages {
		t.Run(name, func(t *testing.T) {
			tt := damagedTree(t)
			g := tt.geometry(t)
			root := tt.head.rootChild()
			n, err := g.readNode(tt.mem, root, 2)
			must(t, err)
			inner := n.child(0)
			n, err = g.readNode(tt.mem, inner, 1)
			must(t, err)
			row.damage(t, tt, root, inner, n.child(0))
			expect := func(what string, err error) {
				t.Helper()
				if !errors.Is(err, corrupt.Err) || !strings.Contains(err.Error(), row.names) || !strings.Contains(err.Error(), "index node") {
					t.Errorf("%s: error %v, want a corrupt one of a node that names %q", what, err, row.names)
				}
			}
			expect("walk", tt.tree().walk([4]uint64{}, nil, func(Chunk) (bool, error) { return true, nil }))
			var defects []error
			tt.tree().check([4]uint64{}, everywhere, nil, nil, func(err error) { defects = append(defects, err) })
			expect("check", errors.Join(defects...))
			var edits []chunkEdit
			for i := range uint64(2000) {
				edits = append(edits, chunkEdit{Chunk: Chunk{Coord: [4]uint64{2 * i}, Address: 4096, Size: g.storedSize()}})
			}
			_, err = tt.tree().update(newNodeMemory(), edits, moveNothing, func(Chunk) {})
			expect("update", err)
		})
	}
}

func TestCheckBounds(t *testing.T) {
	tt := damagedTree(t)
	defects, records := 0, 0
	tt.tree().check([4]uint64{}, [4]uint64{3000}, nil, func(Chunk) bool { records++; return true }, func(err error) {
		defects++
		if !errors.Is(err, corrupt.Err) {
			t.Errorf("error %v, want a corrupt one", err)
		}
	})
	if records != 1500 || defects != 500 {
		t.Errorf("%d records and %d defects, want 1500 and 500", records, defects)
	}
}

// sameChildren is a source in which all children of a node are one and the same
// node: a small file that claims more records than any store has.
type sameChildren struct {
	g     *geometry
	reads int
}

func (s *sameChildren) child(level int) child {
	l := &s.g.levels[level]
	return child{address: 4096 * uint64(level+1), count: l.max, total: l.capacity}
}

func (s *sameChildren) read(addr uint64, n int) ([]byte, error) {
	s.reads++
	node := &openNode{level: int(addr/4096) - 1}
	for i := range s.g.levels[node.level].max {
		node.records = append(node.records, Chunk{[4]uint64{uint64(node.level*1000 + i)}, 1 << 20, s.g.storedSize(), 0})
	}
	for i := 0; node.level > 0 && i <= len(node.records); i++ {
		node.children = append(node.children, subtree{child: s.child(node.level - 1)})
	}
	return s.g.appendNode(nil, node), nil
}

func TestIndexOfItselfEnds(t *testing.T) {
	shape := testShapes[2]
	g, err := shape.geometry()
	must(t, err)
	src := &sameChildren{g: g}
	c := src.child(maxIndexDepth)
	head := indexHeader{c.address, maxIndexDepth, c.count, c.total}
	ended := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, corrupt.Err) || src.reads > 10000 {
			t.Errorf("%s: %v after %d reads, want a corrupt error before 10000", what, err, src.reads)
		}
		src.reads = 0
	}
	ended("walk", indexTree{src, shape, head}.walk([4]uint64{}, nil, func(Chunk) (bool, error) { return true, nil }))
	var first error
	indexTree{src, shape, head}.check([4]uint64{}, everywhere, nil, nil, func(err error) { first = errors.Join(first, err) })
	ended("check", first)
	var edits []chunkEdit
	for i := range uint64(10000) {
		edits = append(edits, chunkEdit{Chunk{Coord: [4]uint64{i}}, true})
	}
	_, err = indexTree{src, shape, head}.update(newNodeMemory(), edits, moveNothing, func(Chunk) {})
	ended("update", err)
}

// An error of source or sink comes back as it is, at whichever call.
func TestIndexIOErrors(t *testing.T) {
	tt := damagedTree(t)
	fault := errors.New("the disk is gone")
	var edits []chunkEdit
	for i := range uint64(600) {
		edits = append(edits, tt.set([4]uint64{3 * i}), chunkEdit{Chunk{Coord: [4]uint64{3*i + 1}}, true})
	}
	for nth := 0; ; nth++ {
		mem := &faultyNodes{nodeMemory: tt.mem, left: nth, fault: fault}
		_, err := indexTree{mem, tt.shape, tt.head}.update(mem, edits, moveNothing, func(Chunk) {})
		if err == nil {
			if nth < 100 {
				t.Errorf("only %d calls", nth)
			}
			return
		}
		if !errors.Is(err, fault) {
			t.Fatalf("call %d: error %v, want the fault", nth, err)
		}
		clear(tt.mem.freed)
	}
}

// faultyNodes fails its calls after the first `left`.
type faultyNodes struct {
	*nodeMemory
	left  int
	fault error
}

func (m *faultyNodes) step() error {
	m.left--
	if m.left < 0 {
		return m.fault
	}
	return nil
}

func (m *faultyNodes) read(addr uint64, n int) ([]byte, error) {
	if err := m.step(); err != nil {
		return nil, err
	}
	return m.nodeMemory.read(addr, n)
}

func (m *faultyNodes) alloc(n int) (uint64, error) {
	if err := m.step(); err != nil {
		return 0, err
	}
	return m.nodeMemory.alloc(n)
}

func (m *faultyNodes) write(addr uint64, p []byte) error {
	if err := m.step(); err != nil {
		return err
	}
	return m.nodeMemory.write(addr, p)
}
