package vfs

import (
	"errors"
	"io"

	"golang.org/x/sys/unix"
)

// writeSync writes p and makes only this range of the file durable. The error is
// errors.ErrUnsupported if kernel or file system has no such write.
func writeSync(fd uintptr, p []byte, off int64) error {
	for len(p) > 0 {
		n, err := unix.Pwritev2(int(fd), [][]byte{p}, off, unix.RWF_DSYNC)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EOPNOTSUPP || err == unix.ENOSYS:
			return errors.ErrUnsupported
		case err != nil:
			return err
		case n <= 0:
			return io.ErrShortWrite
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

func startWriteback(fd uintptr, off, n int64) {
	_ = unix.SyncFileRange(int(fd), off, n, unix.SYNC_FILE_RANGE_WRITE)
}

func dropCache(fd uintptr, off, n int64) {
	_ = unix.Fadvise(int(fd), off, n, unix.FADV_DONTNEED)
}

func allocate(fd uintptr, off, n int64) error {
	err := retry(func() error { return unix.Fallocate(int(fd), 0, off, n) })
	if err == unix.EOPNOTSUPP || err == unix.ENOSYS {
		return errors.ErrUnsupported
	}
	return err
}

func datasync(fd uintptr) error {
	return retry(func() error { return unix.Fdatasync(int(fd)) })
}

func yieldThread() { _, _, _ = unix.Syscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }

const mapNoReserve = unix.MAP_NORESERVE
