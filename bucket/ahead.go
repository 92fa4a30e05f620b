package bucket

import "encoding/binary"

// Sought is a key that will be looked for: where, and its hash.
type Sought struct {
	Group uint32
	Hash  uint64
}

// Ahead brings what Find will read of many keys near the processor. It reads a line
// of each key before it reads the next line of any, so that these accesses do not wait
// for each other. It judges nothing, and what was not verified before it leaves to Find.
// The sum that it returns means nothing.
func (t *Table) Ahead(keys []Sought) (sum uint64) {
	for i := range keys {
		sum += t.aheadOfTags(&keys[i])
	}
	for i := range keys {
		sum += t.aheadOfEntry(&keys[i])
	}
	return sum
}

// ready is the page of a group, if it was verified and judged.
func (t *Table) ready(id uint32) page {
	if uint64(id) >= t.groups {
		return nil
	}
	if pg := t.states.Ready(uint64(id)); pg != nil && pg.Marked(judgedPage) {
		return pg.Data()
	}
	return nil
}

// aheadOfTags touches the tags where that of a key probably stands in the page of its
// group, and what the filter of runs has of it.
func (t *Table) aheadOfTags(k *Sought) (sum uint64) {
	p := t.ready(k.Group)
	if p == nil {
		return 0
	}
	w := t.inRow(p, k.Hash)
	sum = uint64(w.nearTag)
	if f := t.filter; f != nil {
		if g := f.regions[f.at(k.Hash)].made.Load(); g != nil && g.blocks != nil {
			at, _ := f.place(k.Hash>>(64-f.bits), len(g.blocks))
			sum += uint64(g.blocks[at][0])
		}
	}
	return sum
}

// aheadOfEntry touches the entry of the row that has a key's tag.
func (t *Table) aheadOfEntry(k *Sought) uint64 {
	p := t.ready(k.Group)
	if p == nil {
		return 0
	}
	w := t.inRow(p, k.Hash)
	if w.count == 0 {
		return 0
	}
	i := lowerTagFrom(w.tags, w.count, w.tag, w.at, w.nearTag)
	if i == w.count || binary.LittleEndian.Uint16(w.tags[i*tagSize:]) != w.tag {
		return 0
	}
	b, err := t.view.Bytes(int64(p.address())+int64(p.span(w.number).first+i)*EntrySize, EntrySize)
	if err != nil {
		return 0
	}
	return uint64(b[0])
}
