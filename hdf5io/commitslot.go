package hdf5io

import (
	"encoding/binary"

	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/internal/crc32c"
)

// A commit slot: one of the two blocks that say which root is the file's.
// Little-endian.
// FORMAT.md: commit slot
//
//	offset  size  field             meaning
//	     0     8  magic             "CIDSLOT1"
//	     8     4  version           1
//	    12     4  payload_size
//	    16    16  file_uuid
//	    32     8  generation        +1 at each slot written
//	    40     8  commit            number of the root, from 1
//	    48     8  end_of_file
//	    56    48  superblock        that goes with this root
//	   104     8  free_map_address
//	   112     8  free_map_size
//	   120     4  free_map_crc32c
//	   124     4  tree_crc32c       of all object and index headers
//	   128    32  chunk_map_0
//	   160    32  chunk_map_1
//	   192  3884  payload           the caller's; the rest zero
//	  4076    16  reserved          0
//	  4092     4  crc32c            of bytes 0..4091
const (
	offSlotMagic, offSlotVersion, offSlotPayloadSize, offSlotUUID = 0, 8, 12, 16
	offSlotGeneration, offSlotCommit, offSlotEndOfFile            = 32, 40, 48
	offSlotSuperblock, offSlotFreeMap, offSlotFreeMapSize         = 56, 104, 112
	offSlotFreeMapCRC, offSlotTreeCRC, offSlotMap0, offSlotMap1   = 120, 124, 128, 160
	offSlotPayload, offSlotReserved, offSlotCRC                   = 192, 4076, 4092
	slotSize                                                      = 4096
)

const (
	slotMagic   = "CIDSLOT1"
	plainMagic  = "H5TXSLT1" // of a file with Options.Plain
	slotVersion = 1

	// MaxPayload is the largest payload of a commit, in bytes.
	MaxPayload = offSlotReserved - offSlotPayload
)

var _ [slotSize]byte = [offSlotCRC + 4]byte{}
var _ [offSlotPayload - offSlotMap0]byte = [len(commitSlot{}.maps) * mapRootSize]byte{}

const (
	firstSlot = 4096 // address; the second slot follows

	// FirstExtent is the address of the first extent, after the slots.
	FirstExtent = firstSlot + 2*slotSize

	// ExtentUnit is in bytes: each extent begins at a multiple of it and is padded to
	// one.
	ExtentUnit = 64
)

func slotOffset(i int) int64 { return firstSlot + int64(i)*slotSize }

// Commit is the number of a commit, and of its root. The first is 1.
type Commit uint64

type commitSlot struct {
	plain                       bool
	uuid                        [16]byte
	generation, endOfFile       uint64
	commit                      Commit
	superblock                  [superblockSize]byte
	freeMapAddress, freeMapSize uint64
	freeMapCRC, treeCRC         uint32
	maps                        [2]mapRoot
	payload                     []byte
}

// append encodes the slot. len(s.payload) is at most MaxPayload.
func (s *commitSlot) append(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, slotSize)...)
	p := dst[start:]
	copy(p[offSlotMagic:], slotMagic)
	if s.plain {
		copy(p[offSlotMagic:], plainMagic)
	}
	binary.LittleEndian.PutUint32(p[offSlotVersion:], slotVersion)
	binary.LittleEndian.PutUint32(p[offSlotPayloadSize:], uint32(len(s.payload)))
	copy(p[offSlotUUID:], s.uuid[:])
	binary.LittleEndian.PutUint64(p[offSlotGeneration:], s.generation)
	binary.LittleEndian.PutUint64(p[offSlotCommit:], uint64(s.commit))
	binary.LittleEndian.PutUint64(p[offSlotEndOfFile:], s.endOfFile)
	copy(p[offSlotSuperblock:], s.superblock[:])
	binary.LittleEndian.PutUint64(p[offSlotFreeMap:], s.freeMapAddress)
	binary.LittleEndian.PutUint64(p[offSlotFreeMapSize:], s.freeMapSize)
	binary.LittleEndian.PutUint32(p[offSlotFreeMapCRC:], s.freeMapCRC)
	binary.LittleEndian.PutUint32(p[offSlotTreeCRC:], s.treeCRC)
	for i := range s.maps {
		s.maps[i].put(p[offSlotMap0+i*mapRootSize:])
	}
	copy(p[offSlotPayload:offSlotCRC], s.payload)
	binary.LittleEndian.PutUint32(p[offSlotCRC:], crc32c.Sum(p[:offSlotCRC]))
	return dst
}

