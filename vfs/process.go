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
