package cidstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/vfs"
	"github.com/cidstore/cidstore/wal"
)

// Backup writes a consistent copy of the store to path while it is in use:
// everything acknowledged before the call, and of what comes later whole batches.
// The copy is a store by itself, verified before it gets its name; an existing
// file at path is an error, an empty one too. It has the access of the store as
// Restore says.
func (s *Store) Backup(ctx context.Context, path string) error {
	if !s.opts.ReadOnly { // a store that can no longer write is read as it is: that is when a copy is wanted
		if err := s.Checkpoint(ctx); err != nil && !errors.Is(err, ErrPoisoned) && !errors.Is(err, ErrNoSpace) {
			return fmt.Errorf("backup: %w", err)
		}
	}
	v, err := s.Snapshot()
	if err != nil {
		return err
	}
	defer v.Close()
	path = vfs.Target(s.opts.FS, path)
	if _, err := s.opts.FS.Stat(path); err == nil {
		return fmt.Errorf("backup: %s: %w", path, fs.ErrExist)
	}
	opts := s.opts
	opts.ReadOnly, opts.Salvage, opts.Durability, opts.AllowUnsafeFS = false, false, Async, true
	temporary := func() (file vfs.File, err error) {
		err = v.guard(func() (err error) { // Close waits, and takes s.vfile away after that
			file, err = newTemporary(path, s.vfile, &opts)
			return err
		})
		return file, err
	}
	err = makeWhole(ctx, path, temporary, opts, func(dst vfs.File) error { return v.copyTo(ctx, dst) }, v.replayInto)
	if err != nil {
		return fmt.Errorf("backup to %s: %w", path, ofStore(err))
	}
	return nil
}

// copyTo writes the snapshot's root into dst, with an empty log: what the root
// lacks is for replayInto.
func (v *Snapshot) copyTo(ctx context.Context, dst vfs.File) error {
	r := v.view.record
	r.writerPID, r.writerSince = 0, 0
	// A new epoch begins where the log ends: no old record can pass for one of it.
	block := uint64(r.walBlock) / wal.RecordSize
	epoch := r.epochs[len(r.epochs)-1]
	epoch.Number, epoch.First, epoch.End = epoch.Number+1, (r.lastApplied+block)/block*block, wal.NoEnd
	r.epochs, r.sliceThrough, r.sliceHash, r.watermark = []wal.Epoch{epoch}, 0, 0, r.lastApplied
	r.walFirst = min(r.walFirst, epoch.First)
	skip := []hdf5io.Range{{Offset: int64(r.walAddress), Size: int64(r.walSize)}}
	if r.oldAddress != 0 {
		skip = append(skip, hdf5io.Range{Offset: int64(r.oldAddress), Size: int64(r.oldSize)})
	}
	return v.guard(func() error { return v.view.Copy(ctx, dst, r.append(nil), skip...) })
}

// replayInto applies the operations that the snapshot's root lacks to its copy.
func (v *Snapshot) replayInto(dst *Store) error {
	atOnce := dst.opsAtOnce()
	var b Batch
	var err error
	put := func(o *op) {
		b.ops = append(b.ops, wal.Op{Code: o.code, Key: o.key, Value: o.value})
		if b.Len() == atOnce && err == nil {
			err = dst.Apply(&b)
			b.Reset()
		}
	}
	if v.frozen != nil {
		v.frozen.all(^uint64(0), func(o *op) {
			if !v.inTree(o.hash) {
				put(o)
			}
		})
	}
	v.fresh.all(v.visible, put)
	if err != nil {
		return err
	}
	return dst.Apply(&b)
}

// Restore makes the store at path from a backup: copied to a temporary file next
// to it, its log replayed, verified, and only then renamed. A bad backup leaves
// path alone, and so does a store at path that somebody has open for writing.
//
// The new file has the owner, the group, the permissions and, on Linux, the access
// control list of the one in whose place it comes, or else of the backup, as far as
// the caller may give them to it. Other extended attributes are not kept, and other
// names of the old file (hard links) stay names of that. A symbolic link at path
// stays, and the file that it leads to is replaced.
//
// Where no file can be renamed to path, because it is a mount point or its directory
// takes no new file, and a file is there, the backup is verified first and then
// written into that file, which nobody may have open meanwhile, nor the backup. It
// keeps all its attributes and names. If that is interrupted the file is no store
// (ErrHalfMade) until a restore to it is done.
func Restore(ctx context.Context, backup, path string) error {
	return RestoreWith(ctx, backup, path, nil)
}

