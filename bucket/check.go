package bucket

import (
	"encoding/binary"
	"fmt"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/corrupt"
)

// Check reads a whole bucket, its tail and its chain, and reports everything
// that is wrong: pages, checksums of extents and of each entry, masks, order,
// prefix, duplicates, tags, numbering of more rows, unused bytes, counts, and
// where the HDF5 index says that its chunks lie. It repairs nothing and marks
// nothing that is wrong. It returns the number of live keys and of inline values
// found good, and the items whose values are in a set.
func (t *Table) Check(id uint32, report func(error)) (keyCount, values uint64, spilled []Item) {
	var s State
	page, err := t.head(id, &s)
	if err != nil {
		report(err)
		return 0, 0, nil
	}
	c := checker{t: t, report: report}
	tail := c.extent(nil, id, &s, page, true)
	items := c.extent(nil, id, &s, page, false)
	live := merge(nil, items, tail)
	if !c.damaged && uint64(len(live)) != uint64(s.EntryCount) {
		report(corrupt.Errorf(stateName(id), -1, "%d live keys, found %d", s.EntryCount, len(live)))
	}
	c.index(id, &s)
	at := id
	for way := (chain{anchor: id}); s.Next != 0; {
		if page, err = t.follow(&way, &at, &s); err != nil {
			report(err)
			break
		}
		before := len(live)
		live = c.extent(live, at, &s, page, false)
		if n := len(live) - before; !c.damaged && n != int(s.EntryCount) {
			report(corrupt.Errorf(stateName(at), -1, "%d live keys, found %d", s.EntryCount, n))
		}
		c.index(at, &s)
	}
	for i := range live {
		values += uint64(live[i].Count)
		if live[i].Spilled {
			spilled = append(spilled, live[i])
		}
	}
	return uint64(len(live)), values, spilled
}

// checker is the state of one Check.
type checker struct {
	t       *Table
	report  func(error)
	damaged bool // an entry could not be read: counts are not held against states
}

// extent checks a row or a tail and appends its good items to dst; all of dst
// and those must ascend.
func (c *checker) extent(dst []Item, id uint32, s *State, page *hdf5io.Page, tail bool) []Item {
	t := c.t
	load := t.rowOf
	if tail {
		load = t.tailOf
	}
	if tail && s.TailCount == 0 || !tail && s.SortedCount == 0 {
		return dst
	}
	var x extent
	if err := load(&x, id, s, page, true); err != nil {
		c.report(err)
		c.damaged = true
		return dst
	}
	if x.got != x.want {
		c.report(x.damage())
	} else {
		x.trust = wasGood // so that each entry's own checksum is looked at
	}
	seed, rows := t.seal.seed(x.id, x.commit), 0
	for i := range x.count {
		e, err := t.entry(&x, i, seed)
		if err != nil {
			c.report(err)
			c.damaged = true
			continue
		}
		if e.more != nil {
			rows++
			if number := int(binary.LittleEndian.Uint16(e.raw[offMore:])); number != rows {
				c.report(x.entryError(i, "more row number %d, want %d", number-1, rows-1))
			}
		}
		it := e.Item(t.hasher.Hash(e.Key()))
		if !s.Covers(it.Hash) {
			c.report(x.entryError(i, "hash %#x, want prefix %#x of %d bits", it.Hash, s.Prefix, s.LocalDepth))
		}
		if tail && s.TailTags[i] != byte(it.Hash) {
			c.report(x.entryError(i, "tag %#02x, want %#02x", s.TailTags[i], byte(it.Hash)))
		}
		if n := len(dst); n > 0 && !Less(&dst[n-1], &it) {
			c.report(x.entryError(i, "key %v is not above the one before, %v", it.Key, dst[n-1].Key))
		}
		dst = append(dst, it)
	}
	if !c.damaged {
		c.unused(&x, rows)
	}
	return dst
}

// unused checks what lies behind the entries and behind the more rows.
func (c *checker) unused(x *extent, rows int) {
	if want := c.t.geometry.chunks(rows) * c.t.geometry.chunkBytes(); len(x.mores) != want {
		c.report(corrupt.Errorf(x.name(), int64(x.address), "%d bytes of more rows, want %d", len(x.mores), want))
	}
	entries := x.bytes[:len(x.bytes)-len(x.mores)]
	if !allZero(entries[x.count*EntrySize:]) || !allZero(x.mores[min(rows*MoreSize, len(x.mores)):]) {
		c.report(corrupt.Errorf(x.name(), int64(x.address), "unused slots are not zero"))
	}
}

// index checks that the HDF5 index names the bucket's chunks, all and no others,
// where they lie: what other tools read, and what the space of a row hangs on.
func (c *checker) index(id uint32, s *State) {
	g := c.t.geometry
	chunkBytes := uint64(g.chunkBytes())
	most := g.chunks(g.Threshold)
	parts := [4]struct {
		address      uint64
		chunks, most int
	}{
		{s.RowAddress, int(s.EntryChunks), most},
		{s.RowAddress + uint64(s.EntryChunks)*chunkBytes, int(s.MoreChunks), most},
		{s.TailAddress, int(min(s.TailCount, 1)), 1},
		{s.TailAddress + chunkBytes, int(s.TailMore), 1},
	}
	for i, part := range parts {
		d := c.t.data[i]
		for n := range part.most {
			chunk, found, err := d.Find(uint64(id), uint64(n))
			at := part.address + uint64(n)*chunkBytes
			switch {
			case err != nil:
				c.report(fmt.Errorf("chunk [%d %d] of %s: %w", id, n, d.Path(), err))
			case found != (n < part.chunks):
				c.report(corrupt.Errorf(fmt.Sprintf("chunk [%d %d] of %s", id, n, d.Path()), -1,
					"in the index: %t, want %t", found, n < part.chunks))
			case found && (chunk.Address != at || uint64(chunk.Size) != chunkBytes):
				c.report(corrupt.Errorf(fmt.Sprintf("chunk [%d %d] of %s", id, n, d.Path()), int64(at),
					"the index has %d bytes at %#x, want %d", chunk.Size, chunk.Address, chunkBytes))
			}
		}
	}
}
