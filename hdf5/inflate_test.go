package hdf5

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	stdadler32 "hash/adler32"
	"io"
	"testing"

	library "github.com/klauspost/compress/zlib"
)

// wantInflate unpacks a stream with compress/zlib and with inflate, into as many bytes
// as there are and into more: both give the same, or both an error.
func wantInflate(t *testing.T, packed []byte, limit int) {
	t.Helper()
	var want []byte
	r, err := zlib.NewReader(bytes.NewReader(packed))
	if err == nil {
		want, err = io.ReadAll(io.LimitReader(r, int64(limit)+1))
	}
	if err == nil && len(want) > limit {
		return // the rest may be bad
	}
	for _, size := range []int{limit, len(want)} {
		got := make([]byte, size, size+1)
		n, gotErr := new(inflater).inflate(got, packed)
		if (gotErr == nil) != (err == nil) || gotErr != nil && !errors.Is(gotErr, errFilter) {
			t.Fatalf("%d bytes into %d: %v, want %v", len(packed), size, gotErr, err)
		}
		if err == nil && !bytes.Equal(got[:n], want) {
			t.Fatalf("%d bytes into %d: other bytes", len(packed), size)
		}
		if gotErr != nil {
			return
		}
	}
	if len(want) > 0 {
		if _, err := new(inflater).inflate(make([]byte, len(want)-1), packed); !errors.Is(err, errFilter) {
			t.Fatalf("into a byte too few: %v", err)
		}
	}
}

// inflateSamples are data whose streams have every kind of block and match.
func inflateSamples() [][]byte {
	seed := uint64(1)
	random := func(n int) uint64 {
		seed ^= seed << 13
		seed ^= seed >> 7
		seed ^= seed << 17
		return seed % uint64(n)
	}
	var samples [][]byte
	for _, size := range []int{0, 1, 2, 7, 300, 5000, 70000} {
		for _, symbols := range []int{1, 2, 20, 256} {
			p := make([]byte, size)
			for i := range p {
				p[i] = byte(random(symbols) * random(symbols) / uint64(symbols))
			}
			// Matches of every length at every distance.
			for i := 300; i+300 < size; i += 400 {
				copy(p[i:i+3+int(random(270))], p[i-1-int(random(300)):])
			}
			samples = append(samples, p)
		}
		periodic := make([]byte, size)
		for i := range periodic {
			periodic[i] = byte(i % (1 + i>>9))
		}
		samples = append(samples, periodic)
	}
	return samples
}

func deflated(t testing.TB, p []byte, level int) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := zlib.NewWriterLevel(&out, level)
	if err == nil {
		_, err = w.Write(p)
	}
	if err == nil {
		err = w.Close()
	}
	must(t, err)
	return out.Bytes()
}

func TestInflate(t *testing.T) {
	for _, p := range inflateSamples() {
		for _, level := range []int{zlib.HuffmanOnly, zlib.NoCompression, zlib.BestSpeed, zlib.DefaultCompression, zlib.BestCompression} {
			wantInflate(t, deflated(t, p, level), len(p)+500)
		}
	}
}

// TestInflateOfBadStreams cuts streams at every byte, and flips every bit of them.
func TestInflateOfBadStreams(t *testing.T) {
	for _, p := range inflateSamples() {
		if len(p) > 600 {
			continue
		}
		for _, level := range []int{zlib.HuffmanOnly, zlib.NoCompression, zlib.BestCompression} {
			packed := deflated(t, p, level)
			wantInflate(t, append(packed, 1, 2, 3), len(p)+500)
			for n := range packed {
				wantInflate(t, packed[:n], len(p)+500)
			}
			for i := range 8 * len(packed) {
				packed[i/8] ^= 1 << (i % 8)
				wantInflate(t, packed, len(p)+500)
				packed[i/8] ^= 1 << (i % 8)
			}
		}
	}
}

func TestAdler32(t *testing.T) {
	p := bytes.Repeat([]byte{0xff}, 70000)
	for _, sample := range append(inflateSamples(), p, p[:65535], p[:65544], p[:13]) {
		if got, want := adler32(sample), stdadler32.Checksum(sample); got != want {
			t.Errorf("%d bytes: %08x, want %08x", len(sample), got, want)
		}
	}
}

// FuzzInflate compares with compress/zlib.
func FuzzInflate(f *testing.F) {
	for i, p := range inflateSamples() {
		if len(p) <= 5000 {
			f.Add(deflated(f, p, []int{zlib.HuffmanOnly, zlib.NoCompression, 1, 9}[i%4]))
		}
	}
	// From a packed form without header and checksum, too.
	f.Fuzz(func(t *testing.T, packed []byte) {
		wantInflate(t, packed, 64<<10)
	})
}

// BenchmarkInflate unpacks numbers that wander, as they are and shuffled, with this package and
// with the fastest library.
func BenchmarkInflate(b *testing.B) {
	p := make([]byte, 1<<20)
	seed, v := uint64(1), uint32(0)
	for i := 0; i < len(p); i += 4 {
		seed = seed*6364136223846793005 + 1442695040888963407
		v += uint32(seed>>33)%101 - 50
		binary.LittleEndian.PutUint32(p[i:], v)
	}
	shuffled := make([]byte, len(p))
	for i := range p {
		shuffled[i%4*len(p)/4+i/4] = p[i]
	}
	out := make([]byte, len(p))
	for name, data := range map[string][]byte{"plain": p, "shuffled": shuffled} {
		packed := deflated(b, data, 4)
		b.Run(name+"/own", func(b *testing.B) {
			b.SetBytes(int64(len(p)))
			z := new(inflater)
			for b.Loop() {
				if n, err := z.inflate(out, packed); n != len(out) || err != nil {
					b.Fatal(n, err)
				}
			}
		})
		b.Run(name+"/klauspost", func(b *testing.B) {
			b.SetBytes(int64(len(p)))
			for b.Loop() {
				r, err := library.NewReader(bytes.NewReader(packed))
				must(b, err)
				if _, err := io.ReadFull(r, out); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
