package main

import (
	"fmt"
	"os"
	"path/filepath"
)

// spaceEach are the numbers of values for each key of the stores that W7 makes, one
// after another.
var spaceEach = []uint64{1, 4, 5, 16, 64, 1000}

// The stages of each of these stores; the size is taken after Close.
const (
	spaceLoaded = "loaded"
	spaceHalved = "half deleted"
	spaceTidied = "tidied"
)

func spaceName(each uint64, stage string) string { return count(each, "value") + " a key, " + stage }

func spaceRows() (rows []row) {
	for _, each := range spaceEach {
		for _, stage := range []string{spaceLoaded, spaceHalved, spaceTidied} {
			rows = append(rows, row{spaceName(each, stage), octets})
		}
	}
	return rows
}

// space is W7: for each number of values for a key, a store is loaded, loses every
// second value of each key, and is tidied.
func (c *child) space() error {
	for _, each := range spaceEach {
		own := *c
		own.Dir = filepath.Join(c.Dir, fmt.Sprint(each))
		s := spaceStore{child: &own, each: each, keys: c.N / each}
		if err := s.measure(); err != nil {
			return fmt.Errorf("%s a key: %w", count(each, "value"), err)
		}
		if err := os.RemoveAll(own.Dir); err != nil {
			return err
		}
	}
	return nil
}

// spaceStore is one of the stores of W7. Key number k has the values k*each to
// (k+1)*each-1.
type spaceStore struct {
	*child
	each, keys uint64
}

func (s *spaceStore) pair(v uint64) pair { return pair{keyAt(s.Seed, v/s.each), valueAt(s.Seed, v)} }

// all and kept report whether value v is there before and after the deletion, which
// removes either the even or the odd values of a key.
func (s *spaceStore) all(uint64) bool    { return true }
func (s *spaceStore) kept(v uint64) bool { return (halfAt(s.Seed, v/s.each)+v%s.each)%2 == 0 }
func (s *spaceStore) gone(v uint64) bool { return !s.kept(v) }

func (s *spaceStore) measure() error {
	for _, stage := range []struct {
		name  string
		step  func(engine) error
		there func(v uint64) bool // after it
	}{
		{spaceLoaded, s.load, s.all},
		{spaceHalved, s.halve, s.kept},
		{spaceTidied, engine.tidy, s.kept},
	} {
		if err := s.withStore(stage.step); err != nil {
			return fmt.Errorf("%s: %w", stage.name, err)
		}
		size, err := fileBytes(s.Dir)
		if err != nil {
			return err
		}
		pairs := uint64(0)
		for v := range s.keys * s.each {
			if stage.there(v) {
				pairs++
			}
		}
		s.Measures.put(spaceName(s.each, stage.name), float64(size)/float64(pairs), false)
		if err := s.withStore(func(e engine) error { return s.check(e, stage.there) }); err != nil {
			return fmt.Errorf("%s, opened again: %w", stage.name, err)
		}
	}
	return nil
}

func (s *spaceStore) load(e engine) error  { return s.inBatches(e.insert, s.Seed, s.all) }
func (s *spaceStore) halve(e engine) error { return s.inBatches(e.remove, s.Seed+1, s.gone) }

// inBatches calls do with batches of the chosen pairs, in a random order.
func (s *spaceStore) inBatches(do func([]pair) error, seed uint64, chosen func(v uint64) bool) error {
	order := newPermutation(s.keys*s.each, seed)
	buffer := make([]pair, 0, s.Batch)
	for i := range order.n {
		if v := order.at(i); chosen(v) {
			buffer = append(buffer, s.pair(v))
		}
		if len(buffer) == cap(buffer) || i+1 == order.n && len(buffer) > 0 {
			if err := do(buffer); err != nil {
				return err
			}
			buffer = buffer[:0]
		}
	}
	return nil
}

// check looks up random keys, which have about Lookups values together, and the
// keys of the first and of the last inserted pair.
func (s *spaceStore) check(e engine, there func(v uint64) bool) error {
	order := newPermutation(s.keys*s.each, s.Seed)
	keys := []uint64{order.at(0) / s.each, order.at(order.n-1) / s.each}
	rnd := random(s.Seed)
	for range s.Lookups / s.each {
		keys = append(keys, rnd.next()%s.keys)
	}
	_, err := s.readSets(e, keys, s.each, there)
	return err
}
