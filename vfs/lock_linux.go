package vfs

import (
	"io"

	"golang.org/x/sys/unix"
)

// Byte ranges are open-file-description locks. Like flock they belong to the open
// file; they are not dropped, as POSIX locks are, when another descriptor of the
// file is closed. An exclusive one needs a file open for writing.

func lockRange(fd uintptr, l Lock) error {
	kind := int16(unix.F_RDLCK)
	if l.Exclusive {
		kind = unix.F_WRLCK
	}
	err := setRange(fd, l, kind)
	if err == unix.EAGAIN || err == unix.EACCES {
		return ErrLockHeld
	}
	return err
}

func unlockRange(fd uintptr, l Lock) error { return setRange(fd, l, unix.F_UNLCK) }

func setRange(fd uintptr, l Lock, kind int16) error {
	lk := flock(l, kind)
	return ofdError(retry(func() error { return unix.FcntlFlock(fd, unix.F_OFD_SETLK, &lk) }))
}

func probeRange(fd uintptr, l Lock) (held bool, at int64, err error) {
	lk := flock(l, unix.F_WRLCK)
	err = ofdError(retry(func() error { return unix.FcntlFlock(fd, unix.F_OFD_GETLK, &lk) }))
	if err != nil || lk.Type == unix.F_UNLCK {
		return false, 0, err
	}
	return true, lk.Start, nil
}

func flock(l Lock, kind int16) unix.Flock_t {
	return unix.Flock_t{Type: kind, Whence: io.SeekStart, Start: l.Offset, Len: l.Length}
}

// ofdError translates EINVAL: kernels before 3.15 do not know the command.
func ofdError(err error) error {
	if err == unix.EINVAL {
		return ErrNotSupported
	}
	return err
}
