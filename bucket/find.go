package bucket

import (
	"encoding/binary"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/keys"
)

// Find returns the entry of a key of group id: that of the newest run that has one,
// otherwise that of the row. hash is the hash of key and must lie under the group's
// prefix; if it does not, the directory is wrong, which is a corrupt error. Find
// takes no lock and, unless something is wrong, allocates nothing.
func (t *Table) Find(id uint32, hash uint64, key keys.E) (Entry, bool, error) {
	p, o, err := t.pageOf(id, hash)
	if err != nil {
		return Entry{}, false, err
	}
	var w inRow
	w.seek(t, p, o, hash) // before runs are asked, so that accesses to memory do not wait for each other
	if e, found, err := t.findInRuns(o.commit, hash, key); found || err != nil {
		return e, found && !e.deleted, err
	}
	return t.findInRow(id, p, o, &w, key)
}

// pageOf returns the page of a group, which must cover a hash, and the page's outline.
func (t *Table) pageOf(id uint32, hash uint64) (page, *outline, error) {
	pg, p, err := t.page(id)
	if err != nil {
		return nil, nil, err
	}
	o := pg.Note().(*outline)
	if (hash^o.prefix)&prefixMask(o.depth) != 0 {
		return nil, nil, corrupt.Errorf(groupName(id), pg.Offset(), "prefix %#x of %d bits does not cover hash %#x", o.prefix, o.depth, hash)
	}
	return p, o, nil
}

// inRow is where a hash is looked for in a row.
type inRow struct {
	number  int  // of the bucket
	first   int  // number of its first entry
	count   int  // of its entries
	shared  uint // bits that the hashes of the bucket's keys share
	tags    []byte
	tag     uint16
	at      int    // where its tag probably is
	nearTag uint16 // the tag there
}

// seek makes w the place where hash is looked for, and reads a tag there. It fills w,
// because a struct that is returned is copied, and a processor copies what was written in
// smaller pieces only after all before it, the read of the tag too. The next accesses to
// memory would wait for that.
func (w *inRow) seek(t *Table, p page, o *outline, hash uint64) {
	w.place(t, p, o, hash)
	w.read()
}

// place is seek without the read.
func (w *inRow) place(t *Table, p page, o *outline, hash uint64) {
	w.number = bucketOf(hash, o.depth, o.bits)
	if w.first, w.count = o.bucket(w.number); w.count == 0 {
		return
	}
	w.tags = p.tags(t.geometry)[w.first*tagSize:][:w.count*tagSize]
	w.shared = uint(o.depth + o.bits)
	w.tag = tagOf(hash, w.shared)
	w.at = nearTag(w.count, w.tag)
}

func (w *inRow) read() {
	if w.count > 0 {
		w.nearTag = binary.LittleEndian.Uint16(w.tags[w.at*tagSize:])
	}
}

// search returns the first entry of the bucket that has the tag, if one does.
func (w *inRow) search() (i int, ok bool) {
	if w.count == 0 {
		return 0, false
	}
	i = lowerTagFrom(w.tags, w.count, w.tag, w.at, w.nearTag)
	return i, i < w.count && binary.LittleEndian.Uint16(w.tags[i*tagSize:]) == w.tag
}

// findInRuns asks the runs that are newer than commit, which wrote the group's row, and
// that the filter does not rule out, the newest first.
func (t *Table) findInRuns(commit hdf5io.Commit, hash uint64, key keys.E) (Entry, bool, error) {
	newest := len(t.runs) - 1
	if newest < 0 || t.runs[newest].number <= commit {
		return Entry{}, false, nil
	}
	known, may := t.mayHave(hash, commit)
	return t.findInNamed(known, may, commit, hash, key)
}

// findInNamed is findInRuns with what mayHave has said.
func (t *Table) findInNamed(known *region, may uint32, commit hdf5io.Commit, hash uint64, key keys.E) (Entry, bool, error) {
	for i := len(t.runs) - 1; i >= 0; i-- {
		r := &t.runs[i]
		if r.number <= commit {
			break
		}
		if known != nil && r.number <= known.through {
			if may == 0 {
				break
			}
			if !known.names(r.number, may) {
				continue
			}
		}
		if hash < r.low || hash > r.high {
			continue
		}
		if e, found, err := t.findInRun(r, hash, key); found || err != nil {
			return e, found, err
		}
	}
	return Entry{}, false, nil
}

