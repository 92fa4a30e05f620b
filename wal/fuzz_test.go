package wal

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"slices"
	"testing"

	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/keys"
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

// plainRing is a ring of one epoch, read with none of the package's code.
type plainRing struct {
	ring  []byte
	c     Config
	epoch uint64
	block uint64 // bytes
	r, n  uint64 // records of a block, and of the ring
}

// at is a record, with the end of the block if it is the last there.
func (p *plainRing) at(seq uint64) []byte {
	record := p.ring[seq%p.n/p.r*p.block+seq%p.r*40:]
	if seq%p.r == p.r-1 {
		return record[:p.block-(p.r-1)*40]
	}
	return record[:40]
}

func (p *plainRing) good(seq uint64) bool {
	whole := append([]byte(nil), p.c.UUID[:]...)
	whole = binary.LittleEndian.AppendUint64(whole, p.epoch)
	whole = binary.LittleEndian.AppendUint64(whole, seq)
	head := len(whole)
	whole = append(whole, p.at(seq)...)
	clear(whole[head+4 : head+8])
	return crc32.Checksum(whole, crc32.MakeTable(crc32.Castagnoli)) == binary.LittleEndian.Uint32(p.at(seq)[4:])
}

// plainScan reads a ring of one epoch, from lastApplied on: the words of FORMAT.md in the
// plainest way. class is what Scan's error must match, or nil.
func plainScan(ring []byte, c Config, e Epoch, lastApplied, watermark uint64) (frames []Frame, class error) {
	block := uint64(c.Block)
	n := uint64(len(ring)) / block * (block / 40)
	p := plainRing{ring, c, e.Number, block, block / 40, n}
	at, good := p.at, p.good
	u64, u32 := binary.LittleEndian.Uint64, binary.LittleEndian.Uint32
	first := max(uint64(e.First), lastApplied+1)
	before := e.Anchor
	start := first
	var ops []Op
	seq := first
	for time := []byte(nil); good(seq); seq++ {
		r := at(seq)
		code := Opcode(r[0] & 63)
		known := bytes.IndexByte([]byte{1, 2, 4, 6, 8, 9, 10, 11, 20, 21, 22, 23, 24}, byte(code)) >= 0
		if !known || uint64(r[0]>>6) != seq/n%4 || r[1] != 0 || r[2] != 0 || r[3] != 0 || !bytes.Equal(r[40:], make([]byte, len(r)-40)) {
			return frames, corrupt.Err
		}
		if code == 8 && (u32(r[20:]) != 0 || u64(r[24:]) >= seq || u32(r[36:]) != 0) {
			return frames, corrupt.Err
		}
		if (code == 4) != (time != nil) {
			return frames, corrupt.Err
		}
		if code == 8 {
			time = r
			watermark = max(watermark, u64(r[24:]))
			continue
		}
		if code != 4 {
			if code != 9 {
				ops = append(ops, Op{code, keys.E{High: u64(r[8:]), Low: u64(r[16:])}, keys.E{High: u64(r[24:]), Low: u64(r[32:])}})
			}
			continue
		}
		mac := hmac.New(sha256.New, c.Key)
		mac.Write(binary.LittleEndian.AppendUint64(nil, e.Number))
		mac.Write(before[:])
		for s := start; s < seq; s++ {
			mac.Write(at(s))
		}
		last := append([]byte(nil), r...)
		clear(last[4:40])
		mac.Write(last)
		if !bytes.Equal(mac.Sum(nil), r[8:40]) {
			return frames, ErrTampered
		}
		if uint64(u32(time[32:])) != seq-start+1 {
			return frames, corrupt.Err
		}
		copy(before[:], r[8:40])
		frames = append(frames, Frame{
			First: Seq(start), Last: Seq(seq), Epoch: e.Number, MAC: before, Ops: ops,
			Watermark: Seq(u64(time[24:])), Nanos: int64(min(u64(time[8:]), 1<<63-1)),
		})
		start, ops, time = seq+1, nil, nil
	}
	for s := seq + 1; s < seq+n; s++ {
		if r := at(s); r[0]&63 == 8 && uint64(r[0]>>6) == s/n%4 && good(s) {
			if u64(r[24:]) >= s {
				return frames, corrupt.Err
			}
			watermark = max(watermark, u64(r[24:]))
		}
	}
	if seq <= watermark {
		return frames, corrupt.Err
	}
	return frames, nil
}

// classOf returns what plainScan says of the same error.
func classOf(err error) error {
	for _, class := range []error{ErrTampered, corrupt.Err} {
		if errors.Is(err, class) {
			return class
		}
	}
	return err
}
