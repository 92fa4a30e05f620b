package cidstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/internal/invariants"
	"github.com/cidstore/cidstore/vfs"
	"github.com/cidstore/cidstore/wal"
)

// recordFields are the fields of eight bytes of a store record that says refused
// of those whose value follows from the rest of the file too: Open takes no other.
var recordFields = []struct {
	name    string
	offset  int
	refused bool
}{
	{"last_applied", recLastApplied, false}, {"slice_through", recSliceThrough, true}, {"slice_hash", recSliceHash, true},
	{"watermark", recWatermark, false}, {"num_keys", recNumKeys, false}, {"num_values", recNumValues, false},
	{"num_buckets", recNumBuckets, true}, {"num_sets", recNumSets, true}, {"search_set", recSearchSet, false}, {"unused_sets", recUnusedSets, false},
	{"next_node", recNextNode, true}, {"num_tombstones", recNumTombstones, false}, {"num_deletions", recNumDeletions, true},
	{"wal_address", recWALAddress, true}, {"wal_size", recWALSize, true}, {"wal_first", recWALFirst, false},
	{"wal_old_address", recOldAddress, true}, {"wal_old_size", recOldSize, true},
	{"hash_seed 0", recHashSeed, false}, {"hash_seed 1", recHashSeed + 8, false},
	{"writer_pid", recWriterPID, false}, {"writer_since", recWriterSince, false}, {"created", recCreated, false},
	{"epoch", recEpochs, false}, {"first", recEpochs + 8, false}, {"end", recEpochs + 16, false},
}

// forgeries are what a field may be forged to.
var forgeries = []uint64{0, 1, 1 << 31, 1<<32 - 1, 1 << 40, 1 << 62, 1 << 63, 1<<64 - 1}

// forgedImages are stores that hold every structure: one that was closed, and
// one that was killed with /wal_old and batches in the log.
func forgedImages(t *testing.T) map[string]*crashfs.FS {
	closed := newScenario(t, 1, growingRing)
	closed.fillStructures()
	mustDo(t, closed.store.Close())
	killed := newScenario(t, 2, growingRing)
	killed.fillStructures()
	if killed.store.state.Load().view.record.oldAddress == 0 {
		t.Fatal("there is no /wal_old")
	}
	killed.kill()
	return map[string]*crashfs.FS{"closed": closed.fs, "killed": killed.fs}
}

// fillStructures makes buckets, sets of every form, unused set ids, tombstones and
// deletions, until the log has just grown.
func (c *scenario) fillStructures() {
	c.open()
	for i := range uint64(50) {
		c.apply(ins(i, i), ins(i+100, i))
	}
	for i := range uint64(1100) {
		c.apply(ins(1, i), ins(2+i%3, i%40))
	}
	c.apply(del(2), delv(1, 7), delv(3, 5))
	mustDo(c.t, c.store.Checkpoint(context.Background()))
	c.store.checkpointing.Lock()
	_, err := c.store.growRing(2 * int64(c.store.state.Load().view.record.walSize))
	c.store.checkpointing.Unlock()
	mustDo(c.t, err)
	c.apply(ins(200, 1), delv(1, 8))
	r := c.store.state.Load().view.record
	if r.sets.Sets < 3 || r.sets.Unused == 0 || r.sets.Nodes == 0 || r.numTombstones == 0 || r.numDeletions == 0 || r.numBuckets < 8 {
		c.t.Fatalf("the store lacks a structure: %+v", r)
	}
}

// forgeRecord changes eight bytes of the record in both slots, makes the checksums right, and
// reports whether the bytes were different before.
func forgeRecord(t *testing.T, disk *crashfs.FS, offset int, value uint64) (changed bool) {
	t.Helper()
	f := mustGet(disk.OpenFile(crashPath, vfs.ReadWrite, 0))(t)
	defer f.Close()
	for _, slot := range []int64{4096, 8192} {
		p := make([]byte, 4096)
		mustDo(t, errOf(f.ReadAt(p, slot)))
		changed = changed || le.Uint64(p[192+offset:]) != value
		le.PutUint64(p[192+offset:], value)
		le.PutUint32(p[4092:], crc32.Checksum(p[:4092], crc32.MakeTable(crc32.Castagnoli)))
		mustDo(t, f.WriteAt(p, slot))
	}
	return changed
}

// sentinels are all errors that callers can match.
var sentinels = []error{
	ErrClosed, ErrReadOnly, ErrLocked, ErrNotCIDStore, ErrFormatVersion, ErrCorrupt, ErrTampered, ErrWALKey,
	ErrPoisoned, ErrIO, ErrNoSpace, ErrTooLarge, ErrSnapshotExpired, ErrReplaced,
}

// typed fails the test if err matches no sentinel.
func typed(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil && !slices.ContainsFunc(sentinels, func(s error) bool { return errors.Is(err, s) }) {
		t.Errorf("%s: %v matches no sentinel", what, err)
	}
}

