package bucket

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/cidstore/cidstore/ecc"
	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/vfs"
)

// Checker reads all groups and runs of a Table and reports everything that is
// wrong. It repairs nothing, and marks nothing as verified that is wrong. It is for
// one goroutine; another one checks other groups and slots with a Checker of its own,
// which Join adds to the first one before Finish.
type Checker struct {
	t      *Table
	report func(error)
	rows   []rowPlace // by group id; of those that were checked
	counts []uint64   // for each run, the entries that count for the groups checked
	broken bool       // something could not be read, so counts are not compared

	bytes     int64  // read so far
	corrected uint64 // masks with one wrong bit, so far

	// Reused for each group.
	items []Item
	later gathering
}

// rowPlace is where a group's row must lie according to its page.
type rowPlace struct {
	address        uint64
	entries, mores uint32 // chunks
	checked        bool
}

// NewChecker returns a Checker that calls report with each defect.
func (t *Table) NewChecker(report func(error)) *Checker {
	again := *t
	again.verify = Always // a page that has rotted since it was verified is not read further
	t = &again
	return &Checker{t: t, report: report, rows: make([]rowPlace, t.groups), counts: make([]uint64, len(t.runs))}
}

// Read is the number of bytes verified so far.
func (c *Checker) Read() int64 { return c.bytes }

// Corrected is the number of masks so far that have one wrong bit. They are not
// defects, because they can be read, and written again.
func (c *Checker) Corrected() uint64 { return c.corrected }

// Group checks a group: its page, the checksums of its buckets and of each entry,
// masks, order, hashes, tags, numbering of more rows, unused bytes. It returns the
// number of live keys and of inline values that are good, including those that runs
// hold for the group, and the items whose values are in a set.
func (c *Checker) Group(id uint32) (keyCount, values uint64, spilled []Item) {
	t := c.t
	_, p, err := t.page(id)
	if err != nil {
		c.add(err)
		return 0, 0, nil
	}
	s := p.state()
	g := t.geometry
	if c.rows[id].checked {
		c.twice(id)
		return 0, 0, nil
	}
	c.rows[id] = rowPlace{s.RowAddress, uint32(g.chunks(int(s.Entries))), uint32(g.chunks(int(s.Mores))), true}
	if _, err := t.later(&c.later, &s, nil, nil); err != nil {
		c.broken = true // run reports it
	}
	later := len(c.later.order)
	c.bytes += int64(len(p) + (later+int(s.Entries)+int(s.Mores))*EntrySize)
	c.items = slices.Grow(c.items[:0], later+int(s.Entries))[:later] // merging moves items down only
	for i := range s.Buckets() {
		var x part
		if err := t.bucket(&x, id, p, i); err != nil {
			c.add(err)
			continue
		}
		b := p.span(i)
		c.part(&x, p.tags(g)[b.first*tagSize:b.end*tagSize], uint(s.LocalDepth+s.BucketBits))
	}
	c.unused(id, &s)
	items := c.later.merge(c.items[:0], c.items[later:])
	for i := range t.runs {
		n, err := t.countIn(&t.runs[i], &s)
		if err != nil {
			c.broken = true
		}
		c.counts[i] += uint64(n)
	}
	for i := range items {
		values += uint64(items[i].Count)
		if items[i].Spilled {
			spilled = append(spilled, items[i])
		}
	}
	return uint64(len(items)), values, spilled
}

func (c *Checker) add(err error) {
	c.broken = true
	c.report(err)
}

