package cidstore

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"sync"
	"testing"
)

// opened has the files of the stores that tests have opened, and why they are not checked.
var opened sync.Map // of openedFile to string

type openedFile struct {
	test testing.TB
	path string
}

// OpenStore opens a store, or the test fails. When the test ends, a store that is still open
// is closed, and each file of one must pass Check unless Unchecked says otherwise.
func OpenStore(t testing.TB, path string, o *Options) *Store {
	t.Helper()
	s, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	c := Options{ReadOnly: true}
	if o != nil {
		c.FS, c.WALKey = o.FS, o.WALKey
	}
	if c.FS == nil {
		if path, err = filepath.Abs(path); err != nil { // the test may change the folder
			t.Fatal(err)
		}
	}
	if _, again := opened.LoadOrStore(openedFile{t, path}, ""); !again {
		t.Cleanup(func() { checkOpened(t, path, &c) }) // after the stores are closed
	}
	t.Cleanup(func() { _ = s.Close() }) // the test may have closed it
	return s
}

// Unchecked says why the file of a store that the test opens is not checked at its end.
func Unchecked(t testing.TB, path, why string) {
	t.Helper()
	if why == "" {
		t.Fatal("no reason")
	}
	opened.Store(openedFile{t, path}, why)
}

func checkOpened(t testing.TB, path string, o *Options) {
	t.Helper()
	why, _ := opened.LoadAndDelete(openedFile{t, path})
	if t.Failed() || why != "" {
		return
	}
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
