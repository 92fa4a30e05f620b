package wal

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/internal/crc32c"
	"github.com/cidstore/cidstore/internal/seedbug"
	"github.com/cidstore/cidstore/keys"
)

// A log record. An element of /wal is a block: as many records as fit into it, and the
// bytes that are left, zeros, which count to the last of them. Little-endian.
//
// FORMAT.md: log record
//
//	offset  size  field       meaning
//	     0     1  version_op  bits 0 to 5 opcode; bits 6 and 7: lap of the ring mod 4
//	     1     1  flags       0
//	     2     2  reserved    0
//	     4     4  checksum    CRC32C with this field zero, seeded with file_uuid, u64 epoch and u64 sequence
//	     8     8  key_high    TXN_COMMIT: MAC, bytes 0 to 7
//	    16     8  key_low     TXN_COMMIT: MAC, bytes 8 to 15
//	    24     8  value_high  TXN_COMMIT: MAC, bytes 16 to 23
//	    32     8  value_low   TXN_COMMIT: MAC, bytes 24 to 31
const (
	offVersionOp, offFlags, offReserved, offChecksum = 0, 1, 2, 4
	offKeyHigh, offKeyLow, offValueHigh, offValueLow = 8, 16, 24, 32
	offMAC                                           = offKeyHigh // of a TXN_COMMIT
	RecordSize                                       = 40         // bytes
)

// A TXN_TIME record, the last but one of a frame: what is said once for all of its
// records. Little-endian.
//
// FORMAT.md: time record
//
//	offset  size  field      meaning
//	     0     8  head       version_op, flags, reserved and checksum, as in any record
//	     8     8  nanos      hybrid time: ns since 1970, never going backwards
//	    16     4  seq        hybrid time: number within the same nanos, of the frame's first record
//	    20     4  relation   0
//	    24     8  watermark  highest sequence known to be durable when it was written
//	    32     4  count      records of its frame, this and TXN_COMMIT included
//	    36     4  reserved   0
const (
	offHead, offNanos, offSeq, offRelation  = 0, 8, 16, 20
	offWatermark, offCount, offTimeReserved = 24, 32, 36
)

var (
	_ [RecordSize]byte = [offValueLow + 8]byte{}
	_ [RecordSize]byte = [offMAC + macSize]byte{}
	_ [RecordSize]byte = [offTimeReserved + 4]byte{}
	_ [offNanos]byte   = [offHead + 8]byte{}
	_ [offKeyHigh]byte = [offHead + 8]byte{}
)

// An epoch record, one of up to eight in the store record. Little-endian.
//
// FORMAT.md: epoch record
//
//	offset  size  field   meaning
//	     0     8  epoch   number, never used twice in a file
//	     8     8  first   sequence of its first record, a multiple of the block
//	    16     8  end     sequence after its last record; all ones: it is the present one
//	    24    32  anchor  MAC of the frame that ends at last_applied, if that lies in this epoch; else random
const (
	offEpoch, offFirst, offEnd, offAnchor = 0, 8, 16, 24
	EpochSize                             = 56 // bytes
)

var _ [EpochSize]byte = [offAnchor + macSize]byte{}

const macSize = 32

// Seq is the sequence of a record. 0 is never used.
type Seq uint64

// NoEnd is the End of the epoch that is still being written.
const NoEnd = Seq(math.MaxUint64)

// maxSequence bounds every sequence that comes from a file, so that sums of two
// do not overflow. At 10^9 records a second it lasts for 146 years.
const maxSequence = Seq(1) << 62

// A block, bytes; its size comes from a file. With a multiple of blockUnit the log
// begins at a block where an extent does.
const (
	blockUnit = hdf5io.ExtentUnit
	minBlock  = 2 * blockUnit
	maxBlock  = 1 << 20
)

// Opcode says what a record does. It has six bits.
type Opcode uint8

// These are the opcodes of operations. Split to Compact report what a checkpoint did,
// with the number in the low word of Value; the tree already has what they report.
// CompactSet and DemoteSet change how a set is stored, not its values.
const (
	Insert      Opcode = 1  // Value into the set of Key
	Delete      Opcode = 2  // all values of Key
	DeleteValue Opcode = 6  // Value out of the set of Key
	Split       Opcode = 10 // buckets split
	Merge       Opcode = 11 // buckets merged
	Promote     Opcode = 20 // sets promoted
	Demote      Opcode = 21 // sets demoted
	Compact     Opcode = 22 // sets compacted
	CompactSet  Opcode = 23 // the tombstones of the set of Key are dropped
	DemoteSet   Opcode = 24 // the set of Key becomes inline, if it has few values
)

