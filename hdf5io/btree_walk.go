package hdf5io

import "fmt"

// lookupIndex finds the record of the chunk at coord. It reads one node of each
// level.
func lookupIndex(src nodeSource, shape indexShape, head indexHeader, coord [4]uint64) (chunkRecord, bool, error) {
	g, err := shape.open(head)
	if err != nil || head.root == undefinedAddress {
		return chunkRecord{}, false, err
	}
	c := head.rootChild()
	for level := head.depth; ; level-- {
		n, err := g.readNode(src, c, level)
		if err != nil {
			return chunkRecord{}, false, err
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
			return chunkRecord{}, false, nil
		}
		c = n.child(i)
	}
}

// walkIndex calls visit for every record that is not before from, in order, until
// it returns false or an error. It calls visitNode, if not nil, for every node
// before its records. Damage ends the walk with a corrupt error that names the
// node.
func walkIndex(src nodeSource, shape indexShape, head indexHeader, from [4]uint64, visitNode func(addr uint64, size int) error, visit func(chunkRecord) (bool, error)) error {
	w := indexWalk{src: src, from: from, visitNode: visitNode, visit: visit, defect: func(err error) error { return err }}
	return w.run(shape, head)
}

// checkIndex reads the complete index and calls defect for everything that is wrong
// with it: checksums, order, counts at each level, totals, and chunks outside
// bounds, which are numbers of chunks along each dimension of the rank. visitNode
// and visit, which may be nil, are called for every sound node and record that is
// not before from, until visit returns false. What lies below a damaged node is not
// seen.
func checkIndex(src nodeSource, shape indexShape, head indexHeader, from, bounds [4]uint64, visitNode func(addr uint64, size int), visit func(chunkRecord) bool, defect func(error)) {
	w := indexWalk{src: src, from: from}
	w.defect = func(err error) error {
		defect(err)
		return nil
	}
	w.visitNode = func(addr uint64, size int) error {
		if visitNode != nil {
			visitNode(addr, size)
		}
		return nil
	}
	w.visit = func(r chunkRecord) (bool, error) {
		for i := range shape.rank {
			if r.coord[i] >= bounds[i] {
				defect(nodeError(w.node, fmt.Errorf("chunk %v lies outside of %v", w.g.place(r.coord), w.g.place(bounds))))
				return true, nil
			}
		}
		return visit == nil || visit(r), nil
	}
	if err := w.run(shape, head); err != nil {
		defect(err)
	}
}

// indexWalk visits an index in order. Every record must come after the one before
// it. As no node is empty, this also ends a walk over nodes that point to each
// other in a circle.
type indexWalk struct {
	g         *geometry
	src       nodeSource
	from      [4]uint64
	visitNode func(addr uint64, size int) error
	visit     func(chunkRecord) (bool, error)
	// defect is called with what is wrong with a node. If it returns an error, the
	// walk ends with that; if nil, the walk goes on after that node.
	defect func(error) error

	node    uint64 // address of the node being visited
	last    [4]uint64
	started bool
}

func (w *indexWalk) run(shape indexShape, head indexHeader) (err error) {
	if w.g, err = shape.open(head); err != nil || head.root == undefinedAddress {
		return err
	}
	_, err = w.subtree(head.rootChild(), head.depth)
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
		if err := w.visitNode(c.address, int(w.g.nodeSize)); err != nil {
			return false, err
		}
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
		if err == nil && w.started && compareCoord(w.last, r.coord) >= 0 {
			err = fmt.Errorf("record %d: chunk %v after %v", i, w.g.place(r.coord), w.g.place(w.last))
		}
		if err != nil {
			return true, w.defect(nodeError(c.address, err))
		}
		w.last, w.started = r.coord, true
		if more, err := w.visit(r); !more || err != nil {
			return false, err
		}
	}
	return true, nil
}
