package bucket

import (
	"encoding/binary"
	"slices"

	"github.com/cidstore/cidstore/hdf5io"
)

// spliceRow writes the row of a bucket with changes over it. Entries that no
// change names are copied as they are, with new checksums: that takes half of
// what it takes to decode and encode them. It is not done, and nothing written,
// where the row is absent or damaged, where there is a chain, and where the
// result has no room.
func (w *Writer) spliceRow(id uint32, s *State, page *hdf5io.Page, changes []Item) (done bool, err error) {
	if s.SortedCount == 0 || s.Next != 0 {
		return false, nil
	}
	var x extent
	if err := w.base.rowOf(&x, id, s, page, true); err != nil || x.trust != isGood {
		return false, err
	}
	rows, ok := w.planSplice(&x, s, changes)
	if !ok || len(w.plan) > w.base.geometry.Threshold {
		return false, nil
	}
	var put placed
	if len(w.plan) > 0 {
		if put, err = w.placeBytes(id, w.splice(&x, changes, rows, w.base.seal.seed(id, w.commit))); err != nil {
			return false, err
		}
		put.moreChunks = w.base.geometry.chunks(rows)
	}
	w.putRow(id, s, *s, len(w.plan), put)
	return true, nil
}

// planSplice makes w.plan: for each entry of the result its number in x, or
// -1 - its number in changes. rows is how many have a more row. Not ok: x is out
// of order, which decoding it will tell in full.
func (w *Writer) planSplice(x *extent, s *State, changes []Item) (rows int, ok bool) {
	w.plan = w.plan[:0]
	c := 0
	take := func(version uint32) {
		if changes[c].Version == 0 {
			changes[c].Version = version
		}
		if !changes[c].Deleted {
			w.plan = append(w.plan, -1-int32(c))
			if changes[c].Count > 1 {
				rows++
			}
		}
		c++
	}
	before := Item{Hash: s.Prefix}
	for i := range x.count {
		it := Item{Key: x.key(i)}
		it.Hash = w.base.hasher.Hash(it.Key)
		if !s.Covers(it.Hash) || i > 0 && !Less(&before, &it) {
			return 0, false
		}
		before.Hash, before.Key = it.Hash, it.Key
		for c < len(changes) && Less(&changes[c], &it) {
			take(1)
		}
		raw := x.bytes[i*EntrySize:][:EntrySize]
		if c < len(changes) && changes[c].Key == it.Key {
			take(binary.LittleEndian.Uint32(raw[offVersion:]) + 1)
			continue
		}
		w.plan = append(w.plan, int32(i))
		if more := binary.LittleEndian.Uint16(raw[offMore:]); more > 0 {
			if int(more) > len(x.mores)/MoreSize {
				return 0, false
			}
			rows++
		}
	}
	for c < len(changes) {
		take(1)
	}
	return rows, true
}

// splice makes the extent that w.plan says.
func (w *Writer) splice(x *extent, changes []Item, rows int, seed uint32) []byte {
	g, le := w.base.geometry, binary.LittleEndian
	size := (g.chunks(len(w.plan)) + g.chunks(rows)) * g.chunkBytes()
	w.bytes = slices.Grow(w.bytes[:0], size)[:size]
	clear(w.bytes)
	mores := w.bytes[g.chunks(len(w.plan))*g.chunkBytes():]
	number := uint16(0)
	for k, n := range w.plan {
		entry := w.bytes[k*EntrySize:][:EntrySize]
		var more []byte
		if n < 0 {
			it := &changes[-1-n]
			if it.Count > 1 {
				more = mores[int(number)*MoreSize:][:MoreSize]
				putMore(more, it)
			}
			putEntry(entry, it, 0)
		} else {
			copy(entry, x.bytes[int(n)*EntrySize:])
			if old := le.Uint16(entry[offMore:]); old > 0 {
				more = mores[int(number)*MoreSize:][:MoreSize]
				copy(more, x.mores[(int(old)-1)*MoreSize:])
			}
		}
		if more != nil {
			number++
			le.PutUint16(entry[offMore:], number)
		}
		le.PutUint32(entry[offEntryCRC:], w.base.seal.entrySum(seed, entry, more))
	}
	return w.bytes
}