// These are the opcodes that the log itself writes.
const (
	Commit Opcode = 4 // TXN_COMMIT: ends a frame
	Time   Opcode = 8 // TXN_TIME: stands before TXN_COMMIT
	Pad    Opcode = 9 // fills a block

	endRecords = 2 // of a frame, after its operations and pads
)

const (
	opcodeMask = 0x3f
	lapShift   = 6
)

// operation reports whether an Op may have the code c.
func (c Opcode) operation() bool {
	switch c {
	case Insert, Delete, DeleteValue, Split, Merge, Promote, Demote, Compact, CompactSet, DemoteSet:
		return true
	}
	return false
}

// Op is one operation.
type Op struct {
	Code       Opcode
	Key, Value keys.E
}

// Epoch describes one life of the log whose records may still be read.
type Epoch struct {
	Number uint64
	First  Seq // of its first record, a multiple of the block
	End    Seq // after its last record; NoEnd for the present epoch; First if it has no records
	Anchor [macSize]byte
}

// Mark is the end of a frame.
type Mark struct {
	Sequence Seq
	MAC      [macSize]byte
	Epoch    uint64
}

// AppendEpoch appends the EpochSize bytes of e to dst.
func AppendEpoch(dst []byte, e Epoch) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, e.Number)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(e.First))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(e.End))
	return append(dst, e.Anchor[:]...)
}

// ParseEpoch reads what AppendEpoch wrote, which is exactly EpochSize bytes. It does
// not check how epochs follow each other; Scan does.
func ParseEpoch(src []byte) (Epoch, error) {
	if len(src) != EpochSize {
		return Epoch{}, corrupt.Errorf("epoch record", -1, "%d bytes, want %d", len(src), EpochSize)
	}
	e := Epoch{
		Number: binary.LittleEndian.Uint64(src[offEpoch:]),
		First:  Seq(binary.LittleEndian.Uint64(src[offFirst:])),
		End:    Seq(binary.LittleEndian.Uint64(src[offEnd:])),
		Anchor: [macSize]byte(src[offAnchor:]),
	}
	if e.End < e.First {
		return Epoch{}, corrupt.Errorf("epoch record", -1, "end %d, want at least first %d", e.End, e.First)
	}
	return e, nil
}

// TrimEpochs returns the epochs that must stay listed once everything through m is
// applied. It drops epochs that are empty or end at or before m, and sets the anchor of
// the epoch that holds m to the MAC of m. It always keeps the last, because the next
// number must be higher, even if the last was only reserved. epochs is not changed.
func TrimEpochs(epochs []Epoch, m Mark) []Epoch {
	var live []Epoch
	for i, e := range epochs {
		applied := e.End != NoEnd && e.End <= m.Sequence+1
		if (applied || e.End == e.First) && i < len(epochs)-1 {
			continue
		}
		if e.First <= m.Sequence && e.Number == m.Epoch && !seedbug.On("anchor-not-saved") {
			e.Anchor = m.MAC
		}
		live = append(live, e)
	}
	return live
}

// checkEpochs checks a list of epochs, oldest first. Their numbers must ascend, their
// ranges must be disjoint and begin at blocks, and only empty epochs may follow an
// open one.
func checkEpochs(epochs []Epoch, blockRecords uint64) error {
	open, least := false, Seq(0)
	for i, e := range epochs {
		bad := func(format string, args ...any) error {
			return corrupt.Errorf(fmt.Sprintf("log epoch %d", e.Number), -1, format, args...)
		}
		switch {
		case e.First == 0 || uint64(e.First)%blockRecords != 0 || e.First > maxSequence:
			return bad("first sequence %d, want a multiple of %d up to %d", e.First, blockRecords, maxSequence)
		case e.End != NoEnd && (e.End < e.First || e.End > maxSequence):
			return bad("end %d, want it between first sequence %d and %d", e.End, e.First, maxSequence)
		case open && e.End != e.First:
			return bad("end %d after an open epoch, want %d", e.End, e.First)
		case i > 0 && e.Number <= epochs[i-1].Number:
			return bad("number after epoch %d, want them to ascend", epochs[i-1].Number)
		case e.First < least:
			return bad("first sequence %d, want at least %d", e.First, least)
		}
		if least = e.End; e.End == NoEnd {
			least, open = e.First, true
		}
	}
	return nil
}

// FirstSequence returns the sequence of the first record of a new store: the
// first multiple of the block (bytes) that is not 0, which is never used.
func FirstSequence(block int) Seq { return Seq(block) / RecordSize }

// BlockAfter returns the first sequence of the block after that of sequence. block is in
// bytes.
func BlockAfter(sequence Seq, block int) Seq {
	records := FirstSequence(block)
	return (sequence/records + 1) * records
}

