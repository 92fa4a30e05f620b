package hdf5

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/cidstore/cidstore/internal/hdf5sum"
)

// undefined is an address or size that is not set: all bits one.
const undefined = ^uint64(0)

// decoder reads the fields of one structure, one after another. The first field that does
// not fit sets err, and all later fields are zero.
type decoder struct {
	file      *File
	structure string
	start     int64 // file offset of data[0]
	data      []byte
	pos       int
	err       error
}

func (d *decoder) left() int { return len(d.data) - d.pos }

// fault returns an error with the decoder's offset.
func (d *decoder) fault(kind error, format string, args ...any) error {
	return fault(kind, d.structure, d.start+int64(d.pos), format, args...)
}

func (d *decoder) corrupt(format string, args ...any) error {
	return d.fault(ErrCorrupt, format, args...)
}

// fail sets err, unless it is set already.
func (d *decoder) fail(kind error, format string, args ...any) {
	if d.err == nil {
		d.err = d.fault(kind, format, args...)
	}
}

// require sets err to an ErrCorrupt if something is not so, unless it is set already.
func (d *decoder) require(so bool, format string, args ...any) {
	if !so {
		d.fail(ErrCorrupt, format, args...)
	}
}

// take returns the next n bytes, shared with the decoder, or nil if there are fewer.
func (d *decoder) take(n uint64) []byte {
	if d.err != nil {
		return nil
	}
	if n > uint64(d.left()) {
		d.err = d.corrupt("%d bytes left, want %d", d.left(), n)
		return nil
	}
	p := d.data[d.pos : d.pos+int(n) : d.pos+int(n)]
	d.pos += int(n)
	return p
}

// number reads an unsigned little-endian integer of width bytes, 0 to 8.
func (d *decoder) number(width int) uint64 {
	var p [8]byte
	copy(p[:], d.take(uint64(width)))
	return binary.LittleEndian.Uint64(p[:])
}

func (d *decoder) u8() byte    { return byte(d.number(1)) }
func (d *decoder) u16() uint16 { return uint16(d.number(2)) }
func (d *decoder) u32() uint32 { return uint32(d.number(4)) }

// sized reads a field of width bytes. If all bits are one, it is undefined.
func (d *decoder) sized(width int) uint64 {
	n := d.number(width)
	if width < 8 && n == 1<<(8*width)-1 {
		return undefined
	}
	return n
}

// address reads a file address: relative to the base address, or undefined.
func (d *decoder) address() uint64 { return d.sized(d.file.super.offsetSize) }

// length reads a size, in the width that the file has for lengths.
func (d *decoder) length() uint64 { return d.sized(d.file.super.lengthSize) }

// text reads bytes up to a NUL, and the NUL.
func (d *decoder) text() string {
	if d.err != nil {
		return ""
	}
	n := bytes.IndexByte(d.data[d.pos:], 0)
	if n < 0 {
		d.err = d.corrupt("a name without its NUL")
		return ""
	}
	return string(d.take(uint64(n) + 1)[:n])
}

// align skips to a multiple of 8 bytes from the place since.
func (d *decoder) align(since int) {
	if over := (d.pos - since) % 8; over > 0 {
		d.take(uint64(8 - over))
	}
}

func (d *decoder) part(structure string, n uint64) decoder {
	start := d.start + int64(d.pos)
	p := d.take(n)
	return decoder{file: d.file, structure: structure, start: start, data: p, err: d.err}
}

// version reads a version number, which must be one of those from low to high.
func (d *decoder) version(low, high byte) byte {
	v := d.u8()
	if d.err == nil && (v < low || v > high) {
		d.pos--
		d.err = d.fault(ErrUnsupported, "version %d, want %d to %d", v, low, high)
	}
	return v
}

// budget limits how many bytes one walk over structures reads. In a good file no byte is
// read twice, so a walk that needs more goes in circles. The budget keeps the structures
// to which many others refer.
type budget struct {
	left    int64
	headers map[uint64]*header   // by address: those with shared messages
	heaps   map[int]*fractalHeap // by type of shared message
}

// newBudget returns the budget of one walk: twice the size of the file, because the first
// bytes of some structures are read twice to learn their length, and a little more.
func (f *File) newBudget() *budget { return &budget{left: 2*f.size + 64<<10} }

func (b *budget) spend(structure string, offset int64, n uint64) error {
	if n > uint64(b.left) {
		b.left = 0
		return fault(ErrCorrupt, structure, offset, "the structures of this walk are larger than the file: some are in two places, or in a circle")
	}
	b.left -= int64(n)
	return nil
}

// offsetOf returns the file offset of n bytes at an address, which must be in the file.
func (f *File) offsetOf(structure string, address, n uint64) (int64, error) {
	offset := int64(-1)
	if address == undefined {
		return 0, fault(ErrCorrupt, structure, offset, "its address is undefined")
	}
	if address <= uint64(f.size) {
		offset = f.super.base + int64(address)
	}
	if offset < 0 || offset > f.size || n > uint64(f.size-offset) {
		return 0, fault(ErrCorrupt, structure, offset, "%d bytes at address %#x, but the file has %d from %#x on", n, address, f.size-f.super.base, f.super.base)
	}
	return offset, nil
}

// read reads n bytes at an address. An error is that of the decoder.
func (f *File) read(b *budget, structure string, address, n uint64) decoder {
	d := decoder{file: f, structure: structure}
	d.start, d.err = f.offsetOf(structure, address, n)
	if d.err == nil {
		d.err = b.spend(structure, d.start, n)
	}
	if d.err == nil && n > math.MaxInt {
		d.err = d.fault(ErrLimit, "%d bytes are more than this machine can address", n)
	}
	if d.err == nil {
		d.data = make([]byte, n)
		d.err = f.readAt(d.data, d.start, structure)
	}
	return d
}

// readAt fills p from a file offset that is known to be in the file.
func (f *File) readAt(p []byte, offset int64, structure string) error {
	if n, err := f.reader.ReadAt(p, offset); n < len(p) {
		return &Error{Structure: structure, Offset: offset, Cause: fmt.Errorf("read %d bytes of %d: %w", n, len(p), err)}
	}
	return nil
}

// signed reads a structure of n bytes and compares its first four.
func (f *File) signed(b *budget, structure, signature string, address, n uint64) decoder {
	d := f.read(b, structure, address, n)
	if got := d.take(4); d.err == nil && string(got) != signature {
		d.pos -= 4
		d.err = d.corrupt("signature %q, want %q", got, signature)
	}
	return d
}

// sealed reads a structure of n bytes that ends with its checksum, and verifies
// signature and checksum. The decoder ends before the checksum.
func (f *File) sealed(b *budget, structure, signature string, address, n uint64) decoder {
	d := f.signed(b, structure, signature, address, n)
	d.unseal()
	return d
}

// unseal verifies the checksum that ends the decoder's bytes, and cuts it off.
func (d *decoder) unseal() {
	body := len(d.data) - 4
	d.require(body >= d.pos, "%d bytes are too few for a checksum", len(d.data))
	if d.err != nil {
		return
	}
	want, got := binary.LittleEndian.Uint32(d.data[body:]), hdf5sum.Lookup3(d.data[:body])
	if want != got && !d.file.unchecked {
		d.pos = 0
		d.err = d.corrupt("checksum %08x, stored %08x", got, want)
	}
	d.data = d.data[:body]
}
