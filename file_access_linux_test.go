package cidstore_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cidstore/cidstore"
)

// access is who owns a file, and what others may do with it.
type access struct {
	owner, group uint32
	mode         fs.FileMode
}

func accessOf(t *testing.T, path string) access {
	t.Helper()
	info := mustGet(os.Stat(path))(t)
	st := info.Sys().(*syscall.Stat_t)
	return access{st.Uid, st.Gid, info.Mode().Perm()}
}

func give(t *testing.T, path string, a access) {
	t.Helper()
	must(t, os.Chown(path, int(a.owner), int(a.group)), os.Chmod(path, a.mode))
}

func wantAccess(t *testing.T, path string, want access) {
	t.Helper()
	if got := accessOf(t, path); got != want {
		t.Errorf("%s has %+v, want %+v", filepath.Base(path), got, want)
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root may give files away")
	}
}

// asUser runs do with the rights of another user, who has no capabilities. Goroutines
// that do starts keep the rights of the process.
func asUser(t *testing.T, user, group int, do func()) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	set := func(trap uintptr, id int) {
		if _, _, e := unix.RawSyscall(trap, ^uintptr(0), uintptr(id), ^uintptr(0)); e != 0 {
			t.Fatal(e)
		}
	}
	set(unix.SYS_SETRESGID, group)
	set(unix.SYS_SETRESUID, user)
	defer set(unix.SYS_SETRESGID, 0)
	defer set(unix.SYS_SETRESUID, 0)
	do()
}

// openFolder makes a folder that every user may go into.
func openFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(dir, 0o777))
	return dir
}

// TestAccessIsKept: what root restores, backs up, or makes in an empty file belongs to
// those to whom the file belonged whose place it takes or whose copy it is, whatever
// the umask and the directory say.
func TestAccessIsKept(t *testing.T) {
	needRoot(t)
	ctx := context.Background()
	dir := filepath.Join(t.TempDir(), "d")
	must(t, os.Mkdir(dir, 0o777), os.Chown(dir, 0, 4000), os.Chmod(dir, 0o777|fs.ModeSetgid))
	path, backup, link := filepath.Join(dir, "s.h5"), filepath.Join(dir, "b.h5"), filepath.Join(dir, "link")
	must(t, os.WriteFile(path, nil, 0o600))
	first := access{1000, 2000, 0o666} // the umask narrows no file that was there
	give(t, path, first)
	s := open(t, path, nil)
	wantAccess(t, path, first)
	must(t, s.Backup(ctx, backup))
	wantAccess(t, backup, first)
	must(t, s.Close())

	second := access{1001, 2001, 0o660}
	give(t, path, second)
	must(t, cidstore.Restore(ctx, backup, path))
	wantAccess(t, path, second)
	must(t, os.Symlink("s.h5", link), cidstore.Restore(ctx, backup, link))
	wantAccess(t, path, second)

	fresh := filepath.Join(dir, "new.h5")
	must(t, cidstore.Restore(ctx, backup, fresh))
	wantAccess(t, fresh, first)
	must(t, open(t, filepath.Join(dir, "made.h5"), nil).Close())
	if got := accessOf(t, filepath.Join(dir, "made.h5")); got.owner != 0 || got.group != 4000 {
		t.Errorf("a new store has %+v, want root's, of the directory's group", got)
	}
}

// TestAccessThatMayNotBeKept: a caller who may not give files away gets the store, the
// Logger is told, and nobody may read it who could not before.
func TestAccessThatMayNotBeKept(t *testing.T) {
	needRoot(t)
	ctx := context.Background()
	dir := openFolder(t)
	path, backup := filepath.Join(dir, "s.h5"), filepath.Join(dir, "b.h5")
	s := open(t, path, nil)
	must(t, s.Backup(ctx, backup), s.Close(), os.Chmod(backup, 0o644))
	for _, c := range []struct {
		name        string
		is          access
		user, group int
		want        access
		told        string
	}{
		{"owner", access{1000, 2000, 0o664}, 1001, 2000, access{1001, 2000, 0o664}, "owner 1000: operation not permitted"},
		{"group", access{1000, 2000, 0o670}, 1000, 3000, access{1000, 3000, 0o600}, "group 2000: operation not permitted"},
		{"both", access{1000, 2000, 0o666}, 1001, 3000, access{1001, 3000, 0o666}, "owner 1000: operation not permitted"},
		{"nothing lost", access{1000, 2000, 0o640}, 1000, 2000, access{1000, 2000, 0o640}, ""},
	} {
		give(t, path, c.is)
		var told bytes.Buffer
		var err error
		asUser(t, c.user, c.group, func() {
			o := &cidstore.Options{Logger: slog.New(slog.NewTextHandler(&told, nil))}
			err = cidstore.RestoreWith(ctx, backup, path, o)
		})
		mustAt(t, err, c.name)
		wantAccess(t, path, c.want)
		if text := told.String(); !strings.Contains(text, c.told) || (c.told != "") != strings.Contains(text, "access not kept") {
			t.Errorf("%s: the Logger was told %q, want %q", c.name, text, c.told)
		}
	}
}

const aclName = "system.posix_acl_access"

// acl encodes a list as acl(5) has it: the owner, the user 1500, the group, the mask,
// and everybody else.
func acl(owner, user, group, mask, other uint16) []byte {
	list := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range [][3]uint32{
		{1, uint32(owner), ^uint32(0)}, {2, uint32(user), 1500}, {4, uint32(group), ^uint32(0)},
		{0x10, uint32(mask), ^uint32(0)}, {0x20, uint32(other), ^uint32(0)},
	} {
		list = binary.LittleEndian.AppendUint16(list, uint16(e[0]))
		list = binary.LittleEndian.AppendUint16(list, uint16(e[1]))
		list = binary.LittleEndian.AppendUint32(list, e[2])
	}
	return list
}

