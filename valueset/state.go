package valueset

import (
	"encoding/binary"

	"github.com/cidstore/cidstore/ecc"
	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/keys"
)

const (
	// Inline is the most values that a hash entry holds; one more promotes the set.
	Inline = ecc.Slots
	// maxRow is the most values, tombstones included, that a row holds.
	maxRow = 1024

	classFree = 0
	classTree = 65535
	// maxDepth bounds the levels of inner nodes. Nodes that split have at least two
	// children, so a tree of this depth could hold more values than a file can.
	maxDepth = 24
)

// classes are the sizes of rows, in values. Each is at most 1.5 times the one
// before.
const classCount = 16

var classes = [classCount]int{6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024}

// classOf is the index of the smallest class that holds n values, n up to maxRow.
func classOf(n int) int {
	i := 0
	for classes[i] < n {
		i++
	}
	return i
}

// classIndex finds a class by its size.
func classIndex(size uint16) (int, bool) {
	if size > maxRow {
		return 0, false
	}
	i := classOf(int(size))
	return i, classes[i] == int(size)
}

// A set state, one element of /values/state. Little-endian.
//
// FORMAT.md: set state
//
//	offset  size  field            meaning
//	     0     8  owner_high       the key
//	     8     8  owner_low
//	    16     8  row              tree: number of the root node; else the set id
//	    24     8  row_address
//	    32     8  commit           in which the row or root node was written
//	    40     8  count            live values
//	    48     8  tombstone_count
//	    56     8  sorted_count     equals count
//	    64     4  crc32c           of the row or root node, seeded
//	    68     2  class            N; 65535: a tree; 0: unused, and all is 0
//	    70     2  depth            tree: levels of inner nodes
const (
	offOwnerHigh, offOwnerLow, offRow, offAddress = 0, 8, 16, 24
	offCommit, offCount, offTombs, offSorted      = 32, 40, 48, 56
	offCRC, offClass, offDepth                    = 64, 68, 70
	stateSize                                     = 72

	pageRows = 64 // states of a chunk
)

var _ [stateSize]byte = [offDepth + 2]byte{}

// state is the set state of one set id.
type state struct {
	owner  keys.E
	row    uint64
	at     uint64 // address
	commit hdf5io.Commit
	count  uint64
	tombs  uint64
	sorted uint64
	crc    uint32
	class  uint16
	depth  uint16
}

func (s *state) append(dst []byte) []byte {
	dst = s.owner.AppendHDF5(dst)
	for _, v := range [...]uint64{s.row, s.at, uint64(s.commit), s.count, s.tombs, s.sorted} {
		dst = binary.LittleEndian.AppendUint64(dst, v)
	}
	dst = binary.LittleEndian.AppendUint32(dst, s.crc)
	dst = binary.LittleEndian.AppendUint16(dst, s.class)
	return binary.LittleEndian.AppendUint16(dst, s.depth)
}

// parseState reads the stateSize bytes of b.
func parseState(b []byte) state {
	u64 := func(at int) uint64 { return binary.LittleEndian.Uint64(b[at:]) }
	return state{
		owner:  keys.E{High: u64(offOwnerHigh), Low: u64(offOwnerLow)},
		row:    u64(offRow),
		at:     u64(offAddress),
		commit: hdf5io.Commit(u64(offCommit)),
		count:  u64(offCount),
		tombs:  u64(offTombs),
		sorted: u64(offSorted),
		crc:    binary.LittleEndian.Uint32(b[offCRC:]),
		class:  binary.LittleEndian.Uint16(b[offClass:]),
		depth:  binary.LittleEndian.Uint16(b[offDepth:]),
	}
}

// check checks a state that was parsed. end is the end of the file: a set takes 16
// bytes of it for each value, which bounds its counts.
func (s *state) check(set uint64, commit hdf5io.Commit, end uint64) error {
	bad := func(format string, args ...any) error { return setError(set, s.at, format, args...) }
	if s.class == classFree {
		if *s != (state{}) {
			return bad("unused, but not empty: owner %v, row %d, count %d", s.owner, s.row, s.count)
		}
		return nil
	}
	limit := uint64(s.class)
	switch _, isRow := classIndex(s.class); {
	case s.class == classTree:
		limit = end / keys.Size
		if s.depth > maxDepth {
			return bad("depth %d, limit %d", s.depth, maxDepth)
		}
	case !isRow:
		return bad("class %d, which does not exist", s.class)
	case s.depth != 0 || s.row != set:
		return bad("depth %d, row %d, want 0 and %d", s.depth, s.row, set)
	}
	switch {
	case s.count == 0 || s.count > limit || s.tombs > limit-s.count:
		return bad("%d values and %d tombstones, want 1 or more and together up to %d", s.count, s.tombs, limit)
	case s.sorted != s.count:
		return bad("sorted_count %d, want %d", s.sorted, s.count)
	case s.at == 0 || s.at%hdf5io.ExtentUnit != 0 || s.at >= end:
		return bad("address %#x, want a multiple of %d below %#x", s.at, hdf5io.ExtentUnit, end)
	case s.commit > commit:
		return bad("written in commit %d, later than %d", s.commit, commit)
	}
	return nil
}

func setError(set, address uint64, format string, args ...any) error {
	return corrupt.Errorf(setName(set), int64(address&(1<<63-1)), format, args...)
}

func stateType() hdf5io.Datatype {
	names := [...]string{"owner_high", "owner_low", "row", "row_address", "commit", "count", "tombstone_count", "sorted_count"}
	fields := make([]hdf5io.Field, 0, len(names)+3)
	for i, name := range names {
		fields = append(fields, hdf5io.Field{Name: name, Offset: uint32(8 * i), Type: hdf5io.Uint(8)})
	}
	return hdf5io.Compound(stateSize, append(fields,
		hdf5io.Field{Name: "crc32c", Offset: offCRC, Type: hdf5io.Uint(4)},
		hdf5io.Field{Name: "class", Offset: offClass, Type: hdf5io.Uint(2)},
		hdf5io.Field{Name: "depth", Offset: offDepth, Type: hdf5io.Uint(2)})...)
}
