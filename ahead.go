package cidstore

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"

	"github.com/cidstore/cidstore/wal"
)

// A slice of a checkpoint writes at once all that waits for one group. Where keys have
// many values that is a part of each of their sets, and for a moment the disk holds both
// the old part and the new one. If a full disk has no room for that, the checkpoint goes
// ahead of itself: it puts values into sets that the tree has, in commits that are as
// small as need be. What each of them replaces is free for the next.
//
// Such a commit does not move the bounds of the checkpoint. Its operations stay in the
// log, and the slice, or a replay, applies them again. That does no harm: the last
// operation on a value decides whether the set has it, and an operation on one value
// changes no other. A key with a Delete among its operations, and one that would lose its
// last value, is left to the slice, because its entry changes. A set that is to be compacted
// loses its tombstones in parts too, after its values: that changes no pair.
type ahead struct {
	ops     queue   // from the next key on
	durable wal.Seq // later operations are left to the slice: the log could lose them
	edits   []*op   // what is left to do for the present key: the last operation on each value
	all     int     // edits of that key, in all
	compact *op     // says that the set of the present key is to be compacted after them
}

const (
	// mostAhead and leastAhead bound what one of these commits places, in bytes, apart
	// from what every commit does.
	mostAhead  = 512 << 10
	leastAhead = 8 << 10
	// nodeBytes is about what a node of a tree of values takes, with its share of what
	// points to it, and leafKeeps about how many values a leaf has.
	nodeBytes = 4608
	leafKeeps = 160
	// erasedRow is the largest set of which a full disk keeps no tombstones: it is written
	// as a whole in any case.
	erasedRow = 1024
)

// goAhead puts values into the sets of the first group that is left, as far as there is
// room. checkpointing is held.
func (c *checkpoint) goAhead(ctx context.Context) error {
	group := c.store.state.Load().view.directory.Run(c.ops.first())
	a := ahead{ops: c.ops.upTo(group.Last()), durable: c.store.watermark()}
	commits, err := c.store.inParts(ctx, func(m *merge, limit int64) (keep func(), done bool, err error) {
		next := a
		done, err = next.fill(m, limit)
		return func() { a = next; c.done.add(m.done) }, done, err
	})
	if commits > 0 {
		c.store.note(slog.LevelDebug, "values ahead", "commits", commits)
	}
	return err
}

// inParts makes commits, as small as a full disk needs them, until put is done or there is
// no room for a smaller one. Each call of put makes changes until about limit bytes are
// placed. It returns keep, which inParts calls when the changes are committed, or at once
// if nothing was placed. Damage ends it without an error: whoever needs what is damaged
// reports it. checkpointing is held.
func (s *Store) inParts(ctx context.Context, put func(m *merge, limit int64) (keep func(), done bool, err error)) (commits int, err error) {
	limit := min(max(s.file.Longest(), leastAhead), mostAhead)
	for done := false; !done && ctx.Err() == nil; {
		wrote := false
		wrote, done, err = s.putPart(put, limit)
		switch {
		case err == nil && wrote:
			commits++
			if err := s.settle(); err != nil {
				return commits, err
			}
		case err == nil:
		case errors.Is(err, ErrNoSpace) && limit > leastAhead:
			limit, done = max(limit/4, leastAhead), false
		case errors.Is(err, ErrNoSpace), errors.Is(err, ErrCorrupt), errors.Is(err, ErrIO):
			return commits, nil
		default:
			return commits, s.writeFailed(err)
		}
	}
	return commits, nil
}

// putPart makes one commit of inParts, if put places anything.
func (s *Store) putPart(put func(*merge, int64) (func(), bool, error), limit int64) (wrote, done bool, err error) {
	m, err := s.begin(nil)
	if err != nil {
		return false, false, err
	}
	defer m.tx.Abort()
	m.tx.KeepFree(s.leastFree())
	var keep func()
	err = guard(func() (err error) { keep, done, err = put(m, limit); return err })
	if err != nil {
		return false, false, err
	}
	if wrote = m.tx.Placed() > 0; wrote {
		if err := s.commit(m, s.state.Load().frozen); err != nil {
			return false, false, err
		}
	}
	keep()
	return wrote, done, nil
}

