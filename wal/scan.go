package wal

import (
	"crypto/hmac"
	"encoding/binary"
	"fmt"

	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/internal/seedbug"
)

// Frame is a complete frame whose checksums and MAC are right.
type Frame struct {
	First, Last Seq // of its first record and of its TXN_COMMIT
	Epoch       uint64
	MAC         [macSize]byte
	Watermark   Seq   // that of its TXN_TIME
	Nanos       int64 // hybrid time, ns since 1970
	Ops         []Op  // without pads; the nth has the sequence First + n; valid during the visit
	// PastWatermark says that no record shows that this frame is durable. A life that
	// begins must write it again (see How a life begins).
	PastWatermark bool
}

// ScanReport says what Scan found. After an error it says how far Scan got.
type ScanReport struct {
	Frames, Ops int   // visited
	End         Mark  // end of the last good frame, or of lastApplied if there is none
	Watermark   Seq   // the highest
	Next        Seq   // first block after all good frames: where a new epoch may begin
	TornAt      Seq   // first record with a wrong checksum, if others of its frame or after it are right; 0: none
	Discarded   int   // records with a right checksum, from the torn frame on
	Nanos       int64 // hybrid time of the last good frame, ns since 1970; 0: none
}

// Scan reads the log and calls visit for every complete frame after lastApplied, in the
// order of sequences. epochs and watermark come from the commit slot. The epochs are
// listed oldest first, with their anchors as TrimEpochs(…, mark of lastApplied) leaves
// them.
//
// In an epoch that has ended every record must be there. In the present one the first
// record with a wrong checksum ends the log, unless a watermark reaches it; Scan
// searches the rest of the ring for such a watermark. If there is one, or if a record
// with a right checksum has a wrong field, the error matches corrupt.Err. For a wrong
// MAC it matches ErrTampered. The good frames before the damage have been visited. An
// error of visit ends the scan and is returned as it is.
//
// Scan needs memory for 1 MiB and for the operations that no watermark covers yet,
// which are at most those of a ring.
func Scan(c Config, epochs []Epoch, lastApplied, watermark Seq, visit func(Frame) error) (ScanReport, error) {
	return newScan(c, lastApplied, watermark, visit).run(epochs)
}

// ScanOn goes on where an earlier scan with the same epochs ended without an error, and
// visits the frames that were written since. before is the report of that scan. Its cost
// depends only on what it visits: after the last frame it looks for records with a right
// checksum within 64 KiB, and searches the rest of the ring only if it finds one. So it
// may mistake damage of more than 64 KiB for the end of the log, which a Scan does not.
// The report counts from the first scan on.
func ScanOn(c Config, epochs []Epoch, before ScanReport, visit func(Frame) error) (ScanReport, error) {
	s := newScan(c, before.End.Sequence, before.Watermark, visit)
	s.near, s.reader.most = nearBytes/RecordSize, nearBytes
	s.report.Frames, s.report.Ops, s.report.Nanos = before.Frames, before.Ops, before.Nanos
	return s.run(TrimEpochs(epochs, before.End))
}

// nearBytes is how far ScanOn looks past the end of a log.
const nearBytes = 64 << 10

func newScan(c Config, lastApplied, watermark Seq, visit func(Frame) error) *scan {
	s := &scan{config: &c, lastApplied: lastApplied, visit: visit}
	s.reader.config, s.reader.most = &c, pieceBytes
	s.report.End.Sequence, s.report.Watermark = lastApplied, watermark
	return s
}

func (s *scan) run(epochs []Epoch) (ScanReport, error) {
	if err := s.check(epochs); err != nil {
		return s.report, err
	}
	s.report.Next = BlockAfter(s.lastApplied, s.config.Block)
	var err error
	for i, e := range epochs {
		s.report.Next = max(s.report.Next, e.First)
		if i == 0 || e.First <= s.lastApplied {
			s.report.End.MAC, s.report.End.Epoch = e.Anchor, e.Number
		}
		if e.End == e.First || e.End <= s.lastApplied+1 {
			continue
		}
		if err = s.epoch(e); err != nil {
			break
		}
	}
	if failed := s.deliver(maxSequence); failed != nil {
		err = failed
	}
	s.report.Next = max(s.report.Next, BlockAfter(s.report.End.Sequence, s.config.Block))
	return s.report, err
}

// scan holds the state of Scan.
type scan struct {
	config      *Config
	lastApplied Seq
	visit       func(Frame) error
	stopped     error // what visit returned
	// unanchored says that the MAC before the first frame is not known, and that the
	// checksums of that frame must do.
	unanchored bool
	near       uint64 // how many records are searched before all others; 0: all
	reader     reader
	report     ScanReport

	held    []heldFrame // good, but not visited yet, because no watermark covers them
	ops     []Op        // theirs in order, then those of the frame being read
	heldOps int         // theirs alone
}

