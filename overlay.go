package cidstore

import (
	"slices"

	"github.com/cidstore/cidstore/wal"
)

// overlay is the effect of pending operations on a key: for each value that they name,
// whether it is in the set after them.
type overlay struct {
	cleared bool // by a Delete: what the tree holds does not count
	count   int
	few     [8]outcome
	many    map[E]bool // in use when there are more than few
}

type outcome struct {
	value E
	live  bool
}

// overlay evaluates the chains, newest operation first. For each value its newest
// operation counts, and nothing before a Delete does.
func (r reader) overlay(o *overlay, fresh, frozen *op) {
	if r.walk(o, r.fresh, fresh) {
		r.walk(o, r.frozen, frozen)
	}
}

func (r reader) walk(o *overlay, t *table, from *op) (further bool) {
	for p := from; p != nil; p = t.before(p) {
		switch p.code {
		case wal.Delete:
			o.cleared = true
			return false
		case wal.Insert:
			o.note(p.value, true)
		case wal.DeleteValue:
			o.note(p.value, false)
		}
	}
	return true
}

// note records whether v is live, unless a newer operation has decided it.
func (o *overlay) note(v E, live bool) {
	if _, known := o.find(v); known {
		return
	}
	if o.many == nil && o.count < len(o.few) {
		o.few[o.count] = outcome{v, live}
		o.count++
		return
	}
	if o.many == nil {
		o.many = make(map[E]bool, 4*len(o.few))
		for _, f := range o.few {
			o.many[f.value] = f.live
		}
	}
	o.many[v] = live
	o.count = len(o.many)
}

func (o *overlay) find(v E) (live, known bool) {
	if o.many != nil {
		live, known = o.many[v]
		return live, known
	}
	for i := range o.few[:o.count] {
		if o.few[i].value == v {
			return o.few[i].live, true
		}
	}
	return false, false
}

func (o *overlay) each(yield func(outcome) error) error {
	if o.many == nil {
		for _, f := range o.few[:o.count] {
			if err := yield(f); err != nil {
				return err
			}
		}
		return nil
	}
	for v, live := range o.many {
		if err := yield(outcome{v, live}); err != nil {
			return err
		}
	}
	return nil
}

// outcomes returns the effect of pending operations on a key: whether it is cleared, and
// the outcomes of values, ascending. They are appended to few if they are not cached.
func (r reader) outcomes(few []outcome, key E, fresh, frozen *op) (list []outcome, cleared bool) {
	if list, cleared, ok := r.sorted(key, fresh, frozen); ok {
		return list, cleared
	}
	var o overlay
	r.overlay(&o, fresh, frozen)
	o.each(func(f outcome) error {
		few = append(few, f)
		return nil
	})
	slices.SortFunc(few, outcome.compare)
	return few, o.cleared
}

func (f outcome) compare(g outcome) int { return f.value.Compare(g.value) }

// overlaid applies outcomes to the values of dst from start on. Both ascend, and so does
// the result.
func overlaid(dst []E, start int, list []outcome) []E {
	stored, k, kept := dst[start:], 0, 0
	for i, v := range stored { // values without an outcome stay
		for k < len(list) && list[k].value.Compare(v) < 0 {
			k++
		}
		if k == len(list) {
			kept += copy(stored[kept:], stored[i:])
			break
		}
		if list[k].value != v {
			stored[kept] = v
			kept++
		}
	}
	live := 0
	for i := range list {
		if list[i].live {
			live++
		}
	}
	dst = slices.Grow(dst[:start+kept], live)[:start+kept+live]
	at, i := len(dst)-1, start+kept-1 // from the end, so that nothing is overwritten before it is moved
	for k := len(list) - 1; live > 0; k-- {
		if !list[k].live {
			continue
		}
		for i >= start && list[k].value.Compare(dst[i]) < 0 {
			dst[at] = dst[i]
			at, i = at-1, i-1
		}
		dst[at] = list[k].value
		at, live = at-1, live-1
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
