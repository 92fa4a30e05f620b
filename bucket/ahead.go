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

// aheadOfTags touches the tags where that of a key probably stands, in the page of
// its group and in runs.
func (t *Table) aheadOfTags(k *Sought) (sum uint64) {
	p := t.ready(k.Group)
	if p == nil {
		return 0
	}
	shared := uint(p.depth() + p.bits())
	s := p.span(bucketOf(k.Hash, p.depth(), p.bits()))
	if n := s.end - s.first; n > 0 {
		at := s.first + int(tagOf(k.Hash, shared))*n>>16
		sum = uint64(p.tags(t.geometry)[at*tagSize])
	}
	commit := p.commit()
	for i := len(t.runs) - 1; i >= 0 && t.runs[i].number > commit; i-- {
		r := &t.runs[i]
		if k.Hash < r.low || k.Hash > r.high || r.err != nil {
			continue
		}
		s := r.span(r.slot(k.Hash))
		n := s.end - s.first
		if n == 0 {
			continue
		}
		at := s.first + int(r.tag(k.Hash))*n>>16
		if b, err := t.view.Bytes(int64(r.tagsAt)+int64(at)*tagSize, tagSize); err == nil {
			sum += uint64(b[0])
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
	s := p.span(bucketOf(k.Hash, p.depth(), p.bits()))
	n := s.end - s.first
	tags := p.tags(t.geometry)[s.first*tagSize : s.end*tagSize]
	tag := tagOf(k.Hash, uint(p.depth()+p.bits()))
	i := lowerTag(tags, n, tag)
	if i == n || binary.LittleEndian.Uint16(tags[i*tagSize:]) != tag {
		return 0
	}
	b, err := t.view.Bytes(int64(p.address())+int64(s.first+i)*EntrySize, EntrySize)
	if err != nil {
		return 0
	}
	return uint64(b[0])
}
