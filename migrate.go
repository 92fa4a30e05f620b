package cidstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/legacy"
	"github.com/cidstore/cidstore/vfs"
)

// MigrateOptions are the choices of one migration. nil and zero fields mean the
// defaults.
type MigrateOptions struct {
	// Store has the choices for the new store: FS, WALKey, WALBytes, SplitThreshold,
	// AllowUnsafeFS, Clock, Rand, and the Logger. nil means the defaults. A store of
	// format 1 with a secret needs the same WALKey.
	Store *Options
	// Truncate256 keeps only the first 128 bits of identifiers of 256 bits. If these
	// are the same for two identifiers, Migrate still refuses the file (ErrWide).
	Truncate256 bool
}

// MigrateReport says what Migrate took over, and what it could not.
type MigrateReport struct {
	// From is the layout of the old file, as package legacy describes it: "empty",
	// "attribute", "dataset", "sharded", "256-bit" or "format-1"; "current" if UpToDate.
	From string
	// UpToDate says that the file is a store of the present format: nothing was done.
	UpToDate bool
	// Keys and Pairs count what was taken over.
	Keys, Pairs uint64
	// OperationsReplayed counts the operations that were only in the log.
	OperationsReplayed int
	// Backup is the path of the copy of the old file, if the new one takes its place.
	// After an error it is set only if the copy is still there.
	Backup string

	// Defects say what was damaged in the old file, where, and whether it was taken
	// over. They are the first 1,000; DefectCount counts all.
	Defects     []error
	DefectCount int
}

// backupSuffix is appended to the name of a file whose place a migrated one takes.
const backupSuffix = ".bak"

// Migrate takes over the store at path: one of format 1, or one that the earlier Python
// package wrote, in any of its layouts, which package legacy describes. A value of 64 bits
// becomes the low half of a value. Migrate reports what is damaged, and takes over
// everything else.
//
// output names the new store, which must not exist yet (fs.ErrExist). "" means path:
// then the old file is kept as path + ".bak" (if path is a symbolic link, beside the file
// that it leads to). Migrate never overwrites a file of that name: it returns fs.ErrExist,
// unless the file equals the old one byte for byte, as an interrupted migration leaves
// it. Whatever interrupts Migrate, path names either the old file or the complete,
// verified new one. The new file gets the access of the old one, as Restore describes.
// Other processes must not have the old file open for writing (ErrLocked).
//
// A store of the present format is left as it is. The other errors are those of Open,
// among them ErrNotCIDStore for a file that is not a store at all and ErrFormatVersion
// for a later version; also ErrWide for identifiers of 256 bits, and ErrWALKey for a log
// with another secret. Whatever fails, path stays as it was. The report says what was
// read, even with an error.
func Migrate(ctx context.Context, path, output string) (MigrateReport, error) {
	return MigrateWith(ctx, path, output, nil)
}

// MigrateWith is Migrate with options.
func MigrateWith(ctx context.Context, path, output string, options *MigrateOptions) (MigrateReport, error) {
	var o MigrateOptions
	if options != nil {
		o = *options
	}
	opts, err := o.Store.withDefaults()
	if err != nil {
		return MigrateReport{}, err
	}
	opts.ReadOnly, opts.Salvage, opts.Durability = false, false, Async
	m := migration{ctx: ctx, opts: opts, truncate: o.Truncate256}
	if err := m.run(path, output); err != nil {
		return m.report, fmt.Errorf("migrate %s: %w", path, err)
	}
	return m.report, nil
}

// migration is one Migrate under way.
type migration struct {
	ctx      context.Context
	opts     Options
	truncate bool
	report   MigrateReport
}

func (m *migration) run(path, output string) error {
	path = vfs.Target(m.opts.FS, path)
	if err := m.judge(path); err != nil || m.report.UpToDate {
		return err
	}
	if output != "" {
		output = vfs.Target(m.opts.FS, output)
		if _, err := m.opts.FS.Stat(output); err == nil {
			return fmt.Errorf("%s: %w", output, fs.ErrExist)
		}
	}
	old, err := m.openOld(path, output == "")
	if err != nil {
		return err
	}
	contents, err := m.read(path, old)
	switch {
	case err != nil:
	case output == "":
		err = m.replace(path, old, contents)
	default:
		if err = m.write(output, m.like(path, output, old), contents); err != nil {
			err = fmt.Errorf("to %s: %w", output, err)
		}
	}
	return errors.Join(err, old.Close())
}

