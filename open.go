package cidstore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cidstore/cidstore/bucket"
	"github.com/cidstore/cidstore/directory"
	"github.com/cidstore/cidstore/gc"
	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/keys"
	"github.com/cidstore/cidstore/valueset"
	"github.com/cidstore/cidstore/vfs"
	"github.com/cidstore/cidstore/wal"
)

// Open opens the store at path, and makes it if there is no file or an empty one;
// it keeps the access to an empty one as Restore does. nil options mean the
// defaults. It never migrates and never overwrites a file that is not a store. See
// the errors for what can be wrong with a file.
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
				err = ErrReplaced // by a whole one
			}
		}
		if !errors.Is(err, ErrReplaced) {
			break
		}
		s, err = open(path, opts) // another file came while this one was waited for
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

// repairable says of a store that another program edited that Repair can help.
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
		if err := s.verifyAll(); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

// absolute is the path that stays the same file's when the process moves to
// another directory.
func absolute(path string, opts *Options) string {
	if opts.FS == vfs.OS() {
		if full, err := filepath.Abs(path); err == nil {
			return full
		}
	}
	return path
}

// openFile opens the file at path and judges where it lies.
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
		err = fmt.Errorf("file system %q may not keep locks and syncs; copy the file to a local disk, or set AllowUnsafeFS", info.FileSystem)
	}
	if err != nil {
		return nil, info, errors.Join(err, file.Close())
	}
	return file, info, nil
}

// readOnlyFileSystem makes ErrReadOnly of what the system says of a file system
// that is mounted so.
func readOnlyFileSystem(err error) error {
	if vfs.IsReadOnlyFS(err) {
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	}
	return err
}

// A locked file is tried again within LockTimeout after lockPoll at first, and the
// less often the longer it has been locked: many waiters leave the processor to the
// one that they wait for.
const (
	lockPoll    = 10 * time.Millisecond
	maxLockPoll = 100 * time.Millisecond
)

// lockPause pauses before a lock that has been waited for so long is tried again, and
// returns for how long it did.
func lockPause(waited, patience time.Duration) time.Duration {
	pause := max(time.Millisecond, min(lockPoll+waited/8, maxLockPoll, patience-waited))
	time.Sleep(pause)
	return pause
}

// trimPatience is how long a reader waits at least: a writer keeps others out for
// the moment in which it makes the file shorter.
const trimPatience = time.Second

// openTree takes the locks, waiting for them as long as the options say, and
// opens the HDF5 tree. The shared lock comes first: from then on nobody begins to
// write the file in place.
func openTree(file vfs.File, opts *Options) (*hdf5io.File, hdf5io.OpenReport, error) {
	patience := opts.LockTimeout
	if opts.ReadOnly {
		patience = max(patience, trimPatience)
	}
	options := hdf5io.Options{ReadOnly: opts.ReadOnly, NoMmap: opts.NoMmap, GrowStep: opts.growBytes, Quarantine: opts.quarantine}
	if opts.Salvage { // of a file that is too short a read is an error, a mapping a fault
		options.NoMmap, options.Salvage, options.Older = true, true, opts.olderRoot
	}
	for waited := time.Duration(0); ; {
		var tree *hdf5io.File
		var report hdf5io.OpenReport
		err := file.TryLock(vfs.Lock{Whole: true})
		if err == nil {
			err = isWhole(file)
		}
		if err == nil {
			err = isOfFormat(file)
		}
		if err == nil {
			tree, report, err = hdf5io.Open(file, options)
		}
		if !errors.Is(err, vfs.ErrLockHeld) {
			return tree, report, err
		}
		if waited >= patience {
			return nil, report, lockedBy(file, opts)
		}
		waited += lockPause(waited, patience)
	}
}

// isWhole is an error that matches ErrHalfMade if file is half made.
func isWhole(file vfs.File) error {
	h, err := readMarks(file)
	if err != nil {
		return err
	}
	return h.err()
}

// isOfFormat is an error if the newest slot of file says that it has another format:
// of such a file not even the superblock is mended. Whatever else is wrong is seen later.
func isOfFormat(file vfs.File) error {
	if p, err := hdf5io.ReadPayload(file); err == nil && len(p) >= 4 {
		return checkFormat(p)
	}
	return nil
}