// part checks one bucket or slot, whose tags begin after the first shared bits of a
// hash, and appends its good items to c.items.
func (c *Checker) part(x *part, tags []byte, shared uint) {
	if x.trust == isBad {
		c.add(x.damage())
	} else {
		x.trust = wasGood // so that the checksum of each entry is verified
	}
	rows, start := 0, len(c.items)
	c.items = slices.Grow(c.items, x.count)
	for i := range x.count {
		e, err := c.t.entry(x, i)
		if err != nil {
			c.add(err)
			continue
		}
		if _, status := ecc.Decode(e.raw[offMask]); status == ecc.Corrected {
			c.corrected++
		}
		if e.more != nil {
			rows++
			if number := int(binary.LittleEndian.Uint16(e.raw[offMore:])); number != rows {
				c.add(x.entryError(i, "more row number %d, want %d", number-1, rows-1))
			}
		}
		n := len(c.items)
		c.items = c.items[:n+1]
		it := &c.items[n]
		e.fill(it, c.t.hasher.Hash(e.key()))
		if tag := binary.LittleEndian.Uint16(tags[i*tagSize:]); tag != tagOf(it.Hash, shared) {
			c.add(x.entryError(i, "tag %#04x, want %#04x", tag, tagOf(it.Hash, shared)))
		}
		if n > start && !Less(&c.items[n-1], it) {
			c.add(x.entryError(i, "key %v is not above the one before, %v", it.Key, c.items[n-1].Key))
			c.items = c.items[:n]
		}
	}
	if !c.broken && rows*moreSize != len(x.mores) {
		c.add(corrupt.Errorf(x.name(), int64(x.address), "%d bytes of more rows, want %d", len(x.mores), rows*moreSize))
	}
}

// unused checks what lies after the entries and after the more rows of a group.
func (c *Checker) unused(id uint32, s *State) {
	g := c.t.geometry
	at := int64(s.RowAddress)
	for _, n := range [...]int{int(s.Entries), int(s.Mores)} {
		size := g.chunks(n) * g.chunkBytes()
		p, err := c.t.view.Bytes(at+int64(n*EntrySize), size-n*EntrySize)
		if err != nil {
			c.add(fmt.Errorf("row of %s: %w", groupName(id), err))
		} else if !allZero(p) {
			c.add(corrupt.Errorf("row of "+groupName(id), at, "unused entries or more rows are not zero"))
		}
		at += int64(size)
	}
}

// Slots checks one part of the slots of all runs: number, from 0, of parts that are
// about equal.
func (c *Checker) Slots(number, parts int) {
	for i := range c.t.runs {
		r := &c.t.runs[i]
		if r.err != nil {
			continue // Finish reports it
		}
		slots := int(r.slots)
		for slot := slots * number / parts; slot < slots*(number+1)/parts; slot++ {
			c.slot(i, slot)
		}
	}
}

// Join adds what other has found of the same Table. Each of their defects was reported.
func (c *Checker) Join(other *Checker) {
	for id, row := range other.rows {
		switch {
		case !row.checked:
		case c.rows[id].checked:
			c.twice(uint32(id))
		default:
			c.rows[id] = row
		}
	}
	for i, n := range other.counts {
		c.counts[i] += n
	}
	c.bytes += other.bytes
	c.corrected += other.corrected
	c.broken = c.broken || other.broken
}

// twice reports that a group is checked a second time.
func (c *Checker) twice(id uint32) {
	c.add(corrupt.Errorf(groupName(id), c.t.Offset(id), "two directory runs lead to it"))
}

// Finish checks the form of the runs, and that the HDF5 index names exactly the chunks of
// the groups that were checked, at their addresses. Other tools read the chunks
// through this index, and what it names counts as used space. All groups and slots have
// been checked before.
func (c *Checker) Finish() {
	for id := range c.rows {
		if c.broken || c.rows[id].checked {
			continue
		}
		if pg, err := c.t.used(uint32(id)); pg != nil || err != nil {
			c.add(corrupt.Errorf(groupName(uint32(id)), c.t.Offset(uint32(id)), "it has a page, but no directory pointer"))
		}
	}
	for i := range c.t.runs {
		c.run(i)
	}
	for i, d := range c.t.data {
		if d == nil {
			c.add(corrupt.Errorf("group "+groupPath, -1, "dataset %d of entries and more rows is missing", i))
			continue
		}
		c.index(d, i == 1)
	}
}

// Place is where a check of all slots of all runs continues. The zero value is the
// beginning.
type Place struct {
	Run  hdf5io.Commit // its number
	Slot int
}

