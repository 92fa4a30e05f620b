//go:build unix

package cidstore_test

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cidstore/cidstore"
)

// TestObstacle: what stands under the temporary name and is no leftover is named, and
// stays. It is no reason not to open a store that is there.
func TestObstacle(t *testing.T) {
	ctx := context.Background()
	for what, put := range map[string]func(name string) error{
		"a symbolic link": func(name string) error { return os.Symlink("nothing", name) },
		"a directory":     func(name string) error { return os.Mkdir(name, 0o777) },
		"a named pipe":    func(name string) error { return unix.Mkfifo(name, 0o600) },
		"a socket": func(name string) error {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: name})
			if err == nil {
				l.SetUnlinkOnClose(false)
				err = l.Close()
			}
			return err
		},
	} {
		dir := t.TempDir()
		path, there, backup := filepath.Join(dir, "s.h5"), filepath.Join(dir, "there"), filepath.Join(dir, "b.h5")
		s := open(t, there, nil)
		must(t, s.Insert(cidstore.E{}, cidstore.E{}), put(path+".cidstore-new"), put(there+".cidstore-new"))
		_, made := cidstore.Open(path, nil)
		for call, err := range map[string]error{
			"Open": made, "Backup": s.Backup(ctx, path), "Restore": cidstore.Restore(ctx, there, path),
		} {
			if err == nil || !errors.Is(err, fs.ErrExist) || errors.Is(err, cidstore.ErrLocked) ||
				!strings.Contains(err.Error(), path+".cidstore-new") || !strings.Contains(err.Error(), what) {
				t.Errorf("%s: %s: %v", what, call, err)
			}
		}
		must(t, s.Close())
		s = open(t, there, nil)
		must(t, s.Backup(ctx, backup), s.Close())
		wantErr(t, errOf(os.Lstat(there+".cidstore-new")), nil, what, "is gone")
	}
}

// TestObstacleLinkToAFile: a link under the temporary name to a file that is there
// is no leftover either; both stay.
func TestObstacleLinkToAFile(t *testing.T) {
	dir := t.TempDir()
	path, precious := filepath.Join(dir, "s.h5"), filepath.Join(dir, "precious")
	must(t, os.WriteFile(precious, []byte("precious"), 0o600), os.Symlink("precious", path+".cidstore-new"))
	wantSays(t, errOf(cidstore.Open(path, nil)), fs.ErrExist, "a symbolic link", "Open")
	text := mustGet(os.ReadFile(precious))(t)
	if string(text) != "precious" || mode(t, path+".cidstore-new").Type() != fs.ModeSymlink {
		t.Errorf("the file has %q, the link is %v", text, mode(t, path+".cidstore-new"))
	}
}

// TestNames: every name that a file may have a store may have, in each way in which
// a store is made, and no two stores share a temporary name.
func TestNames(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	long := strings.Repeat("n", 240)
	for i, name := range []string{
		long + "a", long + "b", long + "12", long + "123", long + "123456789012345", long + "123456789012346",
		strings.Repeat("m", 130), strings.Repeat("m", 131), strings.Repeat("é", 127) + "x",
		"a\nb", "\xff\xfe\x00"[:2], " a b ", "-rf", "🦄", strings.Repeat("\n", 255), strings.Repeat("\xff", 255),
	} {
		path := filepath.Join(dir, name)
		key := cidstore.FromUint64(uint64(i))
		s := open(t, path, nil)
		must(t, s.Insert(key, key))
		backup := filepath.Join(dir, strings.Repeat("z", len(name)-1)+"y")
		must(t, s.Backup(ctx, backup), s.Close(), cidstore.Restore(ctx, backup, path), os.Remove(backup))
		s = open(t, path, &cidstore.Options{ReadOnly: true})
		wantIs(t, true, name)(s.Has(key, key))
		must(t, s.Close())
	}
	names := mustGet(os.ReadDir(dir))(t)
	if len(names) != 16 {
		t.Errorf("%d files, want the 16 stores", len(names))
	}
}
