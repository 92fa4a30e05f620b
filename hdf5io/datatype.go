package hdf5io

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strings"
	"unicode/utf8"
)

// Datatype describes one element of a dataset or attribute: an integer, a
// floating-point number, an enum, a fixed-size string, an array or a compound.
// It is a value: copies are independent, and nothing changes one. The zero Datatype
// is invalid.
type Datatype struct {
	class  class
	signed bool // integers
	size   uint32
	dims   []uint32     // arrays
	base   *Datatype    // arrays: the element; enums: the integer
	fields []Field      // compounds
	names  []EnumMember // enums
}

// EnumMember is a value of an enum that has a name.
type EnumMember struct {
	Name  string
	Value int64
}

// Field is one member of a compound.
type Field struct {
	Name   string
	Offset uint32 // bytes from the start of the element
	Type   Datatype
}

// class is the first byte of a datatype: version << 4 | class of the format
// (HDF5 spec IV.A.2.d). No class is 0, so the zero Datatype is invalid.
type class uint8

const (
	datatypeVersion = 3

	classInteger  class = datatypeVersion << 4
	classFloat    class = datatypeVersion<<4 | 1
	classString   class = datatypeVersion<<4 | 3
	classCompound class = datatypeVersion<<4 | 6
	classEnum     class = datatypeVersion<<4 | 8
	classArray    class = datatypeVersion<<4 | 10
)

const (
	// maxDatatypeDepth bounds how deep arrays and compounds nest: the store's
	// own types need 2.
	maxDatatypeDepth = 8
	// maxRank bounds the dimensions of datasets, attributes and array types.
	maxRank = 4

	integerSigned = 0x08 // class bit of integers
	stringForm    = 0x11 // class bits of strings: NUL-padded, UTF-8
)

// doubleForm and singleForm are what follows the class byte of a float64 and of a float32:
// class bits, size, and where sign, exponent and mantissa lie.
const (
	doubleForm = "\x20\x3f\x00" + "\x08\x00\x00\x00" + "\x00\x00\x40\x00" + "\x34\x0b\x00\x34" + "\xff\x03\x00\x00"
	singleForm = "\x20\x1f\x00" + "\x04\x00\x00\x00" + "\x00\x00\x20\x00" + "\x17\x08\x00\x17" + "\x7f\x00\x00\x00"
)

// Uint is an unsigned little-endian integer of 1, 2, 4 or 8 bytes.
func Uint(size int) Datatype { return Datatype{class: classInteger, size: clampSize(size)} }

// Int is a signed little-endian integer of 1, 2, 4 or 8 bytes.
func Int(size int) Datatype {
	return Datatype{class: classInteger, signed: true, size: clampSize(size)}
}

// Float64 is the IEEE 754 double, little-endian.
func Float64() Datatype { return Datatype{class: classFloat, size: 8} }

// Float32 is the IEEE 754 single, little-endian.
func Float32() Datatype { return Datatype{class: classFloat, size: 4} }

// Bool is a byte, 0 or 1, that h5py shows as a truth value.
func Bool() Datatype { return boolean }

var boolean = Enum(Int(1), EnumMember{"FALSE", 0}, EnumMember{"TRUE", 1})

// Enum is an integer of the type base, some of whose values have names. Names and
// values are unique.
func Enum(base Datatype, members ...EnumMember) Datatype {
	return Datatype{class: classEnum, size: base.size, base: &base, names: slices.Clone(members)}
}

// String is a UTF-8 text of at most size bytes, padded with NUL to size.
func String(size int) Datatype { return Datatype{class: classString, size: clampSize(size)} }

// Array is base repeated in up to 4 dimensions, the last varying fastest.
func Array(base Datatype, dims ...uint32) Datatype {
	size, ok := elementBytes(base.size, dims)
	if !ok {
		size = 0 // refused by check
	}
	return Datatype{class: classArray, size: size, dims: slices.Clone(dims), base: &base}
}

