package vfs

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// create opens a file, which is new if there is none, until the end of the test.
func create(t testing.TB, name string) File {
	t.Helper()
	f, err := OS().OpenFile(name, ReadWrite|Create, 0o600)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

func TestOpenRefusesDirectory(t *testing.T) {
	if f, err := OS().OpenFile(t.TempDir(), ReadOnly, 0); err == nil {
		f.Close()
		t.Fatal("opened a directory as a file")
	}
}

// The fallback of Allocate keeps data, fills holes and grows the file.
func TestWriteZeros(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	f := create(t, name)
	must(t, f.WriteAt([]byte("data"), 1<<20+5000), f.(*osFile).writeZeros(100, 3<<20))
	want := make([]byte, 100+(3<<20))
	copy(want[1<<20+5000:], "data")
	got, err := os.ReadFile(name)
	if err != nil || !bytes.Equal(got, want[:len(got)]) || len(got) != 3<<20+100 {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	info, err := f.Info()
	if err != nil || info.Allocated < 3<<20 && info.Allocated != 0 {
		t.Fatalf("%+v, %v", info, err)
	}
}
