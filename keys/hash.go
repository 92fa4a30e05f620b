package keys

import "github.com/dchest/siphash"

// Hasher hashes identifiers under a seed, so that nobody who does not know the
// seed can choose identifiers that collide. A Hasher is a value: copy it freely,
// use it from many goroutines; the zero value is the hasher of seed {0, 0}.
type Hasher struct{ k0, k1 uint64 }

// NewHasher returns the hasher of a seed {k0, k1}, the two little-endian words
// of a SipHash key.
func NewHasher(seed [2]uint64) Hasher { return Hasher{seed[0], seed[1]} }

// Hash returns SipHash-2-4 of the 16 bytes e.Bytes(). It does not allocate.
func (h Hasher) Hash(e E) uint64 {
	b := e.Bytes()
	return siphash.Hash(h.k0, h.k1, b[:])
}
