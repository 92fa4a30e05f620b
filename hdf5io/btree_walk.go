package hdf5io

import "fmt"

// lookup finds the record of the chunk at coord. It reads one node of each level.
func (t indexTree) lookup(coord [4]uint64) (Chunk, bool, error) {
	g, err := t.open()
	if err != nil || t.head.root == undefinedAddress {
		return Chunk{}, false, err
	}
	c := t.head.rootChild()
	for level := t.head.depth; ; level-- {
		n, err := g.readNode(t.src, c, level)
		if err != nil {
			return Chunk{}, false, err
		}
		i, found := n.search(coord)
		if found {
			r, err := n.record(i)
			if err != nil {
				err = nodeError(c.address, err)
			}
			return r, err == nil, err
		}
		if level == 0 {
			return Chunk{}, false, nil
		}
		c = n.child(i)
	}
}

// walk calls visit for every record that is not before from, in order, until it
// returns false or an error. It calls visitNode, if not nil, for every node before
// its records. Damage ends the walk with a corrupt error that names the node.
func (t indexTree) walk(from [4]uint64, visitNode func(addr uint64, size int), visit func(Chunk) (bool, error)) error {
	w := indexWalk{indexTree: t, from: from, visitNode: visitNode, visit: visit, defect: func(err error) error { return err }}
	return w.run()
}

// check reads the tree from the record of from on and calls defect for everything
// that is wrong with it: checksums, order, counts at each level, totals, and chunks
// outside bounds, which has the number of chunks along each dimension. It calls
// visitNode and visit, which may be nil, for every sound node and record, until
// visit returns false. It does not see what lies below a damaged node.
func (t indexTree) check(from, bounds [4]uint64, visitNode func(addr uint64, size int), visit func(Chunk) bool, defect func(error)) {
	w := indexWalk{indexTree: t, from: from, visitNode: visitNode}
	w.defect = func(err error) error {
		defect(err)
		return nil
	}
	w.visit = func(r Chunk) (bool, error) {
		for i := range t.shape.rank {
			if r.Coord[i] >= bounds[i] {
				defect(nodeError(w.node, fmt.Errorf("chunk %v lies outside of %v", w.g.place(r.Coord), w.g.place(bounds))))
				return true, nil
			}
		}
		return visit == nil || visit(r), nil
	}
	if err := w.run(); err != nil {
		defect(err)
	}
}

// indexWalk visits an index in order. Every record must come after the one before
// it. As no node is empty, this also ends a walk over nodes that point to each
// other in a circle.
type indexWalk struct {
	indexTree
	g         *geometry
	from      [4]uint64
	visitNode func(addr uint64, size int)
	visit     func(Chunk) (bool, error)
	// defect is called with what is wrong with a node. If it returns an error, the
	// walk ends with that; if nil, the walk goes on after that node.
	defect func(error) error

	node    uint64 // address of the node being visited
	last    [4]uint64
	started bool
}

func (w *indexWalk) run() (err error) {
	if w.g, err = w.open(); err != nil || w.head.root == undefinedAddress {
		return err
	}
	_, err = w.subtree(w.head.rootChild(), w.head.depth)
	return err
}

// subtree visits c and what lies below it; more reports whether to go on. Its
// depth of recursion is the level, at most maxIndexDepth.
func (w *indexWalk) subtree(c child, level int) (more bool, err error) {
	n, err := w.g.readNode(w.src, c, level)
	if err != nil {
		return true, w.defect(err)
	}
	if w.visitNode != nil {
		w.visitNode(c.address, int(w.g.nodeSize))
	}
	first, found := n.search(w.from)
	for i := first; i <= n.count; i++ {
		if level > 0 && !(found && i == first) { // nothing before from is wanted
			if more, err := w.subtree(n.child(i), level-1); !more || err != nil {
				return false, err
			}
		}
		if i == n.count {
			break
		}
		w.node = c.address
		r, err := n.record(i)
		if err == nil && w.started && compareCoord(w.last, r.Coord) >= 0 {
			err = fmt.Errorf("record %d: chunk %v after %v", i, w.g.place(r.Coord), w.g.place(w.last))
		}
		if err != nil {
			return true, w.defect(nodeError(c.address, err))
		}
		w.last, w.started = r.Coord, true
		if more, err := w.visit(r); !more || err != nil {
			return false, err
		}
	}
	return true, nil
}
