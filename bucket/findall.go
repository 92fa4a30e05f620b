package bucket

import "github.com/cidstore/cidstore/keys"

// Sought is a key that FindAll looks for, and what FindAll finds.
type Sought struct {
	Group uint32 // the key's, by the directory
	Hash  uint64 // of Key
	Key   keys.E

	Entry Entry
	Found bool
	Err   error

	page    page
	outline *outline
	row     inRow
	marks   *filterBlock // nil: none
	known   *region      // with may, what the filter of runs says
	may     uint32
	near    [2][]byte // where the entry is or may be, and the tags of a run; nil: that is not known
	touched uint64    // has no meaning: it was read to bring what lies there into the cache
}

// FindAll is Find for many keys. It takes each step for all of them before the next
// step, so that their accesses to memory do not wait for each other: first the tags of
// their groups and the marks of the filter, then the entries, then the rest. A processor
// looks only some hundred instructions ahead of a read that waits. So what is read is found
// out first, and then read for all keys in a short loop.
func (t *Table) FindAll(list []Sought) {
	for i := range list {
		k := &list[i]
		if k.page, k.outline, k.Err = t.pageOf(k.Group, k.Hash); k.Err == nil {
			k.row.place(t, k.page, k.outline, k.Hash)
			k.marks = t.marks(k.Hash)
		}
	}
	for i := range list {
		k := &list[i]
		k.row.read()
		if k.marks != nil {
			k.touched = k.marks[0]
		}
	}
	for i := range list {
		if k := &list[i]; k.Err == nil {
			t.nearEntry(k)
		}
	}
	touchNear(list)
	for i := range list {
		if k := &list[i]; k.Err == nil {
			k.Entry, k.Found, k.Err = t.finish(k)
		}
	}
}

// marks returns the block of the filter of runs for a hash, or nil if it is not made.
func (t *Table) marks(hash uint64) *filterBlock {
	f := t.filter
	if f == nil {
		return nil
	}
	g := f.regions[f.at(hash)].made.Load()
	if g == nil || g.blocks == nil {
		return nil
	}
	at, _ := f.place(hash>>(64-f.bits), len(g.blocks))
	return &g.blocks[at]
}

// nearEntry finds out where a key's entry is in the row, or probably is in a run.
func (t *Table) nearEntry(k *Sought) {
	if i, ok := k.row.search(); ok {
		k.row.at, k.row.nearTag = i, k.row.tag
		k.near[0] = t.view.Mapped(int64(k.outline.address)+int64(k.row.first+i)*EntrySize, EntrySize)
	}
	k.known, k.may = t.mayHave(k.Hash, k.outline.commit)
	if k.known == nil || k.may == 0 || k.may == allRuns {
		return
	}
	for i := len(t.runs) - 1; i >= 0 && t.runs[i].number > k.outline.commit; i-- {
		r := &t.runs[i]
		if r.number > k.known.through || !k.known.names(r.number, k.may) || k.Hash < r.low || k.Hash > r.high || r.err != nil {
			continue
		}
		s := r.span(r.slot(k.Hash))
		n := s.end - s.first
		at := nearTag(n, r.tag(k.Hash))
		k.near[0] = around(t.view.Mapped(int64(r.entriesAt)+int64(s.first)*EntrySize, n*EntrySize), at)
		k.near[1] = t.view.Mapped(int64(r.tagsAt)+int64(s.first+at)*tagSize, tagSize)
		return
	}
}

// touchNear is touch for all keys.
//
//go:noinline
func touchNear(list []Sought) (sum byte) {
	defer func() { _ = recover() }()
	for i := range list {
		for _, near := range &list[i].near {
			for k := 0; k < len(near); k += cacheLine {
				sum += near[k] + near[min(k+cacheLine, len(near))-1]
			}
		}
	}
	return sum
}

// finish is the rest of Find.
func (t *Table) finish(k *Sought) (Entry, bool, error) {
	if e, found, err := t.findInNamed(k.known, k.may, k.outline.commit, k.Hash, k.Key); found || err != nil {
		return e, found && !e.deleted, err
	}
	return t.findInRow(k.Group, k.page, k.outline, &k.row, k.Key)
}
