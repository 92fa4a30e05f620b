package vfs_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/internal/errfs"
	"github.com/cidstore/cidstore/vfs"
)

// world is one file system under the conformance suite and a directory of it.
type world struct {
	fs  vfs.FS
	dir string
}

// worlds are the file systems that must behave alike.
var worlds = map[string]func(t *testing.T) world{
	"os":      func(t *testing.T) world { return world{vfs.OS(), t.TempDir()} },
	"errfs":   func(t *testing.T) world { return world{errfs.New(vfs.OS()), t.TempDir()} },
	"crashfs": func(*testing.T) world { return world{crashfs.New(crashfs.Options{}), "/dir"} },
}

// conform runs one behaviour on each file system.
func conform(t *testing.T, test func(t *testing.T, w world)) {
	t.Helper()
	for name, start := range worlds {
		t.Run(name, func(t *testing.T) { test(t, start(t)) })
	}
}

func (w world) path(name string) string { return filepath.Join(w.dir, name) }

func (w world) create(t *testing.T, name string) vfs.File {
	t.Helper()
	return w.open(t, name, vfs.ReadWrite|vfs.Create)
}

func (w world) open(t *testing.T, name string, flag int) vfs.File {
	t.Helper()
	f, err := w.fs.OpenFile(w.path(name), flag, 0o600)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// mapped maps a file until the end of the test, if the system can.
func mapped(t *testing.T, f vfs.File, reserve int64) vfs.Mapping {
	t.Helper()
	m, err := f.Map(reserve)
	if errors.Is(err, vfs.ErrNoMap) {
		t.Skip("no mappings here")
	}
	must(t, err)
	t.Cleanup(func() { m.Close() })
	return m
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
}

func wantBytes(t *testing.T, f vfs.File, off int64, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	n, err := f.ReadAt(got, off)
	if err != nil || n != len(want) {
		t.Fatalf("read %d at %d: %d, %v", len(want), off, n, err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("bytes at %d: %q, want %q", off, got, want)
	}
}

func wantSize(t *testing.T, f vfs.File, want int64) {
	t.Helper()
	info, err := f.Info()
	must(t, err)
	if info.Size != want {
		t.Fatalf("size %d, want %d", info.Size, want)
	}
}

func TestReadWrite(t *testing.T) {
	conform(t, func(t *testing.T, w world) {
		f, other := w.create(t, "f"), w.create(t, "f")
		must(t, f.WriteAt([]byte("hello"), 10))
		wantSize(t, f, 15)
		wantBytes(t, other, 0, append(make([]byte, 10), "hello"...))
		must(t, other.WriteSync([]byte("HE"), 10), other.WriteAt(nil, 100))
		wantSize(t, f, 15)
		wantBytes(t, f, 10, []byte("HEllo"))

		p := make([]byte, 10)
		n, err := f.ReadAt(p, 12)
		if n != 3 || err != io.EOF || string(p[:3]) != "llo" {
			t.Fatalf("read over the end: %d %v %q", n, err, p[:n])
		}
		if n, err := f.ReadAt(p, 1<<40); n != 0 || err != io.EOF {
			t.Fatalf("read past the end: %d %v", n, err)
		}
		if _, err := f.ReadAt(p, -1); err == nil {
			t.Fatal("read at a negative offset")
		}
		if f.WriteAt(p, -1) == nil || f.WriteSync(p, -1) == nil {
			t.Fatal("write at a negative offset")
		}
		f.StartWriteback(0, 15)
		f.StartWriteback(-1, -1)
		f.DropCache(0, 15)
		f.DropCache(-1, -1)
		must(t, f.Datasync(), f.Sync())
	})
}

func TestTruncate(t *testing.T) {
	conform(t, func(t *testing.T, w world) {
		f := w.create(t, "f")
		must(t, f.WriteAt(bytes.Repeat([]byte{7}, 10000), 0), f.Truncate(5000), f.Truncate(10000))
		want := append(bytes.Repeat([]byte{7}, 5000), make([]byte, 5000)...)
		wantBytes(t, f, 0, want)
		wantSize(t, f, 10000)
		if f.Truncate(-1) == nil {
			t.Fatal("truncated to a negative size")
		}
	})
}

func TestAllocate(t *testing.T) {
	conform(t, func(t *testing.T, w world) {
		f := w.create(t, "f")
		must(t, f.WriteAt([]byte("x"), 8192), f.Allocate(0, 100000))
		wantSize(t, f, 100000)
		want := make([]byte, 100000)
		want[8192] = 'x'
		wantBytes(t, f, 0, want)
		must(t, f.Allocate(100, 5))
		wantSize(t, f, 100000)
		info, err := f.Info()
		must(t, err)
		if info.Allocated < 100000 {
			t.Fatalf("%d bytes of disk behind 100000", info.Allocated)
		}
		for _, r := range [][2]int64{{-1, 5}, {0, -5}, {1 << 62, 1 << 62}} {
			if f.Allocate(r[0], r[1]) == nil {
				t.Fatalf("allocated %d bytes at %d", r[1], r[0])
			}
		}
	})
}

func TestMapping(t *testing.T) {
	conform(t, func(t *testing.T, w world) {
		f := w.create(t, "f")
		m := mapped(t, f, 1<<20)
		_, err := m.View(0, 1)
		wantErr(t, err, io.ErrUnexpectedEOF)
		must(t, f.WriteAt([]byte("one"), 0))
		v, err := m.View(0, 3)
		must(t, err)
		must(t, f.WriteAt([]byte("two"), 0))
		if string(v) != "two" {
			t.Fatalf("mapping shows %q after the write of two", v)
		}
		must(t, f.WriteAt([]byte("far"), 300000))
		v, err = m.View(300000, 3)
		must(t, err)
		if string(v) != "far" || cap(v) != 3 {
			t.Fatalf("mapping shows %q, capacity %d, after growth", v, cap(v))
		}
		_, err = m.View(300001, 3)
		wantErr(t, err, io.ErrUnexpectedEOF)
		for _, r := range [][2]int64{{-1, 1}, {0, -1}, {1 << 62, 1 << 62}, {1<<63 - 1, 1<<63 - 1}} {
			if _, err := m.View(r[0], r[1]); err == nil {
				t.Fatalf("viewed %d bytes at %d", r[1], r[0])
			}
		}
		must(t, m.Close())
		if _, err := m.View(0, 1); err == nil {
			t.Fatal("viewed a closed mapping")
		}
		if m.Close() == nil {
			t.Fatal("closed twice")
		}
	})
}

func TestShape(t *testing.T) {
	conform(t, func(t *testing.T, w world) {
		f := w.create(t, "f")
		shape := func(what string, size int64, links uint64) {
			t.Helper()
			if n, l, err := f.Shape(); n != size || l != links || err != nil {
				t.Fatalf("%s: %d bytes, %d names, %v, want %d and %d", what, n, l, err, size, links)
			}
		}
		shape("new", 0, 1)
		must(t, f.Truncate(5000))
		shape("longer", 5000, 1)
		must(t, f.Truncate(10))
		shape("cut", 10, 1)
		must(t, w.fs.Rename(w.path("f"), w.path("g")))
		shape("renamed", 10, 1)
		must(t, w.create(t, "h").Close(), w.fs.Rename(w.path("h"), w.path("g")))
		shape("replaced", 10, 0)
		f = w.create(t, "f")
		must(t, w.fs.Remove(w.path("f")))
		shape("removed", 0, 0)
		must(t, f.Close())
		if _, _, err := f.Shape(); err == nil {
			t.Fatal("the shape of a closed file")
		}
	})
}

func TestViewPastReservation(t *testing.T) {
	conform(t, func(t *testing.T, w world) {
		f := w.create(t, "f")
		must(t, f.Truncate(100))
		m := mapped(t, f, 1<<16)
		must(t, f.Truncate(1<<20))
		_, err := m.View(1<<16-1, 2)
		wantErr(t, err, vfs.ErrNoMap)
		_, err = m.View(1<<16-2, 2)
		must(t, err)
	})
}

func TestNames(t *testing.T) {
	conform(t, func(t *testing.T, w world) {
		_, err := w.fs.OpenFile(w.path("f"), vfs.ReadWrite, 0)
		wantErr(t, err, fs.ErrNotExist)
		_, err = w.fs.Stat(w.path("f"))
		wantErr(t, err, fs.ErrNotExist)
		wantErr(t, w.fs.Remove(w.path("f")), fs.ErrNotExist)
		wantErr(t, w.fs.Rename(w.path("f"), w.path("g")), fs.ErrNotExist)

		f := w.create(t, "f")
		_, err = w.fs.OpenFile(w.path("f"), vfs.ReadWrite|vfs.Create|vfs.Exclusive, 0o600)
		wantErr(t, err, fs.ErrExist)
		must(t, f.WriteAt([]byte("f"), 0))
		g := w.create(t, "g")
		must(t, g.WriteAt([]byte("gg"), 0))
		if runtime.GOOS == "windows" {
			must(t, g.Close()) // an open file cannot be replaced there
		}
		must(t, w.fs.Rename(w.path("f"), w.path("g")), w.fs.SyncDir(w.dir))
		wantBytes(t, w.open(t, "g", vfs.ReadOnly), 0, []byte("f"))
		if runtime.GOOS != "windows" {
			wantBytes(t, g, 0, []byte("gg")) // the replaced file exists while it is open
		}
		_, err = w.fs.Stat(w.path("f"))
		wantErr(t, err, fs.ErrNotExist)

		a, err := w.fs.Stat(w.path("g"))
		must(t, err)
		b, err := f.Info()
		must(t, err)
		if a.Inode != b.Inode || a.Device != b.Device || a.Inode == 0 {
			t.Fatalf("renamed file is %d:%d by name, %d:%d by descriptor", a.Device, a.Inode, b.Device, b.Inode)
		}
		must(t, w.fs.Remove(w.path("g")))
		wantBytes(t, f, 0, []byte("f"))
		if a.Size != 1 || !a.Mode.IsRegular() || a.ReadOnly || a.FileSystem == "" {
			t.Fatalf("stat: %+v", a)
		}
	})
}

func TestReadOnlyFileRefusesWrites(t *testing.T) {
	conform(t, func(t *testing.T, w world) {
		must(t, w.create(t, "f").WriteAt([]byte("data"), 0))
		f := w.open(t, "f", vfs.ReadOnly)
		for name, err := range map[string]error{
			"write":     f.WriteAt([]byte("x"), 0),
			"writesync": f.WriteSync([]byte("x"), 0),
			"truncate":  f.Truncate(0),
			"allocate":  f.Allocate(0, 8192),
		} {
			if err == nil {
				t.Errorf("%s on a read-only file succeeded", name)
			}
		}
		wantBytes(t, f, 0, []byte("data"))
		wantSize(t, f, 4)
	})
}

func TestClosedFile(t *testing.T) {
	conform(t, func(t *testing.T, w world) {
		f := w.create(t, "f")
		must(t, f.Close())
		_, readErr := f.ReadAt(make([]byte, 1), 0)
		_, infoErr := f.Info()
		_, mapErr := f.Map(4096)
		for name, err := range map[string]error{
			"read": readErr, "info": infoErr, "map": mapErr, "close": f.Close(), "sync": f.Sync(),
			"datasync": f.Datasync(), "write": f.WriteAt([]byte("x"), 0), "allocate": f.Allocate(0, 1),
			"lock": f.TryLock(vfs.Lock{Whole: true}), "truncate": f.Truncate(1),
		} {
			if !errors.Is(err, fs.ErrClosed) && !(name == "map" && errors.Is(err, vfs.ErrNoMap)) {
				t.Errorf("%s after close: %v", name, err)
			}
		}
	})
}

func TestWholeFileLock(t *testing.T) {
	shared, exclusive := vfs.Lock{Whole: true}, vfs.Lock{Whole: true, Exclusive: true}
	conform(t, func(t *testing.T, w world) {
		a, b := w.create(t, "f"), w.create(t, "f")
		must(t, a.TryLock(shared), b.TryLock(shared))
		wantErr(t, a.TryLock(exclusive), vfs.ErrLockHeld)
		must(t, b.Unlock(shared), a.TryLock(exclusive))
		wantErr(t, b.TryLock(shared), vfs.ErrLockHeld)
		wantErr(t, b.TryLock(exclusive), vfs.ErrLockHeld)
		must(t, a.TryLock(shared), b.TryLock(shared), b.Close(), a.TryLock(exclusive), a.Close())
		must(t, w.create(t, "f").TryLock(exclusive))
		_, _, err := w.create(t, "f").ProbeLock(shared)
		wantErr(t, err, vfs.ErrNotSupported)
	})
}

func TestRangeLocks(t *testing.T) {
	const base = int64(1) << 61
	pin := func(i int64) vfs.Lock { return vfs.Lock{Offset: base + i, Length: 1} }
	all := vfs.Lock{Offset: base, Length: 1000}
	writer := vfs.Lock{Offset: 1 << 62, Length: 1, Exclusive: true}
	conform(t, func(t *testing.T, w world) {
		a, b := w.create(t, "f"), w.create(t, "f")
		if err := a.TryLock(writer); errors.Is(err, vfs.ErrNotSupported) {
			t.Skip("no byte range locks here")
		} else {
			must(t, err)
		}
		wantErr(t, b.TryLock(writer), vfs.ErrLockHeld)
		must(t, b.TryLock(vfs.Lock{Whole: true})) // the two kinds do not conflict

		must(t, b.TryLock(pin(7)), b.TryLock(pin(9)))
		held, at, err := a.ProbeLock(all)
		must(t, err)
		if !held || (at != base+7 && at != base+9) {
			t.Fatalf("probe: %v %d", held, at-base)
		}
		if held, _, err := b.ProbeLock(all); held || err != nil {
			t.Fatalf("own locks seen by probe: %v %v", held, err)
		}
		must(t, a.TryLock(pin(7))) // shared with shared
		wantErr(t, a.TryLock(vfs.Lock{Offset: base, Length: 100, Exclusive: true}), vfs.ErrLockHeld)
		must(t, b.Unlock(pin(7)))
		held, at, err = a.ProbeLock(all)
		if !held || at != base+9 || err != nil {
			t.Fatalf("probe after unlock: %v %d %v", held, at-base, err)
		}
		must(t, b.Close())
		if held, _, err := a.ProbeLock(all); held || err != nil {
			t.Fatalf("probe after close: %v %v", held, err)
		}
		for _, l := range []vfs.Lock{{Offset: -1, Length: 1}, {}, {Length: -1}, {Offset: 1 << 62, Length: 1 << 62}} {
			if a.TryLock(l) == nil || a.Unlock(l) == nil {
				t.Fatalf("took %+v", l)
			}
			if _, _, err := a.ProbeLock(l); err == nil {
				t.Fatalf("probed %+v", l)
			}
		}
	})
}
