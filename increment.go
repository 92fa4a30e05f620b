package cidstore

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/internal/crc32c"
)

// An increment holds what must be changed in one file, the base, to turn it into another
// one, the image. It consists of a header, parts in ascending order, and an end. Each of
// these has a checksum; that of the end also covers the header and the heads of all
// parts. Bytes that no part names are those of the base; after the end of the base they
// are zero. Numbers are little-endian.
// FORMAT.md: increment header
//
//	offset  size  field        meaning
//	     0     8  magic        "CIDINCR1"
//	     8     4  version      1
//	    12     4  reserved
//	    16    16  file_uuid
//	    32     8  base_commit
//	    40     8  commit
//	    48     8  base_size
//	    56     8  size         of the image
//	    64    32  base_head    SHA-256 of the first 12,288 bytes of the base
//	    96    32  head         and of the image
//	   128     4  reserved
//	   132     4  crc32c
const (
	offIncMagic, offIncVersion, offIncUUID     = 0, 8, 16
	offIncBaseCommit, offIncCommit             = 32, 40
	offIncBaseSize, offIncSize, offIncBaseHead = 48, 56, 64
	offIncHead, offIncCRC, incrementHeaderSize = 96, 132, 136
)

// FORMAT.md: increment part
//
//	offset  size  field        meaning
//	     0     8  offset       in the image
//	     8     4  size         of the part
//	    12     4  kind         1: its bytes follow; 2: it is zero, nothing follows
//	    16     4  data_crc32c  of its bytes
//	    20     4  crc32c       of bytes 0..19
const (
	offPartOffset, offPartSize, offPartKind       = 0, 8, 12
	offPartDataCRC, offPartCRC, incrementPartSize = 16, 20, 24
)

// FORMAT.md: increment end
//
//	offset  size  field     meaning
//	     0     8  parts     how many there are
//	     8     4  reserved
//	    12     4  kind      3
//	    16    32  sha256    of the image
//	    48     4  reserved
//	    52     4  crc32c    of the header, the heads of all parts, and bytes 0..51
const (
	offEndParts, offEndKind, offEndSum = 0, 12, 16
	offEndCRC, incrementEndSize        = 52, 56
)

const (
	incrementMagic   = "CIDINCR1"
	incrementVersion = 1

	dataPart, zeroPart, endPart = 1, 2, 3

	// partUnit is the unit of parts, in bytes: they begin at a multiple of it, and consist
	// of such units, because a commit writes complete sectors.
	partUnit = 512
	maxPart  = 1 << 20 // most bytes of a part
)

// incrementHeader names the base and the image of an increment.
type incrementHeader struct {
	uuid               [16]byte
	baseCommit, commit hdf5io.Commit
	baseSize, size     int64
	baseHead, head     [sha256.Size]byte
}

func (h *incrementHeader) append(dst []byte) []byte {
	p := make([]byte, incrementHeaderSize)
	copy(p, incrementMagic)
	le.PutUint32(p[offIncVersion:], incrementVersion)
	copy(p[offIncUUID:], h.uuid[:])
	le.PutUint64(p[offIncBaseCommit:], uint64(h.baseCommit))
	le.PutUint64(p[offIncCommit:], uint64(h.commit))
	le.PutUint64(p[offIncBaseSize:], uint64(h.baseSize))
	le.PutUint64(p[offIncSize:], uint64(h.size))
	copy(p[offIncBaseHead:], h.baseHead[:])
	copy(p[offIncHead:], h.head[:])
	le.PutUint32(p[offIncCRC:], crc32c.Sum(p[:offIncCRC]))
	return append(dst, p...)
}

// maxImage bounds the size of an image, in bytes.
const maxImage = 1 << 60

