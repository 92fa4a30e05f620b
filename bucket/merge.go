package bucket

import (
	"slices"
	"sort"
	"sync"
)

// gathering merges the newest items of a group. It merges their places, because the items
// are large. Its memory is reused.
type gathering struct {
	items  []Item     // the caller's changes; after own a copy of them, and what runs hold
	memory []Item     // where own copies to
	order  []gathered // of the items, ascending
	other  []gathered
}

// gathered is where an item is in a gathering.
type gathered struct {
	hash uint64
	at   int
}

// gatherings keeps some of them for readers.
var gatherings = sync.Pool{New: func() any { return new(gathering) }}

// begin drops what was gathered, and gathers changes. They ascend, and may have deleted
// items. They must stay as they are until the next begin.
func (g *gathering) begin(changes []Item) {
	g.items, g.order = changes, slices.Grow(g.order[:0], len(changes))
	for i := range g.items {
		g.order = append(g.order, gathered{g.items[i].Hash, i})
	}
}

// own copies the changes, so that items of runs can follow them.
func (g *gathering) own() { g.items = append(g.memory[:0], g.items...) }

// put merges the items from index first on, which ascend, into those before. Of each
// key the item that was there stays. An item is left out if its hash is in one of the
// ranges.
func (g *gathering) put(first int, without []hashes) {
	old, merged := g.order, slices.Grow(g.other[:0], len(g.items))
	end := first
	for i := first; i < len(g.items); i++ {
		it := &g.items[i]
		n := 0
		for n < len(old) && (old[n].hash < it.Hash || old[n].hash == it.Hash && Less(&g.items[old[n].at], it)) {
			n++
		}
		merged, old = append(merged, old[:n]...), old[n:]
		if len(old) > 0 && old[0].hash == it.Hash && g.items[old[0].at].Key == it.Key || contains(without, it.Hash) {
			continue
		}
		if i > end {
			g.items[end] = *it
		}
		merged = append(merged, gathered{it.Hash, end})
		end++
	}
	g.items = g.items[:end]
	g.order, g.other = append(merged, old...), g.order
}

// merge appends to dst the live items of old and of what is gathered; if both have a
// key, it takes the gathered one. old ascends. dst may share the memory of old if it
// begins at least len(g.order) items before it.
func (g *gathering) merge(dst, old []Item) []Item {
	for _, p := range g.order {
		c, n := &g.items[p.at], 0
		for n < len(old) && (old[n].Hash < p.hash || old[n].Hash == p.hash && Less(&old[n], c)) {
			n++
		}
		dst, old = append(dst, old[:n]...), old[n:]
		if len(old) > 0 && old[0].Hash == p.hash && old[0].Key == c.Key {
			old = old[1:]
		}
		if !c.Deleted {
			dst = append(dst, *c)
		}
	}
	return append(dst, old...)
}

// Split cuts the ascending items of a group of the given local depth in two, by the
// next bit of the hash: bit depth, where 0 is the top one. Both parts share the
// memory of items. depth is below 64.
func Split(items []Item, depth uint8) (left, right []Item) {
	cut := sort.Search(len(items), func(i int) bool { return items[i].Hash<<depth>>63 == 1 })
	return items[:cut:cut], items[cut:]
}
