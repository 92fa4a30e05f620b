package cidstore

import (
	"slices"

	"github.com/cidstore/cidstore/internal/order"
	"github.com/cidstore/cidstore/wal"
)

// outcome is the effect of pending operations on one value. Its mark is live or gone.
type outcome = order.Item

const (
	gone = iota
	live
)

// settled appends the outcomes of operations on one key to dst, which is empty, in
// ascending order. newer has the newest operation first; for each value its newest counts.
func settled(dst []outcome, newer []*op) []outcome {
	for _, o := range newer {
		switch o.code {
		case wal.Insert:
			dst = append(dst, outcome{Value: o.value, Mark: live})
		case wal.DeleteValue:
			dst = append(dst, outcome{Value: o.value, Mark: gone})
		}
	}
	order.Sort(dst) // the newest of a value is still the first
	return slices.CompactFunc(dst, func(a, b outcome) bool { return a.Value == b.Value })
}

// outcomes returns the effect of pending operations on a key: whether it is cleared by a
// Delete, so that what the tree holds does not count, and the outcomes of values, ascending.
// They are appended to few, which is empty, if they are not cached.
func (r reader) outcomes(few []outcome, key E, fresh, frozen *op) (list []outcome, cleared bool) {
	if list, cleared, ok := r.sorted(key, fresh, frozen); ok {
		return list, cleared
	}
	var near [8]*op
	ops := r.since(near[:0], 0, fresh, frozen)
	cleared = len(ops) > 0 && ops[len(ops)-1].code == wal.Delete
	return settled(slices.Grow(few, len(ops)), ops), cleared
}

// overlaid applies outcomes to the values of dst from start on. Both ascend, and so does
// the result.
func overlaid(dst []E, start int, list []outcome) []E {
	stored, k, kept := dst[start:], 0, 0
	for i, v := range stored { // values without an outcome stay
		for k < len(list) && order.Less(list[k].Value, v) {
			k++
		}
		if k == len(list) {
			kept += copy(stored[kept:], stored[i:])
			break
		}
		if list[k].Value != v {
			stored[kept] = v
			kept++
		}
	}
	lives := 0
	for i := range list {
		lives += int(list[i].Mark)
	}
	dst = slices.Grow(dst[:start+kept], lives)[:start+kept+lives]
	at, i := len(dst)-1, start+kept-1 // from the end, so that nothing is overwritten before it is moved
	for k := len(list) - 1; lives > 0; k-- {
		if list[k].Mark != live {
			continue
		}
		for i >= start && order.Less(list[k].Value, dst[i]) {
			dst[at] = dst[i]
			at, i = at-1, i-1
		}
		dst[at] = list[k].Value
		at, lives = at-1, lives-1
	}
	return dst
}

// chain is the operations of a table on one key, from newest back to the first.
type chain struct {
	table  *table
	newest *op
}

// outcome returns the effect of the chains on one value. known reports that it does not
// depend on what the tree holds.
func (r reader) outcome(v E, fresh, frozen *op) (live, known bool) {
	for _, c := range [...]chain{{r.fresh, fresh}, {r.frozen, frozen}} {
		for p := c.newest; p != nil; p = c.table.before(p) {
			switch p.code {
			case wal.Delete:
				return false, true
			case wal.Insert, wal.DeleteValue:
				if p.value == v {
					return p.code == wal.Insert, true
				}
			}
		}
	}
	return false, false
}
