package vfs

import (
	"errors"
	"os"
	"syscall"
)

// ProcessID is the number of this process, for people who look for the holder of a lock.
func ProcessID() int { return os.Getpid() }

// IsReadOnlyFS tells whether err says that a file system is mounted read-only.
func IsReadOnlyFS(err error) bool { return errors.Is(err, syscall.EROFS) }

// IsMountPoint reports whether err says that a rename was refused because a file is
// mounted under one of the names: nothing can be renamed over it.
func IsMountPoint(err error) bool {
	return errors.Is(err, syscall.EBUSY) || errors.Is(err, syscall.EXDEV)
}
