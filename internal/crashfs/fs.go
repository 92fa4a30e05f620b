// Package crashfs is a file system in memory that can lose its power.
//
// Processes see one cache: every open file and every mapping sees a write at once.
// The disk follows later: of each sector it may still have the version synced last,
// or any written since; sizes and names wait for a sync of their own. FS.Record
// records what a store does. Trace.Enumerate replays it and yields, for each point
// of the run at which the power may fail, the disks that may be found afterwards,
// each as a file system on which the store can be opened.
//
// A mapping aliases the bytes that writes are copied into, and takes no lock to
// read them. So the race detector reports a write to bytes that a reader of an
// older state still reads.
package crashfs

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/cidstore/cidstore/vfs"
)

// ErrSync is the error of a sync that FailSync made fail.
var ErrSync = errors.New("crashfs: sync failed")

// Options of a new file system. The zero value has no limit except the size of a
// file.
type Options struct {
	// FileLimit is the largest size of one file, in bytes, rounded up to a whole
	// page; default 16 MiB. Memory is used only for what is written.
	FileLimit int64
	// Capacity is the size of the disk, in bytes; 0: no limit.
	Capacity int64
	// Disk is what Info says about the file system; FileSystem is "crashfs" if
	// empty.
	Disk vfs.Info
}

const defaultFileLimit = 16 << 20

// SyncFailure says what a failed sync does to the cache. It never changes the disk.
type SyncFailure int

const (
	// FailKeep: the cache keeps the new bytes, and a later sync writes them.
	FailKeep SyncFailure = iota + 1
	// FailRevert: the cache goes back to what the disk has, as on Btrfs.
	FailRevert
	// FailLost: the cache keeps the new bytes and regards them as written, as on
	// ext4 and XFS. The next sync succeeds and writes nothing.
	FailLost
)

// FS is the file system. It is safe for concurrent use.
type FS struct {
	options Options
	pool    *pool

	// mu guards what follows, and the inodes except the bytes and the size that
	// mappings read.
	mu       sync.Mutex
	names    nameTable
	inodes   map[uint64]*inode
	lastID   uint64
	capacity int64
	failSync SyncFailure // 0: syncs succeed
	failFrom int         // syncs that still succeed before that
	failLeft int         // syncs that fail after that
	trace    *Trace      // nil: not recording
	keep     bool        // inodes keep the versions of their sectors
	dead     bool        // the power failed: no call succeeds
}

// New returns an empty file system.
func New(o Options) *FS {
	if o.FileLimit <= 0 {
		o.FileLimit = defaultFileLimit
	}
	o.FileLimit = (o.FileLimit + pageSize - 1) / pageSize * pageSize
	o.Disk.FileSystem = cmp.Or(o.Disk.FileSystem, "crashfs")
	return newFS(o, poolOf(o.FileLimit))
}

func newFS(o Options, p *pool) *FS {
	return &FS{options: o, pool: p, names: newNameTable(), inodes: map[uint64]*inode{}, capacity: o.Capacity}
}

// SetCapacity changes the size of the disk, in bytes; 0: no limit. Existing data
// stay, even if they are more.
func (s *FS) SetCapacity(bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.capacity = bytes
}

// FailSync makes the next skip syncs succeed and the count syncs after them fail.
// WriteSync, Datasync and Sync count as syncs; SyncDir does not.
func (s *FS) FailSync(mode SyncFailure, skip, count int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failSync, s.failFrom, s.failLeft = mode, skip, count
}

// syncFails counts one sync and says how it fails; 0: it does not.
func (s *FS) syncFails() SyncFailure {
	switch {
	case s.failLeft == 0:
		return 0
	case s.failFrom > 0:
		s.failFrom--
		return 0
	}
	s.failLeft--
	return s.failSync
}

// call makes a call, with the lock held. It fails once the power is off. Its error names
// op and the file.
func (s *FS) call(op, name string, do func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return pathError(op, name, fs.ErrClosed)
	}
	return pathError(op, name, do())
}

// Crash turns the power off: every later call on the file system and its files
// fails with fs.ErrClosed, and their locks are gone.
func (s *FS) Crash() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dead = true
}