// heldFrame is a frame without its operations, and their number.
type heldFrame struct {
	Frame
	ops int
}

func (s *scan) check(epochs []Epoch) error {
	if err := s.config.check(); err != nil {
		return err
	}
	if s.lastApplied > maxSequence || s.report.Watermark > maxSequence {
		return corrupt.Errorf("log", -1, "last applied %d and watermark %d, want them up to %d", s.lastApplied, s.report.Watermark, maxSequence)
	}
	return checkEpochs(epochs, s.config.blockRecords())
}

// epoch reads the frames of e after lastApplied.
func (s *scan) epoch(e Epoch) error {
	if e.End != NoEnd {
		s.report.Watermark = max(s.report.Watermark, e.End-1)
	}
	start := max(e.First, s.lastApplied+1)
	// A full ring ends at the record that is a lap older: its checksum is wrong here.
	end := min(e.End, s.config.end(start)+1)
	f := frameScan{scan: s, epoch: e.Number, first: start}
	f.sealer, f.chain = newSealer(s.config.UUID, e.Number), newChain(s.config.Key, e.Number, e.Anchor)
	for sequence := start; sequence < end; {
		records, err := s.reader.from(sequence, uint64(end-sequence))
		if err != nil {
			return err
		}
		good, rest, err := f.add(records, sequence)
		if err != nil {
			return err
		}
		sequence += Seq(good)
		if len(rest) > 0 {
			return f.tear(sequence, first(rest))
		}
	}
	if e.End != NoEnd && (end < e.End || f.first != e.End) {
		return s.config.damage(f.first, "no complete frame from here, want frames up to %d, the end of epoch %d", e.End, e.Number)
	}
	return nil
}

// frameScan reads the frames of one epoch.
type frameScan struct {
	*scan
	epoch  uint64
	first  Seq // of the first record of the frame being read
	time   frameTime
	sealer *sealer
	chain  *chain
}

// frameTime holds the fields of a TXN_TIME and its own sequence, 0 if none was read.
type frameTime struct {
	sequence, watermark Seq
	nanos               uint64
	count               uint32
}

func parseTime(record []byte, sequence Seq) frameTime {
	return frameTime{sequence, watermarkOf(record), binary.LittleEndian.Uint64(record[offNanos:]), binary.LittleEndian.Uint32(record[offCount:])}
}

// add adds records of a block, beginning with that of sequence. It returns how many of
// them have a right checksum, and the records from the first one that has not.
func (f *frameScan) add(records []byte, sequence Seq) (good uint64, rest []byte, err error) {
	lap := f.config.lap(sequence)
	at, added := 0, 0 // bytes with right checksums, and bytes that the chain has
	for at < len(records) {
		record := first(records[at:])
		if !f.sealer.passes(sequence, record) {
			break
		}
		if err := f.follows(record, sequence, lap); err != nil {
			return 0, nil, f.config.damage(sequence, "%w", err)
		}
		switch code := opcode(record); code {
		case Pad:
		case Time:
			f.time = parseTime(record, sequence)
			f.report.Watermark = max(f.report.Watermark, f.time.watermark)
		case Commit:
			f.chain.add(records[added:at])
			added = at + len(record)
			if err := f.end(record, sequence); err != nil {
				return 0, nil, err
			}
		default:
			f.ops = append(f.ops, parseOp(record))
		}
		at += len(record)
		sequence++
		good++
	}
	if added < at {
		f.chain.add(records[added:at])
	}
	return good, records[at:], nil
}

// follows checks a record whose checksum is right, and its place in the frame. Only a
// TXN_COMMIT may follow a TXN_TIME, and it must follow one.
func (f *frameScan) follows(record []byte, sequence Seq, lap uint64) error {
	if err := checkForm(record, sequence, lap); err != nil {
		return err
	}
	timed := f.time.sequence+1 == sequence
	if code := opcode(record); timed != (code == Commit) {
		return fmt.Errorf("opcode %d, and TXN_TIME right before it: %v; want it before each TXN_COMMIT alone", code, timed)
	}
	return nil
}

