package wal

import (
	"encoding/binary"
	"math"
	"slices"
)

// encoder makes records of operations: one group after the other, frame by frame.
// Not safe for concurrent use.
type encoder struct {
	sealer       *sealer
	chain        *chain
	now          func() int64
	ringRecords  uint64
	blockRecords uint64

	group   []byte // the records of the group begun
	first   uint64 // sequence of the first of them
	next    uint64 // sequence behind the last of them
	mark    Mark   // end of the last frame
	nanos   uint64 // hybrid time of the next record
	seq     uint32
	records [opcodeMask + 1]uint64 // encoded, by opcode
	frames  uint64                 // encoded
}

// start sets the encoder to the beginning of a life.
func (e *encoder) start(c *Config, epoch Epoch, next uint64) {
	*e = encoder{
		sealer:       newSealer(c.UUID, epoch.Number),
		chain:        newChain(c.Key, epoch.Number, epoch.Anchor),
		now:          c.Now,
		ringRecords:  c.Ring.records(),
		blockRecords: c.blockRecords(),
		first:        next,
		next:         next,
		mark:         Mark{next - 1, epoch.Anchor, epoch.Number},
		nanos:        uint64(max(c.After, -1) + 1),
	}
}

// pads returns how many records behind the nth of the group fill its last block.
func (e *encoder) pads(n uint64) uint64 { return (e.blockRecords - n%e.blockRecords) % e.blockRecords }

// frameNanos is the time of a frame whose TXN_COMMIT says nanos.
func frameNanos(nanos uint64) int64 { return int64(min(nanos, math.MaxInt64)) }

// frame adds a frame to the group, its pads before its TXN_COMMIT, and returns
// the sequence of its first record and its time.
func (e *encoder) frame(ops []Op, pads, watermark uint64) (first uint64, nanos int64) {
	first = e.next
	count := uint64(len(ops)) + pads + 1
	start := len(e.group)
	e.group = slices.Grow(e.group, int(count)*RecordSize)[:start+int(count)*RecordSize]
	if now := uint64(max(e.now(), 0)); now > e.nanos {
		e.nanos, e.seq = now, 0
	}
	at := start
	for i := range ops {
		record := e.record(at, ops[i].Code)
		binary.LittleEndian.PutUint64(record[offKeyHigh:], ops[i].Key.High)
		binary.LittleEndian.PutUint64(record[offKeyLow:], ops[i].Key.Low)
		binary.LittleEndian.PutUint64(record[offValueHigh:], ops[i].Value.High)
		binary.LittleEndian.PutUint64(record[offValueLow:], ops[i].Value.Low)
		e.sealer.seal(e.next, record)
		e.next++
		at += RecordSize
	}
	for range pads {
		e.sealer.seal(e.next, e.record(at, Pad))
		e.next++
		at += RecordSize
	}
	nanos = frameNanos(e.nanos)
	e.commit(start, at, uint32(count), watermark)
	return first, nanos
}

// commit ends the frame whose first byte in the group is start, with a
// TXN_COMMIT at at.
func (e *encoder) commit(start, at int, count uint32, watermark uint64) {
	record := e.record(at, Commit)
	binary.LittleEndian.PutUint32(record[offCount:], count)
	binary.LittleEndian.PutUint64(record[offWatermark:], watermark)
	e.chain.add(e.group[start:at])
	e.chain.end(record)
	copy(record[offMAC:], e.chain.sum[:])
	e.sealer.seal(e.next, record)
	e.mark.Sequence, e.mark.MAC = e.next, e.chain.sum
	e.next++
	e.frames++
}

// record clears the record at a place of the group and gives it what every one
// has, but for the checksum. Hybrid time goes on with each.
func (e *encoder) record(at int, code Opcode) []byte {
	record := e.group[at : at+RecordSize]
	clear(record)
	record[offVersionOp] = versionOp(code, e.next/e.ringRecords)
	binary.LittleEndian.PutUint64(record[offNanos:], e.nanos)
	binary.LittleEndian.PutUint32(record[offSeq:], e.seq)
	if e.seq++; e.seq == 0 {
		e.nanos++
	}
	e.records[code]++
	return record
}
