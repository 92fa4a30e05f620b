package legacy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/cidstore/cidstore/hdf5"
	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/internal/crc32c"
	"github.com/cidstore/cidstore/keys"
	"github.com/cidstore/cidstore/wal"
)

// A store of format 1 was written by this module. It is read without HDF5,
// beginning with its commit slots: everything that they lead to has a checksum, and
// the seed of that says which bucket, set or node it is and which commit wrote it.
// All integers are little-endian, addresses are offsets in the file, and crc32c is
// CRC32C.
//
//	commit slot, at 4096 and at 8192: the sound one with the higher generation counts
//	     0     8  magic         CIDSLOT1
//	     8     4  version       1
//	    16    16  file_uuid     begins every seed
//	    32     8  generation
//	    48     8  end_of_file
//	   128    32  chunk_map_0   of /buckets/state
//	   160    32  chunk_map_1   of /values/state
//	   192   704  store record
//	  4092     4  crc32c        of bytes 0 to 4091
//
//	store record
//	     0     4  version       1
//	     8     8  last_applied  what the log has up to there is in the buckets
//	    32     8  watermark     highest sequence that was known to be durable
//	    40     8  num_keys      in the buckets
//	    96     8  wal_address, wal_size, wal_first, wal_old_address, wal_old_size
//	   148     4  split_threshold
//	   156     4  wal_block
//	   160    16  key_check     says whether a log key is the right one
//	   176    32  hmac_salt
//	   240     4  epoch_count
//	   248   448  epochs        8 of 56 bytes, see package wal; the log is in format1log.go
//
//	chunk map: address 8, count 8, commit 8, depth 4, crc32c 4 of the top node; nodes
//	of 4096 bytes: a leaf has 170 records, address 8, commit 8, size 4, crc32c 4, of
//	pages; an inner node 128, address 8, commit 8, crc32c 4, of nodes
//
//	page: 64 states, and a checksum of HDF5; seed: its number and commit
//
// An operation may be in the buckets and also in the log, if a checkpoint was not
// finished. To apply it again changes nothing.
const (
	slotSize      = 4096
	recordVersion = 1

	offSlotUUID, offSlotGeneration, offSlotEnd           = 16, 32, 48
	offSlotMap0, offSlotMap1, offSlotRecord, offSlotCRC  = 128, 160, 192, 4092
	offLastApplied, offWatermark, offNumKeys, offRing    = 8, 32, 40, 96
	offRingFirst, offOldRing, offThreshold, offBlock     = 112, 120, 148, 156
	offKeyCheck, offSalt, offEpochCount, offEpochs       = 160, 176, 240, 248
	mapNodeSize, mapRecordSize, mapLeafSize, mapInner    = 4096, 24, 170, 128
	statesOfPage, pageSumSize, maxMapDepth, maxEpochs    = 64, 4, 5, 8
	setStateSize, bucketStateSize, entrySize, chunkLimit = 72, 104, 48, 16
)

// slotHead are the first bytes of a slot.
var slotHead = []byte("CIDSLOT1\x01\x00\x00\x00")

var le = binary.LittleEndian

// findSlot looks for commit slots, and reports whether the file is of format 1. If
// so, it keeps the newest slot.
func (r *reader) findSlot() (bool, error) {
	var newest []byte
	damaged := int64(0)
	for at := int64(slotSize); at <= 2*slotSize && r.size >= at+slotSize; at += slotSize {
		p := make([]byte, slotSize)
		if n, err := r.in.ReadAt(p, at); n < slotSize {
			return false, fmt.Errorf("read the commit slot at %d: %w", at, err)
		}
		switch {
		case !bytes.HasPrefix(p, slotHead) || crc32c.Sum(p[:offSlotCRC]) != le.Uint32(p[offSlotCRC:]):
			damaged = at
		case newest == nil || le.Uint64(p[offSlotGeneration:]) > le.Uint64(newest[offSlotGeneration:]):
			newest = p
		}
	}
	if newest == nil || le.Uint32(newest[offSlotRecord:]) != recordVersion {
		return false, nil
	}
	if damaged != 0 {
		r.report(fmt.Sprintf("commit slot at %d", damaged), "its checksum is wrong; if it was the newer one, the last commit is not read")
	}
	r.slot, r.layout = newest, Format1
	return true, nil
}

