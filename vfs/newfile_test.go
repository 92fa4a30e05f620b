package vfs_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/internal/errfs"
	"github.com/cidstore/cidstore/vfs"
)

func lockAll(f vfs.File) error { return f.TryLock(vfs.Lock{Whole: true, Exclusive: true}) }

// madeNew makes the file of w.path("f") with a content.
func (w world) madeNew(content string) error {
	temporary := w.path("f.new")
	f, err := vfs.CreateTemporary(w.fs, temporary, 0o600, lockAll)
	if err != nil {
		return err
	}
	err = errors.Join(f.WriteAt([]byte(content), 0), f.Sync())
	if err == nil {
		err = vfs.GiveName(w.fs, temporary, w.path("f"))
	}
	return errors.Join(err, f.Close())
}

// TestNewFile: one process at a time makes a file; what a dead one has left under the
// temporary name goes, and what a living one makes stays.
func TestNewFile(t *testing.T) {
	conform(t, func(t *testing.T, w world) {
		must(t, w.madeNew("one"))
		left := w.create(t, "f.new")
		must(t, left.WriteAt([]byte("half a file"), 0))
		must(t, lockAll(left))
		wantErr(t, w.madeNew("two"), vfs.ErrLockHeld)
		wantErr(t, vfs.RemoveTemporary(w.fs, w.path("f.new"), lockAll), vfs.ErrLockHeld)
		wantBytes(t, w.open(t, "f", vfs.ReadOnly), 0, []byte("one"))
		must(t, left.Close())
		must(t, w.madeNew("two"))
		wantBytes(t, w.open(t, "f", vfs.ReadOnly), 0, []byte("two"))
		_, err := w.fs.Stat(w.path("f.new"))
		wantErr(t, err, fs.ErrNotExist)
		must(t, vfs.RemoveTemporary(w.fs, w.path("f.new"), lockAll)) // there is nothing
	})
}

// TestFaultNewFile lets each call fail, once: there is the old file or the new one, the
// error has its cause, and the next maker is not in the way of what is left.
func TestFaultNewFile(t *testing.T) {
	for nth := 1; ; nth++ {
		disk := crashfs.New(crashfs.Options{})
		w := world{disk, "/dir"}
		must(t, w.madeNew("old"))
		w.create(t, "f.new").Close() // a leftover
		faulty := errfs.New(disk)
		fault := faulty.Add(errfs.Rule{Nth: nth})
		err := world{faulty, "/dir"}.madeNew("new")
		if fault.Failed() == 0 {
			must(t, err)
			if nth < 15 {
				t.Errorf("only %d calls", nth-1)
			}
			return
		}
		if err != nil {
			wantErr(t, err, errfs.ErrIO)
		}
		there := make([]byte, 3)
		if _, readErr := w.open(t, "f", vfs.ReadOnly).ReadAt(there, 0); readErr != nil || string(there) != "new" && (err == nil || string(there) != "old") {
			t.Errorf("call %d failed (%v): %q, %v", nth, err, there, readErr)
		}
		must(t, w.madeNew("next"))
	}
}

// thief takes temporary files away from their makers, as another maker may that finds one
// before its lock is taken.
type thief struct{ left int }

func (s *thief) lock(f vfs.File) error {
	if s.left--; s.left >= 0 {
		return os.Remove(f.Name())
	}
	return lockAll(f)
}

// TestNewFileTaken: a maker whose file was taken for a leftover makes another, as long as
// others are not faster again and again.
func TestNewFileTaken(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f.new")
	for left, want := range map[int]error{3: nil, 1000: vfs.ErrLockHeld} {
		s := thief{left}
		f, err := vfs.CreateTemporary(vfs.OS(), name, 0o600, s.lock)
		wantErr(t, err, want)
		if err == nil {
			must(t, f.Close())
		}
	}
}

// TestNewFileInPlace: where a directory takes no file, or no other file can get the name, the
// error says that the file can be made in its place alone.
func TestNewFileInPlace(t *testing.T) {
	for _, rule := range []errfs.Rule{{Ops: errfs.Open, Nth: 1, Err: fs.ErrPermission}, {Ops: errfs.Rename, Nth: 1, Err: fs.ErrPermission}} {
		disk := errfs.New(crashfs.New(crashfs.Options{}))
		disk.Add(rule)
		var inPlace vfs.InPlaceError
		if err := (world{disk, "/dir"}).madeNew("new"); !errors.As(err, &inPlace) || !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%+v: %v", rule, err)
		}
	}
}

// TestTemporaryName: each file has one of its own, which its suffix shows and which is no
// longer than a file system takes.
func TestTemporaryName(t *testing.T) {
	long := strings.Repeat("x", 240)
	seen := map[string]string{}
	for _, name := range []string{
		"s.h5", long + "a", long + "b", long + "123456789012345", strings.Repeat("x", vfs.LongestName-4), strings.Repeat("x", vfs.LongestName-3),
		filepath.Join("d", long+"a"), filepath.Join("e", long+"a"),
	} {
		temporary := vfs.TemporaryName(name, ".new")
		base := filepath.Base(temporary)
		if filepath.Dir(temporary) != filepath.Dir(name) || !strings.HasSuffix(base, ".new") || len(base) > vfs.LongestName {
			t.Errorf("%s: temporary name %s", name, temporary)
		}
		if other, taken := seen[temporary]; taken {
			t.Errorf("%s and %s share the temporary name %s", name, other, temporary)
		}
		seen[temporary] = name
	}
	if got, want := vfs.TemporaryName(filepath.Join("d", "s.h5"), ".new"), filepath.Join("d", "s.h5.new"); got != want {
		t.Errorf("temporary name of a short name: %s, want %s", got, want)
	}
}