// lockedBy is ErrLocked with the process that keeps others out of the file, as far
// as the system says who that is. The newest slot says who wrote last, and since
// when: it is asked about first, and is not believed by itself.
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

// openView makes the handles that read a root.
func (s *Store) openView(root *hdf5io.View, r record, d *directory.Directory) (*view, error) {
	var known *bucket.Table
	if st := s.state.Load(); st != nil {
		known = st.view.buckets
	}
	v := &view{View: root, record: r, directory: d, hasher: keys.NewHasher(r.hashSeed)}
	verify := bucket.FirstTouch
	switch {
	case s.opts.Verify == VerifyAlways:
		verify = bucket.Always
	case s.opts.Salvage:
		verify = bucket.Salvage
	}
	var err error
	v.buckets, err = bucket.NewTable(root, bucket.NewGeometry(int(r.splitThreshold)), root.UUID(), v.hasher, verify, known)
	if err != nil {
		return nil, err
	}
	v.buckets.CountIn(&s.metrics.damage)
	if got := v.buckets.RunsSum(); got != r.runsCRC {
		return nil, corrupt.Errorf("attribute runs of /runs", -1, "crc32c %#08x, the store record wants %#08x", got, r.runsCRC)
	}
	v.sets, err = valueset.NewTable(root, root.UUID(), verify == bucket.Always)
	if err != nil && s.opts.Salvage {
		s.readPast(err)
		err = nil
	}
	s.noteGrowth(root.EndOfFile(), int64(r.walSize))
	s.seen.add(root.Commit(), s.opts.Clock())
	return v, err
}

// readPast notes damage that Options.Salvage goes on past.
func (s *Store) readPast(damage error) {
	if damage == nil || s.recovery.Salvaged != nil && strings.Contains(s.recovery.Salvaged.Error(), damage.Error()) {
		return // each once, though roots are read again and again
	}
	s.recovery.Salvaged = errors.Join(s.recovery.Salvaged, damage)
}

// loadView reads the record and the directory of the file's newest root.
func (s *Store) loadView(root *hdf5io.View) (*view, error) {
	r, err := parseRecord(root.Payload(), root.EndOfFile())
	if err == nil {
		err = r.agrees(root)
	}
	if err != nil && r.splitThreshold > 0 && s.opts.Salvage {
		s.readPast(err)
		err = nil
	}
	if err != nil {
		return nil, err
	}
	var v *view
	err = guard(func() error {
		d, err := directory.Load(root, int(r.globalDepth), r.numGroups, s.opts.directory)
		if err != nil {
			return err
		}
		v, err = s.openView(root, r, d)
		return err
	})
	return v, err
}

// createIfAbsent makes a store at path unless there is a file with something in
// it; halfMade: or one that was begun in place. Others who make it are waited for as
// for a lock.
func createIfAbsent(path string, opts *Options, halfMade bool) error {
	for waited := time.Duration(0); ; {
		info, err := opts.FS.Stat(path)
		if err == nil && (info.Size > 0 && !halfMade || !info.Mode.IsRegular()) {
			return nil // a device or a pipe is none to be replaced: openFile says what it is
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		switch {
		case err != nil:
			err = create(path, nil, opts)
		case halfMade:
			err = createInPlace(path, opts)
		default:
			err = createInEmpty(path, opts)
		}
		if !errors.Is(err, ErrLocked) || waited >= opts.LockTimeout {
			return err
		}
		waited += lockPause(waited, opts.LockTimeout)
	}
}

// newFileMode is for files that take nobody's place; the umask narrows it.
const newFileMode fs.FileMode = 0o666

// createInEmpty makes a store in the place of the empty file at path.
func createInEmpty(path string, opts *Options) error {
	empty, err := opts.FS.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return readOnlyFileSystem(err)
	}
	if err = create(path, empty, opts); mustBeInPlace(err) {
		err = createInPlace(path, opts)
	}
	return err
}

// create makes a store at path, unless another opener was faster. It has the access
// of the file like, which it closes, if that is not nil.
func create(path string, like vfs.File, opts *Options) error {
	file, err := newTemporary(path, like, opts)
	if like != nil {
		_ = like.Close() // nothing was written to it; some systems replace no open file
	}
	if err != nil {
		return err
	}
	info, err := file.Info()
	if err == nil {
		err = format(file, opts)
	}
	err = errors.Join(err, file.Close())
	if there, statErr := opts.FS.Stat(path); err == nil && statErr == nil && there.Size > 0 {
		return removeLeftover(path, opts)
	}
	if err == nil {
		err = giveName(path, info, opts)
	}
	if err != nil && !errors.Is(err, ErrLocked) {
		err = errors.Join(err, removeLeftover(path, opts))
	}
	return err
}