type format1 struct {
	*reader
	record []byte // the store record
	uuid   uint32 // CRC32C of file_uuid
	chunk  uint64 // bytes of a chunk of entries
	sets   map[uint64]*set
}

func (r *reader) formatOneStore() error {
	f := format1{reader: r, record: r.slot[offSlotRecord:], sets: make(map[uint64]*set)}
	f.credit = uint64(r.size) + leastCredit
	f.uuid = crc32c.Sum(r.slot[offSlotUUID:][:16])
	f.chunk = entrySize * min(chunkLimit, (uint64(le.Uint32(f.record[offThreshold:]))+3)/4*4)
	key, err := f.logKey()
	if err != nil {
		return err
	}
	if end := le.Uint64(r.slot[offSlotEnd:]); uint64(r.size) < end {
		f.lose("file", "%d bytes, the newest commit had %d", r.size, end)
	}
	if err := f.pages("/values/state", r.slot[offSlotMap1:], setStateSize, f.noteSet); err != nil {
		return err
	}
	if err := f.pages("/buckets/state", r.slot[offSlotMap0:], bucketStateSize, f.bucket); err != nil {
		return err
	}
	if err := f.unusedSets(); err != nil {
		return err
	}
	if got, want := uint64(len(r.entries)), le.Uint64(f.record[offNumKeys:]); got != want && !r.lost {
		f.lose("/buckets", "%d keys, the store record says %d", got, want)
	}
	return f.replay(key)
}

// extent reads bytes of the file. In a good file nothing is read twice.
func (f *format1) extent(address, size uint64) ([]byte, error) {
	if address > uint64(f.size) || size > uint64(f.size)-address {
		return nil, fmt.Errorf("%w: %d bytes at %#x of a file of %d", hdf5.ErrCorrupt, size, address, f.size)
	}
	if size > f.credit {
		return nil, fmt.Errorf("%w: more bytes are named than a file of %d bytes has", hdf5.ErrLimit, f.size)
	}
	f.credit -= size
	p := make([]byte, size)
	if n, err := f.in.ReadAt(p, int64(address)); n < len(p) {
		return nil, fmt.Errorf("read %d bytes at %#x: %w", size, address, err)
	}
	return p, f.ctx.Err()
}

// seed is the CRC32C of file_uuid and numbers.
func (f *format1) seed(numbers ...uint64) uint32 {
	sum := f.uuid
	for _, n := range numbers {
		sum = crc32c.ExtendUint64(sum, n)
	}
	return sum
}

// verified reads an extent and verifies its checksum. It returns nil if the extent
// is damaged, which it reports.
func (f *format1) verified(place string, address, size uint64, want, seed uint32) ([]byte, error) {
	p, err := f.extent(address, size)
	if err != nil {
		return nil, f.damaged(place, err)
	}
	if got := crc32c.Extend(seed, p); got != want {
		f.lose(place, "crc32c %#08x, want %#08x; what it has is left out", got, want)
		return nil, nil
	}
	return p, nil
}

// visitState takes one state of a page, which is sound if its checksum is right.
type visitState func(number uint64, state []byte, sound bool) error

// pages calls visit for the states that a chunk map leads to. It uses nodes and
// pages with wrong checksums too, because what they name has checksums.
func (f *format1) pages(path string, root []byte, stateSize uint64, visit visitState) error {
	address, depth := le.Uint64(root), le.Uint32(root[24:])
	if address == 0 {
		return nil
	}
	if depth > maxMapDepth {
		f.lose("chunk map of "+path, "depth %d, want up to %d", depth, maxMapDepth)
		return nil
	}
	s := statePages{f, path, stateSize, visit}
	return s.node(address, le.Uint32(root[28:]), depth, 0)
}

// statePages are the pages of states that one chunk map leads to.
type statePages struct {
	*format1
	path      string
	stateSize uint64
	visit     visitState
}

