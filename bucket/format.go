package bucket

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/cidstore/cidstore/internal/corrupt"
)

// A bucket's state, one element of /buckets/state. Little-endian.
//
// FORMAT.md: bucket state
//
//	offset  size  field           meaning
//	     0     8  prefix          local_depth top bits of its hashes, the rest zero
//	     8     8  row_address     0: no row
//	    16     8  commit          of the row
//	    24     8  created         commit in which this bucket id was created
//	    32     8  tail_address    0: no tail
//	    40     8  tail_commit     of the tail
//	    48     8  last_compacted  ns since 1970
//	    56     4  entry_count     distinct live keys of row and tail
//	    60     4  sorted_count    entries of the row
//	    64     4  crc32c          of the row
//	    68     4  tail_crc32c     of the tail
//	    72     2  entry_chunks    of the row
//	    74     2  more_chunks     of the row
//	    76     2  tail_count      entries of the tail
//	    78     2  tail_more       1: the tail has a chunk of more rows
//	    80     4  next            bucket id of the overflow row; 0: none
//	    84     1  local_depth     bits
//	    85     1  flags           bit 0: in use; bit 1: an overflow row
//	    86     2  reserved        0
//	    88    16  tail_tags       low byte of the hash of each entry of the tail
const (
	offPrefix, offRowAddress, offCommit, offCreated          = 0, 8, 16, 24
	offTailAddress, offTailCommit, offLastCompacted          = 32, 40, 48
	offEntryCount, offSortedCount, offRowCRC, offTailCRC     = 56, 60, 64, 68
	offEntryChunks, offMoreChunks, offTailCount, offTailMore = 72, 74, 76, 78
	offNext, offLocalDepth, offStateFlags, offReserved       = 80, 84, 85, 86
	offTags                                                  = 88
	StateSize                                                = 104
)

const (
	stateInUse    = 1 << 0
	stateOverflow = 1 << 1

	// MaxChunk bounds the entries of a chunk, and so of a tail: one tag each.
	MaxChunk = 16
	// MinThreshold and MaxThreshold bound a Geometry. With one key a bucket, the
	// directory would always be as deep as it may be and still leave one key or more
	// of a hundred to overflow rows; the number of a more row fits 16 bits.
	MinThreshold, MaxThreshold = 2, 32768

	// PageStates is the number of states in one chunk of /buckets/state.
	PageStates = 64

	alignment = 64 // of every extent and of every chunk of a row, bytes
)

var _ [StateSize]byte = [offTags + MaxChunk]byte{}

// Geometry is the shape of a file's rows; it never changes in a file.
type Geometry struct {
	Threshold int // most live keys of a bucket
	Chunk     int // entries, and more rows, of a chunk: 4, 8, 12 or 16
}

// NewGeometry returns the shape for a split threshold: a row of up to 16 entries
// is one chunk. The chunks of an extent lie one behind the other; as each has a
// multiple of 4 entries, all begin at multiples of 64 bytes.
func NewGeometry(threshold int) Geometry {
	return Geometry{Threshold: threshold, Chunk: min(MaxChunk, (threshold+3)/4*4)}
}

// Check tells why a file cannot have this shape.
func (g Geometry) Check() error {
	if g.Threshold < MinThreshold || g.Threshold > MaxThreshold {
		return fmt.Errorf("split threshold %d, want %d to %d", g.Threshold, MinThreshold, MaxThreshold)
	}
	if want := NewGeometry(g.Threshold); g != want {
		return fmt.Errorf("%d entries a chunk, want %d", g.Chunk, want.Chunk)
	}
	return nil
}

// columns is how many entries, and more rows, the datasets have for a row: HDF5
// allows no chunk that is larger than its dataset can be.
func (g Geometry) columns() uint64 { return uint64(max(g.Threshold, g.Chunk)) }

func (g Geometry) chunkBytes() int { return g.Chunk * EntrySize }

// chunks is the number of chunks that n entries or more rows take.
func (g Geometry) chunks(n int) int { return (n + g.Chunk - 1) / g.Chunk }

