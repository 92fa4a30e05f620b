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
	// Since makes an increment, which holds what has changed since an earlier backup of
	// the store: the paths of a full backup, as Backup has made it and unchanged since, and of
	// the increments upon it, in order. RestoreSeries wants these files, then the increment.
	Since []string
	// Compact makes the copy as short as it can be, by moving its data together, which
	// takes as long as to write them once more. Else everything is where the store has it,
	// gaps included, so that an increment since then is short; the first one since a compact
	// copy holds all that has another place there. An increment, and a stream, cannot be compact.
	Compact bool
	// Progress is called with the bytes copied so far and the total, or, for an increment,
	// compared. Backup calls it, and waits for it.
	Progress func(done, total int64)
}

// withDefaults returns a copy with every zero field filled in.
func (o *BackupOptions) withDefaults() BackupOptions {
	var c BackupOptions
	if o != nil {
		c = *o
	}
	if c.Progress == nil {
		c.Progress = noProgress
	}
	return c
}

func noProgress(int64, int64) {}

// Backup writes a consistent copy of the store to path while it is in use:
// everything acknowledged before the call, and of what comes later whole batches.
// The copy is a store by itself, verified before it gets its name; an existing
// file at path is an error, an empty one too. It has the access of the store as
// Restore says, and the length of its file, unless BackupOptions.Compact is set.
func (s *Store) Backup(ctx context.Context, path string) error {
	return s.BackupWith(ctx, path, nil)
}

