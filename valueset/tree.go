package valueset

import (
	"slices"

	"github.com/cidstore/cidstore/internal/order"
)

// How full nodes are. Nodes that are touched together are packed again when one of
// them holds too much or too little; they would be rewritten in any case.
const (
	leafFull   = leafValues * 9 / 10 // values of a leaf that is packed
	leafLeast  = leafValues / 4      // with fewer, it is packed with touched neighbours
	innerFull  = fanOut * 9 / 10
	innerLeast = fanOut / 4

	// A compaction writes every node again below which there are tombstones. So it also
	// packs them, if they are less than three quarters as full as packed ones.
	leafCompact  = leafFull * 3 / 4
	innerCompact = innerFull * 3 / 4
)

// treeEdit applies the edits of one Save to a tree in one descent: every node
// that has edits below it is read once and written once.
type treeEdit struct {
	merger
	w *Writer
}

// save writes the new version of the tree and returns its root and depth.
func (t *treeEdit) save() (root child, depth int, err error) {
	s := t.set
	var list []child
	var spare []uint64 // the number of the old root
	switch {
	case !s.inFile:
		t.leaf(s.baseBytes(), uint64(len(s.live)), uint64(len(s.dead)), t.edits)
		list, err = t.leafTier().pack(t.items, nil, false)
	case s.stored.state.depth == 0:
		list, err = t.leaves([]child{s.stored.root()}, t.edits, true)
	default:
		root, depth = s.stored.root(), int(s.stored.state.depth)
		var changed bool
		list, changed, err = t.children(nil, &root, depth, t.edits, true)
		if err != nil || !changed {
			return root, depth, err
		}
		depth--
		spare = []uint64{root.node}
	}
	for err == nil && len(list) > 1 {
		list, err = t.innerTier().pack(list, spare, false)
		spare = nil
		depth++
	}
	if err != nil {
		return child{}, 0, err
	}
	if err := t.w.dropNodes(spare); err != nil {
		return child{}, 0, err
	}
	return list[0], depth, nil
}

// children appends what the edits make of the children of c, an inner node level
// levels above the leaves, and reports whether they differ. rightmost says that c
// is the last node of its level.
func (t *treeEdit) children(dst []child, c *child, level int, edits []order.Item, rightmost bool) ([]child, bool, error) {
	kids, err := t.set.stored.children(c, level)
	if err != nil {
		return dst, false, err
	}
	start, first, from := len(dst), 0, 0 // the run of touched children begins at first, its edits at from
	at := 0
	for i := 0; i <= len(kids); i++ {
		n := at // edits before this child's end
		if i+1 < len(kids) {
			n = before(edits, kids[i+1].separator)
		} else if i < len(kids) {
			n = len(edits)
		}
		if i < len(kids) && (n > at || t.set.compacted && kids[i].tombs > 0) {
			at = n
			continue
		}
		if first < i {
			dst, err = t.run(dst, kids[first:i], level-1, edits[from:at], rightmost && i == len(kids))
			if err != nil {
				return dst, false, err
			}
		}
		if i < len(kids) {
			dst = append(dst, kids[i])
		}
		first, from = i+1, at
	}
	return dst, !slices.Equal(dst[start:], kids), nil
}

// run appends what replaces nodes that are neighbours and are all touched.
func (t *treeEdit) run(dst, nodes []child, level int, edits []order.Item, rightmost bool) ([]child, error) {
	var list []child
	var err error
	if level == 0 {
		list, err = t.leaves(nodes, edits, rightmost)
	} else {
		list, err = t.inners(nodes, level, edits, rightmost)
	}
	return append(dst, list...), err
}

// leaves is run for leaves.
func (t *treeEdit) leaves(nodes []child, edits []order.Item, rightmost bool) ([]child, error) {
	t.items = t.items[:0]
	ends, changed := make([]int, len(nodes)), make([]bool, len(nodes))
	appending := false
	for i := range nodes {
		c := &nodes[i]
		b, err := t.set.stored.node(c, 0)
		if err != nil {
			return nil, err
		}
		n := len(edits)
		if i+1 < len(nodes) {
			n = before(edits, nodes[i+1].separator)
		} else if rightmost && n > 0 && c.tombs == 0 && c.count > 0 {
			alive, _ := split(b, c.count, 0)
			appending = order.Less(alive.at(alive.len()-1), edits[0].Value)
		}
		changed[i] = t.leaf(b, c.count, c.tombs, edits[:n])
		edits, ends[i] = edits[n:], len(t.items)
	}
	return t.leafTier().replace(nodes, t.items, ends, changed, appending)
}

