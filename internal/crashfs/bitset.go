package crashfs

import "math/bits"

// bitset is a set of small numbers, of a fixed range.
type bitset []uint64

func newBitset(n int64) bitset { return make(bitset, (n+63)/64) }

func (b bitset) set(i int64)      { b[i/64] |= 1 << (i % 64) }
func (b bitset) unset(i int64)    { b[i/64] &^= 1 << (i % 64) }
func (b bitset) has(i int64) bool { return b[i/64]&(1<<(i%64)) != 0 }
func (b bitset) clear()           { clear(b) }

// each calls f with the members, ascending; f may add members.
func (b bitset) each(f func(i int64)) {
	for w, word := range b {
		for ; word != 0; word &= word - 1 {
			f(int64(w*64 + bits.TrailingZeros64(word)))
		}
	}
}

func (b bitset) count() (n int64) {
	for _, word := range b {
		n += int64(bits.OnesCount64(word))
	}
	return n
}
