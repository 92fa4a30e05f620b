package valueset

import (
	"math/bits"
	"sort"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/order"
	"github.com/cidstore/cidstore/keys"
)

var _ [nodeSize]byte = [hdf5io.ShortBytes]byte{} // so that Room.Short counts nodes

// pageBytes is what a page of states takes in the file, with its checksum.
const pageBytes = pageRows*stateSize + hdf5io.ExtentUnit

// Growth returns bounds of what n operations on the keys of a store add to its sets: bytes,
// and nodes, which are not among the bytes. touched of the keys have a set, and promoted get
// one. values is how many values all sets have, tombstones included. The caller adds 24 bytes
// for each operation.
//
//   - A row of c values and j operations becomes one of at most 1.5 (c + j) values, because
//     classes are that far apart. If it has more than maxRow then, it becomes leaves that are
//     nine tenths full, one that is not, and a root: see becomesTree.
//   - A leaf that is full is divided. An operation divides one; all of them no more than there
//     would be if what there is then were packed.
//   - The same holds for inner nodes, level by level.
func (c Counters) Growth(n, touched, promoted, values int64) (bytes, nodes int64) {
	touched = min(touched, int64(c.Sets-c.Unused))
	if touched+promoted == 0 {
		return 0, 0
	}
	trees := min(touched+promoted, (values+n)/(maxRow+1))
	if c.Nodes > 0 {
		leaves, depth := min(n, (values+n)/leafFull), int64(c.depth())
		nodes = leaves + min(n*depth, (int64(c.Nodes)+leaves)/(innerFull-1)+depth)
	}
	return min(values, touched*maxRow)*keys.Size/2 + touched*hdf5io.ExtentUnit + trees*becomesTree +
		promoted*(int64(classes[0])*keys.Size+hdf5io.ExtentUnit) +
		c.Names(touched+promoted, nodes+trees*(maxRow/leafFull+3)+n/leafFull), nodes
}

// Names returns a bound of the bytes by which a number of sets, which may be new, and of new
// nodes make the states and the indexes longer.
func (c Counters) Names(sets, nodes int64) int64 {
	pages := sets/pageRows + 2
	return pages*pageBytes + hdf5io.IndexGrowth(pages, int64(c.Sets)/pageRows) + classCount*hdf5io.IndexGrowth(1, 0) +
		hdf5io.IndexGrowth(sets, int64(c.Sets)) + hdf5io.IndexGrowth(nodes, int64(c.Nodes))
}

// becomesTree is what a row takes that has become a tree, its root and a leaf that is not
// packed among it, beyond half of the row again and what is left to the caller.
const becomesTree = (maxRow+leafFull)*nodeSize/leafFull + nodeSize - maxRow*keys.Size*3/2

// depth bounds how deep a tree of the store is, or becomes by one operation. A root is divided
// when it has more than fanOut children. Its parts have half of that, and numbers of nodes are
// not used again, so that all of these children still count.
func (c Counters) depth() int { return 1 + (bits.Len64(c.Nodes)+3)/5 } // 5: log2(fanOut / 2)

// Step returns bounds of what is placed to change one value of one set: of all together and
// of the longest piece, in bytes. edits says how many chunks of which datasets that are; the
// bytes that name these are not counted.
func (c Counters) Step() (bytes, piece int64, edits hdf5io.Edits) {
	if c.Sets == c.Unused {
		return 0, 0, hdf5io.Edits{}
	}
	piece = maxRow * keys.Size
	bytes = piece
	edits = hdf5io.Edits{statePath: 1, classPath(classes[classCount-1]): 1, classPath(classes[classCount-2]): 1}
	if c.Nodes > 0 {
		path := 2*c.depth() + 1
		bytes, edits[nodesPath] = max(bytes, int64(path)*nodeSize), path
	}
	return bytes + pageBytes, piece, edits
}

// Needs returns bounds of what a set of n values takes that has just become one, without what
// names it: the bytes of a row, or nodes.
func Needs(n int64) (bytes, nodes int64) {
	if n <= maxRow {
		return int64(classes[classOf(int(n))])*keys.Size + hdf5io.ExtentUnit, 0
	}
	leaves := n/leafFull + 1
	nodes = leaves + leaves/(innerFull-1) + 2
	return 0, nodes
}

// Added returns bounds of what operations on values, which ascend, add to the set, without
// what names it: the bytes of a row, which may be negative, and nodes. It reads the inner
// nodes above the values.
func (s Stored) Added(values []keys.E) (bytes, nodes int64, err error) {
	if !s.isTree() {
		bytes, nodes = Needs(int64(s.Count()+s.Tombstones()) + int64(len(values)))
		return bytes - int64(s.state.class)*keys.Size, nodes, nil
	}
	root, full := s.root(), int64(leafFull)
	if s.state.depth > 0 {
		full = innerFull
	}
	_, n, nodes, err := s.added(&root, int(s.state.depth), values)
	if more := n / full; more > 0 {
		nodes += more + 1
	}
	return 0, nodes, err
}

// added returns how many elements node c has before operations on values, how many at most
// after them, and how many nodes are added below it.
func (s Stored) added(c *child, level int, values []keys.E) (before, after, nodes int64, err error) {
	if level == 0 {
		n := int64(c.count + c.tombs)
		return n, n + int64(len(values)), 0, nil
	}
	kids, err := s.children(c, level)
	if err != nil {
		return 0, 0, 0, err
	}
	least, full, most := int64(leafLeast), int64(leafFull), int64(leafValues)
	if level > 1 {
		least, full, most = innerLeast, innerFull, fanOut
	}
	packs, over := int64(0), int64(0) // children that are packed again; elements above full in the touched ones
	for i := range kids {
		n := len(values)
		if i+1 < len(kids) {
			n = sort.Search(n, func(k int) bool { return !order.Less(values[k], kids[i+1].separator) })
		}
		if n == 0 {
			continue
		}
		was, is, below, err := s.added(&kids[i], level-1, values[:n])
		if err != nil {
			return 0, 0, 0, err
		}
		if was < least || is > most {
			packs++
		}
		nodes, over, values = nodes+below, over+max(is-full, 0), values[n:]
	}
	before = int64(len(kids))
	if packs == 0 {
		return before, before, nodes, nil
	}
	packs += over / full
	return before, before + packs, nodes + packs, nil
}