func aclOf(t *testing.T, path string) []byte {
	t.Helper()
	p := make([]byte, 1000)
	n, err := unix.Getxattr(path, aclName, p)
	if err == unix.ENODATA || err == unix.EOPNOTSUPP {
		return nil
	}
	must(t, err)
	return p[:n]
}

// TestAccessListIsKept: the list is part of the access; without it the bound that
// stands in the group's place would be the group's. One that the directory gives to
// new files is not the old file's.
func TestAccessListIsKept(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	path, backup := filepath.Join(dir, "s.h5"), filepath.Join(dir, "b.h5")
	s := open(t, path, nil)
	must(t, s.Backup(ctx, backup), s.Close())
	list := acl(6, 6, 0, 6, 0)
	if err := unix.Setxattr(path, aclName, list, 0); err != nil {
		t.Skipf("no access control lists here: %v", err)
	}
	must(t, cidstore.Restore(ctx, backup, path))
	if got := aclOf(t, path); !bytes.Equal(got, list) {
		t.Errorf("the list is %x, want %x", got, list)
	}

	must(t, os.Chmod(backup, 0o640), unix.Setxattr(dir, "system.posix_acl_default", list, 0))
	fresh := filepath.Join(dir, "new.h5")
	must(t, cidstore.Restore(ctx, backup, fresh))
	if got := aclOf(t, fresh); got != nil || mode(t, fresh).Perm() != 0o640 {
		t.Errorf("a copy of a file without a list has mode %v and the list %x", mode(t, fresh), got)
	}
}

// TestObstacleOfSomebodyElse: a file under the temporary name that the caller may not
// open, or not remove, is named.
func TestObstacleOfSomebodyElse(t *testing.T) {
	needRoot(t)
	dir := openFolder(t)
	must(t, os.Chmod(dir, 0o777|fs.ModeSticky))
	path := filepath.Join(dir, "s.h5")
	for m, what := range map[fs.FileMode]string{0o600: "a file that you may not open", 0o666: "a file that you may not remove"} {
		must(t, os.WriteFile(path+".cidstore-new", nil, m))
		give(t, path+".cidstore-new", access{1000, 1000, m})
		var err error
		asUser(t, 1001, 1001, func() { _, err = cidstore.Open(path, nil) })
		if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), what) || !strings.Contains(err.Error(), path+".cidstore-new") {
			t.Errorf("%v: %v", m, err)
		}
		must(t, os.Remove(path+".cidstore-new"))
	}
}

// TestFolderThatTakesNoFile: where the caller may write the file and may not put another
// in its place, the store is made, and restored, in the file.
func TestFolderThatTakesNoFile(t *testing.T) {
	needRoot(t)
	for name, m := range map[string]fs.FileMode{"not writable": 0o755, "sticky": 0o777 | fs.ModeSticky} {
		t.Run(name, func(t *testing.T) { inFolder(t, m) })
	}
}

// inFolder makes and restores a store in a file in a folder of that mode.
func inFolder(t *testing.T, folder fs.FileMode) {
	ctx := context.Background()
	dir := openFolder(t)
	path, other, backup := filepath.Join(dir, "s.h5"), filepath.Join(dir, "o.h5"), filepath.Join(dir, "b.h5")
	key := cidstore.FromUint64(7)
	s := open(t, other, nil)
	must(t, s.Insert(key, key), s.Backup(ctx, backup), s.Close(), os.Chmod(backup, 0o644), os.WriteFile(path, nil, 0o666))
	is := access{1000, 1000, 0o666}
	give(t, path, is)
	must(t, os.Chmod(dir, folder))
	for _, want := range []bool{false, true} {
		var err error
		asUser(t, 1001, 1001, func() {
			if want {
				if err = cidstore.Restore(ctx, backup, path); err != nil {
					return
				}
			}
			s, err = cidstore.Open(path, nil)
		})
		must(t, err)
		wantIs(t, want, "the key of the backup")(s.Has(key, key))
		must(t, s.Close())
		wantAccess(t, path, is)
	}
	var err error
	asUser(t, 1001, 1001, func() { err = cidstore.Restore(ctx, backup, filepath.Join(dir, "new.h5")) })
	if folder&0o002 == 0 && !errors.Is(err, fs.ErrPermission) {
		t.Errorf("a new file in that folder: %v", err)
	}
	must(t, os.Chmod(path, 0o644))
	asUser(t, 1001, 1001, func() { err = cidstore.Restore(ctx, backup, path) })
	wantSays(t, err, fs.ErrPermission, path+":", "a file that may not be written")
}

// TestHardLinks: a restore gives the name to a new file; the old store keeps its other
// names.
func TestHardLinks(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	path, other, backup := filepath.Join(dir, "s.h5"), filepath.Join(dir, "other"), filepath.Join(dir, "b.h5")
	s := open(t, path, nil)
	must(t, s.Backup(ctx, backup), s.Insert(cidstore.E{}, cidstore.E{}), s.Close(), os.Link(path, other))
	must(t, cidstore.Restore(ctx, backup, path))
	for name, want := range map[string]bool{path: false, other: true} {
		s := open(t, name, nil)
		wantIs(t, want, "the key", name)(s.HasKey(cidstore.E{}))
		must(t, s.Close())
	}
}
