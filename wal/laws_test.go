package wal

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cidstore/cidstore/internal/corrupt"
)

// The laws of this file return what broke them: with the tag seedbug, the seeded
// faults must each break one.

// sample is a ring with groups of several frames: sizes as given, a flush after
// each slice.
type sample struct {
	ring   *memory
	config Config
	epoch  Epoch
	frames []Frame // all of them
	end    Mark
}

func newSample(t testing.TB, blocks int, groups [][]int) sample {
	t.Helper()
	m := newMemory(blocks)
	c := testConfig(m)
	l, e := newLog(c)
	for g, sizes := range groups {
		for i, n := range sizes {
			_, err := l.AppendAsync(someOps(n, uint64(g*100+i)))
			must(t, err)
		}
		must(t, l.Flush())
	}
	frames, report, err := scanAll(c, []Epoch{e}, 0, 0)
	must(t, err)
	if report.End != l.Mark() {
		t.Fatalf("sample ends at %v, want %v", report.End, l.Mark())
	}
	return sample{m, c, e, frames, l.Mark()}
}

// scan reads the sample's ring with other bytes in it.
func (s *sample) scan(ring []byte) ([]Frame, ScanReport, error) {
	c := s.config
	c.Ring.Storage = &memory{bytes: ring}
	return scanAll(c, []Epoch{s.epoch}, 0, 0)
}

func sameFrame(a, b Frame) bool {
	return a.First == b.First && a.Last == b.Last && a.Epoch == b.Epoch && a.MAC == b.MAC &&
		a.Watermark == b.Watermark && a.Nanos == b.Nanos && slices.Equal(a.Ops, b.Ops)
}

// isPrefix reports whether frames are the first of all.
func isPrefix(frames, all []Frame) bool {
	return len(frames) <= len(all) && slices.EqualFunc(frames, all[:len(frames)], sameFrame)
}

// sampleGroups has frames that end a block by themselves, with one pad, and with more.
var sampleGroups = [][]int{{1}, {3, 5, 2}, {13}, {0, 1, 1}, {10}, {9}, {2, 9, 4}}

// lawCut: what is before any byte is a prefix of the frames, whatever is
// after it.
func lawCut(s sample) error {
	first, end := place(s.epoch.First), place(s.end.Sequence+1)
	noise := make([]byte, len(s.ring.bytes))
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	for cut := first; cut <= end; cut++ {
		for _, rest := range [][]byte{make([]byte, len(noise)), noise} {
			ring := append(slices.Clone(s.ring.bytes[:cut]), rest[cut:]...)
			want := 0 // frames whose bytes are all there, cut or not: some are zero anyway
			for want < len(s.frames) {
				end := place(s.frames[want].Last + 1)
				if !bytes.Equal(ring[:end], s.ring.bytes[:end]) {
					break
				}
				want++
			}
			frames, report, err := s.scan(ring)
			if err != nil || len(frames) != want || !isPrefix(frames, s.frames) {
				return fmt.Errorf("cut at %d: %d frames, want %d: %w", cut, len(frames), want, err)
			}
			if want > 0 && report.End != (Mark{frames[want-1].Last, frames[want-1].MAC, 1}) {
				return fmt.Errorf("cut at %d: end %v", cut, report.End)
			}
		}
	}
	return nil
}

// lawFlip: a flipped bit at or below the last watermark is an error; above, the
// log ends there or is an error; nowhere is there a frame that was not written.
func lawFlip(s sample) error {
	watermark := s.frames[len(s.frames)-1].Watermark
	ring := slices.Clone(s.ring.bytes)
	for seq := s.epoch.First; seq <= s.end.Sequence; seq++ {
		for bit := range len(recordAt(ring, seq)) * 8 {
			at := place(seq) + bit/8
			ring[at] ^= 1 << (bit % 8)
			frames, _, err := s.scan(ring)
			ring[at] ^= 1 << (bit % 8)
			if !isPrefix(frames, s.frames) || len(frames) == len(s.frames) {
				return fmt.Errorf("record %d, bit %d: %d frames of %d, or others", seq, bit, len(frames), len(s.frames))
			}
			if known := errors.Is(err, corrupt.Err); seq <= watermark && !known || err != nil && !known {
				return fmt.Errorf("record %d, bit %d: watermark %d, and the scan says %w", seq, bit, watermark, err)
			}
		}
	}
	return nil
}