// RestoreWith is Restore with options: the log key, without which only a backup
// whose log is empty can be restored, the file system, and the Logger, which is told
// "access not kept" if that was not permitted.
func RestoreWith(ctx context.Context, backup, path string, options *Options) error {
	opts, err := options.withDefaults()
	if err != nil {
		return err
	}
	opts.ReadOnly, opts.Salvage = false, false
	src, _, err := openFile(backup, &Options{ReadOnly: true, FS: opts.FS})
	if err == nil {
		if err = isWhole(src); err != nil {
			err = errors.Join(err, src.Close())
		}
	}
	if err != nil {
		return fmt.Errorf("restore %s: %w", backup, err)
	}
	defer src.Close()
	path = vfs.Target(opts.FS, path)
	target, err := lockTarget(path, &opts)
	if err != nil {
		return fmt.Errorf("restore to %s: %w", path, err)
	}
	like := src
	if target != nil {
		defer target.Close()
		like = target
	}
	temporary := func() (vfs.File, error) { return newTemporary(path, like, &opts) }
	err = makeWhole(ctx, path, temporary, opts, func(dst vfs.File) error { return copyFile(ctx, dst, src) }, nil)
	if mustBeInPlace(err) && target != nil {
		if err = restoreInPlace(ctx, backup, src, target, opts); err != nil {
			err = fmt.Errorf("to %s: %w", path, err)
		}
	}
	if err != nil {
		return fmt.Errorf("restore %s: %w", backup, err)
	}
	return nil
}

// restoreInPlace copies the backup, which is open as src, into target.
func restoreInPlace(ctx context.Context, backup string, src, target vfs.File, opts Options) error {
	if err := lockPlace(target, &opts); err != nil {
		return err
	}
	reading := opts
	reading.ReadOnly, reading.GCInterval = true, -1
	if err := verifyWhole(ctx, backup, reading, nil); err != nil {
		return err
	}
	// Whoever wrote the backup while it is copied would spoil the copy.
	if err := src.TryLock(vfs.Lock{Whole: true, Exclusive: true}); err != nil {
		if errors.Is(err, vfs.ErrLockHeld) {
			err = fmt.Errorf("%w: the backup is open elsewhere", ErrLocked)
		}
		return err
	}
	info, err := src.Info()
	if err != nil {
		return err
	}
	if err := makeRoom(target, info.Size); err != nil {
		return err
	}
	m := mark{restoration, absolute(backup, &opts)}
	return writeInPlace(target, m, func(p *placed) error {
		err := p.Allocate(0, info.Size)
		if err == nil {
			err = copyFile(ctx, p, src)
		}
		return err
	})
}

// makeRoom finds out whether the disk has room for size bytes before a file with
// something in it is written over. An empty one, or one that was only begun, is
// marked first: of zeros nobody could tell what they are.
func makeRoom(file vfs.File, size int64) error {
	info, err := file.Info()
	if err != nil || info.Size == 0 {
		return err
	}
	if h, err := readMarks(file); err != nil || h.begun {
		return err
	}
	if err := file.Allocate(0, size); err != nil {
		return errors.Join(err, file.Truncate(info.Size))
	}
	return nil
}

// lockTarget keeps writers away from a store that is about to be replaced.
func lockTarget(path string, opts *Options) (vfs.File, error) {
	file, err := opts.FS.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, readOnlyFileSystem(err)
	}
	if err := hdf5io.LockWriter(file); err != nil {
		if errors.Is(err, vfs.ErrLockHeld) {
			err = lockedBy(file, opts)
		}
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

func copyFile(ctx context.Context, dst, src vfs.File) error {
	info, err := src.Info()
	if err != nil {
		return err
	}
	buffer := make([]byte, 1<<20)
	for at := int64(0); at < info.Size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		p := buffer[:min(int64(len(buffer)), info.Size-at)]
		if n, err := src.ReadAt(p, at); n < len(p) {
			return fmt.Errorf("read %d bytes at %#x: %w", len(p), at, err)
		}
		if err := dst.WriteAt(p, at); err != nil {
			return err
		}
		at += int64(len(p))
	}
	return dst.Sync()
}

// makeWhole lets fill write a store into the file that temporary makes, opens it (its
// log is replayed), lets change make its changes, verifies all of it, and gives it its
// name. Whatever fails, path stays as it was.
func makeWhole(ctx context.Context, path string, temporary func() (vfs.File, error), opts Options, fill func(vfs.File) error, change func(*Store) error) error {
	opts.GCInterval = -1
	file, err := temporary()
	if err != nil {
		return err
	}
	info, err := file.Info()
	if err == nil {
		err = fill(file)
	}
	err = errors.Join(err, file.Close())
	if err == nil {
		err = verifyWhole(ctx, temporaryName(path), opts, change)
	}
	if err == nil {
		err = giveName(path, info, &opts)
	}
	if err != nil && !errors.Is(err, ErrLocked) {
		err = errors.Join(err, removeLeftover(path, &opts))
	}
	return err
}

// verifyWhole replays, changes and checks the store at path. One with another log
// key is only checked, which is enough if nothing in its log is unapplied.
func verifyWhole(ctx context.Context, path string, opts Options, change func(*Store) error) error {
	s, err := open(path, opts)
	if errors.Is(err, ErrWALKey) && change == nil {
		opts.ReadOnly, opts.emptyLog = true, true
		s, err = open(path, opts)
	}
	if err != nil {
		return err
	}
	if change != nil {
		err = change(s)
	}
	if err == nil && !opts.ReadOnly {
		err = s.Checkpoint(ctx)
	}
	if err == nil {
		_, err = s.Check(ctx)
	}
	return errors.Join(err, s.Close())
}
