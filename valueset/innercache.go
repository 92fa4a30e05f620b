package valueset

import (
	"math"
	"sync/atomic"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/keys"
)

// innerCache keeps copies of inner nodes that were verified, for Has. A tree of 10^7
// values has three levels above its leaves, and to verify a node takes as long as all the
// rest of a level. A copy in memory is verified for good. It is found by all that the
// parent says about the node, its checksum included, so it serves the Tables of later
// Views too, as long as the node is not written again. Safe for concurrent use.
type innerCache struct {
	slots [cachedNodes]atomic.Pointer[cachedNode]
}

const (
	// cachedNodes copies take 5 MB, and are the inner nodes of a tree of 10^7 values.
	cachedNodes = 1 << cachedBits
	cachedBits  = 10
	// patience is how often other nodes must be wanted in the place of a node that is not
	// used in that time, before it makes way: its root may be gone. If the trees are too
	// large for the cache, patience keeps most lookups from making a copy.
	patience = 32
)

type cachedNode struct {
	child
	passed atomic.Uint32 // how often another node was wanted since this one was used
	used   uint32        // children
	fences [fanOut / fence]uint64
	highs  [fanOut]uint64 // High of the separators, then the largest numbers
	bytes  [nodeSize]byte
}

// fence is how many numbers a line of the processor's cache has. Each of the fences is the
// first of so many highs. The separators themselves lie in a line each, and a binary search
// would wait for six of these.
const fence = 8

// find returns the child whose range holds v, as inner.find does.
func (n *cachedNode) find(v keys.E) child {
	if group := upTo(&n.fences, v.High); group > 0 {
		first := (group - 1) * fence
		i := first + upTo((*[fence]uint64)(n.highs[first:]), v.High) - 1
		if n.highs[i] != v.High {
			return inner(n.bytes[:]).child(i)
		}
	}
	return inner(n.bytes[:]).child(inner(n.bytes[:]).find(v, int(n.used)))
}

// upTo is how many of the numbers, which ascend, are not above h.
func upTo(numbers *[fence]uint64, h uint64) (n int) {
	for _, number := range numbers {
		if number <= h {
			n++
		}
	}
	return n
}

// places returns the two slots where the node at an address may be. If there were one, two
// of five nodes would find it taken when the cache is three quarters full.
func (c *innerCache) places(at uint64) [2]*atomic.Pointer[cachedNode] {
	i := at / hdf5io.ExtentUnit * 0x9e3779b97f4a7c15 >> (64 - cachedBits)
	return [2]*atomic.Pointer[cachedNode]{&c.slots[i], &c.slots[i^1]}
}

// find returns a node, or nil.
func (c *innerCache) find(k *child) *cachedNode {
	for _, slot := range c.places(k.at) {
		if n := slot.Load(); n != nil && n.child == *k {
			if n.passed.Load() > 0 {
				n.passed.Store(0)
			}
			return n
		}
	}
	return nil
}

// offer keeps a copy of the node b, which find has not found, and returns it, if one of its
// places is free and the copy is good. It verifies the copy, because b may be in the file,
// and change.
func (c *innerCache) offer(k *child, b []byte, seed seed) *cachedNode {
	var free *atomic.Pointer[cachedNode]
	for _, slot := range c.places(k.at) {
		if old := slot.Load(); old == nil || old.passed.Add(1) >= patience {
			free = slot
		}
	}
	if free == nil {
		return nil
	}
	n := &cachedNode{child: *k}
	copy(n.bytes[:], b)
	n.used = uint32(inner(n.bytes[:]).len())
	if n.used == 0 || seed.checksum(k.node, k.commit, n.bytes[:]) != k.crc {
		return nil
	}
	for i := range n.highs {
		n.highs[i] = math.MaxUint64
		if i < int(n.used) {
			n.highs[i] = inner(n.bytes[:]).separator(i).High
		}
		if i%fence == 0 {
			n.fences[i/fence] = n.highs[i]
		}
	}
	free.Store(n)
	return n
}
