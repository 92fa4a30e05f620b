package cidstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/cidstore/cidstore/directory"
	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/internal/seedbug"
)

// Groups that have become small are merged. When a group is folded, its neighbours that
// share all bits of its prefix except the last few are folded with it, if all of them
// together hold less than half of what a group holds when it splits. So a group that was
// just merged takes as many keys again before it splits, and one that was just split loses
// half of its keys before it is merged.

// family is the groups that become one group; mostly there is only one.
type family struct {
	groups []relative
	depth  uint8  // bits that their prefixes share
	last   uint64 // highest hash
}

// relative is a group of a family.
type relative struct {
	group
	changes int // end of its part of merge.changes
	items   int // end of its part of merge.united
}

// family returns the group of a hash, and the groups that it is to be merged with.
func (m *merge) family(hash uint64, waiting *queue) (f family, err error) {
	r := m.base.directory.Run(hash)
	f = family{groups: m.relatives[:0], depth: r.Depth, last: r.Last()}
	total, err := m.join(&f, r, waiting)
	if err != nil || m.keep || !m.folds.holds(r.Prefix) {
		return f, err
	}
	for f.depth > 0 && r.Prefix>>(64-f.depth)&1 == 0 && total < m.geometry.Few() {
		n, last := len(f.groups), f.last|1<<(64-f.depth)
		for next := f.last; next != last && total < m.geometry.Few(); {
			sibling := m.base.directory.Run(next + 1)
			more, err := m.join(&f, sibling, waiting)
			if err != nil {
				return f, err
			}
			next = sibling.Last()
			total += more
		}
		if total >= m.geometry.Few() {
			f.groups = f.groups[:n]
			break
		}
		f.depth, f.last = f.depth-1, last
	}
	m.relatives = f.groups[:0]
	return f, nil
}

// join adds the group of a run of the directory to a family. It returns how many entries
// the group has at most, together with those that wait for it.
func (m *merge) join(f *family, r directory.Run, waiting *queue) (entries int, err error) {
	g, err := m.base.groupOf(r)
	if err != nil {
		return 0, err
	}
	st := &g.state
	if st.Prefix != r.Prefix || st.LocalDepth != r.Depth {
		return 0, corrupt.Errorf(fmt.Sprintf("group %d", g.id), m.base.buckets.Offset(g.id),
			"prefix %#x of %d bits, the directory says %#x of %d", st.Prefix, st.LocalDepth, r.Prefix, r.Depth)
	}
	f.groups = append(f.groups, relative{group: g})
	if entries = int(st.Entries); entries >= m.geometry.Few() {
		return entries, nil
	}
	n, err := m.base.buckets.Waits(st)
	return entries + n + waiting.within(st.Prefix, st.Last()), err
}

// foldFamily writes every group of a family with all that waits for it. It writes them as
// one group, or each by itself if the keys are so uneven that the one group would have to
// be split again. m.changes are the changes of all of them.
func (m *merge) foldFamily(f family) error {
	if err := m.gather(&f); err != nil {
		return err
	}
	if _, fits := m.geometry.Fits(m.united, f.depth); fits {
		return m.unite(f)
	}
	from := 0
	for i := range f.groups {
		g := &f.groups[i]
		if err := m.replace(g.id, g.state, m.united[from:g.items]); err != nil {
			return err
		}
		from = g.items
	}
	return nil
}

// gather reads the items of a family into m.united.
func (m *merge) gather(f *family) error {
	m.united = m.united[:0]
	from := 0
	for i := range f.groups {
		g := &f.groups[i]
		items, err := m.buckets.Fold(g.id, m.changes[from:g.changes])
		if err != nil {
			return err
		}
		if i == 0 || !seedbug.On("merge-forgets-sibling") {
			m.united = append(m.united, items...)
		}
		from, g.items = g.changes, len(m.united)
	}
	return nil
}

// unite writes m.united, the items of a family, as one group.
func (m *merge) unite(f family) error {
	before := m.record.numBuckets
	for i := range f.groups {
		g := &f.groups[i]
		err := m.buckets.Consume(&g.state)
		if err == nil && i > 0 {
			err = m.buckets.Drop(g.id)
			m.record.unusedGroups++
		}
		if err != nil {
			return err
		}
		m.record.numBuckets -= uint64(g.state.Buckets())
	}
	id, st := f.groups[0].id, f.groups[0].state
	st.LocalDepth = f.depth
	m.directory.Merge(st.Prefix, st.LocalDepth, directory.Pointer{Bucket: id, Ref: st.Created})
	m.halves = true
	err := m.place(id, st, m.united)
	m.countBuckets(before)
	return err
}

// newGroup returns an unused group id, or a new one. A commit does not use the ids again
// of groups that it has merged itself.
func (m *merge) newGroup() (uint32, error) {
	if m.unused == nil && m.base.record.unusedGroups > 0 {
		used := make([]bool, m.base.record.numGroups)
		for run := range m.base.directory.All() {
			used[run.Pointer.Bucket] = true
		}
		for id := range used {
			if !used[id] {
				m.unused = append(m.unused, uint32(id))
			}
		}
		if n := len(m.unused); n != int(m.base.record.unusedGroups) {
			return 0, corrupt.Errorf("store record", recUnusedGroups, "%d unused groups, found %d", m.base.record.unusedGroups, n)
		}
	}
	if len(m.unused) > 0 {
		id := m.unused[0]
		m.unused = m.unused[1:]
		m.record.unusedGroups--
		return id, nil
	}
	m.record.numGroups++
	return uint32(m.record.numGroups - 1), nil
}

