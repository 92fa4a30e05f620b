package hdf5

import "encoding/binary"

// unshuffle writes the bytes of src to dst, which is as long. In src the first bytes of all
// elements come first, then the second bytes, and so on. Bytes at the end that do not make
// an element are not shuffled.
func unshuffle(dst, src []byte, element int) []byte {
	if element < 2 || element > len(src) {
		copy(dst, src)
		return dst
	}
	n := len(src) / element * element
	copy(dst[n:], src[n:])
	unshuffleElements(dst[:n], src, element, 0)
	return dst
}

// unshuffleElements writes those elements of src to dst that fill it, from an index on.
func unshuffleElements(dst, src []byte, element, first int) {
	n, count := len(src)/element, len(dst)/element
	plane := func(i int) []byte { return src[i*n+first:][:count] }
	switch element {
	case 2:
		p0, p1 := plane(0), plane(1)
		for i := range p0 {
			binary.LittleEndian.PutUint16(dst[2*i:], uint16(p0[i])|uint16(p1[i])<<8)
		}
	case 4:
		p0, p1, p2, p3 := plane(0), plane(1), plane(2), plane(3)
		for i := range p0 {
			binary.LittleEndian.PutUint32(dst[4*i:], uint32(p0[i])|uint32(p1[i])<<8|uint32(p2[i])<<16|uint32(p3[i])<<24)
		}
	case 8:
		p0, p1, p2, p3, p4, p5, p6, p7 := plane(0), plane(1), plane(2), plane(3), plane(4), plane(5), plane(6), plane(7)
		for i := range p0 {
			low := uint32(p0[i]) | uint32(p1[i])<<8 | uint32(p2[i])<<16 | uint32(p3[i])<<24
			high := uint32(p4[i]) | uint32(p5[i])<<8 | uint32(p6[i])<<16 | uint32(p7[i])<<24
			binary.LittleEndian.PutUint64(dst[8*i:], uint64(low)|uint64(high)<<32)
		}
	default:
		const piece = 256 // elements of which the caches hold all bytes
		for start := 0; start < count; start += piece {
			end := min(start+piece, count)
			for i := range element {
				at := start*element + i
				for _, b := range plane(i)[start:end] {
					dst[at] = b
					at += element
				}
			}
		}
	}
}

// stripBytes is how much of a shuffled chunk is put in order at a time: what the nearest
// cache of a processor holds beside its source.
const stripBytes = 16 << 10

// strip puts those parts of a shuffled chunk in order that are read, without memory for a
// second chunk.
type strip struct {
	chunk   []byte // shuffled
	element int    // bytes, at least 2
	start   uint64 // where ordered begins in the chunk
	ordered []byte
}

func (s *strip) begin(chunk []byte, element int) {
	s.chunk, s.element, s.ordered = chunk, element, s.ordered[:0]
}

// copy fills dst with the ordered bytes from a place of the chunk on.
func (s *strip) copy(dst []byte, from uint64) {
	if at := from - s.start; at >= uint64(len(s.ordered)) || copy(dst, s.ordered[at:]) < len(dst) {
		s.copyMore(dst, from)
	}
}

// copyMore is copy of bytes that the strip does not have all of.
func (s *strip) copyMore(dst []byte, from uint64) {
	for len(dst) > 0 {
		if from-s.start >= uint64(len(s.ordered)) {
			s.fill(int(from))
		}
		n := copy(dst, s.ordered[from-s.start:])
		dst, from = dst[n:], from+uint64(n)
	}
}

// fill puts bytes in order, among them the one at a place.
func (s *strip) fill(at int) {
	if s.ordered = s.ordered[:cap(s.ordered)]; len(s.ordered) == 0 {
		s.ordered = make([]byte, stripBytes)
	}
	n := len(s.chunk) / s.element
	first := at / s.element
	switch {
	case first == n: // the end, which is not shuffled
		s.start = uint64(at)
		s.ordered = s.ordered[:copy(s.ordered, s.chunk[at:])]
	case s.element > stripBytes/2: // the strip has room for hardly an element
		s.start = uint64(at)
		s.ordered = s.ordered[:min(stripBytes, n*s.element-at)]
		place := at % s.element
		for i := range s.ordered {
			s.ordered[i] = s.chunk[place*n+first]
			if place++; place == s.element {
				place, first = 0, first+1
			}
		}
	default:
		s.start = uint64(first * s.element)
		s.ordered = s.ordered[:min(stripBytes/s.element, n-first)*s.element]
		unshuffleElements(s.ordered, s.chunk, s.element, first)
	}
}
