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

// ExtendUint64 continues crc over the eight bytes of n, the lowest first. It goes
// byte by byte: a buffer handed to package crc32 would be an allocation.
func ExtendUint64(crc uint32, n uint64) uint32 {
	crc = ^crc
	for range 8 {
		crc = table[byte(crc)^byte(n)] ^ crc>>8
		n >>= 8
	}
	return ^crc
}
