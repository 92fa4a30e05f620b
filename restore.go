package cidstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/legacy"
	"github.com/cidstore/cidstore/vfs"
)

// Restore makes the store at path from a backup. It copies the backup to a temporary file
// next to path, replays its log, verifies it, and only then renames it. If the backup is
// bad, or somebody has a store at path open for writing, path stays as it was.
//
// The new file has the owner, the group, the permissions and, on Linux, the access
// control list of the file that it replaces, or else of the backup, as far as the caller
// may set them. Other extended attributes are not kept, and other names of the old file
// (hard links) still lead to the old file. A symbolic link at path stays, and the file
// that it leads to is replaced. Restore replaces a store, even a damaged one, or an empty
// file. If another file is at path, it returns fs.ErrExist. The backup itself is not
// replaced, whatever name it has: its increments would no longer fit.
//
// If a file is at path and none can be renamed to it, because path is a mount point or its
// directory takes no new file, Restore first verifies the backup and then writes it into
// that file. Nobody else may have the file or the backup open. The file keeps all its
// attributes and names. If Restore is interrupted then, the file is not a store
// (ErrHalfMade) until a restore to it has completed.
func Restore(ctx context.Context, backup, path string) error {
	return RestoreWith(ctx, backup, path, nil)
}

// RestoreWith is Restore with options: the log key, the file system, and the Logger, which
// gets the event "access not kept" if the caller may not set the access. Without the log
// key, only a backup whose log is empty can be restored.
func RestoreWith(ctx context.Context, backup, path string, options *Options) error {
	return RestoreSeries(ctx, []string{backup}, path, options, nil)
}

// RestoreFrom is RestoreWith of a full backup, as BackupTo writes it, which it reads from
// r to its end. It calls progress, if that is not nil, with the number of bytes that are
// copied and the number of all. It returns ErrTruncated if the end comes too early, and
// ErrCorrupt if bytes follow the backup. It is an error if the backup would have to be
// written into the file at path, because that takes reading it twice. ctx does not end a
// read that waits.
func RestoreFrom(ctx context.Context, r io.Reader, path string, options *Options, progress func(done, total int64)) error {
	opts, err := options.withDefaults()
	if err != nil {
		return err
	}
	opts.ReadOnly, opts.Salvage = false, false
	fill := func(dst vfs.File) error { return copyStream(ctx, r, dst, orNone(progress)) }
	inPlace := func(_ vfs.File, why error) error {
		return fmt.Errorf("%w; keep the backup in a file, and restore that", why)
	}
	if opts.FS == vfs.OS() && vfs.Reads(r, path) {
		return fmt.Errorf("restore to %s: %w", path, errOntoItself)
	}
	if err := restoreInto(ctx, path, opts, nil, fill, inPlace); err != nil {
		return fmt.Errorf("restore %w", err)
	}
	return nil
}

// errOntoItself says that the store would replace what it is made from.
var errOntoItself = errors.New("it is the backup itself; name another file for the store")

// restoreInto makes the store at path from what fill writes. It calls inPlace, with the
// reason, if path has a file that no other file can replace. The store gets the access of
// the file at path, or else of the file like, or the usual one if that is nil. An error
// begins with the path.
func restoreInto(ctx context.Context, path string, opts Options, like vfs.File, fill func(dst vfs.File) error, inPlace func(target vfs.File, why error) error) error {
	path = vfs.Target(opts.FS, path)
	target, err := lockTarget(path, &opts)
	if err != nil {
		return fmt.Errorf("to %s: %w", path, err)
	}
	if target != nil {
		defer target.Close()
		like = target
		if err := mayReplace(target); err != nil {
			return fmt.Errorf("to %s: %w", path, err)
		}
	}
	made := newFileLike(path, like, opts, fill)
	err = made.makeStore(ctx, nil)
	if mustBeInPlace(err) && target != nil {
		err = inPlace(target, err)
	}
	if err != nil {
		return fmt.Errorf("to %s: %w", path, err)
	}
	return nil
}

// copyStream writes all that r gives into dst and syncs it. If that does not begin as a
// backup does, it reads no more than the head.
func copyStream(ctx context.Context, r io.Reader, dst vfs.File, progress func(done, total int64)) error {
	buffer := make([]byte, pieceBytes)
	part := buffer[:hdf5io.HeadSize]
	for at, size := int64(0), int64(hdf5io.HeadSize); ; part = buffer {
		n, err := io.ReadFull(r, part)
		ended := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err := ctx.Err(); err != nil {
			return err
		}
		if err != nil && !ended {
			return fmt.Errorf("%w: the backup, after %d bytes: %w", ErrIO, at+int64(n), err)
		}
		if at > 0 && at+int64(n) > size {
			return corrupt.Errorf("stream", size, "bytes follow the backup, which ends there")
		}
		if err := dst.WriteAt(part[:n], at); err != nil {
			return err
		}
		if at == 0 && bytes.HasPrefix(part[:n], []byte(incrementMagic)) {
			return fmt.Errorf("%w: it is an increment, the full backup comes first", ErrBackupSeries)
		}
		if at == 0 && !ended {
			if _, _, size, err = hdf5io.Identity(dst); err != nil {
				return err
			}
		}
		at += int64(n)
		if ended && at < size {
			return fmt.Errorf("%w: the backup ends after %d bytes, want %d", ErrTruncated, at, size)
		}
		progress(min(at, size), size)
		if ended {
			return dst.Sync()
		}
	}
}

