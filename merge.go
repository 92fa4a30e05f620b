package cidstore

import (
	"fmt"
	"math/bits"

	"github.com/cidstore/cidstore/bucket"
	"github.com/cidstore/cidstore/directory"
	"github.com/cidstore/cidstore/gc"
	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/valueset"
	"github.com/cidstore/cidstore/wal"
)

// merge is one slice of a checkpoint: a run of operations in order of hashes
// merged into the buckets, sets and directory of one transaction.
type merge struct {
	base      *view
	buckets   *bucket.Writer
	sets      *valueset.Writer
	directory *directory.Editor
	commit    uint64 // number of the commit under way
	now       int64
	threshold int

	record    record // becomes the new root's
	deletions []gc.Record
	ops       []op                               // of the key under way
	onRemove  func(v E, whole bool, ordinal int) // removed, made once
	changes   []bucket.Item                      // of the bucket under way
	spare     []uint32                           // overflow rows of it that may be used again
	next      uint64                             // hash behind the last bucket merged; 0: the end of hash space
	done      structure
	placed    int64
}

func newMerge(s *Store, tx *hdf5io.Tx, base *view) (*merge, error) {
	m := &merge{
		base: base, commit: tx.NextCommit(), now: s.now(), record: base.record,
		threshold: int(base.record.splitThreshold), directory: base.directory.Edit(),
		next: base.record.sliceHash,
	}
	m.onRemove = m.removed
	var err error
	if m.buckets, err = bucket.NewWriter(tx, base.buckets, m.now); err != nil {
		return nil, err
	}
	m.sets, err = valueset.NewWriter(tx, base.sets, m.record.numSets, m.record.freeSet, m.record.nextNode)
	return m, err
}

// run merges ops from the front, whole buckets at a time, until about limit
// bytes are placed, and returns the rest.
func (m *merge) run(tx *hdf5io.Tx, ops []op, limit int64) (rest []op, err error) {
	err = guard(func() error {
		for len(ops) > 0 && tx.Placed() < limit {
			if ops, err = m.bucket(ops); err != nil {
				return err
			}
		}
		return nil
	})
	return ops, err
}

// bucket merges the operations on one bucket, all of them.
func (m *merge) bucket(ops []op) (rest []op, err error) {
	id := m.base.directory.Bucket(ops[0].hash)
	st, err := m.base.buckets.State(id)
	if err != nil {
		return ops, err
	}
	if !st.Covers(ops[0].hash) {
		return ops, corrupt.Errorf(fmt.Sprintf("state of bucket %d", id), -1,
			"prefix %#x of %d bits does not cover hash %#x", st.Prefix, st.LocalDepth, ops[0].hash)
	}
	m.changes = m.changes[:0]
	for len(ops) > 0 && st.Covers(ops[0].hash) {
		n := 1
		for n < len(ops) && ops[n].key == ops[0].key {
			n++
		}
		if err := m.key(id, ops[:n]); err != nil {
			return ops, err
		}
		ops = ops[n:]
	}
	m.next = 0
	if st.LocalDepth > 0 {
		m.next = st.Prefix + 1<<(64-st.LocalDepth)
	}
	if len(m.changes) == 0 {
		return ops, nil
	}
	over, err := m.buckets.Update(id, m.changes)
	if err != nil || over == nil {
		return ops, err
	}
	return ops, m.split(id, st, over)
}

