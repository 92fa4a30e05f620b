package hdf5io

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// An update opens the nodes on the paths to its edits, changes them in memory
// and writes each once, to new space; all others are shared with the old tree.
//
//   - Down: edits are divided among the children of a node. An edit that
//     replaces a separator does so in place. A separator to be deleted is
//     pushed down: the two children beside it are joined around it, and its
//     edit goes on into the joined child, until it is in a leaf.
//   - Up: open children that stand side by side are joined, and divided again
//     into nodes of good size (settle). One that has become too small takes a
//     neighbour in. A node thus returns to its parent with any number of
//     records, and the parent settles it in turn.
//   - Top: a root that holds too much gets a root above it, one that holds
//     nothing gives way to its only child.

// chunkEdit sets the record of one chunk, or deletes it.
type chunkEdit struct {
	Chunk
	delete bool
}

// openNode is a node in memory. Until its parent settles it, it may hold any
// number of records.
type openNode struct {
	level    int
	records  []Chunk
	children []subtree // one more than records; none in a leaf
	span     span
	// ragged: children may be too small, because there was no neighbour to
	// take in when the node was settled.
	ragged bool
}

// subtree is a child of an open node: open itself, or untouched in the old tree.
type subtree struct {
	child
	node *openNode // nil: untouched
}

func (s *subtree) records() int {
	if s.node != nil {
		return len(s.node.records)
	}
	return s.count
}

// span is where the records of a node must lie: between the separators beside
// it.
type span struct {
	low, high       [4]uint64
	hasLow, hasHigh bool
}

// between is the span of child i between separators.
func (s span) between(separators []Chunk, i int) span {
	if i > 0 {
		s.low, s.hasLow = separators[i-1].Coord, true
	}
	if i < len(separators) {
		s.high, s.hasHigh = separators[i].Coord, true
	}
	return s
}

// update applies edits, which ascend by coord, each coord once, and returns the head
// of the new tree; t stays as it is. To delete what is absent changes nothing. Nodes
// at the address from and after it are written again. replaced is called for each
// record of t that was replaced or deleted. After an error the sink holds parts of a
// tree that nothing names.
func (t indexTree) update(sink nodeSink, edits []chunkEdit, from uint64, replaced func(Chunk)) (indexHeader, error) {
	head := t.head
	g, err := t.open()
	if err != nil {
		return indexHeader{}, err
	}
	if err := g.checkEdits(edits); err != nil {
		return indexHeader{}, err
	}
	u := updater{g: g, src: t.src, sink: sink, from: from, replaced: replaced}
	// The root becomes the only child of a node that holds nothing, so that it too
	// has a parent that settles it.
	top := &openNode{level: head.depth + 1, children: []subtree{{child: head.rootChild()}}}
	if head.root == undefinedAddress {
		top.children[0].node = &openNode{}
	}
	changed, err := u.apply(top, edits, true)
	if err != nil || !changed {
		return head, err
	}
	for len(top.records) > 0 {
		if top.level > maxIndexDepth {
			return indexHeader{}, fmt.Errorf("index deeper than %d levels", maxIndexDepth)
		}
		if len(top.records) <= g.limit(top.level) {
			break
		}
		top = &openNode{level: top.level + 1, children: []subtree{{node: top}}}
		if err := u.settle(top, true); err != nil {
			return indexHeader{}, err
		}
	}
	return u.finish(top)
}

// checkEdits reports what is wrong with edits, which is a mistake of the caller.
func (g *geometry) checkEdits(edits []chunkEdit) error {
	for i := range edits {
		e := &edits[i]
		r := e.Chunk
		if e.delete {
			r.Address, r.Size = superblockSize, g.storedSize()
		}
		if err := g.checkRecord(r); err != nil {
			return fmt.Errorf("index edit %d: %w", i, err)
		}
		if i > 0 && compareCoord(edits[i-1].Coord, e.Coord) >= 0 {
			return fmt.Errorf("index edit %d: chunk %v does not come after %v", i, e.Coord, edits[i-1].Coord)
		}
	}
	return nil
}

