package cidstore

import (
	"encoding/binary"
	"fmt"

	"github.com/cidstore/cidstore/bucket"
	"github.com/cidstore/cidstore/directory"
	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/valueset"
	"github.com/cidstore/cidstore/wal"
)

// The store record: the payload of a commit slot.
//
// FORMAT.md: store record
//
//	offset  size  field               meaning
//	     0     4  version             2, the file's format version
//	     4     4  flags               bit 0: closed cleanly
//	     8     8  last_applied        every operation up to this sequence is in the tree
//	    16     8  slice_through       a checkpoint is under way: operations up to here …
//	    24     8  slice_hash          … whose key's hash is below this are in the tree too
//	    32     8  watermark           highest sequence known to be durable
//	    40     8  num_keys
//	    48     8  num_values
//	    56     8  num_buckets         of all groups
//	    64     8  num_sets            rows of /values/state
//	    72     8  search_set          set id at which the search for an unused one goes on
//	    80     8  next_node           first node number never used
//	    88     8  num_tombstones
//	    96     8  wal_address
//	   104     8  wal_size            bytes
//	   112     8  wal_first           first sequence that lies in /wal
//	   120     8  wal_old_address     0: there is no /wal_old
//	   128     8  wal_old_size
//	   136     8  num_deletions       rows of /deletion_log
//	   144     4  global_depth        bits
//	   148     4  split_threshold     most live keys of a bucket, 2 to 1,024
//	   152     4  promotion_threshold
//	   156     4  wal_block           bytes
//	   160    16  key_check
//	   176    32  hmac_salt
//	   208    16  hash_seed           two u64
//	   224     8  writer_pid          for people
//	   232     8  writer_since        ns since 1970, for people
//	   240     4  epoch_count
//	   244     4  reserved
//	   248   448  epochs              8 epoch records, oldest first
//	   696     8  created             ns since 1970
//	   704     8  num_groups          elements of /buckets/state
//	   712     8  fold_hash           where the next folding of groups begins
//	   720     4  runs_crc32c         of the attribute runs of /runs, seeded with file_uuid; 0: there are none
//	   724     4  unused_groups       of num_groups: merged into others; no pointer names them
//	   728     8  unused_sets         of num_sets
const (
	recVersion, recFlags                              = 0, 4
	recLastApplied, recSliceThrough, recSliceHash     = 8, 16, 24
	recWatermark, recNumKeys, recNumValues            = 32, 40, 48
	recNumBuckets, recNumSets, recSearchSet           = 56, 64, 72
	recNextNode, recNumTombstones                     = 80, 88
	recWALAddress, recWALSize, recWALFirst            = 96, 104, 112
	recOldAddress, recOldSize, recNumDeletions        = 120, 128, 136
	recGlobalDepth, recSplitThreshold, recPromotion   = 144, 148, 152
	recWALBlock, recKeyCheck, recSalt, recHashSeed    = 156, 160, 176, 208
	recWriterPID, recWriterSince                      = 224, 232
	recEpochCount, recReserved, recEpochs, recCreated = 240, 244, 248, 696
	recNumGroups, recFoldHash                         = 704, 712
	recRunsCRC, recUnusedGroups, recUnusedSets        = 720, 724, 728

	recordSize = 736

	promotionThreshold = valueset.Inline
	maxEpochs          = 8
	flagClean          = 1
)

var _ [recordSize]byte = [recUnusedSets + 8]byte{}
var _ [recNumGroups]byte = [recCreated + 8]byte{}
var _ [recCreated]byte = [recEpochs + maxEpochs*wal.EpochSize]byte{}

var le = binary.LittleEndian

// record is the store record: what the store must know of a root before it trusts
// anything else there.
type record struct {
	clean                                bool
	lastApplied, sliceThrough, watermark wal.Seq
	sliceHash                            uint64
	numKeys, numValues, numBuckets       uint64
	sets                                 valueset.Counters
	numTombstones, numDeletions          uint64
	walAddress, walSize                  uint64
	walFirst                             wal.Seq
	oldAddress, oldSize                  uint64
	globalDepth, splitThreshold          uint32
	walBlock                             uint32
	keyCheck                             [16]byte
	salt                                 [32]byte
	hashSeed                             [2]uint64
	writerPID, writerSince, created      uint64
	numGroups, foldHash                  uint64
	runsCRC, unusedGroups                uint32
	epochs                               []wal.Epoch
}

// groups returns the number of groups in use.
func (r *record) groups() uint64 { return r.numGroups - uint64(r.unusedGroups) }