// fill puts values into sets, and compacts sets, until about limit bytes are placed. A set is
// written once in a commit, so a part of one ends it.
func (a *ahead) fill(m *merge, limit int64) (done bool, err error) {
	for m.tx.Placed() < limit {
		for len(a.edits) == 0 && a.compact == nil {
			if a.ops.len() == 0 {
				return true, nil
			}
			ops := a.ops.takeKey()
			a.compact = asksToCompact(ops)
			a.edits = lastOfValues(ops, a.durable)
			a.all = len(a.edits)
		}
		if len(a.edits) == 0 {
			if more, err := a.erase(m, limit); err != nil || more {
				return false, err
			}
			a.compact = nil
			continue
		}
		if err := a.put(m, limit); err != nil || len(a.edits) > 0 || a.compact != nil {
			return false, err
		}
	}
	return false, nil
}

// asksToCompact returns an operation that asks to compact the set of its key, or nil if
// there is none, or if the key is deleted.
func asksToCompact(ops []*op) (compact *op) {
	for _, o := range ops {
		switch o.code {
		case wal.Delete:
			return nil
		case wal.CompactSet:
			compact = o
		}
	}
	return compact
}

// erase drops tombstones of the set of the present key. more says that it has others.
func (a *ahead) erase(m *merge, limit int64) (more bool, err error) {
	key := a.compact
	entry, found, err := m.base.buckets.Find(m.base.directory.Bucket(key.hash), key.hash, key.key)
	if err != nil || !found {
		return false, err
	}
	if id, spilled := entry.Spilled(); spilled {
		return m.erase(id, limit)
	}
	return false, nil
}

// lastOfValues returns the last operation on each value up to a sequence, inserts first and
// then deletes, each ascending; or none if the key is deleted.
func lastOfValues(ops []*op, through wal.Seq) []*op {
	kept := ops[:0]
	for _, o := range ops {
		switch o.code {
		case wal.Delete:
			if o.sequence <= through {
				return nil
			}
		case wal.Insert, wal.DeleteValue:
			if o.sequence <= through {
				kept = append(kept, o)
			}
		}
	}
	slices.SortFunc(kept, func(a, b *op) int { return cmp.Or(a.value.Compare(b.value), -cmp.Compare(a.sequence, b.sequence)) })
	kept = slices.CompactFunc(kept, func(a, b *op) bool { return a.value == b.value })
	slices.SortStableFunc(kept, func(a, b *op) int { return cmp.Compare(a.code, b.code) })
	return kept
}

// put writes the next edits of the present key, or drops them all if its entry would
// change.
func (a *ahead) put(m *merge, limit int64) error {
	first := a.edits[0]
	entry, found, err := m.base.buckets.Find(m.base.directory.Bucket(first.hash), first.hash, first.key)
	if err != nil {
		return err
	}
	id, spilled := entry.Spilled()
	if !found || !spilled {
		a.edits = nil
		return nil
	}
	stored, err := m.base.sets.Open(id, first.key)
	if err != nil {
		return err
	}
	set, err := m.sets.Spilled(first.key, id)
	if err != nil {
		return err
	}
	has := stored.Count() + stored.Tombstones()
	n := a.part(has, limit)
	m.ops = a.edits[:n]
	set.OnRemove(m.onRemove)
	for _, o := range m.ops {
		if err := o.applyTo(set); err != nil {
			return err
		}
	}
	a.edits = a.edits[n:]
	if !set.IsSpilled() {
		a.edits = nil
		return nil
	}
	if has+uint64(n) <= erasedRow {
		if err := set.Compact(); err != nil {
			return err
		}
	}
	after, err := m.sets.Save(set)
	m.record.numValues += after.Live - stored.Count()
	return err
}

// part returns how many edits of a set with that many values come next. They are on
// neighbouring values, so that about limit bytes hold the leaves that they change.
func (a *ahead) part(has uint64, limit int64) int {
	if has+uint64(len(a.edits)) <= erasedRow {
		return len(a.edits)
	}
	leaves := int(has)/leafKeeps + 1
	n := max(1, int(limit)/nodeBytes) * max(1, a.all/leaves)
	return min(n, len(a.edits))
}