// BackupWith is Backup with options. An increment is verified before it gets its name
// too: what it makes of the earlier backup is read from the files, and is the copy that
// was checked. It reads both in full and, besides the increment, writes nothing. Where
// Since are not backups of this store that follow each other it is ErrBackupSeries.
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
		if err == nil && exists() { // another call has made it since; from now on none can
			err = errors.Join(fs.ErrExist, file.Close(), removeLeftover(path, &opts))
		}
		return file, err
	}
	if len(o.Since) > 0 {
		err = v.makeIncrement(ctx, path, temporary, &o)
	} else {
		fill := func(dst vfs.File) error { return v.copyTo(ctx, dst, o.Progress) }
		err = makeWhole(ctx, path, temporary, opts, fill, func(dst *Store) error {
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

// BackupTo writes a backup to w, from its first byte to its last: the bytes of the
// store that Backup would make, or of an increment. The copy is verified before the
// first byte is written; what w has done with them is for the caller to verify, by
// VerifyBackup, or RestoreFrom. What was not yet in the tree when it began is copied in memory.
func (s *Store) BackupTo(ctx context.Context, w io.Writer, options *BackupOptions) error {
	o := options.withDefaults()
	if o.Compact { // what is moved would have to be in memory
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

// beginBackup is a snapshot of which as much as possible is in the tree.
func (s *Store) beginBackup(ctx context.Context) (*Snapshot, error) {
	if !s.opts.ReadOnly { // a store that can no longer write is read as it is: that is when a copy is wanted
		if err := s.Checkpoint(ctx); err != nil && !errors.Is(err, ErrPoisoned) && !errors.Is(err, ErrNoSpace) {
			return nil, fmt.Errorf("backup: %w", err)
		}
	}
	return s.Snapshot()
}

// copyOptions are those with which the copy of the snapshot is opened.
func (v *Snapshot) copyOptions() Options {
	opts := v.store.opts
	opts.ReadOnly, opts.Salvage, opts.Durability, opts.AllowUnsafeFS = false, false, Async, true
	opts.keepPlaces = true
	return opts
}

// payload is the record of the copy, whose log is empty, and the ranges that are left
// out of it.
func (v *Snapshot) payload() ([]byte, []hdf5io.Range) {
	r := v.view.record
	r.writerPID, r.writerSince = 0, 0
	// A new epoch begins where the log ends: no old record can pass for one of it.
	block := uint64(wal.Records(int64(r.walBlock), int(r.walBlock)))
	epoch := r.epochs[len(r.epochs)-1]
	epoch.Number, epoch.First, epoch.End = epoch.Number+1, (r.lastApplied+block)/block*block, wal.NoEnd
	r.epochs, r.sliceThrough, r.sliceHash, r.watermark = []wal.Epoch{epoch}, 0, 0, r.lastApplied
	r.walFirst = min(r.walFirst, epoch.First)
	skip := []hdf5io.Range{{Offset: int64(r.walAddress), Size: int64(r.walSize)}}
	if r.oldAddress != 0 {
		skip = append(skip, hdf5io.Range{Offset: int64(r.oldAddress), Size: int64(r.oldSize)})
	}
	return r.append(nil), skip
}

// copyTo writes the snapshot's root into dst, with an empty log: what the root
// lacks is for replayInto.
func (v *Snapshot) copyTo(ctx context.Context, dst vfs.File, progress func(done, total int64)) error {
	payload, skip := v.payload()
	size := v.view.EndOfFile()
	told := &toldFile{File: dst, tell: func(done int64) { progress(min(done, size), size) }}
	err := v.guard(func() error { return v.view.Copy(ctx, told, payload, skip...) })
	if err == nil {
		progress(size, size)
	}
	return err
}

// toldFile reports how far it has been written, in order.
type toldFile struct {
	vfs.File
	tell func(end int64)
}

func (f *toldFile) WriteAt(p []byte, off int64) error {
	err := f.File.WriteAt(p, off)
	if err == nil {
		f.tell(off + int64(len(p)))
	}
	return err
}

// snapshotImage is the image of a snapshot's root, which Close of the store waits for.
type snapshotImage struct {
	*hdf5io.Image
	v *Snapshot
}

func (m snapshotImage) ReadAt(p []byte, off int64) (n int, err error) {
	err = m.v.guard(func() (err error) { n, err = m.Image.ReadAt(p, off); return err })
	return n, err
}

// draft is the copy that Backup would make, verified, and not written anywhere.
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
	opts.Logger = slog.New(slog.DiscardHandler) // of a file that nobody sees
	return d, verifyWhole(ctx, v.store.path, opts, v.replayInto, noProgress)
}

// streamTo writes the copy to w.
func (v *Snapshot) streamTo(ctx context.Context, w io.Writer, progress func(done, total int64)) error {
	d, err := v.draft(ctx)
	if err != nil {
		return err
	}
	return d.each(ctx, progress, func(p []byte, _ int64) error { _, err := w.Write(p); return err })
}

// makeIncrement makes the increment at path, and reads it, with what it was made
// since, before it gets its name.
func (v *Snapshot) makeIncrement(ctx context.Context, path string, temporary func() (vfs.File, error), o *BackupOptions) error {
	opts := v.store.opts
	fill := func(dst vfs.File) error {
		out := bufio.NewWriterSize(&sequential{file: dst}, maxPart)
		if err := v.incrementTo(ctx, out, o); err != nil {
			return err
		}
		if err := out.Flush(); err != nil {
			return err
		}
		return dst.Sync()
	}
	return makeNamed(path, temporary, &opts, fill, func() error {
		s, err := openSeries(append(slices.Clone(o.Since), temporaryName(path)), &opts)
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
	sum, old := sha256.New(), make([]byte, seriesStep)
	err = d.each(ctx, o.Progress, func(p []byte, at int64) error {
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

// sequential writes a file from its start on.
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

// makeWhole lets fill write a store into the file that temporary makes, opens it (its
// log is replayed), lets change make its changes, verifies all of it, and gives it its
// name. Whatever fails, path stays as it was.
func makeWhole(ctx context.Context, path string, temporary func() (vfs.File, error), opts Options, fill func(vfs.File) error, change func(*Store) error) error {
	opts.GCInterval = -1
	return makeNamed(path, temporary, &opts, fill, func() error {
		return verifyWhole(ctx, temporaryName(path), opts, change, noProgress)
	})
}

// makeNamed lets fill write the file that temporary makes, verifies it under its
// temporary name, and gives it its own.
func makeNamed(path string, temporary func() (vfs.File, error), opts *Options, fill func(vfs.File) error, verify func() error) error {
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
		err = verify()
	}
	if err == nil {
		err = giveName(path, info, opts)
	}
	if err != nil && !errors.Is(err, ErrLocked) {
		err = errors.Join(err, removeLeftover(path, opts))
	}
	return err
}

// verifyWhole replays, changes and checks the store at path. One with another log
// key is only checked, which is enough if nothing in its log is unapplied. progress is told
// how many bytes of how many are checked.
func verifyWhole(ctx context.Context, path string, opts Options, change func(*Store) error, progress func(done, total int64)) error {
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
		_, err = s.check(ctx, progress)
	}
	return errors.Join(err, s.Close())
}
