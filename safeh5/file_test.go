package safeh5

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/cidstore/cidstore/hdf5"
	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/internal/oracle"
	"github.com/cidstore/cidstore/vfs"
)

// opened opens a file and closes it when the test ends.
func opened(t *testing.T, path string, o *Options) *File {
	t.Helper()
	f := mustGet(Open(path, o))(t)
	t.Cleanup(func() {
		if err := f.Close(); err != nil && !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
	return f
}

func TestOneWriterAndReaders(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.h5")
	wantErr(t, errOf(Open(path, &Options{ReadOnly: true})), fs.ErrNotExist, "for reading, not there")
	w := opened(t, path, small())
	must(t, stepTo(w, 0, 2))
	wantErr(t, errOf(Open(path, nil)), ErrLocked, "a second writer")
	r := opened(t, path, &Options{ReadOnly: true})
	wantErr(t, r.Update(func(*Tx) error { return nil }), ErrReadOnly, "Update of a reader")
	// The reader keeps its state until it is refreshed, whatever the writer does.
	must(t, stepTo(w, 2, 30))
	wantIs(t, 2, "step")(stepOf(r))
	for _, want := range []bool{true, false} {
		wantIs(t, want, "refresh")(r.Refresh())
		wantIs(t, 30, "step")(stepOf(r))
	}
	wantErr(t, r.Check(context.Background(), func(err error) { t.Error(err) }), nil)
	if err := w.Close(); err != nil { // with a reader that has it open
		t.Fatal(err)
	}
	w = opened(t, path, small())
	must(t, stepTo(w, 30, 31))
}

func TestClosed(t *testing.T) {
	f := opened(t, filepath.Join(t.TempDir(), "a.h5"), nil)
	must(t, f.Close())
	_, refresh := f.Refresh()
	for i, err := range []error{
		f.Close(), f.Update(func(*Tx) error { return nil }), f.View(func(*hdf5.File) error { return nil }), refresh, f.Check(context.Background(), nil),
	} {
		wantErr(t, err, ErrClosed, "call", i)
	}
}

// TestUpdateIsAtomic: an Update that fails or panics leaves nothing.
func TestUpdateIsAtomic(t *testing.T) {
	f := opened(t, filepath.Join(t.TempDir(), "a.h5"), small())
	must(t, stepTo(f, 0, 3))
	stop := errors.New("stop")
	wantErr(t, f.Update(func(tx *Tx) error { return errors.Join(step(tx, 4), stop) }), stop)
	var kept *Tx
	func() {
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
		}()
		_ = f.Update(func(tx *Tx) error {
			kept = tx
			wantErr(t, step(tx, 4), nil)
			panic("stop")
		})
	}()
	wantErr(t, kept.CreateGroup("/late"), errOver, "after the Update")
	// An error of a method that change overlooks is the Update's.
	if err := f.Update(func(tx *Tx) error {
		_ = tx.Delete("/nothing")
		return step(tx, 4)
	}); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	before := f.file.View().Commit()
	wantErr(t, f.Update(func(tx *Tx) error { _, err := tx.Dataset("/grid"); return err }), nil)
	if f.file.View().Commit() != before {
		t.Error("an Update without a change has written something")
	}
	wantIs(t, 3, "step")(stepOf(f))
	must(t, stepTo(f, 3, 5))
	checkWhole(t, f)
}

type (
	hidden struct{ _ int }
	bare   struct{ Text string }
)

// grid does something to /grid.
func grid(do func(*Dataset) error) func(*Tx) error {
	return func(tx *Tx) error {
		d, err := tx.Dataset("/grid")
		if err != nil {
			return err
		}
		return do(d)
	}
}

// creates makes a dataset.
func creates(spec Spec) func(*Tx) error {
	return func(tx *Tx) error { _, err := tx.CreateDataset("/new", spec); return err }
}

// TestMisuse: each mistake is one clear error, and the Update fails.
func TestMisuse(t *testing.T) {
	f := opened(t, filepath.Join(t.TempDir(), "a.h5"), small())
	must(t, stepTo(f, 0, 1))
	for text, change := range map[string]func(*Tx) error{
		`does not begin with /`:  func(tx *Tx) error { return tx.CreateGroup("a") },
		`name ".", which HDF5`:   func(tx *Tx) error { return tx.CreateGroup("/new/./a") },
		`dataset /.: name "."`:   func(tx *Tx) error { _, err := tx.CreateDataset("/.", Spec{Type: 0.0}); return err },
		`/grid is a dataset`:     func(tx *Tx) error { return tx.CreateGroup("/grid/a") },
		`more than 8`:            func(tx *Tx) error { return tx.CreateGroup("/1/2/3/4/5/6/7/8/9") },
		`/log is there already`:  func(tx *Tx) error { _, err := tx.CreateDataset("/log", Spec{Type: 0.0}); return err },
		`has no fixed size`:      creates(Spec{Type: []int{1}}),
		`no Type`:                creates(Spec{}),
		`want hdf5io.String`:     creates(Spec{Type: ""}),
		`enum safeh5.halves is`:  creates(Spec{Type: halves(0)}),
		`is there twice`:         creates(Spec{Type: hdf5io.Enum(hdf5io.Uint(1), hdf5io.EnumMember{Name: "a"}, hdf5io.EnumMember{Name: "b"})}),
		`is no u8`:               creates(Spec{Type: hdf5io.Enum(hdf5io.Uint(1), hdf5io.EnumMember{Name: "a", Value: 256})}),
		`want an integer`:        creates(Spec{Type: hdf5io.Enum(hdf5io.Float32(), hdf5io.EnumMember{Name: "a"})}),
		`enum of 0 names`:        creates(Spec{Type: hdf5io.Enum(hdf5io.Uint(1))}),
		`is not exported`:        creates(Spec{Type: hidden{}}),
		`want its size in bytes`: creates(Spec{Type: bare{}}),
		`5 dimensions`:           creates(Spec{Type: 0.0, Dims: []uint64{1, 1, 1, 1, 1}}),
		`has no chunks`:          creates(Spec{Type: 0.0, Gzip: 1}),
		`give Spec.Chunk`:        creates(Spec{Type: 0.0, Dims: []uint64{1 << 40}}),
		`want 1 to 67108864`:     creates(Spec{Type: 0.0, Dims: []uint64{1 << 24}, Chunk: []uint32{1 << 24}}),
		`which has at most 3`:    creates(Spec{Type: 0.0, Dims: []uint64{2, 2}, MaxDims: []uint64{Unlimited, 3}, Chunk: []uint32{4, 4}}),
		`want 0 to 9`:            creates(Spec{Type: 0.0, Dims: []uint64{1}, Chunk: []uint32{1}, Gzip: 10}),
		`its maximum is 1`:       creates(Spec{Type: 0.0, Dims: []uint64{2}, MaxDims: []uint64{1}}),
		`elements are f32`:       grid(func(d *Dataset) error { return Append(d, []float64{1}) }),
		`want [2] to`: func(tx *Tx) error {
			d, err := tx.Dataset("/log/rows")
			return errors.Join(err, d.Grow(1))
		},
		`want rows of 40`:        grid(func(d *Dataset) error { return Append(d, []float32{1}) }),
		`[6 10] for good`:        grid(func(d *Dataset) error { return d.Grow(7, 10) }),
		`the dataset has [6 10]`: grid(func(d *Dataset) error { return Write(d, []uint64{5, 0}, []uint64{2, 1}, []float32{1, 2}) }),
		`4 bytes for [1 2]`:      grid(func(d *Dataset) error { return Write(d, []uint64{5, 0}, []uint64{1, 2}, []float32{1}) }),
		`want 2`:                 grid(func(d *Dataset) error { return Write(d, []uint64{5}, []uint64{1}, []float32{1}) }),
		`it was deleted`: func(tx *Tx) error {
			d, err := tx.Dataset("/grid")
			return errors.Join(err, tx.Delete("/grid"), Write(d, nil, nil, make([]float32, 60)))
		},
		`at most 10 without NUL`: func(tx *Tx) error {
			d, err := tx.Dataset("/log/rows")
			return errors.Join(err, Append(d, []reading{{Name: "eleven bytes"}}))
		},
		`no value`:                func(tx *Tx) error { return tx.SetAttribute("/", "a", nil) },
		`"a" of /: attribute mes`: func(tx *Tx) error { return tx.SetAttribute("/", "a", make([]float64, 10_000)) },
		`attribute "no" of /grid`: func(tx *Tx) error { return tx.RemoveAttribute("/grid", "no") },
	} {
		err := f.Update(change)
		if err == nil || !strings.Contains(err.Error(), text) || strings.Count(err.Error(), "dataset /new: ") > 1 {
			t.Errorf("%v, want %q", err, text)
		}
	}
	for _, o := range []*Options{{KeepUpdates: -1}, {KeepUpdates: mostKeepUpdates + 1}} {
		if _, err := Open(crashPath, o); err == nil {
			t.Errorf("options %+v", o)
		}
	}
	wantIs(t, 1, "step")(stepOf(f))
	checkWhole(t, f)
}

// TestForeignFiles: what this package did not make, or another program has written to, is refused
// and stays as it is.
func TestForeignFiles(t *testing.T) {
	dir := t.TempDir()
	refused := func(path, what string) {
		t.Helper()
		before := mustGet(os.ReadFile(path))(t)
		for _, readOnly := range []bool{false, true} {
			if _, err := Open(path, &Options{ReadOnly: readOnly}); !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), "package hdf5 reads") {
				t.Errorf("%s, read-only %v: %v", what, readOnly, err)
			}
		}
		if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
			t.Errorf("%s was changed: %v", what, err)
		}
	}
	path := filepath.Join(dir, "a.h5")
	for what, data := range map[string]string{"an empty file": "", "a text": strings.Repeat("text\n", 10_000)} {
		must(t, os.WriteFile(path, []byte(data), 0o600))
		refused(path, what)
	}
	wantErr(t, errOf(Open(dir, nil)), ErrForeign, "a directory")
	store := filepath.Join(dir, "store.h5")
	raw := mustGet(vfs.OS().OpenFile(store, vfs.ReadWrite|vfs.Create, 0o600))(t)
	s := mustGet(hdf5io.Create(raw, hdf5io.Options{}, nil, func(*hdf5io.Tx) error { return nil }))(t)
	must(t, s.Close(), raw.Close())
	refused(store, "a store")

	python := oracle.H5py(t)
	ours := filepath.Join(dir, "ours.h5")
	f := opened(t, ours, small())
	must(t, stepTo(f, 0, 3))
	run := func(program string, args ...string) error {
		_, errout, err := oracle.Run(t, foreignTime, python, append([]string{"-c", "import h5py, sys; " + program}, args...)...)
		if err != nil {
			err = fmt.Errorf("%w: %s", err, errout)
		}
		return err
	}
	if err := run("h5py.File(sys.argv[1], 'r+')", ours); err == nil {
		t.Error("h5py opens for writing what a writer has open")
	}
	must(t, f.Close())
	must(t, run("h5py.File(sys.argv[1], 'w')['x'] = 1; f = h5py.File(sys.argv[2], 'r+'); f['x'] = list(range(1000)); f.close()", path, ours))
	refused(path, "a file of h5py")
	refused(ours, "a file that h5py has written to")
}

