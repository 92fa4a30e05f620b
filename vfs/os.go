package vfs

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
)

// The logic that all systems share. What differs is in the files whose names end with a
// system, as functions that take a descriptor.

// OS returns the file system of the machine.
func OS() FS { return osFS{} }

type osFS struct{}

// errNotRegular: there is a directory, device, pipe or socket where a file should
// be.
var errNotRegular = errors.New("not a regular file")

func (osFS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := openFile(name, flag, perm)
	if err != nil {
		return nil, noSpace(err)
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = pathError("open", name, errNotRegular)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &osFile{f: f}, nil
}

func (osFS) Rename(oldname, newname string) error { return noSpace(os.Rename(oldname, newname)) }

func (osFS) Remove(name string) error { return os.Remove(name) }

func (osFS) Stat(name string) (Info, error) {
	info, err := statPath(name)
	return info, pathError("stat", name, err)
}

// Reads reports whether r reads the file at path. It is false for an r without the method
// Stat, which an os.File has.
func Reads(r io.Reader, path string) bool {
	file, ok := r.(interface{ Stat() (fs.FileInfo, error) })
	if !ok {
		return false
	}
	source, err := file.Stat()
	named, namedErr := os.Stat(path)
	return err == nil && namedErr == nil && os.SameFile(source, named)
}

const maxLinks = 40 // symbolic links that may lead to a file

// Target returns the name of the file that name leads to by symbolic links; the
// file need not exist. It is for callers that replace a file by its name. On file
// systems other than the machine's, it returns name.
func Target(on FS, name string) string {
	if on != OS() {
		return name
	}
	target := name
	for range maxLinks {
		next, err := os.Readlink(target)
		if err != nil { // no link
			return target
		}
		if !filepath.IsAbs(next) {
			next = filepath.Join(filepath.Dir(target), next)
		}
		target = next
	}
	return name // a circle, which opening it will report
}

func (osFS) SyncDir(dir string) error { return noSpace(syncDir(dir)) }

// osFile is an open file of the system. The os package loops over short reads
// and writes and over interrupted calls, and keeps the descriptor from being
// closed under a call.
type osFile struct {
	f *os.File
	// noRangeSync: the file system has refused a write that syncs its own range.
	noRangeSync atomic.Bool
}

func (f *osFile) Name() string { return f.f.Name() }

func (f *osFile) ReadAt(p []byte, off int64) (int, error) { return f.f.ReadAt(p, off) }

func (f *osFile) WriteAt(p []byte, off int64) error {
	_, err := f.f.WriteAt(p, off)
	return noSpace(err)
}

func (f *osFile) WriteSync(p []byte, off int64) error {
	if off < 0 { // to the system -1 is the position of the descriptor
		return pathError("write", f.Name(), fs.ErrInvalid)
	}
	if !f.noRangeSync.Load() {
		err := f.control("write", func(fd uintptr) error { return writeSync(fd, p, off) })
		if !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
		f.noRangeSync.Store(true)
	}
	if err := f.WriteAt(p, off); err != nil {
		return err
	}
	return f.Datasync()
}

func (f *osFile) StartWriteback(off, n int64) {
	if off < 0 || n <= 0 { // to the system a length of 0 means: to the end
		return
	}
	// This is only a hint: the next sync will report what went wrong.
	_ = f.control("writeback", func(fd uintptr) error { startWriteback(fd, off, n); return nil })
}

func (f *osFile) DropCache(off, n int64) {
	if off < 0 || n <= 0 {
		return
	}
	_ = f.control("drop cache", func(fd uintptr) error { dropCache(fd, off, n); return nil }) // a hint too
}

func (f *osFile) Truncate(size int64) error { return noSpace(f.f.Truncate(size)) }

func (f *osFile) Datasync() error { return f.control("fdatasync", datasync) }

func (f *osFile) Sync() error { return noSpace(f.f.Sync()) }

// allocateStep bounds one call to the system, in bytes. tmpfs undoes an interrupted
// call, so a long one would never end under frequent signals.
const allocateStep = 64 << 20

func (f *osFile) Allocate(off, n int64) error {
	if off < 0 || n < 0 || off+n < off {
		return pathError("allocate", f.Name(), fs.ErrInvalid)
	}
	for n > 0 {
		step := min(n, allocateStep)
		err := f.control("allocate", func(fd uintptr) error { return allocate(fd, off, step) })
		if errors.Is(err, errors.ErrUnsupported) {
			err = f.writeZeros(off, step)
		}
		if err != nil {
			return err
		}
		off, n = off+step, n-step
	}
	return nil
}

// writeZeros gives [off, off+n) real space if the system has no call for that. A
// block that reads as zeros may be a hole and is written; any other block has its
// space already.
func (f *osFile) writeZeros(off, n int64) error {
	const block = 4096
	var data [block]byte
	zeros := make([]byte, min(n, 1<<20))
	for end := off + n; off < end; {
		piece := min(end-off, block-off%block)
		got, err := f.f.ReadAt(data[:piece], off)
		if err != nil && err != io.EOF {
			return err
		}
		if got == 0 { // past the end, where all is zero
			piece = min(end-off, int64(len(zeros)))
		}
		if bytes.Equal(data[:got], zeros[:got]) {
			got = 0
		}
		if err := f.WriteAt(zeros[:piece-int64(got)], off+int64(got)); err != nil {
			return err
		}
		off += piece
	}
	return nil
}

func (f *osFile) Info() (Info, error) {
	st, err := f.f.Stat()
	if err != nil {
		return Info{}, err
	}
	info := Info{Size: st.Size(), Mode: st.Mode()}
	err = f.control("stat", func(fd uintptr) error { return statFD(fd, st, &info) })
	return info, err
}

func (f *osFile) Shape() (size int64, links uint64, err error) {
	err = f.control("stat", func(fd uintptr) (err error) {
		size, links, err = shapeFD(fd)
		return err
	})
	return size, links, err
}

func (f *osFile) TryLock(l Lock) error {
	return f.lockCall("lock", l, func(fd uintptr) error {
		if l.Whole {
			return lockWhole(fd, l.Exclusive)
		}
		return lockRange(fd, l)
	})
}

func (f *osFile) ProbeLock(l Lock) (held bool, at int64, err error) {
	err = f.lockCall("probe lock", l, func(fd uintptr) (err error) {
		if l.Whole {
			return ErrNotSupported
		}
		held, at, err = probeRange(fd, l)
		return err
	})
	return held, at, err
}

func (f *osFile) Unlock(l Lock) error {
	return f.lockCall("unlock", l, func(fd uintptr) error {
		if l.Whole {
			return unlockWhole(fd)
		}
		return unlockRange(fd, l)
	})
}

func (f *osFile) Close() error { return f.f.Close() }

// lockCall is control for a lock. It refuses byte ranges that no system has.
func (f *osFile) lockCall(op string, l Lock, call func(fd uintptr) error) error {
	if !l.Whole && (l.Offset < 0 || l.Length <= 0 || l.Offset+l.Length < l.Offset) {
		return pathError(op, f.Name(), fs.ErrInvalid)
	}
	return f.control(op, call)
}

// control runs call with the descriptor, which stays open until call returns.
func (f *osFile) control(op string, call func(fd uintptr) error) error {
	conn, err := f.f.SyscallConn()
	if err != nil {
		return err
	}
	var callErr error
	if conn.Control(func(fd uintptr) { callErr = call(fd) }) != nil {
		callErr = fs.ErrClosed // the only way in which Control fails
	}
	return pathError(op, f.Name(), callErr)
}

// pathError names the call and the file, as the os package does.
func pathError(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return noSpace(&fs.PathError{Op: op, Path: name, Err: err})
}

// noSpaceError makes the system's error match ErrNoSpace and keeps its text.
type noSpaceError struct{ err error }

func (e noSpaceError) Error() string   { return e.err.Error() }
func (e noSpaceError) Unwrap() []error { return []error{ErrNoSpace, e.err} }

func noSpace(err error) error {
	if err != nil && isNoSpace(err) {
		return noSpaceError{err}
	}
	return err
}
