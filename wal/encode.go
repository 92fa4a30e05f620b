package wal

import (
	"encoding/binary"
	"math"
	"slices"
)

// encoder encodes operations as records, group by group and frame by frame. It is
// not safe for concurrent use.
type encoder struct {
	sealer       *sealer
	chain        *chain
	now          func() int64
	block        uint64 // bytes
	blockRecords uint64
	ringRecords  uint64

	group   []byte // the records of the group under way, and the rest of its blocks
	first   Seq    // of the first of them
	next    Seq    // after the last of them
	mark    Mark   // end of the last frame
	nanos   uint64 // hybrid time of the next record, unless the clock is later
	seq     uint32
	records [opcodeMask + 1]uint64 // encoded, by opcode
	frames  uint64                 // encoded
}

// start sets the encoder to the beginning of a life.
func (e *encoder) start(c *Config, epoch Epoch, next Seq) {
	*e = encoder{
		sealer:       newSealer(c.UUID, epoch.Number),
		chain:        newChain(c.Key, epoch.Number, epoch.Anchor),
		now:          c.Now,
		block:        uint64(c.Block),
		blockRecords: c.blockRecords(),
		ringRecords:  c.records(c.Ring),
		first:        next,
		next:         next,
		mark:         Mark{next - 1, epoch.Anchor, epoch.Number},
		nanos:        uint64(max(c.After, -1) + 1),
	}
}

// grouped returns how many records the group has.
func (e *encoder) grouped() uint64 { return uint64(e.next - e.first) }

// pads returns how many records after the nth of the group fill its last block.
func (e *encoder) pads(n uint64) uint64 { return (e.blockRecords - n%e.blockRecords) % e.blockRecords }

// bytes returns where the nth record of a group begins, in bytes.
func (e *encoder) bytes(n uint64) int {
	return int(n/e.blockRecords*e.block + n%e.blockRecords*RecordSize)
}

// frameNanos returns the time of a frame whose TXN_TIME has nanos.
func frameNanos(nanos uint64) int64 { return int64(min(nanos, math.MaxInt64)) }

// frame adds a frame to the group, with pads before its end. It returns the sequence
// of its first record and its time.
func (e *encoder) frame(ops []Op, pads uint64, watermark Seq) (first Seq, nanos int64) {
	first = e.next
	count := uint64(len(ops)) + pads + endRecords
	start, end := len(e.group), e.bytes(e.grouped()+count)
	if end > cap(e.group) {
		// In large steps, so that few are left to the collector, and not so far that
		// closeGroup would give up a group that has not grown to mostWaiting.
		e.group = slices.Grow(e.group, max(end-start, min(start, groupBytes)))
	}
	e.group = e.group[:end]
	e.tick(count)
	at := start
	for i := range ops {
		record := e.record(at, ops[i].Code)
		binary.LittleEndian.PutUint64(record[offKeyHigh:], ops[i].Key.High)
		binary.LittleEndian.PutUint64(record[offKeyLow:], ops[i].Key.Low)
		binary.LittleEndian.PutUint64(record[offValueHigh:], ops[i].Value.High)
		binary.LittleEndian.PutUint64(record[offValueLow:], ops[i].Value.Low)
		at += e.seal(record)
	}
	for range pads {
		at += e.seal(e.record(at, Pad))
	}
	record := e.record(at, Time)
	binary.LittleEndian.PutUint64(record[offNanos:], e.nanos)
	binary.LittleEndian.PutUint32(record[offSeq:], e.seq)
	binary.LittleEndian.PutUint64(record[offWatermark:], uint64(watermark))
	binary.LittleEndian.PutUint32(record[offCount:], uint32(count))
	at += e.seal(record)
	nanos = frameNanos(e.nanos)
	e.seq += uint32(count)
	e.commit(start, at)
	return first, nanos
}

// tick makes nanos and seq the time of the first of count records, so that those
// of the others have the same nanos.
func (e *encoder) tick(count uint64) {
	if now := uint64(max(e.now(), 0)); now > e.nanos {
		e.nanos, e.seq = now, 0
	}
	if uint64(e.seq)+count > math.MaxUint32 {
		e.nanos, e.seq = e.nanos+1, 0
	}
}

// commit ends the frame whose first byte in the group is start, with a
// TXN_COMMIT at offset at.
func (e *encoder) commit(start, at int) {
	record := e.record(at, Commit)
	e.chain.add(e.group[start:at])
	e.chain.end(record)
	copy(record[offMAC:], e.chain.sum[:])
	e.mark.Sequence, e.mark.MAC = e.next, e.chain.sum
	e.seal(record)
	e.frames++
}

// record clears the record at a place of the group, and what is left of the block
// after it. It then sets what every record has, except the checksum.
func (e *encoder) record(at int, code Opcode) []byte {
	size := RecordSize
	if uint64(e.next+1)%e.blockRecords == 0 {
		size = int(e.block) - int(e.blockRecords-1)*RecordSize
	}
	record := e.group[at : at+size]
	clear(record)
	record[offVersionOp] = versionOp(code, uint64(e.next)/e.ringRecords)
	e.records[code]++
	return record
}

// seal ends the record of the next sequence, and returns its size.
func (e *encoder) seal(record []byte) int {
	e.sealer.seal(e.next, record)
	e.next++
	return len(record)
}