type updater struct {
	g        *geometry
	src      nodeSource
	sink     nodeSink
	from     uint64 // nodes at this address and after it are written again
	replaced func(Chunk)
}

// read opens the old node of c, and verifies it.
func (u *updater) read(c child, level int, s span) (*openNode, error) {
	b, err := u.g.readNode(u.src, c, level)
	if err != nil {
		return nil, err
	}
	n := &openNode{level: level, records: make([]Chunk, b.count), span: s}
	last, hasLast := s.low, s.hasLow
	for i := range n.records {
		r, err := b.record(i)
		if err == nil && hasLast && compareCoord(last, r.Coord) >= 0 {
			err = fmt.Errorf("record %d: chunk %v after %v", i, u.g.place(r.Coord), u.g.place(last))
		}
		if err != nil {
			return nil, nodeError(c.address, err)
		}
		n.records[i] = r
		last, hasLast = r.Coord, true
	}
	if s.hasHigh && compareCoord(last, s.high) >= 0 {
		return nil, nodeError(c.address, fmt.Errorf("chunk %v, the parent's next is %v", u.g.place(last), u.g.place(s.high)))
	}
	if level > 0 {
		n.children = make([]subtree, b.count+1)
		for i := range n.children {
			n.children[i].child = b.child(i)
		}
	}
	return n, nil
}

// take opens a child that will change in the new tree.
func (u *updater) take(c *subtree, level int, s span) (*openNode, error) {
	if c.node != nil {
		return c.node, nil
	}
	n, err := u.read(c.child, level, s)
	if err != nil {
		return nil, err
	}
	u.sink.free(c.address, int(u.g.nodeSize))
	return n, nil
}

// apply makes the edits in n and below, and settles its children. edge says that n
// is the last node of its level. changed reports whether n has to be written.
func (u *updater) apply(n *openNode, edits []chunkEdit, edge bool) (changed bool, err error) {
	if n.level == 0 {
		return u.applyToLeaf(n, edits), nil
	}
	changed, err = u.pushDown(n, edits)
	if err != nil {
		return false, err
	}
	for i := range n.children {
		mine := len(edits)
		replace := false
		if i < len(n.records) {
			mine, replace = searchEdits(edits, n.records[i].Coord)
		}
		if mine > 0 || u.moves(n, i) {
			c, err := u.applyToChild(n, i, edits[:mine], edge)
			if err != nil {
				return false, err
			}
			changed = changed || c
		}
		edits = edits[mine:]
		if replace {
			u.replaced(n.records[i])
			n.records[i] = edits[0].Chunk
			edits = edits[1:]
			changed = true
		}
	}
	if !changed {
		return false, nil
	}
	return true, u.settle(n, edge)
}

// pushDown joins the children beside each separator that the edits delete.
func (u *updater) pushDown(n *openNode, edits []chunkEdit) (changed bool, err error) {
	kept := 0 // number of separators that stay
	for i, r := range n.records {
		at, found := searchEdits(edits, r.Coord)
		if !found || !edits[at].delete {
			n.records[kept] = r
			kept++
			n.children[kept] = n.children[i+1]
			continue
		}
		changed = true
		left := n.span.between(n.records[:kept], kept).between(n.records[i:], 0)
		right := n.span.between(n.records, i+1)
		a, err := u.take(&n.children[kept], n.level-1, left)
		if err != nil {
			return false, err
		}
		b, err := u.take(&n.children[i+1], n.level-1, right)
		if err != nil {
			return false, err
		}
		n.children[kept] = subtree{node: join(a, r, b)}
	}
	n.records, n.children = n.records[:kept], n.children[:kept+1]
	return changed, nil
}

// searchEdits returns how many edits come before coord, and whether the next one is
// for coord.
func searchEdits(edits []chunkEdit, coord [4]uint64) (int, bool) {
	return slices.BinarySearchFunc(edits, coord, func(e chunkEdit, coord [4]uint64) int { return compareCoord(e.Coord, coord) })
}

