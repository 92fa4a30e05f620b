package wal

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/cidstore/cidstore/internal/corrupt"
)

func TestSwitchedRingHoldsWhatFollows(t *testing.T) {
	c := testConfig(newMemory(4))
	l, e := newLog(c)
	var want []Op
	grow := func(blocks int) error {
		resume := l.Pause()
		defer resume()
		r := Ring{newMemory(blocks), l.Next()}
		err := l.SwitchRing(r)
		if err == nil {
			c.Old, c.Ring = c.Ring, r
		}
		return err
	}
	add := func(times int) {
		t.Helper()
		for range times {
			ops := someOps(5, uint64(len(want)))
			_, err := l.Append(ops)
			must(t, err)
			want = append(want, ops...)
		}
	}
	check := func(epochs []Epoch, applied Seq) {
		t.Helper()
		frames, report, err := scanAll(c, epochs, applied, applied)
		must(t, err)
		if !slices.Equal(operations(frames), want) || report.End != l.Mark() {
			t.Fatalf("%d frames up to %d, want %d operations up to %d", len(frames), report.End.Sequence, len(want), l.Mark().Sequence)
		}
		var live []Op
		must(t, l.Replay(func(f Frame) error { live = append(live, f.Ops...); return nil }))
		if !slices.Equal(live, want) {
			t.Fatalf("%d live operations, want %d", len(live), len(want))
		}
	}
	add(3)
	must(t, grow(9))
	check([]Epoch{e}, 0)
	add(6)
	check([]Epoch{e}, 0)
	if err := grow(32); err == nil {
		t.Error("a third ring while the first has live records")
	}
	l.Truncate(l.Mark().Sequence)
	epochs := TrimEpochs([]Epoch{e}, l.Mark())
	applied := l.Mark().Sequence
	l.DropOld()
	c.Old, want = Ring{}, nil
	add(2)
	check(epochs, applied)
	must(t, grow(32))
	add(4)
	check(epochs, applied)

	// A record of the old ring that rots is seen, and named as one of it.
	m := c.Old.Storage.(*memory)
	at := c.place(c.Old, applied+1)
	m.bytes[at+8] ^= 1
	_, _, err := scanAll(c, epochs, applied, applied)
	var damaged *corrupt.Error
	if !errors.As(err, &damaged) || damaged.Structure[:3] != "old" || damaged.Offset != at {
		t.Errorf("flipped bit in the old ring at %#x: %v", at, err)
	}
	if err := l.Audit(0, nil); !errors.Is(err, corrupt.Err) || l.Stats().AuditFailures != 1 {
		t.Errorf("audit: %v, stats %+v", err, l.Stats())
	}
}

func TestSwitchRingRefuses(t *testing.T) {
	c := testConfig(newMemory(4))
	l, _ := newLog(c)
	next := l.Next()
	for name, r := range map[string]Ring{
		"begins elsewhere":  {newMemory(8), next + testBlockRecords},
		"too small":         {newMemory(2), next},
		"no whole blocks":   {&memory{bytes: make([]byte, 4*testBlock+RecordSize)}, next},
		"begins in a block": {newMemory(8), next + 1},
	} {
		if err := l.SwitchRing(r); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if l.Room() != 4*testBlockRecords {
		t.Errorf("room %d", l.Room())
	}
}

// The rings, blocks, epochs and sequences come from the file: none of them may
// make the scan read outside, divide by zero or run without end.
func TestHostileGeometryIsRefused(t *testing.T) {
	good := newSample(t, 20, sampleGroups)
	for name, change := range map[string]func(*Config, *[]Epoch, *Seq, *Seq){
		"block 0":                func(c *Config, _ *[]Epoch, _, _ *Seq) { c.Block = 0 },
		"block of a record":      func(c *Config, _ *[]Epoch, _, _ *Seq) { c.Block = RecordSize },
		"block not of records":   func(c *Config, _ *[]Epoch, _, _ *Seq) { c.Block = 500 },
		"block too large":        func(c *Config, _ *[]Epoch, _, _ *Seq) { c.Block = 2 * maxBlock },
		"ring of nothing":        func(c *Config, _ *[]Epoch, _, _ *Seq) { c.Ring.Storage = newMemory(0) },
		"old ring of nothing":    func(c *Config, _ *[]Epoch, _, _ *Seq) { c.Old.Storage = newMemory(0) },
		"ring begins too late":   func(c *Config, _ *[]Epoch, _, _ *Seq) { c.Ring.First = 1 << 63 },
		"ring after the epoch":   func(c *Config, _ *[]Epoch, _, _ *Seq) { c.Ring.First = 2 * testBlockRecords },
		"applied too late":       func(_ *Config, _ *[]Epoch, applied, _ *Seq) { *applied = 1<<64 - 1 },
		"watermark too late":     func(_ *Config, _ *[]Epoch, _, watermark *Seq) { *watermark = 1<<64 - 1 },
		"watermark after all":    func(_ *Config, _ *[]Epoch, _, watermark *Seq) { *watermark = 300 },
		"first 0":                func(_ *Config, e *[]Epoch, _, _ *Seq) { (*e)[0].First = 0 },
		"first in a block":       func(_ *Config, e *[]Epoch, _, _ *Seq) { (*e)[0].First = testBlockRecords + 1 },
		"end before first":       func(_ *Config, e *[]Epoch, _, _ *Seq) { (*e)[0].End = 1 },
		"end too late":           func(_ *Config, e *[]Epoch, _, _ *Seq) { (*e)[0].End = 1 << 63 },
		"end far after the ring": func(_ *Config, e *[]Epoch, _, _ *Seq) { (*e)[0].End = 1 << 60 },
		"end in a frame":         func(_ *Config, e *[]Epoch, _, _ *Seq) { (*e)[0].End = testBlockRecords + 4 },
		"two open epochs": func(_ *Config, e *[]Epoch, _, _ *Seq) {
			*e = append(*e, Epoch{Number: 2, First: 20 * testBlockRecords, End: NoEnd})
		},
		"a number twice": func(_ *Config, e *[]Epoch, _, _ *Seq) {
			*e = append(*e, Epoch{Number: 1, First: 20 * testBlockRecords, End: 20 * testBlockRecords})
		},
		"epochs overlap": func(_ *Config, e *[]Epoch, _, _ *Seq) {
			(*e)[0].End = 4 * testBlockRecords
			*e = append(*e, Epoch{Number: 2, First: 3 * testBlockRecords, End: NoEnd})
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, epochs, applied, watermark := good.config, []Epoch{good.epoch}, Seq(0), Seq(0)
			change(&c, &epochs, &applied, &watermark)
			frames, _, err := scanAll(c, epochs, applied, watermark)
			if !errors.Is(err, corrupt.Err) || !isPrefix(frames, good.frames) {
				t.Errorf("%d frames, error %v", len(frames), err)
			}
		})
	}
}

