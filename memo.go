package cidstore

import (
	"slices"
	"sync"

	"github.com/cidstore/cidstore/internal/order"
	"github.com/cidstore/cidstore/wal"
)

// longChain is how many pending operations of one key a read walks. For a key with more
// it makes a memo. If each read walked them all, reading and writing one key in turn
// would take quadratic time.
const longChain = 64

// memos are the memos of one state, which all its readers share, or of one Snapshot.
// They need no limit of their own: they hold at most one value for each pending
// operation, and are gone when the state or the Snapshot is.
type memos struct {
	mu   sync.Mutex
	keys map[E]*memo
}

func (s *memos) len() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint64(len(s.keys))
}

// of returns the memo of a key, which is new if there was none.
func (s *memos) of(key E) *memo {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.keys[key]
	if m == nil {
		if s.keys == nil {
			s.keys = map[E]*memo{}
		}
		m = new(memo)
		s.keys[key] = m
	}
	return m
}

// memo is the result of the pending operations of one key, up to one of them. Newer ones
// bring it up to date, and each is looked at once.
type memo struct {
	mu      sync.Mutex
	values  map[E]bool // that the operations name: whether they are in the set
	cleared bool       // by a Delete: what the tree holds does not count
	through wal.Seq    // of the newest operation that is in it
	live    uint64     // of the values that are in the set
	shared  uint64     // of the values that the tree has, except unasked ones
	unasked []E        // of the values for which the tree was not asked yet

	sorted sortedMemo
}

// sortedMemo is the result of the operations as a list, for those who read all values.
// It is apart from the rest of the memo, so that readers make only the one that they need.
type sortedMemo struct {
	list    []outcome // ascending; replaced, never changed
	cleared bool
	through wal.Seq
}

// memo returns the memo of a key, up to date and locked. The chains of the key begin at
// fresh and at frozen. memo returns nil if the caller must walk them, because they are
// short, or because another reader of the same state, who sees a newer operation, has
// used the memo already.
func (r reader) memo(key E, fresh, frozen *op) *memo {
	newest := ofLongChains(fresh, frozen)
	if newest == nil {
		return nil
	}
	m := r.memos.of(key)
	m.mu.Lock()
	if m.through > newest.sequence {
		m.mu.Unlock()
		return nil
	}
	m.extend(r.since(nil, m.through, fresh, frozen))
	m.through = newest.sequence
	return m
}

// ofLongChains returns the newest operation of a key with long chains, or nil if they are
// short.
func ofLongChains(fresh, frozen *op) (newest *op) {
	if depthOfChains(fresh, frozen) <= longChain {
		return nil
	}
	if fresh != nil {
		return fresh
	}
	return frozen
}

func depthOfChains(fresh, frozen *op) (depth int) {
	for _, o := range [...]*op{fresh, frozen} {
		if o != nil {
			depth += int(o.depth.operations())
		}
	}
	return depth
}

// sorted returns the outcomes of a key with long chains, in ascending order. ok is false
// where memo returns nil.
func (r reader) sorted(key E, fresh, frozen *op) (list []outcome, cleared, ok bool) {
	newest := ofLongChains(fresh, frozen)
	if newest == nil {
		return nil, false, false
	}
	m := r.memos.of(key)
	m.mu.Lock()
	defer m.mu.Unlock()
	s := &m.sorted
	if s.through > newest.sequence {
		return nil, false, false
	}
	s.extend(r.since(nil, s.through, fresh, frozen))
	s.through = newest.sequence
	return s.list, s.cleared, true
}

// extend applies operations that are newer than all before. newer has the newest first.
func (s *sortedMemo) extend(newer []*op) {
	if n := len(newer); n > 0 && newer[n-1].code == wal.Delete {
		s.list, s.cleared = nil, true
	}
	list := settled(make([]outcome, 0, len(newer)), newer)
	if len(s.list) == 0 {
		s.list = list
		return
	}
	if len(list) == 0 {
		return
	}
	merged, old := make([]outcome, 0, len(s.list)+len(list)), s.list
	for i := range list {
		for len(old) > 0 && order.Less(old[0].Value, list[i].Value) {
			merged, old = append(merged, old[0]), old[1:]
		}
		if len(old) > 0 && old[0].Value == list[i].Value {
			old = old[1:]
		}
		merged = append(merged, list[i])
	}
	s.list = append(merged, old...)
}

// since appends the operations after a sequence that still matter, newest first. It ends
// with a Delete of the key, if there is one.
func (r reader) since(list []*op, sequence wal.Seq, fresh, frozen *op) []*op {
	if sequence == 0 {
		list = slices.Grow(list, depthOfChains(fresh, frozen))
	}
	list = r.fresh.since(list, fresh, sequence)
	if n := len(list); n == 0 || list[n-1].code != wal.Delete {
		list = r.frozen.since(list, frozen, sequence)
	}
	return list
}

// extend applies operations that are newer than all before. newer has the newest first.
func (m *memo) extend(newer []*op) {
	for i := len(newer) - 1; i >= 0; i-- {
		switch o := newer[i]; o.code {
		case wal.Delete:
			clear(m.values)
			m.cleared, m.live, m.unasked = true, 0, nil
		case wal.Insert, wal.DeleteValue:
			m.set(o.value, o.code == wal.Insert)
		}
	}
}

// set notes whether a value is in the set of the key.
func (m *memo) set(v E, live bool) {
	if m.values == nil {
		m.values = map[E]bool{}
	}
	was, known := m.values[v]
	if !known && !m.cleared {
		m.unasked = append(m.unasked, v)
	}
	switch {
	case live && !was:
		m.live++
	case was && !live:
		m.live--
	}
	m.values[v] = live
}

// size returns the number of values of the key, for which the tree holds d. It asks the
// tree for each value only once.
func (m *memo) size(d *stored) (uint64, error) {
	if m.cleared {
		return m.live, nil
	}
	for n := len(m.unasked); n > 0; n-- {
		has, err := d.has(m.unasked[n-1])
		if err != nil {
			return 0, err
		}
		if has {
			m.shared++
		}
		m.unasked = m.unasked[:n-1]
	}
	return d.count() - m.shared + m.live, nil
}
