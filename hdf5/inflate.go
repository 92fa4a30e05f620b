package hdf5

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
)

// inflater undoes the deflate filter: it unpacks a zlib stream (RFC 1950 and 1951)
// from memory into memory. It has the complete chunk in both, and so is twice as fast as
// compress/zlib, which must be able to stop after any byte.
//
// A table is indexed by the next tableBits bits of the stream. Its entries, and those
// of the tables below it for longer codes, are:
//
//	bits  0 to 7   how many bits the code takes, extra bits included
//	bits  8 to 12  how many bits come before the extra bits; of isBelow: to index with
//	bits 13 to 15  isBelow, isEnd; both: no such code
//	bits 16 to 30  the literal, the least length or distance, or where the table below starts
//	bit  31        isLiteral
type inflater struct {
	literals  [literalEntries]uint32
	distances [distanceEntries]uint32
	lengths   [maxLiterals + maxDistances]byte // of codes in bits
	fixed     bool                             // the tables are those of fixed blocks
}

const (
	isLiteral = 1 << 31
	isBelow   = 1 << 13
	isEnd     = 1 << 14
	isSpecial = isBelow | isEnd

	literalBits, distanceBits, orderBits = 11, 8, 7 // that index a table

	// The most entries of a complete code of up to 15 bits: those of a table, and of one below it
	// for every two of the codes that can be longer.
	literalEntries  = 1<<literalBits + maxLiterals/2<<(maxCodeBits-literalBits)
	distanceEntries = 1<<distanceBits + maxDistances/2<<(maxCodeBits-distanceBits)

	maxLiterals, maxDistances = 288, 32
	maxCodeBits               = 15
	longestMatch              = 258
)

// These errors are for streams that no deflate made.
var (
	errInflateCut  = errors.New("the stream is cut")
	errInflateCode = errors.New("a code that means nothing")
	errInflateFull = errors.New("more than was packed")
)

// literalCodes, distanceCodes and orderCodes are table entries without the bits of the code.
// Those of orderCodes are for the table that unpacks the lengths of codes.
var literalCodes, distanceCodes, orderCodes = symbolCodes()

func symbolCodes() (literals, distances, orders []uint32) {
	for i := range uint32(256) {
		literals = append(literals, isLiteral|i<<16)
	}
	literals = append(literals, isEnd)
	least := uint32(3)
	for i := range 28 {
		extra := uint32(max(i/4-1, 0))
		literals = append(literals, least<<16|extra)
		least += 1 << extra
	}
	// The last length has no extra bits, though the one before ends there too.
	literals = append(literals, longestMatch<<16, isSpecial, isSpecial)
	least = 1
	for i := range 30 {
		extra := uint32(max(i/2-1, 0))
		distances = append(distances, least<<16|extra)
		least += 1 << extra
	}
	for i := range uint32(19) {
		orders = append(orders, i<<16)
	}
	return literals, append(distances, isSpecial, isSpecial), orders
}

// build makes a table of codes from their lengths in bits; 0 means that there is no such
// code. A set of codes may be incomplete if it is empty or has a single code of 1 bit. That
// matters only if the stream uses a code that is missing.
func build(table []uint32, tableBits int, lengths []byte, codes []uint32) error {
	var count, next [maxCodeBits + 2]int // next is the next code of each length
	for _, n := range lengths {
		count[n]++
	}
	count[0] = 0
	left, longest := 1, 0
	for n := 1; n <= maxCodeBits; n++ {
		left = left<<1 - count[n]
		if left < 0 {
			return errInflateCode
		}
		if count[n] > 0 {
			longest = n
		}
		next[n+1] = (next[n] + count[n]) << 1
	}
	size := 1 << tableBits
	clear(table[:size])
	if left > 0 {
		if longest > 1 {
			return errInflateCode
		}
		for i := range table[:size] {
			table[i] = isSpecial
		}
	}
	below, free := longest-tableBits, size // bits that index a table below, and where the next one starts
	for symbol, n := range lengths {
		if n == 0 {
			continue
		}
		// Codes are packed with their first bit lowest.
		reversed := int(bits.Reverse16(uint16(next[n])) >> (16 - n))
		next[n]++
		part := table[:size]
		if int(n) > tableBits {
			head := &table[reversed&(size-1)]
			if *head == 0 {
				*head = isBelow | uint32(free)<<16 | uint32(below)<<8 | uint32(tableBits)
				free += 1 << below
			}
			part = table[*head>>16:][:1<<below]
			n, reversed = n-byte(tableBits), reversed>>tableBits
		}
		for at := reversed; at < len(part); at += 1 << n {
			part[at] = codes[symbol] + (uint32(n)<<8 | uint32(n))
		}
	}
	return nil
}

