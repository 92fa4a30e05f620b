package cidstore

import (
	"errors"
	"math/bits"
	"slices"

	"github.com/cidstore/cidstore/bucket"
	"github.com/cidstore/cidstore/directory"
	"github.com/cidstore/cidstore/gc"
	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/valueset"
	"github.com/cidstore/cidstore/vfs"
	"github.com/cidstore/cidstore/wal"
)

// merge is what one transaction does to the tree. For a slice of a checkpoint it merges
// operations, in order of hashes, into the groups, runs, sets and directory.
type merge struct {
	*scratch
	file      *hdf5io.File
	tx        *hdf5io.Tx
	base      *view
	buckets   *bucket.Writer
	sets      *valueset.Writer
	directory *directory.Editor
	commit    hdf5io.Commit // that of the new root
	now       int64
	geometry  bucket.Geometry
	folds     stretch // the groups that are folded even if nothing changes in them
	keep      bool    // fold no group
	sure      bool    // see checkpoint.sure: place nothing that can be done without
	halves    bool    // groups were merged, so the directory may be too deep

	record    record // becomes that of the new root
	deletions []gc.Record
	unused    []uint32                           // ids of the base's groups that no pointer names; nil if not known yet
	ops       []*op                              // of the key under way
	onRemove  func(v E, whole bool, ordinal int) // removed, as a function made once
	next      uint64                             // hash after the last group merged
	end       bool                               // that group has the last hash
	done      structure
	handled   uint64 // rows of the deletion log that a collection has handled and are dropped
	cleared   uint64 // rows of the deletion log that were dropped
	unlogged  uint64 // deletions that got no row, because the log has no room for so many
	placed    int64
}

// scratch is the memory that a merge uses again for each group. Slices of a checkpoint share
// one.
type scratch struct {
	groupOps  []*op         // of the group under way
	keyEnds   []int         // where the operations of each key of the group end
	hashes    []uint64      // of these keys
	finder    bucket.Finder // at the group under way
	relatives []relative    // of the family under way
	united    []bucket.Item // of the family under way
	changes   []bucket.Item // of the group under way
	buckets   bucket.Memory
}

// begin starts the transaction of the next root, which may change anything of the present
// root, in the memory k, or its own if k is nil. The caller defers tx.Abort. checkpointing is held.
func (s *Store) begin(k *scratch) (*merge, error) {
	if k == nil {
		k = new(scratch)
	}
	tx, err := s.file.Begin()
	if err != nil {
		return nil, err
	}
	base := s.state.Load().view
	m := &merge{
		scratch: k, file: s.file, tx: tx, base: base, commit: tx.NextCommit(), now: s.now(), record: base.record,
		geometry: base.buckets.Geometry(), directory: base.directory.Edit(),
		next: base.record.sliceHash, handled: s.handledRows,
	}
	m.onRemove = m.removed
	if m.buckets, err = bucket.NewWriter(tx, base.buckets, m.now, &k.buckets); err == nil {
		m.sets, err = valueset.NewWriter(tx, base.sets, m.record.sets)
	}
	if err != nil {
		tx.Abort()
		return nil, err
	}
	return m, nil
}

// change makes a root that differs from the present one by what f does, and leaves the
// tables as they are. checkpointing is held.
func (s *Store) change(f func(m *merge) error) error {
	m, err := s.begin(nil)
	if err != nil {
		return err
	}
	defer m.tx.Abort()
	if err := f(m); err != nil {
		return err
	}
	return s.commit(m, s.state.Load().frozen)
}

// run merges ops from the front, one group at a time, and folds groups, until about limit
// bytes are placed. It returns the rest of ops, and sets m.end when all is done.
func (m *merge) run(ops queue, limit int64) (rest queue, err error) {
	err = guard(func() error {
		if m.next == 0 && !m.sure {
			m.buckets.Absorb(ops.len())
		}
		m.buckets.Expect(min(ops.len(), int(limit/bucket.EntrySize)))
		for m.buckets.Placed() < limit {
			hash, ok := m.nextHash(&ops)
			if !ok {
				m.end = true
				break
			}
			if err = m.group(hash, &ops); err != nil || m.end {
				break
			}
		}
		if err != nil {
			return err
		}
		return m.buckets.Passed(m.next, m.end)
	})
	return ops, err
}

