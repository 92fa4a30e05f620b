package wal

import (
	"fmt"
	"io"
	"slices"
)

// A life begins with what is in this file; package doc says in which steps.

// InUse returns the epochs that have records. epochs is not changed.
func InUse(epochs []Epoch) []Epoch {
	return slices.DeleteFunc(slices.Clone(epochs), func(e Epoch) bool { return e.End == e.First })
}

// NextEpoch returns the open epoch of a life that begins at sequence next, after those of
// epochs. Its anchor is read from random.
func NextEpoch(epochs []Epoch, next Seq, random io.Reader) (Epoch, error) {
	e := Epoch{Number: epochs[len(epochs)-1].Number + 1, First: next, End: NoEnd}
	if _, err := io.ReadFull(random, e.Anchor[:]); err != nil {
		return Epoch{}, fmt.Errorf("random bytes: %w", err)
	}
	return e, nil
}

// Reserved returns e without records. A root that names it has used up its number.
func (e Epoch) Reserved() Epoch {
	e.End = e.First
	return e
}

// EndEpochs returns the epochs with records after lastApplied and before end, and lets
// none go on past end. epochs is not changed.
func EndEpochs(epochs []Epoch, lastApplied, end Seq) []Epoch {
	var earlier []Epoch
	for _, e := range epochs {
		e.End = min(e.End, end)
		if e.End > max(lastApplied+1, e.First) {
			earlier = append(earlier, e)
		}
	}
	return earlier
}

// Fits reports whether the ring has room for copies of frames from sequence next on, and
// keeps the records from tail on.
func (c *Config) Fits(frames []Frame, tail, next Seq) bool {
	e := encoder{block: uint64(c.Block), blockRecords: c.blockRecords()}
	need, group := uint64(0), uint64(0) // in records; groups end where AppendAsync ends them
	for i := range frames {
		group += uint64(len(frames[i].Ops)) + endRecords
		if pads := e.pads(group); pads < endRecords {
			group += pads
		}
		if e.bytes(group) >= groupBytes {
			need, group = need+group+e.pads(group), 0
		}
	}
	return need+group+e.pads(group) <= c.room(c.Ring, tail, next)
}

// WriteAgain makes copies of frames durable that an earlier life has written, with the
// times that they had, in order. It does not apply them. It must be called before the
// first append. Errors are those of Append.
func (l *Log) WriteAgain(frames []Frame) error {
	now, apply := l.enc.now, l.apply
	defer func() { l.enc.now, l.apply = now, apply }()
	l.apply = nil
	for i := range frames {
		nanos := frames[i].Nanos
		l.enc.now = func() int64 { return nanos }
		if i == 0 {
			l.enc.nanos = uint64(max(nanos, 0)) // Config.After is that of the last
		}
		if _, err := l.AppendAsync(frames[i].Ops); err != nil {
			return err
		}
	}
	return l.Flush()
}
