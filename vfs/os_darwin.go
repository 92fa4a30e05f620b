package vfs

import "golang.org/x/sys/unix"

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