// parseIncrementHeader reads the header at the start of an increment.
func parseIncrementHeader(p []byte) (h incrementHeader, err error) {
	bad := func(at int64, format string, args ...any) (incrementHeader, error) {
		return h, corrupt.Errorf("increment header", at, format, args...)
	}
	if string(p[:len(incrementMagic)]) != incrementMagic {
		return bad(offIncMagic, "magic % x, want %q", p[:len(incrementMagic)], incrementMagic)
	}
	if got, want := le.Uint32(p[offIncCRC:]), crc32c.Sum(p[:offIncCRC]); got != want {
		return bad(offIncCRC, "crc32c %#08x, want %#08x", got, want)
	}
	if version := le.Uint32(p[offIncVersion:]); version != incrementVersion {
		return h, fmt.Errorf("%w: increment of version %d, want %d", ErrFormatVersion, version, incrementVersion)
	}
	if a, b := le.Uint32(p[offIncVersion+4:]), le.Uint32(p[offIncCRC-4:]); a|b != 0 {
		return bad(offIncVersion+4, "reserved %#x and %#x, want 0", a, b)
	}
	baseSize, size := le.Uint64(p[offIncBaseSize:]), le.Uint64(p[offIncSize:])
	if min(baseSize, size) < hdf5io.HeadSize || max(baseSize, size) > maxImage {
		return bad(offIncBaseSize, "base of %d bytes, image of %d, want %d to %d", baseSize, size, hdf5io.HeadSize, int64(maxImage))
	}
	return incrementHeader{
		uuid: [16]byte(p[offIncUUID:]), baseCommit: hdf5io.Commit(le.Uint64(p[offIncBaseCommit:])), commit: hdf5io.Commit(le.Uint64(p[offIncCommit:])),
		baseSize: int64(baseSize), size: int64(size),
		baseHead: [sha256.Size]byte(p[offIncBaseHead:]), head: [sha256.Size]byte(p[offIncHead:]),
	}, nil
}

// incrementWriter writes an increment.
type incrementWriter struct {
	w     io.Writer
	crc   uint32 // of the header and the heads of parts so far
	parts uint64
}

func newIncrementWriter(w io.Writer, h *incrementHeader) (*incrementWriter, error) {
	out := &incrementWriter{w: w}
	return out, out.head(h.append(nil))
}

// head writes bytes that the checksum of the end covers.
func (w *incrementWriter) head(p []byte) error {
	w.crc = crc32c.Extend(w.crc, p)
	_, err := w.w.Write(p)
	return err
}

// part writes a part of up to maxPart bytes. If zero is set, all bytes of data are zero,
// and only their number is written.
func (w *incrementWriter) part(offset int64, data []byte, zero bool) error {
	p := make([]byte, incrementPartSize)
	le.PutUint64(p[offPartOffset:], uint64(offset))
	le.PutUint32(p[offPartSize:], uint32(len(data)))
	le.PutUint32(p[offPartKind:], zeroPart)
	if !zero {
		le.PutUint32(p[offPartKind:], dataPart)
		le.PutUint32(p[offPartDataCRC:], crc32c.Sum(data))
	}
	le.PutUint32(p[offPartCRC:], crc32c.Sum(p[:offPartCRC]))
	w.parts++
	err := w.head(p)
	if err == nil && !zero {
		_, err = w.w.Write(data)
	}
	return err
}

// changes writes parts for the bytes of image that differ from base. Both lie at offset
// and have the same length, maxPart at most.
func (w *incrementWriter) changes(offset int64, image, base []byte) error {
	unit := func(at int) (end int, kind int) {
		end = min(at+partUnit, len(image))
		switch p := image[at:end]; {
		case bytes.Equal(p, base[at:end]):
			return end, 0
		case bytes.Equal(p, zeros[:len(p)]):
			return end, zeroPart
		}
		return end, dataPart
	}
	for at := 0; at < len(image); {
		end, kind := unit(at)
		for end < len(image) {
			next, other := unit(end)
			if other != kind {
				break
			}
			end = next
		}
		if kind != 0 {
			if err := w.part(offset+int64(at), image[at:end], kind == zeroPart); err != nil {
				return err
			}
		}
		at = end
	}
	return nil
}

var zeros [partUnit]byte

// end completes the increment of an image that has the checksum sum.
func (w *incrementWriter) end(sum [sha256.Size]byte) error {
	p := make([]byte, incrementEndSize)
	le.PutUint64(p[offEndParts:], w.parts)
	le.PutUint32(p[offEndKind:], endPart)
	copy(p[offEndSum:], sum[:])
	le.PutUint32(p[offEndCRC:], crc32c.Extend(w.crc, p[:offEndCRC]))
	_, err := w.w.Write(p)
	return err
}

// incrementPart is one part as it was read. data is nil if all bytes are zero.
type incrementPart struct {
	offset, size int64
	data         []byte
}

// incrementReader reads an increment from its start to its end, with a buffer of one
// part. It ends whatever the bytes are, and its errors give the offset.
type incrementReader struct {
	header incrementHeader
	sum    [sha256.Size]byte // of the image; set at the end

	in     *bufio.Reader
	at     int64 // bytes read
	crc    uint32
	parts  uint64
	after  int64 // end of the part before
	buffer []byte
}

