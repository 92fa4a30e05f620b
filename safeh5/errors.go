package safeh5

import (
	"errors"
	"fmt"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/vfs"
)

var (
	// ErrForeign says that this package did not make the file, or that an HDF5 program
	// has written to it since. Package hdf5 can read it.
	ErrForeign = errors.New("this package did not make the file as it is")
	// ErrLocked says that another process, or another File of this process, has the
	// file open in a way that excludes this one.
	ErrLocked = vfs.ErrLockHeld
	// ErrCorrupt says that bytes of the file are not those that were written. The text
	// says where.
	ErrCorrupt = corrupt.Err
	// ErrFailed says that an earlier write or sync failed. Nothing more can be written
	// until the file is opened again; View still works. It wraps the first failure.
	ErrFailed = hdf5io.ErrPoisoned
	// ErrNoSpace says that the disk is full. The Update has changed nothing, and another
	// one may succeed: there is room for an Update that only deletes, and then for as
	// much as it has freed.
	ErrNoSpace = hdf5io.ErrNoSpace
	// ErrNotFound says that nothing, or something of another kind, has this path or name.
	ErrNotFound = hdf5io.ErrNotFound
	// ErrReadOnly says that the file was opened with Options.ReadOnly.
	ErrReadOnly = hdf5io.ErrReadOnly
	// ErrClosed says that the File was closed.
	ErrClosed = hdf5io.ErrClosed
)

// foreign returns ErrForeign in place of what hdf5io says of a file that is not ours.
func foreign(err error) error {
	switch {
	case errors.Is(err, hdf5io.ErrNotOurs): // its text speaks of stores
		return fmt.Errorf("%w, and does not write to it; package hdf5 reads HDF5 files of any program", ErrForeign)
	case errors.Is(err, hdf5io.ErrForeignEdit) || errors.Is(err, hdf5io.ErrVersion):
		return fmt.Errorf("%w, and does not write to it; package hdf5 reads it (%w)", ErrForeign, err)
	}
	return err
}
