package cidstore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/vfs"
)

// Open opens the store at path, and makes it if there is no file or an empty one. It
// keeps the access to an empty file as Restore does. nil options mean the defaults. Open
// never migrates a file, and never overwrites one that is not a store. See the errors of
// this package for what can be wrong with a file.
func Open(path string, options *Options) (*Store, error) {
	opts, err := options.withDefaults()
	if err != nil {
		return nil, err
	}
	target := vfs.Target(opts.FS, path)
	if !opts.ReadOnly {
		if err := createIfAbsent(target, &opts, false); err != nil {
			return nil, fmt.Errorf("open %s: %w", path, err)
		}
	}
	s, err := open(path, opts)
	for tries := 1; tries < 100; tries++ {
		if errors.Is(err, errHalfCreated) && !opts.ReadOnly {
			if err = createIfAbsent(target, &opts, true); err == nil {
				err = ErrReplaced // by a complete one
			}
		}
		var again *logAgain
		if errors.As(err, &again) {
			opts.found = again.found
		} else if !errors.Is(err, ErrReplaced) {
			break
		}
		s, err = open(path, opts) // ErrReplaced: another file took its place while this one was locked
	}
	if opts.Salvage && (errors.Is(err, ErrCorrupt) || errors.Is(err, ErrIO)) {
		older := opts
		older.olderRoot = true
		if again, olderErr := open(path, older); olderErr == nil {
			again.recovery.FellBack = true
			again.recovery.Salvaged = errors.Join(err, again.recovery.Salvaged)
			s, err = again, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, repairable(asLegacy(path, &opts, err)))
	}
	if !opts.ReadOnly {
		if err := removeLeftover(target, &opts); err != nil && !errors.Is(err, ErrLocked) {
			s.event("error", "operation", "remove leftover", "error", err)
		}
	}
	return s, nil
}

// repairable adds to an error about a store that another program edited that Repair can
// help.
func repairable(err error) error {
	if errors.Is(err, ErrForeignEdit) {
		err = fmt.Errorf("%w; Repair (cidstore repair STORE NEW --mode rollback) makes a good copy", err)
	}
	return err
}

