package directory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/vfs"
)

func must(t rapid.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// world is a file with a directory, on storage in memory.
type world struct {
	t    rapid.TB
	fs   *crashfs.FS
	raw  vfs.File
	file *hdf5io.File
}

func newWorld(t rapid.TB, d *Directory) (*world, *Directory) {
	w := &world{t: t, fs: crashfs.New(crashfs.Options{FileLimit: 8 << 20})}
	w.openFile(vfs.Create)
	var err error
	w.file, err = hdf5io.Create(w.raw, hdf5io.Options{GrowStep: 1 << 16}, nil, func(tx *hdf5io.Tx) error {
		if err := tx.CreateGroup(configPath); err != nil {
			return err
		}
		e := d.Edit()
		if err := e.Store(tx); err != nil {
			return err
		}
		d = e.Done()
		return nil
	})
	must(t, err)
	return w, d
}

func (w *world) openFile(flag int) {
	raw, err := w.fs.OpenFile("f", vfs.ReadWrite|flag, 0o600)
	must(w.t, err)
	w.raw = raw
}

func (w *world) reopen() {
	must(w.t, w.file.Close())
	w.openFile(0)
	var err error
	w.file, _, err = hdf5io.Open(w.raw, hdf5io.Options{})
	must(w.t, err)
}

func (w *world) close() {
	_, err := w.file.View().Check(context.Background(), func(err error) { w.t.Fatal(err) })
	must(w.t, err)
	must(w.t, w.file.Close())
}

// store commits an edited version and returns it.
func (w *world) store(e *Editor) *Directory {
	tx, err := w.file.Begin()
	must(w.t, err)
	must(w.t, e.Store(tx))
	_, err = tx.Commit(nil)
	must(w.t, err)
	return e.Done()
}

// load reads the stored directory and compares it with d.
func (w *world) load(d *Directory, buckets uint64, limits Limits) *Directory {
	w.t.Helper()
	got, err := Load(w.file.View(), d.Depth(), buckets, limits)
	must(w.t, err)
	if got.Mode() != d.Mode() {
		w.t.Fatalf("loaded as %q, want %q", got.Mode(), d.Mode())
	}
	for i := range d.Len() {
		if got.At(i) != d.At(i) {
			w.t.Fatalf("pointer %d of %d: %v, want %v", i, d.Len(), got.At(i), d.At(i))
		}
	}
	return got
}

var small = Limits{Attribute: 4, Dataset: 16, Shard: 5}

// bucketModel is one bucket of the model: the hashes that share depth bits with prefix.
type bucketModel struct {
	prefix uint64
	depth  uint8
	p      Pointer
}

func (b bucketModel) has(hash uint64) bool { return (hash^b.prefix)>>(64-b.depth) == 0 }

// compare compares a directory with a list of buckets in the order of hashes.
func compare(t rapid.TB, d *Directory, model []bucketModel, hashes []uint64) {
	t.Helper()
	for _, hash := range hashes {
		i := slices.IndexFunc(model, func(b bucketModel) bool { return b.has(hash) })
		if got := d.Bucket(hash); got != model[i].p.Bucket {
			t.Fatalf("hash %#x: bucket %d, want %d", hash, got, model[i].p.Bucket)
		}
		if r := d.Run(hash); r != (Run{model[i].prefix, model[i].depth, model[i].p}) {
			t.Fatalf("run of %#x: %+v, want %+v", hash, r, model[i])
		}
	}
	var got []bucketModel
	for r := range d.All() {
		got = append(got, bucketModel{r.Prefix, r.Depth, r.Pointer})
	}
	if !slices.Equal(got, model) {
		t.Fatalf("runs %v, want %v", got, model)
	}
}

// TestDirectoryLaw: splits, merges and halvings in any order, stored and loaded
// in all three forms, equal a list of buckets.
func TestDirectoryLaw(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		d := New(1, small)
		model := []bucketModel{{p: Pointer{0, 1}}}
		w, d := newWorld(rt, d)
		next := uint32(1)
		hashes := rapid.SliceOfN(rapid.Uint64(), 4, 20).Draw(rt, "hashes")
		for commit := uint64(2); commit < 6; commit++ {
			before := d
			was := slices.Clone(model)
			e := d.Edit()
			for range rapid.IntRange(0, 25).Draw(rt, "edits") {
				i := rapid.IntRange(0, len(model)-1).Draw(rt, "bucket")
				b := model[i]
				switch {
				case rapid.IntRange(0, 3).Draw(rt, "kind") > 0 && b.depth < 7:
					right := bucketModel{b.prefix | 1<<(63-b.depth), b.depth + 1, Pointer{next, hdf5io.Commit(commit)}}
					next++
					depth := e.Depth()
					if doubled := e.Split(b.prefix, b.depth, right.p); doubled != (int(b.depth) == depth) || doubled != (e.Depth() > depth) {
						rt.Fatalf("split of depth %d: doubled %v, from %d to %d", b.depth, doubled, depth, e.Depth())
					}
					model[i].depth++
					model = slices.Insert(model, i+1, right)
				case i+1 < len(model) && b.depth > 0 && model[i+1].depth == b.depth && b.prefix>>(64-b.depth)&1 == 0:
					e.Merge(b.prefix, b.depth-1, b.p)
					model[i].depth--
					model = slices.Delete(model, i+1, i+2)
				default:
					deepest := slices.MaxFunc(model, func(a, b bucketModel) int { return int(a.depth) - int(b.depth) })
					depth := e.Depth()
					if halved := e.Halve(); halved != (int(deepest.depth) < depth) || halved != (e.Depth() < depth) {
						rt.Fatalf("halved %v from depth %d to %d, deepest bucket %d", halved, depth, e.Depth(), deepest.depth)
					}
				}
				for _, hash := range hashes {
					k := slices.IndexFunc(model, func(b bucketModel) bool { return b.has(hash) })
					if e.Find(hash) != model[k].p {
						rt.Fatalf("editor: hash %#x: %v, want %v", hash, e.Find(hash), model[k].p)
					}
				}
			}
			if rapid.IntRange(0, 5).Draw(rt, "abort") == 0 { // the edited version is dropped: the one before is still good
				tx, err := w.file.Begin()
				must(rt, err)
				must(rt, e.Store(tx))
				tx.Abort()
				model = was
				compare(rt, before, model, hashes)
				continue
			}
			d = w.store(e)
			compare(rt, before, was, hashes)
			compare(rt, d, model, hashes)
			if want := small.complete().mode(uint64(d.Len())); d.Mode() != want {
				rt.Fatalf("%d pointers as %q, want %q", d.Len(), d.Mode(), want)
			}
			if rapid.Bool().Draw(rt, "reopen") {
				w.reopen()
				d = w.load(d, uint64(next), small)
			} else {
				w.load(d, uint64(next), small)
			}
		}
		w.close()
	})
}