// nextHash returns the lowest hash from m.next on at which there is something to do.
func (m *merge) nextHash(ops *queue) (hash uint64, ok bool) {
	if hash, ok = m.buckets.Next(m.next); !ok {
		hash = ^uint64(0)
	}
	if ops.len() > 0 {
		hash, ok = min(hash, ops.first()), true
	}
	if next, found := m.folds.next(m.next); found && !m.keep {
		hash, ok = min(hash, next), true
	}
	return hash, ok
}

// group merges all operations on the group of a hash into it, and those on the rest of its
// family.
func (m *merge) group(hash uint64, queue *queue) error {
	f, err := m.family(hash, queue)
	if err != nil {
		return err
	}
	m.changes = m.changes[:0]
	for i := range f.groups {
		g := &f.groups[i]
		m.groupOps = queue.take(m.groupOps[:0], g.state.Covers)
		if err := m.findKeys(g.id); err != nil {
			return err
		}
		m.changes = slices.Grow(m.changes, len(m.keyEnds))
		from := 0
		for i, end := range m.keyEnds {
			if i%64 == 63 {
				vfs.Yield()
			}
			if err := m.key(i, m.groupOps[from:end]); err != nil {
				return err
			}
			from = end
		}
		g.changes = len(m.changes)
	}
	m.next = f.last + 1
	m.end = m.next == 0
	if len(f.groups) > 1 {
		return m.foldFamily(f)
	}
	st := &f.groups[0].state
	if !m.keep && (m.folds.holds(st.Prefix) || m.crowded(st)) {
		if folded, err := m.fold(&f.groups[0].group); folded || err != nil {
			return err
		}
	}
	return m.buckets.Keep(st, m.changes)
}

// findKeys finds the operations of each key of group id. They lie all over the table. This
// loop waits for many of their cache lines at once, so that m.key need not wait for each.
func (m *merge) findKeys(id uint32) error {
	m.keyEnds, m.hashes = m.keyEnds[:0], m.hashes[:0]
	if len(m.groupOps) == 0 {
		return nil
	}
	for i, o := range m.groupOps {
		if i == 0 || o.key != m.groupOps[i-1].key {
			m.hashes = append(m.hashes, o.hash)
			if i > 0 {
				m.keyEnds = append(m.keyEnds, i)
			}
		}
	}
	m.keyEnds = append(m.keyEnds, len(m.groupOps))
	return m.finder.Seek(m.base.buckets, id, m.hashes)
}

// crowd is how many times as many entries as a group has must wait for it so that it is
// folded before its turn. In its turn 1.1 times as many wait, see waitingShare. If crowd were
// below that, the turn would never come, and what was folded at one time would be folded at
// one time again: all groups of a store, whenever its keys have doubled.
const crowd = 2

// crowded reports whether so many entries wait for a group that it is folded even if it is
// not its turn.
func (m *merge) crowded(st *bucket.State) bool {
	if len(m.changes) == 0 {
		return false
	}
	waiting := m.base.buckets.WaitingFor(st, st.Last())
	return waiting+len(m.changes) >= crowd*int(st.Entries)
}

// fold writes a group with all that waits for it. It reports false, and the entries go on
// waiting, if no group can hold them because too many hashes are alike.
func (m *merge) fold(g *group) (folded bool, err error) {
	vfs.Yield()
	items, err := m.buckets.Fold(g.id, m.changes)
	vfs.Yield()
	if err != nil || !m.divisible(items, g.state.LocalDepth) {
		return false, err
	}
	return true, m.replace(g.id, g.state, items)
}

// replace writes a group with these items, which include all that waits for it.
func (m *merge) replace(id uint32, st bucket.State, items []bucket.Item) error {
	if err := m.buckets.Consume(&st); err != nil {
		return err
	}
	before := m.record.numBuckets
	m.record.numBuckets -= uint64(st.Buckets())
	if err := m.place(id, st, items); err != nil {
		return err
	}
	m.countBuckets(before)
	return nil
}

// countBuckets counts the splits or merges of buckets since their number was before.
func (m *merge) countBuckets(before uint64) {
	if after := m.record.numBuckets; after > before {
		m.done.splits += after - before
	} else {
		m.done.merges += before - after
	}
}

// mostDepth bounds the depth to which a group is split because of its items: a directory
// of 2^22 pointers takes 50 MB.
const mostDepth = 22