// append appends the encoding of r to dst.
func (r *record) append(dst []byte) []byte {
	p := make([]byte, recordSize)
	le.PutUint32(p[recVersion:], FormatVersion)
	if r.clean {
		le.PutUint32(p[recFlags:], flagClean)
	}
	for _, f := range r.words() {
		le.PutUint64(p[f.offset:], *f.word)
	}
	le.PutUint32(p[recGlobalDepth:], r.globalDepth)
	le.PutUint32(p[recRunsCRC:], r.runsCRC)
	le.PutUint32(p[recUnusedGroups:], r.unusedGroups)
	le.PutUint32(p[recSplitThreshold:], r.splitThreshold)
	le.PutUint32(p[recPromotion:], promotionThreshold)
	le.PutUint32(p[recWALBlock:], r.walBlock)
	copy(p[recKeyCheck:], r.keyCheck[:])
	copy(p[recSalt:], r.salt[:])
	le.PutUint32(p[recEpochCount:], uint32(len(r.epochs)))
	at := p[recEpochs:recEpochs]
	for _, e := range r.epochs {
		at = wal.AppendEpoch(at, e)
	}
	return append(dst, p...)
}

// recordWord is a field of eight bytes.
type recordWord struct {
	offset int
	word   *uint64
}

// words lists the fields of eight bytes, for the encoder and the decoder.
func (r *record) words() []recordWord {
	return []recordWord{
		{recLastApplied, (*uint64)(&r.lastApplied)}, {recSliceThrough, (*uint64)(&r.sliceThrough)}, {recSliceHash, &r.sliceHash},
		{recWatermark, (*uint64)(&r.watermark)}, {recNumKeys, &r.numKeys}, {recNumValues, &r.numValues},
		{recNumBuckets, &r.numBuckets}, {recNumSets, &r.sets.Sets}, {recSearchSet, &r.sets.Search},
		{recNextNode, &r.sets.Nodes}, {recNumTombstones, &r.numTombstones}, {recNumDeletions, &r.numDeletions},
		{recWALAddress, &r.walAddress}, {recWALSize, &r.walSize}, {recWALFirst, (*uint64)(&r.walFirst)},
		{recOldAddress, &r.oldAddress}, {recOldSize, &r.oldSize},
		{recHashSeed, &r.hashSeed[0]}, {recHashSeed + 8, &r.hashSeed[1]},
		{recWriterPID, &r.writerPID}, {recWriterSince, &r.writerSince}, {recCreated, &r.created},
		{recNumGroups, &r.numGroups}, {recFoldHash, &r.foldHash}, {recUnusedSets, &r.sets.Unused},
	}
}

// checkFormat returns an error unless p begins a store record of the present format.
func checkFormat(p []byte) error {
	switch v := le.Uint32(p[recVersion:]); {
	case v > FormatVersion:
		return fmt.Errorf("it has format %d, and this release reads up to %d: %w", v, FormatVersion, ErrFormatVersion)
	case v < FormatVersion:
		return fmt.Errorf("it has format %d, want %d: %w", v, FormatVersion, ErrFormatVersion)
	}
	return nil
}

// parseRecord decodes the payload of a slot and checks the range of each field; size is
// the length of the file that it describes.
func parseRecord(p []byte, size int64) (record, error) {
	var r record
	bad := func(offset int, format string, args ...any) (record, error) {
		return r, corrupt.Errorf("store record", int64(offset), format, args...)
	}
	if len(p) < 4 {
		return bad(0, "%d bytes, want %d", len(p), recordSize)
	}
	if err := checkFormat(p); err != nil {
		return r, err
	}
	if len(p) != recordSize {
		return bad(0, "%d bytes, want %d", len(p), recordSize)
	}
	for _, f := range r.words() {
		*f.word = le.Uint64(p[f.offset:])
	}
	r.clean = le.Uint32(p[recFlags:])&flagClean != 0
	r.globalDepth = le.Uint32(p[recGlobalDepth:])
	r.runsCRC, r.unusedGroups = le.Uint32(p[recRunsCRC:]), le.Uint32(p[recUnusedGroups:])
	r.splitThreshold = le.Uint32(p[recSplitThreshold:])
	r.walBlock = le.Uint32(p[recWALBlock:])
	copy(r.keyCheck[:], p[recKeyCheck:])
	copy(r.salt[:], p[recSalt:])

	inFile := func(address, length uint64) bool {
		return address >= hdf5io.FirstExtent && address%hdf5io.ExtentUnit == 0 && address <= uint64(size) && length <= uint64(size)-address
	}
	block := uint64(r.walBlock)
	count := le.Uint32(p[recEpochCount:])
	switch {
	case le.Uint32(p[recFlags:])&^flagClean != 0:
		return bad(recFlags, "flags %#x, want 0 or 1", le.Uint32(p[recFlags:]))
	case le.Uint32(p[recReserved:]) != 0:
		return bad(recReserved, "reserved bytes are not zero")
	case r.globalDepth > directory.MaxDepth:
		return bad(recGlobalDepth, "global depth %d, want 0 to %d", r.globalDepth, directory.MaxDepth)
	case r.splitThreshold < bucket.MinThreshold || r.splitThreshold > bucket.MaxThreshold:
		return bad(recSplitThreshold, "split threshold %d, want %d to %d", r.splitThreshold, bucket.MinThreshold, bucket.MaxThreshold)
	case le.Uint32(p[recPromotion:]) != promotionThreshold:
		return bad(recPromotion, "promotion threshold %d, want %d", le.Uint32(p[recPromotion:]), promotionThreshold)
	case block < 512 || block > 1<<20 || block&(block-1) != 0:
		return bad(recWALBlock, "log block of %d bytes, want a power of two from 512 to 1 MiB", block)
	case r.walSize == 0 || r.walSize%block != 0 || !inFile(r.walAddress, r.walSize):
		return bad(recWALAddress, "log at %#x of %d bytes, want whole blocks at a multiple of %d from %d in a file of %d",
			r.walAddress, r.walSize, hdf5io.ExtentUnit, hdf5io.FirstExtent, size)
	case r.oldSize%block != 0 || (r.oldAddress == 0) != (r.oldSize == 0) || r.oldSize != 0 && !inFile(r.oldAddress, r.oldSize):
		return bad(recOldAddress, "old log at %#x of %d bytes, want zeros, or whole blocks at a multiple of %d from %d in a file of %d",
			r.oldAddress, r.oldSize, hdf5io.ExtentUnit, hdf5io.FirstExtent, size)
	case r.numGroups == 0 || r.numGroups >= 1<<32:
		return bad(recNumGroups, "%d groups, want 1 to 2^32-1", r.numGroups)
	case uint64(r.unusedGroups) >= r.numGroups:
		return bad(recUnusedGroups, "%d of %d groups are unused, want fewer", r.unusedGroups, r.numGroups)
	case r.numBuckets < r.groups() || r.numBuckets/64 > r.groups():
		return bad(recNumBuckets, "%d buckets in %d groups, want 1 to 64 in each", r.numBuckets, r.groups())
	case r.sets.Unused > r.sets.Sets:
		return bad(recUnusedSets, "%d of %d sets are unused", r.sets.Unused, r.sets.Sets)
	case r.sliceThrough != 0 && r.sliceThrough < r.lastApplied:
		return bad(recSliceThrough, "slice through %d lies before last applied %d", r.sliceThrough, r.lastApplied)
	case r.sliceThrough == 0 && r.sliceHash != 0:
		return bad(recSliceHash, "slice hash %#x, want 0 as no slice is under way", r.sliceHash)
	case count == 0 || count > maxEpochs:
		return bad(recEpochCount, "%d epochs, want 1 to %d", count, maxEpochs)
	}
	var err error
	r.epochs, err = parseEpochs(p, int(count))
	return r, err
}

