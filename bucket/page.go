package bucket

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/corrupt"
)

// The page of a group, one element of /buckets/state. Little-endian. It says
// where the group's row lies, how the row is divided into buckets, and what must
// be verified before any of it is believed.
//
// FORMAT.md: group page header
//
//	offset  size  field        meaning
//	     0     8  prefix       local_depth top bits of its hashes, the rest zero
//	     8     8  row_address  0: no row
//	    16     8  commit       in which row and page were written
//	    24     8  created      commit in which this group id was created
//	    32     8  folded       when they were written, ns since 1970
//	    40     4  entry_count  of the row
//	    44     4  more_count   of the row
//	    48     1  local_depth  bits
//	    49     1  bucket_bits  the group has 2^bucket_bits buckets
//	    50     1  flags        bit 0: in use
//	    51     5  padding      0
//	    56    16  reserved     0
//
// Bucket records, as many as a group can have buckets, and tags, u16, as many as it
// can have entries, follow.
const (
	offPrefix, offRowAddress, offCommit, offCreated = 0, 8, 16, 24
	offFolded, offEntryCount, offMoreCount          = 32, 40, 44
	offLocalDepth, offBucketBits, offPageFlags      = 48, 49, 50
	offPadding, offReserved                         = 51, 56
	pageHeader                                      = 72
)

// A bucket's part of the page.
//
// FORMAT.md: bucket record
//
//	offset  size  field      meaning
//	     0     2  entry_end  entries of this bucket and those before it
//	     2     2  more_end   their more rows
//	     4     4  crc32c     of the bucket's entries, then its more rows, seeded
const (
	offEntryEnd, offMoreEnd, offBucketCRC = 0, 2, 4
	bucketSize                            = 8
	tagSize                               = 2
)

var _ [pageHeader]byte = [offReserved + 16]byte{}

const pageInUse = 1 << 0

// State is the header of a group's page.
type State struct {
	Prefix     uint64        // the top LocalDepth bits of its hashes; the rest 0
	RowAddress uint64        // bytes; 0: no row
	Commit     hdf5io.Commit // in which the row was written: it holds what runs up to that commit hold
	Created    hdf5io.Commit // in which the group was created
	Folded     int64         // when the row was written, ns since 1970
	Entries    uint32        // of the row
	Mores      uint32        // more rows of the row
	LocalDepth uint8         // bits, 0 to 64
	BucketBits uint8         // the group has 2^BucketBits buckets
}

// Buckets is the number of buckets of the group.
func (s *State) Buckets() int { return 1 << s.BucketBits }

// Covers reports whether a hash lies under the group's prefix.
func (s *State) Covers(hash uint64) bool { return (hash^s.Prefix)&prefixMask(s.LocalDepth) == 0 }

// Last is the highest hash of the group.
func (s *State) Last() uint64 { return s.Prefix | ^prefixMask(s.LocalDepth) }

// prefixMask has the top depth bits; all of them from 64 on.
func prefixMask(depth uint8) uint64 { return ^(math.MaxUint64 >> depth) }

// put writes the header of a page in use over zeros.
func (s *State) put(p []byte) {
	le := binary.LittleEndian
	le.PutUint64(p[offPrefix:], s.Prefix)
	le.PutUint64(p[offRowAddress:], s.RowAddress)
	le.PutUint64(p[offCommit:], uint64(s.Commit))
	le.PutUint64(p[offCreated:], uint64(s.Created))
	le.PutUint64(p[offFolded:], uint64(s.Folded))
	le.PutUint32(p[offEntryCount:], s.Entries)
	le.PutUint32(p[offMoreCount:], s.Mores)
	p[offLocalDepth], p[offBucketBits], p[offPageFlags] = s.LocalDepth, s.BucketBits, pageInUse
}

// page is a group's page, read in place; valid while its View is pinned. After
// check every count and size in it is safe to use.
type page []byte