// A hostile first sequence of the ring makes the gap to the old one as long as
// one likes; the search after a tear must not walk it.
func TestSearchSkipsTheGapBetweenRings(t *testing.T) {
	c := testConfig(newMemory(8))
	c.Old, c.Ring.First = Ring{Storage: newMemory(8)}, testBlockRecords<<57
	_, report, err := scanAll(c, []Epoch{firstEpoch(testBlock)}, 0, 0)
	if err != nil || report.TornAt != 0 {
		t.Errorf("report %+v, error %v", report, err)
	}
}

func TestNewRefuses(t *testing.T) {
	for name, change := range map[string]func(c *Config, e *Epoch, next, watermark, tail *Seq){
		"block":     func(c *Config, _ *Epoch, _, _, _ *Seq) { c.Block = 100 },
		"epoch":     func(_ *Config, e *Epoch, _, _, _ *Seq) { e.First = 3 },
		"next":      func(_ *Config, _ *Epoch, next, _, _ *Seq) { *next += testBlockRecords },
		"ring":      func(c *Config, _ *Epoch, _, _, _ *Seq) { c.Ring.First = 5 * testBlockRecords },
		"watermark": func(_ *Config, _ *Epoch, _, watermark, _ *Seq) { *watermark++ },
		"tail":      func(_ *Config, _ *Epoch, _, _, tail *Seq) { *tail++ },
		"no tail":   func(_ *Config, _ *Epoch, _, _, tail *Seq) { *tail = 0 },
		"earlier":   func(c *Config, e *Epoch, _, _, _ *Seq) { c.Earlier = []Epoch{*e} },
	} {
		m := newMemory(8)
		c, e := testConfig(m), firstEpoch(testBlock)
		next, watermark, tail := e.First, e.First-1, e.First
		change(&c, &e, &next, &watermark, &tail)
		l := New(c, e, next, watermark, tail)
		if _, err := l.Append(someOps(1, 1)); !errors.Is(err, ErrPoisoned) || m.writes != 0 {
			t.Errorf("%s: append: %v", name, err)
		}
		if err := l.Audit(0, nil); err == nil && l.Failed() == nil {
			t.Errorf("%s: not failed", name)
		}
	}
}

// resealed changes a record of a sample and gives it the checksum that fits.
func resealed(s sample, seq Seq, change func(record []byte)) []byte {
	ring := slices.Clone(s.ring.bytes)
	record := recordAt(ring, seq)
	change(record)
	newSealer(s.config.UUID, s.epoch.Number).seal(seq, record)
	return ring
}

