package valueset

import (
	"fmt"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/keys"
)

// Where the sets lie.
const (
	groupPath = "/values"
	statePath = "/values/state"
	nodesPath = "/values/nodes"
)

func classPath(class int) string { return fmt.Sprintf("/values/class_%d", class) }

// Paths returns the datasets whose chunks belong to sets: the rows of every class
// and the nodes.
func Paths() []string {
	paths := []string{nodesPath}
	for _, n := range classes {
		paths = append(paths, classPath(n))
	}
	return paths
}

func setName(set uint64) string { return fmt.Sprintf("value set %d", set) }

// Table reads the spilled sets of one View. Safe for concurrent use while the
// View is pinned.
type Table struct {
	view   *hdf5io.View
	states *hdf5io.Dataset // nil: not found
	seed   seed
	always bool
	inners *innerCache
}

// NewTable returns the sets of a view. With verifyAlways every row is verified at
// each use, not only at the first. Nodes below the root of a tree are verified at
// each use in any case, except that Has keeps verified copies of inner nodes. known is
// the Table of an earlier View of the file, whose copies stay in use, or nil.
func NewTable(view *hdf5io.View, uuid [16]byte, verifyAlways bool, known *Table) (*Table, error) {
	inners := new(innerCache)
	if known != nil {
		inners = known.inners
	}
	states, err := view.Dataset(statePath)
	if err != nil {
		err = fmt.Errorf("value sets: %w", err)
	}
	return &Table{view: view, states: states, seed: newSeed(uuid), always: verifyAlways, inners: inners}, err
}

// page returns the page of states that holds that of a set; nil if no id of the
// page is in use.
func (t *Table) page(set uint64) (*hdf5io.Page, error) {
	if t.states == nil {
		return nil, setError(set, 0, "there is no %s", statePath)
	}
	var p *hdf5io.Page
	var err error
	if t.always {
		p, err = t.states.PageAgain(set / pageRows)
	} else {
		p, err = t.states.Page(set / pageRows)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: state: %w", setName(set), err)
	}
	if p != nil && len(p.Data()) < pageRows*stateSize {
		return nil, setError(set, 0, "no state")
	}
	return p, nil
}

// state reads and checks the state of a set id.
func (t *Table) state(set uint64) (state, *hdf5io.Page, error) {
	p, err := t.page(set)
	if err != nil || p == nil {
		return state{}, nil, err
	}
	slot := int(set % pageRows)
	s := parseState(p.Data()[slot*stateSize : (slot+1)*stateSize])
	return s, p, s.check(set, t.view.Commit(), uint64(t.view.EndOfFile()))
}

// At returns the set of an id, whichever key owns it, and whether there is one.
func (t *Table) At(set uint64) (s Stored, used bool, err error) {
	st, p, err := t.state(set)
	if err != nil || st.class == classFree {
		return Stored{}, false, err
	}
	return Stored{table: t, page: p, set: set, state: st}, true, nil
}

// Open finds the set of a key by the id in its hash entry. It is a corrupt error if
// the id is unused or its set belongs to another key.
func (t *Table) Open(set uint64, owner keys.E) (Stored, error) {
	s, used, err := t.At(set)
	switch {
	case err != nil:
		return Stored{}, err
	case !used:
		return Stored{}, setError(set, 0, "unused, want the set of key %v", owner)
	case s.Owner() != owner:
		return Stored{}, setError(set, s.state.at, "set of key %v, want that of %v", s.Owner(), owner)
	}
	return s, nil
}

// Stored is a spilled set as its View has it. It is valid while the View is pinned,
// and safe for concurrent use.
type Stored struct {
	table *Table
	page  *hdf5io.Page // its marks say which rows and roots of its sets are verified
	set   uint64
	state state
}

// Owner is the key that the set belongs to.
func (s Stored) Owner() keys.E { return s.state.owner }

// Count is the number of live values.
func (s Stored) Count() uint64 { return s.state.count }

// Tombstones is the number of deleted values that are not yet compacted away.
func (s Stored) Tombstones() uint64 { return s.state.tombs }

func (s Stored) isTree() bool { return s.state.class == classTree }

// Compactable reads all that a compaction of the set would read, and returns the
// first error.
func (s Stored) Compactable() error {
	if !s.isTree() {
		_, err := s.row()
		return err
	}
	root := s.root()
	return s.compactable(&root, int(s.state.depth))
}

