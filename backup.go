package cidstore

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"slices"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/vfs"
	"github.com/cidstore/cidstore/wal"
)

// BackupOptions are the choices of one backup. nil and zero fields mean the defaults.
type BackupOptions struct {
	// Since makes the backup an increment, which holds what has changed since an earlier
	// backup of the store. It lists the path of a full backup, which must be as Backup made
	// it, and then the paths of the increments that follow it, in order. RestoreSeries
	// takes these files and then the new increment.
	Since []string
	// Compact moves the data of the copy together, so that the copy is as short as it can
	// be. This takes as long as writing the data once more. Without Compact everything is
	// where the store has it, gaps included, and the next increment is short. The first
	// increment after a compact copy holds everything that was moved. Neither an increment
	// nor a stream can be compact.
	Compact bool
	// Progress is called with the number of bytes copied so far, or compared in the case
	// of an increment, and with the total. The backup waits until it returns.
	Progress func(done, total int64)
}

// withDefaults returns a copy with every zero field filled in.
func (o *BackupOptions) withDefaults() BackupOptions {
	var c BackupOptions
	if o != nil {
		c = *o
	}
	c.Progress = orNone(c.Progress)
	return c
}

func noProgress(int64, int64) {}

// orNone returns progress, or noProgress if it is nil.
func orNone(progress func(done, total int64)) func(done, total int64) {
	if progress == nil {
		return noProgress
	}
	return progress
}

// Backup writes a consistent copy of the store to path while the store is in use.
// The copy holds everything that was acknowledged before the call, and of later
// batches all or nothing. It is a store by itself, and is verified before it gets its
// name. If there is a file at path, even an empty one, Backup fails. The copy gets the
// access of the store, as Restore describes, and is as long as the store's file, unless
// BackupOptions.Compact is set.
func (s *Store) Backup(ctx context.Context, path string) error {
	return s.BackupWith(ctx, path, nil)
}

