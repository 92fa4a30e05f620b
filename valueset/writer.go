package valueset

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/order"
	"github.com/cidstore/cidstore/keys"
)

// CreateDatasets makes the datasets of a new store's sets, empty.
func CreateDatasets(tx *hdf5io.Tx) error {
	if err := tx.CreateGroup(groupPath); err != nil {
		return fmt.Errorf("value sets: create: %w", err)
	}
	specs := map[string]hdf5io.DatasetSpec{
		statePath: {Type: stateType(), Dims: []uint64{0}, MaxDims: []uint64{hdf5io.Unlimited}, Chunk: []uint32{pageRows},
			Fletcher32: true, Map: hdf5io.SecondMap,
			Attributes: hdf5io.Described("value sets by set id: owner, counts and place", "row_address: bytes in the file; class: values of a row, 65535: a tree")},
		nodesPath: valueRows(leafValues, "nodes of trees of values by node number; inner nodes hold child records"),
	}
	for _, n := range classes {
		specs[classPath(n)] = valueRows(n, "values of a set by set id: live ones ascending, deleted ones ascending, zeros")
	}
	for _, path := range slices.Sorted(maps.Keys(specs)) {
		if _, err := tx.CreateDataset(path, specs[path]); err != nil {
			return fmt.Errorf("value sets: create: %w", err)
		}
	}
	return nil
}

func valueRows(n int, description string) hdf5io.DatasetSpec {
	return hdf5io.DatasetSpec{Type: valueType(), Dims: []uint64{0, uint64(n)}, MaxDims: []uint64{hdf5io.Unlimited, uint64(n)},
		Chunk: []uint32{1, uint32(n)}, Attributes: hdf5io.Described(description, "128-bit identifiers, high and low 64 bits")}
}

// Stats is what a Writer did to the sets that it saved.
type Stats struct {
	Promotions  uint64 // inline to spilled
	Demotions   uint64 // spilled to inline
	Compactions uint64 // that erased a tombstone
	Tombstones  int64  // how many more there are now in all spilled sets
}

// Writer changes sets in one Tx. Not safe for concurrent use. After an error of
// any method the Tx must be aborted.
type Writer struct {
	tx   *hdf5io.Tx
	base *Table

	Counters

	states  *hdf5io.TxDataset
	nodes   *hdf5io.TxDataset
	classes [classCount]*hdf5io.TxDataset
	grown   [classCount]bool // the class has a new row, whose id may be beyond its dimension
	pages   map[uint64]*statePage

	pool  []*Set
	bytes []byte // scratch space for a row or node
	stats Stats
}

// statePage is a changed chunk of /values/state.
type statePage struct {
	data  [pageRows * stateSize]byte
	dirty uint64 // bit i: row i was changed
}

// Counters are the numbers of sets that the store record keeps.
type Counters struct {
	Sets   uint64 // set ids: rows of /values/state
	Unused uint64 // of them
	Search uint64 // id at which the next search for an unused one begins, up to Sets
	Nodes  uint64 // first node number never used
}

// class returns the class of a set of the page.
func (p *statePage) class(set uint64) uint16 {
	return binary.LittleEndian.Uint16(p.data[set%pageRows*stateSize+offClass:])
}

// empty reports whether no id of the page is in use.
func (p *statePage) empty() bool {
	for set := range uint64(pageRows) {
		if p.class(set) != classFree {
			return false
		}
	}
	return true
}

// NewWriter returns a writer on tx, which begins at the view of base and has its
// counters.
func NewWriter(tx *hdf5io.Tx, base *Table, c Counters) (*Writer, error) {
	states, err := tx.Dataset(statePath)
	if err != nil {
		return nil, fmt.Errorf("value sets: %w", err)
	}
	return &Writer{tx: tx, base: base, states: states, Counters: c,
		pages: map[uint64]*statePage{}, bytes: make([]byte, 0, maxRow*keys.Size)}, nil
}

// Evaluator returns a Writer without a transaction. Its sets can be changed, to see
// the result, but not saved.
func (t *Table) Evaluator() *Writer { return &Writer{base: t} }

