package cidstore

import (
	"cmp"
	"iter"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cidstore/cidstore/bucket"
	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/wal"
)

// Snapshot is a consistent, immutable view of the store. It never blocks the writer, but
// space that it reaches is not used again until Close. It is safe for concurrent use.
type Snapshot struct {
	reader
	store *Store
	pin   hdf5io.Pin

	// mu is held for reading around each read of the file, but never while a caller's
	// code runs. Close, which sets over, holds it for writing.
	mu   sync.RWMutex
	over atomic.Pointer[error] // why reads refuse: ErrClosed or ErrSnapshotExpired

	errMu   sync.Mutex // guards skipped
	skipped damages
}

// Snapshot returns a view of everything acknowledged so far. The caller must close it.
func (s *Store) Snapshot() (*Snapshot, error) {
	r, pin, err := s.acquire()
	if err != nil {
		return nil, err
	}
	v := &Snapshot{reader: r, store: s, pin: pin}
	v.memos = new(memos) // those of the state may include newer operations
	s.snapshots.Store(v, struct{}{})
	if s.state.Load() == nil { // Close may have looked for snapshots before this one
		_ = v.Close() // no matter if Close has ended it already
		return nil, ErrClosed
	}
	return v, nil
}

// Close releases the snapshot; loops under way end with ErrClosed. A second Close returns
// ErrClosed.
func (v *Snapshot) Close() error { return v.end(ErrClosed) }

func (v *Snapshot) end(why error) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.ended(); err != nil {
		return err
	}
	v.over.Store(&why)
	v.view.Unpin(v.pin)
	v.store.snapshots.Delete(v)
	return nil
}

// guard runs one read of the file, during which the snapshot stays open. It turns faults
// of the mapping into ErrIO.
func (v *Snapshot) guard(read func() error) error {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if err := v.ended(); err != nil {
		return err
	}
	return guard(read)
}

// ended returns why reads refuse, or nil.
func (v *Snapshot) ended() error {
	if why := v.over.Load(); why != nil {
		return *why
	}
	return nil
}

// goesOn reports whether a loop goes on after a yield that returned more. It does not if
// the yield has closed the snapshot, even if more items have been read already.
func (v *Snapshot) goesOn(more bool) (bool, error) {
	if !more {
		return false, nil
	}
	err := v.ended()
	return err == nil, err
}

// fail keeps an error of a loop, for Err.
func (v *Snapshot) fail(err error) {
	v.errMu.Lock()
	defer v.errMu.Unlock()
	v.skipped.add(err)
}

// Err returns the error of what loops over the snapshot could not read, a *DamageError if
// that is more than one place, or nil. Loops go on past such places.
func (v *Snapshot) Err() error {
	v.errMu.Lock()
	defer v.errMu.Unlock()
	return v.skipped.err()
}

// Lookup is Store.Lookup as of the snapshot.
func (v *Snapshot) Lookup(key E) ([]E, error) { return nilIfEmpty(v.AppendLookup(nil, key)) }

// AppendLookup is Store.AppendLookup as of the snapshot.
func (v *Snapshot) AppendLookup(dst []E, key E) (out []E, err error) {
	out = dst
	err = v.guard(func() (err error) { out, err = v.appendLookup(dst, key); return err })
	return out, err
}

// Values is Store.Values as of the snapshot.
func (v *Snapshot) Values(key E) iter.Seq2[E, error] {
	return func(yield func(E, error) bool) { v.stream(key, v.fail, yield) }
}

// Has is Store.Has as of the snapshot.
func (v *Snapshot) Has(key, value E) (bool, error) {
	return within(v, key, func(r reader, key E) (bool, error) { return r.has(key, value) })
}

// HasKey is Store.HasKey as of the snapshot.
func (v *Snapshot) HasKey(key E) (bool, error) { return within(v, key, reader.hasKey) }

// Count is Store.Count as of the snapshot.
func (v *Snapshot) Count(key E) (int, error) {
	n, err := within(v, key, reader.count)
	return int(n), err
}

// within returns what read finds about key in the snapshot.
func within[T any](v *Snapshot, key E, read func(reader, E) (T, error)) (found T, err error) {
	err = v.guard(func() (err error) { found, err = read(v.reader, key); return err })
	return found, err
}

