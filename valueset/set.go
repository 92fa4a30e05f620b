package valueset

import (
	"errors"
	"slices"

	"github.com/cidstore/cidstore/internal/order"
	"github.com/cidstore/cidstore/keys"
)

// form is where a Set has its values while it is changed.
type form uint8

const (
	formEmpty  form = iota
	formInline      // live
	formRow         // live and dead, together up to maxRow
	formTree        // a base, and edits of it
)

// Set is the values of one key under change. Its operations are evaluated in
// order, each as if it were alone. It belongs to its Writer, which recycles it
// in Save: do not use it afterwards. Not safe for concurrent use.
//
// Up to maxRow values are changed in memory, at once. Edits of a larger set are
// collected, and Save merges them with the tree in one descent. What they do need
// not be known before that, with one exception: a delete of the last live value
// deletes the tombstones too. This cannot happen as long as there are fewer deletes
// than live values in the base. From then on, and when a method asks for counts after
// the first edit, the set is exact: every value that is edited is looked up. That costs
// a path of nodes and their checksums for each of them.
type Set struct {
	w        *Writer
	key      keys.E
	form     form
	onRemove func(v keys.E, whole bool, ordinal int)
	err      error  // the first failed read of a method that returns none; Save returns it
	changed  bool   // differs from what the file has
	was      uint64 // live values before
	ordinal  int    // of the present operation, from 0; -1 before the first

	// What the file has: Save replaces or frees it.
	spilled bool
	stored  Stored

	// Of an inline set and a row: the values. Of a tree that is not in the file:
	// its base.
	live, dead []keys.E

	// Tree.
	inFile    bool // the base is stored
	edits     []order.Item
	removes   uint64 // deletes among the edits, while not exact
	compacted bool   // tombstones of the base are gone
	packs     bool   // what is written again is packed, as by a compaction
	exact     bool
	known     map[keys.E]status // exact: of the values that were edited
	lives     uint64            // exact: live values now
	deads     uint64            // exact: tombstones now

	stats Stats // of this set, added to the writer's by Save
}

// An edit is one operation on one value of a tree. Its mark has the ordinal of the operation,
// and in the lowest bits one of these.
const (
	opAdd    = iota // the value is live
	opRemove        // a live value is a tombstone
	opForget        // the value is absent
	opBits   = 2
)

func kind(e *order.Item) uint64 { return e.Mark & (1<<opBits - 1) }

func ordinal(e *order.Item) int { return int(e.Mark >> opBits) }

// Expect makes room for the edits of that many more operations, if s is a tree now.
func (s *Set) Expect(operations int) {
	if s.form == formTree {
		s.edits = slices.Grow(s.edits, operations)
	}
}

func (s *Set) edit(v keys.E, kind uint64) {
	s.edits = append(s.edits, order.Item{Value: v, Mark: uint64(s.ordinal)<<opBits | kind})
	s.changed = true
}

// OnRemove sets a function that is called for each live value that is deleted, and
// once, with whole true and a zero value, for a Clear of a key that had values.
// ordinal is the number of the operation: calls of Add, Remove, Clear, Promote,
// Demote and Compact are counted from 0. Calls of f come in the order of
// operations. For a tree, however, those for single values may come in Save, in
// order of the values, once for each time that the value was deleted. f must not
// use the Set.
func (s *Set) OnRemove(f func(v keys.E, whole bool, ordinal int)) { s.onRemove = f }

func (s *Set) removed(v keys.E, whole bool, ordinal int) {
	if s.onRemove != nil {
		s.onRemove(v, whole, ordinal)
	}
}

// IsSpilled reports whether the values are outside the hash entry.
func (s *Set) IsSpilled() bool { return s.form >= formRow }

// Exists reports whether there is an external value set for the key: IsSpilled.
func (s *Set) Exists() bool { return s.IsSpilled() }

// Count is the number of live values.
func (s *Set) Count() uint64 {
	live, _ := s.counts()
	return live
}

// TombstoneCount is the number of deleted values not yet compacted away.
func (s *Set) TombstoneCount() uint64 {
	_, dead := s.counts()
	return dead
}

func (s *Set) counts() (live, dead uint64) {
	if s.form != formTree || !s.exact && len(s.edits) == 0 {
		return s.base()
	}
	if err := s.resolve(); s.err == nil {
		s.err = err
	}
	return s.lives, s.deads
}