// judge finds out whether the file is a store of the present format. Its error is nil
// if it has an older layout.
func (m *migration) judge(path string) error {
	opts := m.opts
	opts.ReadOnly, opts.GCInterval = true, -1
	s, err := Open(path, &opts)
	if errors.Is(err, ErrLegacy) {
		return nil
	}
	if err == nil {
		m.report.From, m.report.UpToDate = "current", true
		err = s.Close()
	}
	return err
}

// openOld opens the old file and keeps others from writing to it. taken says that the new
// store will take its place; else it is only read.
func (m *migration) openOld(path string, taken bool) (vfs.File, error) {
	opts := m.opts
	opts.ReadOnly = !taken
	file, _, err := openFile(path, &opts)
	if err != nil {
		return nil, err
	}
	if taken {
		var ours bool
		if ours, err = vfs.LockNamed(opts.FS, file, path, hdf5io.LockWriter); err == nil && !ours {
			err = ErrReplaced
		}
	}
	if err == nil {
		err = file.TryLock(vfs.Lock{Whole: true, Exclusive: taken})
	}
	if errors.Is(err, ErrLocked) {
		err = lockedBy(file, &opts)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// read reads the old file, and the log that may lie next to it.
func (m *migration) read(path string, old vfs.File) (*legacy.Contents, error) {
	info, err := old.Info()
	if err != nil {
		return nil, err
	}
	options := legacy.Options{Truncate: m.truncate, WALKey: m.opts.WALKey}
	layout, err := legacy.Detect(old, info.Size)
	if err != nil {
		return nil, m.asOurs(err)
	}
	if layout == legacy.Wide {
		name := strings.TrimSuffix(path, filepath.Ext(path)) + ".wal"
		log, logInfo, err := openFile(name, &Options{ReadOnly: true, FS: m.opts.FS})
		if err == nil {
			defer log.Close()
			options.Log, options.LogSize = log, logInfo.Size
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("its log: %w", err)
		}
	}
	contents, err := legacy.Read(m.ctx, old, info.Size, &options)
	if err != nil {
		return nil, m.asOurs(err)
	}
	m.report.From, m.report.OperationsReplayed = string(contents.Layout), contents.Replayed
	m.report.Defects, m.report.DefectCount = contents.Defects, contents.DefectCount
	return contents, nil
}

// asOurs turns an error of package legacy into one of this package.
func (m *migration) asOurs(err error) error {
	kind := ErrIO
	switch {
	case m.ctx.Err() != nil || errors.Is(err, ErrWide):
		return err
	case errors.Is(err, legacy.ErrNotLegacy):
		kind = ErrNotCIDStore
	case errors.Is(err, legacy.ErrVersion):
		kind = ErrFormatVersion
	case errors.Is(err, legacy.ErrKey):
		kind = ErrWALKey
	case errors.Is(err, legacy.ErrUnreadable):
		kind = ErrCorrupt
	}
	return fmt.Errorf("%w: %w", kind, err)
}

// replace puts the new store in the place of the old file. It first makes a durable copy
// of the old file under the name of the backup, then a complete and verified new store.
// The rename comes last: it happens or it does not.
func (m *migration) replace(path string, old vfs.File, contents *legacy.Contents) error {
	backup := path + backupSuffix
	made, err := m.keep(backup, old)
	if err != nil {
		err = fmt.Errorf("keep the old file as %s: %w", backup, err)
	} else {
		m.report.Backup = backup
		err = m.write(path, old, contents)
	}
	if mustBeInPlace(err) {
		err = fmt.Errorf("%w; no file can take its place, name another one for the new store", err)
	}
	if err != nil && made {
		err = errors.Join(err, m.discard(backup, path, old))
	}
	return err
}

// keep makes the copy of the old file, unless there is one.
func (m *migration) keep(backup string, old vfs.File) (made bool, err error) {
	kind, err := vfs.Kind(m.opts.FS, backup)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		made := newFileLike(backup, old, m.opts, func(file vfs.File) error { return copyFile(m.ctx, file, old) })
		err := made.make(func() error { return nil })
		return err == nil, err
	case err != nil:
		return false, err
	case !kind.IsRegular():
		return false, fs.ErrExist
	}
	same, err := m.isKept(backup, old)
	if err == nil && !same {
		err = fs.ErrExist
	}
	return false, err
}

// isKept reports whether there is a copy of the old file already, and makes it durable:
// the migration that made it may have been killed, or something else may have made it.
func (m *migration) isKept(backup string, old vfs.File) (bool, error) {
	file, info, err := openFile(backup, &m.opts)
	if err != nil {
		return false, err
	}
	defer file.Close()
	if same, err := m.same(file, old, info.Size); err != nil || !same {
		return false, err
	}
	if err := file.Sync(); err != nil {
		return false, err
	}
	return true, m.opts.FS.SyncDir(filepath.Dir(backup))
}

// same reports whether a file of size bytes equals the old one.
func (m *migration) same(file, old vfs.File, size int64) (bool, error) {
	info, err := old.Info()
	if err != nil || info.Size != size {
		return false, err
	}
	var buffers [2][64 << 10]byte
	for at := int64(0); at < size; {
		n := min(int64(len(buffers[0])), size-at)
		for i, f := range []vfs.File{file, old} {
			if got, err := f.ReadAt(buffers[i][:n], at); got < int(n) {
				return false, err
			}
		}
		if !bytes.Equal(buffers[0][:n], buffers[1][:n]) {
			return false, nil
		}
		at += n
	}
	return true, m.ctx.Err()
}

// discard removes the copy of the old file, if path still names the old file.
func (m *migration) discard(backup, path string, old vfs.File) error {
	info, err := old.Info()
	if err != nil {
		return err
	}
	if ours, err := vfs.HasName(m.opts.FS, info, path); err != nil || !ours {
		return err
	}
	if err := m.opts.FS.Remove(backup); err != nil {
		return err
	}
	m.report.Backup = ""
	return m.opts.FS.SyncDir(filepath.Dir(backup))
}

// like returns the file whose access the one at output gets. Making a store opens it for
// writing several times, which the access of a read-only file forbids: then only the owner
// may read and write the new one.
func (m *migration) like(path, output string, old vfs.File) vfs.File {
	const ownerWrites = 0o200
	info, err := old.Info()
	if err != nil || info.Mode&ownerWrites != 0 {
		return old
	}
	file, err := m.opts.FS.OpenFile(path, os.O_RDWR, 0)
	if err == nil {
		_ = file.Close() // nothing was written to it
		return old
	}
	m.opts.Logger.Warn("access not kept", "path", output, "error", errors.New("the old file may not be written"))
	return private{old}
}

// private is a file whose access is not copied.
type private struct{ vfs.File }

// write makes the new store at path, with the access of the file like.
func (m *migration) write(path string, like vfs.File, contents *legacy.Contents) error {
	keys, pairs := uint64(contents.Keys()), uint64(contents.Pairs())
	made := newFileLike(path, like, m.opts, func(dst vfs.File) error { return format(dst, &m.opts) })
	err := made.makeStore(m.ctx, func(dst *Store) error {
		if err := dst.insertAll(m.ctx, contents.All()); err != nil {
			return err
		}
		return dst.holds(m.ctx, keys, pairs)
	})
	if err == nil {
		m.report.Keys, m.report.Pairs = keys, pairs
	}
	return err
}

// asLegacy returns ErrLegacy in place of err if the file, which is no store or cannot be
// read as one, has an older layout.
func asLegacy(path string, opts *Options, err error) error {
	foreign := errors.Is(err, ErrNotCIDStore) || errors.Is(err, ErrTruncated)
	if errors.Is(err, ErrHalfMade) || !foreign && !errors.Is(err, ErrFormatVersion) && !errors.Is(err, ErrCorrupt) {
		return err
	}
	file, info, openErr := openFile(path, &Options{ReadOnly: true, FS: opts.FS})
	if openErr != nil {
		return err
	}
	defer file.Close()
	layout, detectErr := legacy.Detect(file, info.Size)
	switch {
	case detectErr == nil && (foreign || layout == legacy.Format1):
		return fmt.Errorf("%w, layout %q; take it over by Migrate (cidstore migrate FILE)", ErrLegacy, layout)
	case foreign && errors.Is(detectErr, legacy.ErrVersion):
		return fmt.Errorf("%w: %w", ErrFormatVersion, detectErr)
	}
	return err
}

// copyFile copies all of src to dst, and syncs dst.
func copyFile(ctx context.Context, dst, src vfs.File) error {
	info, err := src.Info()
	if err != nil {
		return err
	}
	err = inSteps(ctx, info.Size, noProgress, func(p []byte, at int64) error {
		if n, err := src.ReadAt(p, at); n < len(p) {
			return fmt.Errorf("read %d bytes at %#x: %w", len(p), at, err)
		}
		return dst.WriteAt(p, at)
	})
	if err != nil {
		return err
	}
	return dst.Sync()
}