// Compound is a record of size bytes. Fields ascend by offset and do not
// overlap; bytes between them are padding.
func Compound(size uint32, fields ...Field) Datatype {
	return Datatype{class: classCompound, size: size, fields: slices.Clone(fields)}
}

// clampSize returns 0, which check refuses, for a size that no element can have.
func clampSize(size int) uint32 {
	if size < 0 || int64(size) > math.MaxUint32 {
		return 0
	}
	return uint32(size)
}

// elementBytes returns size times all dims, and whether that fits a u32.
func elementBytes(size uint32, dims []uint32) (uint32, bool) {
	total := uint64(size)
	for _, d := range dims {
		total *= uint64(d) // at most (2^32-1)^2
		if total > math.MaxUint32 {
			return 0, false
		}
	}
	return uint32(total), true
}

// Size is the number of bytes of one element.
func (d Datatype) Size() uint32 { return d.size }

// IsEnumOf reports whether d is an enum of the integer type base.
func (d Datatype) IsEnumOf(base Datatype) bool { return d.class == classEnum && d.base.Equal(base) }

// Equal reports whether both describe the same bytes under the same names.
func (d Datatype) Equal(other Datatype) bool {
	return bytes.Equal(d.append(nil), other.append(nil))
}

// String is a short text for people: u64, f64, bool, string[16], [4]u8, {low u64 @0, high u64 @8}.
func (d Datatype) String() string {
	switch d.class {
	case classInteger:
		if d.signed {
			return fmt.Sprintf("i%d", 8*uint64(d.size))
		}
		return fmt.Sprintf("u%d", 8*uint64(d.size))
	case classFloat:
		return fmt.Sprintf("f%d", 8*uint64(d.size))
	case classEnum:
		if d.Equal(boolean) {
			return "bool"
		}
		return fmt.Sprintf("enum %v of %d", d.base, len(d.names))
	case classString:
		return fmt.Sprintf("string[%d]", d.size)
	case classArray:
		return fmt.Sprintf("%d%v", d.dims, d.base)
	case classCompound:
		parts := make([]string, len(d.fields))
		for i, f := range d.fields {
			parts[i] = fmt.Sprintf("%s %v @%d", f.Name, f.Type, f.Offset)
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	return "invalid"
}

// check reports why d cannot be written. Everything that parseDatatype accepts
// passes it.
func (d Datatype) check() error { return d.checkNested(0) }

func (d Datatype) checkNested(depth int) error {
	if depth == maxDatatypeDepth {
		return fmt.Errorf("datatype nested deeper than %d", maxDatatypeDepth)
	}
	if d.size == 0 {
		return errors.New("datatype of 0 bytes, or too large")
	}
	switch d.class {
	case classInteger:
		if d.size > 8 || bits.OnesCount32(d.size) != 1 {
			return fmt.Errorf("integer of %d bytes, want 1, 2, 4 or 8", d.size)
		}
	case classFloat, classString:
	case classEnum:
		return d.checkNames(depth)
	case classArray:
		if len(d.dims) == 0 || len(d.dims) > maxRank {
			return fmt.Errorf("array of %d dimensions, want 1 to %d", len(d.dims), maxRank)
		}
		if size, ok := elementBytes(d.base.size, d.dims); !ok || size != d.size {
			return fmt.Errorf("array %v of %d bytes each does not make %d bytes", d.dims, d.base.size, d.size)
		}
		return d.base.checkNested(depth + 1)
	case classCompound:
		return d.checkFields(depth)
	default:
		return fmt.Errorf("datatype class %#02x", uint8(d.class))
	}
	return nil
}

func (d Datatype) checkFields(depth int) error {
	if len(d.fields) == 0 || len(d.fields) > math.MaxUint16 {
		return fmt.Errorf("compound of %d fields, want 1 to %d", len(d.fields), math.MaxUint16)
	}
	names := make(map[string]bool, len(d.fields))
	end := uint64(0)
	for _, f := range d.fields {
		if err := checkName(f.Name); err != nil {
			return fmt.Errorf("field: %w", err)
		}
		if names[f.Name] {
			return fmt.Errorf("two fields %q", f.Name)
		}
		names[f.Name] = true
		if err := f.Type.checkNested(depth + 1); err != nil {
			return fmt.Errorf("field %q: %w", f.Name, err)
		}
		if uint64(f.Offset) < end {
			return fmt.Errorf("field %q at %d overlaps the one that ends at %d", f.Name, f.Offset, end)
		}
		end = uint64(f.Offset) + uint64(f.Type.size)
	}
	if end > uint64(d.size) {
		return fmt.Errorf("fields end at %d in a compound of %d bytes", end, d.size)
	}
	return nil
}

func (d Datatype) checkNames(depth int) error {
	if d.base.class != classInteger || d.base.size != d.size {
		return fmt.Errorf("enum of %v, want an integer", d.base)
	}
	if len(d.names) == 0 || len(d.names) > math.MaxUint16 {
		return fmt.Errorf("enum of %d names, want 1 to %d", len(d.names), math.MaxUint16)
	}
	names, values := make(map[string]bool, len(d.names)), make(map[int64]bool, len(d.names))
	for _, m := range d.names {
		if err := checkName(m.Name); err != nil {
			return fmt.Errorf("enum: %w", err)
		}
		if names[m.Name] || values[m.Value] {
			return fmt.Errorf("enum: name %q or its value %d is there twice", m.Name, m.Value)
		}
		if !d.base.holds(m.Value) {
			return fmt.Errorf("enum: %d for %q is no %v", m.Value, m.Name, d.base)
		}
		names[m.Name], values[m.Value] = true, true
	}
	return d.base.checkNested(depth + 1)
}

func (d Datatype) holds(value int64) bool {
	if d.size > 8 {
		return false
	}
	if d.signed {
		unused := 64 - 8*d.size
		return value<<unused>>unused == value
	}
	return value >= 0 && (d.size == 8 || value < 1<<(8*d.size))
}

// checkName reports why a name of a link, attribute or field cannot be written.
func checkName(name string) error {
	if name == "" || len(name) > maxName || !utf8.ValidString(name) || strings.IndexByte(name, 0) >= 0 {
		return fmt.Errorf("name %.40q, want 1 to %d bytes of UTF-8 without NUL", name, maxName)
	}
	return nil
}

// checkLinkName is checkName for a new link. A link with the name of one dot leads HDF5
// programs back to its own group: they never end, or crash.
func checkLinkName(name string) error {
	if name == "." {
		return fmt.Errorf("name %q, which HDF5 takes for the group itself", name)
	}
	return checkName(name)
}

// maxName bounds names, in bytes, so that the length of a link's name always fits
// the one byte that we write.
const maxName = 255

// append encodes d as the data of a Datatype message, version 3 (HDF5 spec
// IV.A.2.d). d has passed check.
func (d Datatype) append(dst []byte) []byte {
	var form uint16
	switch {
	case d.class == classFloat && d.size == 4:
		return append(append(dst, byte(d.class)), singleForm...)
	case d.class == classFloat:
		return append(append(dst, byte(d.class)), doubleForm...)
	case d.class == classInteger && d.signed:
		form = integerSigned
	case d.class == classString:
		form = stringForm
	case d.class == classCompound:
		form = uint16(len(d.fields))
	case d.class == classEnum:
		form = uint16(len(d.names))
	}
	dst = append(dst, byte(d.class), byte(form), byte(form>>8), 0)
	dst = binary.LittleEndian.AppendUint32(dst, d.size)
	switch d.class {
	case classInteger:
		dst = binary.LittleEndian.AppendUint16(dst, 0)                // bit offset
		dst = binary.LittleEndian.AppendUint16(dst, uint16(8*d.size)) // precision
	case classArray:
		dst = append(dst, byte(len(d.dims)))
		for _, n := range d.dims {
			dst = binary.LittleEndian.AppendUint32(dst, n)
		}
		dst = d.base.append(dst)
	case classCompound:
		width := byteWidth(uint64(d.size))
		for _, f := range d.fields {
			dst = append(append(dst, f.Name...), 0)
			dst = appendUint(dst, uint64(f.Offset), width)
			dst = f.Type.append(dst)
		}
	case classEnum:
		dst = d.base.append(dst)
		for _, m := range d.names {
			dst = append(append(dst, m.Name...), 0)
		}
		for _, m := range d.names {
			dst = appendUint(dst, uint64(m.Value), int(d.size))
		}
	}
	return dst
}

// parseDatatype reads the datatype at the start of p and returns how many bytes it
// takes. Errors say what was found, but not where: the caller knows that.
func parseDatatype(p []byte) (Datatype, int, error) {
	r := fieldReader{p: p}
	d := readDatatype(&r, 0)
	if r.err == nil {
		r.err = d.check()
	}
	if r.err != nil {
		return Datatype{}, 0, r.err
	}
	return d, len(p) - len(r.p), nil
}

func readDatatype(r *fieldReader, depth int) Datatype {
	if depth == maxDatatypeDepth {
		r.fail("datatype nested deeper than %d", maxDatatypeDepth)
		return Datatype{}
	}
	d := Datatype{class: class(r.uint(1))}
	switch d.class {
	case classFloat:
		d.size = 8
		form := r.bytes(len(doubleForm))
		if string(form) == singleForm {
			d.size = 4
		} else if r.err == nil && string(form) != doubleForm {
			r.fail("float of form % x, want % x or % x", form, doubleForm, singleForm)
		}
		return d
	}
	form := r.uint(3)
	d.size = uint32(r.uint(4))
	switch d.class {
	case classInteger:
		d.signed = form == integerSigned
		r.want("integer bits", form&^integerSigned, 0)
		r.want("bit offset", r.uint(2), 0)
		r.want("precision", r.uint(2), 8*uint64(d.size))
	case classString:
		r.want("string bits", form, stringForm)
	case classArray:
		r.want("array bits", form, 0)
		rank := r.uint(1)
		if rank > maxRank {
			r.fail("array of %d dimensions, limit %d", rank, maxRank)
		}
		for ; rank > 0 && r.err == nil; rank-- {
			d.dims = append(d.dims, uint32(r.uint(4)))
		}
		if r.err == nil {
			base := readDatatype(r, depth+1)
			d.base = &base
		}
	case classCompound:
		if form > math.MaxUint16 {
			r.fail("compound bits %#x", form)
		}
		width := byteWidth(uint64(d.size))
		for ; form > 0 && r.err == nil; form-- {
			name := r.name()
			offset := uint32(r.uint(width))
			d.fields = append(d.fields, Field{name, offset, readDatatype(r, depth+1)})
		}
	case classEnum:
		d.readNames(r, form, depth)
	default:
		r.fail("datatype class and version %#02x", uint8(d.class))
	}
	return d
}

// readNames reads the integer, names and values of an enum.
func (d *Datatype) readNames(r *fieldReader, count uint64, depth int) {
	base := readDatatype(r, depth+1)
	d.base = &base
	if r.err == nil && (base.class != classInteger || base.size != d.size || base.size > 8) {
		r.fail("enum of %d bytes of %v", d.size, base)
	}
	if count > math.MaxUint16 {
		r.fail("enum bits %#x", count)
	}
	for ; count > 0 && r.err == nil; count-- {
		d.names = append(d.names, EnumMember{Name: r.name()})
	}
	for i := range d.names {
		value := r.uint(int(d.size))
		if d.base.signed { // the sign is that of the integer
			unused := 64 - 8*d.size
			value = uint64(int64(value<<unused) >> unused)
		}
		d.names[i].Value = int64(value)
	}
}
