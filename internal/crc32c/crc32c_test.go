package crc32c

import (
	"encoding/binary"
	"testing"
)

func TestSum(t *testing.T) {
	// The check value of CRC-32C in the catalogue of CRC algorithms.
	if got := Sum([]byte("123456789")); got != 0xe3069283 {
		t.Errorf("sum %#08x, want 0xe3069283", got)
	}
}

func TestExtend(t *testing.T) {
	p := []byte("the checksum of a part continues over the rest")
	for i := range p {
		if got, want := Extend(Sum(p[:i]), p[i:]), Sum(p); got != want {
			t.Errorf("cut at %d: %#08x, want %#08x", i, got, want)
		}
	}
}

func TestExtendUint64(t *testing.T) {
	for _, n := range []uint64{0, 1, 0x0102030405060708, 1<<64 - 1} {
		want := Extend(0x12345678, binary.LittleEndian.AppendUint64(nil, n))
		if got := ExtendUint64(0x12345678, n); got != want {
			t.Errorf("%#x: %#08x, want %#08x", n, got, want)
		}
	}
	if n := testing.AllocsPerRun(10, func() { ExtendUint64(1, 2) }); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}