// uniteGroups merges the small groups, together with all that waits for them.
// checkpointing is held.
func (s *Store) uniteGroups(ctx context.Context) error {
	return s.overGroups(ctx, (*merge).uniteNext)
}

// uniteNext merges the groups from m.next on that are to be one.
func (m *merge) uniteNext() (changed bool, err error) {
	f, err := m.family(m.next, new(queue))
	if err != nil {
		return false, err
	}
	m.changes, m.next = m.changes[:0], f.last+1
	if len(f.groups) == 1 {
		return false, nil
	}
	if err := m.gather(&f); err != nil {
		return false, err
	}
	if _, fits := m.geometry.Fits(m.united, f.depth); !fits {
		return false, nil
	}
	return true, m.unite(f)
}

// overGroups calls visit for the groups in order of their hashes. Each commit has about as
// many bytes as a slice of a checkpoint, and gives way to writers. visit looks at the group
// at m.next, or at several from there on, moves m.next past them, and reports whether it has
// changed any. The log gets a summary, as of a checkpoint. checkpointing is held.
func (s *Store) overGroups(ctx context.Context, visit func(m *merge) (changed bool, err error)) error {
	from, limit, done := uint64(0), s.sliceLimit(), structure{}
	for {
		if err := s.giveWay(ctx); err != nil {
			return err
		}
		next, err := s.visitFrom(from, limit, visit, &done)
		switch {
		case errors.Is(err, ErrNoSpace) && limit > leastSlice:
			limit = max(limit/4, leastSlice)
		case errors.Is(err, ErrNoSpace) && !s.settled:
			if err := s.settle(); err != nil {
				return err
			}
		case err != nil:
			return s.writeFailed(err)
		case next == 0:
			return s.summarize(done)
		default:
			from = next
		}
	}
}

// inTurns is overGroups for the background: others may have checkpointing between two of
// its commits. It ends where the disk has no room.
func (s *Store) inTurns(ctx context.Context, visit func(m *merge) (changed bool, err error)) error {
	from, done := uint64(0), structure{}
	for {
		err := s.exclusively(func() (err error) {
			if s.state.Load().frozen != nil { // a checkpoint has failed
				from = 0
				return nil
			}
			if err := s.giveWay(ctx); err != nil {
				return err
			}
			from, err = s.visitFrom(from, s.sliceLimit(), visit, &done)
			if from == 0 && err == nil {
				return s.summarize(done)
			}
			return err
		})
		switch {
		case errors.Is(err, ErrNoSpace) && s.Failed() == nil:
			return nil
		case err != nil:
			return s.writeFailed(err)
		case from == 0:
			return nil
		}
	}
}

// visitFrom makes one commit of overGroups, which begins at the hash from, and adds what it
// did to done. It returns the hash at which the next one begins, or 0 if there is none.
func (s *Store) visitFrom(from uint64, limit int64, visit func(m *merge) (bool, error), done *structure) (next uint64, err error) {
	if !s.file.InGaps() {
		if err := s.file.Reserve(limit); err != nil && !errors.Is(err, ErrNoSpace) {
			return 0, err
		}
	}
	m, err := s.begin(nil)
	if err != nil {
		return 0, err
	}
	defer m.tx.Abort()
	m.folds.all, m.next = true, from
	any := false
	err = guard(func() error {
		for !m.end && m.buckets.Placed() < limit {
			changed, err := visit(m)
			if err != nil {
				return err
			}
			any = any || changed
			m.end = m.next == 0
		}
		return nil
	})
	if err != nil || !any {
		return m.next, err
	}
	err = s.commit(m, s.state.Load().frozen)
	if err == nil {
		done.add(m.done)
	}
	return m.next, err
}

const (
	// renumberSets accepts one unused id for renumberShare used ones, and leastUnused more:
	// fewer are not worth a commit.
	renumberShare = 8
	leastUnused   = 256
)

// renumberSets gives lower ids to the sets with the highest ones, if too many ids are
// unused. That frees the space of their states. Nothing waits in runs. checkpointing is
// held.
func (s *Store) renumberSets(ctx context.Context) error {
	c := s.state.Load().view.record.sets
	used := c.Sets - c.Unused
	if c.Unused <= used/renumberShare+leastUnused {
		return nil
	}
	first := true
	return s.overGroups(ctx, func(m *merge) (changed bool, err error) {
		if first { // there are as many unused ids below used as there are sets above it
			m.sets.Search, first = 0, false
		}
		g, err := m.base.group(m.next)
		m.next = g.Last() + 1
		if err != nil {
			return false, err
		}
		items, err := m.buckets.Fold(g.id, nil)
		if err != nil {
			return false, err
		}
		for i := range items {
			it := &items[i]
			if !it.Spilled || it.Set < used {
				continue
			}
			id, err := m.sets.Renumber(it.Key, it.Set)
			switch {
			case err == nil:
				it.Set, changed = id, true
			case !errors.Is(err, ErrCorrupt): // one that is damaged stays
				return false, err
			}
		}
		if !changed {
			return false, nil
		}
		return true, m.replace(g.id, g.state, items)
	})
}
