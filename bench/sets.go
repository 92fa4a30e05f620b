package main

import "fmt"

// sets is W4. Keys keys with N/Keys values each are inserted in random order and
// read; then a tenth of the values are deleted and the rest is read again. Last,
// one key with N/10 values is inserted, read and deleted.
func (c *child) sets() error {
	return c.withStore(func(e engine) error {
		if err := c.manySets(e); err != nil {
			return err
		}
		return c.largeSet(e)
	})
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
	read, err := c.readSets(e, each, func(uint64) bool { return true })
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
	done, start := uint64(0), now()
	for done < uint64(len(gone)) && now()-start <= int64(c.Limit) {
		to := min(done+c.Batch, uint64(len(gone)))
		if err := e.remove(gone[done:to]); err != nil {
			return fmt.Errorf("delete: %w", err)
		}
		done = to
	}
	cut := done < uint64(len(gone))
	c.Measures.put("delete 10 %, values", float64(done)/seconds(start), cut)
	if cut {
		return nil
	}
	if _, err := c.readSets(e, each, func(v uint64) bool { return !removedAt(c.Seed, v) }); err != nil {
		return fmt.Errorf("read sets after the deletion: %w", err)
	}
	return nil
}

// readSets looks up all keys in random order and compares each set with the values
// that should be there. It returns values per second, without the time for
// comparing.
func (c *child) readSets(e engine, each uint64, there func(v uint64) bool) (float64, error) {
	r, err := e.newReader()
	if err != nil {
		return 0, err
	}
	order := newPermutation(c.Keys, c.Seed+1)
	var found [][16]byte
	values, took := 0, int64(0)
	for i := range c.Keys {
		key := order.at(i)
		before := now()
		if found, err = r.lookup(keyAt(c.Seed, key), found[:0]); err != nil {
			return 0, err
		}
		took += now() - before
		if err := c.sameSet(found, key, each, there); err != nil {
			return 0, err
		}
		values += len(found)
	}
	return float64(values) / float64(took) * 1e9, r.close()
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

func (c *child) largeSet(e engine) error {
	const first = 1 << 40 // number of the key and its first value, not used elsewhere
	key := keyAt(c.Seed, first)
	l, err := c.insertAll(e, max(c.N/10, 1), func(i uint64) pair { return pair{key, valueAt(c.Seed, first+i)} })
	if err != nil {
		return fmt.Errorf("large set: %w", err)
	}
	c.Measures.put("large set: insert values", l.rate(), l.cut)
	want := uint64(0)
	for i := range l.done {
		want += hash(valueAt(c.Seed, first+i))
	}
	r, err := e.newReader()
	if err != nil {
		return err
	}
	const reads = 3
	var found [][16]byte
	took := int64(0)
	for range reads {
		before := now()
		if found, err = r.lookup(key, found[:0]); err != nil {
			return fmt.Errorf("large set: %w", err)
		}
		took += now() - before
		if uint64(len(found)) != l.done || fingerprint(found) != want {
			return fmt.Errorf("WRONG DATA: the large set has %d values, want %d, or it has others", len(found), l.done)
		}
	}
	c.Measures.put("large set: read, values", float64(reads*l.done)/float64(took)*1e9, l.cut)
	start := now()
	if err := e.removeKey(key); err != nil {
		return fmt.Errorf("large set: delete: %w", err)
	}
	c.Measures.put("large set: delete all", float64(now()-start), l.cut)
	if found, err = r.lookup(key, found[:0]); err != nil || len(found) != 0 {
		return fmt.Errorf("WRONG DATA: the deleted large set has %d values (%v)", len(found), err)
	}
	return r.close()
}