func (s Stored) compactable(c *child, level int) error {
	b, err := s.node(c, level)
	if err != nil || level == 0 {
		return err
	}
	kids, err := inner(b).children(c)
	if err != nil {
		return err
	}
	for i := range kids {
		if kids[i].tombs == 0 && s.Count() > maxRow { // a set that becomes a row is read to the end
			continue
		}
		if err := s.compactable(&kids[i], level-1); err != nil {
			return err
		}
	}
	return nil
}

// row returns the verified bytes of the set's row.
func (s Stored) row() ([]byte, error) {
	return s.verified(s.set, int(s.state.class)*keys.Size)
}

// verified reads what the state names, a row or the root node.
func (s Stored) verified(number uint64, size int) ([]byte, error) {
	t := s.table
	b, err := t.view.Bytes(int64(s.state.at), size)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", setName(s.set), err)
	}
	slot := int(s.set % pageRows)
	if !t.always && s.page.Marked(slot) {
		return b, nil
	}
	touch(b)
	if got := t.seed.checksum(number, s.state.commit, b); got != s.state.crc {
		return nil, setError(s.set, s.state.at, "crc32c %#08x, want %#08x", got, s.state.crc)
	}
	s.page.Mark(slot)
	return b, nil
}

// root returns the tree's root node in the form of a child, without a separator.
func (s Stored) root() child {
	return child{node: s.state.row, at: s.state.at, count: s.state.count, tombs: s.state.tombs, commit: s.state.commit, crc: s.state.crc}
}

// node reads and verifies the node c of a tree, which is level levels above its
// leaves. That the root was verified is remembered with the state.
func (s Stored) node(c *child, level int) ([]byte, error) {
	if level == 0 && (c.count > leafValues || c.tombs > leafValues-c.count) {
		return nil, c.bad("leaf with %d values and %d tombstones, limit %d", c.count, c.tombs, leafValues)
	}
	if c.at == s.state.at {
		// The state has the number, the commit and the checksum of its root.
		if c.node != s.state.row || c.commit != s.state.commit || c.crc != s.state.crc {
			return nil, c.bad("the root of %s is below itself", setName(s.set))
		}
		return s.verified(c.node, nodeSize)
	}
	b, err := s.unverified(c)
	if err != nil {
		return nil, err
	}
	return b, s.verify(c, b)
}

// children reads the inner node c, which is level levels above the leaves, and returns its
// children.
func (s Stored) children(c *child, level int) ([]child, error) {
	b, err := s.node(c, level)
	if err != nil {
		return nil, err
	}
	return inner(b).children(c)
}

// unverified reads a node that is not the root.
func (s Stored) unverified(c *child) ([]byte, error) {
	b, err := s.table.view.Bytes(int64(c.at&(1<<63-1)), nodeSize)
	if err != nil {
		return nil, fmt.Errorf("%s: node %d: %w", setName(s.set), c.node, err)
	}
	return b, nil
}

func (s Stored) verify(c *child, b []byte) error {
	touch(b)
	if got := s.table.seed.checksum(c.node, c.commit, b); got != c.crc {
		return c.bad("crc32c %#08x, want %#08x", got, c.crc)
	}
	return nil
}

// touch reads from each line of memory of b, many at a time. A checksum waits for each line
// before it asks for the next.
//
//go:noinline
func touch(b []byte) (sum byte) {
	const line = 64
	for i := 0; i < len(b); i += line {
		sum += b[i]
	}
	return sum
}

// status is what a set knows about a value.
type status uint8

const (
	isAbsent status = iota
	isLive
	isDead // a tombstone
)

// Has reports whether v is a live value. It reads the row, or one node of each
// level.
func (s Stored) Has(v keys.E) (bool, error) {
	st, err := s.status(v)
	return st == isLive, err
}

func (s Stored) status(v keys.E) (status, error) {
	if !s.isTree() {
		b, err := s.row()
		if err != nil {
			return isAbsent, err
		}
		return statusIn(b, s.state.count, s.state.tombs, v), nil
	}
	c := s.root()
	for level := int(s.state.depth); level > 0; level-- {
		var err error
		if c, err = s.below(&c, level, v); err != nil {
			return isAbsent, err
		}
	}
	b, err := s.node(&c, 0)
	if err != nil {
		return isAbsent, err
	}
	return statusIn(b, c.count, c.tombs, v), nil
}