// bitReader reads the bits of src, the lowest of each byte first. The bits of hold above
// count are those that follow, or zero.
type bitReader struct {
	src   []byte
	pos   int
	hold  uint64
	count int
}

// refill fills hold with at least 56 bits, or with all that are left.
func (r *bitReader) refill() {
	if len(r.src)-r.pos >= 8 {
		r.hold |= binary.LittleEndian.Uint64(r.src[r.pos:]) << r.count
		r.pos += (63 - r.count) >> 3
		r.count |= 56
		return
	}
	for r.count < 56 && r.pos < len(r.src) {
		r.hold |= uint64(r.src[r.pos]) << r.count
		r.pos++
		r.count += 8
	}
}

// take returns the next n bits, at most 32. After the end it returns zeros, and count is
// negative.
func (r *bitReader) take(n int) int {
	r.refill()
	v := r.hold & (1<<n - 1)
	r.hold >>= n
	r.count -= n
	return int(v)
}

// inflate unpacks src into dst, and returns how many bytes there were. It is an error if
// they do not fit into dst.
func (z *inflater) inflate(dst, src []byte) (int, error) {
	if len(src) < 2 || src[0]&15 != 8 || src[0]>>4 > 7 || src[1]&0x20 != 0 || (int(src[0])<<8|int(src[1]))%31 != 0 {
		return 0, fmt.Errorf("no zlib stream: %w", errFilter)
	}
	r := bitReader{src: src, pos: 2}
	n := 0
	for last := false; !last; {
		last = r.take(1) == 1
		var err error
		switch r.take(2) {
		case 0:
			n, err = r.stored(dst, n)
		case 1:
			if err = z.buildFixed(); err == nil {
				n, err = z.block(&r, dst, n)
			}
		case 2:
			if err = z.buildDynamic(&r); err == nil {
				n, err = z.block(&r, dst, n)
			}
		default:
			err = errInflateCode
		}
		if r.count < 0 {
			err = errInflateCut
		}
		if err != nil {
			return 0, fmt.Errorf("%w: %w", errFilter, err)
		}
	}
	r.bytes()
	if len(src)-r.pos < 4 {
		return 0, fmt.Errorf("%w: %w", errFilter, errInflateCut)
	}
	if want, got := binary.BigEndian.Uint32(src[r.pos:]), adler32(dst[:n]); want != got {
		return 0, fmt.Errorf("checksum %08x, stored %08x: %w", got, want, errFilter)
	}
	return n, nil
}

// bytes goes on at the next whole byte that was not taken.
func (r *bitReader) bytes() {
	r.pos -= r.count / 8
	r.hold, r.count = 0, 0
}

// stored copies a block that is not packed to dst[n:].
func (r *bitReader) stored(dst []byte, n int) (int, error) {
	if r.count < 0 {
		return n, errInflateCut
	}
	r.bytes()
	if len(r.src)-r.pos < 4 {
		return n, errInflateCut
	}
	size, check := binary.LittleEndian.Uint16(r.src[r.pos:]), binary.LittleEndian.Uint16(r.src[r.pos+2:])
	r.pos += 4
	switch {
	case size != ^check:
		return n, errInflateCode
	case int(size) > len(r.src)-r.pos:
		return n, errInflateCut
	case int(size) > len(dst)-n:
		return n, errInflateFull
	}
	copy(dst[n:], r.src[r.pos:r.pos+int(size)])
	r.pos += int(size)
	return n + int(size), nil
}

// buildFixed makes the tables that the standard names.
func (z *inflater) buildFixed() error {
	if z.fixed {
		return nil
	}
	for i := range z.lengths {
		switch {
		case i < 144:
			z.lengths[i] = 8
		case i < 256:
			z.lengths[i] = 9
		case i < 280:
			z.lengths[i] = 7
		case i < maxLiterals:
			z.lengths[i] = 8
		default:
			z.lengths[i] = 5
		}
	}
	if err := build(z.literals[:], literalBits, z.lengths[:maxLiterals], literalCodes); err != nil {
		return err
	}
	z.fixed = true
	return build(z.distances[:], distanceBits, z.lengths[maxLiterals:], distanceCodes)
}

