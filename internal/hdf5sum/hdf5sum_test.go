package hdf5sum

import (
	"bytes"
	"math/bits"
	"math/rand/v2"
	"testing"
)

func TestChecksumVectors(t *testing.T) {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	for _, row := range []struct {
		input            string
		lookup, fletcher uint32
	}{
		{"", 0xdeadbeef, 0},
		{"a", 0x58d68708, 0x61006100},
		{"abc", 0x0e397631, 0x25c5c462},
		{"hello world", 0x4aa94e65, 0xfc2791ce},
		{"Four score and seven years ago", 0x17770551, 0x4d63ac65},
		{string(all), 0xe20e0833, 0x5575c03f},
	} {
		if got := Lookup3([]byte(row.input)); got != row.lookup {
			t.Errorf("Lookup3(%.10q) = %#08x, want %#08x", row.input, got, row.lookup)
		}
		if got := Fletcher32([]byte(row.input)); got != row.fletcher {
			t.Errorf("Fletcher32(%.10q) = %#08x, want %#08x", row.input, got, row.fletcher)
		}
	}
	if got := Fletcher32(bytes.Repeat([]byte{0xff}, 64)); got != 0xffffffff {
		t.Errorf("fletcher32 of all ones = %#08x, want ffffffff", got)
	}
}

// plainFletcher32 adds word by word.
func plainFletcher32(p []byte) uint32 {
	var sum1, sum2 uint32
	fold := func() {
		sum1 = sum1&0xffff + sum1>>16
		sum2 = sum2&0xffff + sum2>>16
	}
	for i := 0; i < len(p); i += 2 {
		word := uint32(p[i]) << 8
		if i+1 < len(p) {
			word |= uint32(p[i+1])
		}
		sum1 += word
		sum2 += sum1
		if i%720 == 718 || i+1 == len(p) || len(p)-i == 2 {
			fold()
		}
	}
	fold()
	return sum2<<16 | sum1
}

// plainLookup3 is lookup3 with the mixing steps as a table.
func plainLookup3(p []byte) uint32 {
	s := [3]uint32{}
	for i := range s {
		s[i] = 0xdeadbeef + uint32(len(p))
	}
	if len(p) == 0 {
		return s[2]
	}
	add := func(block []byte) {
		for i, b := range block {
			s[i/4] += uint32(b) << (8 * (i % 4))
		}
	}
	for ; len(p) > 12; p = p[12:] {
		add(p[:12])
		for i, k := range []int{4, 6, 8, 16, 19, 4} {
			x, y, z := &s[i%3], &s[(i+1)%3], &s[(i+2)%3]
			*x -= *z
			*x ^= bits.RotateLeft32(*z, k)
			*z += *y
		}
	}
	add(p)
	for i, k := range []int{14, 11, 25, 16, 4, 14, 24} {
		x, y := &s[(i+2)%3], &s[(i+1)%3]
		*x ^= *y
		*x -= bits.RotateLeft32(*y, k)
	}
	return s[2]
}

func TestChecksumsAgainstPlainOnes(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for n := range 3000 {
		p := make([]byte, n)
		for i := range p {
			p[i] = byte(rng.Uint32())
			if n%5 == 0 {
				p[i] |= 0xfe // near the largest sums
			}
		}
		if got, want := Fletcher32(p), plainFletcher32(p); got != want {
			t.Fatalf("fletcher32 of %d bytes: %#08x, want %#08x", n, got, want)
		}
		if got, want := Lookup3(p), plainLookup3(p); got != want {
			t.Fatalf("lookup3 of %d bytes: %#08x, want %#08x", n, got, want)
		}
	}
}

func BenchmarkChecksum12288(b *testing.B) {
	p := make([]byte, 12288)
	for name, sum := range map[string]func([]byte) uint32{"lookup3": Lookup3, "fletcher32": Fletcher32} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(p)))
			for b.Loop() {
				sum(p)
			}
		})
	}
}
