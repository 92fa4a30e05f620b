package cidstore_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cidstore/cidstore"
)

const mountVariable = "CIDSTORE_TEST_MOUNTS" // a folder, for the child of TestMountedFile

// TestMountedFile runs TestMountedFileChild where it may mount files over others.
func TestMountedFile(t *testing.T) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestMountedFileChild$", "-test.v")
	cmd.Env = append(os.Environ(), mountVariable+"="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) {
		t.Skip("a namespace of mounts is not permitted here")
	}
	if strings.Contains(string(out), "--- SKIP: TestMountedFileChild ") {
		t.Skip("mounting a file is not permitted here")
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}

// TestMountedFileChild is the process with mounts of its own.
func TestMountedFileChild(t *testing.T) {
	dir := os.Getenv(mountVariable)
	if dir == "" {
		t.Skip("a part of TestMountedFile")
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Skipf("mounts cannot be made private: %v", err)
	}
	for what, flags := range map[string]uintptr{"writable": 0, "read-only": unix.MS_RDONLY} {
		mounted, under := filepath.Join(dir, "mounted "+what), filepath.Join(dir, "under "+what)
		must(t, os.WriteFile(mounted, nil, 0o640), os.WriteFile(under, nil, 0o600))
		if err := unix.Mount(under, mounted, "", unix.MS_BIND, ""); err != nil {
			t.Skipf("mount: %v", err)
		}
		if flags == 0 {
			useMounted(t, dir, mounted)
		} else {
			must(t, unix.Mount("", mounted, "", unix.MS_REMOUNT|unix.MS_BIND|flags, ""))
			refuseReadOnly(t, dir, mounted)
		}
		names, err := filepath.Glob(filepath.Join(dir, "*.cidstore-new"))
		if err != nil || len(names) > 0 {
			t.Errorf("%s: %v are left, %v", what, names, err)
		}
	}
}

// useMounted makes, fills, copies and restores a store in a file that is mounted.
func useMounted(t *testing.T, dir, path string) {
	ctx := context.Background()
	backup, link := filepath.Join(dir, "b.h5"), filepath.Join(dir, "link")
	before := mustGet(os.Stat(path))(t)
	s := open(t, path, nil)
	for i := range uint64(500) {
		must(t, s.Insert(cidstore.FromUint64(i%50), cidstore.FromUint64(i)))
	}
	must(t, s.Backup(ctx, backup), s.Insert(cidstore.FromUint64(1000), cidstore.E{}))
	wantErr(t, cidstore.Restore(ctx, backup, path), cidstore.ErrLocked, "restore to a store that is written")
	must(t, s.Close())

	reader := open(t, path, &cidstore.Options{ReadOnly: true})
	wantErr(t, cidstore.Restore(ctx, backup, path), cidstore.ErrLocked, "restore to a store that is read")
	wantIs(t, true, "the reader's key")(reader.HasKey(cidstore.FromUint64(1000)))
	must(t, reader.Close())

	reader = open(t, backup, &cidstore.Options{ReadOnly: true})
	wantSays(t, cidstore.Restore(ctx, backup, path), cidstore.ErrLocked, "backup is open", "restore from a backup that is open")
	must(t, reader.Close(), open(t, path, &cidstore.Options{ReadOnly: true}).Close())

	must(t, os.Symlink(filepath.Base(path), link), cidstore.Restore(ctx, backup, link))
	s = open(t, path, nil)
	wantIs(t, false, "a key that the backup lacks")(s.HasKey(cidstore.FromUint64(1000)))
	if _, values, err := s.Len(ctx); values != 500 || err != nil {
		t.Errorf("%d values, %v", values, err)
	}
	must(t, errOf(s.Check(ctx)), s.Close())
	after := mustGet(os.Stat(path))(t)
	if !os.SameFile(before, after) || before.Mode() != after.Mode() {
		t.Errorf("the file was %v and is %v", before, after)
	}
}

// refuseReadOnly: a file that is mounted for reading stays empty.
func refuseReadOnly(t *testing.T, dir, path string) {
	wantErr(t, errOf(cidstore.Open(path, nil)), cidstore.ErrReadOnly, "Open of a file that is mounted read-only")
	backup := filepath.Join(dir, "another.h5")
	must(t, open(t, backup, nil).Close())
	wantErr(t, cidstore.Restore(context.Background(), backup, path), cidstore.ErrReadOnly, "Restore to a file that is mounted read-only")
	if info, err := os.Stat(path); err != nil || info.Size() != 0 {
		t.Errorf("%v, %v", info, err)
	}
}