// All yields every (key, value) pair once. Keys come in order of their hashes, and the
// values of a key ascend. Pairs that cannot be read are left out: see Err after the
// loop. All verifies the checksums of what it reads, and that each key is where its hash
// belongs. It holds up to four groups of buckets in memory. In a large store, and with
// two processors or more, a second goroutine reads ahead until the loop ends.
func (v *Snapshot) All() iter.Seq2[E, E] {
	return func(yield func(E, E) bool) {
		v.loop(func(m *member) (bool, error) {
			if m.pending || m.item.Spilled {
				more := true
				err := v.values(m.item.Key, v.fail, func(value E) bool { more = yield(m.item.Key, value); return more })
				return more, err
			}
			for _, value := range m.item.Values[:m.item.Count] {
				if more, err := v.goesOn(yield(m.item.Key, value)); !more {
					return false, err
				}
			}
			return true, nil
		})
	}
}

// Keys yields every key that has a value, once, in order of hashes. Keys that cannot
// be read are left out: see Err after the loop.
func (v *Snapshot) Keys() iter.Seq[E] {
	return func(yield func(E) bool) {
		v.loop(func(m *member) (bool, error) {
			if m.pending {
				has, err := v.HasKey(m.item.Key)
				if err != nil && !ends(err) {
					v.fail(err)
					return true, nil
				}
				if err != nil || !has {
					return true, err
				}
			}
			return v.goesOn(yield(m.item.Key))
		})
	}
}

func (v *Snapshot) loop(visit func(*member) (bool, error)) {
	if err := v.members(v.fail, visit); err != nil {
		v.fail(err)
	}
}

// member is one key of a walk. item is what the tree has of it; if there are pending
// operations on the key, these decide.
type member struct {
	item    *bucket.Item
	pending bool
}

// members walks every key of the tree and of the tables, in order of (hash, key). It
// goes on past what cannot be read, and calls bad with what is wrong there.
func (v *Snapshot) members(bad func(error), visit func(*member) (bool, error)) error {
	touched, err := v.touchedKeys()
	if err != nil {
		return err
	}
	for items, err := range v.groups(v.view.goroutines() > 1) {
		if err != nil && ends(err) {
			return err
		}
		if err != nil {
			bad(err)
		}
		var m member // one for all, as they are visited one by one
		for i := range items {
			for len(touched) > 0 && bucket.Less(&touched[0], &items[i]) {
				if more, err := visit(&member{&touched[0], true}); err != nil || !more {
					return err
				}
				touched = touched[1:]
			}
			m.item, m.pending = &items[i], false
			if len(touched) > 0 && touched[0].Key == items[i].Key {
				m.pending = true
				touched = touched[1:]
			}
			if more, err := visit(&m); err != nil || !more {
				return err
			}
		}
	}
	for i := range touched {
		if more, err := visit(&member{&touched[i], true}); err != nil || !more {
			return err
		}
	}
	return nil
}

// touchedKeys returns the keys with operations that the tree lacks, in order of (hash,
// key), each once.
func (v *Snapshot) touchedKeys() ([]bucket.Item, error) {
	var keys []bucket.Item
	err := v.eachPending(func(o *op) error {
		keys = append(keys, bucket.Item{Hash: o.hash, Key: o.key})
		return nil
	})
	slices.SortFunc(keys, func(a, b bucket.Item) int {
		return cmp.Or(cmp.Compare(a.Hash, b.Hash), a.Key.Compare(b.Key))
	})
	return slices.CompactFunc(keys, func(a, b bucket.Item) bool { return a.Key == b.Key }), err
}

// opsPerStep is how many operations are copied under one guard, so that a caller's code
// never runs inside it.
const opsPerStep = 1024

// eachPending calls visit with each operation that the tree lacks, in order.
func (v *Snapshot) eachPending(visit func(*op) error) error {
	if v.pendingOps() == 0 {
		return nil
	}
	some := make([]op, 0, opsPerStep)
	for _, from := range [...]struct {
		table   *table
		visible wal.Seq
	}{{v.frozen, everything}, {v.fresh, v.visible}} {
		for n := uint32(0); from.table != nil; n += uint32(len(some)) {
			err := v.guard(func() error { some = from.table.some(some[:0], n, from.visible); return nil })
			if err != nil {
				return err
			}
			if len(some) == 0 {
				break
			}
			for i := range some {
				if from.table == v.frozen && v.inTree(some[i].hash) {
					continue
				}
				if err := visit(&some[i]); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
