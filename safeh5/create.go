package safeh5

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/vfs"
)

// A new file is made under another name and is renamed when it is complete. If a crash
// leaves a file under the other name, the next process that makes the file removes it.
const (
	newSuffix  = ".h5-new"
	newMode    = 0o666 // before the umask
	makeRounds = 100   // attempts while others are faster
)

// newName returns the name of a file while it is being made.
func newName(path string) string { return vfs.TemporaryName(path, newSuffix) }

// create makes an empty file at path, unless another process makes one first.
func create(path string, o Options) error {
	for range makeRounds {
		raw, err := o.FS.OpenFile(newName(path), vfs.ReadWrite|vfs.Create|vfs.Exclusive, newMode)
		if errors.Is(err, fs.ErrExist) {
			if err := removeLeftover(newName(path), o); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		err = fill(raw, path, o)
		if err = errors.Join(err, raw.Close()); errors.Is(err, errOvertaken) {
			continue
		}
		return err
	}
	return fmt.Errorf("%w: others keep making it", ErrLocked)
}

// errOvertaken says that another process took the new file for a leftover.
var errOvertaken = errors.New("another process makes the file")

// fill turns raw into an HDF5 file without members, and renames it to path.
func fill(raw vfs.File, path string, o Options) error {
	if err := lockNamed(raw, newName(path), o); err != nil {
		return err
	}
	options := o.hdf5io()
	if _, err := io.ReadFull(o.random, options.UUID[:]); err != nil {
		return err
	}
	f, err := hdf5io.Create(raw, options, nil, func(*hdf5io.Tx) error { return nil })
	if err != nil {
		return errors.Join(err, o.FS.Remove(newName(path)))
	}
	if err := f.Trim(0, nil); err != nil {
		return errors.Join(err, f.Close(), o.FS.Remove(newName(path)))
	}
	_, err = o.FS.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		err = o.FS.Rename(newName(path), path)
	} else {
		err = errors.Join(err, o.FS.Remove(newName(path))) // another process has made it since
	}
	if err == nil {
		err = o.FS.SyncDir(filepath.Dir(path))
	}
	return errors.Join(err, f.Close())
}

// lockNamed locks raw for writing. It returns errOvertaken if raw no longer has its
// name or another process holds the lock.
func lockNamed(raw vfs.File, name string, o Options) error {
	err := hdf5io.LockWriter(raw)
	if errors.Is(err, vfs.ErrLockHeld) {
		return errOvertaken
	}
	if err != nil {
		return err
	}
	info, err := raw.Info()
	if err != nil {
		return err
	}
	named, err := o.FS.Stat(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && (named.Device != info.Device || named.Inode != info.Inode) {
		return errOvertaken
	}
	return err
}

// removeLeftover removes the file that a crash has left under name.
func removeLeftover(name string, o Options) error {
	info, err := o.FS.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !info.Mode.IsRegular() {
		return fmt.Errorf("%s is in the way of the file that is made first", name)
	}
	raw, err := o.FS.OpenFile(name, vfs.ReadWrite, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	err = lockNamed(raw, name, o)
	switch {
	case errors.Is(err, errOvertaken):
		err = fmt.Errorf("%w: %s is being made", ErrLocked, name)
	case err == nil:
		err = o.FS.Remove(name)
	}
	return errors.Join(err, raw.Close())
}
