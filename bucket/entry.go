package bucket

import (
	"encoding/binary"
	"hash/crc32"
	"slices"

	"github.com/cidstore/cidstore/ecc"
	"github.com/cidstore/cidstore/keys"
)

// A hash entry, one element of /buckets/entries and /buckets/tail. Little-endian.
//
// FORMAT.md: hash entry
//
//	offset  size  field        meaning
//	     0     8  key_high
//	     8     8  key_low
//	    16     8  value_high   slot 0; spilled: 0
//	    24     8  value_low    slot 0; spilled: the set id
//	    32     1  state_mask   ecc code of four bits; bit i: slot i holds a value
//	    33     1  flags        bit 0: DELETED, in tails alone
//	    34     2  more         1 + number of its more row, or 0
//	    36     4  value_count  inline values; 0 when spilled
//	    40     4  version      +1 at each change
//	    44     4  crc32c       of bytes 0 to 43 and the more row
const (
	offKeyHigh, offKeyLow, offValueHigh, offValueLow = 0, 8, 16, 24
	offMask, offFlags, offMore                       = 32, 33, 34
	offCount, offVersion, offEntryCRC                = 36, 40, 44
	EntrySize                                        = 48
)

// A more row, one element of /buckets/more and /buckets/tail_more.
//
// FORMAT.md: more row
//
//	offset  size  field    meaning
//	     0    16  value_1  slot 1: high, low
//	    16    16  value_2  slot 2; zero if unused
//	    32    16  value_3  slot 3; zero if unused
const (
	offValue1, offValue2, offValue3 = 0, 16, 32
	MoreSize                        = 48
)

var (
	_ [EntrySize]byte = [offEntryCRC + 4]byte{}
	_ [MoreSize]byte  = [offValue3 + keys.Size]byte{}
	_ [EntrySize]byte = [MoreSize]byte{} // chunks of both have one size
)

const (
	entryDeleted = 1 << 0
	// Inline is the most values that an entry holds itself.
	Inline = ecc.Slots
)

// Item is one key in memory. It has inline values, or it is Spilled and Set
// holds them, or it is Deleted, in a list of changes or a tail.
type Item struct {
	Hash    uint64
	Key     keys.E
	Values  [Inline]keys.E // the first Count ascend
	Set     uint64         // Spilled: the set's number
	Version uint32         // +1 at each change; for people
	Count   uint8          // inline values, 1 to 4; 0 when Spilled or Deleted
	Spilled bool
	Deleted bool
}

// Less is the order of a row: by hash, then by key.
func Less(a, b *Item) bool {
	return a.Hash < b.Hash || a.Hash == b.Hash && a.Key.Compare(b.Key) < 0
}

// sealer makes the checksums of entries.
type sealer struct {
	table *crc32.Table
	uuid  uint32 // CRC32C of the file's uuid
}

func newSealer(uuid [16]byte) sealer {
	table := crc32.MakeTable(crc32.Castagnoli)
	return sealer{table, crc32.Checksum(uuid[:], table)}
}

// seed is the CRC32C of uuid, u64 bucket id and u64 commit. It is worked out a
// byte at a time, as these bytes stand nowhere in memory: handing a buffer to
// package crc32 allocates it.
func (s sealer) seed(id uint32, commit uint64) uint32 {
	crc, word := ^s.uuid, uint64(id)
	for range 8 {
		crc = s.table[byte(crc)^byte(word)] ^ crc>>8
		word >>= 8
	}
	for range 8 {
		crc = s.table[byte(crc)^byte(commit)] ^ crc>>8
		commit >>= 8
	}
	return ^crc
}

func (s sealer) sum(p []byte) uint32 { return crc32.Checksum(p, s.table) }

// entrySum is the checksum of an entry and its more row, or nil.
func (s sealer) entrySum(seed uint32, entry, more []byte) uint32 {
	return crc32.Update(crc32.Update(seed, s.table, entry[:offEntryCRC]), s.table, more)
}

// appendExtent appends the extent of items, a row or a tail: chunks of entries,
// then chunks of more rows. items ascend and are at most the threshold.
func (s sealer) appendExtent(dst []byte, g Geometry, items []Item, seed uint32) (extent []byte, moreChunks int) {
	rows := 0
	for i := range items {
		if items[i].Count > 1 {
			rows++
		}
	}
	entryChunks := g.chunks(len(items))
	moreChunks = g.chunks(rows)
	start, size := len(dst), (entryChunks+moreChunks)*g.chunkBytes()
	dst = slices.Grow(dst, size)[:start+size]
	entries := dst[start:]
	clear(entries)
	mores := entries[entryChunks*g.chunkBytes():]
	number := uint16(0)
	for i := range items {
		var more []byte
		if items[i].Count > 1 {
			more = mores[int(number)*MoreSize:][:MoreSize]
			number++
			putEntry(entries, &items[i], number)
			putMore(more, &items[i])
		} else {
			putEntry(entries, &items[i], 0)
		}
		binary.LittleEndian.PutUint32(entries[offEntryCRC:], s.entrySum(seed, entries[:EntrySize], more))
		entries = entries[EntrySize:]
	}
	return dst, moreChunks
}

// putEntry writes all of an entry but its checksum over zeros.
func putEntry(p []byte, it *Item, more uint16) {
	p = p[:EntrySize]
	le := binary.LittleEndian
	le.PutUint64(p[offKeyHigh:], it.Key.High)
	le.PutUint64(p[offKeyLow:], it.Key.Low)
	switch {
	case it.Deleted:
		p[offFlags] = entryDeleted
	case it.Spilled:
		le.PutUint64(p[offValueLow:], it.Set)
	default:
		le.PutUint64(p[offValueHigh:], it.Values[0].High)
		le.PutUint64(p[offValueLow:], it.Values[0].Low)
		le.PutUint32(p[offCount:], uint32(it.Count))
		p[offMask] = byte(ecc.MaskOf(int(it.Count)))
	}
	le.PutUint16(p[offMore:], more)
	le.PutUint32(p[offVersion:], it.Version)
}

func putMore(p []byte, it *Item) {
	for i := 1; i < int(it.Count); i++ {
		putE(p[(i-1)*keys.Size:], it.Values[i])
	}
}

func putE(p []byte, e keys.E) {
	binary.LittleEndian.PutUint64(p, e.High)
	binary.LittleEndian.PutUint64(p[8:], e.Low)
}

func getE(p []byte) keys.E {
	return keys.E{High: binary.LittleEndian.Uint64(p), Low: binary.LittleEndian.Uint64(p[8:])}
}
