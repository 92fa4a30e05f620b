package vfs

import (
	"errors"

	"golang.org/x/sys/windows"
)

// LockFileEx locks belong to the handle, and the system frees them with it, though
// perhaps a moment after the death of a process. They keep other handles from
// reading the bytes, so all of them are past the end of any file.

// wholeByte stands for the whole file: no Lock can name it.
const wholeByte = uint64(1) << 63

func lockWhole(fd uintptr, exclusive bool) error { return lockBytes(fd, wholeByte, 1, exclusive) }

func unlockWhole(fd uintptr) error { return unlockBytes(fd, wholeByte, 1) }

func lockRange(fd uintptr, l Lock) error {
	return lockBytes(fd, uint64(l.Offset), uint64(l.Length), l.Exclusive)
}

func unlockRange(fd uintptr, l Lock) error {
	return unlockBytes(fd, uint64(l.Offset), uint64(l.Length))
}

// lockBytes takes a lock. It first gives up one that the handle has on the same
// bytes: a second one would count twice, or conflict with the first.
func lockBytes(fd uintptr, off, n uint64, exclusive bool) error {
	if err := unlockBytes(fd, off, n); err != nil {
		return err
	}
	return addLock(fd, off, n, exclusive)
}

func addLock(fd uintptr, off, n uint64, exclusive bool) error {
	flags := uint32(windows.LOCKFILE_FAIL_IMMEDIATELY)
	if exclusive {
		flags |= windows.LOCKFILE_EXCLUSIVE_LOCK
	}
	err := windows.LockFileEx(windows.Handle(fd), flags, 0, uint32(n), uint32(n>>32), at(off))
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) || errors.Is(err, windows.ERROR_IO_PENDING) {
		return ErrLockHeld
	}
	return err
}

func unlockBytes(fd uintptr, off, n uint64) error {
	err := windows.UnlockFileEx(windows.Handle(fd), 0, uint32(n), uint32(n>>32), at(off))
	if errors.Is(err, windows.ERROR_NOT_LOCKED) {
		return nil
	}
	return err
}

func at(off uint64) *windows.Overlapped {
	return &windows.Overlapped{Offset: uint32(off), OffsetHigh: uint32(off >> 32)}
}

// probeRange takes the lock and gives it back, because there is no call to probe
// one. If it cannot take the lock, it halves the range until one byte is left. In
// between, others may find the lock held and have to try again. The file's own
// locks count as held.
func probeRange(fd uintptr, l Lock) (held bool, first int64, err error) {
	free := func(off, n uint64) (bool, error) {
		err := addLock(fd, off, n, true)
		if err == nil {
			return true, unlockBytes(fd, off, n)
		}
		if err == ErrLockHeld {
			err = nil
		}
		return false, err
	}
	off, n := uint64(l.Offset), uint64(l.Length)
	if ok, err := free(off, n); ok || err != nil {
		return false, 0, err
	}
	for n > 1 {
		half := n / 2
		ok, err := free(off, half)
		if err != nil {
			return false, 0, err
		}
		if ok {
			off, n = off+half, n-half
		} else {
			n = half
		}
	}
	return true, int64(off), nil
}
