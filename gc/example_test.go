package gc_test

import (
	"context"
	"fmt"
	"log"

	"github.com/cidstore/cidstore/gc"
	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/keys"
	"github.com/cidstore/cidstore/vfs"
)

// Rows are appended and cleared in the transaction that deletes, or collects, what they name.
func ExampleDeletionLog() {
	raw, err := crashfs.New(crashfs.Options{}).OpenFile("log.h5", vfs.ReadWrite|vfs.Create, 0o600)
	if err != nil {
		log.Fatal(err)
	}
	file, err := hdf5io.Create(raw, hdf5io.Options{}, nil, gc.CreateDatasets)
	if err != nil {
		log.Fatal(err)
	}
	defer file.Close()
	rows := uint64(0)
	change := func(do func(l *gc.DeletionLog, tx *hdf5io.Tx) (uint64, error)) {
		tx, err := file.Begin()
		if err != nil {
			log.Fatal(err)
		}
		defer tx.Abort() // does nothing after Commit
		if rows, err = do(gc.Open(file.View(), rows), tx); err != nil {
			log.Fatal(err)
		}
		if _, err := tx.Commit(nil); err != nil {
			log.Fatal(err)
		}
	}
	show := func(i uint64, r gc.Record) bool {
		fmt.Println(i, r.Key.Low, r.Value.Low, r.Timestamp)
		return true
	}

	change(func(l *gc.DeletionLog, tx *hdf5io.Tx) (uint64, error) {
		return l.Append(tx, []gc.Record{
			{Key: keys.FromUint64(1), Value: keys.FromUint64(2), Timestamp: 1.5},
			{Key: keys.FromUint64(3), Value: keys.FromUint64(4), Timestamp: 2},
		})
	})
	fmt.Println(gc.Open(file.View(), rows).Scan(show))
	change(func(l *gc.DeletionLog, tx *hdf5io.Tx) (uint64, error) { return l.Clear(tx, 1) })
	fmt.Println(gc.Open(file.View(), rows).Scan(show))
	// Output:
	// 0 1 2 1.5
	// 1 3 4 2
	// <nil>
	// 0 3 4 2
	// <nil>
}

// The context stops the background.
func ExampleBackground() {
	ctx, stop := context.WithCancel(context.Background())
	need := make(chan struct{}, 1)
	need <- struct{}{}
	b := gc.Background{
		Need:    need,
		Collect: func(context.Context) error { fmt.Println("collects"); stop(); return nil },
		Report:  func(err error) { fmt.Println(err) },
	}
	b.Run(ctx)
	// Output: collects
}