// TestForgedRecord: a store record whose checksum is right and one of whose
// fields is not makes reading and writing fail, with an error that has a name, or
// does no harm; nothing loops, panics or allocates without bound.
func TestForgedRecord(t *testing.T) {
	for name, image := range forgedImages(t) {
		for i, field := range recordFields {
			t.Run(name+"/"+field.name, func(t *testing.T) {
				for j, value := range forgeries {
					if (i+j)%invariants.Sparse != 0 {
						continue
					}
					disk := image.Copy()
					if !forgeRecord(t, disk, field.offset, value) {
						continue
					}
					stop := watchdog(fmt.Sprintf("%s %s = %d", name, field.name, value), hangLimit)
					var before, after runtime.MemStats
					runtime.ReadMemStats(&before)
					readForged(t, disk.Copy(), value, field.refused)
					writeForged(t, disk, value)
					runtime.ReadMemStats(&after)
					if used := after.TotalAlloc - before.TotalAlloc; used > 96<<20 {
						t.Errorf("%d: %d bytes allocated", value, used)
					}
					stop()
				}
			})
		}
	}
}

// readForged opens the store for reading and reads all of it.
func readForged(t *testing.T, disk *crashfs.FS, value uint64, refused bool) {
	t.Helper()
	s, err := Open(crashPath, readOnly(smallOptions(disk)))
	typed(t, fmt.Sprintf("%d: open for reading", value), err)
	if err == nil && refused {
		t.Errorf("%d: opened for reading", value)
	}
	if err != nil {
		return
	}
	_, err = printOf(s)
	typed(t, fmt.Sprintf("%d: read", value), err)
	_, err = s.Check(context.Background())
	typed(t, fmt.Sprintf("%d: check", value), err)
	typed(t, fmt.Sprintf("%d: close", value), s.Close())
}

// writeForged opens the store for writing and uses every counter of the record.
func writeForged(t *testing.T, disk *crashfs.FS, value uint64) {
	t.Helper()
	o := smallOptions(disk)
	growingRing(o)
	s, err := Open(crashPath, o)
	typed(t, fmt.Sprintf("%d: open for writing", value), err)
	if err != nil {
		return
	}
	ops := []wal.Op{delv(1, 9), del(3)}
	for i := range uint64(12) { // new buckets, a new set, and nodes of a tree
		ops = append(ops, ins(1000+i, i), ins(1000, i), ins(1, 2000+i))
	}
	typed(t, fmt.Sprintf("%d: write", value), s.Apply(&Batch{ops: ops}))
	typed(t, fmt.Sprintf("%d: checkpoint", value), s.Checkpoint(context.Background()))
	_, err = s.Check(context.Background())
	typed(t, fmt.Sprintf("%d: check", value), err)
	typed(t, fmt.Sprintf("%d: close", value), s.Close())
}

// TestDirectoryThatLeadsAstray: a directory whose checksums are right and whose
// pointers are not, two buckets in each other's place, is found by a checkpoint,
// which comes to its end, and by reads.
func TestDirectoryThatLeadsAstray(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.h5")
	o := &Options{SplitThreshold: 8, GCInterval: -1, WALBytes: 64 << 10}
	s := OpenStore(t, path, o)
	for i := range 100 {
		mustDo(t, s.Insert(E{Low: uint64(i)}, E{}))
	}
	mustDo(t, s.Close())
	swapPointers(t, path)
	Unchecked(t, path, "its directory leads astray")

	defer watchdog("the checkpoint", hangLimit)()
	s = OpenStore(t, path, o)
	var b Batch
	for i := range 100 {
		b.Insert(E{Low: uint64(i)}, E{Low: 1})
	}
	wantErr(t, errors.Join(s.Apply(&b), s.Checkpoint(context.Background())), ErrCorrupt, "checkpoint")
	lost := 0
	for i := range 100 {
		if _, err := s.Lookup(E{Low: uint64(i)}); errors.Is(err, ErrCorrupt) {
			lost++
		} else if err != nil {
			t.Errorf("key %d: %v", i, err)
		}
	}
	if lost == 0 || lost == 100 {
		t.Errorf("%d keys of 100 are lost", lost)
	}
	wantErr(t, errOf(s.Check(context.Background())), ErrCorrupt, "Check")
	wantErr(t, s.Close(), ErrCorrupt, "Close")
}

// swapPointers commits a root in which the first and the last bucket have changed
// places.
func swapPointers(t *testing.T, path string) {
	t.Helper()
	vfile := mustGet(vfs.OS().OpenFile(path, os.O_RDWR, 0))(t)
	file, _, err := hdf5io.Open(vfile, hdf5io.Options{})
	mustDo(t, err)
	tx := mustGet(file.Begin())(t)
	a, found, err := tx.Base().Attribute(configPath, "directory")
	if err != nil || !found {
		t.Fatalf("no directory: %v", err)
	}
	const pointer = 12
	last := a.Data[len(a.Data)-pointer:]
	first := append([]byte(nil), a.Data[:pointer]...)
	for at := 0; binary.LittleEndian.Uint32(a.Data[at:]) == binary.LittleEndian.Uint32(first); at += pointer {
		copy(a.Data[at:], last)
	}
	last = append([]byte(nil), last...)
	for at := len(a.Data) - pointer; binary.LittleEndian.Uint32(a.Data[at:]) == binary.LittleEndian.Uint32(last); at -= pointer {
		copy(a.Data[at:], first)
	}
	mustDo(t, tx.SetAttribute(configPath, a))
	mustDo(t, errOf(tx.Commit(tx.Base().Payload())), file.Settle(), file.Close(), vfile.Close())
}