// findInRun looks at the entries of a slot that have the key's tag. A damaged slot
// is an error unless a good entry of it is the key's, because the key may have been
// there.
func (t *Table) findInRun(r *run, hash uint64, key keys.E) (Entry, bool, error) {
	if r.err != nil {
		return Entry{}, false, r.err
	}
	number := r.slot(hash)
	s := r.span(number)
	n := s.end - s.first
	if n == 0 {
		return Entry{}, false, nil
	}
	var x part
	if err := t.slotTags(&x, r, s); err != nil {
		return Entry{}, false, err
	}
	if !r.marked(number) || t.verify == Always {
		if err := t.slot(&x, r, number, again); err != nil {
			return Entry{}, false, err
		}
		if x.trust == isBad {
			return t.findInBad(&x, key)
		}
	}
	tag := r.tag(hash)
	if t.filter != nil && t.verify == FirstTouch { // the filter says that the run may have the key
		touch(t.view.Mapped(int64(r.entriesAt)+int64(s.first)*EntrySize, n*EntrySize), nearTag(n, tag))
	}
	i := lowerTag(x.tags, n, tag)
	if i == n || binary.LittleEndian.Uint16(x.tags[i*tagSize:]) != tag {
		return Entry{}, false, nil
	}
	if x.entries == nil {
		if err := t.slot(&x, r, number, ifAlways); err != nil {
			return Entry{}, false, err
		}
	}
	return t.findAmong(&x, r, i, tag, key)
}

const (
	nearby    = 128 // bytes that touch reads before and after the place of an entry
	cacheLine = 64
)

// touch reads what lies around entry i, where the wanted entry probably is. So it
// comes into the cache at the same time as the tags, which say where the entry is. A fault
// is left to whoever needs those bytes. The sum has no meaning.
//
//go:noinline
func touch(entries []byte, i int) (sum byte) {
	defer func() { _ = recover() }()
	near := around(entries, i)
	for k := 0; k < len(near); k += cacheLine {
		sum += near[k]
	}
	return sum
}

func around(entries []byte, i int) []byte {
	return entries[min(max(i*EntrySize-nearby, 0), len(entries)):min(i*EntrySize+nearby, len(entries))]
}

// findInRow looks at the entries that have the key's tag. The tags were verified
// with the page, so a key whose tag is not among them is absent. An entry that has
// the tag must be good, whether it is this key's or another one's.
func (t *Table) findInRow(id uint32, p page, o *outline, w *inRow, key keys.E) (Entry, bool, error) {
	if w.count == 0 {
		return Entry{}, false, nil
	}
	var x part
	if t.verify == Always {
		if err := t.bucket(&x, id, p, w.number); err != nil {
			return Entry{}, false, err
		}
		if x.trust == isBad {
			return t.findInBad(&x, key)
		}
	}
	i, ok := w.search()
	if !ok {
		return Entry{}, false, nil
	}
	if x.entries == nil {
		if err := t.unjudgedAt(&x, id, p, o, w); err != nil {
			return Entry{}, false, err
		}
	}
	var damage error // of an entry that may have been the key's
	for ; i < x.count && binary.LittleEndian.Uint16(w.tags[i*tagSize:]) == w.tag; i++ {
		e, err := t.entry(&x, i)
		if err == nil {
			if x.key(i) == key {
				return e, true, nil
			}
			err = t.misplaced(&x, i, w.tag, w.shared)
		}
		if damage == nil {
			damage = err
		}
	}
	return Entry{}, false, damage
}

// unjudgedAt is unjudged for the bucket that w is in. It looks at the page only for more
// rows, which most groups lack.
func (t *Table) unjudgedAt(x *part, id uint32, p page, o *outline, w *inRow) error {
	if o.mores > 0 {
		return t.unjudged(x, id, p, w.number)
	}
	x.owner, x.number = owner{uint64(id), o.commit}, w.number
	return t.load(x, span{first: w.first, end: w.first + w.count}, o.address, 0)
}

// findAmong compares the keys of the entries of a slot that have a tag, beginning with
// entry i.
func (t *Table) findAmong(x *part, r *run, i int, tag uint16, key keys.E) (Entry, bool, error) {
	for ; i < x.count && binary.LittleEndian.Uint16(x.tags[i*tagSize:]) == tag; i++ {
		if x.key(i) == key {
			e, err := t.entry(x, i)
			return e, err == nil, err
		}
		if err := t.misplaced(x, i, tag, r.shared()); err != nil {
			return Entry{}, false, err
		}
	}
	return Entry{}, false, nil
}

// misplaced returns an error if the key of an entry cannot have the tag that stands in
// its place. Then the entry of another key was copied over it: an entry ends with its own
// checksum, so the checksum of the part is the same whichever entry lies there.
func (t *Table) misplaced(x *part, i int, tag uint16, shared uint) error {
	if got := tagOf(t.hasher.Hash(x.key(i)), shared); got != tag {
		return x.entryError(i, "its key %v has tag %#04x, want %#04x", x.key(i), got, tag)
	}
	return nil
}

// findInBad looks for a good entry of the key in a part whose checksum disagrees.
// Without one the answer is that the part is damaged.
func (t *Table) findInBad(x *part, key keys.E) (Entry, bool, error) {
	for i := range x.count {
		if x.key(i) == key {
			if e, err := t.entry(x, i); err == nil {
				return e, true, nil
			}
		}
	}
	return Entry{}, false, x.damage()
}