// State says where a bucket's entries lie and what they must be.
type State struct {
	Prefix        uint64   // the top LocalDepth bits of its hashes; the rest 0
	RowAddress    uint64   // bytes; 0: no row
	Commit        uint64   // in which the row was written
	Created       uint64   // commit in which the bucket was created
	TailAddress   uint64   // bytes; 0: no tail
	TailCommit    uint64   // in which the tail was written
	LastCompacted int64    // when the row was written, ns since 1970
	EntryCount    uint32   // distinct live keys of row and tail
	SortedCount   uint32   // entries of the row
	CRC, TailCRC  uint32   // CRC32C of the row and of the tail, whole chunks
	EntryChunks   uint16   // of the row
	MoreChunks    uint16   // of the row, behind the entry chunks
	TailCount     uint16   // entries of the tail
	TailMore      uint16   // 1: a chunk of more rows follows the tail's entries
	Next          uint32   // bucket id of the overflow row; 0: none
	LocalDepth    uint8    // bits, 0 to 64
	InUse         bool     // false: nothing else of the state means anything
	Overflow      bool     // an overflow row
	TailTags      [16]byte // byte i: low byte of the hash of the tail's entry i
}

// Covers tells whether a hash lies under the state's prefix.
func (s *State) Covers(hash uint64) bool { return (hash^s.Prefix)&prefixMask(s.LocalDepth) == 0 }

// prefixMask has the top depth bits; all of them from 64 on.
func prefixMask(depth uint8) uint64 { return ^(math.MaxUint64 >> depth) }

// AppendState appends the 104 bytes of a state to dst. One that is not in use is
// all zero.
func AppendState(dst []byte, s *State) []byte {
	if !s.InUse {
		return append(dst, make([]byte, StateSize)...)
	}
	le := binary.LittleEndian
	dst = le.AppendUint64(dst, s.Prefix)
	dst = le.AppendUint64(dst, s.RowAddress)
	dst = le.AppendUint64(dst, s.Commit)
	dst = le.AppendUint64(dst, s.Created)
	dst = le.AppendUint64(dst, s.TailAddress)
	dst = le.AppendUint64(dst, s.TailCommit)
	dst = le.AppendUint64(dst, uint64(s.LastCompacted))
	dst = le.AppendUint32(dst, s.EntryCount)
	dst = le.AppendUint32(dst, s.SortedCount)
	dst = le.AppendUint32(dst, s.CRC)
	dst = le.AppendUint32(dst, s.TailCRC)
	dst = le.AppendUint16(dst, s.EntryChunks)
	dst = le.AppendUint16(dst, s.MoreChunks)
	dst = le.AppendUint16(dst, s.TailCount)
	dst = le.AppendUint16(dst, s.TailMore)
	dst = le.AppendUint32(dst, s.Next)
	flags := byte(stateInUse)
	if s.Overflow {
		flags |= stateOverflow
	}
	dst = append(dst, s.LocalDepth, flags, 0, 0)
	return append(dst, s.TailTags[:]...)
}

// ParseState reads the 104 bytes of a state. It judges flags and reserved bytes
// alone; Check judges the rest. A state that is not in use must be all zero.
func ParseState(p []byte) (s State, err error) {
	err = parseState(p, &s)
	return s, err
}

