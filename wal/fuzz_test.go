package wal

import (
	"encoding/binary"
	"slices"
	"testing"
)

// FuzzRing scans arbitrary bytes, and good rings with edits: each is a record, a
// byte of it, what is xored to that byte, and whether the record's checksum is
// then made to fit. What Scan takes and says is what the plainest reading of
// FORMAT.md does.
func FuzzRing(f *testing.F) {
	s := newSample(f, 9, [][]int{{1}, {3, 5, 2}, {9}, {0, 1, 1}, {10}, {2, 9, 4}})
	f.Add(true, uint8(0), uint8(0), []byte{})
	f.Add(true, uint8(9), uint8(30), []byte{12, 30, 1, 0})
	f.Add(true, uint8(0), uint8(0), []byte{12, 30, 1, 1, 40, 56, 255, 1, 9, 0, 1, 1})
	f.Add(true, uint8(0), uint8(0), []byte{14, 0, 4 ^ 1, 1, 12, 4, 1, 0})
	f.Add(true, uint8(0), uint8(98), []byte{}) // a watermark after a ring that is full
	f.Add(false, uint8(0), uint8(9), slices.Clone(s.ring.bytes))
	for change := range byte(64) { // records of every opcode: the first, and those of a frame's end
		f.Add(true, uint8(11), uint8(30), []byte{12, 0, change, 1})
		f.Add(true, uint8(11), uint8(30), []byte{22, 0, change, 1})
		f.Add(true, uint8(11), uint8(30), []byte{23, 0, change, 1})
	}
	for at := range byte(72) { // each byte of a TXN_TIME, and of a block's last record to the end of the block
		f.Add(true, uint8(11), uint8(30), []byte{22, at, 1, 1})
		f.Add(true, uint8(11), uint8(30), []byte{23, at, 1, 1})
	}
	f.Fuzz(func(t *testing.T, edited bool, lastApplied, watermark uint8, data []byte) {
		ring := make([]byte, len(s.ring.bytes))
		if edited {
			copy(ring, s.ring.bytes)
			seal := newSealer(s.config.UUID, s.epoch.Number)
			for ; len(data) >= 4; data = data[4:] {
				seq := Seq(data[0]) % (9 * testBlockRecords)
				record := recordAt(ring, seq)
				record[int(data[1])%len(record)] ^= data[2]
				if data[3]&1 == 1 {
					seal.seal(seq, record)
				}
			}
		} else {
			copy(ring, data)
		}
		c := s.config
		c.Ring.Storage = &memory{bytes: ring}
		want, class := plainScan(ring, c, s.epoch, uint64(lastApplied), uint64(watermark))
		frames, report, err := scanAll(c, []Epoch{s.epoch}, Seq(lastApplied), Seq(watermark))
		if classOf(err) != class {
			t.Fatalf("error %v, want %v", err, class)
		}
		if !slices.EqualFunc(frames, want, sameFrame) {
			t.Fatalf("frames\n%+v\nwant\n%+v", frames, want)
		}
		if n := len(want); n > 0 && report.End != (Mark{want[n-1].Last, want[n-1].MAC, s.epoch.Number}) {
			t.Fatalf("end %+v after %d frames", report.End, n)
		}
		if report.Next%testBlockRecords != 0 || report.Next <= report.End.Sequence {
			t.Fatalf("next %d, end %d", report.Next, report.End.Sequence)
		}
	})
}

// The seeds that matter are valid: a commit that is forged whole, key and all,
// is taken, so that the comparison above is not of errors alone.
func TestPlainScanTakesTheSample(t *testing.T) {
	s := newSample(t, 20, sampleGroups)
	frames, class := plainScan(s.ring.bytes, s.config, s.epoch, 0, 0)
	if class != nil || !slices.EqualFunc(frames, s.frames, sameFrame) || len(frames) < len(sampleGroups) {
		t.Errorf("%d frames of %d, %v", len(frames), len(s.frames), class)
	}
	count := binary.LittleEndian.Uint32(recordAt(s.ring.bytes, frames[0].Last-1)[offCount:])
	if Seq(count) != frames[0].Last-frames[0].First+1 {
		t.Errorf("count %d of frame %d to %d", count, frames[0].First, frames[0].Last)
	}
}
