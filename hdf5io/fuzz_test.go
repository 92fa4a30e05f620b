package hdf5io

import (
	"bytes"
	"encoding/binary"
	"errors"
	"maps"
	"reflect"
	"slices"
	"testing"

	"github.com/cidstore/cidstore/internal/corrupt"
)

// Each decoder makes of any bytes a value that encodes to the same bytes, or an
// error, and never panics. Checksums are corrected, because nothing would get past
// them otherwise.

func FuzzSuperblock(f *testing.F) {
	f.Add(superblock{endOfFile: 20672, root: 20552}.append(nil))
	f.Add(superblock{endOfFile: maxAddress, root: superblockSize}.append(nil))
	f.Add([]byte(superblockSignature + superblockForm))
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) >= superblockSize {
			p = sealed(bytes.Clone(p[:44]), 0)
		}
		s, err := parseSuperblock(p)
		if err != nil {
			if !errors.Is(err, corrupt.Err) {
				t.Fatalf("error %v, want a corrupt one", err)
			}
			return
		}
		sameBytes(t, s.append(nil), p)
	})
}

func FuzzObjectHeader(f *testing.F) {
	for _, p := range sampleHeaders(f) {
		f.Add(p)
	}
	f.Add(withMessages([]byte("\x02\x12\x00\x00" + noDenseStorage + "\x00\x01\x00\x00x" + "\x0a\x02\x00\x01\x00\x00")))
	f.Fuzz(func(t *testing.T, p []byte) { parseResealed(t, p) })
}

func FuzzDatatype(f *testing.F) {
	for _, d := range []Datatype{Uint(8), Int(1), Float64(), Float32(), Bool(), Enum(Uint(2), EnumMember{"ä", 7}, EnumMember{"b", 0}), String(5), Array(Int(2), 3, 4), element, Compound(300, Field{"ß", 299, Uint(1)})} {
		f.Add(d.append(nil))
	}
	f.Add(bytes.Repeat([]byte("\x3a\x00\x00\x00\x01\x00\x00\x00\x01\x01\x00\x00\x00"), 20))
	f.Fuzz(func(t *testing.T, p []byte) {
		d, n, err := parseDatatype(p)
		if err != nil {
			return
		}
		if err := d.check(); err != nil {
			t.Fatalf("%v is accepted, but %v", d, err)
		}
		sameBytes(t, d.append(nil), p[:n])
	})
}

func FuzzAttribute(f *testing.F) {
	a := Attribute{Name: "größe", Type: Uint(2), Dims: []uint64{1, 3}, Data: make([]byte, 6)}
	f.Add(a.append(nil))
	f.Fuzz(func(t *testing.T, p []byte) {
		a, err := parseAttribute(p)
		if err != nil {
			return
		}
		sameBytes(t, a.append(nil), p)
	})
}

func FuzzIndexHeader(f *testing.F) {
	for i, s := range testShapes {
		for _, h := range []indexHeader{emptyIndex(), {4096, 0, 3, 3}, {1 << 40, 2, 5, 400}} {
			p, err := h.append(nil, s)
			must(f, err)
			f.Add(p, uint8(i))
		}
	}
	f.Fuzz(func(t *testing.T, p []byte, shape uint8) {
		s := testShapes[int(shape)%len(testShapes)]
		if len(p) >= indexHeaderSize {
			p = sealed(bytes.Clone(p[:34]), 0)
		}
		h, err := parseIndexHeader(p, 4096, s)
		if err != nil {
			if !errors.Is(err, corrupt.Err) {
				t.Fatalf("error %v, want a corrupt one", err)
			}
			return
		}
		again, err := h.append(nil, s)
		if err != nil {
			t.Fatalf("%+v is accepted, but %v", h, err)
		}
		sameBytes(t, again, p)
	})
}