// parseState is ParseState into a zero State.
func parseState(p []byte, s *State) error {
	if len(p) != StateSize {
		return corrupt.Errorf("bucket state", -1, "%d bytes, want %d", len(p), StateSize)
	}
	le := binary.LittleEndian
	flags, reserved := p[offStateFlags], le.Uint16(p[offReserved:])
	if flags&stateInUse == 0 {
		if !allZero(p) {
			return corrupt.Errorf("bucket state", -1, "flags %#x: not in use, yet not all zero", flags)
		}
		return nil
	}
	if flags > stateInUse|stateOverflow || reserved != 0 {
		return corrupt.Errorf("bucket state", -1, "flags %#x and reserved bytes %#x, want at most %#x and 0",
			flags, reserved, stateInUse|stateOverflow)
	}
	s.Prefix = le.Uint64(p[offPrefix:])
	s.RowAddress = le.Uint64(p[offRowAddress:])
	s.Commit = le.Uint64(p[offCommit:])
	s.Created = le.Uint64(p[offCreated:])
	s.TailAddress = le.Uint64(p[offTailAddress:])
	s.TailCommit = le.Uint64(p[offTailCommit:])
	s.LastCompacted = int64(le.Uint64(p[offLastCompacted:]))
	s.EntryCount = le.Uint32(p[offEntryCount:])
	s.SortedCount = le.Uint32(p[offSortedCount:])
	s.CRC = le.Uint32(p[offRowCRC:])
	s.TailCRC = le.Uint32(p[offTailCRC:])
	s.EntryChunks = le.Uint16(p[offEntryChunks:])
	s.MoreChunks = le.Uint16(p[offMoreChunks:])
	s.TailCount = le.Uint16(p[offTailCount:])
	s.TailMore = le.Uint16(p[offTailMore:])
	s.Next = le.Uint32(p[offNext:])
	s.LocalDepth = p[offLocalDepth]
	s.InUse = true
	s.Overflow = flags&stateOverflow != 0
	copy(s.TailTags[:], p[offTags:])
	return nil
}

// Check tells why a state in use cannot be that of bucket id in a file of this
// shape with rows buckets. After it, every count and size in it is safe to use;
// addresses have still to be held against the end of the file.
func (s *State) Check(id uint32, g Geometry, rows uint64) error {
	bad := func(format string, args ...any) error {
		return corrupt.Errorf(fmt.Sprintf("state of bucket %d", id), -1, format, args...)
	}
	sorted, tail := int64(s.SortedCount), int64(s.TailCount)
	if s.LocalDepth > 64 || s.Prefix&^prefixMask(s.LocalDepth) != 0 {
		return bad("prefix %#x of %d bits, want at most 64 bits and zero below", s.Prefix, s.LocalDepth)
	}
	if sorted > int64(g.Threshold) || tail > int64(g.Chunk) || int64(s.EntryCount) > int64(g.Threshold) {
		return bad("%d live keys, %d entries and %d of a tail, want at most %d, %d and %d",
			s.EntryCount, sorted, tail, g.Threshold, g.Threshold, g.Chunk)
	}
	if live := int64(s.EntryCount); live < sorted-tail || live > sorted+tail {
		return bad("%d live keys of %d entries and %d of a tail", live, sorted, tail)
	}
	if int(s.EntryChunks) != g.chunks(int(sorted)) || s.MoreChunks > s.EntryChunks {
		return bad("%d entry chunks and %d of more rows for %d entries", s.EntryChunks, s.MoreChunks, sorted)
	}
	if (s.RowAddress == 0) != (sorted == 0) || s.RowAddress%alignment != 0 || s.RowAddress > math.MaxInt64 {
		return bad("row of %d entries at %#x", sorted, s.RowAddress)
	}
	if (s.TailAddress == 0) != (tail == 0) || s.TailAddress%alignment != 0 || s.TailAddress > math.MaxInt64 ||
		s.TailMore > min(1, s.TailCount) {
		return bad("tail of %d entries and %d chunks of more rows at %#x", tail, s.TailMore, s.TailAddress)
	}
	if !allZero(s.TailTags[tail:]) {
		return bad("tags % x for a tail of %d entries", s.TailTags, tail)
	}
	if (s.Next != 0 || s.Overflow) && tail != 0 || uint64(s.Next) >= rows && s.Next != 0 {
		return bad("next %d of %d buckets, overflow %t, a tail of %d entries", s.Next, rows, s.Overflow, tail)
	}
	return nil
}

func allZero(p []byte) bool {
	for ; len(p) >= 8; p = p[8:] {
		if binary.LittleEndian.Uint64(p) != 0 {
			return false
		}
	}
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}
