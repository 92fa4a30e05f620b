package cidstore

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/crc32c"
)

// writtenParts is an increment with some parts, and what it makes of base.
func writtenParts(t testing.TB, base, image []byte) []byte {
	t.Helper()
	h := incrementHeader{
		uuid: [16]byte{1, 2, 3}, baseCommit: 7, commit: 9, baseSize: int64(len(base)), size: int64(len(image)),
		baseHead: sha256.Sum256(base[:hdf5io.HeadSize]), head: sha256.Sum256(image[:hdf5io.HeadSize]),
	}
	var out bytes.Buffer
	w, err := newIncrementWriter(&out, &h)
	for at := 0; at < len(image) && err == nil; at += maxPart {
		end := min(at+maxPart, len(image))
		before := make([]byte, end-at)
		copy(before, base[min(at, len(base)):])
		err = w.changes(int64(at), image[at:end], before)
	}
	if err == nil {
		err = w.end(sha256.Sum256(image))
	}
	mustDo(t, err)
	return out.Bytes()
}

// somePages are n bytes, of which some sectors are zero.
func somePages(random *rand.Rand, n int) []byte {
	p := make([]byte, n)
	for at := 0; at < n; at += partUnit {
		if random.IntN(3) > 0 {
			for i := at; i < min(at+partUnit, n); i++ {
				p[i] = byte(random.Uint32())
			}
		}
	}
	return p
}

// TestIncrementOfBytes: an increment turns any base into any image, whatever their sizes and
// the steps in which it is read, and is as long as what differs.
func TestIncrementOfBytes(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		base := somePages(random, hdf5io.HeadSize+random.IntN(64<<10))
		image := append(bytes.Clone(base[:hdf5io.HeadSize+random.IntN(len(base)-hdf5io.HeadSize+1)]), somePages(random, random.IntN(9000))...)
		differs := 0
		for range random.IntN(20) {
			copy(image[random.IntN(len(image))/partUnit*partUnit:], somePages(random, partUnit))
		}
		for at := 0; at < len(image); at += partUnit {
			was := make([]byte, partUnit)
			copy(was, base[min(at, len(base)):])
			if !bytes.Equal(image[at:min(at+partUnit, len(image))], was[:min(partUnit, len(image)-at)]) {
				differs++
			}
		}
		p := writtenParts(t, base, image)
		if most := incrementHeaderSize + differs*(partUnit+incrementPartSize) + incrementEndSize; len(p) > most {
			t.Fatalf("%d bytes for %d sectors, want at most %d", len(p), differs, most)
		}
		in := mustGet(newIncrementReader(bytes.NewReader(p)))(t)
		l := layer{in: in}
		l.part, l.err = in.next()
		got := make([]byte, 0, len(image))
		for len(got) < len(image) {
			step := make([]byte, min(1+random.IntN(5000), len(image)-len(got)))
			copy(step, base[min(len(got), len(base)):])
			mustDo(t, l.apply(step, int64(len(got))))
			got = append(got, step...)
		}
		if !bytes.Equal(got, image) || !errors.Is(l.err, io.EOF) || in.sum != sha256.Sum256(image) {
			t.Fatalf("it makes another image, %v", l.err)
		}
	}
}

