package valueset

import (
	"context"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/order"
	"github.com/cidstore/cidstore/keys"
)

// Owned is a chunk that belongs to a set. A chunk of /values that no set owns is
// damage that Check of a set cannot see; to check a file, compare with the index.
type Owned struct {
	Class   int    // N: a row of /values/class_N; 65535: a node of /values/nodes
	Number  uint64 // set id or node number
	Address uint64
}

// Size is the size of the chunk, in bytes.
func (o Owned) Size() int64 {
	if o.Class == classTree {
		return nodeSize
	}
	return int64(o.Class) * keys.Size
}

// path is the dataset of the chunk.
func (o Owned) path() string {
	if o.Class == classTree {
		return nodesPath
	}
	return classPath(o.Class)
}

// Check reads all of a key's set and compares it with the invariants of the package
// and the HDF5 index. It reports every defect, visits each chunk of the set, and
// returns the counts of its state.
func (t *Table) Check(set uint64, owner keys.E, visit func(Owned), report func(error)) (live, tombstones uint64) {
	again := *t
	again.always = true
	s, err := again.Open(set, owner)
	if err != nil {
		report(err)
		return 0, 0
	}
	c := checker{Stored: s, visit: func(o Owned) bool {
		if visit != nil {
			visit(o)
		}
		return true
	}, report: report, index: map[int]*hdf5io.Dataset{}}
	c.all()
	return s.state.count, s.state.tombs
}

// CheckPart verifies the set of an id, if there is one, as Check does, but without
// the HDF5 index. Of a tree it verifies only what may hold values that are not
// below from. It ends after the first leaf for which, or before which, visit
// returned false, and returns the value at which the rest begins, or nil if there
// is none.
func (t *Table) CheckPart(set uint64, from keys.E, visit func(Owned) bool, report func(error)) (next *keys.E) {
	again := *t
	again.always = true
	s, used, err := again.At(set)
	if err != nil {
		report(err)
	}
	if err != nil || !used {
		return nil
	}
	c := checker{Stored: s, visit: visit, report: report, from: from}
	c.all()
	return c.next
}

type checker struct {
	Stored
	visit  func(Owned) bool // false: the part ends
	report func(error)
	index  map[int]*hdf5io.Dataset // nil: the index is not compared

	from        keys.E  // leaves below it are not looked at
	full, leafy bool    // visit ends the part; a leaf was visited
	next        *keys.E // what was left out begins here
}

// all checks the row or the tree.
func (c *checker) all() {
	s := &c.Stored
	set, report := s.set, c.report
	if s.isTree() {
		root := s.root()
		c.tree(&root, int(s.state.depth), nil, nil)
		if total := s.state.count + s.state.tombs; total <= maxRow {
			report(setError(set, s.state.at, "a tree of %d values, want a row", total))
		}
		return
	}
	c.owned(Owned{int(s.state.class), set, s.state.at})
	if err := c.checkRow(); err != nil {
		report(err)
	}
}

// checkRow checks the row.
func (c *checker) checkRow() error {
	s := &c.Stored
	b, err := s.row()
	if err != nil {
		return err
	}
	if err := checkValues(b, s.state.count, s.state.tombs); err != nil {
		return setError(s.set, s.state.at, "%w", err)
	}
	if want := classes[classOf(int(s.state.count+s.state.tombs))]; int(s.state.class) != want {
		return setError(s.set, s.state.at, "class %d, want %d", s.state.class, want)
	}
	return nil
}

// owned reports a chunk, and compares it with the index.
func (c *checker) owned(o Owned) {
	c.full = !c.visit(o)
	if c.index == nil {
		return
	}
	d := c.index[o.Class]
	if d == nil {
		var err error
		if d, err = c.table.view.Dataset(o.path()); err != nil {
			c.report(err)
			return
		}
		c.index[o.Class] = d
	}
	chunk, found, err := d.Find(o.Number, 0)
	switch {
	case err != nil:
		c.report(err)
	case !found || chunk.Address != o.Address:
		c.report(setError(c.set, o.Address, "chunk %d of %s: found %v at %#x in the index", o.Number, o.path(), found, chunk.Address))
	}
}

// tree checks the node n and all below it; lowest is its separator, nil for the
// leftmost of its level, and next the separator after it, nil for the rightmost.
func (c *checker) tree(n *child, level int, lowest, next *keys.E) {
	if next != nil && !order.Less(c.from, *next) {
		return
	}
	if c.full && c.leafy {
		if c.next == nil { // not the leftmost: a leaf was visited before it
			first := *lowest
			c.next = &first
		}
		return
	}
	c.owned(Owned{classTree, n.node, n.at})
	b, err := c.node(n, level)
	if err != nil {
		c.report(err)
		return
	}
	if level == 0 {
		c.leafy = true
		if err := c.leaf(n, b, lowest, next); err != nil {
			c.report(err)
		}
		return
	}
	kids, err := inner(b).children(n)
	if err != nil {
		c.report(err)
		return
	}
	if lowest != nil && kids[0].separator != *lowest {
		c.report(n.bad("first separator %v, want %v as in the node above", kids[0].separator, *lowest))
	}
	for i := range kids {
		low, high := lowest, next
		if i > 0 {
			low = &kids[i].separator
		}
		if i+1 < len(kids) {
			high = &kids[i+1].separator
		}
		c.tree(&kids[i], level-1, low, high)
	}
}

// leaf checks the values of a leaf: their order (V1), and that they are between
// their separator and the next one (V4), so that leaves do not overlap either.
func (c *checker) leaf(n *child, b []byte, lowest, next *keys.E) error {
	if err := checkValues(b, n.count, n.tombs); err != nil {
		return n.bad("%w", err)
	}
	alive, deleted := split(b, n.count, n.tombs)
	for _, list := range [...]values{alive, deleted} {
		if list.len() == 0 {
			continue
		}
		if first := list.at(0); lowest != nil && order.Less(first, *lowest) {
			return n.bad("value %v is below the separator %v", first, *lowest)
		}
		if last := list.at(list.len() - 1); next != nil && !order.Less(last, *next) {
			return n.bad("value %v is not below the next separator %v", last, *next)
		}
	}
	return nil
}

// States is how many set ids may have a state; no other id is in use.
func (t *Table) States() uint64 {
	if t.states == nil {
		return 0
	}
	return t.states.Pages() * pageRows
}

// CheckUnused reports what is wrong with the states of all numSets ids, and returns
// how many of them are unused. It ends early when ctx does.
func (t *Table) CheckUnused(ctx context.Context, numSets uint64, report func(error)) (unused uint64) {
	known := numSets
	if t.states != nil { // no state lies beyond the chunk map
		known = min(numSets, t.States())
	}
	for set := range known {
		if set%pageRows == 0 && ctx.Err() != nil {
			return unused
		}
		_, used, err := t.At(set)
		switch {
		case err != nil:
			report(err)
		case !used:
			unused++
		}
	}
	return unused + numSets - known
}
