package cidstore

import (
	"context"
	"errors"
	"slices"

	"github.com/cidstore/cidstore/gc"
	"github.com/cidstore/cidstore/internal/seedbug"
	"github.com/cidstore/cidstore/valueset"
	"github.com/cidstore/cidstore/wal"
)

// Garbage is what deletions leave: tombstones in spilled sets, and the rows of the
// deletion log that say where these are. A collection reads the rows and compacts the
// sets that they name, with operations that go through the log like all others. When these
// operations are durable, the next commit drops the rows. If it is interrupted, the rows
// are there for the next collection, and compacting a set twice does no harm. A collection
// also looks at a part of all sets, in turn. It looks for tombstones whose rows were
// dropped because the deletion log was long, and for sets that no key names.

// GCStats says what a collection did.
type GCStats struct {
	Deletions  uint64 // rows of the deletion log that were handled; the next commit drops them
	Compacted  uint64 // sets whose tombstones were dropped
	Tombstones uint64 // tombstones that were dropped
	Orphans    uint64 // sets that no key named and that were freed
}

// RunGCOnce collects garbage now. After a checkpoint it drops the tombstones of all sets
// that the deletion log names, and the rows that it has handled. It also frees sets that no
// key names; each call looks for them in a part of the store. What is damaged stays as it
// is, and the error at the end reports it. While others write, each of its commits waits for
// up to 0.2 s, so that it delays few writes. RunGCOnce stops between two steps when ctx is
// done or the store is closed, and keeps what is done by then.
func (s *Store) RunGCOnce(ctx context.Context) (GCStats, error) {
	ctx, cancel := s.during(ctx)
	defer cancel()
	if err := s.checkpointPending(ctx); err != nil {
		return GCStats{}, s.ended(err)
	}
	stats, err := s.collect(ctx, collection{sets: scannedSets, checkpoint: true})
	return stats, s.ended(err)
}

// checkpointPending checkpoints for upkeep, if any operation is pending. Summaries alone,
// which the last checkpoint has logged, are not worth a commit.
func (s *Store) checkpointPending(ctx context.Context) error {
	return s.exclusively(func() error {
		if s.pendingOps() == 0 {
			return ctx.Err()
		}
		return s.checkpointPaced(ctx, s.giveWay)
	})
}

// scannedSets is how many set ids one collection looks at.
const scannedSets = 1 << 16

// collectInBackground makes one collection for the background. It checkpoints only if
// a checkpoint is due.
func (s *Store) collectInBackground(ctx context.Context) error {
	if s.Failed() != nil {
		return nil // it has been reported
	}
	damage := s.checkpointInDanger(ctx)
	if damage != nil && !errors.Is(damage, ErrCorrupt) {
		return s.ended(damage)
	}
	_, err := s.collect(ctx, collection{sets: scannedSets})
	return s.ended(errors.Join(damage, err))
}

// collection is one collection of garbage.
type collection struct {
	sets       uint64  // how many set ids to look at
	next       *uint64 // the first of them, and then the one after the last; nil: Store.scanned
	demote     bool    // whether to demote sets that would fit the entries of their keys
	checkpoint bool    // whether to end with a checkpoint, or to leave that to others

	store   *Store
	view    *Snapshot
	from    uint64 // rows of the deletion log before it were handled by an earlier collection
	rows    uint64 // rows of the deletion log
	before  uint64 // Store.clearedRows as of the view
	ops     []wal.Op
	each    []uint64         // for each of ops, the tombstones of its set
	asked   map[E]wal.Opcode // the operation of each key that has one
	orphans []uint64
	stats   GCStats
	damage  damages // found and left as it is
}

// collect makes one collection. Only one at a time is under way.
func (s *Store) collect(ctx context.Context, c collection) (GCStats, error) {
	s.collecting.Lock()
	defer s.collecting.Unlock()
	c.store, c.asked = s, map[E]wal.Opcode{}
	began := s.opts.Clock()
	err := s.exclusively(func() (err error) {
		c.before, c.from = s.clearedRows, s.handledRows
		c.view, err = s.Snapshot()
		return err
	})
	if err != nil {
		return GCStats{}, err
	}
	c.rows = c.view.view.record.numDeletions
	defer s.metrics.garbage(&c.stats)
	for _, step := range []func(context.Context) error{c.deletions, c.scan, c.submit, c.finish} {
		if err := step(ctx); err != nil {
			_ = c.view.Close() // if it is closed already, that does no harm
			return c.stats, ofStore(err)
		}
	}
	took := s.opts.Clock().Sub(began)
	s.metrics.gcTimes.observe(took)
	if did := c.stats.Deletions + c.stats.Tombstones + c.stats.Orphans; did > 0 {
		s.maintained(didCollect, did, took)
	}
	s.LogEvent("gc", "deletions", c.stats.Deletions, "compacted", c.stats.Compacted,
		"tombstones", c.stats.Tombstones, "orphans", c.stats.Orphans)
	if err := c.commit(ctx); err != nil {
		return c.stats, ofStore(err)
	}
	return c.stats, c.damage.err()
}