// applyToChild makes the edits in child i. If nothing comes of them, the child
// stays shared.
func (u *updater) applyToChild(n *openNode, i int, edits []chunkEdit, edge bool) (changed bool, err error) {
	c := &n.children[i]
	node := c.node
	if node == nil {
		if node, err = u.read(c.child, n.level-1, n.span.between(n.records, i)); err != nil {
			return false, err
		}
	}
	changed, err = u.apply(node, edits, edge && i == len(n.records))
	changed = changed || c.node == nil && c.address >= u.from
	if err != nil || !changed {
		return false, err
	}
	if c.node == nil {
		u.sink.free(c.address, int(u.g.nodeSize))
		c.node = node
	}
	return true, nil
}

// moves reports whether child i, though it has no edit, has to be written again, or
// may have nodes below it that must be.
func (u *updater) moves(n *openNode, i int) bool {
	c := &n.children[i]
	return c.node == nil && u.from != moveNothing && (n.level > 1 || c.address >= u.from)
}

func (u *updater) applyToLeaf(n *openNode, edits []chunkEdit) (changed bool) {
	merged := make([]Chunk, 0, len(n.records)+len(edits))
	old := n.records
	for i := range edits {
		e := &edits[i]
		before, found := slices.BinarySearchFunc(old, e.Coord, func(r Chunk, coord [4]uint64) int { return compareCoord(r.Coord, coord) })
		merged = append(merged, old[:before]...)
		old = old[before:]
		if found {
			u.replaced(old[0])
			old = old[1:]
		}
		if !e.delete {
			merged = append(merged, e.Chunk)
		}
		changed = changed || found || !e.delete
	}
	n.records = append(merged, old...)
	return changed
}

// join appends b to a, with the separator between them; a is used up.
func join(a *openNode, separator Chunk, b *openNode) *openNode {
	// A node without a record has a child that is too small and had no neighbour.
	ragged := a.ragged || b.ragged || a.level > 0 && (len(a.records) == 0 || len(b.records) == 0)
	a.records = append(append(a.records, separator), b.records...)
	a.children = append(a.children, b.children...)
	a.span.high, a.span.hasHigh = b.span.high, b.span.hasHigh
	a.ragged = ragged
	return a
}

// settle gives every open child of n a good number of records, between the least
// and the limit of its level. A child can remain too small only if it is the only
// one of n; n then has no record, and is ragged.
func (u *updater) settle(n *openNode, edge bool) error {
	old := childQueue{children: n.children, separators: n.records}
	n.children = make([]subtree, 0, len(old.children))
	n.records = make([]Chunk, 0, len(old.separators))
	n.ragged = false
	for old.next < len(old.children) {
		if old.next > 0 {
			n.records = append(n.records, old.separators[old.next-1])
		}
		if old.children[old.next].node == nil {
			n.children = append(n.children, old.children[old.next])
			old.next++
			continue
		}
		joined, err := u.gather(n, &old, edge)
		if err != nil {
			return err
		}
		u.divide(n, joined, edge && old.next == len(old.children))
	}
	return nil
}

// childQueue holds the children of a node that is being settled; those before next
// are done.
type childQueue struct {
	children   []subtree
	separators []Chunk
	next       int
}

// gather joins the run of open children at the head of old. If they hold too
// little, it takes neighbours in: the next one of old, or the last one that n
// already has.
func (u *updater) gather(n *openNode, old *childQueue, edge bool) (*openNode, error) {
	level := n.level - 1
	run := old.children[old.next].node
	old.next++
	for {
		for old.next < len(old.children) && old.children[old.next].node != nil {
			run = join(run, old.separators[old.next-1], old.children[old.next].node)
			old.next++
		}
		last := edge && old.next == len(old.children)
		if run.ragged {
			if err := u.settle(run, last); err != nil {
				return nil, err
			}
		}
		// The last node of a level may be small: appends in ascending order fill
		// it, and leave full nodes before it.
		least := u.g.least(level)
		if last {
			least = 1
		}
		before, after := len(n.children)-1, old.next
		hasBefore, hasAfter := before >= 0, after < len(old.children)
		switch {
		case len(run.records) >= least || !hasBefore && !hasAfter:
			return run, nil
		case !hasBefore || hasAfter && old.children[after].records() < n.children[before].records():
			node, err := u.take(&old.children[after], level, n.span.between(old.separators, after))
			if err != nil {
				return nil, err
			}
			old.children[after].node = node
		default:
			node, err := u.take(&n.children[before], level, n.span.between(n.records, before))
			if err != nil {
				return nil, err
			}
			run = join(node, n.records[before], run)
			n.children, n.records = n.children[:before], n.records[:before]
		}
	}
}

