package valueset

import (
	"errors"
	"slices"
	"testing"

	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/keys"
)

// crafted is a tree made by hand, with checksums that agree, as a forger or a
// faulty writer could leave it.
type crafted struct {
	w    *Writer
	kids []child // leaves
	root child
	rows state
}

// leafOf writes a leaf of live values first, first+2, …, n of them.
func (c *crafted) leafOf(t *testing.T, first, n uint64) {
	var items []item
	for i := range n {
		items = append(items, item{value: keys.FromUint64(first + 2*i)})
	}
	c.add(t, items)
}

func (c *crafted) add(t *testing.T, items []item) {
	var numbers []uint64
	leaf, err := c.w.writeLeaf(c.w.number(&numbers), items)
	must(t, err)
	c.kids = append(c.kids, leaf)
}

// TestCraftedTrees: Check finds each wrong relation between sound nodes, and so do
// reads that it could mislead. Nothing panics, and everything ends.
func TestCraftedTrees(t *testing.T) {
	value := keys.FromUint64
	for name, c := range map[string]struct {
		leaves func(c *crafted)
		root   func(c *crafted)
		reads  bool // reading all values fails too
	}{
		"sound": {},
		"separator below values of the leaf before": {leaves: func(c *crafted) { c.kids[1].separator = value(1101) }},
		"separator above the first value":           {leaves: func(c *crafted) { c.kids[1].separator = value(2001) }},
		"separators not ascending":                  {leaves: func(c *crafted) { c.kids[2].separator = value(5) }, reads: true},
		"leaves overlap": {leaves: func(c *crafted) {
			c.leafOf(t, 4001, 200)
			c.kids[5].separator = value(4101)
		}},
		"leaf out of order": {leaves: func(c *crafted) {
			c.add(t, []item{{value: value(9002)}, {value: value(9001)}})
			c.kids[5].separator = value(9000)
		}},
		"live and dead": {leaves: func(c *crafted) {
			c.add(t, []item{{value: value(9001)}, {value: value(9001), dead: true}})
		}},
		"counts of a child":  {leaves: func(c *crafted) { c.kids[1].count-- }},
		"empty child":        {leaves: func(c *crafted) { c.kids[1].count = 0 }, reads: true},
		"large leaf":         {leaves: func(c *crafted) { c.kids[1].count = leafValues + 1 }, reads: true},
		"overflowing leaf":   {leaves: func(c *crafted) { c.kids[1].tombs = ^uint64(0) }, reads: true},
		"address beyond":     {leaves: func(c *crafted) { c.kids[1].at = 1 << 40 }, reads: true},
		"address of no file": {leaves: func(c *crafted) { c.kids[1].at = 1<<63 + 64 }, reads: true},
		"address odd":        {leaves: func(c *crafted) { c.kids[1].at++ }, reads: true},
		"another's bytes":    {leaves: func(c *crafted) { c.kids[1].at = c.kids[2].at }, reads: true},
		"later commit":       {leaves: func(c *crafted) { c.kids[1].commit++ }, reads: true},
		"counts of the root": {root: func(c *crafted) { c.root.count, c.rows.sorted = c.root.count-1, c.root.count-1 }, reads: true},
		"too shallow":        {root: func(c *crafted) { c.rows.depth = 0 }, reads: true},
		"too deep":           {root: func(c *crafted) { c.rows.depth = 2 }, reads: true},
		"should be a row":    {leaves: func(c *crafted) { c.kids = c.kids[:3] }},
		"index elsewhere":    {root: func(c *crafted) { c.w.nodes.Delete(c.kids[3].node, 0) }},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 4<<20)
			defer func() { must(t, w.file.Close()) }()
			tx, writer := w.begin()
			x := &crafted{w: writer}
			for first := range uint64(5) {
				x.leafOf(t, 1000*(first+1), 250)
			}
			if c.leaves != nil {
				c.leaves(x)
			}
			x.seal(t, c.root)
			w.commit(tx, writer)
			x.judge(t, w, name == "sound", c.reads)
		})
	}
}

