package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"time"
)

// warm reads every file of a directory, so that it is in the page cache.
func warm(dir string) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, f)
		return errors.Join(err, f.Close())
	})
}

// lookups is W3: random lookups with the file in the page cache. All of them see
// the newest state.
func (c *child) lookups() error {
	if err := warm(c.Dir); err != nil {
		return err
	}
	return c.withStore(func(e engine) error {
		for _, phase := range []struct {
			name       string // "": only to fill caches
			goroutines int
			hit        bool
		}{{"", 1, true}, {"hits ×1", 1, true}, {"misses ×1", 1, false}, {"hits ×2", 2, true}, {"misses ×2", 2, false}} {
			if err := c.lookUp(e, phase.name, phase.goroutines, phase.hit); err != nil {
				return fmt.Errorf("%s: %w", phase.name, err)
			}
		}
		return nil
	})
}

// lookUp makes the lookups of one phase and measures them if it has a name.
func (c *child) lookUp(e engine, name string, goroutines int, hit bool) error {
	latencies := make([]histogram, goroutines)
	var cut atomic.Bool
	checkers := make([]checker, goroutines)
	for i := range checkers {
		r, err := e.newReader()
		if err != nil {
			return err
		}
		checkers[i] = checker{reader: r, seed: c.Seed}
	}
	start := now()
	err := together(goroutines, func(g int) error {
		k, rnd := &checkers[g], random(c.Seed+uint64(g)*7919+uint64(len(name)))
		look := k.miss
		if hit {
			look = k.hit
		}
		before := now()
		for range c.Lookups / uint64(goroutines) {
			if err := look(rnd.next() % c.N); err != nil {
				return err
			}
			after := now()
			latencies[g].add(after - before)
			if before = after; after-start > int64(c.Limit) {
				cut.Store(true)
				break
			}
		}
		return nil
	})
	took := seconds(start)
	for _, k := range checkers {
		err = errors.Join(err, k.close())
	}
	if err != nil || name == "" {
		return err
	}
	all := merged(latencies)
	c.Measures.put(name, float64(all.count)/took, cut.Load())
	if name == "hits ×2" {
		c.Measures.put("hits ×2 ÷ ×1", c.Measures[name].Value/c.Measures["hits ×1"].Value, cut.Load())
	}
	c.Measures.put(name+" p50", all.quantile(.5), cut.Load())
	c.Measures.put(name+" p99", all.quantile(.99), cut.Load())
	return nil
}

// What the writer of W5 writes. The load is the same on every engine.
const (
	mixedBatch  = 100
	mixedPeriod = 10 * time.Millisecond
)

// mixed is W5: two readers look up, without a pause, what has been acknowledged,
// while a writer commits a batch in each period. The latency of a write is counted
// from when it was due, so that one slow write shows in those that it delays.
func (c *child) mixed() error {
	if err := warm(c.Dir); err != nil {
		return err
	}
	return c.withStore(func(e engine) error {
		if err := c.lookUp(e, "", 1, true); err != nil {
			return err
		}
		const readers = 2
		var latencies [readers]histogram
		var writes histogram
		var present atomic.Uint64 // pairs that were acknowledged
		present.Store(c.N)
		start := now()
		stop := start + int64(c.Phase)
		err := together(readers+1, func(i int) error {
			if i == readers {
				return c.writeMixed(e, start, stop, &present, &writes)
			}
			return c.readMixed(e, random(c.Seed+uint64(i)), stop, &present, &latencies[i])
		})
		all := merged(latencies[:])
		c.Measures.put("lookups", float64(all.count)/seconds(start), false)
		c.Measures.put("lookup p99", all.quantile(.99), false)
		c.Measures.put("write p99", writes.quantile(.99), false)
		return err
	})
}

func (c *child) writeMixed(e engine, due, stop int64, present *atomic.Uint64, latencies *histogram) error {
	buffer := make([]pair, 0, mixedBatch)
	for ; due < stop && now() < stop; due += int64(mixedPeriod) {
		time.Sleep(time.Duration(due - now()))
		buffer = buffer[:0]
		for i := range uint64(mixedBatch) {
			buffer = append(buffer, pairAt(c.Seed, present.Load()+i))
		}
		if err := e.insert(buffer); err != nil {
			return err
		}
		latencies.add(now() - due)
		present.Add(mixedBatch)
	}
	return nil
}

// readMixed yields after each lookup, as a goroutine that answers requests does.
// Otherwise, on two cores, the writer's latency would show only the scheduler's
// slice of 10 ms.
func (c *child) readMixed(e engine, rnd random, stop int64, present *atomic.Uint64, latencies *histogram) error {
	return c.withChecker(e, func(k *checker) error {
		for before := now(); before < stop; before = now() {
			if err := k.hit(rnd.next() % present.Load()); err != nil {
				return err
			}
			latencies.add(now() - before)
			runtime.Gosched()
		}
		return nil
	})
}
