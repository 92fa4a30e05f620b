package valueset

import (
	"encoding/binary"
	"fmt"
	"sort"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/internal/crc32c"
	"github.com/cidstore/cidstore/internal/order"
	"github.com/cidstore/cidstore/keys"
)

const (
	nodeSize   = 4096
	leafValues = nodeSize / keys.Size
	fanOut     = nodeSize / childSize
)

// A child record, of which an inner node holds up to 64. Little-endian.
//
// FORMAT.md: child record
//
//	offset  size  field            meaning
//	     0     8  separator_high   no value below the child is smaller; the first child's may be smaller than any
//	     8     8  separator_low
//	    16     8  child            its node number
//	    24     8  address          of its chunk; 0: the record is unused
//	    32     8  count            live values in and below it
//	    40     8  tombstone_count  tombstoned values in and below it
//	    48     8  commit           in which it was written
//	    56     4  crc32c           of its 4,096 bytes, seeded
//	    60     4  reserved         0
const (
	offSeparatorHigh, offSeparatorLow, offChild, offChildAddress = 0, 8, 16, 24
	offChildCount, offChildTombs, offChildCommit, offChildCRC    = 32, 40, 48, 56
	offChildReserved                                             = 60
	childSize                                                    = 64
)

var _ [childSize]byte = [offChildReserved + 4]byte{}

// child names a node: what its parent's record, or for the root the set's
// state, says about it.
type child struct {
	separator keys.E
	node      uint64
	at        uint64 // address
	count     uint64
	tombs     uint64
	commit    hdf5io.Commit
	crc       uint32
}

func (c *child) append(dst []byte) []byte {
	dst = c.separator.AppendHDF5(dst)
	for _, v := range [...]uint64{c.node, c.at, c.count, c.tombs, uint64(c.commit)} {
		dst = binary.LittleEndian.AppendUint64(dst, v)
	}
	return binary.LittleEndian.AppendUint64(dst, uint64(c.crc)) // with reserved
}

// bad makes the error of a damaged node.
func (c *child) bad(format string, args ...any) error {
	return corrupt.Errorf(fmt.Sprintf("node %d of /values/nodes", c.node), int64(c.at&(1<<63-1)), format, args...)
}

// inner is the bytes of an inner node.
type inner []byte

func (n inner) separator(i int) keys.E { return valueAt(n, i*(childSize/keys.Size)) }

func (n inner) child(i int) child {
	b := n[i*childSize : (i+1)*childSize]
	u64 := func(at int) uint64 { return binary.LittleEndian.Uint64(b[at:]) }
	return child{
		separator: keys.E{High: u64(offSeparatorHigh), Low: u64(offSeparatorLow)},
		node:      u64(offChild),
		at:        u64(offChildAddress),
		count:     u64(offChildCount),
		tombs:     u64(offChildTombs),
		commit:    hdf5io.Commit(u64(offChildCommit)),
		crc:       binary.LittleEndian.Uint32(b[offChildCRC:]),
	}
}

// len is the number of used records, which come before all unused ones.
func (n inner) len() int {
	return sort.Search(fanOut, func(i int) bool { return binary.LittleEndian.Uint64(n[i*childSize+offChildAddress:]) == 0 })
}

