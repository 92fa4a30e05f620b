package wal

import (
	"errors"
	"slices"
	"testing"

	"github.com/cidstore/cidstore/internal/corrupt"
)

// scanOn reads the rest of the sample's ring, with other bytes in it, after an earlier scan.
func (s *sample) scanOn(ring []byte, before ScanReport) (frames []Frame, report ScanReport, err error) {
	c := s.config
	c.Ring.Storage = &memory{bytes: ring}
	report, err = ScanOn(c, []Epoch{s.epoch}, before, func(f Frame) error {
		frames = append(frames, copyFrame(f))
		return nil
	})
	return frames, report, err
}

// TestScanOn: two scans, of a log and of what was written to it since, find what one
// finds, wherever the first ended; damage of the second part too.
func TestScanOn(t *testing.T) {
	s := newSample(t, 32, sampleGroups)
	_, whole, err := s.scan(s.ring.bytes)
	must(t, err)
	for cut := place(s.epoch.First); cut <= place(s.end.Sequence+1); cut += RecordSize / 2 {
		ring := make([]byte, len(s.ring.bytes))
		copy(ring, s.ring.bytes[:cut])
		first, before, err := s.scan(ring)
		must(t, err)
		rest, report, err := s.scanOn(s.ring.bytes, before)
		must(t, err)
		if all := append(first, rest...); len(all) != len(s.frames) || !isPrefix(all, s.frames) {
			t.Fatalf("cut at %d: %d and %d frames, want %d", cut, len(first), len(rest), len(s.frames))
		}
		if report != whole {
			t.Fatalf("cut at %d: %+v, want %+v", cut, report, whole)
		}
		if rest, again, err := s.scanOn(s.ring.bytes, report); len(rest) > 0 || again != report || err != nil {
			t.Fatalf("nothing new: %d frames, %+v, %v", len(rest), again, err)
		}
		if cut%(16*RecordSize/5) != 0 {
			continue
		}
		for at := place(before.End.Sequence + 1); at < place(s.end.Sequence+1); at += 7 {
			ring := slices.Clone(s.ring.bytes)
			ring[at] ^= 0x10
			_, want, wantErr := s.scan(ring)
			_, got, err := s.scanOn(ring, before)
			if got != want || errors.Is(err, corrupt.Err) != errors.Is(wantErr, corrupt.Err) || (err == nil) != (wantErr == nil) {
				t.Fatalf("cut at %d, damage at %d: %+v, %v; want %+v, %v", cut, at, got, err, want, wantErr)
			}
		}
	}
}

// TestScanOnLooksNear: at the end of a long log little is read, unless a record passes
// there.
func TestScanOnLooksNear(t *testing.T) {
	const blocks = 1 << 13
	s := newSample(t, blocks, [][]int{{10}, {20}})
	_, before, err := s.scan(s.ring.bytes)
	must(t, err)
	read := 0
	counted := &counting{memory: s.ring, read: &read}
	c := s.config
	c.Ring.Storage = counted
	nothing := func(Frame) error { return errors.New("a frame that is not new") }
	if report, err := ScanOn(c, []Epoch{s.epoch}, before, nothing); report != before || err != nil {
		t.Fatalf("%+v, %v", report, err)
	}
	if read > 4*nearBytes {
		t.Errorf("%d bytes read of a ring of %d where nothing is new", read, blocks*testBlock)
	}
}

type counting struct {
	*memory
	read *int
}

func (c *counting) ReadAt(p []byte, off int64) (int, error) {
	*c.read += len(p)
	return c.memory.ReadAt(p, off)
}