// rowsPerStep is how many rows, or sets, are read at once.
const rowsPerStep = 1024

// deletions handles the rows of the deletion log.
func (c *collection) deletions(ctx context.Context) error {
	var names []E
	for from := c.from; from < c.rows; from += rowsPerStep {
		if err := ctx.Err(); err != nil {
			return err
		}
		names = names[:0]
		err := c.view.guard(func() error {
			return gc.Open(c.view.view.View, c.rows).ScanFrom(from, func(i uint64, r gc.Record) bool {
				if n := len(names); !r.Whole && (n == 0 || names[n-1] != r.Key) { // the deletion of a key leaves no tombstones
					names = append(names, r.Key)
				}
				return i+1 < from+rowsPerStep
			})
		})
		if err != nil && !errors.Is(err, ErrCorrupt) {
			return err
		}
		if err != nil { // scan finds the sets that the other rows would name
			c.damage.add(err)
			return nil
		}
		for _, key := range names {
			if c.asked[key] != 0 {
				continue
			}
			n, err := within(c.view, key, reader.compactable)
			switch {
			case err != nil && ends(err):
				return err
			case err != nil:
				c.damage.add(err)
			case n > 0:
				c.ask(wal.CompactSet, key, uint64(n))
			}
		}
	}
	return nil
}

// ask adds an operation on the set of a key, which has that many tombstones.
func (c *collection) ask(code wal.Opcode, key E, tombstones uint64) {
	before := c.asked[key]
	if before >= code { // a demotion does what a compaction does, and more
		return
	}
	if before != 0 {
		tombstones = 0 // they are counted already
	}
	c.asked[key] = code
	c.ops, c.each = append(c.ops, wal.Op{Code: code, Key: key}), append(c.each, tombstones)
}

// submit writes the operations that were asked for. First it closes the view, which
// holds space that a checkpoint may need for them.
func (c *collection) submit(ctx context.Context) error {
	if err := c.view.Close(); err != nil {
		return err
	}
	for ops := range slices.Chunk(c.ops, c.store.opsAtOnce()) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := c.store.write(ops); err != nil {
			return err
		}
		for _, n := range c.each[:len(ops)] {
			if n > 0 {
				c.stats.Compacted++
				c.stats.Tombstones += n
			}
		}
		c.each = c.each[len(ops):]
	}
	return nil
}

// opsAtOnce returns a number of operations that always fit one frame of the log.
func (s *Store) opsAtOnce() int {
	third, block := s.ringRecords(s.opts.WALBytes)/3, s.opts.blockBytes
	n := min(third, 1000)
	for n > 1 && wal.RecordsFor(int(n), block) > third {
		n--
	}
	return int(n)
}

// scan looks at the sets whose turn it is. Each life begins somewhere else, so that
// short ones reach all sets too.
func (c *collection) scan(ctx context.Context) error {
	s, all := c.store, c.view.view.record.sets.Sets
	next := c.next
	if next == nil {
		next = &s.scanned
	}
	for left := min(c.sets, all); left > 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		if *next >= all {
			*next %= all
		}
		n := min(left, rowsPerStep, all-*next)
		if err := c.look(*next, *next+n); err != nil {
			return err
		}
		*next += n
		left -= n
	}
	return nil
}

// look looks at the sets with ids below end, beginning with first.
func (c *collection) look(first, end uint64) error {
	return c.view.guard(func() error {
		for id := first; id < end; id++ {
			if err := guard(func() error { return c.lookAt(id) }); err != nil {
				c.damage.add(err)
			}
		}
		return nil
	})
}

// lookAt asks for what a set needs, or notes that no key names it.
func (c *collection) lookAt(id uint64) error {
	set, used, err := c.view.view.sets.At(id)
	if err != nil || !used {
		return err
	}
	named, err := c.view.view.names(id, set.Owner())
	if err != nil {
		return err
	}
	demote := c.demote && set.Count() <= promotionThreshold
	switch {
	case !named:
		c.orphans = append(c.orphans, id)
		return nil
	case !demote && set.Tombstones() == 0:
		return nil
	}
	if demote { // which drops the tombstones too
		if err := set.Compactable(); err != nil {
			return err
		}
		c.ask(wal.DemoteSet, set.Owner(), set.Tombstones())
		return nil
	}
	n, err := c.view.compactable(set.Owner())
	if n > 0 && err == nil { // else an earlier collection has asked for it
		c.ask(wal.CompactSet, set.Owner(), uint64(n))
	}
	return err
}

// names reports whether the entry of a key gives a set id.
func (v *view) names(set uint64, key E) (bool, error) {
	hash := v.hasher.Hash(key)
	entry, found, err := v.buckets.Find(v.directory.Bucket(hash), hash, key)
	if err != nil || !found {
		return false, err
	}
	id, spilled := entry.Spilled()
	return spilled && id == set && !seedbug.On("named-set-freed"), nil
}

