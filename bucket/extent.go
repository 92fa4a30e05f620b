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

// trust is what is known about the bytes of an extent.
type trust uint8

const (
	// wasGood: its checksum agreed once. Entries are judged when returned.
	wasGood trust = iota
	// isGood: its checksum agrees now, and with it every entry's.
	isGood
	// isBad: its checksum disagrees. Entries are judged one by one.
	isBad
)

// extent is a row or a tail, read in place; valid while its View is pinned.
type extent struct {
	bytes, mores []byte // all of it; its chunks of more rows
	count        int    // entries
	id           uint32
	tail         bool
	trust        trust
	got, want    uint32 // checksums, where isBad
	address      uint64
	commit       uint64
}

func (x *extent) name() string {
	if x.tail {
		return fmt.Sprintf("tail of bucket %d", x.id)
	}
	return fmt.Sprintf("row of bucket %d", x.id)
}

// damage is the error of an extent whose checksum disagrees.
func (x *extent) damage() error {
	return corrupt.Errorf(x.name(), int64(x.address), "crc32c %#08x, want %#08x", x.got, x.want)
}

func (x *extent) key(i int) keys.E { return getE(x.bytes[i*EntrySize+offKeyHigh:]) }

// rowOf makes x a bucket's row; s has passed Check and has one.
func (t *Table) rowOf(x *extent, id uint32, s *State, page *hdf5io.Page, again bool) error {
	x.id, x.count, x.address, x.commit, x.want = id, int(s.SortedCount), s.RowAddress, s.Commit, s.CRC
	return t.load(x, int(s.EntryChunks), int(s.MoreChunks), page, int(id%PageStates), again)
}

// tailOf makes x a bucket's tail; s has passed Check and has one.
func (t *Table) tailOf(x *extent, id uint32, s *State, page *hdf5io.Page, again bool) error {
	x.id, x.tail, x.count, x.address, x.commit, x.want = id, true, int(s.TailCount), s.TailAddress, s.TailCommit, s.TailCRC
	return t.load(x, 1, int(s.TailMore), page, PageStates+int(id%PageStates), again)
}

// load reads the extent's bytes and verifies them, at first touch or, if again
// is set or the Table verifies always, now. What was verified is marked on page.
func (t *Table) load(x *extent, entryChunks, moreChunks int, page *hdf5io.Page, mark int, again bool) error {
	chunkBytes := t.geometry.chunkBytes()
	size := (entryChunks + moreChunks) * chunkBytes
	if end := t.view.EndOfFile(); int64(x.address) > end-int64(size) {
		return corrupt.Errorf(x.name(), int64(x.address), "%d bytes, the file's end is at %#x", size, end)
	}
	data, err := t.view.Bytes(int64(x.address), size)
	if err != nil {
		return fmt.Errorf("%s: %w", x.name(), err)
	}
	x.bytes, x.mores = data, data[entryChunks*chunkBytes:]
	if !again && t.verify == FirstTouch && page.Marked(mark) {
		return nil
	}
	x.got = t.seal.sum(data)
	switch {
	case x.got == x.want:
		x.trust = isGood
	case t.seal.sum(correctMasks(data, x.count)) == x.want:
		// Only masks are wrong, one bit each: each is counted when it is returned.
	default:
		x.trust = isBad
		t.judged.Add(1)
		return nil
	}
	page.Mark(mark)
	return nil
}

// correctMasks returns a copy of an extent in which every correctable mask of
// its first count entries is corrected.
func correctMasks(data []byte, count int) []byte {
	data = bytes.Clone(data)
	for i := range count {
		mask := &data[i*EntrySize+offMask]
		word, _ := ecc.Mask(*mask).Correct()
		*mask = byte(word)
	}
	return data
}

// Entry is one key as the file has it. It is valid while its View is pinned; the
// zero Entry has no value.
type Entry struct {
	raw, more []byte // more: nil without a more row
	count     uint8  // inline values
	deleted   bool   // of a tail; never handed out
}

// entry judges entry i of x and returns it. It does not allocate unless
// something is wrong.
func (t *Table) entry(x *extent, i int, seed uint32) (Entry, error) {
	e := Entry{raw: x.bytes[i*EntrySize:][:EntrySize:EntrySize]}
	number := int(binary.LittleEndian.Uint16(e.raw[offMore:]))
	if number > len(x.mores)/MoreSize {
		return Entry{}, x.entryError(i, "more row %d of %d", number, len(x.mores)/MoreSize)
	}
	if number > 0 {
		e.more = x.mores[(number-1)*MoreSize:][:MoreSize:MoreSize]
	}
	data, status := ecc.Decode(e.raw[offMask])
	if x.trust != isGood {
		got, want := t.seal.entrySum(seed, e.raw, e.more), binary.LittleEndian.Uint32(e.raw[offEntryCRC:])
		if status == ecc.Corrected {
			fixed := bytes.Clone(e.raw)
			fixed[offMask] = ecc.Encode(data)
			got = t.seal.entrySum(seed, fixed, e.more)
		}
		if got != want || status == ecc.Uncorrectable {
			return Entry{}, x.entryError(i, "state mask %#02x, crc32c %#08x, want %#08x", e.raw[offMask], got, want)
		}
		if status == ecc.Corrected {
			t.corrected.Add(1)
		}
	} else if status != ecc.OK {
		return Entry{}, x.entryError(i, "state mask %#02x under a good checksum", e.raw[offMask])
	}
	e.count = uint8(bits.Len8(data))
	e.deleted = e.raw[offFlags] == entryDeleted
	if why := e.shape(data, x.tail); why != "" {
		return Entry{}, x.entryError(i, "%s: state mask data %#x, flags %#x, more %d, %d values", why,
			data, e.raw[offFlags], number, binary.LittleEndian.Uint32(e.raw[offCount:]))
	}
	return e, nil
}

func (x *extent) entryError(i int, format string, args ...any) error {
	return corrupt.Errorf(x.name(), int64(x.address)+int64(i)*EntrySize, "entry %d: %w", i, fmt.Errorf(format, args...))
}

// shape tells what is wrong with an entry whose checksum is right, or nothing:
// only damage that was written with a checksum, or an error of ours, gets here.
func (e *Entry) shape(data uint8, tail bool) string {
	le := binary.LittleEndian
	switch {
	case e.raw[offFlags]&^entryDeleted != 0:
		return "unknown flags"
	case e.deleted && !tail:
		return "deleted entry in a row"
	case data&(data+1) != 0:
		return "gap between values"
	case le.Uint32(e.raw[offCount:]) != uint32(e.count):
		return "value count"
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

// Key returns the entry's key.
func (e Entry) Key() keys.E { return getE(e.raw[offKeyHigh:]) }

// Version counts the changes of the key, modulo 2^32.
func (e Entry) Version() uint32 { return binary.LittleEndian.Uint32(e.raw[offVersion:]) }

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

// Has tells whether v is an inline value.
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
	*it = Item{Hash: hash, Key: e.Key(), Version: e.Version(), Count: e.count, Deleted: e.deleted}
	it.Set, it.Spilled = e.Spilled()
	for i := range int(e.count) {
		it.Values[i] = e.value(i)
	}
}