// key evaluates the operations on one key in their order, as if each had been
// checkpointed alone, and notes what becomes of its entry.
func (m *merge) key(id uint32, ops []op) error {
	first := &ops[0]
	entry, found, err := m.base.buckets.Find(id, first.hash, first.key)
	if err != nil {
		return err
	}
	set, was, version, err := m.load(first.key, first.hash, entry, found)
	if err != nil {
		return err
	}
	m.ops = ops
	set.OnRemove(m.onRemove)
	for i := range ops {
		o := &ops[i]
		switch o.code {
		case wal.Insert:
			err = set.Add(o.value)
		case wal.DeleteValue:
			err = set.Remove(o.value)
		case wal.Delete:
			err = set.Clear()
		}
		if err != nil {
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
	item := bucket.Item{Hash: first.hash, Key: first.key, Version: version + 1}
	if after.Live > 0 {
		m.record.numKeys++
		item.Values, item.Count, item.Spilled, item.Set = after.Values, after.Count, after.Spilled, after.Set
	} else {
		if !found {
			return nil
		}
		item.Deleted = true
	}
	m.changes = append(m.changes, item)
	return nil
}

// removed notes one deletion, for the deletion log, as of the time of its
// operation: whenever the checkpoint runs, the log says the same.
func (m *merge) removed(v E, whole bool, ordinal int) {
	if whole {
		v = E{}
	}
	o := &m.ops[ordinal]
	m.deletions = append(m.deletions, gc.Record{Key: o.key, Value: v, Timestamp: float64(o.nanos) / 1e9, Whole: whole})
}

// load makes the set of values that the tree holds for key.
func (m *merge) load(key E, hash uint64, entry bucket.Entry, found bool) (set *valueset.Set, live uint64, version uint32, err error) {
	if !found {
		return m.sets.Empty(key), 0, 0, nil
	}
	item := entry.Item(hash)
	if !item.Spilled {
		return m.sets.Inline(key, item.Values[:item.Count]), uint64(item.Count), item.Version, nil
	}
	set, err = m.sets.Spilled(key, item.Set)
	if err != nil {
		return nil, 0, 0, err
	}
	return set, set.Count(), item.Version, nil
}

// split spreads the keys of a bucket that holds too many over buckets that do
// not. Overflow rows that it had are used again or given back.
func (m *merge) split(id uint32, st bucket.State, items []bucket.Item) error {
	m.spare = m.spare[:0]
	for next := st.Next; next != 0; {
		o, err := m.base.buckets.State(next)
		if err != nil {
			return err
		}
		m.spare = append(m.spare, next)
		next = o.Next
	}
	if err := m.place(id, st.Prefix, st.LocalDepth, st.Created, items); err != nil {
		return err
	}
	for _, unused := range m.spare {
		if err := m.buckets.Release(unused); err != nil {
			return err
		}
	}
	return nil
}

// place writes items as bucket id, or splits it until every part fits.
func (m *merge) place(id uint32, prefix uint64, depth uint8, created uint64, items []bucket.Item) error {
	if len(items) <= m.threshold {
		return m.buckets.Rewrite(id, prefix, depth, created, items, 0, false)
	}
	if int(depth) >= m.deepest() {
		return m.chain(id, prefix, depth, created, items)
	}
	left, right := bucket.Split(items, depth)
	other := m.newBucket()
	m.directory.Split(prefix, depth, directory.Pointer{Bucket: other, Ref: m.commit})
	m.done.splits++
	if err := m.place(id, prefix, depth+1, created, left); err != nil {
		return err
	}
	return m.place(other, prefix|1<<(63-depth), depth+1, m.commit, right)
}

// deepest bounds the depth of the directory, so that keys with equal hashes (or
// chosen by somebody who knows the seed) cannot make it grow without end.
func (m *merge) deepest() int {
	return min(bits.Len64(m.record.numBuckets)-1+6, 40)
}

// chain writes items as a bucket with overflow rows.
func (m *merge) chain(id uint32, prefix uint64, depth uint8, created uint64, items []bucket.Item) error {
	overflow := false
	for {
		part, rest := items, []bucket.Item(nil)
		next := uint32(0)
		if len(items) > m.threshold {
			part, rest = items[:m.threshold], items[m.threshold:]
			if n := len(m.spare); n > 0 {
				next, m.spare = m.spare[n-1], m.spare[:n-1]
			} else {
				next = m.newBucket()
			}
		}
		if err := m.buckets.Rewrite(id, prefix, depth, created, part, next, overflow); err != nil {
			return err
		}
		if next == 0 {
			return nil
		}
		id, created, items, overflow = next, m.commit, rest, true
	}
}

func (m *merge) newBucket() uint32 {
	id := uint32(m.record.numBuckets)
	m.record.numBuckets++
	return id
}

// flush writes what the merge has gathered into the transaction, and completes
// the record.
func (m *merge) flush(tx *hdf5io.Tx) error {
	if err := m.sets.Flush(); err != nil {
		return err
	}
	m.record.numSets, m.record.freeSet, m.record.nextNode = m.sets.Counters()
	did := m.sets.Stats()
	m.record.numTombstones += uint64(did.Tombstones)
	m.done.promotions, m.done.demotions, m.done.compactions = did.Promotions, did.Demotions, did.Compactions
	if err := m.buckets.Flush(m.record.numBuckets); err != nil {
		return err
	}
	m.record.globalDepth = uint32(m.directory.Depth())
	if err := m.directory.Store(tx); err != nil {
		return err
	}
	if len(m.deletions) > 0 {
		rows, err := gc.Open(m.base.View, m.record.numDeletions).Append(tx, m.deletions)
		if err != nil {
			return err
		}
		m.record.numDeletions = rows
	}
	m.placed = tx.Placed()
	return nil
}
