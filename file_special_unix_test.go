//go:build unix

package cidstore_test

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cidstore/cidstore"
)

func mode(t *testing.T, path string) fs.FileMode {
	t.Helper()
	return mustGet(os.Lstat(path))(t).Mode()
}

// TestNothingButFilesIsReplaced: a pipe, device or socket under the path is an
// error, and is there afterwards.
func TestNothingButFilesIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	must(t, unix.Mkfifo(path, 0o600))
	for _, readOnly := range []bool{false, true} {
		wantErr(t, errOf(cidstore.Open(path, &cidstore.Options{ReadOnly: readOnly})), cidstore.ErrNotCIDStore, "read-only", readOnly)
	}
	if m := mode(t, path); m.Type() != fs.ModeNamedPipe {
		t.Errorf("the pipe has become %v", m)
	}
}

// TestLinksLeadToTheStore: whoever makes a store through a symbolic link, also one
// to nothing yet, makes it where the link leads, and the link stays.
func TestLinksLeadToTheStore(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "d"), 0o777))
	target, link, second := filepath.Join(dir, "d", "real"), filepath.Join(dir, "link"), filepath.Join(dir, "second")
	must(t, os.Symlink(filepath.Join("d", "real"), link), os.Symlink("link", second))
	leads := func(what string) {
		t.Helper()
		if mode(t, link).Type() != fs.ModeSymlink || mode(t, second).Type() != fs.ModeSymlink || !mode(t, target).IsRegular() {
			t.Fatalf("%s: link %v, second %v, target %v", what, mode(t, link), mode(t, second), mode(t, target))
		}
	}
	s := open(t, second, nil)
	must(t, s.Insert(cidstore.E{}, cidstore.E{}))
	leads("Open of a link to nothing")
	backup := filepath.Join(dir, "backup")
	must(t, s.Backup(ctx, backup), s.Insert(cidstore.E{}, cidstore.E{Low: 1}))
	wantErr(t, s.Backup(ctx, link), fs.ErrExist, "backup onto a link to itself")
	must(t, s.Close())

	must(t, cidstore.Restore(ctx, backup, link))
	leads("Restore")
	s = open(t, target, nil)
	wantIs(t, 1, "values after Restore")(s.Count(cidstore.E{}))
	must(t, s.Close())

	must(t, os.Truncate(target, 0), open(t, link, nil).Close())
	leads("Open of a link to an empty file")

	circle := filepath.Join(dir, "circle")
	must(t, os.Symlink("circle", circle))
	if _, err := cidstore.Open(circle, nil); err == nil {
		t.Error("a link to itself was opened")
	}
}

// TestModesAreKept: what takes a file's place, or is a copy of it, is open to
// nobody to whom that file was not.
func TestModesAreKept(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	path, backup := filepath.Join(dir, "s.h5"), filepath.Join(dir, "b.h5")
	must(t, os.WriteFile(path, nil, 0o600))
	s := open(t, path, nil)
	must(t, s.Backup(ctx, backup), s.Close())
	for _, name := range []string{path, backup} {
		if m := mode(t, name); m.Perm() != 0o600 {
			t.Errorf("%s has mode %v, want 0600", name, m)
		}
	}
	must(t, os.Chmod(backup, 0o644), cidstore.Restore(ctx, backup, path))
	if m := mode(t, path); m.Perm() != 0o600 {
		t.Errorf("the restored store has mode %v, want 0600", m)
	}
}
