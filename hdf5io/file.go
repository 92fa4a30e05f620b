package hdf5io

import (
	"cmp"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/internal/seedbug"
	"github.com/cidstore/cidstore/vfs"
)

// Options are for Create and Open. The zero value gives the defaults.
type Options struct {
	ReadOnly bool // for Open: write nothing, take a pin instead of the writer's lock
	NoMmap   bool // read with ReadAt
	// Salvage, with ReadOnly, opens what is left: if no root validates, one that is
	// damaged, cut off or edited in part. See OpenReport.Damage.
	Salvage bool
	Older   bool     // with Salvage: take the root of the older slot
	UUID    [16]byte // for Create: of the new file
	// Plain is for files that are not stores. Open refuses files of the other kind
	// with ErrNotOurs.
	Plain bool
	// NoFallBack makes it an error if the newest root does not validate, even if
	// the one before it does.
	NoFallBack bool
	// GrowStep is the smallest growth of the file, in bytes, rounded up to 4,096;
	// default 2 MiB. The file also grows by at least a sixteenth of its size, up to
	// 64 MiB a step.
	GrowStep int64
	// Quarantine is the number of commits for which freed space stays unused, so
	// that HDF5 programs, which cannot pin a root, still find what they look at. It
	// ends early where a Tx would fail with ErrNoSpace, and, except in a Plain file, for
	// the oldest space if what waits exceeds both an eighth of the file and the lesser of
	// a quarter of it and 32 MiB. Default 2; negative: none.
	Quarantine int
	// ReuseDelay is the time, by Clock, for which freed space stays unused, for the same
	// reason. It ends early where a Tx would fail with ErrNoSpace, and for the oldest
	// space if what waits exceeds both a sixteenth of the file and the lesser of a quarter
	// of it and 32 MiB. 0, or no Clock: none.
	ReuseDelay time.Duration
	Clock      func() time.Time
}

var (
	// ErrClosed: the File was closed.
	ErrClosed = errors.New("file is closed")
	// ErrReadOnly: the File was opened for reading.
	ErrReadOnly = errors.New("file is open for reading only")
	// ErrPoisoned: an earlier write or sync failed; nothing more is written until
	// the file is opened again. It wraps the cause.
	ErrPoisoned = errors.New("an earlier write or sync failed")
	// ErrNoSpace: the file cannot grow, and has too little free space.
	ErrNoSpace = vfs.ErrNoSpace
	// ErrSpacePinned: ErrNoSpace, because readers of old roots hold too much space.
	ErrSpacePinned = fmt.Errorf("space is held by readers of old roots: %w", ErrNoSpace)
	// ErrNotOurs: not HDF5, or HDF5 without commit slots or with those of the other
	// kind; see Options.Plain.
	ErrNotOurs = errors.New("not a file of this store")
	// ErrVersion: the file has a version, later or older, that this code does not read.
	ErrVersion = errors.New("file version not supported")
	// ErrTruncated: the file is shorter than its root says. It matches corrupt.Err.
	ErrTruncated = errors.New("file is truncated")
	// ErrForeignEdit: another program has written to the file. It matches corrupt.Err.
	ErrForeignEdit = errors.New("file was changed by another program")
	// ErrIO: a read failed; the text names the extent.
	ErrIO = errors.New("read failed")
)

type versionError struct{ version uint32 }

func (e *versionError) Error() string {
	return fmt.Sprintf("commit slot of version %d, want %d: %v", e.version, slotVersion, ErrVersion)
}
func (e *versionError) Unwrap() error { return ErrVersion }

func ioError(offset int64, n int, err error) error {
	return fmt.Errorf("%w: %d bytes at %#x: %w", ErrIO, n, offset, err)
}

const (
	defaultGrowStep   = 2 << 20
	maxGrowStep       = 64 << 20 // of the proportional growth
	maxStep           = 1 << 40  // of Options.GrowStep
	growUnit          = 4096
	defaultQuarantine = 2
	mostDelayed       = 32 << 20 // see Options.ReuseDelay
)

// File is an open file. Any number of goroutines may read its Views, and use
// Reserve, Space and Regions; there is one Tx at a time. The vfs.File belongs to the
// caller of Create or Open, who closes it after File.Close, or when they fail.
type File struct {
	file    vfs.File
	options Options
	window  atomic.Pointer[window] // the newest; nil: read with ReadAt
	alone   atomic.Bool            // nobody else has the file open, because there are no byte locks here, or Alone is running
	uuid    [16]byte

	view   atomic.Pointer[View] // the newest
	failed atomic.Pointer[error]
	closed atomic.Bool

	// slotMu is held while slots are written or adopted: by Commit, Settle,
	// Trim, Refresh and Close. It guards slot, generation and lastCommit.
	slotMu     sync.Mutex
	slot       int    // the slot that names the root in use, the newer if both do
	generation uint64 // highest seen in a slot
	lastCommit Commit // highest seen in a slot

	txOpen   atomic.Bool
	txBuffer []byte // of the Tx, kept for the next

	pins  pins // of an opener for reading
	space space
}

// View returns the newest committed root. The caller pins it, unless it is the
// writer.
func (f *File) View() *View { return f.view.Load() }

// Poison records err, the first failure of a write or sync; nothing more is written
// to the file after it. It returns what Failed returns.
func (f *File) Poison(err error) error {
	f.failed.CompareAndSwap(nil, &err)
	return f.Failed()
}

// Failed returns nil, or ErrPoisoned wrapping the first failure.
func (f *File) Failed() error {
	if err := f.failed.Load(); err != nil {
		return fmt.Errorf("%w: %w", ErrPoisoned, *err)
	}
	return nil
}