// erase is the collection of a write that found the disk full, when nothing else has made
// room for it. It compacts sets in parts, in commits as small as need be, each in the
// space that those before it have freed. Nothing goes through the log, which may have no
// room. erase looks at all sets, so it does nothing until enough tombstones have come
// since the last time. freed says whether it has dropped any.
func (s *Store) erase(ctx context.Context) (freed bool, err error) {
	s.checkpointing.Lock()
	defer s.checkpointing.Unlock()
	if err := s.Failed(); err != nil {
		return false, err
	}
	r := &s.state.Load().view.record
	before, sets, set := r.numTombstones, r.sets.Sets, uint64(0)
	if before == 0 || (before-min(before, s.leftDead))*setsPerTombstone < sets {
		return false, nil
	}
	began, stats := s.opts.Clock(), GCStats{}
	_, err = s.inParts(ctx, func(m *merge, limit int64) (keep func(), done bool, err error) {
		next := set
		for more := false; next < sets && !more && m.tx.Placed() < limit; {
			if more, err = m.erase(next, limit); err != nil {
				return nil, false, err
			}
			if !more {
				next++
			}
		}
		return func() { set = next; stats.Compacted += m.done.compactions }, next == sets, nil
	})
	left := s.state.Load().view.record.numTombstones
	if set == sets { // it has looked at all of them
		s.leftDead = left
	}
	if stats.Tombstones = before - min(before, left); stats.Tombstones > 0 {
		took := s.opts.Clock().Sub(began)
		s.metrics.garbage(&stats)
		s.metrics.gcTimes.observe(took)
		s.maintained(didCollect, stats.Tombstones, took)
		s.LogEvent("gc", "deletions", 0, "compacted", stats.Compacted, "tombstones", stats.Tombstones, "orphans", 0)
	}
	return stats.Tombstones > 0, err
}

// setsPerTombstone is the most sets that erase looks at for each tombstone that has come
// since the last time.
const setsPerTombstone = 64

// erase drops tombstones of a set, as many as about limit bytes of nodes hold. more says
// that the set has others. A set that cannot be read stays as it is.
func (m *merge) erase(id uint64, limit int64) (more bool, err error) {
	var set *valueset.Set
	if guard(func() error {
		stored, used, err := m.base.sets.At(id)
		if err != nil || !used || stored.Tombstones() == 0 {
			return err
		}
		edited, err := m.sets.Spilled(stored.Owner(), id)
		if err == nil {
			more, err = edited.Erase(max(1, int(limit/nodeBytes)))
		}
		if err == nil {
			set = edited
		}
		return err
	}) != nil || set == nil {
		return false, nil
	}
	_, err = m.sets.Save(set)
	return more, err
}

// finish notes the rows that were handled, and frees the sets that no key names.
func (c *collection) finish(ctx context.Context) error {
	if c.rows <= c.from && len(c.orphans) == 0 {
		return nil
	}
	s := c.store
	if s.opts.Durability == Async { // the operations must be durable before their rows are gone
		if err := s.Sync(); err != nil {
			return err
		}
	}
	return s.exclusively(func() error {
		if err := s.file.Reserve(s.smallestSlice()); err != nil && !errors.Is(err, ErrNoSpace) {
			return s.writeFailed(err)
		}
		// Checkpoints may have dropped some of the rows by now, and added new ones.
		left := c.rows - min(c.rows, s.clearedRows-c.before)
		if left > s.handledRows {
			c.stats.Deletions, s.handledRows = left-s.handledRows, left
		}
		for _, id := range c.orphans { // each has its own commit, so that a damaged one stops no other
			if err := s.giveWay(ctx); err != nil {
				return err
			}
			dropped := false
			err := s.change(func(m *merge) (err error) { dropped, err = dropOrphan(m, id); return err })
			switch {
			case err == nil && dropped:
				c.stats.Orphans++
			case err != nil && !errors.Is(err, ErrCorrupt):
				return s.writeFailed(err)
			case err != nil:
				c.damage.add(err)
			}
		}
		return nil
	})
}

// dropOrphan frees a set, if it is still in use and no key names it. It reports whether
// it did.
func dropOrphan(m *merge, id uint64) (dropped bool, err error) {
	err = guard(func() error {
		set, used, err := m.base.sets.At(id)
		if err != nil || !used {
			return err
		}
		if named, err := m.base.names(id, set.Owner()); err != nil || named {
			return err
		}
		dropped = true
		return m.sets.Drop(id)
	})
	return dropped, err
}

// commit brings what was asked for into the tree, and drops the rows that were handled. A
// checkpoint does both in one commit. It may be left to a later one, if there has to be one.
func (c *collection) commit(ctx context.Context) error {
	s := c.store
	return s.exclusively(func() error {
		pending := s.pendingOps() > 0
		switch {
		case pending && !c.checkpoint:
			return nil
		case pending && len(c.ops) > 0:
			return s.checkpointPaced(ctx, s.giveWay)
		case s.handledRows == 0:
			return nil
		}
		if err := s.giveWay(ctx); err != nil {
			return err
		}
		return s.recommit()
	})
}
