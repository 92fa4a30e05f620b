package bucket

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/cidstore/cidstore/ecc"
	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/keys"
)

// trust is what is known about the bytes of a part.
type trust uint8

const (
	// wasGood: its checksum agreed once. Entries are verified when they are
	// returned.
	wasGood trust = iota
	// isGood: its checksum agrees now, and with it every entry's.
	isGood
	// isBad: its checksum disagrees. Entries are verified one by one.
	isBad
)

// owner says what a part belongs to; it seeds the checksums.
type owner struct {
	id     uint64        // of the group; runID for a run
	commit hdf5io.Commit // in which it was written
}

// runID takes the place of a group id in the seed of the checksums of runs, so that
// no entry of a run can pass for one of a group.
const runID = 1 << 32

// part is a bucket of a row or a slot of a run, read in place; valid while its
// View is pinned.
type part struct {
	owner
	number         int    // of the bucket or slot
	entries, mores []byte // its own
	tags           []byte // of a slot, under its checksum; those of a bucket are under the checksum of its page
	count          int    // entries
	address        uint64 // of its first entry
	trust          trust
	got, want      uint32 // checksums, if isBad
}

func (x *part) name() string {
	if x.id == runID {
		return fmt.Sprintf("slot %d of run %d", x.number, x.commit)
	}
	return fmt.Sprintf("bucket %d of group %d", x.number, x.id)
}

// damage is the error of a part whose checksum disagrees.
func (x *part) damage() error {
	return corrupt.Errorf(x.name(), int64(x.address), "crc32c %#08x, want %#08x", x.got, x.want)
}

func (x *part) key(i int) keys.E { return getE(x.entries[i*EntrySize+offKeyHigh:]) }

func (x *part) entryError(i int, format string, args ...any) error {
	return corrupt.Errorf(x.name(), int64(x.address)+int64(i)*EntrySize, "entry %d: %w", i, fmt.Errorf(format, args...))
}

// load reads a part from the entries and more rows at two addresses in the file.
func (t *Table) load(x *part, s span, entries, mores uint64) (err error) {
	x.count, x.want = s.end-s.first, s.crc
	x.address = entries + uint64(s.first)*EntrySize
	if x.entries, err = t.view.Bytes(int64(x.address), x.count*EntrySize); err != nil {
		return fmt.Errorf("%s: %w", x.name(), err)
	}
	if n := s.endMore - s.firstMore; n > 0 {
		if x.mores, err = t.view.Bytes(int64(mores)+int64(s.firstMore)*moreSize, n*moreSize); err != nil {
			return fmt.Errorf("%s: %w", x.name(), err)
		}
	}
	return nil
}

// judge verifies a part's checksum and reports whether it is good, either as it is,
// or after correcting masks that have one wrong bit.
func (t *Table) judge(x *part) bool {
	seed := t.seal.partSeed(x.owner, x.number)
	x.got = t.seal.partSum(seed, x.entries, x.mores, x.tags)
	switch {
	case x.got == x.want:
		x.trust = isGood
	case t.seal.partSum(seed, correctMasks(x.entries, x.count), x.mores, x.tags) == x.want:
		// Each corrected mask is counted when its entry is returned.
	default:
		x.trust = isBad
		t.damage.judged.Add(1)
		return false
	}
	return true
}

// correctMasks returns a copy of entries in which every correctable mask is
// corrected.
func correctMasks(entries []byte, count int) []byte {
	entries = bytes.Clone(entries)
	for i := range count {
		mask := &entries[i*EntrySize+offMask]
		word, _ := ecc.Mask(*mask).Correct()
		*mask = byte(word)
	}
	return entries
}

// Entry is one key as the file has it. It is valid while its View is pinned; the
// zero Entry has no value. It is small enough to be returned in registers.
type Entry struct {
	raw     *[EntrySize]byte
	more    *[moreSize]byte // nil without a more row
	count   uint8           // inline values
	deleted bool            // of a run; callers of this package never get it
}

// moreRow returns the bytes of the more row, or nil.
func (e *Entry) moreRow() []byte {
	if e.more == nil {
		return nil
	}
	return e.more[:]
}

