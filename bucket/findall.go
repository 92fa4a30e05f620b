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
	touch   uint16 // has no meaning: it was read to bring what lies there into the cache
}

// FindAll is Find for many keys. It takes each step for all of them before the next
// step, so that their accesses to memory do not wait for each other: first the tags
// of their groups, then the entries that have the tag, then the rest.
func (t *Table) FindAll(list []Sought) {
	for i := range list {
		k := &list[i]
		if k.page, k.outline, k.Err = t.pageOf(k.Group, k.Hash); k.Err == nil {
			k.row.seek(t, k.page, k.outline, k.Hash)
			k.touch = t.touchFilter(k.Hash)
		}
	}
	for i := range list {
		if k := &list[i]; k.Err == nil {
			k.touch += t.touchEntry(k)
		}
	}
	for i := range list {
		if k := &list[i]; k.Err == nil {
			k.Entry, k.Found, k.Err = t.finish(k)
		}
	}
}

// touchFilter reads what the filter of runs has for a hash.
func (t *Table) touchFilter(hash uint64) uint16 {
	f := t.filter
	if f == nil {
		return 0
	}
	g := f.regions[f.at(hash)].made.Load()
	if g == nil || g.blocks == nil {
		return 0
	}
	at, _ := f.place(hash>>(64-f.bits), len(g.blocks))
	return uint16(g.blocks[at][0])
}

// touchEntry reads the entry of the row that has a key's tag, and what that leads
// to.
func (t *Table) touchEntry(k *Sought) uint16 {
	i, ok := k.row.search()
	if !ok {
		return 0
	}
	k.row.at, k.row.nearTag = i, k.row.tag
	b := t.view.Mapped(int64(k.outline.address)+int64(k.row.first+i)*EntrySize, EntrySize)
	if b == nil {
		return 0 // finish reads it
	}
	return uint16(b[0])
}

// finish is the rest of Find.
func (t *Table) finish(k *Sought) (Entry, bool, error) {
	if e, found, err := t.findInRuns(k.outline.commit, k.Hash, k.Key); found || err != nil {
		return e, found && !e.deleted, err
	}
	return t.findInRow(k.Group, k.page, k.outline, &k.row, k.Key)
}
