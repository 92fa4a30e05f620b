package cidstore

import (
	"fmt"

	"github.com/cidstore/cidstore/bucket"
)

// togetherKeys is how many keys of a LookupBatch are looked for together. What is read
// for them fits into the near cache of a processor.
const togetherKeys = 64

// togetherValues is how many values of them are held at once, apart from those of one key.
const togetherValues = 1 << 16

// LookupBatch calls yield once for each of keys, in their order, with its index and its
// values in ascending order, all as of one moment. values is empty for an absent key, and
// is valid until yield returns. If yield returns false, LookupBatch stops and returns
// nil. It looks for 64 keys at a time, step by step, so that their accesses to memory
// overlap. It leaves out a key that cannot be read; then the error says what is wrong,
// and is a *DamageError if several cannot be read.
func (s *Store) LookupBatch(keys []E, yield func(i int, values []E) bool) error {
	v, err := s.Snapshot()
	if err != nil {
		return err
	}
	defer v.Close()
	v.memos = &v.state.memos // as in Values
	return ofStore(v.LookupBatch(keys, yield))
}

// LookupBatch is Store.LookupBatch as of the snapshot.
func (v *Snapshot) LookupBatch(keys []E, yield func(i int, values []E) bool) error {
	var b lookupBatch
	for done := 0; done < len(keys); {
		part := keys[done:min(done+togetherKeys, len(keys))]
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
		done += len(b.ends)
	}
	return b.damage.err()
}

// lookupBatch holds the values of some keys.
type lookupBatch struct {
	sought []bucket.Sought // the keys that have no pending operation
	values []E
	ends   []int // where the values of each of the first keys end; -1 if they cannot be read
	damage damages
}

// read reads keys until there are many values. It returns an error only if the reader cannot
// go on.
func (b *lookupBatch) read(v *Snapshot, keys []E) error {
	err := v.guard(func() error { return b.together(v.reader, keys) })
	if err == nil || ends(err) {
		return err
	}
	b.values, b.ends = b.values[:0], b.ends[:0] // a fault: read each key by itself
	for _, key := range keys {
		full, err := b.add(key, func(dst []E) ([]E, error) { return v.AppendLookup(dst, key) })
		if full || err != nil {
			return err
		}
	}
	return nil
}

// together is read that looks at once for all keys without a pending operation.
func (b *lookupBatch) together(r reader, keys []E) error {
	b.values, b.ends, b.sought = b.values[:0], b.ends[:0], b.sought[:0]
	for _, key := range keys {
		hash := r.view.hasher.Hash(key)
		if fresh, frozen := r.pending(hash, key); fresh == nil && frozen == nil {
			b.sought = append(b.sought, bucket.Sought{Group: r.view.directory.Bucket(hash), Hash: hash, Key: key})
		}
	}
	r.view.buckets.FindAll(b.sought)
	rest := b.sought
	for _, key := range keys {
		appendValues := func(dst []E) ([]E, error) { return r.appendLookup(dst, key) }
		if len(rest) > 0 && rest[0].Key == key {
			k := &rest[0]
			rest = rest[1:]
			appendValues = func(dst []E) ([]E, error) { return r.appendFound(dst, k) }
		}
		if full, err := b.add(key, appendValues); full || err != nil {
			return err
		}
	}
	return nil
}

// appendFound is appendLookup for a key that has been looked for.
func (r reader) appendFound(dst []E, k *bucket.Sought) ([]E, error) {
	if k.Err != nil || !k.Found {
		return dst, k.Err
	}
	return r.appendEntry(dst, k.Entry, k.Key)
}

// add reads one key with appendValues. full reports that there are many values now.
func (b *lookupBatch) add(key E, appendValues func([]E) ([]E, error)) (full bool, err error) {
	values, err := appendValues(b.values)
	switch {
	case err == nil:
		b.values = values
		b.ends = append(b.ends, len(values))
	case ends(err):
		return false, err
	default:
		b.damage.add(fmt.Errorf("key %v: %w", key, err))
		b.ends = append(b.ends, -1)
	}
	return len(b.values) >= togetherValues, nil
}