// RecordsFor returns the most records of a ring that an append of ops operations
// takes, including its end and pads. block is in bytes.
func RecordsFor(ops, block int) int64 {
	blockRecords := int64(block) / RecordSize
	return (int64(ops) + endRecords + blockRecords - 1) / blockRecords * blockRecords
}

// Records returns how many records fit into a ring of size bytes. block is in bytes.
func Records(size int64, block int) int64 { return size / int64(block) * (int64(block) / RecordSize) }

// Bytes returns the size, in bytes, of the smallest ring that holds that many records.
func Bytes(records int64, block int) int64 {
	blockRecords := int64(block) / RecordSize
	return (records + blockRecords - 1) / blockRecords * int64(block)
}

// first returns the first of records, up to the end of the block if it is the last
// there: what is left of a block is less than a record.
func first(records []byte) []byte {
	if len(records) < 2*RecordSize {
		return records
	}
	return records[:RecordSize]
}

// sealer computes the checksums of one epoch. It is not safe for concurrent use.
type sealer struct {
	seed    uint32 // state after file_uuid and epoch
	scratch [8 + 2*RecordSize]byte
}

func newSealer(uuid [16]byte, epoch uint64) *sealer {
	if seedbug.On("epoch-dropped") {
		epoch = 0
	}
	seed := crc32c.Extend(0, uuid[:])
	return &sealer{seed: crc32c.Extend(seed, binary.LittleEndian.AppendUint64(nil, epoch))}
}

// sum returns the checksum of the record of this sequence, whatever its checksum
// field holds.
func (s *sealer) sum(sequence Seq, record []byte) uint32 {
	binary.LittleEndian.PutUint64(s.scratch[:], uint64(sequence))
	n := copy(s.scratch[8:], record)
	binary.LittleEndian.PutUint32(s.scratch[8+offChecksum:], 0)
	return crc32c.Extend(s.seed, s.scratch[:8+n])
}

func (s *sealer) seal(sequence Seq, record []byte) {
	binary.LittleEndian.PutUint32(record[offChecksum:], s.sum(sequence, record))
}

// passes reports whether the record was written by this epoch at this sequence.
func (s *sealer) passes(sequence Seq, record []byte) bool {
	return seedbug.On("crc-skipped") || binary.LittleEndian.Uint32(record[offChecksum:]) == s.sum(sequence, record)
}

func opcode(record []byte) Opcode { return Opcode(record[offVersionOp] & opcodeMask) }

// watermarkOf returns the watermark of a TXN_TIME.
func watermarkOf(record []byte) Seq { return Seq(binary.LittleEndian.Uint64(record[offWatermark:])) }

func versionOp(code Opcode, lap uint64) byte { return byte(code) | byte(lap&3)<<lapShift }

// checkForm checks the fields of a record whose checksum is right. If one is wrong, it
// was written like that, by an error or by a later version, and replay must stop.
func checkForm(record []byte, sequence Seq, lap uint64) error {
	code := opcode(record)
	switch {
	case !code.operation() && code != Commit && code != Time && code != Pad:
		return fmt.Errorf("opcode %d, want one that this version replays", code)
	case record[offVersionOp]>>lapShift != byte(lap&3):
		return fmt.Errorf("lap %d, want %d", record[offVersionOp]>>lapShift, lap&3)
	case record[offFlags] != 0 || record[offReserved] != 0 || record[offReserved+1] != 0:
		return fmt.Errorf("flags and reserved % x, want zeros", record[offFlags:offChecksum])
	}
	for _, b := range record[RecordSize:] {
		if b != 0 {
			return fmt.Errorf("the block ends in % x, want zeros", record[RecordSize:])
		}
	}
	if code != Time {
		return nil
	}
	if watermark := watermarkOf(record); watermark >= sequence {
		return fmt.Errorf("watermark %d, want it below the record's own sequence", watermark)
	}
	u32 := binary.LittleEndian.Uint32
	if relation, rest := u32(record[offRelation:]), u32(record[offTimeReserved:]); relation != 0 || rest != 0 {
		return fmt.Errorf("relation %d and reserved %d, want zeros", relation, rest)
	}
	return nil
}

// parseOp reads an operation; any key and value will do.
func parseOp(record []byte) Op {
	u64 := binary.LittleEndian.Uint64
	return Op{
		Code:  opcode(record),
		Key:   keys.E{High: u64(record[offKeyHigh:]), Low: u64(record[offKeyLow:])},
		Value: keys.E{High: u64(record[offValueHigh:]), Low: u64(record[offValueLow:])},
	}
}
