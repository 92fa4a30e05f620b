package cidstore

import (
	"fmt"

	"github.com/cidstore/cidstore/bucket"
)

// aheadKeys is how many keys of a LookupBatch are looked for together: as many as a
// processor's near cache has room for what it reads of them.
const aheadKeys = 64

// LookupBatch calls yield once for each of keys, in their order, with its number and
// its values, ascending, all as of one moment; values are empty for an absent key, and
// valid until yield returns. It ends early, with nil, when yield returns false. Accesses
// to memory for many keys overlap, so that it is faster than as many calls of Lookup
// where the store is larger than the processor's cache. A key that cannot be read is
// left out; then the error, a *DamageError if there are several, says what is wrong.
func (s *Store) LookupBatch(keys []E, yield func(i int, values []E) bool) error {
	v, err := s.Snapshot()
	if err != nil {
		return err
	}
	defer v.Close()
	return ofStore(v.LookupBatch(keys, yield))
}

// LookupBatch is Store.LookupBatch as of the snapshot.
func (v *Snapshot) LookupBatch(keys []E, yield func(i int, values []E) bool) error {
	var b lookupBatch
	for done := 0; done < len(keys); {
		part := keys[done:min(done+aheadKeys, len(keys))]
		if err := b.read(v, part); err != nil {
			return err
		}
		start := 0
		for i, end := range b.ends {
			if end < 0 {
				continue
			}
			if more, err := v.goesOn(yield(done+i, b.values[start:end:end])); !more {
				return err
			}
			start = end
		}
		done += len(part)
	}
	return b.damage.err()
}

// lookupBatch is the values of some keys.
type lookupBatch struct {
	sought [aheadKeys]bucket.Sought
	values []E
	ends   []int // of the values of each key; -1: they cannot be read
	damage damages
}

// read reads all keys. Only what ends the reader is an error.
func (b *lookupBatch) read(v *Snapshot, keys []E) error {
	b.values, b.ends = b.values[:0], b.ends[:0]
	err := v.guard(func() error {
		for i, key := range keys {
			hash := v.view.hasher.Hash(key)
			b.sought[i] = bucket.Sought{Group: v.view.directory.Bucket(hash), Hash: hash}
		}
		v.view.buckets.Ahead(b.sought[:len(keys)])
		for _, key := range keys {
			if err := b.add(key, v.appendLookup); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil || ends(err) {
		return err
	}
	b.values, b.ends = b.values[:0], b.ends[:0] // a fault: each key by itself
	for _, key := range keys {
		if err := b.add(key, v.AppendLookup); err != nil {
			return err
		}
	}
	return nil
}

// add reads one key.
func (b *lookupBatch) add(key E, appendLookup func([]E, E) ([]E, error)) error {
	values, err := appendLookup(b.values, key)
	switch {
	case err == nil:
		b.values = values
		b.ends = append(b.ends, len(values))
	case ends(err):
		return err
	default:
		b.damage.add(fmt.Errorf("key %v: %w", key, err))
		b.ends = append(b.ends, -1)
	}
	return nil
}
