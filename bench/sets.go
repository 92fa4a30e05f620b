package main

import "fmt"

// sets is W4. Keys keys with N/Keys values each are inserted in random order and
// read; then a tenth of the values are deleted and the rest is read again. Last,
// one key with Large values is inserted and read, and a tenth of the values deleted.
// Once the store is reopened, the key is read again, and deleted.
func (c *child) sets() error {
	large := c.newLargeSet()
	err := c.withStore(func(e engine) error {
		if err := c.manySets(e); err != nil {
			return err
		}
		return large.fill(e)
	})
	if err != nil {
		return err
	}
	return c.withStore(large.end)
}

func (c *child) manySets(e engine) error {
	each := c.N / c.Keys
	order := newPermutation(c.Keys*each, c.Seed)
	at := func(i uint64) pair {
		v := order.at(i)
		return pair{keyAt(c.Seed, v/each), valueAt(c.Seed, v)}
	}
	l, err := c.insertAll(e, order.n, at)
	if err != nil {
		return err
	}
	c.Measures.put("insert values", l.rate(), l.cut)
	if l.cut {
		return nil // cut short, the sets cannot be compared
	}
	keys, keyOrder := make([]uint64, c.Keys), newPermutation(c.Keys, c.Seed+1)
	for i := range keys {
		keys[i] = keyOrder.at(uint64(i))
	}
	read, err := c.readSets(e, keys, each, func(uint64) bool { return true })
	if err != nil {
		return fmt.Errorf("read sets: %w", err)
	}
	c.Measures.put("read sets, values", read, false)

	var gone []pair
	for i := range order.n {
		if removedAt(c.Seed, order.at(i)) {
			gone = append(gone, at(i))
		}
	}
	done, err := c.removeAll(e, gone, "delete 10 %, values")
	if err != nil || done < len(gone) {
		return err
	}
	if _, err := c.readSets(e, keys, each, func(v uint64) bool { return !removedAt(c.Seed, v) }); err != nil {
		return fmt.Errorf("read sets after the deletion: %w", err)
	}
	return nil
}

// readSets looks up keys and compares each set with the values that should be there. It
// returns values per second.
func (c *child) readSets(e engine, keys []uint64, each uint64, there func(v uint64) bool) (rate float64, err error) {
	ids := make([][16]byte, len(keys))
	for i, key := range keys {
		ids[i] = keyAt(c.Seed, key)
	}
	return readAll(e, ids, func(i int, found [][16]byte) error { return c.sameSet(found, keys[i], each, there) })
}

// readAll looks up keys, and checks what it finds for each. It returns values per second,
// without the time of the checks.
func readAll(e engine, keys [][16]byte, check func(i int, found [][16]byte) error) (rate float64, err error) {
	var found [][16]byte
	values, took := 0, int64(0)
	err = withReader(e, func(r reader) (err error) {
		for i, key := range keys {
			before := now()
			if found, err = r.lookup(key, found[:0]); err != nil {
				return err
			}
			took += now() - before
			if err := check(i, found); err != nil {
				return err
			}
			values += len(found)
		}
		return nil
	})
	return float64(values) / float64(took) * 1e9, err
}

// sameSet checks that found are the values of a key that should be there; the key
// had values key*each to (key+1)*each-1.
func (c *child) sameSet(found [][16]byte, key, each uint64, there func(v uint64) bool) error {
	count, sum := 0, uint64(0)
	for v := key * each; v < (key+1)*each; v++ {
		if there(v) {
			count++
			sum += hash(valueAt(c.Seed, v))
		}
	}
	if len(found) != count || fingerprint(found) != sum {
		return fmt.Errorf("WRONG DATA: key %d has %d values, want %d, or it has others", key, len(found), count)
	}
	return nil
}

// removeAll removes pairs in batches, measures that by a name, and returns how many it
// has removed by the limit.
func (c *child) removeAll(e engine, gone []pair, name string) (done int, err error) {
	start := now()
	for done < len(gone) && now()-start <= int64(c.Limit) {
		to := min(done+int(c.Batch), len(gone))
		if err := e.remove(gone[done:to]); err != nil {
			return done, fmt.Errorf("%s: %w", name, err)
		}
		done = to
	}
	c.Measures.put(name, float64(done)/seconds(start), done < len(gone))
	return done, nil
}

// largeSet is the key with many values of W4.
type largeSet struct {
	*child
	key   [16]byte
	count uint64 // values that it should have
	sum   uint64 // their fingerprint
	cut   bool   // whether not all values were inserted
}

const firstLarge = 1 << 40 // number of the key and of its first value, not used elsewhere

func (c *child) newLargeSet() *largeSet {
	return &largeSet{child: c, key: keyAt(c.Seed, firstLarge)}
}

func (s *largeSet) pair(i uint64) pair { return pair{s.key, valueAt(s.Seed, firstLarge+i)} }

// fill inserts the values, reads them, and deletes a tenth.
func (s *largeSet) fill(e engine) error {
	l, err := s.insertAll(e, max(s.Large, 1), s.pair)
	if err != nil {
		return fmt.Errorf("large set: %w", err)
	}
	s.cut = l.cut
	s.Measures.put("large set: insert values", l.rate(), l.cut)
	var gone []pair
	for i := range l.done {
		s.sum += hash(s.pair(i).value)
		if removedAt(s.Seed, firstLarge+i) {
			gone = append(gone, s.pair(i))
		}
	}
	s.count = l.done
	if err := s.read(e, "large set: read, values"); err != nil {
		return err
	}
	done, err := s.removeAll(e, gone, "large set: delete 10 %, values")
	for _, p := range gone[:done] {
		s.sum -= hash(p.value)
	}
	s.count -= uint64(done)
	return err
}

// end reads what is left, and deletes it.
func (s *largeSet) end(e engine) error {
	if err := s.read(e, "large set: read once reopened, values"); err != nil {
		return err
	}
	start := now()
	if err := e.removeKey(s.key); err != nil {
		return fmt.Errorf("large set: delete: %w", err)
	}
	s.Measures.put("large set: delete all", float64(now()-start), s.cut)
	return withReader(e, func(r reader) error {
		if found, err := r.lookup(s.key, nil); err != nil || len(found) != 0 {
			return fmt.Errorf("WRONG DATA: the deleted large set has %d values (%v)", len(found), err)
		}
		return nil
	})
}

// read looks the key up, several times.
func (s *largeSet) read(e engine, name string) error {
	rate, err := readAll(e, [][16]byte{s.key, s.key, s.key}, func(_ int, found [][16]byte) error {
		if uint64(len(found)) != s.count || fingerprint(found) != s.sum {
			return fmt.Errorf("WRONG DATA: %d values, want %d, or it has others", len(found), s.count)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	s.Measures.put(name, rate, s.cut)
	return nil
}