// find returns the child whose range holds v, among the used ones: the last whose
// separator is not above v, or the first.
func (n inner) find(v keys.E, used int) int {
	lo, hi := 1, used // children below lo are at most v, those from hi on above
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		if order.Less(v, n.separator(mid)) {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo - 1
}

// children decodes and checks all records.
func (n inner) children(c *child) ([]child, error) {
	used, err := n.judge(c)
	if err != nil {
		return nil, err
	}
	list := make([]child, used)
	for i := range list {
		list[i] = n.child(i)
	}
	return list, nil
}

// judge returns how many records are used, after it has checked all of them: their
// order, their addresses, and that their counts add up to those of the node itself,
// c.
func (n inner) judge(c *child) (used int, err error) {
	used = n.len()
	if used == 0 {
		return 0, c.bad("inner node without children")
	}
	for _, b := range n[used*childSize:] {
		if b != 0 {
			return 0, c.bad("bytes after its %d children, want zeros", used)
		}
	}
	count, tombs := c.count, c.tombs // what is left for the children to come
	for i := range used {
		k := n.child(i)
		switch {
		case k.at == 0 || k.at%hdf5io.ExtentUnit != 0 || k.commit > c.commit:
			return 0, c.bad("child %d at address %#x, of commit %d; want a multiple of %d and at most %d", i, k.at, k.commit, hdf5io.ExtentUnit, c.commit)
		case binary.LittleEndian.Uint32(n[i*childSize+offChildReserved:]) != 0:
			return 0, c.bad("child %d: reserved bytes are not zero", i)
		case i > 0 && !order.Less(n.separator(i-1), k.separator):
			return 0, c.bad("separator %v of child %d is not above the one before", k.separator, i)
		case k.count > count || k.tombs > tombs || k.count == 0 && k.tombs == 0:
			return 0, c.bad("child %d with %d values and %d tombstones: the node has %d and %d", i, k.count, k.tombs, c.count, c.tombs)
		}
		count, tombs = count-k.count, tombs-k.tombs
	}
	if count != 0 || tombs != 0 {
		return 0, c.bad("children hold %d values and %d tombstones fewer than the node's %d and %d", count, tombs, c.count, c.tombs)
	}
	return used, nil
}

// values is sorted values as they lie in a row or leaf.
type values []byte

func (b values) len() int { return len(b) / keys.Size }

func (b values) at(i int) keys.E { return valueAt(b, i) }

func valueAt(b []byte, i int) keys.E {
	b = b[i*keys.Size : (i+1)*keys.Size]
	return keys.E{High: binary.LittleEndian.Uint64(b), Low: binary.LittleEndian.Uint64(b[8:])}
}

// find returns the index of the first value that is not below v, and whether it is
// v.
func (b values) find(v keys.E) (int, bool) {
	lo, hi := 0, b.len()
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		if order.Less(b.at(mid), v) {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, lo < b.len() && b.at(lo) == v
}

// split returns the live and the tombstoned values in the bytes of a row or leaf.
// The caller has checked that the bytes hold that many.
func split(b []byte, count, tombs uint64) (live, dead values) {
	n := count * keys.Size
	return values(b[:n]), values(b[n : n+tombs*keys.Size])
}

// checkValues checks that the bytes of a row or leaf obey V1, and that the rest is
// zero.
func checkValues(b []byte, count, tombs uint64) error {
	live, dead := split(b, count, tombs)
	for _, list := range [...]values{live, dead} {
		for i := 1; i < list.len(); i++ {
			if !order.Less(list.at(i-1), list.at(i)) {
				return fmt.Errorf("value %v follows %v", list.at(i), list.at(i-1))
			}
		}
	}
	for i := range dead.len() {
		if _, found := live.find(dead.at(i)); found {
			return fmt.Errorf("value %v is live and a tombstone", dead.at(i))
		}
	}
	for _, c := range b[(count+tombs)*keys.Size:] {
		if c != 0 {
			return fmt.Errorf("bytes after its %d values, want zeros", count+tombs)
		}
	}
	return nil
}

// seed is the CRC32C of file_uuid, with which every checksum here begins.
type seed uint32

func newSeed(uuid [16]byte) seed { return seed(crc32c.Sum(uuid[:])) }

// checksum is the CRC32C of b seeded with the file, a set id or node number, and
// the commit that wrote b.
func (s seed) checksum(number uint64, commit hdf5io.Commit, b []byte) uint32 {
	return crc32c.Extend(crc32c.ExtendUint64(crc32c.ExtendUint64(uint32(s), number), uint64(commit)), b)
}

func valueType() hdf5io.Datatype {
	return hdf5io.Compound(keys.Size,
		hdf5io.Field{Name: "high", Offset: 0, Type: hdf5io.Uint(8)},
		hdf5io.Field{Name: "low", Offset: 8, Type: hdf5io.Uint(8)})
}
