package ecc_test

import (
	"bytes"
	"math/bits"
	"testing"

	"github.com/cidstore/cidstore/ecc"
)

// plainEncode computes the code from the equations of the format, a bit at a time.
func plainEncode(data uint8) uint8 {
	d1, d2, d3, d4 := data&1, data>>1&1, data>>2&1, data>>3&1
	p1, p2, p3 := d1^d2^d4, d1^d3^d4, d2^d3^d4
	p0 := p1 ^ p2 ^ d1 ^ p3 ^ d2 ^ d3 ^ d4
	return p1 | p2<<1 | d1<<2 | p3<<3 | d2<<4 | d3<<5 | d4<<6 | p0<<7
}

// plainDecode uses only the distance to code words, and no syndrome.
func plainDecode(code uint8) (uint8, ecc.Status) {
	for data := range uint8(16) {
		switch bits.OnesCount8(code ^ plainEncode(data)) {
		case 0:
			return data, ecc.OK
		case 1:
			return data, ecc.Corrected
		}
	}
	return 0, ecc.Uncorrectable
}

func TestCodewords(t *testing.T) {
	want := []uint8{
		0x00, 0x87, 0x99, 0x1e, 0xaa, 0x2d, 0x33, 0xb4,
		0x4b, 0xcc, 0xd2, 0x55, 0xe1, 0x66, 0x78, 0xff,
	}
	for data := range uint8(16) {
		got := ecc.Encode(data)
		if got != want[data] || got != plainEncode(data) {
			t.Errorf("Encode(%#x) = %#02x, want %#02x; the equations give %#02x", data, got, want[data], plainEncode(data))
		}
		for high := range uint8(16) {
			if other := ecc.Encode(data | high<<4); other != got {
				t.Errorf("Encode(%#x) = %#02x, want %#02x: the high bits count", data|high<<4, other, got)
			}
		}
		if back, status := ecc.Decode(got); back != data || status != ecc.OK {
			t.Errorf("Decode(%#02x) = %#x, %s; want %#x, ok", got, back, status, data)
		}
	}
}

// TestOneAndTwoErrors: each of the 128 single errors is corrected, and each of the 448 double
// ones is reported.
func TestOneAndTwoErrors(t *testing.T) {
	for data := range uint8(16) {
		for first := range 8 {
			code := ecc.Encode(data) ^ 1<<first
			if got, status := ecc.Decode(code); got != data || status != ecc.Corrected {
				t.Errorf("data %#x, bit %d flipped: Decode(%#02x) = %#x, %s", data, first, code, got, status)
			}
			for second := range first {
				code := code ^ 1<<second
				if got, status := ecc.Decode(code); got != 0 || status != ecc.Uncorrectable {
					t.Errorf("data %#x, bits %d and %d flipped: Decode(%#02x) = %#x, %s", data, first, second, code, got, status)
				}
			}
		}
	}
}

func TestEveryByteIsClassified(t *testing.T) {
	counts := make(map[ecc.Status]int)
	for code := range 256 {
		data, status := ecc.Decode(uint8(code))
		wantData, wantStatus := plainDecode(uint8(code))
		if data != wantData || status != wantStatus {
			t.Errorf("Decode(%#02x) = %#x, %s; want %#x, %s", code, data, status, wantData, wantStatus)
		}
		counts[status]++
	}
	if counts[ecc.OK] != 16 || counts[ecc.Corrected] != 128 || counts[ecc.Uncorrectable] != 112 {
		t.Errorf("classes %v, want 16 ok, 128 corrected, 112 uncorrectable", counts)
	}
}

func TestStatusString(t *testing.T) {
	for status, want := range map[ecc.Status]string{
		ecc.OK: "ok", ecc.Corrected: "corrected", ecc.Uncorrectable: "uncorrectable", 3: "unknown status",
	} {
		if got := status.String(); got != want {
			t.Errorf("Status(%d) is %q, want %q", status, got, want)
		}
	}
}

func allCodes() []uint8 {
	codes := make([]uint8, 256)
	for i := range codes {
		codes[i] = uint8(i)
	}
	return codes
}

func TestDecodeAllEqualsDecode(t *testing.T) {
	codes, dst := allCodes(), make([]uint8, 256)
	corrected, uncorrectable := ecc.DecodeAll(dst, codes)
	if corrected != 128 || uncorrectable != 112 {
		t.Errorf("DecodeAll of all bytes counts %d and %d, want 128 and 112", corrected, uncorrectable)
	}
	for code, got := range dst {
		if want, _ := ecc.Decode(uint8(code)); got != want {
			t.Errorf("DecodeAll of %#02x = %#x, want %#x", code, got, want)
		}
	}
	ecc.DecodeAll(codes, codes)
	if !bytes.Equal(codes, dst) {
		t.Error("DecodeAll in place differs from DecodeAll into another slice")
	}
}

func TestDecodeAllStopsAtTheShorterSlice(t *testing.T) {
	codes := []uint8{0x87, 0x86, 0x03, 0x99} // ok, corrected, uncorrectable, ok
	for _, c := range []struct{ dst, codes, corrected, uncorrectable int }{
		{0, 0, 0, 0}, {0, 4, 0, 0}, {4, 0, 0, 0}, {2, 4, 1, 0}, {4, 3, 1, 1}, {6, 4, 1, 1},
	} {
		dst := bytes.Repeat([]uint8{0xee}, c.dst)
		corrected, uncorrectable := ecc.DecodeAll(dst, codes[:c.codes])
		if corrected != c.corrected || uncorrectable != c.uncorrectable {
			t.Errorf("%d codes into %d: counts %d and %d", c.codes, c.dst, corrected, uncorrectable)
		}
		want := append([]uint8{1, 1, 0, 2}[:min(c.dst, c.codes)], bytes.Repeat([]uint8{0xee}, max(0, c.dst-c.codes))...)
		if !bytes.Equal(dst, want) {
			t.Errorf("%d codes into %d: %x, want %x", c.codes, c.dst, dst, want)
		}
	}
}

func TestNoAllocation(t *testing.T) {
	codes, dst := allCodes(), make([]uint8, 256)
	if n := testing.AllocsPerRun(100, func() { ecc.DecodeAll(dst, codes) }); n != 0 {
		t.Errorf("DecodeAll: %v allocations", n)
	}
}
