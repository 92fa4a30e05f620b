// Package hdf5sum makes the two checksums of HDF5: that of its structures, and that of its filter
// Fletcher32.
package hdf5sum

import (
	"encoding/binary"
	"math/bits"
)

// Lookup3 is the checksum of HDF5 metadata, and the hash of names in dense storage: Bob
// Jenkins' hashlittle of p with an initial value of 0 (HDF5 spec, appendix A). It is stored
// as a u32 after the bytes it covers.
func Lookup3(p []byte) uint32 {
	a := 0xdeadbeef + uint32(len(p))
	b, c := a, a
	for ; len(p) > 12; p = p[12:] { // 1 to 12 bytes are left for the final round
		a += binary.LittleEndian.Uint32(p)
		b += binary.LittleEndian.Uint32(p[4:])
		c += binary.LittleEndian.Uint32(p[8:])
		a, c = (a-c)^bits.RotateLeft32(c, 4), c+b
		b, a = (b-a)^bits.RotateLeft32(a, 6), a+c
		c, b = (c-b)^bits.RotateLeft32(b, 8), b+a
		a, c = (a-c)^bits.RotateLeft32(c, 16), c+b
		b, a = (b-a)^bits.RotateLeft32(a, 19), a+c
		c, b = (c-b)^bits.RotateLeft32(b, 4), b+a
	}
	if len(p) == 0 { // only if the input is empty
		return c
	}
	var last [12]byte
	copy(last[:], p)
	a += binary.LittleEndian.Uint32(last[0:])
	b += binary.LittleEndian.Uint32(last[4:])
	c += binary.LittleEndian.Uint32(last[8:])
	c = (c ^ b) - bits.RotateLeft32(b, 14)
	a = (a ^ c) - bits.RotateLeft32(c, 11)
	b = (b ^ a) - bits.RotateLeft32(a, 25)
	c = (c ^ b) - bits.RotateLeft32(b, 16)
	a = (a ^ c) - bits.RotateLeft32(c, 4)
	b = (b ^ a) - bits.RotateLeft32(a, 14)
	return (c ^ b) - bits.RotateLeft32(b, 24)
}

// fletcherBlock is how many 16-bit words are summed before both sums are folded
// to 16 bits: as many as can never overflow 32 bits.
const fletcherBlock = 360

// Fletcher32 is the checksum of HDF5's filter of that name: over big-endian 16-bit
// words; an odd last byte counts as the high half of one. It is stored as a
// little-endian u32 after the chunk's data. Sums are folded, not reduced mod 65535,
// so that all ones stay ffff, as in the HDF5 library.
func Fletcher32(p []byte) uint32 {
	var sum1, sum2 uint32
	for len(p) >= 2 {
		block := p[:min(len(p)&^1, 2*fletcherBlock)]
		p = p[len(block):]
		for len(block) >= 8 { // one load for four words: the sums depend on each other, but the loads need not
			w := binary.BigEndian.Uint64(block)
			w0, w1, w2, w3 := uint32(w>>48), uint32(w>>32)&0xffff, uint32(w>>16)&0xffff, uint32(w)&0xffff
			sum2 += 4*sum1 + 4*w0 + 3*w1 + 2*w2 + w3
			sum1 += w0 + w1 + w2 + w3
			block = block[8:]
		}
		for ; len(block) >= 2; block = block[2:] {
			sum1 += uint32(binary.BigEndian.Uint16(block))
			sum2 += sum1
		}
		sum1 = sum1&0xffff + sum1>>16
		sum2 = sum2&0xffff + sum2>>16
	}
	if len(p) == 1 {
		sum1 += uint32(p[0]) << 8
		sum2 += sum1
	}
	for range 2 {
		sum1 = sum1&0xffff + sum1>>16
		sum2 = sum2&0xffff + sum2>>16
	}
	return sum2<<16 | sum1
}