// parseEpochs decodes the first n epochs of a record.
func parseEpochs(p []byte, n int) (epochs []wal.Epoch, err error) {
	for i := range n {
		at := recEpochs + i*wal.EpochSize
		e, err := wal.ParseEpoch(p[at : at+wal.EpochSize])
		if err != nil {
			return nil, corrupt.Errorf("store record", int64(at), "epoch %d: %w", i, err)
		}
		epochs = append(epochs, e)
	}
	return epochs, nil
}

// agrees compares the counts and places in r with the datasets that they describe. So a
// record cannot demand more memory, time or space than the file has use for.
func (r *record) agrees(root *hdf5io.View) error {
	for _, f := range []struct {
		offset     int
		name, path string
		rows       uint64
		mapped     bool // the dataset has a chunk map, whose length is checked against the file's size
	}{
		{recNumGroups, "num_groups", "/buckets/state", r.numGroups, true},
		{recNumSets, "num_sets", "/values/state", r.sets.Sets, true},
		{recNextNode, "next_node", "/values/nodes", r.sets.Nodes, false},
		{recNumDeletions, "num_deletions", "/deletion_log", r.numDeletions, false},
	} {
		bad := func(format string, args ...any) error {
			return corrupt.Errorf("store record", int64(f.offset), "%s %d: %w", f.name, f.rows, fmt.Errorf(format, args...))
		}
		d, err := root.Dataset(f.path)
		if err != nil {
			return bad("%w", err)
		}
		dims, chunk := d.Dims(), d.ChunkDims()
		if len(dims) == 0 || dims[0] != f.rows {
			return bad("%s has dimensions %d", f.path, dims)
		}
		if f.mapped && (len(chunk) == 0 || f.rows > uint64(chunk[0])*d.Pages()) {
			return bad("%s has %d chunks of %d", f.path, d.Pages(), chunk)
		}
	}
	for _, f := range []struct {
		offset        int
		name, path    string
		address, size uint64
	}{
		{recWALAddress, "wal_address", ringPath, r.walAddress, r.walSize},
		{recOldAddress, "wal_old_address", oldRingPath, r.oldAddress, r.oldSize},
	} {
		var address, size int64 // zeros where there is no such dataset
		if d, err := root.Dataset(f.path); err == nil {
			address, size = d.Extent()
			if !d.Type().Equal(wal.BlockType(int(r.walBlock))) {
				return corrupt.Errorf(f.path, d.Offset(), "its elements are no blocks of %d bytes of log records of %d: a version before the first release wrote it, or a foreign program", r.walBlock, wal.RecordSize)
			}
		}
		if uint64(address) != f.address || uint64(size) != f.size {
			return corrupt.Errorf("store record", int64(f.offset), "%s %#x and size %d, but %s has %#x and %d", f.name, f.address, f.size, f.path, address, size)
		}
	}
	return nil
}
