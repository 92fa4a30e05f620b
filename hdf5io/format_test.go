package hdf5io

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/cidstore/cidstore/internal/corrupt"

	"errors"
)

// unhex reads hex digits; "xx*n" repeats a byte, text in quotes stands for
// itself, | and space only separate.
func unhex(t rapid.TB, text string) []byte {
	t.Helper()
	var out []byte
	for i, part := range strings.Split(text, `"`) {
		if i%2 == 1 {
			out = append(out, part...)
			continue
		}
		for _, word := range strings.Fields(strings.ReplaceAll(part, "|", " ")) {
			digits, times, repeated := strings.Cut(word, "*")
			b, err := hex.DecodeString(digits)
			if err != nil {
				t.Fatalf("%q: %v", word, err)
			}
			n := 1
			if repeated {
				n = int(times[0] - '0')
			}
			out = append(out, bytes.Repeat(b, n)...)
		}
	}
	return out
}

func sameBytes(t rapid.TB, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("encoding differs\n got % x\nwant % x", got, want)
	}
}

// cutAndFlip calls parse with every shorter beginning of p and with every bit
// of p flipped, and expects a corrupt error from each.
func cutAndFlip(t *testing.T, p []byte, parse func(p []byte) error) {
	t.Helper()
	if err := parse(p); err != nil {
		t.Fatalf("intact: %v", err)
	}
	for n := range p {
		if err := parse(p[:n:n]); !errors.Is(err, corrupt.Err) {
			t.Fatalf("cut at byte %d: error %v, want a corrupt one", n, err)
		}
	}
	for bit := range 8 * len(p) {
		q := bytes.Clone(p)
		q[bit/8] ^= 1 << (bit % 8)
		if err := parse(q); !errors.Is(err, corrupt.Err) {
			t.Fatalf("bit %d of byte %d flipped: error %v, want a corrupt one", bit%8, bit/8, err)
		}
	}
}

func TestSuperblockBytes(t *testing.T) {
	s := superblock{endOfFile: 20672, root: 20552}
	want := unhex(t, `89 48 44 46 0d 0a 1a 0a | 03 08 08 00 | 00*8 | ff*8 | c0 50 00*6 | 48 50 00*6 | e3 3f 55 d5`)
	sameBytes(t, s.append(nil), want)
	if got, err := parseSuperblock(want); got != s || err != nil {
		t.Errorf("parsed %+v, %v, want %+v", got, err, s)
	}
	cutAndFlip(t, want, func(p []byte) error { _, err := parseSuperblock(p); return err })
}

// element is a compound with an array of compounds in it: 159 bytes of datatype.
var element = Compound(96,
	Field{"key_high", 0, Uint(8)}, Field{"key_low", 8, Uint(8)},
	Field{"slots", 16, Array(Compound(16, Field{"high", 0, Uint(8)}, Field{"low", 8, Uint(8)}), 4)},
	Field{"state_mask", 80, Uint(1)}, Field{"version", 84, Uint(4)})

const elementBytesHex = `36 05 00 00 60 00 00 00
	"key_high" 00 00 | 30 00 00 00 08 00 00 00 00 00 40 00
	"key_low" 00 08 | 30 00 00 00 08 00 00 00 00 00 40 00
	"slots" 00 10 | 3a 00 00 00 40 00 00 00 01 04 00 00 00
	  36 02 00 00 10 00 00 00 "high" 00 00 30 00 00 00 08 00 00 00 00 00 40 00 "low" 00 08 30 00 00 00 08 00 00 00 00 00 40 00
	"state_mask" 00 50 | 30 00 00 00 01 00 00 00 00 00 08 00
	"version" 00 54 | 30 00 00 00 04 00 00 00 00 00 20 00`

func TestGroupHeaderBytes(t *testing.T) {
	g := objectHeader{links: []link{{"buckets", 0x4bc0}, {"state", 0x4cb8}, {"wal", 0x4d78}, {"config", 0x4e48}}}
	want := unhex(t, `"OHDR" 02 00 6d
		02 12 00 00 | 00 00 ff*8 ff*8
		0a 02 00 01 | 00 00
		06 12 00 00 | 01 00 07 "buckets" c0 4b 00*6
		06 10 00 00 | 01 00 05 "state" b8 4c 00*6
		06 0e 00 00 | 01 00 03 "wal" 78 4d 00*6
		06 11 00 00 | 01 00 06 "config" 48 4e 00*6
		53 cc a2 a2`)
	got, err := g.append(nil)
	must(t, err)
	sameBytes(t, got, want)
}

func TestDatasetHeaderBytes(t *testing.T) {
	d := datasetHeader{
		Type: element, dims: []uint64{25, 2}, maxDims: []uint64{undefinedAddress, undefinedAddress},
		chunk: []uint32{1, 2}, address: 0x4970, nodeSize: 512,
	}
	want := unhex(t, `"OHDR" 02 00 ec
		01 24 00 00 | 02 02 01 01  19 00*7  02 00*7  ff*8  ff*8
		03 9f 00 01 |`+elementBytesHex+`
		05 02 00 01 | 03 0b
		08 17 00 00 | 04 02 00 03 01  01 02 60  05  00 02 00 00  64 28  70 49 00 00 00 00 00 00
		b7 87 dc 49`)
	got, err := (&objectHeader{dataset: &d}).append(nil)
	must(t, err)
	sameBytes(t, got, want)
}
