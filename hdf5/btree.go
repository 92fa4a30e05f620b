package hdf5

import (
	"errors"
	"math/bits"
)

// errDone ends a walk early, without an error to the caller.
var errDone = errors.New("done")

func done(err error) error {
	if errors.Is(err, errDone) {
		return nil
	}
	return err
}

// tree2 is a B-tree of version 2 (spec III.A.2).
type tree2 struct {
	file       *File
	b          *budget
	head       decoder
	kind       byte
	nodeSize   uint64
	recordSize uint64
	root       uint64
	rootCount  uint64
	total      uint64
	levels     []level // [0] is that of leaves
}

// level holds the widths of fields in the nodes of one level.
type level struct {
	max        uint64 // records in a node
	cumulative uint64 // records in a node and below
	countBytes int    // of the number of records in a child
	totalBytes int    // of the number of records in a child and below
}

const maxTreeDepth = 32

// tree2 reads the header of the B-tree at an address. The tree must be of the given kind.
func (f *File) tree2(b *budget, address uint64, kind byte) (*tree2, error) {
	d := f.sealed(b, "B-tree header", "BTHD", address, 22+uint64(f.super.offsetSize+f.super.lengthSize))
	d.version(0, 0)
	t := &tree2{file: f, b: b, head: d, kind: d.u8()}
	t.nodeSize, t.recordSize = uint64(d.u32()), uint64(d.u16())
	depth := int(d.u16())
	d.take(2) // when to split and to merge
	t.root, t.rootCount, t.total = d.address(), uint64(d.u16()), d.length()
	d.require(t.kind == kind, "B-tree of type %d, want %d", t.kind, kind)
	d.require(depth <= maxTreeDepth && t.recordSize > 0 && t.nodeSize >= 10+t.recordSize,
		"B-tree of depth %d, with nodes of %d bytes and records of %d", depth, t.nodeSize, t.recordSize)
	if d.err != nil {
		return nil, d.err
	}
	leaf := (t.nodeSize - 10) / t.recordSize
	t.levels = []level{{max: leaf, cumulative: leaf}}
	for i := range depth {
		below := t.levels[i]
		l := level{countBytes: bytesFor(leaf)}
		if i > 0 {
			l.totalBytes = bytesFor(below.cumulative)
		}
		pointer := uint64(f.super.offsetSize + l.countBytes + l.totalBytes)
		if t.nodeSize < 10+2*pointer+t.recordSize {
			return nil, d.corrupt("B-tree nodes of %d bytes are too small for level %d", t.nodeSize, i+1)
		}
		l.max = (t.nodeSize - 10 - pointer) / (t.recordSize + pointer)
		high, low := bits.Mul64(l.max+1, below.cumulative)
		if low += l.max; high != 0 || low < l.max {
			return nil, d.corrupt("B-tree of depth %d", depth)
		}
		l.cumulative = low
		t.levels = append(t.levels, l)
	}
	return t, nil
}

// each calls visit for every record in order. With a compare function, which compares a
// record with what is wanted, it does so only for records with which compare returns 0.
func (t *tree2) each(compare func(decoder) int, visit func(decoder) error) error {
	if t.root == undefined {
		if t.total != 0 {
			return t.head.corrupt("%d records and no root", t.total)
		}
		return nil
	}
	n, err := t.node(t.root, len(t.levels)-1, t.rootCount, compare, visit)
	if err == nil && compare == nil && n != t.total {
		err = t.head.corrupt("%d records, want %d", n, t.total)
	}
	return done(err)
}

// node walks through the node at an address, and returns how many records it saw
// there and below.
func (t *tree2) node(address uint64, depth int, count uint64, compare func(decoder) int, visit func(decoder) error) (uint64, error) {
	l := t.levels[depth]
	structure, signature := "B-tree leaf", "BTLF"
	size := count * t.recordSize
	if depth > 0 {
		structure, signature = "B-tree node", "BTIN"
		size += (count + 1) * uint64(t.file.super.offsetSize+l.countBytes+l.totalBytes)
	}
	if count > l.max {
		return 0, t.head.corrupt("%d records in a node, at most %d", count, l.max)
	}
	d := t.file.sealed(t.b, structure, signature, address, 6+size+4)
	d.version(0, 0)
	kind := d.u8()
	d.require(kind == t.kind, "type %d, want %d", kind, t.kind)
	records := d.part(structure, count*t.recordSize)
	if d.err != nil {
		return 0, d.err
	}
	seen := count
	order := -1 // of the record before, against what is wanted
	for i := uint64(0); i <= count; i++ {
		record, next := decoder{}, 1
		if i < count {
			record = records.part(structure, t.recordSize)
			if next = 0; compare != nil {
				next = compare(record)
			}
		}
		if depth > 0 {
			child, n := d.address(), d.number(l.countBytes)
			below := d.number(l.totalBytes)
			if order <= 0 && next >= 0 {
				got, err := t.node(child, depth-1, n, compare, visit)
				if err != nil {
					return 0, err
				}
				if depth > 1 && compare == nil && got != below {
					return 0, d.corrupt("%d records below, want %d", got, below)
				}
				seen += got
			}
		}
		if i < count && next == 0 {
			if err := visit(record); err != nil {
				return 0, err
			}
		}
		order = next
	}
	return seen, d.err
}

// tree1 walks a B-tree of version 1 (spec III.A.1).
type tree1 struct {
	file    *File
	b       *budget
	kind    byte // 0: a group, 1: chunks
	keySize uint64
	// enter reports whether to look below the child between two keys; nil means always.
	enter func(left, right decoder) (bool, error)
	// visit is called for each child of a node of level 0, with the key before it.
	visit func(key decoder, child uint64) error
}

// walk walks through the tree whose root is at an address.
func (t *tree1) walk(address uint64) error { return done(t.node(address, -1)) }

// node walks through a node, which must be of the given level; -1 allows any.
func (t *tree1) node(address uint64, level int) error {
	f := t.file
	o := uint64(f.super.offsetSize)
	head := f.signed(t.b, "B-tree node", "TREE", address, 8+2*o)
	kind, own, entries := head.u8(), int(head.u8()), uint64(head.u16())
	head.require(kind == t.kind, "type %d, want %d", kind, t.kind)
	head.require(level < 0 || own == level, "level %d, want %d", own, level)
	if head.err != nil || entries == 0 {
		return head.err
	}
	d := f.read(t.b, "B-tree node", address+8+2*o, entries*(t.keySize+o)+t.keySize)
	key := d.part("B-tree key", t.keySize)
	for range entries {
		child := d.address()
		next := d.part("B-tree key", t.keySize)
		inside, err := true, d.err
		if err == nil && t.enter != nil {
			inside, err = t.enter(key, next)
		}
		switch {
		case err != nil || !inside:
		case own > 0:
			err = t.node(child, own-1)
		default:
			err = t.visit(key, child)
		}
		if err != nil {
			return err
		}
		key = next
	}
	return d.err
}
