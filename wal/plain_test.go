package wal

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash/crc32"

	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/keys"
)

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
