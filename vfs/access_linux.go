package vfs

import (
	"os"

	"golang.org/x/sys/unix"
)

// The list that extends the permissions of a file, as acl(5) has it.
const accessListName = "system.posix_acl_access"

// accessList returns the file's list; nil if it has none, or if its file system has
// no lists.
func accessList(f *os.File) ([]byte, error) {
	for {
		n, err := unix.Fgetxattr(int(f.Fd()), accessListName, nil)
		if err == nil {
			list := make([]byte, n)
			if n, err = unix.Fgetxattr(int(f.Fd()), accessListName, list); err == nil {
				return list[:n], nil
			}
		}
		switch err {
		case unix.ERANGE, unix.EINTR: // it grew in between
		case unix.ENODATA, unix.EOPNOTSUPP, unix.ENOSYS:
			return nil, nil
		default:
			return nil, err
		}
	}
}

func setAccessList(f *os.File, list []byte) error {
	return retry(func() error { return unix.Fsetxattr(int(f.Fd()), accessListName, list, 0) })
}

func dropAccessList(f *os.File) error {
	err := retry(func() error { return unix.Fremovexattr(int(f.Fd()), accessListName) })
	switch err {
	case unix.ENODATA, unix.EOPNOTSUPP, unix.ENOSYS:
		return nil
	}
	return err
}
