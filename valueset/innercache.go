package valueset

import (
	"sync/atomic"

	"github.com/cidstore/cidstore/hdf5io"
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
	// cachedNodes copies take 4.3 MB, and are the inner nodes of a tree of 10^7 values.
	cachedNodes = 1 << cachedBits
	cachedBits  = 10
	// patience is how often other nodes must be wanted in the place of an unused one before
	// it makes way. Its root may be gone. If the trees are too large for the cache, patience
	// keeps most lookups from making a copy.
	patience = 32
)

type cachedNode struct {
	child
	passed atomic.Uint32 // how often another node was wanted since this one was used
	used   int           // children
	bytes  [nodeSize]byte
}

// places returns the two slots where the node at an address may be. With one, two of five
// nodes would find theirs taken when the cache is three quarters full.
func (c *innerCache) places(at uint64) [2]*atomic.Pointer[cachedNode] {
	i := at / hdf5io.ExtentUnit * 0x9e3779b97f4a7c15 >> (64 - cachedBits)
	return [2]*atomic.Pointer[cachedNode]{&c.slots[i], &c.slots[i^1]}
}

// find returns a node and the number of its children, or nil.
func (c *innerCache) find(k *child) (node inner, used int) {
	for _, slot := range c.places(k.at) {
		if n := slot.Load(); n != nil && n.child == *k {
			if n.passed.Load() > 0 {
				n.passed.Store(0)
			}
			return n.bytes[:], n.used
		}
	}
	return nil, 0
}

// offer keeps a copy of the node b, which find has not found, if one of its places is
// free. seed verifies the copy: b may be in the file, and change.
func (c *innerCache) offer(k *child, b []byte, seed seed) {
	var free *atomic.Pointer[cachedNode]
	for _, slot := range c.places(k.at) {
		if old := slot.Load(); old == nil || old.passed.Add(1) >= patience {
			free = slot
		}
	}
	if free == nil {
		return
	}
	n := &cachedNode{child: *k}
	copy(n.bytes[:], b)
	n.used = inner(n.bytes[:]).len()
	if seed.checksum(k.node, k.commit, n.bytes[:]) == k.crc {
		free.Store(n)
	}
}
