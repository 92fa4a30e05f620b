package cidstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"

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

// mustBeInPlace reports whether err says that a store cannot be made under another name
// first.
func mustBeInPlace(err error) bool {
	var e vfs.InPlaceError
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
	mode := newFileMode
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
	file, err := vfs.CreateTemporary(opts.FS, temporaryName(path), mode, opts.lockWriter)
	if err != nil {
		return nil, readOnlyFileSystem(err)
	}
	if like != nil {
		copyAccess(file, like, path, opts)
	}
	return file, nil
}

// copyAccess gives the file that will be at path the owner and the permissions of like. If
// it may not, it says so to the Logger.
func copyAccess(file, like vfs.File, path string, opts *Options) {
	if err := vfs.CopyAccess(file, like); err != nil {
		opts.Logger.Warn("access not kept", "path", path, "error", err)
	}
}

// lockWriter takes the writer's lock of a file. The error says who has it.
func (o *Options) lockWriter(file vfs.File) error {
	err := hdf5io.LockWriter(file)
	if errors.Is(err, ErrLocked) {
		err = lockedBy(file, o)
	}
	return err
}

// removeLeftover removes what a crash left under path's temporary name, as
// vfs.RemoveTemporary does.
func removeLeftover(path string, opts *Options) error {
	return vfs.RemoveTemporary(opts.FS, temporaryName(path), opts.lockWriter)
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
	ours, err := vfs.LockNamed(opts.FS, file, name, hdf5io.LockWriter)
	if err == nil && ours {
		ours, err = vfs.HasName(opts.FS, info, name)
	}
	switch {
	case errors.Is(err, ErrLocked) || err == nil && !ours:
		return taken
	case err != nil:
		return err
	}
	return vfs.GiveName(opts.FS, name, path)
}