// lawGhost: records of an earlier life, after those that a later one has
// written at the same sequences with the same contents, never pass; not even
// where both lives have the same anchor and clock.
func lawGhost(t testing.TB) error {
	s := newSample(t, 20, [][]int{{3}, {20}})
	before := s.frames[1] // the pads of the first group
	// The second group is torn: its first block was never written.
	start := place(before.Last + 1)
	m := &memory{bytes: slices.Clone(s.ring.bytes)}
	clear(m.bytes[start : start+testBlock])
	c := testConfig(m)
	_, report, err := scanAll(c, []Epoch{s.epoch}, 0, 0)
	if err != nil || report.End.Sequence != before.Last || report.TornAt != before.Last+1 || report.Discarded != testBlockRecords {
		return fmt.Errorf("torn group: %+v, %w", report, err)
	}
	// A second life begins there, does the same, and is torn in another place.
	old, present := s.epoch, Epoch{Number: 2, First: report.Next, End: NoEnd, Anchor: before.MAC}
	old.End = report.Next
	for range 2 {
		c.Now()
	}
	ghosts := slices.Clone(m.bytes)
	l := New(c, present, present.First, before.Last, s.epoch.First)
	if _, err := l.AppendAsync(someOps(20, 100)); err != nil {
		return err
	}
	if err := l.Flush(); err != nil {
		return err
	}
	copy(m.bytes[start+testBlock:], ghosts[start+testBlock:])
	frames, report, err := scanAll(c, []Epoch{old, present}, 0, 0)
	if err != nil || len(frames) != 2 || report.Discarded != testBlockRecords {
		return fmt.Errorf("second life: %d frames, %d records discarded: %w", len(frames), report.Discarded, err)
	}
	return nil
}

// lawWrap: with anchors from TrimEpochs the chain goes on over many laps.
func lawWrap(blocks int) error {
	c := testConfig(newMemory(blocks))
	l, e := newLog(c)
	epochs := []Epoch{e}
	var applied Mark
	for i := range 100 {
		ops := someOps(1+i%6, uint64(i))
		if l.Room() < RecordsFor(len(ops), testBlock) {
			applied = l.Mark()
			l.Truncate(applied.Sequence)
			epochs = TrimEpochs(epochs, applied)
		}
		if _, err := l.Append(ops); err != nil {
			return err
		}
		frames, report, err := scanAll(c, epochs, applied.Sequence, applied.Sequence)
		switch {
		case err != nil:
			return fmt.Errorf("append %d: %w", i, err)
		case len(frames) == 0 || !slices.Equal(frames[len(frames)-1].Ops, ops) || report.End != l.Mark():
			return fmt.Errorf("append %d: %d frames up to %d, want the last to end at %d", i, len(frames), report.End.Sequence, l.Mark().Sequence)
		}
		if err := l.Audit(0, nil); err != nil {
			return fmt.Errorf("append %d: audit: %w", i, err)
		}
		if err := l.Audit(3, rand.IntN); err != nil {
			return fmt.Errorf("append %d: audit of a sample: %w", i, err)
		}
	}
	if s := l.Stats(); s.Truncations == 0 || s.Groups != 100 || s.Frames != 100 || s.AuditFailures != 0 {
		return fmt.Errorf("stats %+v, want truncations and 100 groups of a frame", s)
	}
	return nil
}

// smallSample is for the laws that scan once a bit or a byte.
func smallSample(t testing.TB) sample {
	return newSample(t, 8, [][]int{{1}, {3, 1}, {11}, {0, 2}, {10}})
}

func TestCutLeavesAPrefix(t *testing.T) { must(t, lawCut(smallSample(t))) }
func TestFlippedBitIsSeen(t *testing.T) { must(t, lawFlip(smallSample(t))) }
func TestGhostsDoNotPass(t *testing.T)  { must(t, lawGhost(t)) }

func TestRingWraps(t *testing.T) {
	for _, blocks := range []int{3, 4, 5, 16} {
		must(t, lawWrap(blocks))
	}
}

// A block that landed in another's place, of this lap or an earlier one, is an
// error or the end of the log.
func TestMisdirectedBlockDoesNotPass(t *testing.T) {
	s := newSample(t, 20, sampleGroups)
	blocks := len(s.ring.bytes) / testBlock
	watermark := s.frames[len(s.frames)-1].Watermark
	for from := range blocks {
		for to := 1; to <= int(s.end.Sequence)/testBlockRecords; to++ {
			if from == to {
				continue
			}
			ring := slices.Clone(s.ring.bytes)
			copy(ring[to*testBlock:(to+1)*testBlock], s.ring.bytes[from*testBlock:])
			frames, _, err := s.scan(ring)
			if !isPrefix(frames, s.frames) || len(frames) == len(s.frames) {
				t.Fatalf("block %d over %d: %d frames, or others", from, to, len(frames))
			}
			if durable := Seq(to*testBlockRecords) <= watermark; durable != errors.Is(err, corrupt.Err) {
				t.Fatalf("block %d over %d: %v", from, to, err)
			}
		}
	}
}
