package bucket

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/keys"
	"github.com/cidstore/cidstore/vfs"
)

// world is a file of buckets, on storage in memory, and how to change it.
type world struct {
	t       testing.TB
	g       Geometry
	uuid    [16]byte
	hasher  keys.Hasher
	raw     vfs.File
	options hdf5io.Options // of reopen
	file    *hdf5io.File
	table   *Table
	rows    uint64
	now     int64
	heads   map[uint32]bool // buckets that a directory would lead to
}

// newWorld makes a file with one empty bucket, 0. Its buckets and its structure
// are checked when the test ends, unless the test has said that it damages them.
func newWorld(t testing.TB, threshold int) *world { return newWorldOf(t, threshold, 4<<20) }

// newWorldOf is newWorld for a file of at most so many bytes.
func newWorldOf(t testing.TB, threshold int, bytes int64) *world {
	w := &world{t: t, g: NewGeometry(threshold), hasher: keys.NewHasher([2]uint64{1, 2}), rows: 1, now: 1_700_000_000_000_000_000}
	w.uuid = [16]byte{0xc1, 0xd5, 15: 0x7e}
	w.heads = map[uint32]bool{0: true}
	raw, err := crashfs.New(crashfs.Options{FileLimit: bytes}).OpenFile("f", vfs.ReadWrite|vfs.Create, 0o600)
	must(t, err)
	w.raw = raw
	w.file, err = hdf5io.Create(raw, hdf5io.Options{UUID: w.uuid, GrowStep: 64 << 10}, nil, func(tx *hdf5io.Tx) error {
		if err := CreateDatasets(tx, w.g); err != nil {
			return err
		}
		base, err := NewTable(nil, w.g, w.uuid, w.hasher, FirstTouch)
		if err != nil {
			return err
		}
		writer, err := NewWriter(tx, base, w.now)
		if err != nil {
			return err
		}
		if err := writer.Rewrite(0, 0, 0, 1, nil, 0, false); err != nil {
			return err
		}
		return writer.Flush(1)
	})
	must(t, err)
	w.table = w.open(FirstTouch)
	t.Cleanup(w.close)
	return w
}

func (w *world) close() {
	if w.file != nil {
		must(w.t, w.file.Close())
		w.file = nil
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) open(verify Verify) *Table {
	w.t.Helper()
	table, err := NewTable(w.file.View(), w.g, w.uuid, w.hasher, verify)
	must(w.t, err)
	return table
}

// reopen forgets every mark.
func (w *world) reopen() {
	w.t.Helper()
	must(w.t, w.file.Close())
	file, _, err := hdf5io.Open(w.raw, w.options)
	must(w.t, err)
	w.file = file
	w.table = w.open(FirstTouch)
}

// change commits one transaction.
func (w *world) change(f func(*Writer)) {
	w.t.Helper()
	tx, err := w.file.Begin()
	must(w.t, err)
	defer tx.Abort()
	writer, err := NewWriter(tx, w.table, w.now)
	must(w.t, err)
	f(writer)
	must(w.t, writer.Flush(w.rows))
	_, err = tx.Commit(nil)
	must(w.t, err)
	w.table = w.open(FirstTouch)
}

// update commits changes to one bucket, which must have room.
func (w *world) update(id uint32, changes ...Item) {
	w.t.Helper()
	w.change(func(writer *Writer) {
		over, err := writer.Update(id, sorted(changes))
		must(w.t, err)
		if over != nil {
			w.t.Fatalf("bucket %d is full", id)
		}
	})
}

func sorted(items []Item) []Item {
	items = slices.Clone(items)
	slices.SortFunc(items, func(a, b Item) int {
		switch {
		case Less(&a, &b):
			return -1
		case Less(&b, &a):
			return 1
		}
		return 0
	})
	return items
}

// verify checks everything, and that no defect is found.
func (w *world) verify() {
	w.t.Helper()
	for id := range w.heads {
		w.table.Check(id, func(err error) { w.t.Helper(); w.t.Errorf("check: %v", err) })
	}
	_, err := w.file.View().Check(context.Background(), func(err error) { w.t.Errorf("check of the file: %v", err) })
	must(w.t, err)
}

// item makes an item with n values; n 5 is a spilled one, n 0 a deletion.
func (w *world) item(key uint64, n int) Item {
	k := keys.FromUint64(key)
	it := Item{Key: k, Hash: w.hasher.Hash(k)}
	switch {
	case n == 0:
		it.Deleted = true
	case n > Inline:
		it.Spilled, it.Set = true, key*10
	default:
		it.Count = uint8(n)
		for i := range n {
			it.Values[i] = keys.E{High: key, Low: uint64(i)}
		}
	}
	return it
}

// items makes n items of 1 to 4 values or spilled, keys from 1 on, ascending.
func (w *world) items(n int) []Item {
	list := make([]Item, n)
	for i := range list {
		list[i] = w.item(uint64(i+1), i%5+1)
	}
	return sorted(list)
}

// same compares all but the version.
func same(a, b Item) bool {
	a.Version, b.Version = 0, 0
	return a == b
}

// wants looks every item up in bucket id, and some keys that are not there.
func (w *world) wants(id uint32, want []Item) {
	w.t.Helper()
	got, err := w.table.Items(nil, id)
	must(w.t, err)
	if !slices.EqualFunc(got, want, same) {
		w.t.Fatalf("bucket %d has %v, want %v", id, got, want)
	}
	for i := range want {
		e, found, err := w.table.Find(id, want[i].Hash, want[i].Key)
		if err != nil || !found || !same(e.Item(want[i].Hash), want[i]) {
			w.t.Fatalf("key %v: %v, %t, %v, want %v", want[i].Key, e, found, err, want[i])
		}
	}
	s, err := w.table.State(id)
	must(w.t, err)
	r := rand.New(rand.NewPCG(1, uint64(id)))
	for n := 0; n < 20; {
		k := keys.E{High: 1 << 63, Low: r.Uint64()}
		if h := w.hasher.Hash(k); s.Covers(h) {
			n++
			if _, found, err := w.table.Find(id, h, k); found || err != nil {
				w.t.Fatalf("absent key %v: %t, %v", k, found, err)
			}
		}
	}
}

func (it Item) String() string {
	return fmt.Sprintf("{%x %v: %v set %d spilled %t deleted %t v%d}", it.Hash, it.Key, it.Values[:it.Count], it.Set, it.Spilled, it.Deleted, it.Version)
}
