package vfs

import (
	"strings"

	"golang.org/x/sys/unix"
)

const mapNoReserve = unix.MAP_NORESERVE

// datasync asks the disk to empty its own cache too, which fsync does not do on
// this system.
func datasync(fd uintptr) error {
	err := retry(func() error {
		_, err := unix.FcntlInt(fd, unix.F_FULLFSYNC, 0)
		return err
	})
	if err == unix.ENOTSUP || err == unix.EINVAL {
		return retry(func() error { return unix.Fsync(int(fd)) })
	}
	return err
}

func fillFileSystem(info *Info, sfs *unix.Statfs_t) {
	info.FileSystem = unix.ByteSliceToString(sfs.Fstypename[:])
	info.ReadOnly = sfs.Flags&unix.MNT_RDONLY != 0
	// User-space file systems may call themselves local.
	info.Network = sfs.Flags&unix.MNT_LOCAL == 0 || strings.Contains(info.FileSystem, "fuse")
}
