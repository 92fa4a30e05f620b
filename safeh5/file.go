package safeh5

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"sync/atomic"

	"github.com/cidstore/cidstore/hdf5"
	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/vfs"
)

// File is an open file. All methods are safe for concurrent use.
type File struct {
	raw     vfs.File
	file    *hdf5io.File
	options Options
	closed  atomic.Bool // set before the last readers are waited for

	// updating is held by Update, Refresh and Close. It guards wrote.
	updating sync.Mutex
	wrote    bool // an Update of this life has changed the file
}

// Open opens the file at path for writing, and makes it if it does not exist. With
// Options.ReadOnly it opens an existing file for reading. Only one File of one process
// may write a file at a time (otherwise ErrLocked); others may read. Open returns
// ErrForeign for a file that something else has made or changed.
func Open(path string, options *Options) (*File, error) {
	o, err := options.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if path == "" {
		return nil, errors.New("open: the file has no name")
	}
	f, err := open(path, o)
	if errors.Is(err, fs.ErrNotExist) && !o.ReadOnly {
		if err = create(vfs.Target(o.FS, path), o); err == nil {
			f, err = open(path, o)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, foreign(err))
	}
	return f, nil
}

func open(path string, o Options) (*File, error) {
	info, err := o.FS.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode.IsRegular() { // opening a pipe would wait for its other end
		return nil, fmt.Errorf("%w: it is not a regular file", ErrForeign)
	}
	flag := vfs.ReadWrite
	if o.ReadOnly {
		flag = vfs.ReadOnly
	}
	raw, err := o.FS.OpenFile(path, flag, 0)
	if err != nil {
		return nil, err
	}
	file, _, err := hdf5io.Open(raw, o.hdf5io())
	if err != nil {
		return nil, errors.Join(lockedBy(err, raw, o), raw.Close())
	}
	return &File{raw: raw, file: file, options: o}, nil
}

func (o *Options) hdf5io() hdf5io.Options {
	// Without mapping a failing disk gives an error, not a memory fault.
	return hdf5io.Options{Plain: true, ReadOnly: o.ReadOnly, NoMmap: true, NoFallBack: !o.TakeOlder, Quarantine: o.KeepUpdates, GrowStep: o.growStep}
}

// lockedBy turns the error of a lock into ErrLocked, with the process that has the lock
// if that is known.
func lockedBy(err error, raw vfs.File, o Options) error {
	if !errors.Is(err, vfs.ErrLockHeld) {
		return err
	}
	info, infoErr := raw.Info()
	if infoErr == nil {
		if pid := hdf5io.Holder(info, o.ReadOnly, 0); pid != 0 {
			return fmt.Errorf("%w by process %d", ErrLocked, pid)
		}
	}
	return fmt.Errorf("%w by another program", ErrLocked)
}

// Close closes the file. If no other process has it open, Close first gives the free
// space at its end back. It waits for an Update and for Views that are under way, and
// must not be called in one.
func (f *File) Close() error {
	f.updating.Lock()
	defer f.updating.Unlock()
	if f.closed.Swap(true) {
		return ErrClosed
	}
	f.file.Drain()
	var err error
	if f.wrote && f.file.Failed() == nil {
		err = f.file.Trim(f.file.View().RoomToRemove(), nil)
		if errors.Is(err, ErrNoSpace) {
			err = nil // the space stays in the file
		}
	}
	return errors.Join(err, f.file.Close(), f.raw.Close())
}

// Update calls change and commits what it does. When Update returns nil the disk has all
// of it, and every later View and every program that opens the file later sees it. If
// change fails, Update returns its error and changes nothing. Updates run one after
// another. change must not call Update, Refresh or Close, and must not keep the Tx.
func (f *File) Update(change func(*Tx) error) error {
	f.updating.Lock()
	defer f.updating.Unlock()
	if f.closed.Load() {
		return ErrClosed
	}
	inner, err := f.file.Begin()
	if err != nil {
		return err
	}
	defer inner.Abort()
	tx := &Tx{inner: inner, mostOpen: f.options.mostOpen, datasets: make(map[string]*Dataset)}
	defer func() { tx.done = true }()
	if err := change(tx); err != nil {
		return err
	}
	if tx.err != nil {
		return tx.err
	}
	if !tx.adds && !tx.removes {
		return nil
	}
	if err := tx.each((*Dataset).finish); err != nil {
		return err
	}
	if tx.adds {
		inner.LeaveRoom()
	}
	v, err := inner.Commit(nil)
	if err != nil {
		return err
	}
	f.wrote = true
	v.Adopted()
	return nil
}

// View calls read with the last committed state, which does not change until read
// returns. Nothing of the hdf5.File may be used after that. View never waits.
func (f *File) View(read func(*hdf5.File) error) error {
	v, pin, err := f.pin()
	if err != nil {
		return err
	}
	defer v.Unpin(pin)
	h, err := hdf5.NewReader(committed{io.NewSectionReader(f.raw, 0, v.EndOfFile()), v}, v.EndOfFile(), nil)
	if err != nil {
		return err
	}
	return read(h)
}

// pin keeps the newest state.
func (f *File) pin() (*hdf5io.View, hdf5io.Pin, error) {
	for {
		v := f.file.View()
		pin := v.Pin()
		switch {
		case f.closed.Load():
			v.Unpin(pin)
			return nil, 0, ErrClosed
		case v == f.file.View():
			return v, pin, nil
		}
		v.Unpin(pin) // a newer commit came, and this one may be overwritten
	}
}

// committed is the file as of one commit, with the superblock of that commit.
type committed struct {
	file *io.SectionReader
	view *hdf5io.View
}

func (c committed) ReadAt(p []byte, offset int64) (int, error) {
	n, err := c.file.ReadAt(p, offset)
	if super := c.view.Superblock(); n > 0 && offset < int64(len(super)) {
		copy(p[:n], super[offset:])
	}
	return n, err
}

// Refresh makes a File with Options.ReadOnly see what the writer has committed since the
// File was opened or refreshed. It reports whether there was anything new. After an error
// the File is as before.
func (f *File) Refresh() (bool, error) {
	f.updating.Lock()
	defer f.updating.Unlock()
	if f.closed.Load() {
		return false, ErrClosed
	}
	newer, err := f.file.Refresh()
	if err == nil && newer {
		f.file.View().Adopted()
	}
	return newer, err
}

// Check reads everything that belongs to the last committed state. It calls report, unless
// that is nil, for everything that is wrong, and returns the first error. Chunks have
// checksums; the data of contiguous datasets have none. Updates may run at the same time.
func (f *File) Check(ctx context.Context, report func(error)) error {
	v, pin, err := f.pin()
	if err != nil {
		return err
	}
	defer v.Unpin(pin)
	_, err = v.Check(ctx, report)
	return err
}
