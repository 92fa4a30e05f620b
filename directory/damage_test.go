package directory

import (
	"errors"
	"testing"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/corrupt"
)

// pointersOf makes the pages of a list of buckets.
func pointersOf(ids ...uint32) []page {
	p := newPage(uint64(len(ids)))
	copy(p.buckets, ids)
	return []page{p}
}

func TestRuns(t *testing.T) {
	for name, c := range map[string]struct {
		ids     []uint32
		buckets uint64
		sound   bool
	}{
		"one":           {[]uint32{0}, 1, true},
		"two":           {[]uint32{0, 1}, 2, true},
		"uneven":        {[]uint32{0, 0, 1, 2}, 3, true},
		"far id":        {[]uint32{0, 0, 1, 1 << 31}, 1 << 32, true},
		"id too large":  {[]uint32{0, 3}, 3, false},
		"run of three":  {[]uint32{0, 0, 0, 1}, 2, false},
		"not aligned":   {[]uint32{0, 1, 1, 2}, 3, false},
		"two runs":      {[]uint32{0, 1, 0, 2}, 3, false},
		"two far runs":  {[]uint32{1 << 31, 1, 1 << 31, 2}, 1 << 32, false},
		"two refs":      {[]uint32{0, 0}, 0, false},
		"no bucket yet": {[]uint32{0}, 0, false},
	} {
		err := checkRuns(pointersOf(c.ids...), uint64(len(c.ids)), c.buckets)
		if (err == nil) != c.sound || err != nil && !errors.Is(err, corrupt.Err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	differ := []page{{[]uint32{0, 0}, []hdf5io.Commit{1, 2}}} // one bucket, two refs: two runs
	if err := checkRuns(differ, 2, 1); !errors.Is(err, corrupt.Err) {
		t.Errorf("two refs: %v", err)
	}
}

// TestLoadRefuses forms that are missing, there twice, or of another length.
func TestLoadRefuses(t *testing.T) {
	for name, damage := range map[string]func(tx *hdf5io.Tx) error{
		"gone":      func(tx *hdf5io.Tx) error { return tx.Remove(path) },
		"two forms": func(tx *hdf5io.Tx) error { return tx.SetAttribute(configPath, pointers(16)) },
		"attribute too short": func(tx *hdf5io.Tx) error {
			return errors.Join(tx.Remove(path), tx.SetAttribute(configPath, pointers(8)))
		},
		"attribute too long": func(tx *hdf5io.Tx) error {
			return errors.Join(tx.Remove(path), tx.SetAttribute(configPath, pointers(32)))
		},
		"attribute of another type": func(tx *hdf5io.Tx) error {
			a := hdf5io.Attribute{Name: attributeName, Type: hdf5io.Uint(4), Dims: []uint64{48}, Data: make([]byte, 192)}
			return errors.Join(tx.Remove(path), tx.SetAttribute(configPath, a))
		},
		"missing chunk": func(tx *hdf5io.Tx) error {
			d, err := tx.Dataset(path)
			if err == nil {
				d.Delete(1)
			}
			return err
		},
		"too short": func(tx *hdf5io.Tx) error { return resize(tx, path, 15) },
		"too long":  func(tx *hdf5io.Tx) error { return resize(tx, path, 17) },
		"empty":     func(tx *hdf5io.Tx) error { return resize(tx, path, 0) },
		"huge":      func(tx *hdf5io.Tx) error { return resize(tx, path, 1<<40) },
	} {
		t.Run(name, func(t *testing.T) { loadDamaged(t, grown(4, small), 4, damage) })
	}
	for name, damage := range map[string]func(tx *hdf5io.Tx) error{
		"empty group":    func(tx *hdf5io.Tx) error { return errors.Join(tx.Remove(path), tx.CreateGroup(path)) },
		"first shard":    func(tx *hdf5io.Tx) error { return tx.Remove(path + "/shard_00000") },
		"last shard":     func(tx *hdf5io.Tx) error { return tx.Remove(path + "/shard_00006") },
		"one shard more": func(tx *hdf5io.Tx) error { return tx.CreateGroup(path + "/shard_00007") },
		"shorter shard":  func(tx *hdf5io.Tx) error { return resize(tx, path+"/shard_00003", 4) },
		"longer shard":   func(tx *hdf5io.Tx) error { return resize(tx, path+"/shard_00003", 6) },
		"short last one": func(tx *hdf5io.Tx) error { return resize(tx, path+"/shard_00006", 1) },
	} {
		t.Run(name, func(t *testing.T) { loadDamaged(t, grown(5, small), 5, damage) })
	}
	w, d := newWorld(t, grown(4, small))
	defer w.close()
	for _, depth := range []int{-1, 0, 3, 5, 31, MaxDepth, MaxDepth + 1, 1 << 30} {
		if _, err := Load(w.file.View(), depth, 16, small); !errors.Is(err, corrupt.Err) {
			t.Errorf("depth %d: %v", depth, err)
		}
	}
	if _, err := Load(w.file.View(), d.Depth(), 15, small); !errors.Is(err, corrupt.Err) {
		t.Errorf("bucket 15 of 15: %v", err)
	}
}

func loadDamaged(t *testing.T, d *Directory, depth int, damage func(tx *hdf5io.Tx) error) {
	w, _ := newWorld(t, d)
	defer w.close()
	tx, err := w.file.Begin()
	must(t, err)
	must(t, damage(tx))
	_, err = tx.Commit(nil)
	must(t, err)
	if got, err := Load(w.file.View(), depth, 1<<depth, small); err == nil {
		t.Fatalf("loaded as %q of %d", got.Mode(), got.Len())
	}
}

func pointers(n int) hdf5io.Attribute {
	return hdf5io.Attribute{Name: attributeName, Type: pointerType(), Dims: []uint64{uint64(n)}, Data: make([]byte, n*pointerSize)}
}

func resize(tx *hdf5io.Tx, path string, n uint64) error {
	d, err := tx.Dataset(path)
	if err != nil {
		return err
	}
	return d.Resize(n)
}

// TestFlipEveryBit flips each bit of the stored chunks of a directory that is a
// dataset.
func TestFlipEveryBit(t *testing.T) {
	w, d := newWorld(t, grown(4, small))
	defer w.close()
	for k := range uint64(4) { // shards of 5 make chunks of 5
		data, err := w.file.View().Dataset(path)
		must(t, err)
		c, found, err := data.Find(k)
		must(t, err)
		if !found {
			t.Fatalf("no chunk %d", k)
		}
		b := make([]byte, c.Size)
		_, err = w.raw.ReadAt(b, int64(c.Address))
		must(t, err)
		for bit := range 8 * len(b) {
			b[bit/8] ^= 1 << (bit % 8)
			must(t, w.raw.WriteAt(b, int64(c.Address)))
			if _, err := Load(w.file.View(), d.Depth(), 16, small); !errors.Is(err, corrupt.Err) {
				t.Fatalf("chunk %d, bit %d: %v", k, bit, err)
			}
			b[bit/8] ^= 1 << (bit % 8)
		}
		must(t, w.raw.WriteAt(b, int64(c.Address)))
	}
	w.load(d, 16, small)
}

func FuzzDirectory(f *testing.F) {
	f.Add(appendPointers(nil, pointersOf(0, 0, 1, 2), 0, 4), uint64(3))
	f.Add(appendPointers(nil, pointersOf(0), 0, 1), uint64(1))
	f.Fuzz(func(t *testing.T, b []byte, buckets uint64) {
		n := uint64(len(b) / pointerSize)
		if n == 0 || n&(n-1) != 0 || n > 1<<16 {
			return
		}
		l := loader{want: n}
		l.add(b[:n*pointerSize])
		if l.got != n || string(appendPointers(nil, l.pages, 0, n)) != string(b[:n*pointerSize]) {
			t.Fatal("another encoding")
		}
		if err := checkRuns(l.pages, n, buckets); err != nil {
			if !errors.Is(err, corrupt.Err) {
				t.Fatal(err)
			}
			return
		}
		depth := 0
		for uint64(1)<<depth < n {
			depth++
		}
		d := newDirectory(depth, l.pages, stored{}, Limits{}.complete())
		at := uint64(0) // the runs cover the pointers, each with its own
		for r := range d.All() {
			for range uint64(1) << (depth - int(r.Depth)) {
				if d.At(int(at)) != r.Pointer || uint64(r.Pointer.Bucket) >= buckets {
					t.Fatalf("pointer %d: %v, run %v", at, d.At(int(at)), r)
				}
				at++
			}
		}
		if at != n {
			t.Fatalf("runs of %d pointers, want %d", at, n)
		}
	})
}