func open(path string, opts Options) (*Store, error) {
	file, info, err := openFile(path, &opts)
	if err != nil {
		return nil, err
	}
	tree, report, err := openTree(file, &opts)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	s := &Store{opts: opts, path: absolute(path, &opts), info: info, vfile: file, file: tree}
	s.admission.released.L = &s.admission.mu
	s.admission.most = noLimit
	s.metrics.opened = opts.Clock()
	s.recovery.fromTree(report)
	err = s.notReplaced()
	if err == nil {
		err = s.load()
	}
	for _, damage := range report.Damage {
		s.readPast(damage)
	}
	if err != nil {
		s.freeAll(s.state.Load())
		return nil, errors.Join(s.recovery.Salvaged, err, tree.Close(), file.Close())
	}
	s.noteOpen()
	s.start()
	if !opts.ReadOnly && s.checkpointDue() {
		if err := s.afterWrite(); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	if opts.Verify == VerifyOpen {
		if _, err := s.Check(context.Background()); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

// absolute returns the path that still leads to the same file after the process has
// moved to another directory.
func absolute(path string, opts *Options) string {
	if opts.FS == vfs.OS() {
		if full, err := filepath.Abs(path); err == nil {
			return full
		}
	}
	return path
}

// openFile opens the file at path, and returns an error if its file system does not suit
// the options.
func openFile(path string, opts *Options) (vfs.File, vfs.Info, error) {
	if info, err := opts.FS.Stat(path); err != nil {
		return nil, info, err
	} else if info.Mode.IsDir() {
		return nil, info, fmt.Errorf("%w: it is a directory", ErrNotCIDStore)
	} else if !info.Mode.IsRegular() { // opening a pipe would wait for its other end
		return nil, info, fmt.Errorf("%w: it is not a regular file", ErrNotCIDStore)
	}
	flag := os.O_RDWR
	if opts.ReadOnly {
		flag = os.O_RDONLY
	}
	file, err := opts.FS.OpenFile(path, flag, 0)
	if err != nil {
		return nil, vfs.Info{}, readOnlyFileSystem(err)
	}
	info, err := file.Info()
	switch {
	case err != nil:
	case info.ReadOnly && !opts.ReadOnly:
		err = fmt.Errorf("file system is mounted read-only: %w", ErrReadOnly)
	case info.Network && !opts.ReadOnly && !opts.AllowUnsafeFS:
		err = fmt.Errorf("file system %q may not respect locks and syncs; copy the file to a local disk, or set AllowUnsafeFS", info.FileSystem)
	}
	if err != nil {
		return nil, info, errors.Join(err, file.Close())
	}
	return file, info, nil
}

// readOnlyFileSystem wraps in ErrReadOnly the error that the system gives for a file
// system that is mounted read-only.
func readOnlyFileSystem(err error) error {
	if vfs.IsReadOnlyFS(err) {
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	}
	return err
}

// Open tries a locked file again after lockPoll, and then less and less often until
// LockTimeout is over, so that many waiters leave the processor to the one that they wait
// for.
const (
	lockPoll    = 10 * time.Millisecond
	maxLockPoll = 100 * time.Millisecond
)

// lockPause pauses before a lock is tried again, after so long a wait, and returns for how
// long it paused.
func lockPause(waited, patience time.Duration) time.Duration {
	pause := max(time.Millisecond, min(lockPoll+waited/8, maxLockPoll, patience-waited))
	time.Sleep(pause)
	return pause
}

// trimPatience is how long a reader waits for a lock at least: a writer keeps others out for
// a moment while it makes the file shorter.
const trimPatience = time.Second

// openTree takes the locks, waits for them as long as the options say, and opens the HDF5
// tree. It takes the shared lock first, which keeps others from writing the file in place.
func openTree(file vfs.File, opts *Options) (*hdf5io.File, hdf5io.OpenReport, error) {
	patience := opts.LockTimeout
	if opts.ReadOnly {
		patience = max(patience, trimPatience)
	}
	options := opts.tree()
	options.ReadOnly, options.NoMmap = opts.ReadOnly, opts.NoMmap
	if opts.Salvage { // past the end of a short file, a read is an error, and a mapping a fault
		options.NoMmap, options.Salvage, options.Older = true, true, opts.olderRoot
	}
	for waited := time.Duration(0); ; {
		tree, report, err := lockAndOpen(file, options)
		if !errors.Is(err, ErrLocked) {
			return tree, report, err
		}
		if waited >= patience {
			return nil, report, lockedBy(file, opts)
		}
		waited += lockPause(waited, patience)
	}
}

// lockAndOpen is one attempt of openTree.
func lockAndOpen(file vfs.File, options hdf5io.Options) (tree *hdf5io.File, report hdf5io.OpenReport, err error) {
	if err := file.TryLock(vfs.Lock{Whole: true}); err != nil {
		return nil, report, err
	}
	if err := notHalfMade(file); err != nil {
		return nil, report, err
	}
	if err := isOfFormat(file); err != nil {
		return nil, report, err
	}
	return hdf5io.Open(file, options)
}

// notHalfMade returns an error that matches ErrHalfMade if file is half made.
func notHalfMade(file vfs.File) error {
	h, err := readMarks(file)
	if err != nil {
		return err
	}
	return h.err()
}

// isOfFormat returns an error if the newest slot says that the file has another format: in
// such a file not even the superblock is mended. hdf5io.Open reports whatever else is wrong.
func isOfFormat(file vfs.File) error {
	if p, err := hdf5io.ReadPayload(file); err == nil && len(p) >= 4 {
		return checkFormat(p)
	}
	return nil
}

// lockedBy returns ErrLocked with the process that keeps others out of the file, if the
// system says which one that is. The newest slot says who wrote last, and since when.
// lockedBy asks about that process first, but never relies on the slot alone.
func lockedBy(file vfs.File, opts *Options) error {
	info, err := file.Info()
	if err != nil {
		return fmt.Errorf("%w by another program", ErrLocked)
	}
	writer, since := 0, ""
	if p, err := hdf5io.ReadPayload(file); err == nil {
		if r, err := parseRecord(p, info.Size); err == nil && r.writerPID <= math.MaxInt32 {
			writer = int(r.writerPID)
			since = " since " + time.Unix(0, int64(r.writerSince)).UTC().Format(time.RFC3339)
		}
	}
	pid := hdf5io.Holder(info, opts.ReadOnly, writer)
	if pid == 0 && opts.FS != vfs.OS() && writer == vfs.ProcessID() {
		pid = writer // a file system inside this process, which /proc does not know
	}
	switch {
	case pid == 0:
		return fmt.Errorf("%w by another program", ErrLocked)
	case pid == writer && !opts.ReadOnly:
		return fmt.Errorf("%w by process %d%s", ErrLocked, pid, since)
	default:
		return fmt.Errorf("%w by process %d", ErrLocked, pid)
	}
}
