package cidstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/cidstore/cidstore/vfs"
)

// opened has the files of the stores that tests have opened, unchecked those that are not
// checked, and why.
var opened, unchecked sync.Map // by openedFile

type openedFile struct {
	test testing.TB
	path string
	fs   vfs.FS // nil: that of the system, one that cannot be compared, or any
}

// OpenStore opens a store, or the test fails. When the test ends, a store that is still open
// is closed, and each file of one must pass Check unless Unchecked says otherwise. Open is for
// what cannot be opened, for images that are checked one by one, and for other processes.
func OpenStore(t testing.TB, path string, o *Options) *Store {
	t.Helper()
	s := mustGet(Open(path, o))(t)
	willCheck(t, path, o)
	t.Cleanup(func() {
		err := s.Close()
		if errors.Is(err, ErrClosed) || errors.Is(err, fs.ErrClosed) { // the test has closed or killed it
			return
		}
		if _, never := unchecked.Load(openedFile{test: t, path: path}); err != nil && !never {
			t.Errorf("%s: Close: %v", path, err)
		}
	})
	return s
}

// willCheck has the file of a store checked when the test ends.
func willCheck(t testing.TB, path string, o *Options) {
	t.Helper()
	if _, never := unchecked.Load(openedFile{test: t, path: path}); never {
		return
	}
	c, file := Options{ReadOnly: true}, openedFile{test: t, path: path}
	if o != nil {
		c.FS, c.WALKey = o.FS, o.WALKey
	}
	at := path
	if c.FS == nil {
		at = mustGet(filepath.Abs(path))(t) // the test may change the folder
	} else if reflect.ValueOf(c.FS).Comparable() {
		file.fs = c.FS
	}
	if _, again := opened.LoadOrStore(file, true); !again {
		t.Cleanup(func() { // after the stores are closed
			opened.Delete(file)
			if _, never := unchecked.Load(openedFile{test: t, path: path}); !never && !t.Failed() {
				checkOpened(t, at, &c)
			}
		})
	}
}

// Unchecked says why the file of a store that the test opens is not checked at its end.
func Unchecked(t testing.TB, path, why string) {
	t.Helper()
	if why == "" {
		t.Fatal("no reason")
	}
	unchecked.Store(openedFile{test: t, path: path}, why)
}

func checkOpened(t testing.TB, path string, o *Options) {
	t.Helper()
	s, err := Open(path, o)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrLocked) { // it was moved, or a test around this one has it
		return
	}
	if err != nil {
		t.Fatalf("%s when the test ended: %v", path, err)
	}
	defer s.Close()
	report, err := s.Check(context.Background()) // that of the test is over
	for _, d := range report.Defects {
		t.Errorf("%s when the test ended: %v", path, d)
	}
	if err != nil {
		t.Errorf("%s when the test ended: %v", path, err)
	}
}

type fataler interface {
	Helper()
	Fatal(args ...any)
}

// mustDo ends a test that has an error.
func mustDo(t fataler, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// mustGet returns the value of a call, or ends the test if the call has an error:
// mustGet(os.Stat(path))(t).
func mustGet[T any](v T, err error) func(fataler) T {
	return func(t fataler) T {
		t.Helper()
		mustDo(t, err)
		return v
	}
}

// errOf returns the error of a call.
func errOf[T any](_ T, err error) error { return err }

// insertsOf inserts the values 0 to n - 1 of each key from from until to.
func insertsOf(from, to, n uint64) *Batch {
	b := new(Batch)
	for k := from; k < to; k++ {
		for v := range n {
			b.Insert(FromUint64(k), FromUint64(v))
		}
	}
	return b
}

// deletesOf deletes the values 0 to n - 1 of each key from from until to, or with 0 the keys.
func deletesOf(from, to, n uint64) *Batch {
	b := new(Batch)
	for k := from; k < to; k++ {
		if n == 0 {
			b.Delete(FromUint64(k))
		}
		for v := range n {
			b.DeleteValue(FromUint64(k), FromUint64(v))
		}
	}
	return b
}

// wantIs ends the test unless a call returns what is wanted: wantIs(t, 2, "values")(s.Count(key)).
func wantIs[T comparable](t fataler, want T, when ...any) func(T, error) {
	return func(is T, err error) {
		t.Helper()
		if err != nil || is != want {
			t.Fatal(fmt.Sprintf("%v: %v, %v, want %v", when, is, err, want))
		}
	}
}

// mustAt is mustDo with words that say what failed.
func mustAt(t fataler, err error, when ...any) {
	t.Helper()
	if err != nil {
		t.Fatal(fmt.Sprintf("%v: %v", when, err))
	}
}

// wantErr fails the test unless an error matches another.
func wantErr(t testing.TB, err, want error, when ...any) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%v: error %v, want %v", when, err, want)
	}
}

// wantSays fails the test unless an error matches another, or is any if want is nil, and has a text.
func wantSays(t testing.TB, err, want error, text string, when ...any) {
	t.Helper()
	if err == nil || want != nil && !errors.Is(err, want) || !strings.Contains(err.Error(), text) {
		t.Errorf("%v: error %v, want %v that says %q", when, err, want, text)
	}
}

func mustCheck(t *testing.T, s *Store) {
	t.Helper()
	if report, err := s.Check(t.Context()); err != nil {
		t.Fatalf("%v; all: %v", err, report.Defects)
	}
}