// buildDynamic reads the tables of a block.
func (z *inflater) buildDynamic(r *bitReader) error {
	literals, distances, orders := r.take(5)+257, r.take(5)+1, r.take(4)+4
	if literals > 286 || distances > 30 {
		return errInflateCode
	}
	z.fixed = false
	var order [19]byte
	for _, i := range []int{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}[:orders] {
		order[i] = byte(r.take(3))
	}
	table := z.distances[:1<<orderBits] // not yet needed for distances
	if err := build(table, orderBits, order[:], orderCodes); err != nil {
		return err
	}
	lengths := z.lengths[:literals+distances]
	for i := 0; i < len(lengths); {
		r.refill()
		e := table[r.hold&(1<<orderBits-1)]
		if e&isSpecial != 0 {
			return errInflateCode
		}
		r.take(int(e & 0xff))
		n, repeat := byte(e>>16), 1
		switch n {
		case 16:
			if i == 0 {
				return errInflateCode
			}
			n, repeat = lengths[i-1], 3+r.take(2)
		case 17:
			n, repeat = 0, 3+r.take(3)
		case 18:
			n, repeat = 0, 11+r.take(7)
		}
		if r.count < 0 {
			return errInflateCut
		}
		if repeat > len(lengths)-i {
			return errInflateCode
		}
		for range repeat {
			lengths[i] = n
			i++
		}
	}
	if err := build(z.literals[:], literalBits, lengths[:literals], literalCodes); err != nil {
		return err
	}
	return build(z.distances[:], distanceBits, lengths[literals:], distanceCodes)
}

func (z *inflater) block(r *bitReader, dst []byte, n int) (int, error) {
	n, ended, err := z.fast(r, dst, n)
	for !ended && err == nil {
		n, ended, err = z.one(r, dst, n)
	}
	return n, err
}

// symbol reads a code and its extra bits.
func (r *bitReader) symbol(table []uint32, tableBits int) (e uint32, value int) {
	r.refill()
	e = table[r.hold&(1<<tableBits-1)]
	if e&isSpecial == isBelow {
		r.hold >>= tableBits
		r.count -= tableBits
		e = table[e>>16+uint32(r.hold)&(1<<(e>>8&31)-1)]
	}
	size := e & 0xff
	value = int(e>>16&0x7fff) + int(r.hold&(1<<size-1)>>(e>>8&31))
	r.hold >>= size
	r.count -= int(size)
	return e, value
}

// one unpacks one literal or match, wherever it is.
func (z *inflater) one(r *bitReader, dst []byte, n int) (next int, ended bool, err error) {
	e, value := r.symbol(z.literals[:], literalBits)
	switch {
	case r.count < 0:
		return n, false, errInflateCut
	case e&isLiteral != 0:
		if n == len(dst) {
			return n, false, errInflateFull
		}
		dst[n] = byte(e >> 16)
		return n + 1, false, nil
	case e&isSpecial == isEnd:
		return n, true, nil
	case e&isSpecial != 0:
		return n, false, errInflateCode
	}
	e, distance := r.symbol(z.distances[:], distanceBits)
	switch {
	case r.count < 0:
		return n, false, errInflateCut
	case e&isSpecial != 0 || distance > n:
		return n, false, errInflateCode
	case value > len(dst)-n:
		return n, false, errInflateFull
	}
	for range value {
		dst[n] = dst[n-distance]
		n++
	}
	return n, false, nil
}

