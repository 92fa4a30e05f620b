package valueset

import (
	"math"
	"math/bits"
	"sort"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/order"
	"github.com/cidstore/cidstore/keys"
)

var _ [nodeSize]byte = [hdf5io.ShortBytes]byte{} // so that Room.Short counts nodes

const (
	// pageBytes is what a page of states takes in the file, with its checksum.
	pageBytes = pageRows*stateSize + hdf5io.ExtentUnit
	// rowBytes is what the longest row takes.
	rowBytes = maxRow * keys.Size
)

// Demand bounds what one commit places to change sets. If changes of a set are counted in
// several parts, the sum bounds what all of them need together.
type Demand struct {
	bytes   float64 // of rows
	nodes   int64
	sets    float64 // whose states change
	removes bool    // nodes, any number of them
}

// Add counts d too.
func (a *Demand) Add(d Demand) {
	a.bytes, a.nodes, a.sets, a.removes = a.bytes+d.bytes, a.nodes+d.nodes, a.sets+d.sets, a.removes || d.removes
}

// Total returns the bytes of a demand, those of the longest piece, and which chunks are named
// or deleted.
func (d Demand) Total(c Counters) (bytes, piece int64, edits []hdf5io.Edit) {
	if d.sets == 0 {
		return 0, 0, nil
	}
	sets := int64(math.Ceil(d.sets))
	pages := min(sets, int64(c.Sets)/pageRows+sets/pageRows+2)
	edits = []hdf5io.Edit{{N: pages, Of: []string{statePath}}, {N: 2 * sets, Of: Paths()[1:]}, {N: d.nodes, Any: d.removes, Of: []string{nodesPath}}}
	return int64(d.bytes) + d.nodes*nodeSize + pages*pageBytes, rowBytes, edits
}

// What a set takes beyond its values, in bytes. Where a row of c values is counted for several
// parts of j values each, every part counts 24 (c + j) bytes, because classes are 1.5 apart.
// A tree that all of them make takes (c + all j) / leafFull + 2 nodes at most: 6 bytes a value
// less, and up to 8 KiB more. With more than maxRow values there are 17 parts, or there is
// one with more than someValues.
const (
	perSet     = 192
	someValues = 64
	perLarge   = 2 << 10
)

// row is what a row of n values takes, of which some may be counted elsewhere too.
func row(n int64) (bytes float64, nodes int64) {
	if n > maxRow { // leaves, inner nodes, and what is not full on each level
		return 0, n/leafFull + n/leafFull/(innerFull-1) + 4
	}
	if bytes = float64(n)*keys.Size*3/2 + perSet; n >= someValues {
		bytes += perLarge
	}
	return bytes, 0
}

// NewSet returns the demand of a key that has n values and becomes a set when it has more
// than Inline, if it gets as many as ops more.
func NewSet(n, ops int64) (d Demand) {
	d.sets = min(1, float64(ops)/float64(max(Inline+1-n, 1)))
	d.bytes, d.nodes = row(n + ops)
	if n+ops <= Inline {
		d.bytes *= d.sets
	}
	return d
}

// Demand returns the demand of operations on values, which ascend, some of which are deletes.
// With all, the set is deleted too. It reads the inner nodes above the values.
func (s Stored) Demand(values []keys.E, deletes int64, all bool) (d Demand, err error) {
	count, dead, ops := int64(s.Count()), int64(s.Tombstones()), int64(len(values))
	d.sets = 1
	switch {
	case all:
		d.bytes, d.nodes = row(ops)
		d.removes = s.isTree()
		return d, nil
	case !s.isTree():
		d.bytes, d.nodes = row(count + dead + ops)
		return d, nil
	case count+dead <= maxRow: // it becomes a row when it is counted
		d.bytes, d.removes = rowBytes, true
	case deletes > 0: // it may become one
		d.bytes, d.removes = min(1, float64(deletes)/float64(max(count-maxRow, 1)))*rowBytes, true
	}
	d.bytes += float64(min(ops, maxRow)) * keys.Size * 3 / 2 // if another part deletes the set
	root, full := s.root(), int64(leafFull)
	if s.state.depth > 0 {
		full = innerFull
	}
	n, nodes, err := s.rewritten(&root, int(s.state.depth), values)
	d.nodes = nodes + 1
	if more := n / full; more > 0 {
		d.nodes += more + 1
	}
	return d, err
}

// rewritten returns how many elements node c has at most after operations on values, and how
// many nodes are written below it.
func (s Stored) rewritten(c *child, level int, values []keys.E) (after, nodes int64, err error) {
	if level == 0 {
		return int64(c.count+c.tombs) + int64(len(values)), 0, nil
	}
	kids, err := s.children(c, level)
	if err != nil {
		return 0, 0, err
	}
	least, full, most := int64(leafLeast), int64(leafFull), int64(leafValues)
	if level > 1 {
		least, full, most = innerLeast, innerFull, fanOut
	}
	touched, packs, over := int64(0), int64(0), int64(0) // packs: that are packed again; over: elements above full
	for i := range kids {
		n := len(values)
		if i+1 < len(kids) {
			n = sort.Search(n, func(k int) bool { return !order.Less(values[k], kids[i+1].separator) })
		}
		if n == 0 {
			continue
		}
		is, below, err := s.rewritten(&kids[i], level-1, values[:n])
		if err != nil {
			return 0, 0, err
		}
		touched, nodes, values = touched+1, nodes+below, values[n:]
		if over += max(is-full, 0); level > 1 || int64(kids[i].count+kids[i].tombs) < least || is > most {
			packs++ // an inner node may have lost children
		}
	}
	after = int64(len(kids))
	if packs > 0 {
		packs += over / full
	}
	return after + packs, nodes + touched + packs, nil
}

// depth bounds how deep a tree of the store is, or becomes by one operation. A root is divided
// when it has more than fanOut children. Its parts have half of that, and numbers of nodes are
// not used again, so that all of these children still count.
func (c Counters) depth() int { return 1 + (bits.Len64(c.Nodes)+3)/5 } // 5: log2(fanOut / 2)

// Least returns the demand of changing one value of any set.
func (c Counters) Least() (d Demand) {
	if c.Sets == c.Unused {
		return d
	}
	if c.Nodes > 0 {
		d.nodes = int64(2*c.depth() + 1)
	}
	d.bytes, d.sets = float64(max(rowBytes-d.nodes*nodeSize, 0)), 1 // it is a row or a tree
	return d
}
