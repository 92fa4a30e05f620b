package cidstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/vfs"
)

// A store that is being made, restored or copied has a temporary name until it is
// complete, so that no crash leaves half a store under its own name. The next maker of a
// store of that name, or the next who opens it for writing, removes what a crash has left
// under the temporary name. If that file is locked, it is still being made and stays. The
// suffix is not one that people would choose.
const temporarySuffix = ".cidstore-new"

func temporaryName(path string) string { return vfs.TemporaryName(path, temporarySuffix) }

// inPlaceError says why a store cannot be made under another name first: its directory
// takes no file, or no other file can get its name.
type inPlaceError struct{ error }

func (e inPlaceError) Unwrap() error { return e.error }

// mustBeInPlace reports whether err is an inPlaceError.
func mustBeInPlace(err error) bool {
	var e inPlaceError
	return errors.As(err, &e)
}

// newFile is a file that is to be made at path.
type newFile struct {
	path      string
	opts      Options
	temporary func() (vfs.File, error) // makes it, empty and locked, under its temporary name
	fill      func(vfs.File) error     // writes it
}

// newFileLike returns a file that gets the access of like; see newTemporary.
func newFileLike(path string, like vfs.File, opts Options, fill func(vfs.File) error) newFile {
	return newFile{path, opts, func() (vfs.File, error) { return newTemporary(path, like, &opts) }, fill}
}

// make makes the file, and gives it its name after verify has accepted it. If anything
// fails, path stays as it was.
func (f *newFile) make(verify func() error) (err error) {
	file, err := f.temporary()
	if err != nil {
		return err
	}
	defer func() {
		if err != nil && !errors.Is(err, ErrLocked) {
			err = errors.Join(err, removeLeftover(f.path, &f.opts))
		}
	}()
	info, err := filled(file, f.fill)
	if err != nil {
		return err
	}
	if err := verify(); err != nil {
		return err
	}
	return giveName(f.path, info, &f.opts)
}

// makeStore makes the file, which is a store. It opens the store, which replays its log,
// calls change, if that is not nil, and verifies all of it.
func (f *newFile) makeStore(ctx context.Context, change func(*Store) error) error {
	f.opts.GCInterval = -1
	return f.make(func() error {
		return verifyStore(ctx, temporaryName(f.path), f.opts, change, noProgress)
	})
}

// filled calls fill to write a new file, and closes it.
func filled(file vfs.File, fill func(vfs.File) error) (vfs.Info, error) {
	info, err := file.Info()
	if err == nil {
		err = fill(file)
	}
	return info, errors.Join(err, file.Close())
}

// verifyStore replays, changes and checks the store at path. A store with another log
// key is only checked, which is enough if everything in its log is applied. progress is
// called with the number of bytes checked so far and the total.
func verifyStore(ctx context.Context, path string, opts Options, change func(*Store) error, progress func(done, total int64)) (err error) {
	s, err := open(path, opts)
	if errors.Is(err, ErrWALKey) && change == nil {
		opts.ReadOnly, opts.emptyLog = true, true
		s, err = open(path, opts)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if change != nil {
		if err := change(s); err != nil {
			return err
		}
	}
	if !opts.ReadOnly {
		if err := s.Checkpoint(ctx); err != nil {
			return err
		}
	}
	_, err = s.check(ctx, progress)
	return err
}

// insertAll inserts pairs, in batches.
func (s *Store) insertAll(ctx context.Context, pairs iter.Seq2[E, E]) error {
	atOnce := s.opsAtOnce()
	var b Batch
	for key, value := range pairs {
		if b.Insert(key, value); b.Len() < atOnce {
			continue
		}
		if err := errors.Join(ctx.Err(), s.Apply(&b)); err != nil {
			return err
		}
		b.Reset()
	}
	return s.Apply(&b)
}

// holds returns an error unless the store has that many keys and values.
func (s *Store) holds(ctx context.Context, keys, values uint64) error {
	gotKeys, gotValues, err := s.Len(ctx)
	if err == nil && (gotKeys != keys || gotValues != values) {
		err = fmt.Errorf("the new store has %d keys with %d values, want %d and %d", gotKeys, gotValues, keys, values)
	}
	return err
}

// newTemporary makes an empty file under path's temporary name, and locks it. The file
// gets the access of the file like, or that of a new file if like is nil.
func newTemporary(path string, like vfs.File, opts *Options) (vfs.File, error) {
	name, mode := temporaryName(path), newFileMode
	if like != nil {
		info, err := like.Info()
		if err != nil {
			return nil, err
		}
		mode = info.Mode.Perm()
		if opts.FS == vfs.OS() {
			mode = 0o600 // until it has its owner
		}
	}
	for range 100 { // another opener was faster in each round before
		file, err := opts.FS.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, mode)
		if errors.Is(err, fs.ErrExist) {
			if err := removeLeftover(path, opts); err != nil {
				return nil, err
			}
			continue
		}
		if errors.Is(err, fs.ErrPermission) || vfs.IsReadOnlyFS(err) {
			return nil, inPlaceError{readOnlyFileSystem(err)}
		}
		if err != nil {
			return nil, err
		}
		ours, err := lockNamed(file, name, opts)
		if err == nil && ours {
			if like != nil {
				copyAccess(file, like, path, opts)
			}
			return file, nil
		}
		if err := errors.Join(err, file.Close()); err != nil && !errors.Is(err, vfs.ErrLockHeld) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%w: other processes keep making it", ErrLocked)
}

// copyAccess gives the file that will be at path the owner and the permissions of like. If
// it may not, it says so to the Logger.
func copyAccess(file, like vfs.File, path string, opts *Options) {
	if err := vfs.CopyAccess(file, like); err != nil {
		opts.Logger.Warn("access not kept", "path", path, "error", err)
	}
}

// lockNamed locks file for writing, and reports whether it still has the name: if so,
// nobody takes the name away while the lock is held.
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

// hasName reports whether name leads to the file with this info.
func hasName(info vfs.Info, name string, opts *Options) (bool, error) {
	named, err := opts.FS.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && named.Device == info.Device && named.Inode == info.Inode, err
}

// removeLeftover removes what a crash left under path's temporary name. It returns
// ErrLocked if the store is being made now. If something else has that name, the error says
// what it is.
func removeLeftover(path string, opts *Options) error {
	name := temporaryName(path)
	kind, err := vfs.Kind(opts.FS, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !kind.IsRegular() {
		return inTheWay(name, kindName(kind), fs.ErrExist)
	}
	file, err := opts.FS.OpenFile(name, os.O_RDWR, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, fs.ErrPermission):
		return inTheWay(name, "a file that you may not open", err)
	case err != nil:
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
	err = opts.FS.Remove(name)
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

// giveName renames the file with this info, which is complete and durable, from path's
// temporary name to path.
func giveName(path string, info vfs.Info, opts *Options) error {
	name := temporaryName(path)
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
		if vfs.IsMountPoint(err) || errors.Is(err, fs.ErrPermission) { // a sticky directory, for example
			err = inPlaceError{err}
		}
		return err
	}
	return opts.FS.SyncDir(filepath.Dir(path))
}
