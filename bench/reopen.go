package main

import "fmt"

// reopen measures an opening and a first lookup. The parent decides what came
// before.
func (c *child) reopen() error {
	start := now()
	return c.withStore(func(e engine) error { return c.firstLookup(e, start, "after Close") })
}

func (c *child) firstLookup(e engine, start int64, name string) error {
	return c.withChecker(e, func(k *checker) error {
		err := k.hit(0)
		c.Measures.put(name, float64(now()-start), false)
		return err
	})
}

// batchPairs fills buffer with batch number b after the first N pairs.
func (c *child) batchPairs(buffer []pair, b uint64) []pair {
	buffer = buffer[:0]
	for i := range c.Batch {
		buffer = append(buffer, pairAt(c.Seed, c.N+b*c.Batch+i))
	}
	return buffer
}

// write inserts batch after batch and reports each acknowledged one to the parent,
// until the parent kills it.
func (c *child) write() error {
	e, err := c.open()
	if err != nil {
		return err
	}
	var buffer []pair
	for b := uint64(0); ; b++ {
		buffer = c.batchPairs(buffer, b)
		if err := e.insert(buffer); err != nil {
			return fmt.Errorf("batch %d: %w", b, err)
		}
		if err := c.out.Encode(message{Acked: b + 1}); err != nil {
			return err
		}
	}
}

// afterKill opens the store that write was changing when it was killed.
// Acknowledged batches must be complete, the one after them complete or absent, and
// nothing else may be there. Then the store must accept a batch.
func (c *child) afterKill() error {
	start := now()
	return c.withStore(func(e engine) error {
		if err := c.firstLookup(e, start, "after kill -9"); err != nil {
			return err
		}
		if err := c.withChecker(e, c.checkRecovered); err != nil {
			return err
		}
		if err := e.insert(c.batchPairs(nil, c.Acked+10)); err != nil {
			return fmt.Errorf("insert after recovery: %w", err)
		}
		err := c.withChecker(e, func(k *checker) error { return k.hit(c.N + (c.Acked+11)*c.Batch - 1) })
		if err != nil {
			return fmt.Errorf("after recovery: %w", err)
		}
		return nil
	})
}

// checkRecovered looks up a sample of all pairs, and each pair near the kill.
func (c *child) checkRecovered(k *checker) error {
	const near = 20 // batches
	acked := c.N + c.Acked*c.Batch
	for i := c.N + (c.Acked-min(c.Acked, near))*c.Batch; i < acked; i++ {
		if err := k.hit(i); err != nil {
			return fmt.Errorf("LOST: acknowledged before the kill: %w", err)
		}
	}
	rnd := random(c.Seed)
	for range c.Lookups {
		if err := k.hit(rnd.next() % acked); err != nil {
			return fmt.Errorf("LOST: acknowledged before the kill: %w", err)
		}
	}
	inFlight := uint64(0) // pairs that are there from the batch after the last
	for i := acked; i < acked+3*c.Batch; i++ {
		has, err := k.has(i)
		if err != nil {
			return err
		}
		if has && i >= acked+c.Batch {
			return fmt.Errorf("WRONG DATA: pair %d is there, but its batch was not begun", i)
		}
		if has {
			inFlight++
		}
	}
	if c.peer.batches && inFlight != 0 && inFlight != c.Batch {
		return fmt.Errorf("WRONG DATA: %d of %d pairs of a batch are there", inFlight, c.Batch)
	}
	return nil
}
