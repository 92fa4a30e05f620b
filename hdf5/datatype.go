package hdf5

import (
	"fmt"
	"strings"
)

// Class is the kind of a datatype (spec IV.A.2.d).
type Class int

// These are the classes of HDF5, with the numbers of HDF5.
const (
	Integer   Class = 0
	Float     Class = 1
	Time      Class = 2
	String    Class = 3 // of a fixed length
	Bitfield  Class = 4
	Opaque    Class = 5
	Compound  Class = 6
	Reference Class = 7
	Enum      Class = 8
	Variable  Class = 9 // a sequence or a string of any length, stored elsewhere
	Array     Class = 10
	Complex   Class = 11 // a pair of floating-point numbers
)

// String returns the name of the class.
func (c Class) String() string {
	return nameIn("class", int(c), "integer", "float", "time", "string", "bitfield", "opaque", "compound", "reference", "enum", "variable length", "array", "complex")
}

// nameIn returns the nth name, or what with n if there is none.
func nameIn(what string, n int, names ...string) string {
	if n >= 0 && n < len(names) {
		return names[n]
	}
	return fmt.Sprintf("%s %d", what, n)
}

// Padding is what fills a string of fixed length after its text.
type Padding int

// These are the paddings of HDF5, with the numbers of HDF5.
const (
	NulTerminated Padding = 0 // the text ends at the first NUL
	NulPadded     Padding = 1 // NULs at the end do not count
	SpacePadded   Padding = 2 // spaces at the end do not count
)

// Type is the type of an element. Fields that do not belong to its class are zero.
type Type struct {
	Class Class
	Size  int64 // bytes of an element in the file

	BigEndian bool // Integer, Float, Bitfield
	Signed    bool // Integer
	BitOffset int  // Integer, Float, Bitfield: where the value begins
	Precision int  // and how many bits it has
	float     *floatFormat

	Padding  Padding // String, Variable with IsString
	UTF8     bool    // String, Variable with IsString: not just ASCII
	IsString bool    // Variable: a string, not a sequence

	Tag     string   // Opaque: what the bytes are, in the writer's words
	Members []Member // Compound, in the file's order
	Base    *Type    // Enum, Variable, Array, Complex: of the values
	Dims    []uint64 // Array
	Names   []string // Enum
	Values  [][]byte // Enum: of Names, as Base
	reftype byte     // Reference: 0 object, 1 region
}

// Member is a member of a compound type.
type Member struct {
	Name   string
	Offset int64 // of its first byte in the element
	Type   *Type
}

// floatFormat says at which bits the parts of a floating-point number are.
type floatFormat struct {
	sign, exponent, exponentBits, mantissa, mantissaBits int
	bias                                                 uint32
	normalization                                        int // 2: a leading one is implied
	vax                                                  bool
}

const maxTypeDepth = 32 // of types in types

// datatype parses a datatype message. After an error the result has no meaning.
func (d *decoder) datatype(depth int) *Type {
	if depth > maxTypeDepth {
		d.fail(ErrLimit, "types inside types, more than %d deep", maxTypeDepth)
	}
	head, flags := d.u8(), uint32(d.number(3))
	t := &Type{Class: Class(head & 15), Size: int64(d.u32())}
	version := head >> 4
	if version < 1 || version > 5 {
		d.fail(ErrUnsupported, "%s type of version %d, want 1 to 5", t.Class, version)
	}
	d.require(t.Size > 0, "%s type of 0 bytes", t.Class)
	if d.err != nil {
		return t
	}
	switch t.Class {
	case Integer, Bitfield:
		t.BigEndian, t.Signed = flags&1 != 0, t.Class == Integer && flags&8 != 0
		d.bitRange(t)
	case Float:
		d.float(t, flags)
	case Time:
		t.BigEndian, t.Precision = flags&1 != 0, int(d.u16())
	case String:
		t.Padding, t.UTF8 = Padding(flags&15), flags>>4&15 == 1
	case Opaque:
		t.Tag, _, _ = strings.Cut(string(d.take(uint64(flags&0xff))), "\x00")
	case Compound:
		d.compound(t, version, int(flags&0xffff), depth)
	case Reference:
		t.reftype = byte(flags & 15)
	case Enum:
		d.enum(t, version, int(flags&0xffff), depth)
	case Variable:
		d.variable(t, flags, depth)
	case Array:
		d.array(t, version, depth)
	case Complex:
		d.complex(t, flags, depth)
	default:
		d.fail(ErrUnsupported, "datatype %s", t.Class)
	}
	return t
}

func (d *decoder) bitRange(t *Type) {
	t.BitOffset, t.Precision = int(d.u16()), int(d.u16())
	end := t.BitOffset + t.Precision
	d.require(t.Precision > 0 && int64(end) <= 8*t.Size, "bits %d to %d of a number of %d bytes", t.BitOffset, end, t.Size)
}

func (d *decoder) float(t *Type, flags uint32) {
	d.bitRange(t)
	t.BigEndian = flags&1 != 0
	t.float = &floatFormat{
		sign:     int(flags >> 8 & 0xff),
		exponent: int(d.u8()), exponentBits: int(d.u8()),
		mantissa: int(d.u8()), mantissaBits: int(d.u8()),
		bias:          d.u32(),
		normalization: int(flags >> 4 & 3),
		vax:           flags&(1<<6) != 0,
	}
	p := *t.float
	most := max(p.sign+1, p.exponent+p.exponentBits, p.mantissa+p.mantissaBits)
	d.require(int64(most) <= 8*t.Size, "parts of a floating-point number outside its %d bytes", t.Size)
}