// entry verifies entry i of x and returns it. It does not allocate unless something
// is wrong.
func (t *Table) entry(x *part, i int) (Entry, error) {
	e := Entry{raw: (*[EntrySize]byte)(x.entries[i*EntrySize:])}
	number := int(binary.LittleEndian.Uint16(e.raw[offMore:]))
	if number > len(x.mores)/moreSize {
		return Entry{}, x.entryError(i, "more row %d of %d", number, len(x.mores)/moreSize)
	}
	if number > 0 {
		e.more = (*[moreSize]byte)(x.mores[(number-1)*moreSize:])
	}
	data, status := ecc.Decode(e.raw[offMask])
	if x.trust != isGood {
		seed := t.seal.seed(x.id, x.commit)
		got, want := t.seal.entrySum(seed, e.raw[:], e.moreRow()), binary.LittleEndian.Uint32(e.raw[offEntryCRC:])
		if status == ecc.Corrected {
			fixed := bytes.Clone(e.raw[:])
			fixed[offMask] = ecc.Encode(data)
			got = t.seal.entrySum(seed, fixed, e.moreRow())
		}
		if got != want || status == ecc.Uncorrectable {
			return Entry{}, x.entryError(i, "state mask %#02x, crc32c %#08x, want %#08x", e.raw[offMask], got, want)
		}
		if status == ecc.Corrected {
			t.damage.corrected.Add(1)
		}
	} else if status != ecc.OK {
		return Entry{}, x.entryError(i, "state mask %#02x under a good checksum", e.raw[offMask])
	}
	e.count = uint8(bits.Len8(data))
	e.deleted = e.raw[offFlags] == entryDeleted
	if why := e.shape(data, x.id == runID); why != "" {
		return Entry{}, x.entryError(i, "%s: state mask data %#x, flags %#x, more %d, %d values", why,
			data, e.raw[offFlags], number, binary.LittleEndian.Uint32(e.raw[offCount:]))
	}
	return e, nil
}

// shape returns what is wrong with an entry whose checksum is right, or nothing.
// Only damage that was written with a checksum, or a mistake of this package, can
// be found here.
func (e *Entry) shape(data uint8, run bool) string {
	le := binary.LittleEndian
	switch {
	case e.raw[offFlags]&^entryDeleted != 0:
		return "unknown flags"
	case e.deleted && !run:
		return "deleted entry in a row"
	case data&(data+1) != 0:
		return "gap between values"
	case le.Uint32(e.raw[offCount:]) != uint32(e.count):
		return "value count"
	case le.Uint32(e.raw[offRelation:]) != 0:
		return "relation"
	case (e.more != nil) != (e.count > 1):
		return "more row"
	case e.deleted && (e.count != 0 || !allZero(e.raw[offValueHigh:offMask])):
		return "values of a deleted entry"
	case e.count == 0 && le.Uint64(e.raw[offValueHigh:]) != 0:
		return "high word of a set id"
	}
	for i := 1; i < int(e.count); i++ {
		if e.value(i-1).Compare(e.value(i)) >= 0 {
			return "values out of order"
		}
	}
	if e.more != nil && !allZero(e.more[(int(e.count)-1)*keys.Size:]) {
		return "unused value not zero"
	}
	return ""
}

func (e *Entry) value(i int) keys.E {
	if i == 0 {
		return getE(e.raw[offValueHigh:])
	}
	return getE(e.more[(i-1)*keys.Size:])
}

// key returns the entry's key.
func (e Entry) key() keys.E { return getE(e.raw[offKeyHigh:]) }

// Spilled returns the number of the set that holds the values, if one does.
func (e Entry) Spilled() (set uint64, ok bool) {
	if e.count != 0 || e.deleted || e.raw == nil {
		return 0, false
	}
	return binary.LittleEndian.Uint64(e.raw[offValueLow:]), true
}

// Count is the number of inline values: 1 to 4, or 0 when spilled.
func (e Entry) Count() int { return int(e.count) }

// AppendValues appends the inline values, ascending.
func (e Entry) AppendValues(dst []keys.E) []keys.E {
	for i := range int(e.count) {
		dst = append(dst, e.value(i))
	}
	return dst
}

// Has reports whether v is an inline value.
func (e Entry) Has(v keys.E) bool {
	for i := range int(e.count) {
		if e.value(i) == v {
			return true
		}
	}
	return false
}

// Item copies the entry; hash is the hash of its key.
func (e Entry) Item(hash uint64) Item {
	var it Item
	e.fill(&it, hash)
	return it
}

func (e *Entry) fill(it *Item, hash uint64) {
	*it = Item{Hash: hash, Key: e.key(), Count: e.count, Deleted: e.deleted}
	it.Set, it.Spilled = e.Spilled()
	for i := range int(e.count) {
		it.Values[i] = e.value(i)
	}
}