// newIncrementReader reads the header.
func newIncrementReader(in io.Reader) (*incrementReader, error) {
	r := &incrementReader{in: bufio.NewReaderSize(in, 64<<10)}
	p := make([]byte, incrementHeaderSize)
	if err := r.read(p); err != nil {
		return nil, err
	}
	var err error
	r.crc = crc32c.Sum(p)
	r.header, err = parseIncrementHeader(p)
	return r, err
}

func (r *incrementReader) read(p []byte) error {
	n, err := io.ReadFull(r.in, p)
	r.at += int64(n)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return corrupt.Errorf("increment", r.at, "%w: it has no end", ErrTruncated)
	}
	if err != nil {
		return fmt.Errorf("%w: increment at %#x: %w", ErrIO, r.at, err)
	}
	return nil
}

// next returns the next part, whose data are valid until the next call. After the last
// part it returns io.EOF.
func (r *incrementReader) next() (incrementPart, error) {
	start := r.at
	bad := func(format string, args ...any) (incrementPart, error) {
		return incrementPart{}, corrupt.Errorf("increment part", start, format, args...)
	}
	p := make([]byte, incrementPartSize, incrementEndSize)
	if err := r.read(p); err != nil {
		return incrementPart{}, err
	}
	kind := le.Uint32(p[offPartKind:])
	if kind == endPart {
		return incrementPart{}, r.end(p[:incrementEndSize])
	}
	if got, want := le.Uint32(p[offPartCRC:]), crc32c.Sum(p[:offPartCRC]); got != want {
		return bad("crc32c %#08x, want %#08x", got, want)
	}
	offset, size, image := le.Uint64(p[offPartOffset:]), int64(le.Uint32(p[offPartSize:])), r.header.size
	switch {
	case kind != dataPart && kind != zeroPart:
		return bad("kind %d, want %d, %d or %d", kind, dataPart, zeroPart, endPart)
	case size == 0 || size > maxPart:
		return bad("%d bytes, want 1 to %d", size, maxPart)
	case offset < uint64(r.after) || size > image || offset > uint64(image-size):
		return bad("%d bytes at %#x, want them from %#x to %#x", size, offset, r.after, image)
	}
	r.after = int64(offset) + size
	r.parts++
	r.crc = crc32c.Extend(r.crc, p)
	out := incrementPart{offset: int64(offset), size: size}
	sum := le.Uint32(p[offPartDataCRC:])
	if kind == zeroPart {
		if sum != 0 {
			return bad("crc32c of no bytes %#08x, want 0", sum)
		}
		return out, nil
	}
	if int64(cap(r.buffer)) < size {
		r.buffer = make([]byte, size)
	}
	out.data = r.buffer[:size]
	if err := r.read(out.data); err != nil {
		return incrementPart{}, err
	}
	if got := crc32c.Sum(out.data); got != sum {
		return bad("crc32c of its %d bytes %#08x, want %#08x", size, got, sum)
	}
	return out, nil
}

// end reads the rest of the end, of which p has the first bytes. It returns io.EOF if
// the increment is complete and undamaged.
func (r *incrementReader) end(p []byte) error {
	start := r.at - incrementPartSize
	if err := r.read(p[incrementPartSize:]); err != nil {
		return err
	}
	if got, want := le.Uint32(p[offEndCRC:]), crc32c.Extend(r.crc, p[:offEndCRC]); got != want {
		return corrupt.Errorf("increment end", start, "crc32c %#08x, want %#08x", got, want)
	}
	if a, b := le.Uint32(p[offEndParts+8:]), le.Uint32(p[offEndCRC-4:]); a|b != 0 {
		return corrupt.Errorf("increment end", start, "reserved %#x and %#x, want 0", a, b)
	}
	if got := le.Uint64(p[offEndParts:]); got != r.parts {
		return corrupt.Errorf("increment end", start, "%d parts, want %d", got, r.parts)
	}
	switch _, err := r.in.ReadByte(); {
	case err == nil:
		return corrupt.Errorf("increment", r.at, "bytes after its end, want none")
	case !errors.Is(err, io.EOF):
		return fmt.Errorf("%w: increment at %#x: %w", ErrIO, r.at, err)
	}
	r.sum = [sha256.Size]byte(p[offEndSum:])
	return io.EOF
}