// writable reports why nothing may be written.
func (f *File) writable() error {
	switch {
	case f.closed.Load():
		return ErrClosed
	case f.options.ReadOnly:
		return ErrReadOnly
	}
	return f.Failed()
}

func (f *File) readAt(p []byte, offset int64) error {
	if f.closed.Load() {
		return ErrClosed
	}
	if _, err := f.file.ReadAt(p, offset); err != nil {
		return ioError(offset, len(p), err)
	}
	return nil
}

// syncAll makes everything written so far durable, and the size if it changed. A
// failure poisons the file, because it is not known then what reached the disk.
func (f *File) syncAll(size bool) error {
	if err := f.Failed(); err != nil {
		return err
	}
	sync := f.file.Datasync
	if size {
		sync = f.file.Sync
	}
	if err := sync(); err != nil && !seedbug.On("sync-error-swallowed") {
		return f.Poison(fmt.Errorf("sync: %w", err))
	}
	return nil
}

// Close unmaps and unlocks the file, even if it returns an error; it writes nothing. No
// View may still be in use.
func (f *File) Close() error {
	f.slotMu.Lock()
	defer f.slotMu.Unlock()
	if f.closed.Swap(true) {
		return ErrClosed
	}
	return f.release()
}

// release undoes open, as far as it got.
func (f *File) release() error {
	f.space.mu.Lock()
	err := closeWindows(f.space.views, nil)
	for _, v := range f.space.views {
		if f.options.ReadOnly {
			f.unpin(v.slot.commit)
		}
	}
	f.space.mu.Unlock()
	f.unlock()
	return err
}

// Create formats the empty file and returns it, open for writing; build makes its
// first root, of commit 1. When Create returns, everything except the file's name
// is durable. The superblock is written last: until then the file is not HDF5.
func Create(file vfs.File, o Options, payload []byte, build func(*Tx) error) (*File, error) {
	o.ReadOnly = false
	f := newFile(file, o)
	f.uuid = o.UUID
	if err := f.create(payload, build); err != nil {
		f.closed.Store(true)
		return nil, errors.Join(fmt.Errorf("create: %w", err), f.release())
	}
	return f, nil
}

func newFile(file vfs.File, o Options) *File {
	if o.GrowStep <= 0 {
		o.GrowStep = defaultGrowStep
	}
	o.GrowStep = min(o.GrowStep+growUnit-1, maxStep) &^ (growUnit - 1)
	o.Quarantine = max(cmp.Or(o.Quarantine, defaultQuarantine), 0)
	return &File{file: file, options: o}
}

func (f *File) create(payload []byte, build func(*Tx) error) error {
	if err := f.lock(); err != nil {
		return err
	}
	info, err := f.file.Info()
	if err != nil {
		return err
	}
	if info.Size != 0 {
		return fmt.Errorf("the file has %d bytes, want none", info.Size)
	}
	f.space.mu.Lock()
	err = f.grow(FirstExtent)
	f.space.mu.Unlock()
	if err != nil {
		return err
	}
	f.slot = 1
	f.publish(&View{file: f, slot: &commitSlot{plain: f.options.Plain, uuid: f.uuid}, root: new(object)})
	tx, err := f.Begin()
	if err != nil {
		return err
	}
	defer tx.Abort()
	if err := build(tx); err != nil {
		return err
	}
	_, err = tx.commit(payload, func(s *commitSlot) error {
		if err := f.writeOtherSlot(s); err != nil {
			return err
		}
		return f.writeSuperblock(s)
	})
	return err
}

// Settle makes both slots durably name the newest root. What only earlier roots reach
// is free then. It must not be called while a Tx is being committed.
func (f *File) Settle() error {
	f.slotMu.Lock()
	defer f.slotMu.Unlock()
	if err := f.writable(); err != nil {
		return err
	}
	v := f.view.Load()
	if f.space.slots == [2]Commit{v.slot.commit, v.slot.commit} {
		return nil
	}
	return f.writeOtherSlot(v.slot)
}

// writeOtherSlot makes the slot that does not name the root of s name it too.
func (f *File) writeOtherSlot(s *commitSlot) error {
	other := *s
	other.generation = f.generation + 1
	return f.writeSlot(1-f.slot, &other)
}

// writeSlot writes slot i and makes it durable. slotMu is held.
func (f *File) writeSlot(i int, s *commitSlot) error {
	if s.generation > maxCommit {
		return corrupt.Errorf("commit slot", slotOffset(i), "generation %d, limit %d", s.generation, uint64(maxCommit))
	}
	if err := f.intact(); err != nil {
		return fmt.Errorf("write commit slot %d: %w", i, err)
	}
	write := f.file.WriteSync
	if seedbug.On("no-sync-after-slot") {
		write = f.file.WriteAt
	}
	if err := write(s.append(nil), slotOffset(i)); err != nil {
		return f.Poison(fmt.Errorf("write commit slot %d: %w", i, err))
	}
	f.slot = i
	f.generation = s.generation
	f.lastCommit = max(f.lastCommit, s.commit)
	f.space.mu.Lock()
	f.space.slots[i] = s.commit
	f.space.mu.Unlock()
	return nil
}

// writeSuperblock makes the root of the slot the one that HDF5 programs see. The
// slot is durable already.
func (f *File) writeSuperblock(s *commitSlot) error {
	if err := f.intact(); err != nil {
		return fmt.Errorf("write superblock: %w", err)
	}
	if err := f.file.WriteSync(s.superblock[:], 0); err != nil {
		return f.Poison(fmt.Errorf("write superblock: %w", err))
	}
	return nil
}