func FuzzIndexNode(f *testing.F) {
	for i, s := range testShapes {
		tt := newTestTree(s)
		var edits []chunkEdit
		for n := range uint64(900) {
			edits = append(edits, tt.set([4]uint64{n}))
		}
		tt.update(f, edits)
		f.Add(tt.mem.nodes[tt.head.root], uint8(i), uint8(tt.head.depth), uint16(tt.head.rootRecords), tt.head.total)
		f.Add(tt.mem.nodes[4096], uint8(i), uint8(0), uint16(tt.geometry(f).limit(0)), uint64(0))
	}
	f.Fuzz(func(t *testing.T, p []byte, shape, level uint8, count uint16, total uint64) {
		s := testShapes[int(shape)%len(testShapes)]
		g, err := s.geometry()
		must(t, err)
		head := indexHeader{root: 4096, depth: int(level) % (maxIndexDepth + 1), rootRecords: int(count), total: total}
		if head.depth == 0 {
			head.total = uint64(count)
		}
		l := g.levels[head.depth]
		used := nodePrefix + int(count)*g.recordSize
		if head.depth > 0 {
			used += (int(count) + 1) * l.pointer
		}
		if int(count) > l.max || len(p) < used {
			return
		}
		// Every address gives these bytes, so a node may be its own descendant.
		node := append(sealed(bytes.Clone(p[:used]), 0), make([]byte, s.nodeSize)...)[:s.nodeSize]
		src := nodeBytesSource{node}
		if n, err := g.readNode(src, child{head.root, head.rootRecords, head.total}, head.depth); err == nil {
			sameNode(t, g, n, node)
		}
		visited := 0
		err = indexTree{src, s, head}.walk([4]uint64{}, nil, func(Chunk) (bool, error) { visited++; return true, nil })
		if err != nil && !errors.Is(err, corrupt.Err) || err == nil && uint64(visited) != head.total || visited > l.max {
			t.Fatalf("walk: %d records, %v, the head says %d", visited, err, head.total)
		}
		defects := 0
		indexTree{src, s, head}.check([4]uint64{}, everywhere, nil, nil, func(error) { defects++ })
		if (err == nil) != (defects == 0) {
			t.Fatalf("check found %d defects, walk %v", defects, err)
		}
		edits := []chunkEdit{{delete: true}, {Chunk{Coord: [4]uint64{7}, Address: 4096, Size: g.storedSize()}, false}, {Chunk{Coord: [4]uint64{1 << 60}}, true}}
		mem := newNodeMemory()
		if _, err := (indexTree{src, s, head}).update(mem, edits, moveNothing, func(Chunk) {}); err != nil && !errors.Is(err, corrupt.Err) {
			t.Fatalf("update: %v, want a corrupt error", err)
		}
	})
}

// sameNode decodes all of n and encodes it again.
func sameNode(t *testing.T, g *geometry, n nodeBytes, want []byte) {
	t.Helper()
	again := &openNode{level: n.level}
	for i := range n.count {
		r, err := n.record(i)
		if err != nil {
			return
		}
		again.records = append(again.records, r)
	}
	for i := 0; n.level > 0 && i <= n.count; i++ {
		again.children = append(again.children, subtree{child: n.child(i)})
	}
	sameBytes(t, g.appendNode(nil, again), want)
}

// FuzzUpdateIndex reads a program: a shape, then edits of three bytes each; a
// batch ends at a repeated chunk or a byte that says so. After each batch the
// tree equals the model, at the end all old trees still do.
func FuzzUpdateIndex(f *testing.F) {
	ascending := []byte{0}
	for i := range 190 {
		ascending = append(ascending, byte(i%50), byte(i/256), byte(i))
	}
	f.Add(ascending)
	f.Add(append(bytes.Clone(ascending[:301]), bytes.Repeat([]byte{0xc0, 0, 9, 0x40, 0, 13}, 40)...))
	f.Add([]byte{2, 0, 0, 1, 0, 0, 2, 0x40, 0, 1, 0xc0, 0, 2})
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) == 0 || len(p) > 600 {
			return
		}
		tt := newTestTree(testShapes[int(p[0])%len(testShapes)])
		var old []testTree
		batch := map[[4]uint64]chunkEdit{}
		end := func() {
			tt.update(t, slices.Collect(maps.Values(batch)))
			clear(batch)
			snapshot := *tt
			snapshot.model = maps.Clone(tt.model)
			old = append(old, snapshot)
		}
		for p = p[1:]; len(p) >= 3; p = p[3:] {
			// The two low bits of the first byte multiply an edit: large trees from
			// short programs.
			coord := uint64(binary.BigEndian.Uint16(p[1:])) % 1024
			for i := range uint64(1) << (2 * (p[0] & 3)) {
				c := [4]uint64{coord + 3*i}
				e := tt.set(c)
				if p[0]&0x40 != 0 {
					e = chunkEdit{Chunk{Coord: c}, true}
				}
				batch[c] = e
			}
			if p[0]&0x80 != 0 && len(old) < 12 {
				end()
			}
		}
		end()
		for i := range old {
			old[i].check(t)
		}
	})
}

func TestParseDoesNotKeepInput(t *testing.T) {
	for _, p := range sampleHeaders(t) {
		q := bytes.Clone(p)
		h, _, err := parseObjectHeader(q, 0)
		clear(q)
		h2, _, err2 := parseObjectHeader(p, 0)
		if err != nil || err2 != nil || !reflect.DeepEqual(h, h2) {
			t.Errorf("%+v changed with its bytes, %v, %v", h, err, err2)
		}
	}
}