// divide appends run to the children of n, as one node or several. They share the
// records evenly; at the edge, where appends go, all except the last are full.
func (u *updater) divide(n *openNode, run *openNode, edge bool) {
	// Each piece except the last gives the separator after it to n. With that one
	// counted for each piece, the records divide without a remainder.
	shares, limit := len(run.records)+1, u.g.limit(run.level)+1
	pieces := (shares + limit - 1) / limit
	if pieces == 1 {
		n.children = append(n.children, subtree{node: run})
		return
	}
	start := 0
	for i := range pieces {
		share := shares / pieces
		if i < shares%pieces {
			share++
		}
		if edge {
			share = min(limit, shares-start)
			if i == pieces-2 && shares-start == limit+1 {
				share-- // the last piece has a record
			}
		}
		end := start + share - 1 // separator after the piece
		piece := &openNode{level: run.level, records: slices.Clip(run.records[start:end])}
		piece.span = run.span.between(run.records[:start], start).between(run.records[end:], 0)
		if run.level > 0 {
			piece.children = slices.Clip(run.children[start : end+1])
		}
		if end < len(run.records) {
			n.records = append(n.records, run.records[end])
		}
		n.children = append(n.children, subtree{node: piece})
		start = end + 1
	}
}

// finish drops roots without a record, writes the open nodes and returns the
// head of the new tree.
func (u *updater) finish(top *openNode) (indexHeader, error) {
	root, level := subtree{node: top}, top.level
	for level > 0 && root.node != nil && len(root.node.records) == 0 {
		root = root.node.children[0]
		level--
	}
	if root.node != nil && len(root.node.records) == 0 {
		return emptyIndex(), nil
	}
	c, err := u.write(root)
	if err != nil {
		return indexHeader{}, err
	}
	return indexHeader{root: c.address, depth: level, rootRecords: c.count, total: c.total}, nil
}

// write stores an open node, its children first, and returns the pointer to it.
func (u *updater) write(s subtree) (child, error) {
	n := s.node
	if n == nil {
		return s.child, nil
	}
	c := child{count: len(n.records), total: uint64(len(n.records))}
	for i := range n.children {
		below, err := u.write(n.children[i])
		if err != nil {
			return child{}, err
		}
		n.children[i] = subtree{child: below}
		c.total += below.total
	}
	var err error
	if c.address, err = u.sink.alloc(int(u.g.nodeSize)); err != nil {
		return child{}, err
	}
	if err := u.g.checkChild(c, n.level); err != nil {
		return child{}, fmt.Errorf("new index node: %w", err)
	}
	return c, u.sink.write(c.address, u.g.appendNode(make([]byte, 0, u.g.nodeSize), n))
}

// appendNode encodes a node that has no open child, with zeros after its checksum.
func (g *geometry) appendNode(dst []byte, n *openNode) []byte {
	start, signature := len(dst), leafSignature
	if n.level > 0 {
		signature = internalSignature
	}
	dst = append(append(dst, signature...), 0, g.recordType())
	for i := range n.records {
		dst = g.appendRecord(dst, &n.records[i])
	}
	for i := range n.children {
		c := &n.children[i]
		dst = binary.LittleEndian.AppendUint64(dst, c.address)
		dst = appendUint(dst, uint64(c.count), g.countWidth)
		dst = appendUint(dst, c.total, g.levels[n.level-1].totalWidth)
	}
	dst = sealed(dst, start)
	return append(dst, make([]byte, start+int(g.nodeSize)-len(dst))...)
}
