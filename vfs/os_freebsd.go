package vfs

import (
	"strings"

	"golang.org/x/sys/unix"
)

const mapNoReserve = 0 // reservations of files cost nothing on this system

func datasync(fd uintptr) error {
	return retry(func() error { return unix.Fsync(int(fd)) })
}

func fillFileSystem(info *Info, sfs *unix.Statfs_t) {
	info.FileSystem = unix.ByteSliceToString(sfs.Fstypename[:])
	info.ReadOnly = sfs.Flags&unix.MNT_RDONLY != 0
	// User-space file systems may call themselves local.
	info.Network = sfs.Flags&unix.MNT_LOCAL == 0 || strings.Contains(info.FileSystem, "fuse")
}