// Err is the first error of Count and TombstoneCount, which cannot return it.
func (s *Set) Err() error { return s.err }

// Values returns the live values, ascending; nil if there are none.
func (s *Set) Values() ([]keys.E, error) {
	if s.form != formTree {
		return slices.Clone(s.live), nil
	}
	edits := slices.Clone(s.edits)
	order.Sort(edits)
	live, _, err := s.merged(edits)
	return live, err
}

// Add puts v into the set. The fifth live value of an inline set promotes it; a
// tombstone of v is revived.
func (s *Set) Add(v keys.E) error {
	s.ordinal++
	if s.form == formTree {
		return s.addToTree(v)
	}
	i, found := search(s.live, v)
	if found {
		return nil
	}
	s.live = slices.Insert(s.live, i, v)
	if i, found = search(s.dead, v); found {
		s.dead = slices.Delete(s.dead, i, i+1)
	}
	s.changed = true
	switch {
	case s.form == formEmpty:
		s.form = formInline
	case s.form == formInline && len(s.live) > Inline:
		s.promote()
	case len(s.live)+len(s.dead) > maxRow:
		s.form, s.inFile = formTree, false
	}
	return nil
}

func (s *Set) addToTree(v keys.E) error {
	if s.exact {
		st, err := s.status(v)
		if err != nil || st == isLive {
			return err
		}
		if st == isDead {
			s.deads--
		}
		s.lives++
		s.known[v] = isLive
	}
	s.edit(v, opAdd)
	return nil
}

// Remove deletes v from the set. In a spilled set it leaves a tombstone. When the
// last live value is deleted, the set and its tombstones are gone.
func (s *Set) Remove(v keys.E) error {
	s.ordinal++
	if s.form == formTree {
		return s.removeFromTree(v)
	}
	i, found := search(s.live, v)
	if !found {
		return nil
	}
	s.removed(v, false, s.ordinal)
	if len(s.live) == 1 {
		s.empty()
		return nil
	}
	s.live = slices.Delete(s.live, i, i+1)
	if s.form == formRow {
		i, _ = search(s.dead, v)
		s.dead = slices.Insert(s.dead, i, v)
	}
	s.changed = true
	return nil
}

func (s *Set) removeFromTree(v keys.E) error {
	if live, _ := s.base(); !s.exact && s.removes+1 >= live {
		if err := s.resolve(); err != nil {
			return err
		}
	}
	if s.exact {
		st, err := s.status(v)
		if err != nil || st != isLive {
			return err
		}
		s.removed(v, false, s.ordinal)
		if s.lives == 1 {
			s.empty()
			return nil
		}
		s.lives--
		s.deads++
		s.known[v] = isDead
	}
	s.removes++
	s.edit(v, opRemove)
	return nil
}

// Clear deletes the key: all values and tombstones.
func (s *Set) Clear() error {
	s.ordinal++
	if s.form == formEmpty {
		return nil
	}
	if s.form == formTree && s.removes > 0 && s.onRemove != nil {
		if err := s.resolve(); err != nil { // deletes before this one are reported before it
			return err
		}
	}
	s.removed(keys.E{}, true, s.ordinal)
	s.empty()
	return nil
}

// empty makes s the set of a key without values.
func (s *Set) empty() {
	s.form, s.changed = formEmpty, true
	s.live, s.dead = s.live[:0], s.dead[:0]
	s.dropEdits()
}

func (s *Set) dropEdits() {
	s.edits, s.removes = s.edits[:0], 0
	s.inFile, s.compacted, s.packs, s.exact, s.known = false, false, false, false, nil
	s.lives, s.deads = 0, 0
}

// Promote makes an inline set a spilled one. A set without values stays as it is.
func (s *Set) Promote() error {
	s.ordinal++
	if s.form == formInline {
		s.promote()
	}
	return nil
}

func (s *Set) promote() {
	s.form, s.changed = formRow, true
	s.stats.Promotions++
}

