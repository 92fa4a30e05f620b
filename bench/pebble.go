package main

import (
	"bytes"
	"context"
	"errors"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
)

// Pebble holds key||value, without a value. Its settings:
//   - Split after 16 bytes, Bloom filters of ten bits on every level: a lookup is a
//     prefix, and the filters work only on the key.
//   - A quarter of the memory for memtables, four of them, the rest for the cache.
//   - L0CompactionThreshold, L0StopWritesThreshold and LBaseMaxBytes as CockroachDB
//     sets them; one or two compactions at a time, for two cores.
//   - The newest format. No compression: the data is random.
//
// Commits with pebble.Sync are grouped by Pebble itself. Relaxed: pebble.NoSync.
type pebbleEngine struct {
	db    *pebble.DB
	write *pebble.WriteOptions
}

var pebbleComparer = func() *pebble.Comparer {
	c := *pebble.DefaultComparer
	c.Name = "bench.split16"
	c.Split = func(k []byte) int { return min(len(k), 16) }
	return &c
}()

// pebbleReads are the options of every lookup: filters are used on the last level
// too.
var pebbleReads = &pebble.IterOptions{UseL6Filters: true}

// quiet is a logger that drops all messages; Fatalf still ends the process.
type quiet struct{}

func (quiet) Infof(string, ...any)                   {}
func (quiet) Errorf(string, ...any)                  {}
func (quiet) Fatalf(format string, args ...any)      { pebble.DefaultLogger.Fatalf(format, args...) }
func (quiet) Eventf(context.Context, string, ...any) {}
func (quiet) IsTracingEnabled(context.Context) bool  { return false }

func openPebble(dir string, relaxed bool) (engine, error) {
	cache := pebble.NewCache(memory * 3 / 4)
	defer cache.Unref()
	options := &pebble.Options{
		Cache: cache, Comparer: pebbleComparer, FormatMajorVersion: pebble.FormatNewest,
		MemTableSize: memory / 16, MemTableStopWritesThreshold: 4,
		L0CompactionThreshold: 2, L0StopWritesThreshold: 1000, LBaseMaxBytes: 64 << 20,
		CompactionConcurrencyRange: func() (int, int) { return 1, 2 },
		MaxOpenFiles:               16384, LoggerAndTracer: quiet{},
	}
	for i := range options.Levels {
		options.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		options.Levels[i].FilterType = pebble.TableFilter
	}
	options.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionNone })
	db, err := pebble.Open(dir, options)
	if err != nil {
		return nil, err
	}
	e := &pebbleEngine{db: db, write: pebble.Sync}
	if relaxed {
		e.write = pebble.NoSync
	}
	return e, nil
}

func (e *pebbleEngine) insert(pairs []pair) error {
	return e.apply(pairs, func(b *pebble.Batch, k []byte) error { return b.Set(k, nil, nil) })
}

func (e *pebbleEngine) remove(pairs []pair) error {
	return e.apply(pairs, func(b *pebble.Batch, k []byte) error { return b.Delete(k, nil) })
}

func (e *pebbleEngine) apply(pairs []pair, op func(*pebble.Batch, []byte) error) error {
	b := e.db.NewBatchWithSize(64 + 40*len(pairs))
	defer b.Close()
	var k [32]byte
	for _, p := range pairs {
		if err := op(b, composite(k[:0], p)); err != nil {
			return err
		}
	}
	return b.Commit(e.write)
}

func (e *pebbleEngine) removeKey(key [16]byte) error {
	last := composite(nil, pair{key: key, value: [16]byte(bytes.Repeat([]byte{0xff}, 16))})
	return e.db.DeleteRange(key[:], append(last, 0), e.write) // the end itself is not deleted
}

func (e *pebbleEngine) tidy() error {
	beyond := bytes.Repeat([]byte{0xff}, 33) // all keys are 32 bytes long
	return e.db.Compact(context.Background(), nil, beyond, false)
}

func (e *pebbleEngine) newReader() (reader, error) { return readerOf(e.lookup) }

func (e *pebbleEngine) close() error {
	return errors.Join(e.db.LogData(nil, pebble.Sync), e.db.Close())
}

func (e *pebbleEngine) lookup(key [16]byte, dst [][16]byte) ([][16]byte, error) {
	it, err := e.db.NewIter(pebbleReads)
	if err != nil {
		return dst, err
	}
	for ok := it.SeekPrefixGE(key[:]); ok; ok = it.Next() {
		dst = append(dst, [16]byte(it.Key()[16:]))
	}
	return dst, it.Close()
}
