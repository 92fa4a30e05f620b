package cidstore

import (
	"errors"
	"fmt"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/legacy"
	"github.com/cidstore/cidstore/vfs"
	"github.com/cidstore/cidstore/wal"
)

// Errors are matched with errors.Is. Some are the same values as errors of lower packages.
var (
	// ErrClosed says that the store or snapshot was closed.
	ErrClosed = errors.New("store is closed")
	// ErrReadOnly says that the store was opened for reading, or that its file system is
	// mounted read-only.
	ErrReadOnly = hdf5io.ErrReadOnly
	// ErrLocked says that another opener writes the file. The text names its process if
	// that is known: on Linux, if it is this user's and in the same container.
	ErrLocked = vfs.ErrLockHeld
	// ErrNotCIDStore says that the file is not an HDF5 file, or has another layout than ours.
	ErrNotCIDStore = hdf5io.ErrNotOurs
	// ErrHalfMade says that the making or the restore of a store was interrupted, in a
	// place where a file must be written under its own name. The text says what to do. It
	// also matches ErrNotCIDStore.
	ErrHalfMade = fmt.Errorf("%w: it is half made", ErrNotCIDStore)
	// ErrLegacy says that the file is a store of the Python package, or of format 1 of
	// this one. Migrate converts it. It also matches ErrNotCIDStore and ErrFormatVersion.
	ErrLegacy error = legacyError{}
	// ErrWide says that a legacy store has identifiers of 256 bits, which do not fit into 128.
	ErrWide = legacy.ErrWide
	// ErrBackupSeries says that an increment does not follow the backup before it: one is
	// missing, they are in the wrong order or of another store, or the backup was changed.
	ErrBackupSeries = errors.New("the backups do not follow each other")
	// ErrFormatVersion says that the file has a newer format, or an older one that must be
	// migrated.
	ErrFormatVersion = hdf5io.ErrVersion
	// ErrCorrupt says that bytes of the file are not what they must be. The text names the
	// structure, the offset, and what was found and wanted.
	ErrCorrupt = corrupt.Err
	// ErrTruncated says that the file is shorter than its root says, or was cut short while
	// it was open for writing. It also matches ErrCorrupt.
	ErrTruncated = hdf5io.ErrTruncated
	// ErrForeignEdit says that another program changed the file's root. It also matches
	// ErrCorrupt.
	ErrForeignEdit = hdf5io.ErrForeignEdit
	// ErrTampered says that the log's records are undamaged, but their authentication fails.
	ErrTampered = wal.ErrTampered
	// ErrWALKey says that Options.WALKey is not the secret that the file was made with.
	ErrWALKey = errors.New("wrong log key")
	// ErrPoisoned says that an earlier write or sync failed. Reads still work. Writes fail
	// until the store is opened again. Then either all or nothing of what the failed call
	// wrote is there. Writes also return it, with ErrNoSpace, if Open found the log full and
	// no room on the disk.
	ErrPoisoned = hdf5io.ErrPoisoned
	// ErrIO says that a read failed. The text names the extent.
	ErrIO = hdf5io.ErrIO
	// ErrNoSpace says that the disk is full. Nothing that was acknowledged is lost.
	ErrNoSpace = hdf5io.ErrNoSpace
	// ErrSpacePinned says that old readers hold the space that is needed. It also matches
	// ErrNoSpace.
	ErrSpacePinned = hdf5io.ErrSpacePinned
	// ErrTooLarge says that a batch takes more than a third of Options.WALBytes.
	ErrTooLarge = wal.ErrTooLarge
	// ErrSnapshotExpired says that the snapshot was closed by its store.
	ErrSnapshotExpired = errors.New("snapshot has expired")
	// ErrReplaced says that the path names another file now, or none. The store stops
	// writing.
	ErrReplaced = errors.New("the file under the path is another one now")
)

// legacyError is the type of ErrLegacy. It matches two errors, but its text names neither.
type legacyError struct{}

func (legacyError) Error() string { return "a store of an older form" }

func (legacyError) Unwrap() []error { return []error{ErrNotCIDStore, ErrFormatVersion} }

// invalidf returns the error for an option or argument that makes no sense.
func invalidf(format string, args ...any) error {
	return fmt.Errorf("cidstore: "+format, args...)
}