// divisible reports whether groups can hold the items, if there are enough groups.
func (m *merge) divisible(items []bucket.Item, depth uint8) bool {
	for i := m.geometry.Capacity; i < len(items); i++ {
		if first := items[i-m.geometry.Capacity].Hash; (first^items[i].Hash)>>(64-max(mostDepth, depth)) == 0 {
			return false
		}
	}
	return true
}

// key applies the operations on key i of the group in their order, as if each had a
// checkpoint of its own, and notes how the entry of the key changes.
func (m *merge) key(i int, ops []*op) error {
	first := ops[0]
	entry, found, err := m.finder.Find(i, first.key)
	if err != nil {
		return err
	}
	before := bucket.Item{Hash: first.hash, Key: first.key, Deleted: true}
	if found {
		before = entry.Item(first.hash)
	}
	set, was, err := loadSet(m.sets, &before)
	if err != nil {
		return err
	}
	m.ops = ops
	set.OnRemove(m.onRemove)
	set.Expect(len(ops))
	for _, o := range ops {
		if err := o.applyTo(set); err != nil {
			return err
		}
	}
	if m.file.Tight() && set.IsSpilled() && set.Count()+set.TombstoneCount() <= erasedRow {
		if err := set.Compact(); err != nil {
			return err
		}
	}
	after, err := m.sets.Save(set)
	if err != nil {
		return err
	}
	m.record.numValues += after.Live - was
	if found {
		m.record.numKeys--
	}
	item := bucket.Item{Hash: first.hash, Key: first.key, Deleted: after.Live == 0}
	if after.Live > 0 {
		m.record.numKeys++
		item.Values, item.Count, item.Spilled, item.Set = after.Values, after.Count, after.Spilled, after.Set
	}
	if item != before {
		m.changes = append(m.changes, item)
	}
	return nil
}

// applyTo applies an operation to a set.
func (o *op) applyTo(set *valueset.Set) (err error) {
	switch o.code {
	case wal.Insert:
		err = set.Add(o.value)
	case wal.DeleteValue:
		err = set.Remove(o.value)
	case wal.Delete:
		err = set.Clear()
	case wal.CompactSet:
		err = set.Compact()
	case wal.DemoteSet:
		_, err = set.Demote()
	}
	return err
}

// removed notes one deletion for the deletion log, with the time of its operation. So the
// log says the same whenever the checkpoint runs.
func (m *merge) removed(v E, whole bool, ordinal int) {
	if whole {
		v = E{}
	}
	o := m.ops[ordinal]
	m.deletions = append(m.deletions, gc.Record{Key: o.key, Value: v, Timestamp: float64(o.nanos) / 1e9, Whole: whole})
}

// loadSet loads the set of values that the tree holds for a key, and returns their number.
func loadSet(sets *valueset.Writer, item *bucket.Item) (set *valueset.Set, live uint64, err error) {
	switch {
	case item.Deleted:
		return sets.Empty(item.Key), 0, nil
	case !item.Spilled:
		return sets.Inline(item.Key, item.Values[:item.Count]), uint64(item.Count), nil
	}
	set, err = sets.Spilled(item.Key, item.Set)
	if err != nil {
		return nil, 0, err
	}
	return set, set.Count(), nil
}

// place writes items as group id, or splits the group until every part fits.
func (m *merge) place(id uint32, st bucket.State, items []bucket.Item) error {
	var fits bool
	st.BucketBits, fits = m.geometry.Fits(items, st.LocalDepth)
	deepest := int(st.LocalDepth) >= m.deepest()
	if (fits || deepest && len(items) <= m.geometry.Capacity) && (deepest || !m.cramped(items)) {
		m.record.numBuckets += uint64(st.Buckets())
		return m.buckets.Rewrite(id, st, items)
	}
	left, right := bucket.Split(items, st.LocalDepth)
	other, err := m.newGroup()
	if err != nil {
		return err
	}
	m.directory.Split(st.Prefix, st.LocalDepth, directory.Pointer{Bucket: other, Ref: m.commit})
	upper := bucket.State{Prefix: st.Prefix | 1<<(63-st.LocalDepth), LocalDepth: st.LocalDepth + 1, Created: m.commit}
	st.LocalDepth++
	if err := m.place(id, st, left); err != nil {
		return err
	}
	return m.place(other, upper, right)
}

