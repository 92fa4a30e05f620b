package safeh5

import (
	"errors"
	"io"
	"io/fs"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/vfs"
)

// A new file is made under another name and is renamed when it is complete.
const (
	newSuffix = ".h5-new"
	newMode   = 0o666 // before the umask
)

// newName returns the name of a file while it is being made.
func newName(path string) string { return vfs.TemporaryName(path, newSuffix) }

// create makes an empty file at path, unless another process makes one first.
func create(path string, o Options) error {
	name := newName(path)
	raw, err := vfs.CreateTemporary(o.FS, name, newMode, hdf5io.LockWriter)
	if err != nil {
		return err
	}
	err = fill(raw, o, func() error {
		if _, err := o.FS.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			return errors.Join(err, o.FS.Remove(name)) // another process has made it since
		}
		return vfs.GiveName(o.FS, name, path)
	})
	if err = errors.Join(err, raw.Close()); err != nil {
		err = errors.Join(err, vfs.RemoveTemporary(o.FS, name, hdf5io.LockWriter))
	}
	return err
}

// fill turns raw into an HDF5 file without members, and calls name when that is durable.
func fill(raw vfs.File, o Options, name func() error) error {
	options := o.hdf5io()
	if _, err := io.ReadFull(o.random, options.UUID[:]); err != nil {
		return err
	}
	f, err := hdf5io.Create(raw, options, nil, func(*hdf5io.Tx) error { return nil })
	if err != nil {
		return err
	}
	err = f.Trim(0, nil)
	if err == nil {
		err = name()
	}
	return errors.Join(err, f.Close()) // which lets go of the lock
}