// RestoreSeries is RestoreWith of a full backup and its increments, in the order in which
// they were made (BackupOptions.Since). The store is as it was at the last of them. If
// they do not follow each other, or path is an increment, it returns ErrBackupSeries
// before it writes anything; if one is damaged, ErrCorrupt. progress is that of
// RestoreFrom.
func RestoreSeries(ctx context.Context, backups []string, path string, options *Options, progress func(done, total int64)) error {
	opts, err := options.withDefaults()
	if err != nil {
		return err
	}
	opts.ReadOnly, opts.Salvage = false, false
	src, err := openSeries(backups, &opts)
	if err != nil {
		return fmt.Errorf("restore %w", err)
	}
	defer src.close()
	progress = orNone(progress)
	fill := func(dst vfs.File) error { return src.copyTo(ctx, dst, progress) }
	inPlace := func(target vfs.File, _ error) error { return restoreInPlace(ctx, src, target, opts, progress) }
	if err := src.isNot(path, &opts); err != nil {
		return fmt.Errorf("restore %s to %s: %w", src.name(), path, err)
	}
	if err := restoreInto(ctx, path, opts, src.files[0], fill, inPlace); err != nil {
		return fmt.Errorf("restore %s %w", src.name(), err)
	}
	return nil
}

// mayReplace returns an error if target, which is to be replaced, is neither a store nor
// empty. A file that cannot be read, or is half made, or may be what is left of a store,
// counts as one.
func mayReplace(target vfs.File) error {
	head := make([]byte, hdf5io.HeadSize)
	n, err := target.ReadAt(head, 0)
	if n == 0 || err != nil && !errors.Is(err, io.EOF) {
		return nil
	}
	head = head[:n]
	if bytes.HasPrefix(head, []byte(incrementMagic)) {
		return fmt.Errorf("%w: an increment is there; name the store last", ErrBackupSeries)
	}
	if h, err := readMarks(target); err != nil || h.found() || hdf5io.MayBeOurs(head) {
		return nil
	}
	info, err := target.Info()
	if err != nil {
		return err
	}
	if _, err := legacy.Detect(target, info.Size); err == nil {
		return nil
	}
	return fmt.Errorf("it is not a store; only a store or an empty file is replaced: %w", fs.ErrExist)
}

// VerifyBackup reads a full backup and its increments, in order, and returns an error
// unless RestoreSeries makes a complete store of them. It checks a full backup alone as
// Check does. With increments, it compares the result with the checksum of the copy that
// was checked when the last of them was made. Options are those of RestoreSeries. It calls
// progress, if that is not nil, with the number of bytes that are verified and the number
// of all, which is approximate for a full backup alone.
func VerifyBackup(ctx context.Context, backups []string, options *Options, progress func(done, total int64)) error {
	opts, err := options.withDefaults()
	if err != nil {
		return err
	}
	opts.Salvage = false
	s, err := openSeries(backups, &opts)
	if err != nil {
		return fmt.Errorf("verify %w", err)
	}
	defer s.close()
	if err := s.judge(ctx, opts, orNone(progress)); err != nil {
		return fmt.Errorf("verify %s: %w", s.name(), err)
	}
	return nil
}

// judge verifies all of a backup, and changes nothing.
func (s *series) judge(ctx context.Context, opts Options, progress func(done, total int64)) error {
	if len(s.increments) > 0 {
		return s.verify(ctx, progress)
	}
	opts.ReadOnly, opts.GCInterval = true, -1
	return verifyStore(ctx, s.paths[0], opts, nil, progress)
}

// restoreInPlace copies the backup into target.
func restoreInPlace(ctx context.Context, src *series, target vfs.File, opts Options, progress func(done, total int64)) error {
	if err := lockPlace(target, &opts); err != nil {
		return err
	}
	if err := src.judge(ctx, opts, noProgress); err != nil {
		return err
	}
	// A write to the backup during the copy would spoil the copy.
	for _, file := range src.files {
		if err := file.TryLock(vfs.Lock{Whole: true, Exclusive: true}); err != nil {
			return fmt.Errorf("the backup is open elsewhere: %w", err)
		}
	}
	if err := checkRoom(target, src.size()); err != nil {
		return err
	}
	m := mark{restoration, absolute(src.paths[0], &opts)}
	return writeInPlace(target, m, func(p *inPlaceFile) error {
		err := p.Allocate(0, src.size())
		if err == nil {
			err = src.copyTo(ctx, p, progress)
		}
		return err
	})
}

// checkRoom finds out whether the disk has room for size bytes before a file with contents
// is overwritten. It leaves alone an empty file, or one that was only begun: such a file
// is marked first, because nobody could tell what a file of zeros is.
func checkRoom(file vfs.File, size int64) error {
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
	if err := opts.lockWriter(file); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}