// cramped reports whether the disk is full and has no room for the row of a group in one
// piece. Then two smaller groups are better, as long as they are not too small.
func (m *merge) cramped(items []bucket.Item) bool {
	return len(items) > m.geometry.Capacity/8 && m.file.Tight() && m.tx.Longest() < int64(m.geometry.RowBytes(items))
}

// deepest bounds the directory's depth. Without it, keys with equal hashes (or keys
// chosen by an attacker who knows the seed) could make the directory grow without end. A
// group that is over its capacity may be deeper: see divisible.
func (m *merge) deepest() int {
	return min(bits.Len64(m.record.groups())-1+6, directory.MaxDepth)
}

// flush writes what the merge has gathered into the transaction, and completes
// the record.
func (m *merge) flush() error {
	if err := m.sets.Flush(); err != nil {
		return err
	}
	m.record.sets = m.sets.Counters
	did := m.sets.Stats()
	m.record.numTombstones += uint64(did.Tombstones)
	m.done.promotions, m.done.demotions, m.done.compactions = did.Promotions, did.Demotions, did.Compactions
	if err := m.buckets.Flush(m.record.numGroups); err != nil {
		return err
	}
	m.record.runsCRC = m.buckets.RunsSum()
	for m.halves && m.directory.Halve() {
		m.done.halvings++
	}
	m.record.globalDepth = uint32(m.directory.Depth())
	if err := m.directory.Store(m.tx); err != nil {
		return err
	}
	if err := m.logDeletions(); err != nil {
		return err
	}
	m.placed = m.tx.Placed()
	return nil
}

// logDeletions adds rows to the deletion log, and drops those that a collection has
// handled. If there are more than the log may hold, or if the disk is full, it drops all
// old ones, and the first of the new ones if these alone are too many; a later collection
// finds the sets that they name.
func (m *merge) logDeletions() (err error) {
	rows, more, most := m.record.numDeletions, uint64(len(m.deletions)), m.record.mostDeletions()
	drop := min(m.handled, rows)
	if rows-drop+more > most || m.file.Tight() || m.sure {
		drop = rows
	}
	if more > most {
		m.unlogged = more - most
		m.deletions = m.deletions[m.unlogged:]
	}
	if err = m.writeDeletions(drop); errors.Is(err, ErrCorrupt) {
		err = m.writeDeletions(rows) // nothing depends on the rows, so damaged ones are dropped
	}
	return err
}

// writeDeletions drops the first rows of the deletion log, and adds those of this commit.
// If it drops all of them, it reads none.
func (m *merge) writeDeletions(drop uint64) (err error) {
	log := gc.Open(m.base.View, m.base.record.numDeletions)
	m.cleared = drop
	if drop > 0 {
		if m.record.numDeletions, err = log.Clear(m.tx, drop); err != nil {
			return err
		}
	}
	if len(m.deletions) > 0 {
		m.record.numDeletions, err = log.Append(m.tx, m.deletions)
	}
	return err
}

// leastDeletions is how many rows the deletion log may always hold: 4 MiB. It may hold 2 %
// of the live bytes if that is more.
const leastDeletions = 4 << 20 / gc.RecordSize

// mostDeletions returns how many rows the deletion log may hold.
func (r *record) mostDeletions() uint64 {
	return max(leastDeletions, (48*r.numKeys+16*r.numValues)/50/gc.RecordSize)
}

// stretch is a part of the circle of hashes: size hashes from start on, or all of them.
type stretch struct {
	start, size uint64
	all         bool
}

// holds reports whether a hash is in the stretch.
func (s stretch) holds(hash uint64) bool { return s.all || hash-s.start < s.size }

// next returns the lowest hash of the stretch that is not below hash, and whether there
// is one.
func (s stretch) next(hash uint64) (uint64, bool) {
	switch {
	case s.holds(hash):
		return hash, true
	case s.size > 0 && s.start >= hash:
		return s.start, true
	}
	return 0, false
}

// below returns the part of the stretch that is below hash, from 0 to 1.
func (s stretch) below(hash uint64) float64 {
	switch {
	case s.all:
		return float64(hash) / (1 << 64)
	case s.size == 0:
		return 1
	case s.start+s.size > s.start || s.start+s.size == 0: // in one piece
		return float64(min(max(hash, s.start)-s.start, s.size)) / float64(s.size)
	}
	head := s.start + s.size // it begins again at 0
	return float64(min(hash, head)+max(hash, s.start)-s.start) / float64(s.size)
}
