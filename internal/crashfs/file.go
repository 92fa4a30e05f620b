package crashfs

import (
	"io"
	"io/fs"
	"sync/atomic"

	"github.com/cidstore/cidstore/vfs"
)

type file struct {
	fs       *FS
	ino      *inode
	name     string
	writable bool
	closed   bool // guarded by fs.mu
}

func (f *file) Name() string { return f.name }

// call makes a call on the file. write says that the call changes the file.
func (f *file) call(op string, write bool, do func() error) error {
	return f.fs.call(op, f.name, func() error {
		switch {
		case f.closed:
			return fs.ErrClosed
		case write && !f.writable:
			return fs.ErrPermission
		}
		return do()
	})
}

func (f *file) ReadAt(p []byte, off int64) (n int, err error) {
	err = f.call("read", false, func() error {
		if off < 0 {
			return fs.ErrInvalid
		}
		size := f.ino.size.Load()
		n = copy(p, f.ino.data[min(off, size):size])
		return nil
	})
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

func (f *file) WriteAt(p []byte, off int64) error {
	return f.call("write", true, func() error { return f.write(p, off) })
}

// write puts p into the cache, as far as there is room for it: a full disk
// leaves the first part written.
func (f *file) write(p []byte, off int64) error {
	n := int64(len(p))
	if off < 0 {
		return fs.ErrInvalid
	}
	var err error
	if limit := int64(len(f.ino.data)); n > limit-off {
		n, err = max(0, limit-off), vfs.ErrNoSpace
	}
	if full := f.fs.room(f.ino.missing(off, n)); full != nil {
		err = full
		for n > 0 && f.fs.room(f.ino.missing(off, n)) != nil {
			n = max(0, (off+n-1)/pageSize*pageSize-off)
		}
	}
	if n > 0 {
		f.ino.reserve(off, n)
		f.ino.write(p[:n], off, f.fs.keep)
		f.fs.record(op{kind: Write, ino: f.ino.id, off: off, data: p[:n]})
	}
	return err
}

func (f *file) WriteSync(p []byte, off int64) error {
	return f.call("write", true, func() error {
		if err := f.write(p, off); err != nil {
			return err
		}
		return f.sync(SyncRange, off, int64(len(p)))
	})
}

// sync makes [off, off+n) durable, or fails as FailSync said.
func (f *file) sync(kind Kind, off, n int64) error {
	mode := f.fs.syncFails()
	o := op{kind: kind, ino: f.ino.id, off: off, n: n, failed: mode}
	f.ino.applySync(&o)
	f.fs.record(o)
	if mode != 0 {
		return ErrSync
	}
	return nil
}

// applySync is the one place that defines what each sync does.
func (ino *inode) applySync(o *op) {
	switch {
	case o.failed != 0:
		ino.failSync(o.failed, o.off, o.n)
	case o.kind == SyncRange:
		ino.sync(o.off, o.n)
	default:
		ino.syncAll()
	}
}

func (f *file) Datasync() error { return f.syncWhole("fdatasync") }

func (f *file) Sync() error { return f.syncWhole("fsync") }

func (f *file) syncWhole(op string) error {
	return f.call(op, false, func() error { return f.sync(SyncFile, 0, int64(len(f.ino.data))) })
}

// StartWriteback does nothing: a disk may have begun to write anything at any
// time, and the images say so.
func (f *file) StartWriteback(int64, int64) {}

// DropCache does nothing: what is not synced may be lost at any time anyway.
func (f *file) DropCache(int64, int64) {}

func (f *file) Allocate(off, n int64) error {
	return f.call("allocate", true, func() error {
		switch {
		case off < 0 || n < 0 || off+n < off:
			return fs.ErrInvalid
		case n == 0:
			return nil
		case off+n > int64(len(f.ino.data)):
			return vfs.ErrNoSpace
		}
		if err := f.fs.room(f.ino.missing(off, n)); err != nil {
			return err
		}
		f.ino.allocate(off, n)
		f.fs.record(op{kind: Allocate, ino: f.ino.id, off: off, n: n})
		return nil
	})
}

func (ino *inode) allocate(off, n int64) {
	ino.reserve(off, n)
	ino.resize(max(ino.size.Load(), off+n))
}

func (f *file) Truncate(size int64) error {
	return f.call("truncate", true, func() error {
		switch {
		case size < 0:
			return fs.ErrInvalid
		case size > int64(len(f.ino.data)):
			return vfs.ErrNoSpace
		}
		f.ino.truncate(size, f.fs.keep)
		f.fs.record(op{kind: Truncate, ino: f.ino.id, n: size})
		return nil
	})
}

func (f *file) Info() (info vfs.Info, err error) {
	err = f.call("stat", false, func() error { info = f.fs.info(f.ino); return nil })
	return info, err
}

func (f *file) Shape() (size int64, links uint64, err error) {
	err = f.call("stat", false, func() error { size, links = f.ino.size.Load(), uint64(f.ino.links); return nil })
	return size, links, err
}

func (f *file) TryLock(l vfs.Lock) error {
	return f.lockCall("lock", l, func() error { return f.ino.locks.take(f, l) })
}

func (f *file) Unlock(l vfs.Lock) error {
	return f.lockCall("unlock", l, func() error { f.ino.locks.free(f, l); return nil })
}

func (f *file) ProbeLock(l vfs.Lock) (held bool, at int64, err error) {
	err = f.lockCall("probe lock", l, func() error {
		if l.Whole {
			return vfs.ErrNotSupported
		}
		l.Exclusive = true
		held, at = f.ino.locks.conflict(f, l)
		return nil
	})
	return held, at, err
}

func (f *file) lockCall(op string, l vfs.Lock, call func() error) error {
	// An exclusive byte range needs a file open for writing, as on Linux.
	return f.call(op, l.Exclusive && !l.Whole && op == "lock", func() error {
		if !l.Whole && (l.Offset < 0 || l.Length <= 0 || l.Offset+l.Length < l.Offset) {
			return fs.ErrInvalid
		}
		return call()
	})
}

func (f *file) Close() error {
	return f.call("close", false, func() error {
		f.closed = true
		f.ino.opens--
		f.ino.locks.freeAll(f)
		f.fs.freeSpace(f.ino)
		return nil
	})
}

// mapping aliases the arena of a file. It takes no lock, and as long as views are
// within the size that it knows, it reads nothing that a writer stores to.
type mapping struct {
	f      *file
	data   []byte
	known  atomic.Int64 // size of the file when it was last looked at
	closed atomic.Bool
}

func (f *file) Map(reserve int64) (mapped vfs.Mapping, err error) {
	err = f.call("map", false, func() error {
		size := f.ino.size.Load()
		reserve = min(max(reserve, size, 1), int64(len(f.ino.data)))
		m := &mapping{f: f, data: f.ino.data[:reserve:reserve]}
		m.known.Store(min(size, reserve))
		f.ino.maps.Add(1)
		mapped = m
		return nil
	})
	return mapped, err
}

func (m *mapping) View(off, n int64) ([]byte, error) {
	if off < 0 || n < 0 {
		return nil, pathError("view", m.f.name, fs.ErrInvalid)
	}
	if m.closed.Load() {
		return nil, pathError("view", m.f.name, fs.ErrClosed)
	}
	if n > m.known.Load()-off {
		size := m.f.ino.size.Load()
		switch {
		case n > size-off:
			return nil, pathError("view", m.f.name, io.ErrUnexpectedEOF)
		case n > int64(len(m.data))-off:
			return nil, pathError("view", m.f.name, vfs.ErrNoMap)
		}
		m.known.Store(min(size, int64(len(m.data))))
	}
	return m.data[off : off+n : off+n], nil
}

func (m *mapping) Close() error {
	if m.closed.Swap(true) {
		return pathError("unmap", m.f.name, fs.ErrClosed)
	}
	m.f.ino.maps.Add(-1)
	return nil
}