// inners is run for inner nodes.
func (t *treeEdit) inners(nodes []child, level int, edits []order.Item, rightmost bool) ([]child, error) {
	var kids []child
	ends, changed := make([]int, len(nodes)), make([]bool, len(nodes))
	for i := range nodes {
		n, last := len(edits), i+1 == len(nodes)
		if !last {
			n = before(edits, nodes[i+1].separator)
		}
		var err error
		kids, changed[i], err = t.children(kids, &nodes[i], level, edits[:n], rightmost && last)
		if err != nil {
			return nil, err
		}
		edits, ends[i] = edits[n:], len(kids)
	}
	return t.innerTier().replace(nodes, kids, ends, changed, false)
}

// tier is one kind of node: leaves, of items, or inner nodes, of children.
type tier[T any] struct {
	*treeEdit
	write                      func(number uint64, elements []T) (child, error)
	least, compact, full, most int // elements of a node: compact is least where Set.packs; full, of a packed one
}

func (t *treeEdit) leafTier() tier[item] {
	return tier[item]{t, t.w.writeLeaf, leafLeast, leafCompact, leafFull, leafValues}
}

func (t *treeEdit) innerTier() tier[child] {
	return tier[child]{t, t.w.writeInner, innerLeast, innerCompact, innerFull, fanOut}
}

// replace returns what takes the place of neighbouring nodes, the elements of which now
// end at ends. It writes those that have changed or, if one has too many or too few,
// packs all of them.
func (k tier[T]) replace(nodes []child, elements []T, ends []int, changed []bool, appending bool) ([]child, error) {
	least := k.least
	if k.set.packs {
		least = k.compact
	}
	if !fits(ends, least, k.most) {
		return k.pack(elements, numbers(nodes), appending)
	}
	list := slices.Clone(nodes)
	for i := range list {
		if !changed[i] {
			continue
		}
		var err error
		if list[i], err = k.write(nodes[i].node, elements[start(ends, i):ends[i]]); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// pack writes the elements as new nodes. They take over the numbers of the nodes that they
// replace; the rest of those numbers is not used again.
func (k tier[T]) pack(elements []T, numbers []uint64, appending bool) ([]child, error) {
	ends := pieces(len(elements), k.full, k.most, appending)
	list := make([]child, len(ends))
	for i := range ends {
		var err error
		if list[i], err = k.write(k.w.number(&numbers), elements[start(ends, i):ends[i]]); err != nil {
			return nil, err
		}
	}
	return list, k.w.dropNodes(numbers)
}

// start returns where part i begins, of the parts that end at ends.
func start(ends []int, i int) int {
	if i == 0 {
		return 0
	}
	return ends[i-1]
}

// fits reports whether parts may stay as they are: none is too large or empty, and
// if there are several, none is so small that it should join another.
func fits(ends []int, least, most int) bool {
	if len(ends) == 1 {
		least = 1
	}
	for i := range ends {
		if n := ends[i] - start(ends, i); n < least || n > most {
			return false
		}
	}
	return true
}

// pieces cuts n elements into the fewest parts of up to full, or one of up to most,
// and returns their ends. Parts have equal sizes. With appending, all except the
// last are full, because what comes next will go after them.
func pieces(n, full, most int, appending bool) []int {
	if n == 0 {
		return nil
	}
	if n <= most {
		return []int{n}
	}
	parts := (n + full - 1) / full
	ends := make([]int, parts)
	size, larger := n/parts, n%parts
	end := 0
	for i := range ends {
		switch {
		case appending:
			end = min(end+full, n)
		case i < larger:
			end += size + 1
		default:
			end += size
		}
		ends[i] = end
	}
	return ends
}

func numbers(nodes []child) []uint64 {
	list := make([]uint64, len(nodes))
	for i := range nodes {
		list[i] = nodes[i].node
	}
	return list
}
