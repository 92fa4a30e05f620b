package main

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/cidstore/cidstore"
	"github.com/cidstore/cidstore/keys"
)

// CIDStore runs with all its defaults: Durability Sync, 256 MiB for operations that
// are not in the tree yet, a log of up to 256 MiB. Relaxed: Durability Async, which syncs
// the log every 10 ms.
type cidEngine struct{ store *cidstore.Store }

func openCIDStore(dir string, relaxed bool) (engine, error) {
	options := &cidstore.Options{}
	if relaxed {
		options.Durability = cidstore.Async
	}
	store, err := cidstore.Open(filepath.Join(dir, "store.h5"), options)
	if err != nil {
		return nil, err
	}
	return &cidEngine{store}, nil
}

func (e *cidEngine) insert(pairs []pair) error {
	if len(pairs) == 1 {
		return e.store.Insert(keys.FromUUID(pairs[0].key), keys.FromUUID(pairs[0].value))
	}
	var b cidstore.Batch
	for _, p := range pairs {
		b.Insert(keys.FromUUID(p.key), keys.FromUUID(p.value))
	}
	return e.store.Apply(&b)
}

func (e *cidEngine) remove(pairs []pair) error {
	var b cidstore.Batch
	for _, p := range pairs {
		b.DeleteValue(keys.FromUUID(p.key), keys.FromUUID(p.value))
	}
	return e.store.Apply(&b)
}

func (e *cidEngine) removeKey(key [16]byte) error { return e.store.Delete(keys.FromUUID(key)) }

func (e *cidEngine) tidy() error {
	return errors.Join(e.store.Maintain(context.Background()), e.store.Shrink(context.Background()))
}

func (e *cidEngine) close() error { return e.store.Close() }

func (e *cidEngine) newReader() (reader, error) {
	var found []cidstore.E // kept for reuse
	return readerOf(func(key [16]byte, dst [][16]byte) (_ [][16]byte, err error) {
		found, err = e.store.AppendLookup(found[:0], keys.FromUUID(key))
		for _, v := range found {
			dst = append(dst, v.Bytes())
		}
		return dst, err
	})
}