// node reads the pages below a node of the map. first is the number of the first.
func (s *statePages) node(address uint64, want, depth uint32, first uint64) error {
	place := fmt.Sprintf("chunk map of %s, node at %#x", s.path, address)
	p, err := s.extent(address, mapNodeSize)
	if err != nil {
		return s.damaged(place, err)
	}
	if got := crc32c.Sum(p); got != want {
		s.lose(place, "crc32c %#08x, want %#08x; what it names is verified", got, want)
	}
	records, pages := mapLeafSize, uint64(1) // of each record
	if depth > 0 {
		records, pages = mapInner, mapLeafSize
		for range depth - 1 {
			pages *= mapInner
		}
	}
	for i := range records {
		record, number := p[i*mapRecordSize:], first+uint64(i)*pages
		switch address := le.Uint64(record); {
		case address == 0:
		case depth > 0:
			err = s.node(address, le.Uint32(record[16:]), depth-1, number)
		default:
			err = s.page(number, record)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// page reads the page of a record and visits its states.
func (s *statePages) page(number uint64, record []byte) error {
	address, commit, want := le.Uint64(record), le.Uint64(record[8:]), le.Uint32(record[20:])
	place := fmt.Sprintf("page %d of %s at %#x", number, s.path, address)
	p, err := s.extent(address, statesOfPage*s.stateSize+pageSumSize)
	if err != nil {
		return s.damaged(place, err)
	}
	got := crc32c.Extend(s.seed(number, commit), p)
	if got != want {
		s.lose(place, "crc32c %#08x, want %#08x; what it names is verified, but changes may be missing", got, want)
	}
	for i := range uint64(statesOfPage) {
		if err := s.visit(number*statesOfPage+i, p[i*s.stateSize:][:s.stateSize], got == want); err != nil {
			return err
		}
	}
	return nil
}

// logKey returns the key of the log: made from the secret that was given, or the
// one in the file.
func (f *format1) logKey() ([]byte, error) {
	salt, uuid := f.record[offSalt:][:32], [16]byte(f.slot[offSlotUUID:])
	for _, secret := range [][]byte{f.options.WALKey, nil} {
		key := wal.DeriveKey(secret, salt)
		if check := wal.KeyCheck(key, uuid); bytes.Equal(check[:], f.record[offKeyCheck:][:16]) {
			return key, nil
		}
	}
	return nil, ErrKey
}

// ringAt returns the ring whose address and size are at an offset of the store record;
// one without records if it is not in the file.
func (f *format1) ringAt(offset int) logRing {
	address, size := le.Uint64(f.record[offset:]), le.Uint64(f.record[offset+8:])
	if address == 0 || address > uint64(f.size) || size > uint64(f.size)-address {
		return logRing{}
	}
	return logRing{io.NewSectionReader(f.in, int64(address), int64(size)), size / logRecordSize}
}

// replay finds the changes that the log has beyond the buckets.
func (f *format1) replay(key []byte) error {
	const place = "log"
	sequence := func(offset int) wal.Seq { return wal.Seq(le.Uint64(f.record[offset:])) }
	l := format1Log{
		uuid: f.slot[offSlotUUID:][:16], key: key, take: f.takeOperation, block: uint64(le.Uint32(f.record[offBlock:])),
		ring: f.ringAt(offRing), old: f.ringAt(offOldRing), first: sequence(offRingFirst),
		lastApplied: sequence(offLastApplied), watermark: sequence(offWatermark),
	}
	if l.ring.records == 0 || l.old.records == 0 && le.Uint64(f.record[offOldRing:]) != 0 {
		f.lose(place, "it does not lie in the file; it is not replayed")
		return nil
	}
	count := le.Uint32(f.record[offEpochCount:])
	if count > maxEpochs {
		f.lose(place, "%d epochs, want up to %d; it is not replayed", count, maxEpochs)
		return nil
	}
	var epochs []wal.Epoch
	for i := range int(count) {
		e, err := wal.ParseEpoch(f.record[offEpochs+i*wal.EpochSize:][:wal.EpochSize])
		if err != nil {
			f.lose(place, "epoch %d: %w; it is not replayed", i, err)
			return nil
		}
		epochs = append(epochs, e)
	}
	err := l.replay(epochs)
	if errors.Is(err, corrupt.Err) || errors.Is(err, wal.ErrTampered) {
		f.lose(place, "%w; it is not replayed from there on", err)
		return nil
	}
	if l.tornAt != 0 {
		f.report(place, "the batch from record %d on is not whole, as a write that was interrupted leaves it: it is not replayed", l.tornAt)
	}
	return err
}

func (f *format1) takeOperation(o operation) error {
	if o.code != 0 { // else it changes no pair
		f.change([]operation{o})
	}
	return f.ctx.Err()
}

func identifierAt(p []byte) keys.E { return keys.E{High: le.Uint64(p), Low: le.Uint64(p[8:])} }
