package hdf5io

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/cidstore/cidstore/internal/hdf5sum"
)

// byteWidth is the number of bytes that n needs, at least 1: the format stores
// many numbers in as few bytes as the largest possible one takes.
func byteWidth(n uint64) int { return max(1, (bits.Len64(n)+7)/8) }

// appendUint appends the low width bytes of n, 1 to 8.
func appendUint(dst []byte, n uint64, width int) []byte {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], n)
	return append(dst, b[:width]...)
}

// readUint is the number in the first width bytes of p, 1 to 8.
func readUint(p []byte, width int) uint64 {
	var b [8]byte
	copy(b[:], p[:width])
	return binary.LittleEndian.Uint64(b[:])
}

// fieldReader reads fields from the front of p. The first thing that is wrong
// stays in err; what is read from then on is zero.
type fieldReader struct {
	p   []byte
	err error
}

func (r *fieldReader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

// bytes takes the next n bytes; nil if there are fewer.
func (r *fieldReader) bytes(n int) []byte {
	if r.err != nil {
		return nil
	}
	if n > len(r.p) {
		r.fail("%d bytes left, want %d", len(r.p), n)
		return nil
	}
	field := r.p[:n:n]
	r.p = r.p[n:]
	return field
}

// uint takes an integer of width bytes, 1 to 8.
func (r *fieldReader) uint(width int) uint64 {
	field := r.bytes(width)
	if field == nil {
		return 0
	}
	return readUint(field, width)
}

// name takes the bytes before the next NUL, and the NUL.
func (r *fieldReader) name() string {
	n := bytes.IndexByte(r.p, 0)
	if n < 0 {
		r.fail("name without a NUL at its end")
	}
	field := r.bytes(n + 1)
	if field == nil {
		return ""
	}
	return string(field[:n])
}

// want refuses every value except the one that we write.
func (r *fieldReader) want(what string, got, want uint64) {
	if got != want {
		r.fail("%s %#x, want %#x", what, got, want)
	}
}

// constant takes bytes that are always the same.
func (r *fieldReader) constant(want string) {
	if got := r.bytes(len(want)); r.err == nil && string(got) != want {
		r.fail("% x, want % x", got, want)
	}
}

// end refuses bytes that are left over.
func (r *fieldReader) end() error {
	if r.err == nil && len(r.p) > 0 {
		r.fail("%d bytes too many", len(r.p))
	}
	return r.err
}

// sealed appends to dst the checksum of its bytes from start on. This is the last
// step in encoding every metadata structure.
func sealed(dst []byte, start int) []byte {
	return binary.LittleEndian.AppendUint32(dst, hdf5sum.Lookup3(dst[start:]))
}