// end adds the TXN_COMMIT of the frame being read.
func (f *frameScan) end(commit []byte, sequence Seq) error {
	f.chain.end(commit)
	if f.unanchored {
		f.unanchored = false
		f.chain.restart([macSize]byte(commit[offMAC:]))
	}
	// The error does not have the right MAC: with it, somebody who can write to the
	// file and read the message could sign a forged frame.
	if !hmac.Equal(f.chain.sum[:], commit[offMAC:offMAC+macSize]) {
		ring, name := f.config.at(sequence)
		return fmt.Errorf("%w: %s record %d at %#x: MAC %x is not that of records %d to %d",
			ErrTampered, name, sequence, f.config.place(ring, sequence), commit[offMAC:offMAC+macSize], f.first, sequence)
	}
	if want := sequence + 1 - f.first; Seq(f.time.count) != want {
		return f.config.damage(f.time.sequence, "count %d, want %d, the records since the last commit", f.time.count, want)
	}
	frame := Frame{
		First:     f.first,
		Last:      sequence,
		Epoch:     f.epoch,
		MAC:       f.chain.sum,
		Watermark: f.time.watermark,
		Nanos:     frameNanos(f.time.nanos),
	}
	f.hold(frame)
	f.report.End = Mark{sequence, frame.MAC, f.epoch}
	f.report.Nanos = max(f.report.Nanos, frame.Nanos)
	f.first = sequence + 1
	return f.deliver(f.report.Watermark)
}

// hold keeps a frame until it is known whether a watermark covers it. The operations of
// the frame are the last of s.ops.
func (s *scan) hold(frame Frame) {
	s.held = append(s.held, heldFrame{frame, len(s.ops) - s.heldOps})
	s.heldOps = len(s.ops)
}

// deliver visits the held frames that end at or before last.
func (s *scan) deliver(last Seq) error {
	if s.stopped != nil {
		return s.stopped
	}
	visited, ops := 0, 0
	for _, h := range s.held {
		if h.Last > last {
			break
		}
		visited++
		frame := h.Frame
		frame.Ops = s.ops[ops : ops+h.ops : ops+h.ops]
		ops += h.ops
		frame.PastWatermark = frame.Last > s.report.Watermark
		s.report.Frames++
		s.report.Ops += len(frame.Ops)
		if s.stopped = s.visit(frame); s.stopped != nil {
			return s.stopped
		}
	}
	if visited > 0 {
		s.held = s.held[:copy(s.held, s.held[visited:])]
		s.ops = s.ops[:copy(s.ops, s.ops[ops:])]
		s.heldOps -= ops
	}
	return nil
}

// tear decides what the first record with a wrong checksum means. It searches the rest
// of the rings for records of this epoch, which show what was durable.
func (f *frameScan) tear(sequence Seq, record []byte) error {
	found, want := binary.LittleEndian.Uint32(record[offChecksum:]), f.sealer.sum(sequence, record)
	if seedbug.On("truncate-at-first-bad") {
		return nil
	}
	if seedbug.On("commit-mark-ignored") && sequence > f.first {
		f.hold(Frame{First: f.first, Last: sequence - 1, Epoch: f.epoch})
	}
	passed, err := f.search(sequence)
	if err != nil {
		return err
	}
	if sequence <= f.report.Watermark {
		return f.config.damage(sequence, "checksum %#08x, want %#08x, and watermark %d says that it was durable", found, want, f.report.Watermark)
	}
	f.report.Discarded = passed + int(sequence-f.first)
	if f.report.Discarded > 0 {
		f.report.TornAt = sequence
	}
	return nil
}

// search looks for records of this epoch within a lap after the one at bad. It raises
// the watermark to the highest that they have, and returns how many there are.
//
// It believes a TXN_TIME whose checksum is right. It could verify the MAC of that frame
// only if the frame before it ended in a good record, and that record may be just the
// damaged one. If it believes a forged watermark, the store refuses the log and does not
// lose it.
func (f *frameScan) search(bad Seq) (passed int, err error) {
	first := f.config.Ring.First
	if f.near > 0 && bad >= first {
		if near, err := f.searchRange(bad+1, bad+Seq(min(f.near, f.config.records(f.config.Ring)))); near == 0 || err != nil {
			return near, err
		}
	}
	if ring, _ := f.config.at(bad); bad < first {
		if passed, err = f.searchRange(bad+1, min(first, bad+Seq(f.config.records(ring)))); err != nil {
			return passed, err
		}
		bad = first - 1
	}
	more, err := f.searchRange(bad+1, max(bad, first)+Seq(f.config.records(f.config.Ring)))
	return passed + more, err
}

func (f *frameScan) searchRange(sequence, end Seq) (passed int, err error) {
	for sequence < end {
		records, err := f.reader.from(sequence, uint64(end-sequence))
		if err != nil {
			return passed, err
		}
		lap := f.config.lap(sequence)
		for record := first(records); len(records) > 0; sequence, record = sequence+1, first(records) {
			records = records[len(record):]
			// The first byte is enough to rule out most others.
			code := opcode(record)
			if code == 0 || record[offVersionOp] != versionOp(code, lap) || !f.sealer.passes(sequence, record) {
				continue
			}
			passed++
			if code != Time {
				continue
			}
			watermark := watermarkOf(record)
			if watermark >= sequence {
				return passed, f.config.damage(sequence, "watermark %d, want it below the record's own sequence", watermark)
			}
			f.report.Watermark = max(f.report.Watermark, watermark)
		}
	}
	return passed, nil
}