// Release is Crash that also gives the memory of the files to later file systems. No
// mapping and no view of a file may be in use any more.
func (s *FS) Release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dead = true
	for _, ino := range s.inodes {
		if !ino.lent {
			s.pool.put(ino.arena)
		}
	}
	s.inodes = nil
}

func (s *FS) OpenFile(name string, flag int, perm fs.FileMode) (opened vfs.File, err error) {
	err = s.call("open", name, func() error {
		clean := filepath.Clean(name)
		ino := s.names.seen[clean]
		switch {
		case flag&os.O_APPEND != 0:
			return fs.ErrInvalid
		case ino == nil && flag&os.O_CREATE == 0:
			return fs.ErrNotExist
		case ino != nil && flag&os.O_CREATE != 0 && flag&os.O_EXCL != 0:
			return fs.ErrExist
		case ino == nil:
			ino = s.create(clean, perm)
			s.record(op{kind: Create, ino: ino.id, name: clean, mode: perm})
		}
		f := &file{fs: s, ino: ino, name: name, writable: flag&(os.O_WRONLY|os.O_RDWR) != 0}
		if f.writable && flag&os.O_TRUNC != 0 && ino.size.Load() > 0 {
			ino.truncate(0, s.keep)
			s.record(op{kind: Truncate, ino: ino.id})
		}
		ino.opens++
		opened = f
		return nil
	})
	return opened, err
}

func (s *FS) create(name string, mode fs.FileMode) *inode {
	s.lastID++
	ino := newInode(s.lastID, mode.Perm(), s.pool.get())
	s.inodes[ino.id] = ino
	s.names.change(nameEntry{name, ino})
	return ino
}

func (s *FS) Rename(oldname, newname string) error {
	return s.call("rename", oldname, func() error {
		from, to := filepath.Clean(oldname), filepath.Clean(newname)
		if s.names.seen[from] == nil {
			return fs.ErrNotExist
		}
		s.rename(from, to)
		s.record(op{kind: Rename, name: from, name2: to})
		return nil
	})
}

func (s *FS) rename(from, to string) {
	if from != to {
		replaced := s.names.seen[to]
		s.names.change(nameEntry{to, s.names.seen[from]}, nameEntry{from, nil})
		s.freeSpace(replaced)
	}
}

func (s *FS) Remove(name string) error {
	return s.call("remove", name, func() error {
		clean := filepath.Clean(name)
		if s.names.seen[clean] == nil {
			return fs.ErrNotExist
		}
		s.remove(clean)
		s.record(op{kind: Remove, name: clean})
		return nil
	})
}

func (s *FS) remove(name string) {
	ino := s.names.seen[name]
	s.names.change(nameEntry{name, nil})
	s.freeSpace(ino)
}

// freeSpace forgets a file that has no name and is not open. In a replay it stays,
// because no file is open there, and the disk may still have the name.
func (s *FS) freeSpace(ino *inode) {
	if ino != nil && ino.links == 0 && ino.opens == 0 && !s.keep {
		delete(s.inodes, ino.id)
		if !ino.lent && ino.maps.Load() == 0 {
			s.pool.put(ino.arena)
		}
	}
}

func (s *FS) Stat(name string) (info vfs.Info, err error) {
	err = s.call("stat", name, func() error {
		ino := s.names.seen[filepath.Clean(name)]
		if ino == nil {
			return fs.ErrNotExist
		}
		info = s.info(ino)
		return nil
	})
	return info, err
}

func (s *FS) info(ino *inode) vfs.Info {
	info := s.options.Disk
	info.Device, info.Inode, info.Mode = 1, ino.id, ino.mode
	info.Size, info.Allocated = ino.size.Load(), ino.allocated()
	return info
}

func (s *FS) SyncDir(dir string) error {
	return s.call("sync", dir, func() error {
		clean := filepath.Clean(dir)
		s.names.syncDir(clean)
		s.record(op{kind: SyncDir, name: clean})
		return nil
	})
}

// room checks that this many more pages fit on the disk.
func (s *FS) room(pages int64) error {
	if pages == 0 || s.capacity <= 0 {
		return nil
	}
	free := s.capacity
	for _, ino := range s.inodes {
		free -= ino.allocated()
	}
	if pages*pageSize > free {
		return vfs.ErrNoSpace
	}
	return nil
}

func pathError(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}
