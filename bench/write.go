package main

import (
	"cmp"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// loading is how far a load came, and how fast it was.
type loading struct {
	done      uint64 // pairs
	seconds   float64
	lastTenth float64 // rate of the last tenth over the rate of all, 0 if cut
	batches   histogram
	cut       bool
}

func (l *loading) rate() float64 { return float64(l.done) / l.seconds }

// insertAll inserts pairs 0 to n-1, made by at, in batches.
func (c *child) insertAll(e engine, n uint64, at func(i uint64) pair) (*loading, error) {
	l := &loading{}
	buffer := make([]pair, 0, c.Batch)
	start := now()
	mark, markTime := uint64(0), start // where the last tenth begins
	for l.done < n && !l.cut {
		buffer = buffer[:0]
		for i := l.done; i < min(l.done+c.Batch, n); i++ {
			buffer = append(buffer, at(i))
		}
		before := now()
		if err := e.insert(buffer); err != nil {
			return l, fmt.Errorf("insert at pair %d: %w", l.done, err)
		}
		after := now()
		l.batches.add(after - before)
		l.done += uint64(len(buffer))
		if l.done <= n-n/10 {
			mark, markTime = l.done, after
		}
		l.cut = after-start > int64(c.Limit) && l.done < n
	}
	end := now()
	l.seconds = float64(end-start) / 1e9
	if !l.cut {
		l.lastTenth = float64(l.done-mark) / float64(end-markTime) * 1e9 / l.rate()
	}
	return l, nil
}

// load is W1, W1b and W1c: n pairs in batches, then Close.
func (c *child) load() error {
	watched := c.watch()
	cpu, start := cpuTime(), now()
	var l *loading
	err := c.withStore(func(e engine) (err error) {
		start = now()
		l, err = c.insertAll(e, c.N, func(i uint64) pair { return pairAt(c.Seed, i) })
		return err
	})
	if err != nil {
		return err
	}
	c.Done = l.done
	m, b := c.Measures, &l.batches
	m.put("pairs", l.rate(), l.cut)
	if !l.cut {
		m.put("last tenth ÷ mean", l.lastTenth, false)
	}
	m.put("pairs, until closed", float64(l.done)/seconds(start), l.cut)
	m.put("batch p50", b.quantile(.5), l.cut)
	m.put("batch p99", b.quantile(.99), l.cut)
	m.put("batch p99.9", b.quantile(.999), l.cut)
	m.put("batch longest", float64(b.max), l.cut)
	m.put("CPU a pair", (cpuTime()-cpu)*1e9/float64(l.done), l.cut)
	memory, files := watched()
	m.put("own memory, at most", memory, l.cut)
	m.put("files at their largest, a pair", float64(files)/float64(l.done), l.cut)
	return nil
}

// watch looks at the process and its files until the function that it returns is
// called. That returns the most memory of its own that the process had, and the most
// bytes that all files had together.
func (c *child) watch() func() (memory float64, files int64) {
	stop, done := make(chan struct{}), make(chan struct{})
	var memory float64
	var files int64
	look := func() {
		memory = max(memory, ownMemory())
		if size, err := fileBytes(c.Dir); err == nil {
			files = max(files, size)
		}
	}
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Millisecond):
				look()
			}
		}
	}()
	return func() (float64, int64) {
		close(stop)
		<-done
		look()
		return memory, files
	}
}

// verify looks up some of the first N pairs, including the last one.
func (c *child) verify() error {
	return c.checkStore(func(k *checker) error {
		rnd := random(c.Seed)
		for range c.Lookups {
			if err := k.hit(rnd.next() % c.N); err != nil {
				return err
			}
		}
		return k.hit(c.N - 1)
	})
}

// singles is W2: one pair in each commit, by one writer and by sixteen. All pairs
// must be there after reopening.
func (c *child) singles() error {
	next := c.N
	err := c.withStore(func(e engine) error {
		for _, phase := range []struct {
			name    string
			writers int
		}{{"1 writer", 1}, {"16 writers", 16}} {
			var err error
			if next, err = c.insertSingly(e, phase.name, phase.writers, next); err != nil {
				return fmt.Errorf("%s: %w", phase.name, err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return c.checkStore(func(k *checker) error {
		for i := c.N; i < next; i++ {
			if err := k.hit(i); err != nil {
				return err
			}
		}
		return nil
	})
}

// insertSingly inserts pairs, beginning with number first, for the length of a
// phase, and returns the number after the last.
func (c *child) insertSingly(e engine, name string, writers int, first uint64) (uint64, error) {
	var next atomic.Uint64
	next.Store(first)
	latencies := make([]histogram, writers)
	start := now()
	err := together(writers, func(w int) error {
		for before := start; before < start+int64(c.Phase); {
			if err := e.insert([]pair{pairAt(c.Seed, next.Add(1)-1)}); err != nil {
				return err
			}
			after := now()
			latencies[w].add(after - before)
			before = after
		}
		return nil
	})
	took := seconds(start)
	all := merged(latencies)
	c.Measures.put(name, float64(all.count)/took, false)
	c.Measures.put(name+" p99", all.quantile(.99), false)
	return next.Load(), err
}

// together runs body n times at the same time, with numbers from 0, and returns an error of
// one of them.
func together(n int, body func(i int) error) error {
	var wg sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		wg.Go(func() { errs[i] = body(i) })
	}
	wg.Wait()
	return cmp.Or(errs...)
}

func merged(histograms []histogram) *histogram {
	all := &histogram{}
	for i := range histograms {
		all.merge(&histograms[i])
	}
	return all
}