// Stats returns what Save has done so far.
func (w *Writer) Stats() Stats { return w.stats }

// Empty returns the set of a key without values.
func (w *Writer) Empty(key keys.E) *Set {
	var s *Set
	if n := len(w.pool); n > 0 {
		s, w.pool = w.pool[n-1], w.pool[:n-1]
	} else {
		s = new(Set)
	}
	*s = Set{w: w, key: key, ordinal: -1, live: s.live[:0], dead: s.dead[:0], edits: s.edits[:0]}
	return s
}

// Inline returns the set of a key whose entry has its values, in any order.
func (w *Writer) Inline(key keys.E, values []keys.E) *Set {
	s := w.Empty(key)
	s.live = append(s.live, values...)
	slices.SortFunc(s.live, keys.E.Compare)
	s.live = slices.Compact(s.live)
	s.was = uint64(len(s.live))
	switch {
	case len(s.live) > Inline:
		s.promote()
	case len(s.live) > 0:
		s.form = formInline
	}
	return s
}

// Spilled returns the set of a key whose entry gives a set id. A set can be saved
// only once in a Tx.
func (w *Writer) Spilled(key keys.E, set uint64) (*Set, error) {
	if p := w.pages[set/pageRows]; p != nil && p.dirty>>(set%pageRows)&1 != 0 {
		return nil, fmt.Errorf("%s: changed in this transaction already", setName(set))
	}
	stored, err := w.base.Open(set, key)
	if err != nil {
		return nil, err
	}
	s := w.Empty(key)
	s.spilled, s.stored, s.was = true, stored, stored.Count()
	if stored.isTree() {
		s.form, s.inFile = formTree, true
		return s, nil
	}
	b, err := stored.row()
	if err != nil {
		return nil, err
	}
	s.form = formRow
	alive, deleted := split(b, stored.Count(), stored.Tombstones())
	for i := range alive.len() {
		s.live = append(s.live, alive.at(i))
	}
	for i := range deleted.len() {
		s.dead = append(s.dead, deleted.at(i))
	}
	return s, nil
}

// Result is what a key has become.
type Result struct {
	Live    uint64    // values; 0: the key is gone
	Was     uint64    // values before
	Count   uint8     // inline values
	Values  [4]keys.E // ascending
	Spilled bool
	Set     uint64 // set id, if spilled
}

// Save returns what s has become. It writes the values of a spilled set to the
// file, frees what they replace, and takes s back for use by another key.
func (w *Writer) Save(s *Set) (Result, error) {
	r, err := w.save(s)
	if err != nil {
		return Result{}, fmt.Errorf("save the values of key %v: %w", s.key, err)
	}
	w.stats.Promotions += s.stats.Promotions
	w.stats.Demotions += s.stats.Demotions
	w.stats.Compactions += s.stats.Compactions
	if cap(s.edits) > maxPooledEdits {
		s.edits = nil
	}
	s.onRemove, s.known = nil, nil
	w.pool = append(w.pool, s)
	return r, nil
}

// maxPooledEdits bounds the memory that a set keeps for the next key, in edits.
const maxPooledEdits = 1 << 16

func (w *Writer) save(s *Set) (Result, error) {
	if s.err != nil {
		return Result{}, s.err
	}
	if w.tx == nil {
		return Result{}, errors.New("the set is only for evaluation")
	}
	r := Result{Was: s.was, Spilled: s.IsSpilled(), Set: s.stored.set}
	if !s.changed && r.Spilled {
		r.Live = s.stored.Count()
		return r, nil
	}
	if !r.Spilled {
		r.Set, r.Count, r.Live = 0, uint8(len(s.live)), uint64(len(s.live))
		copy(r.Values[:], s.live)
		if s.spilled {
			return r, w.release(s)
		}
		return r, nil
	}
	if !s.spilled {
		var err error
		if r.Set, err = w.newSet(); err != nil {
			return r, err
		}
	}
	st, err := w.saveSpilled(s, r.Set)
	if err != nil {
		return r, err
	}
	r.Live = st.count
	w.stats.Tombstones += int64(st.tombs)
	if s.spilled {
		w.stats.Tombstones -= int64(s.stored.Tombstones())
	}
	return r, w.setState(r.Set, &st)
}