// grown is a directory of 2^depth pointers, each to another bucket.
func grown(depth int, limits Limits) *Directory {
	e := New(1, limits).Edit()
	next := uint32(1)
	for d := range depth {
		for i := range uint64(1) << d {
			e.Split(i<<1<<(63-d), uint8(d), Pointer{next, hdf5io.Commit(d)})
			next++
		}
	}
	return e.Done()
}

// TestForms: the forms of the default limits, and what a change rewrites.
func TestForms(t *testing.T) {
	for depth, want := range map[int]Mode{0: Attribute, 9: Attribute, 10: Dataset, 13: Dataset} {
		d := grown(depth, Limits{})
		if d.Mode() != want {
			t.Errorf("depth %d: %q, want %q", depth, d.Mode(), want)
		}
		w, d := newWorld(t, d)
		w.reopen()
		d = w.load(d, uint64(d.Len()), Limits{})
		for _, changed := range []int{0, 1} {
			tx, err := w.file.Begin()
			must(t, err)
			e := d.Edit()
			if changed > 0 {
				e.set(uint64(d.Len()-1), 1, Pointer{uint32(d.Len()), 9})
			}
			must(t, e.Store(tx))
			if got, limit := tx.Placed(), int64(changed*chunkPointers*pointerSize+128); want != Attribute && got > limit {
				t.Errorf("depth %d: %d pointers changed, %d bytes placed", depth, changed, got)
			}
			tx.Abort()
		}
		w.close()
	}
}

