package errfs

import (
	"io/fs"

	"github.com/cidstore/cidstore/vfs"
)

// Hooked is a file system that gives each file of FS to Wrap, and opens what Wrap returns.
// It is for tests that do something of their own at a call, or count calls.
type Hooked struct {
	vfs.FS
	Wrap func(vfs.File) vfs.File
}

func (h Hooked) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	f, err := h.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return h.Wrap(f), nil
}

// Hooks are called at calls of files, by the goroutine that makes the call. A test sets
// those that it wants, and may set others, or nil, whenever no call is under way.
type Hooks struct {
	Read   func(off int64, n int)      // before ReadAt
	Synced func(f vfs.File, off int64) // after WriteSync; off is -1 after Datasync and Sync
	Locked func(l vfs.Lock)            // after a TryLock that has taken the lock
	Shaped func()                      // after Shape
	Grows  func()                      // before Allocate
}

// On returns a file system whose files are those of inner, with the hooks.
func (h *Hooks) On(inner vfs.FS) Hooked {
	return Hooked{FS: inner, Wrap: func(f vfs.File) vfs.File { return hookedFile{f, h} }}
}

type hookedFile struct {
	vfs.File
	hooks *Hooks
}

func (f hookedFile) ReadAt(p []byte, off int64) (int, error) {
	if f.hooks.Read != nil {
		f.hooks.Read(off, len(p))
	}
	return f.File.ReadAt(p, off)
}

func (f hookedFile) WriteSync(p []byte, off int64) error {
	err := f.File.WriteSync(p, off)
	if f.hooks.Synced != nil {
		f.hooks.Synced(f.File, off)
	}
	return err
}

func (f hookedFile) Datasync() error {
	err := f.File.Datasync()
	if f.hooks.Synced != nil {
		f.hooks.Synced(f.File, -1)
	}
	return err
}

func (f hookedFile) Sync() error {
	err := f.File.Sync()
	if f.hooks.Synced != nil {
		f.hooks.Synced(f.File, -1)
	}
	return err
}

func (f hookedFile) TryLock(l vfs.Lock) error {
	err := f.File.TryLock(l)
	if err == nil && f.hooks.Locked != nil {
		f.hooks.Locked(l)
	}
	return err
}

func (f hookedFile) Shape() (size int64, links uint64, err error) {
	size, links, err = f.File.Shape()
	if f.hooks.Shaped != nil {
		f.hooks.Shaped()
	}
	return size, links, err
}

func (f hookedFile) Allocate(off, n int64) error {
	if f.hooks.Grows != nil {
		f.hooks.Grows()
	}
	return f.File.Allocate(off, n)
}