// saveSpilled writes a spilled set in the form for its size.
func (w *Writer) saveSpilled(s *Set, set uint64) (state, error) {
	if s.form == formRow {
		return w.saveRow(s, set, s.live, s.dead)
	}
	order.Sort(s.edits)
	if s.exact && s.lives+s.deads <= maxRow {
		live, dead, err := s.merged(s.edits)
		if err != nil {
			return state{}, err
		}
		return w.saveRow(s, set, live, dead)
	}
	t := treeEdit{merger: merger{set: s, edits: s.edits, report: !s.exact}, w: w}
	root, depth, err := t.save()
	if err != nil {
		return state{}, err
	}
	if s.spilled && !s.inFile {
		err = w.dropStored(s, classTree)
	}
	return state{owner: s.key, row: root.node, at: root.at, commit: root.commit, count: root.count, tombs: root.tombs,
		sorted: root.count, crc: root.crc, class: classTree, depth: uint16(depth)}, err
}

// saveRow writes live and dead as a row and frees what the set had before.
func (w *Writer) saveRow(s *Set, set uint64, live, dead []keys.E) (state, error) {
	k := classOf(len(live) + len(dead))
	b := appendValues(w.bytes[:0], live, dead)
	used := len(b)
	b = b[:classes[k]*keys.Size] // maxRow values have room
	clear(b[used:])
	count := uint64(len(live))
	st := state{owner: s.key, row: set, count: count, tombs: uint64(len(dead)), sorted: count, class: uint16(classes[k])}
	if err := w.writeRow(&st, set, b); err != nil {
		return state{}, err
	}
	w.grown[k] = true
	if s.spilled {
		return st, w.dropStored(s, classes[k])
	}
	return st, nil
}

// writeRow writes b as the row of a set, and sets in st where it is.
func (w *Writer) writeRow(st *state, set uint64, b []byte) error {
	k, _ := classIndex(st.class)
	d, err := w.class(k)
	if err != nil {
		return err
	}
	if st.at, err = d.Write(b, set, 0); err != nil {
		return err
	}
	st.commit = w.tx.NextCommit()
	st.crc = w.base.seed.checksum(set, st.commit, b)
	return nil
}

// dropStored frees the stored form of s, unless the new one, which is of a class,
// has replaced it in the index already.
func (w *Writer) dropStored(s *Set, class int) error {
	st := &s.stored.state
	if st.class == classTree {
		root := s.stored.root()
		return w.dropTree(s.stored, &root, int(st.depth))
	}
	if int(st.class) == class {
		return nil
	}
	k, _ := classIndex(st.class)
	d, err := w.class(k)
	if err != nil {
		return err
	}
	d.Delete(s.stored.set, 0)
	return nil
}

// dropTree frees the node c and all below it. Leaves are not read.
func (w *Writer) dropTree(s Stored, c *child, level int) error {
	if level > 0 {
		kids, err := s.children(c, level)
		if err != nil {
			return err
		}
		for i := range kids {
			if err := w.dropTree(s, &kids[i], level-1); err != nil {
				return err
			}
		}
	}
	return w.dropNodes([]uint64{c.node})
}

// fewUnused: if fewer than one set id in so many is unused, a new id is better than
// a search for an unused one.
const fewUnused = 16

// newSet takes a set id: an unused one if there are many, otherwise a new one.
func (w *Writer) newSet() (uint64, error) {
	if w.Unused*fewUnused < w.Sets || w.Unused == 0 {
		w.Sets++
		return w.Sets - 1, nil
	}
	return w.unused()
}

