package cidstore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/cidstore/cidstore/bucket"
	"github.com/cidstore/cidstore/directory"
	"github.com/cidstore/cidstore/gc"
	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/keys"
	"github.com/cidstore/cidstore/valueset"
	"github.com/cidstore/cidstore/vfs"
	"github.com/cidstore/cidstore/wal"
)

// createIfAbsent makes a store at path, unless there is a file with something in it. If
// halfMade is set, the file holds a store that was begun in place, and createIfAbsent
// completes it. If others are making the store, it waits for them as it would for a lock.
func createIfAbsent(path string, opts *Options, halfMade bool) error {
	for waited := time.Duration(0); ; {
		info, err := opts.FS.Stat(path)
		if err == nil && (info.Size > 0 && !halfMade || !info.Mode.IsRegular()) {
			return nil // a device or a pipe is not replaced: openFile says what it is
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

// newFileMode is the mode of files that replace no other; the umask narrows it.
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

// create makes a store at path, unless another opener is faster. If the file like is not
// nil, the store gets its access, and create closes like.
func create(path string, like vfs.File, opts *Options) error {
	file, err := newTemporary(path, like, opts)
	if like != nil {
		_ = like.Close() // nothing was written to it; some systems cannot replace an open file
	}
	if err != nil {
		return err
	}
	info, err := filled(file, func(file vfs.File) error { return format(file, opts) })
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

// format writes an empty store into an empty file. One commit makes the objects, and
// the next one makes the first group, which has no row.
func format(file vfs.File, opts *Options) (err error) {
	var uuid [16]byte
	r, err := newRecord(opts, &uuid)
	if err != nil {
		return err
	}
	options := opts.tree()
	options.UUID = uuid
	tree, err := hdf5io.Create(file, options, r.append(nil), func(tx *hdf5io.Tx) error {
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

// newRecord makes the record of an empty store, and its uuid.
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

// logKey returns the key of the log's HMAC chain.
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
	w, err := bucket.NewWriter(tx, table, int64(r.created), nil)
	if err != nil {
		return err
	}
	if err := w.Rewrite(0, bucket.State{Created: commit}, nil); err != nil {
		return err
	}
	if err := w.Flush(r.numGroups); err != nil {
		return err
	}
	if err := directory.New(commit, directory.Limits{}).Edit().Store(tx); err != nil {
		return err
	}
	return writeConfig(tx, r, commit)
}