// fast unpacks literals and matches as long as both sides have room for the longest match
// and for words of eight bytes. At the head of the loop hold has 56 bits, and e is the
// entry of the next code. It is loaded before a match is copied, because loading it takes
// as long as copying.
func (z *inflater) fast(r *bitReader, dst []byte, n int) (next int, ended bool, err error) {
	const (
		packed   = 24 // bytes for two refills, and one more word
		unpacked = 3 + longestMatch + 8
		mask     = 1<<literalBits - 1
	)
	if len(r.src)-r.pos < packed {
		return n, false, nil
	}
	r.refill()
	src, pos, hold, count := r.src, r.pos, r.hold, uint(r.count)
	e := z.literals[hold&mask]
	for len(src)-pos >= packed && len(dst)-n >= unpacked {
		if e&isLiteral != 0 { // one to three of them take at most 33 bits
			dst[n] = byte(e >> 16)
			n++
			hold, count = hold>>(e&63), count-uint(e&63)
			if e = z.literals[hold&mask]; e&isLiteral != 0 {
				dst[n] = byte(e >> 16)
				n++
				hold, count = hold>>(e&63), count-uint(e&63)
				if e = z.literals[hold&mask]; e&isLiteral != 0 {
					dst[n] = byte(e >> 16)
					n++
					hold, count = hold>>(e&63), count-uint(e&63)
					hold |= binary.LittleEndian.Uint64(src[pos:]) << (count & 63)
					pos, count = pos+int((63-count)>>3&7), count|56
					e = z.literals[hold&mask]
					continue
				}
			}
			hold |= binary.LittleEndian.Uint64(src[pos:]) << (count & 63)
			pos, count = pos+int((63-count)>>3&7), count|56
		}
		if e&isSpecial != 0 { // a long code, which is rare, or the end
			r.pos, r.hold, r.count = pos, hold, int(count)
			if n, ended, err = z.one(r, dst, n); ended || err != nil {
				return n, ended, err
			}
			r.refill()
			pos, hold, count = r.pos, r.hold, uint(r.count)
			e = z.literals[hold&mask]
			continue
		}
		length := int(e>>16) + int(hold&(1<<(e&63)-1)>>(e>>8&31)) // takes at most 16 bits
		hold, count = hold>>(e&63), count-uint(e&63)
		e = z.distances[hold&(1<<distanceBits-1)] // takes at most 28 bits
		if e&isSpecial == isBelow {
			hold, count = hold>>distanceBits, count-distanceBits
			e = z.distances[e>>16+uint32(hold)&(1<<(e>>8&31)-1)]
		}
		distance := int(e>>16) + int(hold&(1<<(e&63)-1)>>(e>>8&31))
		if e&isSpecial != 0 || distance > n {
			return n, false, errInflateCode
		}
		hold, count = hold>>(e&63), count-uint(e&63)
		hold |= binary.LittleEndian.Uint64(src[pos:]) << (count & 63)
		pos, count = pos+int((63-count)>>3&7), count|56
		e = z.literals[hold&mask]
		repeat(dst[n-distance:], distance, length)
		n += length
	}
	r.pos, r.hold, r.count = pos, hold, int(count)
	return n, false, nil
}

// repeat goes on after the first distance bytes of p with length bytes that repeat
// them. It may write up to seven more.
func repeat(p []byte, distance, length int) {
	end := distance + length
	at := distance
	if distance < 8 {
		for ; at < distance+8; at++ {
			p[at] = p[at-distance]
		}
		// What is there repeats itself at each multiple of the distance too.
		distance *= (7 + distance) / distance
	}
	for ; at < end; at += 8 {
		binary.LittleEndian.PutUint64(p[at:], binary.LittleEndian.Uint64(p[at-distance:]))
	}
}

// adler32 returns the checksum of a zlib stream: the sum of all bytes and 1, and the sum of
// those sums after each byte. It takes eight bytes at a time. hash/adler32 takes one at a
// time, which would be an eighth of all the time to unpack.
func adler32(p []byte) uint32 {
	const (
		modulus = 65521
		piece   = 1 << 16 // bytes: the sums of that many fit
		even    = 0x00ff00ff00ff00ff
		ones    = 1 | 1<<16 | 1<<32 | 1<<48
		// How often the second sum has each byte. The highest 16 bits of a product are
		// the sum of what lies in the places of 16 bits, the first times the last.
		evenTimes = 2 | 4<<16 | 6<<32 | 8<<48
		oddTimes  = 1 | 3<<16 | 5<<32 | 7<<48
	)
	a, b := uint64(1), uint64(0)
	for len(p) > 0 {
		part := p[:min(len(p), piece)]
		p = p[len(part):]
		for ; len(part) >= 8; part = part[8:] {
			word := binary.LittleEndian.Uint64(part)
			e, o := word&even, word>>8&even
			b += 8*a + e*evenTimes>>48 + o*oddTimes>>48
			a += (e + o) * ones >> 48
		}
		for _, v := range part {
			a += uint64(v)
			b += a
		}
		a, b = a%modulus, b%modulus
	}
	return uint32(b<<16 | a)
}
