package main

import "encoding/binary"

// Everything that is written is derived from the seed: pair number i has key i and
// value i, so that each lookup can be checked without storing what was written.

// The streams of numbers that one seed gives.
const (
	keyStream     = 0x1000000000000001
	missStream    = 0x2000000000000001
	valueStream   = 0x3000000000000001
	removedStream = 0x4000000000000001
	halfStream    = 0x5000000000000001
)

const golden = 0x9e3779b97f4a7c15 // 2^64 divided by the golden ratio, made odd

// mix is the finaliser of splitmix64: a bijection that looks random.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

func bits128(seed, stream, i uint64) (b [16]byte) {
	s := mix(seed ^ stream)
	binary.LittleEndian.PutUint64(b[:], mix(s+(i+1)*golden))
	binary.LittleEndian.PutUint64(b[8:], mix(^s+(i+1)*0xd1342543de82ef95))
	return b
}

// keyAt returns key number i; different numbers give different keys.
func keyAt(seed, i uint64) [16]byte   { return bits128(seed, keyStream, i) }
func missAt(seed, i uint64) [16]byte  { return bits128(seed, missStream, i) }
func valueAt(seed, i uint64) [16]byte { return bits128(seed, valueStream, i) }
func pairAt(seed, i uint64) pair      { return pair{keyAt(seed, i), valueAt(seed, i)} }

// removedAt reports whether value number i is in the random tenth that W4 deletes.
func removedAt(seed, i uint64) bool { return mix(seed^removedStream+i*golden)%10 == 0 }

// halfAt returns the random number of key i that says which half of its values W7 deletes.
func halfAt(seed, i uint64) uint64 { return mix(seed ^ halfStream + i*golden) }

// random is splitmix64; the first value is the seed.
type random uint64

func (r *random) next() uint64 { *r += golden; return mix(uint64(*r)) }

// permutation is a random order of 0 to n-1: a Feistel network of four rounds over
// the next power of four, walked until the number is below n.
type permutation struct {
	n, seed uint64
	half    uint // bits
}

func newPermutation(n, seed uint64) permutation {
	p := permutation{n: n, seed: seed, half: 1}
	for uint64(1)<<(2*p.half) < n {
		p.half++
	}
	return p
}

// at returns the number at index i, which is less than n.
func (p permutation) at(i uint64) uint64 {
	mask := uint64(1)<<p.half - 1
	for {
		left, right := i>>p.half, i&mask
		for round := range uint64(4) {
			left, right = right, left^mix(right+p.seed+round*golden)&mask
		}
		if i = left<<p.half | right; i < p.n {
			return i
		}
	}
}

// fingerprint adds up the hashes of values, so that their order does not matter.
func fingerprint(values [][16]byte) (sum uint64) {
	for _, v := range values {
		sum += hash(v)
	}
	return sum
}

func hash(v [16]byte) uint64 {
	return mix(binary.LittleEndian.Uint64(v[:]) + 3*binary.LittleEndian.Uint64(v[8:]))
}
