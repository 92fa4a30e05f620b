package hdf5io

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/cidstore/cidstore/internal/seedbug"
	"github.com/cidstore/cidstore/vfs"
)

// Every process that has the file open holds flock LOCK_SH on it, which lets HDF5
// readers in and keeps HDF5 writers out. The writer also holds the byte writerByte
// exclusively; a read-only opener shares the byte pinBase + commit of the root that
// it reads. Only the kernel's locks count, because they end with the process.
const (
	writerByte = 1 << 62
	pinBase    = 1 << 61
)

var (
	lockShared    = vfs.Lock{Whole: true}
	lockExclusive = vfs.Lock{Whole: true, Exclusive: true}
	lockWriter    = vfs.Lock{Offset: writerByte, Length: 1, Exclusive: true}
)

// Holder returns the number of the process that keeps an opener out, for reading or
// for writing; 0 if it is not known. See vfs.LockHolder.
func Holder(info vfs.Info, readOnly bool, likely int) int {
	if !readOnly {
		if pid := vfs.LockHolder(info, lockWriter, likely); pid != 0 {
			return pid
		}
	}
	return vfs.LockHolder(info, lockShared, likely)
}

// PinHolder returns the number of a process that holds the root of a commit, which
// is older than the newest: this process if one of its Views is of that root,
// otherwise one that the system names, or 0 if it is not known. See vfs.LockHolder.
func (f *File) PinHolder(commit Commit, info vfs.Info) int {
	f.space.mu.Lock()
	here := slices.ContainsFunc(f.space.views, func(v *View) bool { return v.slot.commit == commit })
	f.space.mu.Unlock()
	if here {
		return vfs.ProcessID()
	}
	held := pinLock(commit)
	held.Exclusive = true
	return vfs.LockHolder(info, held, 0)
}

func pinLock(commit Commit) vfs.Lock {
	return vfs.Lock{Offset: pinBase + int64(commit), Length: 1}
}

// lock takes the locks of an opener. Where there are no byte locks, a lock on the
// whole file keeps readers and a writer apart, and no pins are needed.
func (f *File) lock() error {
	if err := f.file.TryLock(lockShared); err != nil {
		return fmt.Errorf("lock the file: %w", err)
	}
	if f.options.ReadOnly {
		return nil
	}
	err := f.file.TryLock(lockWriter)
	if errors.Is(err, vfs.ErrNotSupported) {
		f.alone.Store(true)
		err = f.file.TryLock(lockExclusive)
	}
	if err != nil {
		f.unlock()
		return fmt.Errorf("lock the file for writing: %w", err)
	}
	return nil
}

// unlock gives up all locks except pins. Closing the file would do so too, but a
// test file system, or a duplicated descriptor, may keep them.
func (f *File) unlock() {
	if !f.options.ReadOnly && !f.alone.Load() {
		f.file.Unlock(lockWriter)
	}
	f.file.Unlock(lockShared)
}

// pins counts how often each commit is pinned; the kernel has one lock for all of
// them.
type pins struct {
	mu    sync.Mutex
	count map[Commit]int
}

// pin keeps other processes from using again what the root of commit reaches, until
// unpin was called as often as pin.
func (f *File) pin(commit Commit) error {
	f.pins.mu.Lock()
	defer f.pins.mu.Unlock()
	if f.pins.count[commit] == 0 {
		err := f.file.TryLock(pinLock(commit))
		if err != nil && !errors.Is(err, vfs.ErrNotSupported) {
			return fmt.Errorf("pin commit %d: %w", commit, err)
		}
	}
	if f.pins.count == nil {
		f.pins.count = make(map[Commit]int)
	}
	f.pins.count[commit]++
	return nil
}

func (f *File) unpin(commit Commit) {
	f.pins.mu.Lock()
	defer f.pins.mu.Unlock()
	if f.pins.count[commit]--; f.pins.count[commit] == 0 {
		delete(f.pins.count, commit)
		f.file.Unlock(pinLock(commit))
	}
}

// outsidePin returns the oldest commit before limit that another opener has
// pinned, or limit.
func (f *File) outsidePin(limit Commit) (Commit, error) {
	if f.alone.Load() || seedbug.On("pin-ignored") {
		return limit, nil
	}
	for limit > 0 {
		held, at, err := f.file.ProbeLock(vfs.Lock{Offset: pinBase, Length: int64(limit), Exclusive: true})
		if err != nil {
			return 0, fmt.Errorf("look for pins: %w", err)
		}
		if !held {
			break
		}
		// The system need not report the lowest lock, so look again below it. A
		// lock that begins before the range is not a pin; it counts as the oldest.
		limit = Commit(max(at-pinBase, 0))
	}
	return limit, nil
}
