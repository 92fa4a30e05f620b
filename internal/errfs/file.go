package errfs

import "github.com/cidstore/cidstore/vfs"

// file is an open file. Name, StartWriteback and DropCache cannot fail and are those of the
// inner file.
type file struct {
	vfs.File
	fs *FS
}

// fail decides about a call on the file. With n = 0, the call has no place.
func (f *file) fail(op Op, name string, off, n int64) (partial int, err error) {
	return f.fs.fail(call{op: op, name: name, path: f.Name(), off: off, n: n})
}

// do makes a call on the file, unless it fails.
func (f *file) do(op Op, name string, off, n int64, inner func() error) error {
	return f.fs.do(call{op: op, name: name, path: f.Name(), off: off, n: n}, inner)
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

func (f *file) WriteAt(p []byte, off int64) error { return f.write(Write, f.File.WriteAt, p, off) }

func (f *file) WriteSync(p []byte, off int64) error {
	return f.write(WriteSync, f.File.WriteSync, p, off)
}

// write writes p, or the first bytes of it if that fails.
func (f *file) write(op Op, inner func([]byte, int64) error, p []byte, off int64) error {
	partial, err := f.fail(op, "write", off, int64(len(p)))
	if err == nil {
		return inner(p, off)
	}
	if partial = min(partial, len(p)); partial > 0 {
		if failed := f.File.WriteAt(p[:partial], off); failed != nil {
			return failed
		}
	}
	return err
}

func (f *file) Allocate(off, n int64) error {
	return f.do(Allocate, "allocate", off, n, func() error { return f.File.Allocate(off, n) })
}

func (f *file) Truncate(size int64) error {
	return f.do(Truncate, "truncate", size, 1, func() error { return f.File.Truncate(size) })
}

func (f *file) Datasync() error { return f.do(Datasync, "fdatasync", 0, 0, f.File.Datasync) }

func (f *file) Sync() error { return f.do(Sync, "fsync", 0, 0, f.File.Sync) }

func (f *file) TryLock(l vfs.Lock) error {
	return f.do(TryLock, "lock", l.Offset, l.Length, func() error { return f.File.TryLock(l) })
}

func (f *file) ProbeLock(l vfs.Lock) (held bool, at int64, err error) {
	err = f.do(ProbeLock, "probe lock", l.Offset, l.Length, func() (err error) { held, at, err = f.File.ProbeLock(l); return err })
	return held, at, err
}

func (f *file) Unlock(l vfs.Lock) error {
	return f.do(Unlock, "unlock", l.Offset, l.Length, func() error { return f.File.Unlock(l) })
}

func (f *file) Info() (info vfs.Info, err error) {
	err = f.do(Info, "stat", 0, 0, func() (err error) { info, err = f.File.Info(); return err })
	return info, err
}

func (f *file) Shape() (size int64, links uint64, err error) {
	err = f.do(Info, "stat", 0, 0, func() (err error) { size, links, err = f.File.Shape(); return err })
	return size, links, err
}

func (f *file) Close() error {
	_, err := f.fail(Close, "close", 0, 0)
	if inner := f.File.Close(); err == nil {
		err = inner
	}
	return err
}

func (f *file) Map(reserve int64) (m vfs.Mapping, err error) {
	err = f.do(Map, "map", 0, 0, func() (err error) {
		if m, err = f.File.Map(reserve); err == nil {
			m = &mapping{m, f}
		}
		return err
	})
	return m, err
}

type mapping struct {
	vfs.Mapping
	f *file
}

func (m *mapping) View(off, n int64) (p []byte, err error) {
	err = m.f.do(View, "view", off, n, func() (err error) { p, err = m.Mapping.View(off, n); return err })
	return p, err
}