// TestMigration: a directory that was stored under other limits changes to the form
// that the present ones ask for, with a Store that changes nothing else. A second
// Store has nothing to do.
func TestMigration(t *testing.T) {
	limits := []Limits{small, {Attribute: 64, Dataset: 64, Shard: 64}, {Attribute: 1, Dataset: 64, Shard: 7}, {Attribute: 1, Dataset: 2, Shard: 8}}
	for i, from := range limits {
		for j, to := range limits {
			t.Run(fmt.Sprint(i, "to", j), func(t *testing.T) {
				w, d := newWorld(t, grown(5, from))
				w.reopen()
				moved, err := Load(w.file.View(), 5, 32, to)
				must(t, err)
				if moved.Mode() != d.Mode() {
					t.Fatalf("loaded as %q, want %q", moved.Mode(), d.Mode())
				}
				moved = w.store(moved.Edit())
				w.reopen()
				w.load(moved, 32, to)
				if want := to.complete().mode(32); moved.Mode() != want {
					t.Fatalf("moved to %q, want %q", moved.Mode(), want)
				}
				tx, err := w.file.Begin()
				must(t, err)
				must(t, moved.Edit().Store(tx))
				if tx.Placed() != 0 {
					t.Errorf("%d bytes placed by a Store of nothing", tx.Placed())
				}
				tx.Abort()
				w.close()
			})
		}
	}
}

// TestHalveToOnePointer: the pointers that are left are the first of those that the
// file has.
func TestHalveToOnePointer(t *testing.T) {
	for _, limits := range []Limits{{}, {Attribute: 1, Dataset: 8, Shard: 1}, small} {
		w, d := newWorld(t, grown(3, limits))
		for depth := 2; depth >= 0; depth-- {
			e := d.Edit()
			for i := range uint64(1) << depth {
				e.Merge(i<<1<<(63-depth), uint8(depth), e.Find(i<<1<<(63-depth)))
			}
			if !e.Halve() || e.Depth() != depth {
				t.Fatalf("depth %d, want %d", e.Depth(), depth)
			}
			d = w.store(e)
			w.reopen()
			d = w.load(d, 8, limits)
		}
		w.close()
	}
}

// TestEditorRefuses: what only a damaged file can ask for changes nothing, and
// makes Store fail.
func TestEditorRefuses(t *testing.T) {
	for name, edit := range map[string]func(e *Editor){
		"split of a wrong depth": func(e *Editor) { e.Split(0, 1, Pointer{9, 9}) },
		"split too deep":         func(e *Editor) { e.Split(0, 200, Pointer{9, 9}) },
		"merge of one run":       func(e *Editor) { e.Merge(0, 2, Pointer{9, 9}) },
		"merge too deep":         func(e *Editor) { e.Merge(0, 64, Pointer{9, 9}) },
	} {
		d := grown(2, small)
		w, d := newWorld(t, d)
		e := d.Edit()
		edit(e)
		tx, err := w.file.Begin()
		must(t, err)
		if err := e.Store(tx); !errors.Is(err, corrupt.Err) {
			t.Errorf("%s: %v", name, err)
		}
		tx.Abort()
		for i := range d.Len() {
			if e.Done().At(i) != d.At(i) {
				t.Errorf("%s: pointer %d changed", name, i)
			}
		}
		w.close()
	}
}

func TestBucketDoesNotAllocate(t *testing.T) {
	d := grown(12, Limits{})
	if n := testing.AllocsPerRun(100, func() { d.Bucket(0x123456789abcdef0) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
