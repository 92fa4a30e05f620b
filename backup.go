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
// file at path is an error.
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
	err = makeWhole(ctx, path, s.info.Mode, opts, func(dst vfs.File) error { return v.copyTo(ctx, dst) }, v.replayInto)
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
	block := dst.opts.blockBytes / wal.RecordSize
	atOnce := max(1, min(1000, int(dst.log.Largest())-block)) // operations that fit a frame of any log
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
func Restore(ctx context.Context, backup, path string) error {
	return RestoreWith(ctx, backup, path, nil)
}

// RestoreWith is Restore with options: the log key, without which only a backup
// whose log is empty can be restored, and the file system.
func RestoreWith(ctx context.Context, backup, path string, options *Options) error {
	opts, err := options.withDefaults()
	if err != nil {
		return err
	}
	opts.ReadOnly, opts.Salvage = false, false
	src, info, err := openFile(backup, &Options{ReadOnly: true, FS: opts.FS})
	if err != nil {
		return fmt.Errorf("restore %s: %w", backup, err)
	}
	defer src.Close()
	path = vfs.Target(opts.FS, path)
	target, err := lockTarget(path, &opts)
	if err != nil {
		return fmt.Errorf("restore to %s: %w", path, err)
	}
	if target != nil {
		defer target.Close()
		if info, err = target.Info(); err != nil {
			return fmt.Errorf("restore to %s: %w", path, err)
		}
	}
	err = makeWhole(ctx, path, info.Mode, opts, func(dst vfs.File) error { return copyFile(ctx, dst, src) }, nil)
	if err != nil {
		return fmt.Errorf("restore %s: %w", backup, err)
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
		return nil, err
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

// makeWhole lets fill write a store under a temporary name, opens it (its log is
// replayed), lets change make its changes, verifies all of it, and gives it its
// name. Whatever fails, path stays as it was.
func makeWhole(ctx context.Context, path string, like fs.FileMode, opts Options, fill func(vfs.File) error, change func(*Store) error) error {
	opts.GCInterval = -1
	file, err := newTemporary(path, like, &opts)
	if err != nil {
		return err
	}
	info, err := file.Info()
	if err == nil {
		err = fill(file)
	}
	err = errors.Join(err, file.Close())
	if err == nil {
		err = verifyWhole(ctx, path+temporarySuffix, opts, change)
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
