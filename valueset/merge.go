package valueset

import (
	"slices"
	"sort"

	"github.com/cidstore/cidstore/internal/order"
	"github.com/cidstore/cidstore/keys"
)

// item is one value of a tree on its way from old leaves to new ones.
type item struct {
	value keys.E
	dead  bool
}

// merger applies the edits of a tree to its base, leaf by leaf.
type merger struct {
	set    *Set
	edits  []order.Item // sorted
	report bool         // call the set's onRemove for what is removed
	base   []item       // scratch: of one leaf
	items  []item       // result, ascending
}

// before is how many of the sorted edits are for values below v.
func before(edits []order.Item, v keys.E) int {
	return sort.Search(len(edits), func(i int) bool { return !order.Less(edits[i].Value, v) })
}

// leaf appends to items what the edits make of the values in b, and reports whether
// that differs from b.
func (m *merger) leaf(b []byte, count, tombs uint64, edits []order.Item) (changed bool) {
	alive, deleted := split(b, count, tombs)
	if m.set.compacted {
		changed = deleted.len() > 0
		deleted = nil
	}
	base := m.interleave(alive, deleted)
	m.items = slices.Grow(m.items, len(base)+len(edits))
	k := 0
	for n := 0; n < len(edits); {
		v := edits[n].Value
		for k < len(base) && order.Less(base[k].value, v) {
			m.items = append(m.items, base[k])
			k++
		}
		was := isAbsent
		if k < len(base) && base[k].value == v {
			was = isLive
			if base[k].dead {
				was = isDead
			}
			k++
		}
		st := was
		for ; n < len(edits) && edits[n].Value == v; n++ {
			st = m.apply(st, &edits[n])
		}
		if st != isAbsent {
			m.items = append(m.items, item{v, st == isDead})
		}
		changed = changed || st != was
	}
	m.items = append(m.items, base[k:]...)
	return changed
}

// interleave merges two ascending lists into one.
func (m *merger) interleave(alive, deleted values) []item {
	base, j := m.base[:0], 0
	for i := range alive.len() {
		v := alive.at(i)
		for j < deleted.len() && order.Less(deleted.at(j), v) {
			base = append(base, item{deleted.at(j), true})
			j++
		}
		base = append(base, item{v, false})
	}
	for ; j < deleted.len(); j++ {
		base = append(base, item{deleted.at(j), true})
	}
	m.base = base
	return base
}

func (m *merger) apply(st status, e *order.Item) status {
	switch kind(e) {
	case opAdd:
		return isLive
	case opForget:
		return isAbsent
	}
	if st != isLive {
		return st
	}
	if m.report {
		m.set.removed(e.Value, false, ordinal(e))
	}
	return isDead
}

// merged returns what sorted edits make of the base of a tree, in memory.
func (s *Set) merged(edits []order.Item) (live, dead []keys.E, err error) {
	m := merger{set: s}
	if s.inFile {
		root := s.stored.root()
		err = m.below(&root, int(s.stored.state.depth), edits)
	} else {
		m.leaf(s.baseBytes(), uint64(len(s.live)), uint64(len(s.dead)), edits)
	}
	if err != nil {
		return nil, nil, err
	}
	for _, it := range m.items {
		if it.dead {
			dead = append(dead, it.value)
		} else {
			live = append(live, it.value)
		}
	}
	return live, dead, nil
}

func (m *merger) below(c *child, level int, edits []order.Item) error {
	b, err := m.set.stored.node(c, level)
	if err != nil {
		return err
	}
	if level == 0 {
		m.leaf(b, c.count, c.tombs, edits)
		return nil
	}
	kids, err := inner(b).children(c)
	if err != nil {
		return err
	}
	for i := range kids {
		n := len(edits)
		if i+1 < len(kids) {
			n = before(edits, kids[i+1].separator)
		}
		if err := m.below(&kids[i], level-1, edits[:n]); err != nil {
			return err
		}
		edits = edits[n:]
	}
	return nil
}

// baseBytes is the base of a tree that is not in the file, as a leaf would have it.
func (s *Set) baseBytes() []byte {
	return appendValues(make([]byte, 0, (len(s.live)+len(s.dead))*keys.Size), s.live, s.dead)
}

func appendValues(dst []byte, lists ...[]keys.E) []byte {
	for _, list := range lists {
		for _, v := range list {
			dst = v.AppendHDF5(dst)
		}
	}
	return dst
}