// unused takes an unused set id. The caller knows that there is one.
func (w *Writer) unused() (uint64, error) {
	for range w.Sets {
		if w.Search >= w.Sets {
			w.Search = 0
		}
		set := w.Search
		w.Search++
		used, err := w.used(set)
		if err != nil {
			return 0, err
		}
		if !used {
			w.Unused--
			return set, nil
		}
	}
	return 0, setError(0, 0, "%d of %d sets are unused, found none", w.Unused, w.Sets)
}

// used reports whether a set id is in use, as the transaction has left it.
func (w *Writer) used(set uint64) (bool, error) {
	if p := w.pages[set/pageRows]; p != nil {
		return p.class(set) != classFree, nil
	}
	_, used, err := w.base.At(set)
	return used, err
}

// release frees a set that is no longer spilled, and its id.
func (w *Writer) release(s *Set) error {
	if err := w.dropStored(s, classFree); err != nil {
		return err
	}
	w.stats.Tombstones -= int64(s.stored.Tombstones())
	w.Unused++
	return w.setState(s.stored.set, &state{})
}

// Renumber gives the set of a key an unused id, and returns it. It is for sets that
// nothing else in the Tx changes. A damaged set stays as it is, and the Tx can
// still be committed.
func (w *Writer) Renumber(key keys.E, set uint64) (uint64, error) {
	s, err := w.base.Open(set, key)
	if err != nil {
		return 0, err
	}
	var row []byte // the nodes of a tree have numbers of their own
	if !s.isTree() {
		if row, err = s.row(); err != nil {
			return 0, err
		}
	}
	id, err := w.unused()
	if err != nil {
		return 0, err
	}
	st := s.state
	if row != nil {
		if err := w.writeRow(&st, id, row); err != nil {
			return 0, err
		}
		k, _ := classIndex(st.class)
		w.classes[k].Delete(set, 0)
		w.grown[k], st.row = true, id
	}
	if err := w.setState(id, &st); err != nil {
		return 0, err
	}
	w.Unused++
	return id, w.setState(set, &state{})
}

// Drop frees a set that no key names, and its values and tombstones.
func (w *Writer) Drop(set uint64) error {
	stored, used, err := w.base.At(set)
	if err != nil {
		return err
	}
	if !used {
		return setError(set, 0, "unused, want a set to drop")
	}
	s, err := w.Spilled(stored.Owner(), set)
	if err != nil {
		return err
	}
	return w.release(s)
}

// statePage returns the page of a set's state, to be changed.
func (w *Writer) statePage(set uint64) (*statePage, error) {
	i := set / pageRows
	if p := w.pages[i]; p != nil {
		return p, nil
	}
	p := new(statePage)
	stored, err := w.base.page(set)
	if err != nil {
		return nil, err
	}
	if stored != nil {
		copy(p.data[:], stored.Data())
	}
	w.pages[i] = p
	return p, nil
}

func (w *Writer) setState(set uint64, st *state) error {
	p, err := w.statePage(set)
	if err != nil {
		return err
	}
	slot := set % pageRows
	st.append(p.data[slot*stateSize : slot*stateSize])
	p.dirty |= 1 << slot
	return nil
}

// class returns the dataset of a class, by the index of the class.
func (w *Writer) class(k int) (*hdf5io.TxDataset, error) {
	if w.classes[k] == nil {
		d, err := w.tx.Dataset(classPath(classes[k]))
		if err != nil {
			return nil, err
		}
		w.classes[k] = d
	}
	return w.classes[k], nil
}

func (w *Writer) openNodes() (err error) {
	if w.nodes == nil {
		w.nodes, err = w.tx.Dataset(nodesPath)
	}
	return err
}

// number takes the first of the numbers, or one never used.
func (w *Writer) number(numbers *[]uint64) uint64 {
	if list := *numbers; len(list) > 0 {
		*numbers = list[1:]
		return list[0]
	}
	w.Nodes++
	return w.Nodes - 1
}

func (w *Writer) dropNodes(numbers []uint64) error {
	if len(numbers) == 0 {
		return nil
	}
	if err := w.openNodes(); err != nil {
		return err
	}
	for _, n := range numbers {
		w.nodes.Delete(n, 0)
	}
	return nil
}