// below returns the child whose range holds v, of an inner node of which a verified copy will
// do.
func (s Stored) below(c *child, level int, v keys.E) (child, error) {
	t := s.table
	if !t.always && c.at != s.state.at { // that the root was verified is known
		n := t.inners.find(c)
		if n == nil {
			b, err := s.unverified(c)
			if err != nil {
				return child{}, err
			}
			n = t.inners.offer(c, b, t.seed)
		}
		if n != nil {
			return n.find(v), nil
		}
	}
	b, err := s.node(c, level)
	if err != nil {
		return child{}, err
	}
	n := inner(b)
	used := n.len()
	if used == 0 {
		return child{}, c.bad("inner node without children")
	}
	return n.child(n.find(v, used)), nil
}

func statusIn(b []byte, count, tombs uint64, v keys.E) status {
	alive, deleted := split(b, count, tombs)
	if _, found := alive.find(v); found {
		return isLive
	}
	if _, found := deleted.find(v); found {
		return isDead
	}
	return isAbsent
}

// Append appends the live values, ascending, to dst; it allocates at most once.
// After an error dst holds some of them.
func (s Stored) Append(dst []keys.E) ([]keys.E, error) {
	if n := int(s.state.count); cap(dst)-len(dst) < n { // count is bounded by the file's size
		dst = append(make([]keys.E, 0, len(dst)+n), dst...)
	}
	err := s.each(keys.E{}, nil, func(alive values) (bool, error) {
		for i := range alive.len() {
			dst = append(dst, alive.at(i))
		}
		return true, nil
	})
	return dst, err
}

// Each yields the live values that are not below from, ascending, until yield
// returns false or an error, which Each returns. It reads one leaf at a time. If
// bad is not nil, Each passes over damaged nodes, and calls bad with what is wrong
// with each.
func (s Stored) Each(from keys.E, bad func(error), yield func(keys.E) (bool, error)) error {
	return s.each(from, bad, func(alive values) (bool, error) {
		for i := range alive.len() {
			if more, err := yield(alive.at(i)); err != nil || !more {
				return false, err
			}
		}
		return true, nil
	})
}

// each visits the live values that are not below from, in pieces.
func (s Stored) each(from keys.E, bad func(error), visit func(values) (bool, error)) error {
	if !s.isTree() {
		b, err := s.row()
		if err != nil {
			return err
		}
		_, err = visitFrom(b, s.state.count, s.state.tombs, from, visit)
		return err
	}
	root := s.root()
	w := walker{s, from, bad, visit}
	_, err := w.walk(&root, int(s.state.depth))
	return err
}

func visitFrom(b []byte, count, tombs uint64, from keys.E, visit func(values) (bool, error)) (bool, error) {
	alive, _ := split(b, count, tombs)
	i, _ := alive.find(from)
	return visit(alive[i*keys.Size:])
}

// deadWalk gathers the tombstones of the first leaves of a tree that have any.
type deadWalk struct {
	Stored
	leaves int // how many more of them
	dead   []keys.E
}

func (w *deadWalk) walk(c *child, level int) error {
	b, err := w.node(c, level)
	if err != nil {
		return err
	}
	if level == 0 {
		w.leaves--
		_, deleted := split(b, c.count, c.tombs)
		for i := range deleted.len() {
			w.dead = append(w.dead, deleted.at(i))
		}
		return nil
	}
	kids, err := inner(b).children(c)
	if err != nil {
		return err
	}
	for i := range kids {
		if kids[i].tombs == 0 || w.leaves <= 0 {
			continue
		}
		if err := w.walk(&kids[i], level-1); err != nil {
			return err
		}
	}
	return nil
}

// walker goes over the leaves of a tree.
type walker struct {
	Stored
	from  keys.E
	bad   func(error) // nil: a damaged node ends the walk
	visit func(values) (bool, error)
}

// walk visits the leaves below c, beginning with the one that holds from. It always
// ends, because the counts of children add up to their node's and none is empty.
func (w *walker) walk(c *child, level int) (more bool, err error) {
	b, err := w.node(c, level)
	if err != nil {
		return w.past(err)
	}
	if level == 0 {
		return visitFrom(b, c.count, c.tombs, w.from, w.visit)
	}
	n := inner(b)
	used, err := n.judge(c)
	if err != nil {
		return w.past(err)
	}
	var kid child // one for all children: declared in the loop, each would be on the heap
	for i := n.find(w.from, used); i < used; i++ {
		kid = n.child(i)
		if more, err = w.walk(&kid, level-1); err != nil || !more {
			return false, err
		}
	}
	return true, nil
}

// past passes over a damaged node if that is wanted.
func (w *walker) past(err error) (more bool, _ error) {
	if w.bad == nil {
		return false, err
	}
	w.bad(err)
	return true, nil
}