// seal writes the root over the leaves, and the state of set 0.
func (c *crafted) seal(t *testing.T, change func(*crafted)) {
	set, err := c.w.newSet()
	must(t, err)
	var numbers []uint64
	c.root, err = c.w.writeInner(c.w.number(&numbers), c.kids)
	must(t, err)
	if c.root.count > 1<<16 || c.root.tombs > 1<<16 { // so that the state itself is accepted
		c.root.count, c.root.tombs = 1250, 0
	}
	c.rows = state{depth: 1, class: classTree, sorted: c.root.count}
	if change != nil {
		change(c)
	}
	r := &c.root
	must(t, c.w.setState(set, &state{owner: keys.FromUint64(1), row: r.node, at: r.at, commit: r.commit, count: r.count,
		tombs: r.tombs, sorted: c.rows.sorted, crc: r.crc, class: c.rows.class, depth: c.rows.depth}))
}

func (c *crafted) judge(t *testing.T, w *world, sound, readsFail bool) {
	var defects []error
	w.table().Check(0, keys.FromUint64(1), nil, func(err error) { defects = append(defects, err) })
	if sound != (len(defects) == 0) {
		t.Errorf("defects %v", defects)
	}
	for _, err := range defects {
		if !errors.Is(err, corrupt.Err) {
			t.Errorf("not of damage: %v", err)
		}
	}
	s, err := w.table().Open(0, keys.FromUint64(1))
	if err == nil {
		_, err = s.Append(nil)
	}
	if readsFail && !errors.Is(err, corrupt.Err) {
		t.Errorf("read: %v", err)
	}
	for v := uint64(0); v < 10_000; v += 501 { // it must not panic, whatever it returns
		if _, err := s.Has(keys.FromUint64(v)); err != nil && !errors.Is(err, corrupt.Err) {
			t.Errorf("has: %v", err)
		}
	}
	tx, writer := w.begin()
	defer tx.Abort()
	x, err := writer.Spilled(keys.FromUint64(1), 0)
	if err != nil {
		return
	}
	for v := uint64(0); v < 10_000; v += 51 {
		must(t, x.Add(keys.FromUint64(v)))
	}
	if _, err := writer.Save(x); readsFail && !errors.Is(err, corrupt.Err) {
		t.Errorf("save: %v", err)
	}
}

// TestCraftedRow: a row with a sound checksum and values that break the invariants.
func TestCraftedRow(t *testing.T) {
	five := []keys.E{{Low: 1}, {Low: 2}, {Low: 3}, {Low: 4}, {Low: 5}}
	for name, c := range map[string]struct {
		live, dead []keys.E
		sound      bool
	}{
		"sound":        {five, []keys.E{{Low: 6}}, true},
		"unordered":    {[]keys.E{{Low: 2}, {Low: 1}, {Low: 3}, {Low: 4}, {Low: 5}}, nil, false},
		"twice":        {slices.Insert(slices.Clone(five), 1, keys.E{Low: 1}), nil, false},
		"live, dead":   {five, five[:1], false},
		"dead, no row": {five, []keys.E{{Low: 8}, {Low: 7}}, false},
	} {
		w := newWorld(t, 1<<20)
		tx, writer := w.begin()
		s := writer.Empty(keys.E{})
		set, err := writer.newSet()
		must(t, err)
		st, err := writer.saveRow(s, set, c.live, c.dead)
		must(t, err)
		must(t, writer.setState(set, &st))
		w.commit(tx, writer)
		var defects []error
		w.table().Check(set, keys.E{}, nil, func(err error) { defects = append(defects, err) })
		if c.sound != (len(defects) == 0) || !c.sound && !errors.Is(defects[0], corrupt.Err) {
			t.Errorf("%s: %v", name, defects)
		}
		w.close()
	}
}
