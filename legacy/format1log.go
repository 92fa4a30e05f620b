package legacy

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"slices"

	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/internal/crc32c"
	"github.com/cidstore/cidstore/wal"
)

// The log of format 1: a ring of records of 64 bytes, that of sequence s at s mod their
// number. What comes before wal_first lies in the old ring. A frame is the operations of
// a batch, perhaps pads, and a commit.
//
//	log record
//	     0     1  version_op  bits 0 to 5 opcode, 6 and 7 the lap of the ring mod 4
//	     1     3  zero
//	     4     4  checksum    of the record with this field zero; seed: file_uuid, u64 epoch, u64 sequence
//	     8    12  time
//	    20     4  count       commit: records of its frame; else 0
//	    24    16  key         commit: with value, HMAC-SHA256(log key, u64 epoch, that of the frame
//	    40    16  value       before, all records, the commit with checksum and HMAC zero)
//	    56     8  watermark   commit: highest sequence known to be durable; else 0
const (
	logRecordSize = 64

	offLogChecksum, offLogCount, offLogKey, offLogValue, offLogWatermark = 4, 20, 24, 40, 56

	logInsert, logDelete, logCommit, logDeleteValue, logPad = 1, 2, 4, 6, 9

	// maxSequence bounds what comes from a file, so that sums of two do not overflow.
	maxSequence = wal.Seq(1) << 62
)

// logOpcodes are all that were written: those not named above report what a checkpoint
// did, which is in the buckets, or change no pair.
var logOpcodes = []byte{logInsert, logDelete, logCommit, logDeleteValue, logPad, 10, 11, 20, 21, 22, 23, 24}

type logRing struct {
	in      *io.SectionReader
	records uint64
}

// format1Log is the log of a file of format 1, while it is read.
type format1Log struct {
	uuid, key   []byte
	block       uint64 // bytes, of which the rings have a whole number
	ring, old   logRing
	first       wal.Seq // that the ring begins with
	lastApplied wal.Seq
	watermark   wal.Seq
	take        func(operation) error
	tornAt      wal.Seq // first record of an incomplete frame; 0: there is none

	piece []byte  // records at hand
	at    wal.Seq // sequence of the first of them
}

// holder returns the ring that holds a sequence, up to which it does, and its name.
func (l *format1Log) holder(sequence wal.Seq) (ring logRing, end wal.Seq, name string) {
	if sequence < l.first && l.old.records > 0 {
		return l.old, l.first, "old log"
	}
	return l.ring, maxSequence, "log"
}

func (l *format1Log) damage(sequence wal.Seq, format string, args ...any) error {
	_, _, name := l.holder(sequence)
	return corrupt.Errorf(fmt.Sprintf("%s record %d", name, sequence), -1, format, args...)
}

// record returns the record of a sequence, valid until the next call.
func (l *format1Log) record(sequence wal.Seq) ([]byte, error) {
	const most = 1024 // records that are read at once
	if n := uint64(len(l.piece)) / logRecordSize; sequence < l.at || uint64(sequence-l.at) >= n {
		ring, end, name := l.holder(sequence)
		if sequence < l.first && l.old.records == 0 {
			return nil, l.damage(sequence, "no ring holds it: it begins at %d", l.first)
		}
		place := uint64(sequence) % ring.records
		size := int(min(most, ring.records-place, uint64(end-sequence))) * logRecordSize
		l.piece, l.at = slices.Grow(l.piece[:0], size)[:size], sequence
		if n, err := ring.in.ReadAt(l.piece, int64(place)*logRecordSize); n < size {
			l.piece = l.piece[:0]
			return nil, fmt.Errorf("%s: record %d: %w", name, sequence, err)
		}
	}
	return l.piece[(sequence-l.at)*logRecordSize:][:logRecordSize], nil
}

// passes reports whether a record was written by an epoch as that of its sequence.
func (l *format1Log) passes(record []byte, epoch uint64, sequence wal.Seq) bool {
	ring, _, _ := l.holder(sequence)
	if uint64(record[0]>>6) != uint64(sequence)/ring.records%4 {
		return false
	}
	var p [32 + logRecordSize]byte
	copy(p[:], l.uuid)
	le.PutUint64(p[16:], epoch)
	le.PutUint64(p[24:], uint64(sequence))
	copy(p[32:], record)
	clear(p[32+offLogChecksum:][:4])
	return crc32c.Sum(p[:]) == le.Uint32(record[offLogChecksum:])
}

// check judges the geometry, and a list of epochs, oldest first.
func (l *format1Log) check(epochs []wal.Epoch) error {
	if n := l.block / logRecordSize; n < 2 || l.block%logRecordSize != 0 || l.ring.records%n != 0 || l.old.records%n != 0 {
		return corrupt.Errorf("log", -1, "blocks of %d bytes in rings of %d and %d records, want whole blocks", l.block, l.ring.records, l.old.records)
	}
	least, number := wal.Seq(1), uint64(0)
	for _, e := range epochs {
		end := e.End
		if end == wal.NoEnd {
			end = e.First
		}
		if e.First < least || e.First > maxSequence || end < e.First || end > maxSequence || e.Number <= number {
			return corrupt.Errorf("epoch", -1, "number %d from %d to %d, want them to ascend from %d", e.Number, e.First, e.End, least)
		}
		least, number = end, e.Number
	}
	if max(l.first, l.lastApplied, l.watermark) > maxSequence {
		return corrupt.Errorf("log", -1, "first sequence %d, last applied %d and watermark %d, want them up to %d", l.first, l.lastApplied, l.watermark, maxSequence)
	}
	return nil
}

