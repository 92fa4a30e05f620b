package main

import (
	"bytes"
	"errors"
	"io"
	"log"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/akrylysov/pogreb"
)

// pogreb holds, for each key, its values one after another, sorted. A change reads
// the set, merges, and writes it, once for each key of a batch. Its settings:
//   - One Sync for each batch; it has no batches, so that a batch is not atomic.
//     (Sync reaches only the newest of its segments, which hold 4 GiB each.)
//   - Single pairs of several writers go through a group, to share that Sync.
//   - Compaction in the background every ten seconds.
//   - Relaxed: a Sync in the background every second instead.
//
// It maps its files and has no cache of its own.
type pogrebEngine struct {
	db      *pogreb.DB
	relaxed bool
	mu      sync.Mutex // held from reading a set to writing it
	group
}

func openPogreb(dir string, relaxed bool) (engine, error) {
	pogreb.SetLogger(log.New(io.Discard, "", 0))
	options := &pogreb.Options{BackgroundCompactionInterval: 10 * time.Second}
	if relaxed {
		options.BackgroundSyncInterval = time.Second
	}
	db, err := pogreb.Open(dir, options)
	if err != nil {
		return nil, err
	}
	e := &pogrebEngine{db: db, relaxed: relaxed}
	e.write = e.insertBatch
	return e, nil
}

func (e *pogrebEngine) insertBatch(pairs []pair) error { return e.change(pairs, union) }
func (e *pogrebEngine) remove(pairs []pair) error      { return e.change(pairs, difference) }

// change replaces the set of each key by what op makes from it and the key's pairs.
func (e *pogrebEngine) change(pairs []pair, op func(set []byte, pairs []pair) []byte) error {
	pairs = sorted(pairs)
	e.mu.Lock()
	defer e.mu.Unlock()
	for len(pairs) > 0 {
		key, n := pairs[0].key, 1
		for n < len(pairs) && pairs[n].key == key {
			n++
		}
		old, err := e.db.Get(key[:])
		if err != nil {
			return err
		}
		switch set := op(old, pairs[:n]); {
		case len(set) == len(old): // nothing is new, or nothing was removed
		case len(set) == 0:
			err = e.db.Delete(key[:])
		default:
			err = e.db.Put(key[:], set)
		}
		if err != nil {
			return err
		}
		pairs = pairs[n:]
	}
	return e.sync()
}

// union merges sorted pairs into a sorted set.
func union(set []byte, pairs []pair) []byte {
	out := make([]byte, 0, len(set)+16*len(pairs))
	for _, p := range slices.Compact(slices.Clone(pairs)) {
		below, has := split(set, p.value)
		out = append(append(out, set[:below]...), p.value[:]...)
		if has {
			below += 16
		}
		set = set[below:]
	}
	return append(out, set...)
}

// difference removes sorted pairs from a sorted set.
func difference(set []byte, pairs []pair) []byte {
	out := make([]byte, 0, len(set))
	for _, p := range pairs {
		below, has := split(set, p.value)
		out = append(out, set[:below]...)
		if has {
			below += 16
		}
		set = set[below:]
	}
	return append(out, set...)
}

// split returns how many bytes of a sorted set are values less than v, and
// whether v is the next.
func split(set []byte, v [16]byte) (below int, has bool) {
	n, has := sort.Find(len(set)/16, func(i int) int { return bytes.Compare(v[:], set[16*i:][:16]) })
	return 16 * n, has
}

func (e *pogrebEngine) removeKey(key [16]byte) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.db.Delete(key[:]); err != nil {
		return err
	}
	return e.sync()
}

func (e *pogrebEngine) sync() error {
	if e.relaxed {
		return nil
	}
	return e.db.Sync()
}

func (e *pogrebEngine) tidy() error {
	_, err := e.db.Compact()
	return err
}

func (e *pogrebEngine) newReader() (reader, error) { return readerOf(e.lookup) }
func (e *pogrebEngine) close() error               { return errors.Join(e.db.Sync(), e.db.Close()) }

func (e *pogrebEngine) lookup(key [16]byte, dst [][16]byte) ([][16]byte, error) {
	set, err := e.db.Get(key[:])
	if err != nil {
		return dst, err
	}
	if len(set)%16 != 0 {
		return dst, errors.New("pogreb: a set is not a multiple of 16 bytes long")
	}
	for v := range slices.Chunk(set, 16) {
		dst = append(dst, [16]byte(v))
	}
	return dst, nil
}
