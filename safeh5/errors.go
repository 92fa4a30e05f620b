package safeh5

import (
	"errors"
	"fmt"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/corrupt"
)

var (
	// ErrForeign: the file was not made by this package, or an HDF5 program has
	// written to it since. Package hdf5 reads it.
	ErrForeign = errors.New("this package did not make the file as it is")
	// ErrLocked: another process, or another File of this one, has the file open in a
	// way that excludes this.
	ErrLocked = errors.New("file is locked")
	// ErrCorrupt: bytes of the file are not those that were written. The text says
	// where.
	ErrCorrupt = corrupt.Err
	// ErrFailed: an earlier write or sync failed. Nothing more is written until the file is
	// opened again; View goes on. It wraps the first failure.
	ErrFailed = hdf5io.ErrPoisoned
	// ErrNoSpace: the disk is full. The Update has changed nothing, and another may be tried:
	// there is room for one that only deletes, and then for what that was worth.
	ErrNoSpace = hdf5io.ErrNoSpace
	// ErrNotFound: nothing, or something of another kind, has this path or name.
	ErrNotFound = hdf5io.ErrNotFound
	// ErrReadOnly: the file was opened with Options.ReadOnly.
	ErrReadOnly = hdf5io.ErrReadOnly
	// ErrClosed: the File was closed.
	ErrClosed = hdf5io.ErrClosed
)

// foreign makes ErrForeign of what hdf5io says of a file that is not ours.
func foreign(err error) error {
	switch {
	case errors.Is(err, hdf5io.ErrNotOurs): // its text is about stores
		return fmt.Errorf("%w, and does not write to it; package hdf5 reads HDF5 files of any program", ErrForeign)
	case errors.Is(err, hdf5io.ErrForeignEdit) || errors.Is(err, hdf5io.ErrVersion):
		return fmt.Errorf("%w, and does not write to it; package hdf5 reads it (%w)", ErrForeign, err)
	}
	return err
}