// replay takes the operations of all complete frames after lastApplied. A record that
// was durable once and is not there is an error that matches corrupt.Err.
func (l *format1Log) replay(epochs []wal.Epoch) error {
	if err := l.check(epochs); err != nil {
		return err
	}
	for _, e := range epochs {
		if e.End == e.First || e.End <= l.lastApplied+1 {
			continue
		}
		if e.End != wal.NoEnd {
			l.watermark = max(l.watermark, e.End-1)
		}
		frame, err := l.epoch(e)
		if err != nil {
			return err
		}
		if e.End != wal.NoEnd && frame != e.End {
			return l.damage(frame, "no whole frame from here, want frames up to %d, the end of epoch %d", e.End, e.Number)
		}
	}
	return nil
}

// epoch takes the frames of one epoch, and returns the sequence that follows them.
func (l *format1Log) epoch(e wal.Epoch) (frame wal.Seq, err error) {
	frame = max(e.First, l.lastApplied+1)
	end := min(e.End, max(frame, l.first)+wal.Seq(l.ring.records)+1)
	mac, before := hmac.New(sha256.New, l.key), e.Anchor
	begin := func() {
		mac.Reset()
		mac.Write(binary.LittleEndian.AppendUint64(nil, e.Number))
		mac.Write(before[:])
	}
	begin()
	var ops []operation
	for sequence := frame; sequence < end; sequence++ {
		record, err := l.record(sequence)
		if err != nil {
			return frame, err
		}
		if !l.passes(record, e.Number, sequence) {
			return frame, l.tear(e.Number, sequence, frame)
		}
		code := record[0] & 63
		if !slices.Contains(logOpcodes, code) {
			return frame, l.damage(sequence, "operation %d is not known", code)
		}
		if code != logCommit {
			mac.Write(record)
			ops = append(ops, logOperation(record))
			continue
		}
		if err := l.commit(mac, record, sequence, frame); err != nil {
			return frame, err
		}
		for _, o := range ops {
			if err := l.take(o); err != nil {
				return frame, err
			}
		}
		copy(before[:], record[offLogKey:offLogWatermark])
		frame, ops = sequence+1, ops[:0]
		begin()
	}
	return frame, nil
}

// commit judges the commit of a frame, of which mac has the rest.
func (l *format1Log) commit(mac hash.Hash, record []byte, sequence, frame wal.Seq) error {
	var p [logRecordSize]byte
	copy(p[:], record)
	clear(p[offLogChecksum:][:4])
	clear(p[offLogKey:offLogWatermark])
	mac.Write(p[:])
	if !hmac.Equal(mac.Sum(nil), record[offLogKey:offLogWatermark]) {
		return fmt.Errorf("%w: the HMAC of records %d to %d is another one", wal.ErrTampered, frame, sequence)
	}
	if count := wal.Seq(le.Uint32(record[offLogCount:])); count != sequence+1-frame {
		return l.damage(sequence, "count %d, want %d", count, sequence+1-frame)
	}
	return l.raise(record, sequence)
}

// raise takes the watermark of a commit.
func (l *format1Log) raise(record []byte, sequence wal.Seq) error {
	watermark := wal.Seq(le.Uint64(record[offLogWatermark:]))
	if watermark >= sequence {
		return l.damage(sequence, "watermark %d, want it below the record's own sequence", watermark)
	}
	l.watermark = max(l.watermark, watermark)
	return nil
}

// tear judges the first record that does not pass: commits after it may say that it
// was durable once.
func (l *format1Log) tear(epoch uint64, bad, frame wal.Seq) error {
	torn := bad > frame
	search := func(from, to wal.Seq) error {
		for sequence := from; sequence < to; sequence++ {
			record, err := l.record(sequence)
			if err != nil {
				return err
			}
			code := record[0] & 63
			if code == 0 || !l.passes(record, epoch, sequence) {
				continue
			}
			torn = true
			if code == logCommit {
				if err := l.raise(record, sequence); err != nil {
					return err
				}
			}
		}
		return nil
	}
	from := bad + 1
	if bad < l.first {
		if err := search(from, min(l.first, bad+wal.Seq(l.old.records))); err != nil {
			return err
		}
		from = l.first
	}
	if err := search(from, max(bad, l.first)+wal.Seq(l.ring.records)); err != nil {
		return err
	}
	if bad <= l.watermark {
		return l.damage(bad, "its checksum is wrong, and watermark %d says that it was durable", l.watermark)
	}
	if torn {
		l.tornAt = bad
	}
	return nil
}

// logOperation is what a record asks for; of a kind that changes no pair: code 0.
func logOperation(record []byte) operation {
	key, value := identifierAt(record[offLogKey:]), identifierAt(record[offLogValue:])
	switch record[0] & 63 {
	case logInsert:
		return operation{code: opInsert, key: key, value: value}
	case logDeleteValue:
		return operation{code: opDelete, key: key, value: value}
	case logDelete:
		return operation{code: opDelete, key: key, whole: true}
	}
	return operation{}
}
