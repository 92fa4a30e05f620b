package vfs

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// A file that is being made has a temporary name until it is complete and durable, so that
// no crash leaves half a file under its own name. Its maker holds a lock. The next maker of
// a file of that name removes what a crash has left under the temporary name.

// LongestName is the longest name of a file, in bytes, that every local file system
// takes: most take 255, and eCryptfs takes 143.
const LongestName = 143

// makeRounds bounds the attempts to make a file while others are faster.
const makeRounds = 100

// TemporaryName returns path with a suffix: the name of the file while it is being made.
// If that would be too long, a digest takes the place of the file's name, so that all who
// make this file use one temporary name, and nobody uses it for another file.
func TemporaryName(path, suffix string) string {
	dir, name := filepath.Split(path)
	if len(name)+len(suffix) > LongestName {
		digest := sha256.Sum256([]byte(name))
		name = fmt.Sprintf("%x", digest[:16])
	}
	return dir + name + suffix
}

// InPlaceError says why a file cannot be made under another name first: its directory
// takes no file, or no other file can get its name.
type InPlaceError struct{ error }

func (e InPlaceError) Unwrap() error { return e.error }

// Locker locks a file for its maker. The error matches ErrLockHeld if another has the lock.
type Locker func(File) error

// CreateTemporary makes an empty file with a temporary name, and locks it. It removes what
// a crash has left under that name. The error matches ErrLockHeld if another process is
// making the file. If something else has the name, the error says what it is.
func CreateTemporary(on FS, name string, perm fs.FileMode, lock Locker) (File, error) {
	for range makeRounds { // another maker was faster in each round before
		file, err := on.OpenFile(name, ReadWrite|Create|Exclusive, perm)
		if errors.Is(err, fs.ErrExist) {
			if err := RemoveTemporary(on, name, lock); err != nil {
				return nil, err
			}
			continue
		}
		if errors.Is(err, fs.ErrPermission) || IsReadOnlyFS(err) {
			return nil, InPlaceError{err}
		}
		if err != nil {
			return nil, err
		}
		ours, err := LockNamed(on, file, name, lock)
		if err == nil && ours {
			return file, nil
		}
		if err := errors.Join(err, file.Close()); err != nil && !errors.Is(err, ErrLockHeld) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%w: other processes keep making %s", ErrLockHeld, name)
}

// LockNamed locks file, and reports whether it still has the name: if so, nobody takes the
// name away while the lock is held.
func LockNamed(on FS, file File, name string, lock Locker) (bool, error) {
	if err := lock(file); err != nil {
		return false, err
	}
	info, err := file.Info()
	if err != nil {
		return false, err
	}
	return HasName(on, info, name)
}

// HasName reports whether name leads to the file with this Info.
func HasName(on FS, info Info, name string) (bool, error) {
	named, err := on.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && named.Device == info.Device && named.Inode == info.Inode, err
}

// RemoveTemporary removes what a crash has left under a temporary name. The error matches
// ErrLockHeld if the file is being made now. Anything else that has the name stays, and the
// error says what it is.
func RemoveTemporary(on FS, name string, lock Locker) error {
	kind, err := Kind(on, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !kind.IsRegular() {
		return inTheWay(name, kindName(kind), fs.ErrExist)
	}
	file, err := on.OpenFile(name, ReadWrite, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, fs.ErrPermission):
		return inTheWay(name, "a file that you may not open", err)
	case err != nil:
		return err
	}
	defer file.Close()
	ours, err := LockNamed(on, file, name, lock)
	switch {
	case errors.Is(err, ErrLockHeld):
		return fmt.Errorf("%s is being made: %w", name, err)
	case err != nil || !ours:
		return err
	}
	err = on.Remove(name)
	if errors.Is(err, fs.ErrPermission) {
		err = inTheWay(name, "a file that you may not remove", err)
	}
	return err
}

// inTheWay returns an error about what has a temporary name and cannot be removed.
func inTheWay(name, what string, err error) error {
	return fmt.Errorf("%q, the name of a temporary file, is taken by %s: %w", name, what, err)
}

// kindName returns a word for a file that is not regular.
func kindName(kind fs.FileMode) string {
	switch kind.Type() {
	case fs.ModeDir:
		return "a directory"
	case fs.ModeSymlink:
		return "a symbolic link"
	case fs.ModeNamedPipe:
		return "a named pipe"
	case fs.ModeSocket:
		return "a socket"
	}
	return "a device"
}

// GiveName renames a file, which is complete and durable, from its temporary name to its
// own. The caller has it locked.
func GiveName(on FS, temporary, name string) error {
	if err := on.Rename(temporary, name); err != nil {
		if IsMountPoint(err) || errors.Is(err, fs.ErrPermission) { // a sticky directory, for example
			err = InPlaceError{err}
		}
		return err
	}
	return on.SyncDir(filepath.Dir(name))
}