// name reads a NUL-terminated name; before version 3 it fills a multiple of 8 bytes.
func (d *decoder) name(version byte) string {
	start := d.pos
	name := d.text()
	if version < 3 {
		d.align(start)
	}
	return name
}

func (d *decoder) compound(t *Type, version byte, n, depth int) {
	width := 4
	if version >= 3 {
		for width = 1; width < 4 && t.Size>>(8*width) > 0; width++ {
		}
	}
	var all int64 // bytes of the members
	for i := 0; i < n && d.err == nil; i++ {
		m := Member{Name: d.name(version), Offset: int64(d.number(width))}
		var dims []uint64
		if version == 1 {
			dims = d.memberDims()
		}
		m.Type = d.datatype(depth + 1)
		if len(dims) > 0 {
			m.Type = &Type{Class: Array, Base: m.Type, Dims: dims}
			m.Type.Size = d.arraySize(m.Type)
		}
		end := m.Offset + m.Type.Size
		d.require(end <= t.Size, "member %d has bytes %d to %d of %d", i, m.Offset, end, t.Size)
		all += m.Type.Size
		d.require(all <= t.Size, "members of more than the %d bytes of the compound: they overlap", t.Size)
		t.Members = append(t.Members, m)
	}
}

// memberDims reads the dimensions that a member of a version 1 compound has.
func (d *decoder) memberDims() []uint64 {
	rank := int(d.u8())
	d.take(3 + 4 + 4) // reserved, permutation, reserved
	d.require(rank <= 4, "member of %d dimensions, at most 4", rank)
	var dims []uint64
	for i := range 4 {
		if n := uint64(d.u32()); i < rank {
			dims = append(dims, n)
		}
	}
	return dims
}

// arraySize returns the bytes of an array type, of which there is at least one.
func (d *decoder) arraySize(t *Type) int64 {
	size := uint64(t.Base.Size)
	for _, n := range t.Dims {
		size, _ = product(size, n)
	}
	d.require(size > 0 && size <= 1<<32-1, "array type %v of elements of %d bytes", t.Dims, t.Base.Size)
	return int64(size)
}

func (d *decoder) enum(t *Type, version byte, n, depth int) {
	t.Base = d.datatype(depth + 1)
	d.require(t.Base.Class == Integer && t.Base.Size == t.Size, "enum of %d bytes, of %s of %d bytes", t.Size, t.Base.Class, t.Base.Size)
	for i := 0; i < n && d.err == nil; i++ {
		t.Names = append(t.Names, d.name(version))
	}
	for i := 0; i < n && d.err == nil; i++ {
		t.Values = append(t.Values, d.take(uint64(t.Size)))
	}
}

func (d *decoder) variable(t *Type, flags uint32, depth int) {
	kind := flags & 15
	d.require(kind <= 1, "variable-length type of kind %d, want 0 or 1", kind)
	t.IsString, t.Padding, t.UTF8 = kind == 1, Padding(flags>>4&15), flags>>8&15 == 1
	t.Base = d.datatype(depth + 1)
	want := int64(d.file.referenceSize())
	d.require(t.Size == want, "variable-length type of %d bytes, want %d", t.Size, want)
}

func (d *decoder) array(t *Type, version byte, depth int) {
	rank := int(d.u8())
	d.require(version >= 2 && rank >= 1 && rank <= maxRank, "array type of version %d with %d dimensions", version, rank)
	if version == 2 {
		d.take(3)
	}
	for range rank {
		t.Dims = append(t.Dims, uint64(d.u32()))
	}
	if version == 2 {
		d.take(4 * uint64(rank)) // permutation, never used
	}
	t.Base = d.datatype(depth + 1)
	size := d.arraySize(t)
	d.require(size == t.Size, "array type %v of %d bytes, want %d", t.Dims, t.Size, size)
}

func (d *decoder) complex(t *Type, flags uint32, depth int) {
	if flags&1 == 0 || flags>>1&3 != 0 {
		d.fail(ErrUnsupported, "complex numbers of unlike parts, or not rectangular: flags %#x", flags)
	}
	t.Base = d.datatype(depth + 1)
	d.require(t.Base.Class == Float && t.Size == 2*t.Base.Size, "complex numbers of %d bytes, of %s of %d bytes", t.Size, t.Base.Class, t.Base.Size)
}

// String returns a short description of the type, such as "u64" or
// "{key u64, slots [4]u64}".
func (t *Type) String() string {
	switch t.Class {
	case Integer, Float, Bitfield:
		prefix := map[Class]string{Integer: "u", Float: "f", Bitfield: "b"}[t.Class]
		if t.Signed {
			prefix = "i"
		}
		if t.BigEndian && t.Size > 1 {
			return fmt.Sprintf("%s%d-be", prefix, 8*t.Size)
		}
		return fmt.Sprintf("%s%d", prefix, 8*t.Size)
	case Compound:
		var members []string
		for _, m := range t.Members {
			members = append(members, m.Name+" "+m.Type.String())
		}
		return "{" + strings.Join(members, ", ") + "}"
	case Enum, Complex:
		return t.Class.String() + " " + t.Base.String()
	case Variable:
		if t.IsString {
			return "string"
		}
		return "[]" + t.Base.String()
	case Array:
		return strings.ReplaceAll(fmt.Sprint(t.Dims), " ", ",") + t.Base.String()
	}
	return fmt.Sprintf("%s[%d]", t.Class, t.Size)
}