// format writes an empty store into an empty file: the objects in one commit, the
// first group, which has no row, in the next.
func format(file vfs.File, opts *Options) (err error) {
	var uuid [16]byte
	r, err := newRecord(opts, &uuid)
	if err != nil {
		return err
	}
	tree, err := hdf5io.Create(file, hdf5io.Options{UUID: uuid, GrowStep: opts.growBytes, Quarantine: opts.quarantine}, r.append(nil), func(tx *hdf5io.Tx) error {
		return createObjects(tx, &r, uuid)
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tree.Close()) }()
	tx, err := tree.Begin()
	if err != nil {
		return err
	}
	if err = firstGroup(tx, &r); err == nil {
		_, err = tx.Commit(r.append(nil))
	}
	if err != nil {
		tx.Abort()
		return err
	}
	return tree.Settle()
}

// newRecord makes the record of an empty store.
func newRecord(opts *Options, uuid *[16]byte) (record, error) {
	r := record{
		numGroups: 1, numBuckets: 1, splitThreshold: uint32(opts.SplitThreshold), walBlock: uint32(opts.blockBytes),
		walSize: uint64(opts.startBytes),
		created: uint64(opts.Clock().UnixNano()), clean: true,
	}
	var epoch wal.Epoch
	random := make([]byte, 16+32+16+32+4)
	if _, err := io.ReadFull(opts.Rand, random); err != nil {
		return r, fmt.Errorf("random bytes: %w", err)
	}
	copy(uuid[:], random)
	copy(r.salt[:], random[16:])
	r.hashSeed = [2]uint64{le.Uint64(random[48:]), le.Uint64(random[56:])}
	copy(epoch.Anchor[:], random[64:])
	epoch.Number = 1 + uint64(le.Uint32(random[96:]))
	epoch.First, epoch.End = wal.FirstSequence(opts.blockBytes), wal.NoEnd
	r.epochs = []wal.Epoch{epoch}
	r.lastApplied, r.watermark = epoch.First-1, epoch.First-1
	r.walFirst = epoch.First
	r.keyCheck = wal.KeyCheck(logKey(opts, &r), *uuid)
	return r, nil
}

// logKey is the key of the log's HMAC chain.
func logKey(opts *Options, r *record) []byte {
	if opts.WALKey == nil {
		return r.salt[:]
	}
	return wal.DeriveKey(opts.WALKey, r.salt[:])
}

// createObjects makes the groups and datasets of an empty store.
func createObjects(tx *hdf5io.Tx, r *record, uuid [16]byte) error {
	if err := createConfig(tx, r, uuid); err != nil {
		return err
	}
	if err := bucket.CreateDatasets(tx, bucket.NewGeometry(int(r.splitThreshold))); err != nil {
		return err
	}
	if err := valueset.CreateDatasets(tx); err != nil {
		return err
	}
	if err := gc.CreateDatasets(tx); err != nil {
		return err
	}
	address, err := createRing(tx, int64(r.walSize), int(r.walBlock))
	r.walAddress = uint64(address)
	return err
}

// firstGroup makes group 0 and the directory that leads to it.
func firstGroup(tx *hdf5io.Tx, r *record) error {
	commit := tx.NextCommit()
	table, err := bucket.NewTable(tx.Base(), bucket.NewGeometry(int(r.splitThreshold)), tx.Base().UUID(), keys.NewHasher(r.hashSeed), bucket.FirstTouch, nil)
	if err != nil {
		return err
	}
	w, err := bucket.NewWriter(tx, table, int64(r.created))
	if err != nil {
		return err
	}
	if err := w.Rewrite(0, bucket.State{Created: commit}, nil); err != nil {
		return err
	}
	if err := w.Flush(r.numGroups); err != nil {
		return err
	}
	if err := directory.New(commit).Edit().Store(tx); err != nil {
		return err
	}
	return writeConfig(tx, r, commit)
}
