package bucket

import (
	"encoding/binary"

	"github.com/cidstore/cidstore/ecc"
	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/crc32c"
	"github.com/cidstore/cidstore/keys"
)

// A hash entry, one element of /buckets/entries and of the entries of a run.
// Little-endian.
//
// FORMAT.md: hash entry
//
//	offset  size  field        meaning
//	     0     8  key_high
//	     8     8  key_low
//	    16     8  value_high   slot 0; spilled: 0
//	    24     8  value_low    slot 0; spilled: the set id
//	    32     1  state_mask   ecc code of four bits; bit i: slot i holds a value
//	    33     1  flags        bit 0: DELETED, in runs alone
//	    34     2  more         1 + number of its more row in its bucket or slot, or 0
//	    36     4  value_count  inline values; 0 when spilled
//	    40     4  relation     0
//	    44     4  crc32c       of bytes 0 to 43 and the more row
const (
	offKeyHigh, offKeyLow, offValueHigh, offValueLow = 0, 8, 16, 24
	offMask, offFlags, offMore                       = 32, 33, 34
	offCount, offRelation, offEntryCRC               = 36, 40, 44
	EntrySize                                        = 48
)

// A more row, one element of /buckets/more and of the more rows of a run.
//
// FORMAT.md: more row
//
//	offset  size  field         meaning
//	     0     8  value_1_high  slot 1
//	     8     8  value_1_low
//	    16     8  value_2_high  slot 2; zero if unused
//	    24     8  value_2_low
//	    32     8  value_3_high  slot 3; zero if unused
//	    40     8  value_3_low
const moreSize = 48

var (
	_ [EntrySize]byte = [offEntryCRC + 4]byte{}
	_ [moreSize]byte  = [(inline - 1) * keys.Size]byte{}
	_ [EntrySize]byte = [moreSize]byte{} // chunks of both have one size
)

const (
	entryDeleted = 1 << 0
	inline       = ecc.Slots // the most values that an entry holds itself
)

// Item is one key in memory. It has inline values; or it is Spilled, and a set
// holds them; or, in a list of changes or a run, it is Deleted.
type Item struct {
	Hash    uint64
	Key     keys.E
	Values  [inline]keys.E // the first Count ascend
	Set     uint64         // Spilled: the set's number
	Count   uint8          // inline values, 1 to 4; 0 when Spilled or Deleted
	Spilled bool
	Deleted bool
}

// Less is the order of rows and runs: by hash, then by key.
func Less(a, b *Item) bool {
	return a.Hash < b.Hash || a.Hash == b.Hash && a.Key.Compare(b.Key) < 0
}

// sealer makes the checksums of entries.
type sealer struct {
	uuid uint32 // CRC32C of the file's uuid
}

func newSealer(uuid [16]byte) sealer { return sealer{crc32c.Sum(uuid[:])} }

// seed is the CRC32C of uuid, u64 id and u64 commit.
func (s sealer) seed(id uint64, commit hdf5io.Commit) uint32 {
	return crc32c.ExtendUint64(crc32c.ExtendUint64(s.uuid, id), uint64(commit))
}

// partSeed seeds the checksum of a bucket or slot: file_uuid, u64 id, u64 commit,
// u64 number.
func (s sealer) partSeed(o owner, number int) uint32 {
	return crc32c.ExtendUint64(s.seed(o.id, o.commit), uint64(number))
}

// partSum is the checksum of a bucket or slot: of its entries, its more rows and,
// for a slot, its tags.
func (s sealer) partSum(seed uint32, entries, mores, tags []byte) uint32 {
	return crc32c.Extend(crc32c.Extend(crc32c.Extend(seed, entries), mores), tags)
}

// entrySum is the checksum of an entry and its more row, which is nil if it has
// none.
func (s sealer) entrySum(seed uint32, entry, more []byte) uint32 {
	sum := crc32c.Extend(seed, entry[:offEntryCRC])
	if more != nil {
		sum = crc32c.Extend(sum, more)
	}
	return sum
}

// putEntry writes all of an entry except its checksum over zeros.
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
}

func putMore(p []byte, it *Item) {
	p = p[:0]
	for _, v := range it.Values[1:it.Count] {
		p = v.AppendHDF5(p)
	}
}

func getE(p []byte) keys.E {
	return keys.E{High: binary.LittleEndian.Uint64(p), Low: binary.LittleEndian.Uint64(p[8:])}
}
