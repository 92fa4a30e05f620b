// Package crc32c makes the checksums of the file format: CRC32C (Castagnoli) of
// bytes, most of them seeded with numbers that say which structure the bytes
// belong to, so that one found in another's place does not verify.
package crc32c

import "hash/crc32"

var table = crc32.MakeTable(crc32.Castagnoli)

// Sum is the checksum of p.
func Sum(p []byte) uint32 { return crc32.Checksum(p, table) }

// Extend continues crc, the checksum of some bytes, over the bytes of p.
func Extend(crc uint32, p []byte) uint32 { return crc32.Update(crc, table, p) }

// shifted[i][b] is what byte b adds to a checksum when i bytes follow it.
var shifted = func() (t [8][256]uint32) {
	t[0] = *table
	for i := 1; i < len(t); i++ {
		for b, crc := range t[i-1] {
			t[i][b] = table[byte(crc)] ^ crc>>8
		}
	}
	return t
}()

// ExtendUint64 continues crc over the eight bytes of n, the lowest first. It does
// not call package crc32, because a buffer handed to that would be an allocation.
func ExtendUint64(crc uint32, n uint64) uint32 {
	n ^= uint64(^crc)
	crc = shifted[7][byte(n)] ^ shifted[6][byte(n>>8)] ^ shifted[5][byte(n>>16)] ^ shifted[4][byte(n>>24)] ^
		shifted[3][byte(n>>32)] ^ shifted[2][byte(n>>40)] ^ shifted[1][byte(n>>48)] ^ shifted[0][byte(n>>56)]
	return ^crc
}
