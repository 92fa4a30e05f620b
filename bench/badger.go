package main

import (
	"errors"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

// Badger holds key||value, without a value. Its settings:
//   - SyncWrites, which is off by default: without it nothing is durable. Relaxed: its default.
//   - No conflict detection: pairs do not depend on each other.
//   - No compression, since the data is random, and then no block cache, as its
//     documentation says; all indexes and Bloom filters in memory.
//   - Five memtables of 64 MiB, its default.
//
// A batch is one transaction.
type badgerEngine struct{ db *badger.DB }

func openBadger(dir string, relaxed bool) (engine, error) {
	db, err := badger.Open(badger.DefaultOptions(dir).WithSyncWrites(!relaxed).WithDetectConflicts(false).
		WithCompression(options.None).WithBlockCacheSize(0).WithIndexCacheSize(0).
		WithMemTableSize(memory / 16).WithNumMemtables(5).WithMetricsEnabled(false).WithLogger(nil))
	if err != nil {
		return nil, err
	}
	return &badgerEngine{db}, nil
}

func (e *badgerEngine) insert(pairs []pair) error {
	return e.apply(pairs, func(txn *badger.Txn, k []byte) error { return txn.SetEntry(&badger.Entry{Key: k}) })
}

func (e *badgerEngine) remove(pairs []pair) error { return e.apply(pairs, (*badger.Txn).Delete) }

func (e *badgerEngine) apply(pairs []pair, op func(*badger.Txn, []byte) error) error {
	txn := e.db.NewTransaction(true)
	defer txn.Discard()
	all := make([]byte, 0, 32*len(pairs)) // Badger keeps the keys until the commit
	for _, p := range pairs {
		all = composite(all, p)
		if err := op(txn, all[len(all)-32:len(all):len(all)]); err != nil {
			return err
		}
	}
	return txn.Commit()
}

// removeKey deletes value by value, because Badger's DropPrefix stops all writes.
// If there are more values than a transaction can hold, they are not deleted
// atomically.
func (e *badgerEngine) removeKey(key [16]byte) error {
	values, err := e.lookup(key, nil)
	if err != nil {
		return err
	}
	batch := e.db.NewWriteBatch()
	defer batch.Cancel()
	for _, v := range values {
		if err := batch.Delete(composite(nil, pair{key, v})); err != nil {
			return err
		}
	}
	return batch.Flush()
}

func (e *badgerEngine) tidy() error {
	if err := e.db.Flatten(2); err != nil {
		return err
	}
	for {
		err := e.db.RunValueLogGC(.5) // the ratio that Badger recommends
		if errors.Is(err, badger.ErrNoRewrite) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (e *badgerEngine) newReader() (reader, error) { return readerOf(e.lookup) }
func (e *badgerEngine) close() error               { return e.db.Close() }

func (e *badgerEngine) lookup(key [16]byte, dst [][16]byte) ([][16]byte, error) {
	txn := e.db.NewTransaction(false)
	defer txn.Discard()
	it := txn.NewIterator(badger.IteratorOptions{Prefix: key[:]})
	defer it.Close()
	for it.Seek(key[:]); it.Valid(); it.Next() {
		k := it.Item().Key()
		if len(k) != 32 {
			return dst, errors.New("badger: a key is not 32 bytes long")
		}
		dst = append(dst, [16]byte(k[16:]))
	}
	return dst, nil
}