// Slot checks one slot by itself: that at a place or, if there is none, the first
// one of the next run. It returns the place after that slot, in the same run. ok is
// false if there was no slot left.
func (c *Checker) Slot(at Place) (next Place, ok bool) {
	for i := range c.t.runs {
		r := &c.t.runs[i]
		if r.number < at.Run {
			continue
		}
		if r.number > at.Run {
			at = Place{Run: r.number}
		}
		if at.Slot == 0 && !c.form(i) || at.Slot >= int(r.slots) {
			continue
		}
		c.slot(i, at.Slot)
		return Place{r.number, at.Slot + 1}, true
	}
	return Place{}, false
}

func (c *Checker) run(i int) {
	if r := &c.t.runs[i]; c.form(i) && !c.broken && c.counts[i] != uint64(r.live) {
		c.report(corrupt.Errorf(r.name(), int64(r.entriesAt), "%d live entries, found %d", r.live, c.counts[i]))
	}
}

// form checks the datasets and the index of a run as the file has them now, and
// reports whether the slots can be checked.
func (c *Checker) form(i int) bool {
	t, r := c.t, &c.t.runs[i]
	if r.err != nil {
		c.add(r.err)
		return false
	}
	c.guarded("index of "+r.name(), func() {
		again := *r
		again.load(t.view, t.seal)
		c.bytes += int64(r.slots+1) * slotSize
		if again.err != nil {
			c.add(again.err)
		}
	})
	for _, d := range r.datasets() {
		made, err := t.view.Dataset(d.path)
		if err != nil {
			c.add(fmt.Errorf("%s: %w", r.name(), err))
			continue
		}
		at, _ := made.Extent()
		if !slices.Equal(made.Dims(), []uint64{d.count}) || !made.Type().Equal(d.element) || uint64(at) != *d.at {
			c.add(corrupt.Errorf("dataset "+d.path, at, "%v of %v, want %d at %#x", made.Dims(), made.Type(), d.count, *d.at))
		}
	}
	return true
}

// slot checks a slot of a run.
func (c *Checker) slot(i, number int) {
	t, r := c.t, &c.t.runs[i]
	c.guarded(r.name(), func() {
		var x part
		if err := t.slot(&x, r, number, again); err != nil {
			c.add(err)
			return
		}
		c.bytes += int64(len(x.entries) + len(x.mores) + len(x.tags))
		c.items = c.items[:0]
		c.part(&x, x.tags, r.shared())
	})
}

// guarded runs a read. Mapped bytes that cannot be read are a defect.
func (c *Checker) guarded(what string, read func()) {
	if err := vfs.Guard(func() error { read(); return nil }); err != nil {
		c.add(fmt.Errorf("%s: %w: %w", what, hdf5io.ErrIO, err))
	}
}

// index compares the chunks of a dataset with where rows lie.
func (c *Checker) index(d *hdf5io.Dataset, mores bool) {
	g := c.t.geometry
	stride, size := g.stride(), uint64(g.chunkBytes())
	found := make([]uint32, len(c.rows))
	err := d.Walk(nil, func(chunk hdf5io.Chunk) (bool, error) {
		id, n := chunk.Coord[0]/stride, chunk.Coord[0]%stride
		if id >= uint64(len(c.rows)) {
			return false, corrupt.Errorf(fmt.Sprintf("chunk %d of %s", chunk.Coord[0], d.Path()), int64(chunk.Address), "there are %d groups", len(c.rows))
		}
		row := &c.rows[id]
		at, chunks := row.address, row.entries
		if mores {
			at, chunks = at+uint64(row.entries)*size, row.mores
		}
		found[id]++
		if n >= uint64(chunks) || chunk.Address != at+n*size {
			c.report(corrupt.Errorf(fmt.Sprintf("chunk %d of %s", chunk.Coord[0], d.Path()), int64(chunk.Address),
				"the page of group %d has %d chunks from %#x", id, chunks, at))
		}
		return true, nil
	})
	if err != nil {
		c.add(err)
		return
	}
	for id := range c.rows {
		want := c.rows[id].entries
		if mores {
			want = c.rows[id].mores
		}
		if c.rows[id].checked && found[id] != want {
			c.report(corrupt.Errorf(fmt.Sprintf("%s of group %d", d.Path(), id), int64(c.rows[id].address), "%d chunks in the index, want %d", found[id], want))
		}
	}
}