// Demote makes a spilled set of up to Inline live values an inline one, without
// its tombstones; it reports whether it did.
func (s *Set) Demote() (bool, error) {
	s.ordinal++
	if !s.IsSpilled() {
		return false, nil
	}
	if s.form == formTree {
		if err := s.resolve(); err != nil || s.lives > Inline {
			return false, err
		}
		list, err := s.Values()
		if err != nil {
			return false, err
		}
		s.live = append(s.live[:0], list...)
		s.dropEdits()
	}
	if len(s.live) > Inline {
		return false, nil
	}
	s.form, s.changed, s.dead = formInline, true, s.dead[:0]
	s.stats.Demotions++
	return true, nil
}

// Compact erases the tombstones.
func (s *Set) Compact() error {
	s.ordinal++
	if s.form != formTree {
		if len(s.dead) > 0 {
			s.dead, s.changed = s.dead[:0], true
			s.stats.Compactions++
		}
		return nil
	}
	if _, dead := s.base(); !s.exact && s.removes == 0 && dead == 0 {
		return nil
	}
	if err := s.resolve(); err != nil || s.deads == 0 {
		return err
	}
	// From here on the edits say what each value has become, not what was done to
	// it.
	s.edits = s.edits[:0]
	for v, st := range s.known {
		kind := uint64(opAdd)
		if st != isLive {
			kind = opForget
			s.known[v] = isAbsent
		}
		s.edit(v, kind)
	}
	s.compacted, s.packs, s.deads, s.changed = true, true, 0, true
	s.stats.Compactions++
	return nil
}

// Erase is Compact in parts, for a set that was not edited. Of a tree it erases the
// tombstones of as many leaves as leaves says, the first ones that have any. more says
// that others have.
func (s *Set) Erase(leaves int) (more bool, err error) {
	if s.form != formTree {
		return false, s.Compact()
	}
	root := s.stored.root()
	w := deadWalk{Stored: s.stored, leaves: leaves}
	if err := w.walk(&root, int(s.stored.state.depth)); err != nil {
		return false, err
	}
	if live, dead := s.base(); live+dead-uint64(len(w.dead)) <= maxRow { // then it becomes a row
		if err := s.stored.Compactable(); err != nil {
			return false, err
		}
		return false, s.Compact()
	}
	for _, v := range w.dead {
		s.edit(v, opForget)
	}
	s.packs = true
	if _, dead := s.base(); len(w.dead) > 0 && uint64(len(w.dead)) < dead {
		return true, nil
	}
	s.stats.Compactions++
	return false, nil
}

// base returns the counts of a tree's base, or of what is in memory.
func (s *Set) base() (live, dead uint64) {
	if s.inFile {
		return s.stored.Count(), s.stored.Tombstones()
	}
	return uint64(len(s.live)), uint64(len(s.dead))
}

// resolve makes a tree exact: it looks up every value edited so far. As long as the
// set was not exact it cannot have become empty.
func (s *Set) resolve() error {
	if s.exact {
		return nil
	}
	edits := s.edits
	s.known = make(map[keys.E]status, len(edits))
	s.lives, s.deads = s.base()
	for i := range edits {
		e := &edits[i]
		st, err := s.status(e.Value)
		if err != nil {
			return err
		}
		switch {
		case kind(e) == opAdd && st != isLive:
			if st == isDead {
				s.deads--
			}
			s.lives++
			s.known[e.Value] = isLive
		case kind(e) == opRemove && st == isLive:
			if s.lives == 1 {
				return errors.New("value set: an inexact set became empty")
			}
			s.removed(e.Value, false, ordinal(e))
			s.lives--
			s.deads++
			s.known[e.Value] = isDead
		}
	}
	s.exact = true
	return nil
}

// status returns what v is now in an exact tree.
func (s *Set) status(v keys.E) (status, error) {
	if st, edited := s.known[v]; edited {
		return st, nil
	}
	st, err := s.baseStatus(v)
	if st == isDead && s.compacted {
		st = isAbsent
	}
	return st, err
}

func (s *Set) baseStatus(v keys.E) (status, error) {
	if s.inFile {
		return s.stored.status(v)
	}
	if _, found := search(s.live, v); found {
		return isLive, nil
	}
	if _, found := search(s.dead, v); found {
		return isDead, nil
	}
	return isAbsent, nil
}

// search is slices.BinarySearch in the order of identifiers.
func search(list []keys.E, v keys.E) (int, bool) {
	lo, hi := 0, len(list)
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		if order.Less(list[mid], v) {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, lo < len(list) && list[lo] == v
}
