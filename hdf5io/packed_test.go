package hdf5io

import (
	"bytes"
	"errors"
	"testing"

	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/vfs"
)

// plainFile is an empty file with Options.Plain.
func plainFile(t *testing.T) (*File, vfs.File) {
	t.Helper()
	raw, err := crashfs.New(crashfs.Options{}).OpenFile(testName, vfs.ReadWrite|vfs.Create, 0o600)
	must(t, err)
	f, err := Create(raw, Options{Plain: true, UUID: testUUID}, nil, func(*Tx) error { return nil })
	must(t, err)
	return f, raw
}

// TestPlainFilesAndStores: neither is opened as the other.
func TestPlainFilesAndStores(t *testing.T) {
	f, raw := plainFile(t)
	f.Close()
	if _, _, err := Open(raw, Options{}); !errors.Is(err, ErrNotOurs) {
		t.Errorf("a plain file as a store: %v", err)
	}
	if f, _, err := Open(raw, Options{Plain: true}); err != nil {
		t.Error(err)
	} else {
		f.Close()
	}
	store, raw := createOn(t, crashfs.New(crashfs.Options{}), Options{})
	for what, spec := range map[string]DatasetSpec{
		"packed":         {Type: Uint(1), Dims: []uint64{1}, Chunk: []uint32{1}, Fletcher32: true, Deflate: 1},
		"single element": {Type: Uint(1), Zero: true},
	} {
		tx := begin(t, store)
		if _, err := tx.CreateDataset("/new", spec); err == nil {
			t.Errorf("%s is made in a store", what)
		}
		tx.Abort()
		change(t, store, func(tx *Tx) error {
			store.options.Plain = true // as a forger would
			defer func() { store.options.Plain = false }()
			_, err := tx.CreateDataset("/"+what, spec)
			return err
		})
		if _, err := store.loadRoot(store.View().slot, nil); !errors.Is(err, corrupt.Err) {
			t.Errorf("%s is read in a store: %v", what, err)
		}
		change(t, store, func(tx *Tx) error { return tx.Remove("/" + what) })
	}
	store.Close()
	if _, _, err := Open(raw, Options{Plain: true}); !errors.Is(err, ErrNotOurs) {
		t.Errorf("a store as a plain file: %v", err)
	}
}

// TestPackedChunks: packed chunks are read as they were written, before the commit
// and after it, and also after they were moved; sizes and masks that no filter
// makes are refused.
func TestPackedChunks(t *testing.T) {
	f, _ := plainFile(t)
	defer f.Close()
	spec := DatasetSpec{Type: Uint(4), Dims: []uint64{100}, Chunk: []uint32{10}, Fletcher32: true, Shuffle: true, Deflate: 3}
	short, whole := []byte("packed"), bytes.Repeat([]byte{7}, 40)
	change(t, f, func(tx *Tx) error {
		d, err := tx.CreateDataset("/a", spec)
		must(t, err)
		c, err := d.WritePacked(short, 0, 3)
		must(t, err)
		got := make([]byte, len(short))
		if err := tx.ReadPlaced(got, c.Address); err != nil || !bytes.Equal(got, short) {
			t.Errorf("placed %q: %v", got, err)
		}
		_, err = d.WritePacked(whole, 2, 4)
		for _, bad := range [][]byte{nil, make([]byte, 41)} {
			if _, err := d.WritePacked(bad, 0, 5); err == nil {
				t.Errorf("%d bytes are taken", len(bad))
			}
		}
		return err
	})
	stored := func(coord uint64, want []byte, skipped uint32) {
		t.Helper()
		d := dataset(t, f.View(), "/a")
		c, found, err := d.Find(coord)
		if err != nil || !found || c.Skipped != skipped {
			t.Errorf("chunk %d: %+v, %v, %v", coord, c, found, err)
		}
		if got, err := d.Read(coord); err != nil || !bytes.Equal(got, want) {
			t.Errorf("chunk %d: %q, want %q: %v", coord, got, want, err)
		}
		if p := d.object.dataset; !p.shuffle || p.deflate != 3 {
			t.Errorf("packing %v, %d", p.shuffle, p.deflate)
		}
	}
	change(t, f, func(tx *Tx) error { return tx.MoveFrom(0, "/a") })
	stored(3, short, 0)
	stored(4, whole, 2)
	checkClean(t, f.View())
	tx := begin(t, f)
	d := dataset(t, tx, "/a")
	if got, skipped, err := d.Stored(4); err != nil || skipped != 2 || !bytes.Equal(got, whole) {
		t.Errorf("%q, %d, %v", got, skipped, err)
	}
	if _, err := d.WritePacked(short, 1, 5); err != nil { // shuffle is never left out
		t.Fatal(err)
	}
	if _, err := tx.Commit(nil); err == nil {
		t.Error("a mask that may not be is committed")
	}
	tx.Abort()
}

// TestReplace: a contiguous dataset gets other data in other space, and one that
// never got data is not committed.
func TestReplace(t *testing.T) {
	f, _ := plainFile(t)
	defer f.Close()
	for _, data := range []string{"first", "other"} {
		change(t, f, func(tx *Tx) error {
			if made, err := tx.EnsureGroup("/g"); err != nil || made != (data == "first") {
				t.Errorf("made %v: %v", made, err)
			}
			if data == "first" {
				_, err := tx.CreateDataset("/g/a", DatasetSpec{Type: Uint(1), Dims: []uint64{5}, Later: true})
				must(t, err)
			}
			d := dataset(t, tx, "/g/a")
			if err := d.Replace([]byte("short")[:4]); err == nil {
				t.Error("4 bytes of 5 are taken")
			}
			return d.Replace([]byte(data))
		})
		d := dataset(t, f.View(), "/g/a")
		offset, size := d.Extent()
		if got, err := f.View().Bytes(offset, int(size)); err != nil || string(got) != data {
			t.Errorf("%q, want %q: %v", got, data, err)
		}
		checkClean(t, f.View())
	}
	tx := begin(t, f)
	defer tx.Abort()
	_, err := tx.CreateDataset("/b", DatasetSpec{Type: Uint(1), Dims: []uint64{5}, Later: true})
	must(t, err)
	if _, err := tx.Commit(nil); err == nil {
		t.Error("a dataset without data is committed")
	}
}
