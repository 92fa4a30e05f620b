package cidstore

import (
	"errors"
	"fmt"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/legacy"
	"github.com/cidstore/cidstore/wal"
)

// Errors are matched with errors.Is. Those that name the values of lower
// packages are the same values.
var (
	// ErrClosed: the store or snapshot was closed.
	ErrClosed = errors.New("store is closed")
	// ErrReadOnly: the store was opened for reading, or the file system is mounted so.
	ErrReadOnly = hdf5io.ErrReadOnly
	// ErrLocked: another opener writes the file; the text names its process where
	// that is known: on Linux, if it is this user's and in the same container.
	ErrLocked = errors.New("store is locked")
	// ErrNotCIDStore: not an HDF5 file, or one without our layout.
	ErrNotCIDStore = hdf5io.ErrNotOurs
	// ErrHalfMade: a store was being made, or restored, in this very file, where no
	// other can take its name, and that was interrupted; the text says what to do.
	// Also matches ErrNotCIDStore.
	ErrHalfMade = fmt.Errorf("%w: it is half made", ErrNotCIDStore)
	// ErrLegacy: a store of the Python package, or of format 1 of this one, which Migrate
	// takes over. Also matches ErrNotCIDStore and ErrFormatVersion.
	ErrLegacy error = legacyError{}
	// ErrWide: a legacy store with identifiers of 256 bits, which do not fit into 128.
	ErrWide = legacy.ErrWide
	// ErrBackupSeries: an increment does not follow the backup before it: one is missing,
	// they are in the wrong order, of another store, or the backup was changed.
	ErrBackupSeries = errors.New("the backups do not follow each other")
	// ErrFormatVersion: a newer format, or an older one that must be migrated.
	ErrFormatVersion = hdf5io.ErrVersion
	// ErrCorrupt: bytes of the file are not what they must be; the text names the
	// structure, the offset, what was found and wanted.
	ErrCorrupt = corrupt.Err
	// ErrTruncated: the file is shorter than its root says, or was cut short while it
	// was open for writing. Also matches ErrCorrupt.
	ErrTruncated = hdf5io.ErrTruncated
	// ErrForeignEdit: another program changed the file's root. Also matches ErrCorrupt.
	ErrForeignEdit = hdf5io.ErrForeignEdit
	// ErrTampered: the log's records are whole, but their authentication fails.
	ErrTampered = wal.ErrTampered
	// ErrWALKey: Options.WALKey is not the secret the file was made with.
	ErrWALKey = errors.New("wrong log key")
	// ErrPoisoned: an earlier write or sync failed. Reads still serve; writes
	// refuse until the store is opened again. What the failed call wrote may be
	// there then, whole.
	ErrPoisoned = hdf5io.ErrPoisoned
	// ErrIO: a read failed; the text names the extent.
	ErrIO = hdf5io.ErrIO
	// ErrNoSpace: the disk is full; nothing that was acknowledged is lost.
	ErrNoSpace = hdf5io.ErrNoSpace
	// ErrSpacePinned: old readers hold the space that is needed. Also matches ErrNoSpace.
	ErrSpacePinned = hdf5io.ErrSpacePinned
	// ErrTooLarge: a batch of more than a third of Options.WALBytes.
	ErrTooLarge = wal.ErrTooLarge
	// ErrSnapshotExpired: the snapshot was closed by its store.
	ErrSnapshotExpired = errors.New("snapshot has expired")
	// ErrReplaced: the path names another file now, or none; the store stops writing.
	ErrReplaced = errors.New("the file under the path is another one now")
)

// legacyError is ErrLegacy, which is of two kinds and says neither.
type legacyError struct{}

func (legacyError) Error() string { return "a store of an older form" }

func (legacyError) Unwrap() []error { return []error{ErrNotCIDStore, ErrFormatVersion} }

// invalidf reports an option or argument that makes no sense.
func invalidf(format string, args ...any) error {
	return fmt.Errorf("cidstore: "+format, args...)
}
