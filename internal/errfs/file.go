package errfs

import "github.com/cidstore/cidstore/vfs"

// file is an open file. Name and StartWriteback cannot fail and are those of the
// inner file.
type file struct {
	vfs.File
	fs *FS
}

// fail decides about a call on the file. With n = 0, the call has no place.
func (f *file) fail(op Op, name string, off, n int64) (partial int, err error) {
	return f.fs.fail(call{op: op, name: name, path: f.Name(), off: off, n: n})
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	partial, err := f.fail(Read, "read", off, int64(len(p)))
	if err == nil {
		return f.File.ReadAt(p, off)
	}
	if partial = min(partial, len(p)); partial > 0 {
		// A shorter inner read has moved what there is; the injected error is
		// returned.
		partial, _ = f.File.ReadAt(p[:partial], off)
	}
	return partial, err
}

func (f *file) WriteAt(p []byte, off int64) error {
	if partial, err := f.fail(Write, "write", off, int64(len(p))); err != nil {
		return f.part(p, off, partial, err)
	}
	return f.File.WriteAt(p, off)
}

func (f *file) WriteSync(p []byte, off int64) error {
	if partial, err := f.fail(WriteSync, "write", off, int64(len(p))); err != nil {
		return f.part(p, off, partial, err)
	}
	return f.File.WriteSync(p, off)
}

// part writes the first bytes of a write that fails, and returns its error.
func (f *file) part(p []byte, off int64, partial int, err error) error {
	if partial = min(partial, len(p)); partial > 0 {
		if inner := f.File.WriteAt(p[:partial], off); inner != nil {
			return inner
		}
	}
	return err
}

func (f *file) Allocate(off, n int64) error {
	if _, err := f.fail(Allocate, "allocate", off, n); err != nil {
		return err
	}
	return f.File.Allocate(off, n)
}

func (f *file) Truncate(size int64) error {
	if _, err := f.fail(Truncate, "truncate", size, 1); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

func (f *file) Datasync() error {
	if _, err := f.fail(Datasync, "fdatasync", 0, 0); err != nil {
		return err
	}
	return f.File.Datasync()
}

func (f *file) Sync() error {
	if _, err := f.fail(Sync, "fsync", 0, 0); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f *file) TryLock(l vfs.Lock) error {
	if _, err := f.fail(TryLock, "lock", l.Offset, l.Length); err != nil {
		return err
	}
	return f.File.TryLock(l)
}

func (f *file) ProbeLock(l vfs.Lock) (held bool, at int64, err error) {
	if _, err := f.fail(ProbeLock, "probe lock", l.Offset, l.Length); err != nil {
		return false, 0, err
	}
	return f.File.ProbeLock(l)
}

func (f *file) Unlock(l vfs.Lock) error {
	if _, err := f.fail(Unlock, "unlock", l.Offset, l.Length); err != nil {
		return err
	}
	return f.File.Unlock(l)
}

func (f *file) Info() (vfs.Info, error) {
	if _, err := f.fail(Info, "stat", 0, 0); err != nil {
		return vfs.Info{}, err
	}
	return f.File.Info()
}

func (f *file) Shape() (size int64, links uint64, err error) {
	if _, err := f.fail(Info, "stat", 0, 0); err != nil {
		return 0, 0, err
	}
	return f.File.Shape()
}

func (f *file) Close() error {
	_, err := f.fail(Close, "close", 0, 0)
	if inner := f.File.Close(); err == nil {
		err = inner
	}
	return err
}

func (f *file) Map(reserve int64) (vfs.Mapping, error) {
	if _, err := f.fail(Map, "map", 0, 0); err != nil {
		return nil, err
	}
	m, err := f.File.Map(reserve)
	if err != nil {
		return nil, err
	}
	return &mapping{m, f}, nil
}

type mapping struct {
	vfs.Mapping
	f *file
}

func (m *mapping) View(off, n int64) ([]byte, error) {
	if _, err := m.f.fail(View, "view", off, n); err != nil {
		return nil, err
	}
	return m.Mapping.View(off, n)
}
