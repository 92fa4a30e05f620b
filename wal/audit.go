package wal

import (
	"encoding/binary"
	"math"
)

// Replay calls visit, as Scan does, for every live frame that is durable: those from
// the tail to the mark, including those of the epochs in Config.Earlier. It must not
// run beside Truncate.
func (l *Log) Replay(visit func(Frame) error) error {
	v := l.live()
	_, err := v.scan(visit)
	return err
}

// Audit verifies the checksums and MACs of as many live frames as sample says, or of
// all if sample is 0. It chooses them with rand, which returns a number in [0, n). It
// may run beside all other methods; frames that are truncated by then count as good.
// The error is that of Scan for the first frame that is damaged.
func (l *Log) Audit(sample int, rand func(n int) int) error {
	var err error
	if sample <= 0 {
		err = l.auditAll()
	}
	for ; err == nil && sample > 0; sample-- {
		err = l.auditOne(rand)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.stats.Audits++
	if err != nil {
		l.mu.stats.AuditFailures++
	}
	return err
}

// live is what a Log holds at one moment.
type live struct {
	config   Config
	epochs   []Epoch // all have an end
	before   Mark    // as in Log.mu
	anchored bool    // as in Log.mu
	end      Seq     // sequence after the last frame
}

func (l *Log) live() live {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := live{config: l.placesLocked(), before: l.mu.before, anchored: l.mu.anchored}
	v.end = min(l.mu.mark.Sequence, l.mu.watermark) + 1
	for _, e := range TrimEpochs(l.epochs, l.mu.before) {
		if e.End == NoEnd {
			e.End = max(v.end, e.First)
		}
		v.epochs = append(v.epochs, e)
	}
	return v
}

func (v *live) scan(visit func(Frame) error) (ScanReport, error) {
	s := newScan(v.config, v.before.Sequence, v.before.Sequence, visit)
	s.unanchored = !v.anchored
	return s.run(v.epochs)
}

func passOver(Frame) error { return nil }

// auditAll verifies everything that is live now. If a frame fails and the tail has
// moved, it tries again, until the tail has passed everything.
func (l *Log) auditAll() error {
	v := l.live()
	for end := v.end; v.before.Sequence+1 < end; {
		_, err := v.scan(passOver)
		again := l.live()
		if err == nil || again.before.Sequence == v.before.Sequence {
			return err
		}
		v = again
	}
	return nil
}

// auditOne verifies the frame that holds a random live record.
func (l *Log) auditOne(rand func(n int) int) error {
	v := l.live()
	records := uint64(0)
	for _, e := range v.epochs {
		records += uint64(e.End - min(e.End, v.first(e)))
	}
	if records == 0 {
		return nil
	}
	nth := uint64(rand(int(min(records, math.MaxInt32))))
	for _, e := range v.epochs {
		if here := uint64(e.End - min(e.End, v.first(e))); nth >= here {
			nth -= here
			continue
		}
		first, err := v.verifyAt(e, v.first(e)+Seq(nth))
		if tail := l.live().before.Sequence + 1; err != nil && first <= tail && tail != v.before.Sequence+1 {
			return nil // it may have been overwritten while it was read
		}
		return err
	}
	return nil
}

// first returns the first live sequence of e.
func (v *live) first(e Epoch) Seq { return max(e.First, v.before.Sequence+1) }

// verifyAt verifies the frame of e that holds a sequence, and returns the lowest
// sequence that it had to read.
func (v *live) verifyAt(e Epoch, sequence Seq) (begin Seq, err error) {
	r := reader{config: &v.config, most: pieceBytes}
	seal := newSealer(v.config.UUID, e.Number)
	// read returns the record of a sequence if it passes.
	read := func(at Seq) ([]byte, error) {
		records, err := r.from(at, min(uint64(e.End-at), v.config.blockRecords()))
		record := first(records)
		if err == nil && !seal.passes(at, record) {
			err = v.config.damage(at, "checksum %#08x, want %#08x", binary.LittleEndian.Uint32(record[offChecksum:]), seal.sum(at, record))
		}
		return record, err
	}
	last := sequence
	for {
		if last >= e.End {
			return sequence, v.config.damage(sequence, "no commit from here to %d, the end of epoch %d", e.End, e.Number)
		}
		record, err := read(last)
		if err != nil {
			return sequence, err
		}
		if opcode(record) == Commit {
			break
		}
		last++
	}
	time, err := read(last - 1)
	if err != nil {
		return sequence, err
	}
	count, most := Seq(parseTime(time, last-1).count), last+1-v.first(e)
	if opcode(time) != Time || count == 0 || count > most {
		return sequence, v.config.damage(last-1, "opcode %d and count %d, want %d and from 1 to %d", opcode(time), count, Time, most)
	}
	begin = last + 1 - count
	part := live{config: v.config, before: Mark{Sequence: begin - 1}, anchored: true}
	if begin == v.first(e) {
		part.anchored = v.anchored || begin == e.First
	} else {
		before, err := read(begin - 1)
		if err != nil {
			return begin, err
		}
		if opcode(before) != Commit {
			return begin, v.config.damage(begin-1, "opcode %d, want %d before a frame", opcode(before), Commit)
		}
		e.Anchor = [macSize]byte(before[offMAC:])
	}
	e.End = last + 1
	part.epochs = []Epoch{e}
	_, err = part.scan(passOver)
	return begin, err
}