// writeLeaf writes a node of items.
func (w *Writer) writeLeaf(number uint64, items []item) (child, error) {
	c := child{node: number, separator: items[0].value}
	b := w.bytes[:0]
	for i := range items {
		if !items[i].dead {
			b = items[i].value.AppendHDF5(b)
			c.count++
		}
	}
	if c.tombs = uint64(len(items)) - c.count; c.tombs > 0 {
		for i := range items {
			if items[i].dead {
				b = items[i].value.AppendHDF5(b)
			}
		}
	}
	return w.writeNode(c, b)
}

// writeInner writes a node of child records.
func (w *Writer) writeInner(number uint64, kids []child) (child, error) {
	c := child{node: number, separator: kids[0].separator}
	b := w.bytes[:0]
	for i := range kids {
		b = kids[i].append(b)
		c.count += kids[i].count
		c.tombs += kids[i].tombs
	}
	return w.writeNode(c, b)
}

func (w *Writer) writeNode(c child, b []byte) (child, error) {
	if err := w.openNodes(); err != nil {
		return child{}, err
	}
	used := len(b)
	b = b[:nodeSize] // scratch is longer than a node
	clear(b[used:])
	var err error
	if c.at, err = w.nodes.Write(b, c.node, 0); err != nil {
		return child{}, err
	}
	c.commit = w.tx.NextCommit()
	c.crc = w.base.seed.checksum(c.node, c.commit, b)
	return c, nil
}

// Flush writes the states that changed and the dimensions of the datasets. It is
// the last call; the Counters are then those of the commit.
func (w *Writer) Flush() error {
	if err := w.trim(); err != nil {
		return fmt.Errorf("value sets: %w", err)
	}
	w.Search = min(w.Search, w.Sets)
	changed := slices.Sorted(maps.Keys(w.pages))
	for _, i := range changed { // before the dimensions leave them out
		if p := w.pages[i]; p.dirty != 0 && p.empty() {
			w.states.Delete(i)
			p.dirty = 0
		}
	}
	if err := w.resize(); err != nil {
		return fmt.Errorf("value sets: %w", err)
	}
	for _, i := range changed {
		p := w.pages[i]
		if p.dirty == 0 {
			continue
		}
		// A mark says that a row is verified, so the marks of changed rows are not
		// kept.
		if err := w.states.WritePage(i, p.data[:], hdf5io.Marks{^p.dirty, 0}); err != nil {
			return fmt.Errorf("value sets: states %d: %w", i, err)
		}
	}
	clear(w.pages)
	return nil
}

// trim gives up the last pages of states if no id of them is in use.
func (w *Writer) trim() error {
	for w.Unused > 0 && w.Sets > 0 {
		first := (w.Sets - 1) / pageRows * pageRows
		for set := first; set < w.Sets; set++ {
			if used, err := w.used(set); used || err != nil {
				return err
			}
		}
		if w.Unused < w.Sets-first {
			return setError(first, 0, "%d ids are said to be unused, and from this one on %d are", w.Unused, w.Sets-first)
		}
		w.Unused -= w.Sets - first
		w.Sets = first
	}
	if w.Unused > w.Sets {
		return setError(0, 0, "%d ids are said to be unused, of %d", w.Unused, w.Sets)
	}
	return nil
}

func (w *Writer) resize() error {
	if n := w.states.Dims()[0]; n != w.Sets {
		if err := w.states.Resize(w.Sets); err != nil {
			return err
		}
	}
	if w.nodes != nil {
		if err := grow(w.nodes, w.Nodes, leafValues); err != nil {
			return err
		}
	}
	for k, d := range w.classes {
		if d != nil && w.grown[k] {
			if err := grow(d, w.Sets, uint64(classes[k])); err != nil {
				return err
			}
		}
	}
	return nil
}

// grow makes the first dimension of d at least n.
func grow(d *hdf5io.TxDataset, n uint64, rest ...uint64) error {
	if d.Dims()[0] >= n {
		return nil
	}
	return d.Resize(append([]uint64{n}, rest...)...)
}