// BackupWith is Backup with options. An increment, too, is verified before it gets its
// name: BackupWith reads back what the increment makes of the earlier backup, and
// compares it with the copy that was checked. It reads the store and the backups in
// full, and writes only the increment. It returns ErrBackupSeries if the files of Since
// are not backups of this store that follow each other.
func (s *Store) BackupWith(ctx context.Context, path string, options *BackupOptions) error {
	o := options.withDefaults()
	if o.Compact && len(o.Since) > 0 {
		return invalidf("backup: an increment that is compact")
	}
	v, err := s.beginBackup(ctx)
	if err != nil {
		return err
	}
	defer v.Close()
	path = vfs.Target(s.opts.FS, path)
	exists := func() bool { _, err := s.opts.FS.Stat(path); return err == nil }
	if exists() {
		return fmt.Errorf("backup: %s: %w", path, fs.ErrExist)
	}
	opts := v.copyOptions()
	opts.keepPlaces = !o.Compact
	temporary := func() (file vfs.File, err error) {
		err = v.guard(func() (err error) { // Close waits, and takes s.vfile away after that
			file, err = newTemporary(path, s.vfile, &opts)
			return err
		})
		if err == nil && exists() { // another call made it just now; from here on none can
			err = errors.Join(fs.ErrExist, file.Close(), removeLeftover(path, &opts))
		}
		return file, err
	}
	made := newFile{path: path, opts: opts, temporary: temporary}
	if len(o.Since) > 0 {
		err = v.makeIncrement(ctx, made, &o)
	} else {
		made.fill = func(dst vfs.File) error { return v.copyTo(ctx, dst, o.Progress) }
		err = made.makeStore(ctx, func(dst *Store) error {
			err := v.replayInto(dst)
			if err == nil && o.Compact {
				err = dst.Shrink(ctx)
			}
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("backup to %s: %w", path, ofStore(err))
	}
	return nil
}

// BackupTo writes a backup to w, from its first byte to its last: the store that Backup
// would make, or an increment. The copy is verified before the first byte is written.
// The caller verifies what has become of the bytes after w, with VerifyBackup or
// RestoreFrom. Operations that are not in the tree when it begins take memory.
func (s *Store) BackupTo(ctx context.Context, w io.Writer, options *BackupOptions) error {
	o := options.withDefaults()
	if o.Compact { // the data that is moved would take memory
		return invalidf("backup: a stream that is compact")
	}
	v, err := s.beginBackup(ctx)
	if err != nil {
		return err
	}
	defer v.Close()
	if len(o.Since) > 0 {
		err = v.incrementTo(ctx, w, &o)
	} else {
		err = v.streamTo(ctx, w, o.Progress)
	}
	if err != nil {
		return fmt.Errorf("backup: %w", ofStore(err))
	}
	return nil
}

// beginBackup returns a snapshot, after putting as much as possible into the tree.
func (s *Store) beginBackup(ctx context.Context) (*Snapshot, error) {
	if !s.opts.ReadOnly {
		// A store that can no longer write is copied as it is: it needs a backup most.
		if err := s.Checkpoint(ctx); err != nil && !errors.Is(err, ErrPoisoned) && !errors.Is(err, ErrNoSpace) {
			return nil, fmt.Errorf("backup: %w", err)
		}
	}
	return s.Snapshot()
}

// copyOptions returns the options with which the copy of the snapshot is opened.
func (v *Snapshot) copyOptions() Options {
	opts := v.store.opts
	opts.ReadOnly, opts.Salvage, opts.Durability, opts.AllowUnsafeFS = false, false, Async, true
	opts.keepPlaces = true
	return opts
}

// payload returns the store record of the copy, whose log is empty, and the ranges that
// are left out of the copy.
func (v *Snapshot) payload() ([]byte, []hdf5io.Range) {
	r := v.view.record
	r.writerPID, r.writerSince = 0, 0
	// A new epoch begins where the log ends, so that no old record can pass for a new one.
	epoch := r.epochs[len(r.epochs)-1]
	epoch.Number, epoch.First, epoch.End = epoch.Number+1, wal.BlockAfter(r.lastApplied, int(r.walBlock)), wal.NoEnd
	r.epochs, r.sliceThrough, r.sliceHash, r.watermark = []wal.Epoch{epoch}, 0, 0, r.lastApplied
	r.walFirst = min(r.walFirst, epoch.First)
	skip := []hdf5io.Range{{Offset: int64(r.walAddress), Size: int64(r.walSize)}}
	if r.oldAddress != 0 {
		skip = append(skip, hdf5io.Range{Offset: int64(r.oldAddress), Size: int64(r.oldSize)})
	}
	return r.append(nil), skip
}

// copyTo writes the snapshot's root into dst, with an empty log. replayInto adds what
// the root lacks.
func (v *Snapshot) copyTo(ctx context.Context, dst vfs.File, progress func(done, total int64)) error {
	payload, skip := v.payload()
	size := v.view.EndOfFile()
	reporting := &reportingFile{File: dst, report: func(done int64) { progress(min(done, size), size) }}
	err := v.guard(func() error { return v.view.Copy(ctx, reporting, payload, skip...) })
	if err == nil {
		progress(size, size)
	}
	return err
}

// reportingFile is a file, written in order, that reports how far it has been written.
type reportingFile struct {
	vfs.File
	report func(end int64)
}

func (f *reportingFile) WriteAt(p []byte, off int64) error {
	err := f.File.WriteAt(p, off)
	if err == nil {
		f.report(off + int64(len(p)))
	}
	return err
}

// snapshotImage is the image of a snapshot's root. Store.Close waits for its reads.
type snapshotImage struct {
	*hdf5io.Image
	v *Snapshot
}

func (m snapshotImage) ReadAt(p []byte, off int64) (n int, err error) {
	err = m.v.guard(func() (err error) { n, err = m.Image.ReadAt(p, off); return err })
	return n, err
}

// draft returns the copy that Backup would make, verified, but not written anywhere.
func (v *Snapshot) draft(ctx context.Context) (*draft, error) {
	payload, skip := v.payload()
	var image *hdf5io.Image
	err := v.guard(func() (err error) { image, err = v.view.Image(payload, skip...); return err })
	if err != nil {
		return nil, err
	}
	d := newDraft(snapshotImage{image, v}, image.Size())
	opts := v.copyOptions()
	opts.FS, opts.GCInterval = draftFS{d}, -1
	opts.Logger = slog.New(slog.DiscardHandler) // the draft has no path that events could name
	return d, verifyStore(ctx, v.store.path, opts, v.replayInto, noProgress)
}

// streamTo writes the copy to w.
func (v *Snapshot) streamTo(ctx context.Context, w io.Writer, progress func(done, total int64)) error {
	d, err := v.draft(ctx)
	if err != nil {
		return err
	}
	return inSteps(ctx, d.size, progress, func(p []byte, at int64) error {
		if _, err := d.ReadAt(p, at); err != nil {
			return err
		}
		_, err := w.Write(p)
		return err
	})
}

// makeIncrement makes the increment. Before it gets its name, it is verified together with
// the backups of o.Since.
func (v *Snapshot) makeIncrement(ctx context.Context, made newFile, o *BackupOptions) error {
	made.fill = func(dst vfs.File) error {
		out := bufio.NewWriterSize(&sequential{file: dst}, maxPart)
		if err := v.incrementTo(ctx, out, o); err != nil {
			return err
		}
		if err := out.Flush(); err != nil {
			return err
		}
		return dst.Sync()
	}
	return made.make(func() error {
		s, err := openSeries(append(slices.Clone(o.Since), temporaryName(made.path)), &made.opts)
		if err != nil {
			return err
		}
		return errors.Join(s.verify(ctx, noProgress), s.close())
	})
}

// incrementTo writes the increment to w.
func (v *Snapshot) incrementTo(ctx context.Context, w io.Writer, o *BackupOptions) error {
	base, err := openSeries(o.Since, &v.store.opts)
	if err != nil {
		return fmt.Errorf("since %w", err)
	}
	defer base.close()
	from, err := base.identity()
	if err != nil {
		return fmt.Errorf("since %s: %w", base.name(), err)
	}
	info, err := base.files[0].Info()
	if err != nil {
		return fmt.Errorf("since %s: %w", o.Since[0], err)
	}
	if info.Device == v.store.info.Device && info.Inode == v.store.info.Inode {
		return fmt.Errorf("since %s: %w: it is the store itself", o.Since[0], ErrBackupSeries)
	}
	if uuid := v.view.UUID(); from.uuid != uuid {
		return fmt.Errorf("since %s: %w: it is of the store %x, this is %x", o.Since[0], ErrBackupSeries, from.uuid, uuid)
	}
	d, err := v.draft(ctx)
	if err != nil {
		return err
	}
	to, err := identify(d)
	if err != nil {
		return err
	}
	to.baseCommit, to.baseSize, to.baseHead = from.commit, from.size, from.head
	out, err := newIncrementWriter(w, &to)
	if err != nil {
		return err
	}
	before, err := base.read()
	if err != nil {
		return err
	}
	sum, old := sha256.New(), make([]byte, pieceBytes)
	err = inSteps(ctx, d.size, o.Progress, func(p []byte, at int64) error {
		if _, err := d.ReadAt(p, at); err != nil {
			return err
		}
		sum.Write(p)
		if err := before.next(old[:len(p)]); err != nil {
			return err
		}
		return out.changes(at, p, old[:len(p)])
	})
	if err != nil {
		return err
	}
	return out.end([sha256.Size]byte(sum.Sum(nil)))
}

// sequential writes to a file from its start on.
type sequential struct {
	file vfs.File
	at   int64
}

func (s *sequential) Write(p []byte) (int, error) {
	if err := s.file.WriteAt(p, s.at); err != nil {
		return 0, err
	}
	s.at += int64(len(p))
	return len(p), nil
}

// replayInto applies to the copy the operations that the snapshot's root lacks.
func (v *Snapshot) replayInto(dst *Store) error {
	atOnce := dst.opsAtOnce()
	var b Batch
	err := v.eachPending(func(o *op) error {
		b.ops = append(b.ops, wal.Op{Code: o.code, Key: o.key, Value: o.value})
		if b.Len() < atOnce {
			return nil
		}
		defer b.Reset()
		return dst.Apply(&b)
	})
	if err != nil {
		return err
	}
	return dst.Apply(&b)
}