// parseSlot reads the slot at the start of p, which lies at offset in the
// file. An undamaged slot of another version is ErrVersion.
func parseSlot(p []byte, offset int64) (*commitSlot, error) {
	bad := func(at int64, format string, args ...any) (*commitSlot, error) {
		return nil, corrupt.Errorf("commit slot", offset+at, format, args...)
	}
	if len(p) < slotSize {
		return bad(0, "%d bytes, want %d", len(p), slotSize)
	}
	p = p[:slotSize]
	magic := string(p[:len(slotMagic)])
	if magic != slotMagic && magic != plainMagic {
		return bad(offSlotMagic, "magic % x, want %q or %q", magic, slotMagic, plainMagic)
	}
	if got, want := binary.LittleEndian.Uint32(p[offSlotCRC:]), crc32c.Sum(p[:offSlotCRC]); got != want {
		return bad(offSlotCRC, "crc32c %#08x, want %#08x", got, want)
	}
	if version := binary.LittleEndian.Uint32(p[offSlotVersion:]); version != slotVersion {
		return nil, &versionError{version}
	}
	payload := binary.LittleEndian.Uint32(p[offSlotPayloadSize:])
	if payload > MaxPayload {
		return bad(offSlotPayloadSize, "payload of %d bytes, limit %d", payload, MaxPayload)
	}
	for i, b := range p[offSlotPayload+payload : offSlotCRC] {
		if b != 0 {
			return bad(int64(offSlotPayload+int(payload)+i), "%#02x after the payload, want 0", b)
		}
	}
	s := &commitSlot{
		plain:          magic == plainMagic,
		uuid:           [16]byte(p[offSlotUUID:]),
		generation:     binary.LittleEndian.Uint64(p[offSlotGeneration:]),
		commit:         Commit(binary.LittleEndian.Uint64(p[offSlotCommit:])),
		endOfFile:      binary.LittleEndian.Uint64(p[offSlotEndOfFile:]),
		superblock:     [superblockSize]byte(p[offSlotSuperblock:]),
		freeMapAddress: binary.LittleEndian.Uint64(p[offSlotFreeMap:]),
		freeMapSize:    binary.LittleEndian.Uint64(p[offSlotFreeMapSize:]),
		freeMapCRC:     binary.LittleEndian.Uint32(p[offSlotFreeMapCRC:]),
		treeCRC:        binary.LittleEndian.Uint32(p[offSlotTreeCRC:]),
		payload:        append([]byte(nil), p[offSlotPayload:offSlotPayload+payload]...),
	}
	for i := range s.maps {
		s.maps[i] = parseMapRoot(p[offSlotMap0+i*mapRootSize:])
	}
	return s, s.check(offset)
}

// maxCommit bounds commit numbers: a commit's pin is a byte of the file's lock
// space (lock.go). Generations have the same bound.
const maxCommit = pinBase - 1

func (s *commitSlot) check(offset int64) error {
	bad := func(at int64, format string, args ...any) error {
		return corrupt.Errorf("commit slot", offset+at, format, args...)
	}
	super, err := parseSuperblock(s.superblock[:])
	switch {
	case s.generation == 0 || s.generation > maxCommit:
		return bad(offSlotGeneration, "generation %d, want 1 to %d", s.generation, uint64(maxCommit))
	case s.commit == 0 || s.commit > Commit(s.generation):
		return bad(offSlotCommit, "commit %d, want 1 to the generation %d", s.commit, s.generation)
	case s.endOfFile < FirstExtent || s.endOfFile > maxAddress || s.endOfFile%ExtentUnit != 0:
		return bad(offSlotEndOfFile, "end of file %#x, want a multiple of %d from %d", s.endOfFile, ExtentUnit, FirstExtent)
	case err != nil:
		return bad(offSlotSuperblock, "%w", err)
	case super.endOfFile != s.endOfFile:
		return bad(offSlotSuperblock, "superblock ends the file at %#x, the slot at %#x", super.endOfFile, s.endOfFile)
	case !insideData(s.freeMapAddress, s.freeMapSize, s.endOfFile) || s.freeMapSize == 0:
		return bad(offSlotFreeMap, "free map of %d bytes at %#x", s.freeMapSize, s.freeMapAddress)
	}
	for i := range s.maps {
		if err := s.maps[i].check(s.commit, s.endOfFile); err != nil {
			return bad(int64(offSlotMap0+i*mapRootSize), "chunk map %d: %w", i, err)
		}
	}
	return nil
}

// root is the address of the root group.
func (s *commitSlot) root() uint64 {
	return binary.LittleEndian.Uint64(s.superblock[36:])
}

// insideData reports whether an extent of size bytes may lie at address: it must be
// aligned, after the slots and before end.
func insideData(address, size, end uint64) bool {
	return address%ExtentUnit == 0 && address >= FirstExtent && address <= end && size <= end-address
}

// padded rounds size, which is at most maxAddress, up to a multiple of ExtentUnit.
func padded(size uint64) uint64 { return (size + ExtentUnit - 1) &^ (ExtentUnit - 1) }
