package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"
)

// bbolt holds key||value, without a value, in one bucket. Its settings:
//   - FreelistType map, no sync of the free list and a large first mapping, as etcd
//     runs it. (The mapping is smaller on 32-bit machines.)
//   - Batches are sorted, which saves walks down the tree.
//   - Single pairs of several writers go through a group. bbolt's own db.Batch does
//     the same but waits a fixed time for more of them.
//   - Relaxed: NoSync.
//
// It maps its file and has no cache of its own.
type boltEngine struct {
	db *bbolt.DB
	group
}

var boltBucket = []byte("pairs")

// boltCompactTx is how many bytes of pairs tidy writes in one transaction. Smaller ones
// leave more free pages in the new file.
const boltCompactTx = 64 << 20

func openBolt(dir string, relaxed bool) (engine, error) {
	db, err := openBoltFile(filepath.Join(dir, "bolt.db"), relaxed)
	if err != nil {
		return nil, err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(boltBucket)
		return err
	})
	if err != nil {
		return nil, err
	}
	e := &boltEngine{db: db}
	e.write = e.insertBatch
	return e, nil
}

func openBoltFile(path string, relaxed bool) (*bbolt.DB, error) {
	return bbolt.Open(path, 0o644, &bbolt.Options{
		FreelistType: bbolt.FreelistMapType, NoFreelistSync: true,
		InitialMmapSize: min(10<<30, 1<<(^uint(0)>>63*4+30)), NoStatistics: true, NoSync: relaxed,
	})
}

func (e *boltEngine) insertBatch(pairs []pair) error {
	return e.apply(pairs, func(b *bbolt.Bucket, k []byte) error { return b.Put(k, nil) })
}

func (e *boltEngine) remove(pairs []pair) error {
	return e.apply(pairs, (*bbolt.Bucket).Delete)
}

func (e *boltEngine) apply(pairs []pair, op func(*bbolt.Bucket, []byte) error) error {
	pairs = sorted(pairs)
	return e.db.Update(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket(boltBucket)
		var k [32]byte
		for _, p := range pairs {
			if err := op(bucket, composite(k[:0], p)); err != nil {
				return err
			}
		}
		return nil
	})
}

func (e *boltEngine) removeKey(key [16]byte) error {
	return e.db.Update(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket(boltBucket)
		var all [][]byte // collected first, because a cursor skips keys when it deletes
		c := bucket.Cursor()
		for k, _ := c.Seek(key[:]); bytes.HasPrefix(k, key[:]); k, _ = c.Next() {
			all = append(all, bytes.Clone(k))
		}
		for _, k := range all {
			if err := bucket.Delete(k); err != nil {
				return err
			}
		}
		return nil
	})
}

// tidy writes all pairs to a new file and renames that over the old one, as bbolt's
// command compact and a defragmentation of etcd do.
func (e *boltEngine) tidy() error {
	path := e.db.Path()
	compact, err := bbolt.Open(path+".compact", 0o644, &bbolt.Options{FreelistType: bbolt.FreelistMapType, NoFreelistSync: true})
	if err != nil {
		return err
	}
	err = bbolt.Compact(compact, e.db, boltCompactTx)
	if err = errors.Join(err, compact.Close()); err != nil {
		return err
	}
	if err = errors.Join(e.db.Close(), os.Rename(path+".compact", path)); err != nil {
		return err
	}
	e.db, err = openBoltFile(path, e.db.NoSync)
	return err
}

func (e *boltEngine) newReader() (reader, error) { return readerOf(e.lookup) }
func (e *boltEngine) close() error               { return errors.Join(e.db.Sync(), e.db.Close()) }

func (e *boltEngine) lookup(key [16]byte, dst [][16]byte) ([][16]byte, error) {
	tx, err := e.db.Begin(false)
	if err != nil {
		return dst, err
	}
	defer tx.Rollback()
	c := tx.Bucket(boltBucket).Cursor()
	for k, _ := c.Seek(key[:]); bytes.HasPrefix(k, key[:]); k, _ = c.Next() {
		dst = append(dst, [16]byte(k[16:]))
	}
	return dst, nil
}
