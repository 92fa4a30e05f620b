package cidstore

import (
	"sync"

	"github.com/cidstore/cidstore/wal"
)

// longChain is how many pending operations of one key a read walks. Of a key with
// more it makes a memo: a walk for each read would make the use of a key that is
// written again and again quadratic.
const longChain = 64

// memos are the memos of one state, which all its readers share, or of one
// Snapshot. They need no limit of their own: there is at most a value in them
// for each pending operation, and they end with what they are of.
type memos struct {
	mu   sync.Mutex
	keys map[E]*memo
}

func (s *memos) len() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint64(len(s.keys))
}

func (s *memos) of(key E) *memo {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.keys[key]
	if m == nil {
		if s.keys == nil {
			s.keys = map[E]*memo{}
		}
		m = &memo{overlay: overlay{many: map[E]bool{}}}
		s.keys[key] = m
	}
	return m
}

// memo is what the pending operations of one key come to, up to one of them. It
// is brought up to date by those that are newer: each is looked at once.
type memo struct {
	mu sync.Mutex
	overlay
	through uint64 // sequence of the newest operation that is in it
	live    uint64 // values of the overlay that are in the set
	shared  uint64 // values of the overlay that the tree has, but for unasked ones
	unasked []E    // values of the overlay of which that is not known
}

// memo returns the memo of a key with long chains, which begin at fresh and at
// frozen, up to date and locked. nil: they are to be walked, because they are
// short, or because another reader of the same state, who sees a newer operation,
// has used the memo meanwhile.
func (r reader) memo(key E, fresh, frozen *op) *memo {
	depth, newest := 0, fresh
	if fresh != nil {
		depth = int(fresh.depth)
	}
	if frozen != nil {
		depth += int(frozen.depth)
		if newest == nil {
			newest = frozen
		}
	}
	if depth <= longChain {
		return nil
	}
	m := r.memos.of(key)
	m.mu.Lock()
	if m.through > newest.sequence {
		m.mu.Unlock()
		return nil
	}
	m.extend(r.since(m.through, fresh, frozen))
	m.through = newest.sequence
	return m
}

// since lists the operations behind a sequence that count, newest first.
func (r reader) since(sequence uint64, fresh, frozen *op) (list []*op) {
	for _, c := range [...]chain{{r.fresh, fresh}, {r.frozen, frozen}} {
		for p := c.newest; p != nil && p.sequence > sequence; p = c.table.before(p) {
			if list = append(list, p); p.code == wal.Delete {
				return list
			}
		}
	}
	return list
}

// extend makes operations that are newer than all before, given newest first.
func (m *memo) extend(newer []*op) {
	for i := len(newer) - 1; i >= 0; i-- {
		switch o := newer[i]; o.code {
		case wal.Delete:
			clear(m.many)
			m.cleared, m.live, m.unasked = true, 0, nil
		case wal.Insert, wal.DeleteValue:
			m.set(o.value, o.code == wal.Insert)
		}
	}
}

func (m *memo) set(v E, live bool) {
	was, known := m.many[v]
	if !known && !m.cleared {
		m.unasked = append(m.unasked, v)
	}
	switch {
	case live && !was:
		m.live++
	case was && !live:
		m.live--
	}
	m.many[v] = live
}

// size is the number of values of the key of which the tree holds d. What it asks
// the tree it asks once.
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
