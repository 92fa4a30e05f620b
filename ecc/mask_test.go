package ecc_test

import (
	"math"
	"math/bits"
	"testing"

	"github.com/cidstore/cidstore/ecc"
)

func TestMaskOf(t *testing.T) {
	for n, want := range map[int]ecc.Mask{
		0: 0x00, 1: 0x87, 2: 0x1e, 3: 0xb4, 4: 0xff, // codes of 0, 1, 3, 7, 15
		-1: ecc.InvalidMask, 5: ecc.InvalidMask, math.MinInt: ecc.InvalidMask, math.MaxInt: ecc.InvalidMask,
	} {
		if got := ecc.MaskOf(n); got != want {
			t.Errorf("MaskOf(%d) = %#02x, want %#02x", n, got, want)
		}
	}
	if data, status := ecc.InvalidMask.Data(); data != 0 || status != ecc.Uncorrectable {
		t.Errorf("InvalidMask is data %#x, %s", data, status)
	}
}

func TestMaskCount(t *testing.T) {
	for code := range 256 {
		data, status := ecc.Decode(uint8(code))
		n, ok := ecc.Mask(code).Count()
		// The slots are the first n when the data is one of these five.
		first := data == 0 || data == 1 || data == 3 || data == 7 || data == 15
		if ok != (status != ecc.Uncorrectable && first) {
			t.Errorf("mask %#02x, data %#x, %s: ok %t", code, data, status, ok)
		}
		if want := bits.OnesCount8(data); ok && n != want || !ok && n != 0 {
			t.Errorf("mask %#02x, data %#x: Count %d, %t; want %d", code, data, n, ok, want)
		}
	}
	for n := range ecc.Slots + 1 {
		if got, ok := ecc.MaskOf(n).Count(); got != n || !ok {
			t.Errorf("MaskOf(%d).Count() = %d, %t", n, got, ok)
		}
	}
}

func TestMaskCorrect(t *testing.T) {
	for code := range 256 {
		m := ecc.Mask(code)
		data, status := m.Data()
		want := m
		if status != ecc.Uncorrectable {
			want = ecc.Mask(plainEncode(data))
		}
		if word, got := m.Correct(); word != want || got != status {
			t.Errorf("mask %#02x corrected to %#02x, %s; want %#02x, %s", code, word, got, want, status)
		}
	}
}
