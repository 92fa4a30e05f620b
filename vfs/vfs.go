// Package vfs is the one seam between CIDStore and the operating system: files,
// mappings, locks and directory durability. Everything that the store asks of a
// disk goes through FS and File, so that a test can take the disk's place.
//
// Files are written with WriteAt and WriteSync; a mapping is only for reading. No
// other package of the module calls os, syscall or x/sys for the files of a store.
package vfs

import (
	"errors"
	"io/fs"
	"os"
)

// The flags of OpenFile that a store needs.
const (
	ReadOnly  = os.O_RDONLY
	ReadWrite = os.O_RDWR
	Create    = os.O_CREATE // create the file if there is none
	Exclusive = os.O_EXCL   // with Create: fail if there is one
)

// FS opens files and makes changes of names durable. Implementations are safe
// for concurrent use.
type FS interface {
	// OpenFile is os.OpenFile with close-on-exec, for regular files only. flag
	// takes the os.O_ values; this package repeats those that a store needs.
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	// Rename replaces newname by oldname atomically; it is durable after SyncDir.
	Rename(oldname, newname string) error
	Remove(name string) error
	// Stat describes the file. It follows symbolic links.
	Stat(name string) (Info, error)
	// SyncDir makes the names in dir durable.
	SyncDir(dir string) error
}

// File is one open file. All methods are safe for concurrent use, as long as no
// two writes overlap and nobody uses the file after Close.
type File interface {
	Name() string
	// ReadAt follows io.ReaderAt: fewer bytes than len(p) come with an error.
	ReadAt(p []byte, off int64) (int, error)
	// WriteAt writes all of p or fails; after an error the range is undefined.
	WriteAt(p []byte, off int64) error
	// WriteSync is WriteAt, and the range is durable when it returns. It does not
	// flush other ranges if the system can avoid that.
	WriteSync(p []byte, off int64) error
	// StartWriteback asks the system to begin writing a range to the disk, and does
	// not wait. It is only a hint, which promises nothing and reports nothing.
	StartWriteback(off, n int64)
	// DropCache tells the system that it need not keep a range in its cache. It is only a
	// hint, which changes no byte and reports nothing.
	DropCache(off, n int64)
	// Allocate reserves real space for [off, off+n), growing the file to at least
	// off+n; a full disk is reported here and not later. Existing bytes stay; new
	// ones are zero. It counts as a write of the range; after an error the file may
	// have grown.
	Allocate(off, n int64) error
	Truncate(size int64) error
	// Datasync makes the written data durable, and the size needed to read it.
	Datasync() error
	// Sync is Datasync, and makes all metadata durable.
	Sync() error
	// Map maps the file for reading. reserve is the address space to set aside, in
	// bytes; the file may grow within it and is seen through the same Mapping. The
	// error is ErrNoMap if this file cannot be mapped and must be read with ReadAt.
	// If address space is short, less may be set aside, but never less than the
	// file's size. All mappings of a process together get a part of its address
	// space; when that is used up, the error is ErrNoMap.
	Map(reserve int64) (Mapping, error)
	// TryLock takes l without waiting. The error is ErrLockHeld if another open
	// file has it. Taking a lock again in the other mode converts it. The
	// conversion of a whole-file lock is not atomic: another open file may take the
	// lock in between, and then the lock that was held is gone.
	TryLock(l Lock) error
	// ProbeLock reports whether another open file holds a lock that conflicts with
	// an exclusive l, and the first byte of one such lock (not always the lowest).
	// Whole-file locks cannot be probed; the error is ErrNotSupported.
	ProbeLock(l Lock) (held bool, at int64, err error)
	Unlock(l Lock) error
	Info() (Info, error)
	// Shape returns the file's size in bytes and how many names it has, 0 if all
	// are gone. Info says the same; Shape costs only one cheap call to the system.
	Shape() (size int64, links uint64, err error)
	Close() error
}

// Mapping is a window on a file, only for reading. It must be closed before its
// file, and not while it is read.
type Mapping interface {
	// View returns the bytes [off, off+n) of the file. The slice aliases the file
	// and is valid until Close. The error is io.ErrUnexpectedEOF for bytes past the
	// end of the file, and ErrNoMap for bytes past what was set aside. Reading the
	// slice may fault if the file is truncated; see Guard.
	View(off, n int64) ([]byte, error)
	Close() error
}

// Lock names a lock that the kernel frees when the open file is closed or its
// process dies, however it dies.
type Lock struct {
	// Whole is flock(2) on the file: the lock that HDF5 tools take and honour.
	// Otherwise it is an open-file-description lock on [Offset, Offset+Length),
	// which HDF5 tools do not see.
	Whole     bool
	Exclusive bool
	Offset    int64
	Length    int64
}

// Info describes a file and the file system that it is on.
type Info struct {
	Device, Inode uint64
	Size          int64
	Allocated     int64 // bytes of disk in use, 0 if unknown
	Free          int64 // bytes that this user can still get on the file system; of Stat alone, 0 if unknown
	Mode          fs.FileMode
	FileSystem    string // name of the file system, "" if unknown
	Network       bool   // a network file system, or one that is not known to be local: locks and syncs may not hold
	ReadOnly      bool   // mounted read-only
}

var (
	// ErrLockHeld: the lock is held by another open file.
	ErrLockHeld = errors.New("file is locked")
	// ErrNoMap: this file or system cannot map files.
	ErrNoMap = errors.New("file cannot be mapped")
	// ErrNotSupported: this system has no such lock. Byte ranges exist on Linux and
	// Windows; elsewhere only whole-file locks keep two writers apart.
	ErrNotSupported = errors.New("not supported on this system")
	// ErrNoSpace is matched by every error of a full disk, a spent quota or a file
	// that may not grow, whatever the system calls it.
	ErrNoSpace = errors.New("no space")
)
