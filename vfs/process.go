package vfs

import (
	"errors"
	"os"
	"syscall"
)

// ProcessID is the number of this process, for people who look for the holder of a lock.
func ProcessID() int { return os.Getpid() }

// LockHolder returns the number of a living process that keeps others from taking l
// on the file with this info, or 0 if it finds none. It tries likely first. It finds
// only processes that this one may look at, not those of other users or outside its
// container, and it finds any only on Linux.
func LockHolder(info Info, l Lock, likely int) int { return lockHolder(info, l, likely) }

// IsReadOnlyFS reports whether err says that a file system is mounted read-only.
func IsReadOnlyFS(err error) bool { return errors.Is(err, syscall.EROFS) }

// IsMountPoint reports whether err says that a rename was refused because a file is
// mounted under one of the names: nothing can be renamed over it.
func IsMountPoint(err error) bool {
	return errors.Is(err, syscall.EBUSY) || errors.Is(err, syscall.EXDEV)
}
