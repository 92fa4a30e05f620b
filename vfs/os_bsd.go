//go:build darwin || freebsd

package vfs

import (
	"strings"

	"golang.org/x/sys/unix"
)

func fillFileSystem(info *Info, sfs *unix.Statfs_t) {
	info.FileSystem = unix.ByteSliceToString(sfs.Fstypename[:])
	info.ReadOnly = sfs.Flags&unix.MNT_RDONLY != 0
	// User-space file systems may call themselves local.
	info.Network = sfs.Flags&unix.MNT_LOCAL == 0 || strings.Contains(info.FileSystem, "fuse")
}

func shapeFD(fd uintptr) (size int64, links uint64, err error) { return fstatShape(fd) }

// There are no byte range locks. POSIX locks cannot replace them: closing any
// descriptor of the file drops them, and they conflict with flock.

func lockRange(uintptr, Lock) error { return ErrNotSupported }

func unlockRange(uintptr, Lock) error { return ErrNotSupported }

func probeRange(uintptr, Lock) (bool, int64, error) { return false, 0, ErrNotSupported }