func (p page) prefix() uint64        { return binary.LittleEndian.Uint64(p[offPrefix:]) }
func (p page) address() uint64       { return binary.LittleEndian.Uint64(p[offRowAddress:]) }
func (p page) commit() hdf5io.Commit { return hdf5io.Commit(binary.LittleEndian.Uint64(p[offCommit:])) }
func (p page) entries() int          { return int(binary.LittleEndian.Uint32(p[offEntryCount:])) }
func (p page) mores() int            { return int(binary.LittleEndian.Uint32(p[offMoreCount:])) }
func (p page) depth() uint8          { return p[offLocalDepth] }
func (p page) bits() uint8           { return p[offBucketBits] }
func (p page) bucket(i int) []byte   { return p[pageHeader+i*bucketSize:][:bucketSize] }

// span is the part of a row, or of a run, that one bucket or slot has.
type span struct {
	first, end         int // entries
	firstMore, endMore int // more rows
	crc                uint32
}

// span returns that of bucket i.
func (p page) span(i int) (s span) {
	le := binary.LittleEndian
	b := p.bucket(i)
	s.end, s.endMore, s.crc = int(le.Uint16(b[offEntryEnd:])), int(le.Uint16(b[offMoreEnd:])), le.Uint32(b[offBucketCRC:])
	if i > 0 {
		b = p.bucket(i - 1)
		s.first, s.firstMore = int(le.Uint16(b[offEntryEnd:])), int(le.Uint16(b[offMoreEnd:]))
	}
	return s
}

// tags returns the tags of all entries, in the order of the entries.
func (p page) tags(g Geometry) []byte { return p[pageHeader+g.Buckets*bucketSize:] }

// state copies the header.
func (p page) state() State {
	le := binary.LittleEndian
	return State{
		Prefix: p.prefix(), RowAddress: p.address(), Commit: p.commit(), Created: hdf5io.Commit(le.Uint64(p[offCreated:])),
		Folded: int64(le.Uint64(p[offFolded:])), Entries: uint32(p.entries()), Mores: uint32(p.mores()),
		LocalDepth: p.depth(), BucketBits: p.bits(),
	}
}

// outline is what a lookup needs of a page's header and records. It is kept with the
// page: in the page itself it lies on more lines of memory than near caches hold.
type outline struct {
	prefix      uint64
	address     uint64 // of the row
	commit      hdf5io.Commit
	mores       uint32 // more rows of the row
	depth, bits uint8
	ends        [mostBuckets]uint16 // entries of each bucket and of those before it
}

// outline returns that of a page that has passed check.
func (p page) outline() *outline {
	o := &outline{prefix: p.prefix(), address: p.address(), commit: p.commit(), mores: uint32(p.mores()), depth: p.depth(), bits: p.bits()}
	for i := range 1 << p.bits() {
		o.ends[i] = uint16(p.span(i).end)
	}
	return o
}

// bucket returns the first entry of bucket i, and how many it has.
func (o *outline) bucket(i int) (first, count int) {
	if i > 0 {
		first = int(o.ends[i-1])
	}
	return first, int(o.ends[i]) - first
}

