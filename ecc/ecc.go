// Package ecc keeps four bits in one byte so that one flipped bit is corrected
// and two are reported: the extended Hamming code SECDED(8,4).
//
// The bits of a code byte, from bit 0:
//
//	P1 P2 D1 P3 D2 D3 D4 P0
//
//	P1 = D1^D2^D4   P2 = D1^D3^D4   P3 = D2^D3^D4   P0 = xor of the other seven
//
// D1 is bit 0 of the data, D4 bit 3. Two code words differ in at least four bits.
// Three flipped bits look like one; a caller to whom that matters verifies the
// corrected byte with a checksum.
//
// Everything here is a pure function.
package ecc

// Status says what Decode found.
type Status uint8

const (
	OK            Status = iota // a code word
	Corrected                   // one bit off a code word; the data is that of the code word
	Uncorrectable               // two bits off several code words; no data
)

// String names the status.
func (s Status) String() string {
	names := [...]string{OK: "ok", Corrected: "corrected", Uncorrectable: "uncorrectable"}
	if int(s) < len(names) {
		return names[s]
	}
	return "unknown status"
}

// codewords has the code of each of the 16 data values. It is a constant, so that
// nothing is computed at start and nothing can change it.
const codewords = "\x00\x87\x99\x1e\xaa\x2d\x33\xb4\x4b\xcc\xd2\x55\xe1\x66\x78\xff"

// verdicts has, for each of the 256 bytes, its Status in the high four bits and its
// data in the low four.
const verdicts = "" +
	"\x00\x10\x10\x20\x10\x20\x20\x11\x10\x20\x20\x18\x20\x15\x13\x20" +
	"\x10\x20\x20\x16\x20\x1b\x13\x20\x20\x12\x13\x20\x13\x20\x03\x13" +
	"\x10\x20\x20\x16\x20\x15\x1d\x20\x20\x15\x14\x20\x15\x05\x20\x15" +
	"\x20\x16\x16\x06\x17\x20\x20\x16\x1e\x20\x20\x16\x20\x15\x13\x20" +
	"\x10\x20\x20\x18\x20\x1b\x1d\x20\x20\x18\x18\x08\x19\x20\x20\x18" +
	"\x20\x1b\x1a\x20\x1b\x0b\x20\x1b\x1e\x20\x20\x18\x20\x1b\x13\x20" +
	"\x20\x1c\x1d\x20\x1d\x20\x0d\x1d\x1e\x20\x20\x18\x20\x15\x1d\x20" +
	"\x1e\x20\x20\x16\x20\x1b\x1d\x20\x0e\x1e\x1e\x20\x1e\x20\x20\x1f" +
	"\x10\x20\x20\x11\x20\x11\x11\x01\x20\x12\x14\x20\x19\x20\x20\x11" +
	"\x20\x12\x1a\x20\x17\x20\x20\x11\x12\x02\x20\x12\x20\x12\x13\x20" +
	"\x20\x1c\x14\x20\x17\x20\x20\x11\x14\x20\x04\x14\x20\x15\x14\x20" +
	"\x17\x20\x20\x16\x07\x17\x17\x20\x20\x12\x14\x20\x17\x20\x20\x1f" +
	"\x20\x1c\x1a\x20\x19\x20\x20\x11\x19\x20\x20\x18\x09\x19\x19\x20" +
	"\x1a\x20\x0a\x1a\x20\x1b\x1a\x20\x20\x12\x1a\x20\x19\x20\x20\x1f" +
	"\x1c\x0c\x20\x1c\x20\x1c\x1d\x20\x20\x1c\x14\x20\x19\x20\x20\x1f" +
	"\x20\x1c\x1a\x20\x17\x20\x20\x1f\x1e\x20\x20\x1f\x20\x1f\x1f\x0f"

// Encode returns the code of the low four bits of data; the high four are
// ignored.
func Encode(data uint8) (code uint8) { return codewords[data&15] }

// Decode returns the four data bits of a code byte. If status is Uncorrectable,
// data is 0 and has no meaning.
func Decode(code uint8) (data uint8, status Status) {
	v := verdicts[code]
	return v & 15, Status(v >> 4)
}

// DecodeAll decodes codes into dst, as many as the shorter of the two holds,
// and counts what was not OK. dst and codes may be the same slice.
func DecodeAll(dst, codes []uint8) (corrected, uncorrectable int) {
	n := min(len(dst), len(codes))
	dst, codes = dst[:n], codes[:n]
	for i, code := range codes {
		v := verdicts[code]
		dst[i] = v & 15
		// Corrected is 1 and Uncorrectable 2: each is one bit of the verdict.
		corrected += int(v >> 4 & 1)
		uncorrectable += int(v >> 5)
	}
	return corrected, uncorrectable
}
