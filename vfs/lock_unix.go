//go:build darwin || freebsd || linux

package vfs

import "golang.org/x/sys/unix"

// lockWhole is flock. It belongs to the open file, so it also keeps a second open
// in the same process out. The kernel converts a held lock by releasing it first.
func lockWhole(fd uintptr, exclusive bool) error {
	how := unix.LOCK_SH | unix.LOCK_NB
	if exclusive {
		how = unix.LOCK_EX | unix.LOCK_NB
	}
	err := retry(func() error { return unix.Flock(int(fd), how) })
	if err == unix.EWOULDBLOCK {
		return ErrLockHeld
	}
	return err
}

func unlockWhole(fd uintptr) error {
	return retry(func() error { return unix.Flock(int(fd), unix.LOCK_UN) })
}