// check reports why p, which lies at an offset of the file, cannot be the page of
// group id in a file of this shape whose end is at end.
func (p page) check(id uint32, at int64, g Geometry, end int64) error {
	bad := func(format string, args ...any) error {
		return corrupt.Errorf(groupName(id), at, format, args...)
	}
	le := binary.LittleEndian
	s := p.state()
	size := int64(g.chunks(int(s.Entries))+g.chunks(int(s.Mores))) * int64(g.chunkBytes())
	switch {
	case p[offPageFlags] != pageInUse:
		return bad("flags %#x, want %#x: nothing should lead to a group that is not in use", p[offPageFlags], pageInUse)
	case !allZero(p[offPadding:pageHeader]):
		return bad("reserved bytes are not zero")
	case s.LocalDepth > 64 || s.Prefix&^prefixMask(s.LocalDepth) != 0:
		return bad("prefix %#x of %d bits, want at most 64 bits and zero below", s.Prefix, s.LocalDepth)
	case s.BucketBits > 6 || s.Buckets() > g.Buckets:
		return bad("2^%d buckets, want at most %d", s.BucketBits, g.Buckets)
	case int(s.Entries) > g.Capacity || s.Mores > s.Entries:
		return bad("%d entries and %d more rows, want at most %d", s.Entries, s.Mores, g.Capacity)
	case (s.RowAddress == 0) != (s.Entries == 0) || s.RowAddress%hdf5io.ExtentUnit != 0 || s.RowAddress > uint64(max(end-size, 0)):
		return bad("row of %d bytes at %#x, the file's end is at %#x", size, s.RowAddress, end)
	}
	before := span{}
	for i := range s.Buckets() {
		b := p.span(i)
		if b.end < before.end || b.endMore < before.endMore || b.endMore-before.endMore > b.end-before.end {
			return bad("bucket %d ends at entry %d and more row %d, the one before at %d and %d", i, b.end, b.endMore, before.end, before.endMore)
		}
		before = b
	}
	if before.end != int(s.Entries) || before.endMore != int(s.Mores) {
		return bad("the last bucket ends at entry %d and more row %d, want %d and %d", before.end, before.endMore, s.Entries, s.Mores)
	}
	unused := p[pageHeader+s.Buckets()*bucketSize : pageHeader+g.Buckets*bucketSize]
	if !allZero(unused) || !allZero(p.tags(g)[int(s.Entries)*tagSize:]) {
		return bad("unused bucket records or tags are not zero")
	}
	tags := p.tags(g)
	for i := range s.Buckets() {
		b := p.span(i)
		for k := b.first + 1; k < b.end; k++ {
			if le.Uint16(tags[k*tagSize:]) < le.Uint16(tags[(k-1)*tagSize:]) {
				return bad("tag %d of bucket %d is below the one before", k-b.first, i)
			}
		}
	}
	return nil
}

func groupName(id uint32) string { return fmt.Sprintf("group %d", id) }

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

// bucketOf returns the number of the bucket of a group that a hash belongs to.
func bucketOf(hash uint64, depth, bits uint8) int { return int(hash << depth >> (64 - bits)) }

// tagOf is the tag of a hash among those that share their top bits: the next
// sixteen bits. The tags of a bucket or slot are in order, as their hashes are.
func tagOf(hash uint64, shared uint) uint16 { return uint16(hash << shared >> 48) }

// lowerTag returns the index of the first of n tags, which ascend, that is not
// below tag; n if there is none. Hashes are spread evenly, so the tag itself says
// roughly where to look.
func lowerTag(tags []byte, n int, tag uint16) int {
	if n == 0 {
		return 0
	}
	i := nearTag(n, tag)
	return lowerTagFrom(tags, n, tag, i, binary.LittleEndian.Uint16(tags[i*tagSize:]))
}

// nearTag is roughly where a tag is among n.
func nearTag(n int, tag uint16) int { return int(tag) * n >> 16 }

// lowerTagFrom is lowerTag, beginning at tag i, which is near.
func lowerTagFrom(tags []byte, n int, tag uint16, i int, near uint16) int {
	le := binary.LittleEndian
	tags = tags[: n*tagSize : n*tagSize]
	if near < tag {
		for steps := 0; i < n && le.Uint16(tags[i*tagSize:]) < tag; steps++ {
			if i++; steps == farTag {
				return halveTags(tags, i, n, tag)
			}
		}
		return i
	}
	for steps := 0; i > 0 && le.Uint16(tags[(i-1)*tagSize:]) >= tag; steps++ {
		if i--; steps == farTag {
			return halveTags(tags, 0, i, tag)
		}
	}
	return i
}

// farTag is how many tags are passed one by one before the search continues by
// halving, which happens only if hashes are not spread evenly.
const farTag = 48

func halveTags(tags []byte, lo, hi int, tag uint16) int {
	for lo < hi {
		if m := (lo + hi) / 2; binary.LittleEndian.Uint16(tags[m*tagSize:]) < tag {
			lo = m + 1
		} else {
			hi = m
		}
	}
	return lo
}