// readParts reads an increment to its end.
func readParts(p []byte) (r *incrementReader, parts []incrementPart, err error) {
	r, err = newIncrementReader(bytes.NewReader(p))
	for err == nil {
		var part incrementPart
		if part, err = r.next(); err == nil {
			part.data = bytes.Clone(part.data)
			parts = append(parts, part)
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return r, parts, err
}

// forged is p with other bytes at off, and with the right checksum of what begins at start.
func forged(p []byte, start, off, crc int, bytesThere ...byte) []byte {
	p = bytes.Clone(p)
	copy(p[start+off:], bytesThere)
	le.PutUint32(p[start+crc:], crc32c.Sum(p[start:start+crc]))
	return p
}

// TestHostileIncrement: fields that make no sense are refused, though the checksums are right.
func TestHostileIncrement(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	base := somePages(random, 40<<10)
	p := writtenParts(t, base, somePages(random, 50<<10))
	_, parts, err := readParts(p)
	if err != nil || len(parts) < 4 || parts[0].data == nil {
		t.Fatalf("%d parts, %v", len(parts), err)
	}
	first := incrementHeaderSize
	second := first + incrementPartSize + int(parts[0].size)
	far := bytes.Repeat([]byte{0xff}, 8)
	for name, c := range map[string]struct {
		p    []byte
		want error
	}{
		"version":              {forged(p, 0, offIncVersion, offIncCRC, 2), ErrFormatVersion},
		"magic":                {forged(p, 0, offIncMagic, offIncCRC, 'X'), ErrCorrupt},
		"reserved":             {forged(p, 0, offIncVersion, offIncCRC, incrementVersion, 0, 0, 0, 1), ErrCorrupt},
		"small image":          {forged(p, 0, offIncSize, offIncCRC, 1, 0, 0, 0, 0, 0, 0, 0), ErrCorrupt},
		"huge image":           {forged(p, 0, offIncSize, offIncCRC, far...), ErrCorrupt},
		"huge base":            {forged(p, 0, offIncBaseSize, offIncCRC, far...), ErrCorrupt},
		"kind":                 {forged(p, first, offPartKind, offPartCRC, 9), ErrCorrupt},
		"no bytes":             {forged(p, first, offPartSize, offPartCRC, 0, 0, 0, 0), ErrCorrupt},
		"too many bytes":       {forged(p, first, offPartSize, offPartCRC, far[:4]...), ErrCorrupt},
		"far away":             {forged(p, first, offPartOffset, offPartCRC, far...), ErrCorrupt},
		"after the one before": {forged(p, second, offPartOffset, offPartCRC, make([]byte, 8)...), ErrCorrupt},
		"zero with data":       {forged(p, first, offPartKind, offPartCRC, zeroPart), ErrCorrupt},
		"a part is missing":    {slices.Delete(bytes.Clone(p), first, second), ErrCorrupt},
		"more after the end":   {append(bytes.Clone(p), 0), ErrCorrupt},
		"empty":                {nil, ErrTruncated},
	} {
		if _, _, err := readParts(c.p); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// mended is p with all checksums made right that can be found.
func mended(p []byte) []byte {
	p = bytes.Clone(p)
	if len(p) < incrementHeaderSize {
		return p
	}
	p = forged(p, 0, 0, offIncCRC)
	crc := crc32c.Sum(p[:incrementHeaderSize])
	for rest := p[incrementHeaderSize:]; len(rest) >= incrementPartSize; {
		kind, size := le.Uint32(rest[offPartKind:]), int(le.Uint32(rest[offPartSize:]))
		if kind == endPart {
			if len(rest) >= incrementEndSize {
				le.PutUint32(rest[offEndCRC:], crc32c.Extend(crc, rest[:offEndCRC]))
			}
			break
		}
		head := rest[:incrementPartSize]
		if rest = rest[incrementPartSize:]; kind == dataPart {
			data := rest[:min(size, len(rest))]
			le.PutUint32(head[offPartDataCRC:], crc32c.Sum(data))
			rest = rest[len(data):]
		}
		le.PutUint32(head[offPartCRC:], crc32c.Sum(head[:offPartCRC]))
		crc = crc32c.Extend(crc, head)
	}
	return p
}

// FuzzIncrement reads arbitrary bytes as an increment, as they are and with their
// checksums made right. What is accepted is written again as the same bytes, no part is
// outside the image, and each is put where it says.
func FuzzIncrement(f *testing.F) {
	random := rand.New(rand.NewPCG(5, 6))
	for _, size := range []int{0, 600, 3000} {
		base := somePages(random, hdf5io.HeadSize+size/2)
		f.Add(writtenParts(f, base, append(bytes.Clone(base[:hdf5io.HeadSize]), somePages(random, size)...)))
	}
	f.Add([]byte(incrementMagic))
	f.Fuzz(func(t *testing.T, p []byte) {
		for _, p := range [][]byte{p, mended(p)} {
			r, parts, err := readParts(p)
			if err != nil {
				if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrFormatVersion) {
					t.Fatal(err)
				}
				continue
			}
			acceptable(t, p, r, parts)
		}
	})
}

// acceptable fails the test unless an increment that was accepted is as a writer makes it.
func acceptable(t *testing.T, p []byte, r *incrementReader, parts []incrementPart) {
	var again bytes.Buffer
	w, err := newIncrementWriter(&again, &r.header)
	after := int64(0)
	for _, part := range parts {
		if part.offset < after || part.size < 1 || part.size > maxPart || part.offset+part.size > r.header.size {
			t.Fatalf("part of %d bytes at %d, after %d, in an image of %d", part.size, part.offset, after, r.header.size)
		}
		after = part.offset + part.size
		data := part.data
		if data == nil {
			data = make([]byte, part.size)
		}
		err = errors.Join(err, w.part(part.offset, data, part.data == nil))
	}
	if err = errors.Join(err, w.end(r.sum)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again.Bytes(), p) {
		t.Fatal("written again it is other bytes")
	}
	in := mustGet(newIncrementReader(bytes.NewReader(p)))(t)
	l := layer{in: in}
	l.part, l.err = in.next()
	size := min(r.header.size, 64<<10)
	want, got, window := make([]byte, size), make([]byte, 0, size), make([]byte, 7000)
	for _, part := range parts {
		if part.data != nil && part.offset < size {
			copy(want[part.offset:], part.data)
		}
	}
	for int64(len(got)) < size {
		clear(window) // a base of zeros
		mustDo(t, l.apply(window, int64(len(got))))
		got = append(got, window[:min(len(window), cap(got)-len(got))]...)
	}
	if !bytes.Equal(got, want) {
		t.Fatal("a part is not where it says")
	}
}

// incrementPath names increment n of a test.
func incrementPath(n int) string { return fmt.Sprintf("db/increment%d", n) }
