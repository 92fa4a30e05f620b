package main

import (
	"bytes"
	"runtime/debug"
	"slices"
	"sync"
)

// pair is one value of one key.
type pair struct{ key, value [16]byte }

// engine is a store that maps keys to sets of values. All methods may be called
// by several goroutines, except close.
type engine interface {
	// insert adds the pairs as one batch; a pair that is there already stays as it
	// is. The complete batch is durable when insert returns, unless the engine is
	// relaxed. insert neither keeps nor changes the slice.
	insert(pairs []pair) error
	// remove deletes these pairs. It makes the same promises as insert.
	remove(pairs []pair) error
	// removeKey deletes a key and all its values. It makes the same promises as
	// insert.
	removeKey(key [16]byte) error
	// newReader returns a reader for one goroutine.
	newReader() (reader, error)
	// tidy frees the space of deleted pairs, in the way that the engine's
	// documentation recommends for a store that is not in use. No reader is open
	// during it.
	tidy() error
	// close makes everything durable.
	close() error
}

// reader looks keys up.
type reader struct {
	// lookup appends all values of key to dst, in any order. It sees every batch that was
	// acknowledged before.
	lookup lookup
	close  func() error
}

type lookup func(key [16]byte, dst [][16]byte) ([][16]byte, error)

// readerOf returns a reader that has nothing to close.
func readerOf(by lookup) (reader, error) { return reader{by, func() error { return nil }}, nil }

// peer is an engine that can be chosen by name.
type peer struct {
	name, module string
	// batches reports whether a batch is atomic: after a kill, all of it is there
	// or nothing.
	batches bool
	// open opens the store in dir. A relaxed one does not wait for a sync of each batch:
	// when the power fails it may lose the last ones. Only its close waits.
	open func(dir string, relaxed bool) (engine, error)
}

// peers are all engines, in the order of the table's columns.
var peers = []peer{
	{"cidstore", "github.com/cidstore/cidstore", true, openCIDStore},
	{"pebble", "github.com/cockroachdb/pebble/v2", true, openPebble},
	{"bbolt", "go.etcd.io/bbolt", true, openBolt},
	{"badger", "github.com/dgraph-io/badger/v4", true, openBadger},
	{"pogreb", "github.com/akrylysov/pogreb", false, openPogreb},
	{"sqlite", "modernc.org/sqlite", true, openSQLite},
}

// memory is how many bytes an engine may use for all its caches and memtables.
// Engines that map their files use the page cache instead.
const memory = 1 << 30

func peerNamed(name string) (p peer, known bool) {
	if i := slices.IndexFunc(peers, func(p peer) bool { return p.name == name }); i >= 0 {
		return peers[i], true
	}
	return p, false
}

// version returns the version that this program was built with.
func (p peer) version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			if d.Path == p.module && d.Replace == nil {
				return d.Version
			}
		}
	}
	return "this checkout"
}

// sorted returns a copy in the order of keys, then values. In a B-tree, neighbours
// then share most of their path, and all values of a key are together.
func sorted(pairs []pair) []pair {
	if len(pairs) < 2 {
		return pairs
	}
	out := slices.Clone(pairs)
	slices.SortFunc(out, func(a, b pair) int {
		if c := bytes.Compare(a.key[:], b.key[:]); c != 0 {
			return c
		}
		return bytes.Compare(a.value[:], b.value[:])
	})
	return out
}

// composite appends key and value, which is how engines with ordered keys hold a
// pair, in 32 bytes.
func composite(dst []byte, p pair) []byte { return append(append(dst, p.key[:]...), p.value[:]...) }

// group makes one batch of the single pairs that goroutines insert while another
// batch is being written. It is for engines that have no group commit of their own,
// and costs a single writer almost nothing.
type group struct {
	write  func([]pair) error
	commit sync.Mutex // held while a batch is written; taken before mu
	mu     sync.Mutex // guards next
	next   *waiting   // what the first writer to get commit will write, or nil
}

// waiting is a batch that is still growing; err may be read after done is closed.
type waiting struct {
	pairs []pair
	done  chan struct{}
	err   error
}

// insert inserts a single pair in a group, and a batch by itself.
func (g *group) insert(pairs []pair) error {
	if len(pairs) != 1 {
		return g.write(pairs)
	}
	g.mu.Lock()
	w, leader := g.next, g.next == nil
	if leader {
		w = &waiting{done: make(chan struct{})}
		g.next = w
	}
	w.pairs = append(w.pairs, pairs[0])
	g.mu.Unlock()
	if !leader {
		<-w.done
		return w.err
	}
	g.commit.Lock()
	defer g.commit.Unlock()
	g.mu.Lock()
	g.next = nil
	g.mu.Unlock()
	w.err = g.write(w.pairs)
	close(w.done)
	return w.err
}
