package cidstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/vfs"
)

// A store that is being made, restored or copied has a temporary name until it is
// whole: no crash leaves half a store under its own. What a crash leaves under
// the temporary one is removed by the next who makes, or opens for writing, a
// store of that name, unless somebody holds its lock: then it is in the making.
// The suffix is not one that people give.
const temporarySuffix = ".cidstore-new"

// newTemporary makes an empty file under path's temporary name, and locks it. Others
// may do with it what they may do with the file of the mode like.
func newTemporary(path string, like fs.FileMode, opts *Options) (vfs.File, error) {
	name := path + temporarySuffix
	for range 100 { // each round another opener has got ahead
		file, err := opts.FS.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, like.Perm())
		if errors.Is(err, fs.ErrExist) {
			if err := removeLeftover(path, opts); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, readOnlyFileSystem(err)
		}
		ours, err := lockNamed(file, name, opts)
		if err == nil && ours {
			return file, nil
		}
		if err := errors.Join(err, file.Close()); err != nil && !errors.Is(err, vfs.ErrLockHeld) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%w: others keep making it", ErrLocked)
}

// lockNamed locks file for writing, and tells whether it has the name still: from
// then on nobody takes that away.
func lockNamed(file vfs.File, name string, opts *Options) (bool, error) {
	if err := hdf5io.LockWriter(file); err != nil {
		return false, err
	}
	info, err := file.Info()
	if err != nil {
		return false, err
	}
	return hasName(info, name, opts)
}

// hasName tells whether name is that of the file with this info.
func hasName(info vfs.Info, name string, opts *Options) (bool, error) {
	named, err := opts.FS.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && named.Device == info.Device && named.Inode == info.Inode, err
}

// removeLeftover removes what a crash left under path's temporary name. ErrLocked:
// somebody is making it now.
func removeLeftover(path string, opts *Options) error {
	name := path + temporarySuffix
	file, err := opts.FS.OpenFile(name, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	ours, err := lockNamed(file, name, opts)
	switch {
	case errors.Is(err, vfs.ErrLockHeld):
		return fmt.Errorf("%s is being made: %w", name, lockedBy(file, opts))
	case err != nil || !ours:
		return err
	}
	return opts.FS.Remove(name)
}

// giveName renames the file with this info, which is whole and durable, from
// path's temporary name to path.
func giveName(path string, info vfs.Info, opts *Options) error {
	name := path + temporarySuffix
	taken := fmt.Errorf("%w: %s was taken for a leftover", ErrLocked, name)
	file, err := opts.FS.OpenFile(name, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return taken
	}
	if err != nil {
		return err
	}
	defer file.Close()
	ours, err := lockNamed(file, name, opts)
	if err == nil && ours {
		ours, err = hasName(info, name, opts)
	}
	switch {
	case errors.Is(err, vfs.ErrLockHeld) || err == nil && !ours:
		return taken
	case err != nil:
		return err
	}
	if err := opts.FS.Rename(name, path); err != nil {
		return err
	}
	return opts.FS.SyncDir(filepath.Dir(path))
}