// TestViewsWhileUpdating: each View sees one complete step, however many there are beside a
// writer.
func TestViewsWhileUpdating(t *testing.T) {
	f := opened(t, filepath.Join(t.TempDir(), "a.h5"), small())
	var readers sync.WaitGroup
	done := make(chan struct{})
	for range 3 {
		readers.Go(func() {
			for last := 0; ; {
				n, err := stepOf(f)
				if err != nil || n < last {
					t.Errorf("step %d after %d: %v", n, last, err)
					return
				}
				last = n
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	readers.Go(func() {
		for range 5 {
			wantErr(t, f.Check(context.Background(), nil), nil)
		}
	})
	err := stepTo(f, 0, 25)
	close(done)
	readers.Wait()
	must(t, err)
	checkWhole(t, f)
}

// TestSpaceIsUsedAgain: a file in which as much is deleted as made does not grow, and Close
// gives back what lies at its end.
func TestSpaceIsUsedAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.h5")
	f := opened(t, path, small())
	values := make([]float64, 20_000)
	most := int64(0)
	for n := range 40 {
		err := f.Update(func(tx *Tx) error {
			if n > 0 {
				if err := tx.Delete(fmt.Sprintf("/days/%d", n-1)); err != nil {
					return err
				}
			}
			return dataset(tx, fmt.Sprintf("/days/%d", n), Spec{Type: 0.0, Dims: []uint64{20_000}, Chunk: []uint32{1000}}, values)
		})
		must(t, err)
		if n == 10 {
			most = f.file.Space().Size
		}
	}
	if size := f.file.Space().Size; size > most {
		t.Errorf("%d bytes after 40 updates, %d after 10", size, most)
	}
	must(t, f.Update(func(tx *Tx) error { return tx.Delete("/days") }), f.Close())
	if info, err := os.Stat(path); err != nil || info.Size() > 200<<10 {
		t.Errorf("%d bytes after all was deleted: %v", info.Size(), err)
	}
}

// TestManyChunksInMemory: an Update that touches more chunks than it keeps in memory, and
// each of them twice.
func TestManyChunksInMemory(t *testing.T) {
	o := small()
	o.mostOpen = 64 << 10
	f := opened(t, filepath.Join(t.TempDir(), "a.h5"), o)
	const chunks, size = 24, 512 // elements of 8 bytes: 96 KiB
	err := f.Update(func(tx *Tx) error {
		d, err := tx.CreateDataset("/a", Spec{Type: int64(0), Dims: []uint64{chunks * size}, Chunk: []uint32{size}, Shuffle: true, Gzip: 1})
		if err != nil {
			return err
		}
		for round := range int64(2) {
			for i := range uint64(chunks) {
				if err := Write(d, []uint64{i*size + uint64(round)}, []uint64{1}, []int64{int64(i) + round}); err != nil {
					return err
				}
			}
		}
		if tx.open > o.mostOpen {
			t.Errorf("%d bytes in memory", tx.open)
		}
		return nil
	})
	must(t, err)
	err = f.View(func(h *hdf5.File) error {
		root, err := h.Root()
		if err != nil {
			return err
		}
		d, err := root.Dataset("a")
		if err != nil {
			return err
		}
		for i := range uint64(chunks) {
			b, err := d.Read(i*size, 3)
			if err != nil {
				return err
			}
			if v, err := b.Int64s(); err != nil || v[0] != int64(i) || v[1] != int64(i)+1 || v[2] != 0 {
				return fmt.Errorf("chunk %d: %v, %v", i, v, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	checkWhole(t, f)
}

// TestLeftover: a file that a crash has left half made is removed; one that is being made stays.
func TestLeftover(t *testing.T) {
	disk := crashfs.New(crashfs.Options{})
	raw := mustGet(disk.OpenFile(crashPath+newSuffix, vfs.ReadWrite|vfs.Create, 0o600))(t)
	must(t, hdf5io.LockWriter(raw))
	wantErr(t, errOf(Open(crashPath, on(disk))), ErrLocked, "it is being made")
	must(t, raw.Close())
	f := opened(t, crashPath, on(disk))
	wantErr(t, errOf(disk.Stat(crashPath+newSuffix)), fs.ErrNotExist, "the leftover")
	wantErr(t, stepTo(f, 0, 1), nil)
}

// TestLongNames: a file gets any name that the file system takes, although the name under
// which it is made first has a suffix; what a crash left under that name goes. Two names
// that differ only at their ends have two files. A longer name is an error, and leaves
// nothing.
func TestLongNames(t *testing.T) {
	dir := t.TempDir()
	longest := filepath.Join(dir, strings.Repeat("n", 254))
	if raw, err := os.Create(longest); err != nil { // eCryptfs
		t.Skip(err)
	} else if err := errors.Join(raw.Close(), os.Remove(longest)); err != nil {
		t.Fatal(err)
	}
	paths := []string{longest + "a", longest + "b"}
	for _, n := range []int{vfs.LongestName - len(newSuffix), vfs.LongestName - len(newSuffix) + 1, 248, 249} {
		paths = append(paths, filepath.Join(dir, strings.Repeat("x", n)))
	}
	must(t, os.WriteFile(newName(paths[0]), []byte("half"), 0o600))
	for _, path := range paths {
		wantErr(t, stepTo(opened(t, path, small()), 0, 1), nil)
	}
	if _, err := Open(longest+"ab", nil); err == nil || !strings.Contains(err.Error(), longest+"ab") {
		t.Errorf("a name of 256 bytes: %v", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != len(paths) {
		t.Errorf("%d files, want %d: %v", len(entries), len(paths), err)
	}
}

// TestMadeWhereALinkLeads: a new file is made where symbolic links to nothing lead, and the
// link stays. An empty name makes nothing.
func TestMadeWhereALinkLeads(t *testing.T) {
	dir := t.TempDir()
	link, target := filepath.Join(dir, "link.h5"), filepath.Join(dir, "there", "real.h5")
	must(t, os.Mkdir(filepath.Dir(target), 0o700))
	if err := os.Symlink(filepath.Join("there", "real.h5"), link); err != nil {
		t.Skip(err)
	}
	must(t, stepTo(opened(t, link, small()), 0, 1))
	if info, err := os.Lstat(link); err != nil || info.Mode().Type() != fs.ModeSymlink {
		t.Errorf("the link has become %v: %v", info.Mode(), err)
	}
	if info, err := os.Lstat(target); err != nil || !info.Mode().IsRegular() {
		t.Errorf("what it leads to: %v", err)
	}
	t.Chdir(dir)
	if _, err := Open("", nil); err == nil || !strings.Contains(err.Error(), "has no name") {
		t.Error(err)
	}
	wantErr(t, errOf(os.Lstat(newSuffix)), fs.ErrNotExist, "left over")
}

// halves cannot be an enum.
type halves float32

func (halves) H5Enum() []hdf5io.EnumMember { return []hdf5io.EnumMember{{Name: "half", Value: 1}} }

func must(t rapid.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// mustGet returns the value of a call, or ends the test if the call has an error:
// mustGet(os.Stat(path))(t).
func mustGet[T any](v T, err error) func(rapid.TB) T {
	return func(t rapid.TB) T {
		t.Helper()
		must(t, err)
		return v
	}
}

// errOf returns the error of a call.
func errOf[T any](_ T, err error) error { return err }

// wantIs ends the test unless a call returns what is wanted: wantIs(t, 3, "step")(stepOf(f)).
func wantIs[T comparable](t rapid.TB, want T, when ...any) func(T, error) {
	return func(is T, err error) {
		t.Helper()
		if err != nil || is != want {
			t.Fatalf("%v: %v, %v, want %v", when, is, err, want)
		}
	}
}

// mustAt ends a test that has an error, and says when it came.
func mustAt(t rapid.TB, err error, when ...any) {
	t.Helper()
	if err != nil {
		t.Fatalf("%v: %v", when, err)
	}
}

// wantErr fails the test unless an error matches another.
func wantErr(t rapid.TB, err, want error, when ...any) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%v: error %v, want %v", when, err, want)
	}
}