// What passes its checksum and cannot be ours is an error, with its place.
func TestWrongRecordsThatPass(t *testing.T) {
	s := newSample(t, 20, sampleGroups)
	commit, first, last := s.frames[1].Last, s.frames[1].First, Seq(2*testBlockRecords-1)
	for _, c := range []struct {
		name   string
		seq    Seq
		want   error
		change func(r []byte)
	}{
		{"unknown opcode", first, corrupt.Err, func(r []byte) { r[offVersionOp] = 7 }},
		{"opcode 0", first, corrupt.Err, func(r []byte) { r[offVersionOp] = 0 }},
		{"TXN_START", first, corrupt.Err, func(r []byte) { r[offVersionOp] = 3 }},
		{"TXN_ABORT", first, corrupt.Err, func(r []byte) { r[offVersionOp] = 5 }},
		{"wrong lap", first, corrupt.Err, func(r []byte) { r[offVersionOp] += 1 << lapShift }},
		{"flags", first, corrupt.Err, func(r []byte) { r[offFlags] = 1 }},
		{"reserved", first, corrupt.Err, func(r []byte) { r[offReserved+1] = 1 }},
		{"end of the block", last, corrupt.Err, func(r []byte) { r[len(r)-1] = 1 }},
		{"end of the last record", last, corrupt.Err, func(r []byte) { r[RecordSize] = 1 }},
		{"relation", commit - 1, corrupt.Err, func(r []byte) { r[offRelation] = 1 }},
		{"end of the time", commit - 1, corrupt.Err, func(r []byte) { r[offTimeReserved+3] = 1 }},
		{"watermark ahead", commit - 1, corrupt.Err, func(r []byte) { binary.LittleEndian.PutUint64(r[offWatermark:], uint64(commit-1)) }},
		{"a commit too many", first, corrupt.Err, func(r []byte) { r[offVersionOp] = byte(Commit) }},
		{"key", first, ErrTampered, func(r []byte) { r[offKeyHigh]++ }},
		{"opcode", first, ErrTampered, func(r []byte) { r[offVersionOp] ^= byte(Insert ^ Delete) }},
		{"time", commit - 1, ErrTampered, func(r []byte) { r[offNanos]++ }},
		{"count", commit - 1, ErrTampered, func(r []byte) { r[offCount]++ }},
		{"watermark", commit - 1, ErrTampered, func(r []byte) { r[offWatermark]++ }},
		{"MAC", commit, ErrTampered, func(r []byte) { r[offMAC+31]++ }},
	} {
		frames, _, err := s.scan(resealed(s, c.seq, c.change))
		if !errors.Is(err, c.want) || !isPrefix(frames, s.frames) || len(frames) > 1 {
			t.Errorf("%s: %d frames, error %v, want %v", c.name, len(frames), err, c.want)
		}
		var damaged *corrupt.Error
		if c.want == corrupt.Err && errors.As(err, &damaged) && damaged.Offset != int64(place(c.seq)) {
			t.Errorf("%s: place %#x, want %#x", c.name, damaged.Offset, place(c.seq))
		}
	}
	// A frame has one TXN_TIME, before its end.
	ring := resealed(s, commit-1, func(r []byte) { r[offVersionOp] = byte(Pad) })
	if _, _, err := s.scan(ring); !errors.Is(err, corrupt.Err) {
		t.Errorf("no time: %v", err)
	}
	ring = resealed(s, first, func(r []byte) { r[offVersionOp] = byte(Time); clear(r[offNanos:]) })
	if _, _, err := s.scan(ring); !errors.Is(err, corrupt.Err) {
		t.Errorf("a time too many: %v", err)
	}
	// After a tear too, where frames are not read.
	time := s.frames[len(s.frames)-1].Last - 1
	ring = resealed(s, time, func(r []byte) { binary.LittleEndian.PutUint64(r[offWatermark:], uint64(time)) })
	clear(recordAt(ring, s.epoch.First))
	if _, _, err := s.scan(ring); !errors.Is(err, corrupt.Err) {
		t.Errorf("watermark ahead after a tear: %v", err)
	}
}

// An error of the visit ends the scan and comes back as it is.
func TestVisitStops(t *testing.T) {
	s := newSample(t, 20, sampleGroups)
	stop := errors.New("stop")
	for n := range s.frames {
		visits := 0
		report, err := Scan(s.config, []Epoch{s.epoch}, 0, 0, func(Frame) error {
			if visits++; visits > n {
				return stop
			}
			return nil
		})
		if err != stop || visits != n+1 || report.Frames != n+1 {
			t.Errorf("stopped at %d: %d visits, %d frames, error %v", n, visits, report.Frames, err)
		}
	}
}

// Frames that no watermark covers are marked: those of the last group alone,
// if the slot does not know better.
func TestFramesPastTheWatermarkAreMarked(t *testing.T) {
	s := newSample(t, 20, sampleGroups)
	lastGroup := s.frames[len(s.frames)-1].Watermark
	for _, watermark := range []Seq{0, lastGroup, s.end.Sequence} {
		_, err := Scan(s.config, []Epoch{s.epoch}, 0, watermark, func(f Frame) error {
			if want := f.Last > max(lastGroup, watermark); f.PastWatermark != want {
				t.Errorf("slot's watermark %d: frame up to %d is marked: %v", watermark, f.Last, f.PastWatermark)
			}
			return nil
		})
		must(t, err)
	}
}
