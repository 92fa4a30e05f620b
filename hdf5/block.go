package hdf5

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"iter"
	"math"
	"slices"
	"strings"
)

// Block holds consecutive rows of a dataset, all elements of an attribute, or a sequence
// of variable length.
//
// Its methods take the path of a member: no name for the element itself, one name for
// a member of a compound type, more names for members of members. They return the values
// of all elements in order. The values of an array follow each other, and so do the real
// and the imaginary part of a complex number. The error is ErrNotFound if there is no such
// member, and ErrWrongType if the method cannot read its type.
type Block struct {
	Start uint64 // first row
	Rows  int
	Data  []byte // as in the file, except for filters

	file     *File
	path     string
	datatype *Type
	cells    int             // elements of a row
	reader   *variableReader // of the call that made a sequence; nil: each call has its own
}

// Type returns the type of the elements.
func (b *Block) Type() *Type { return b.datatype }

// Uint64s returns integers, enums and bit fields. A negative value is an ErrWrongType.
func (b *Block) Uint64s(member ...string) ([]uint64, error) {
	return collect(b, member, isInteger, func(t *Type, p []byte) (uint64, error) {
		n, negative := t.integer(p)
		if negative {
			return 0, fault(ErrWrongType, "value", -1, "%d is negative", int64(n))
		}
		return n, nil
	})
}

// Int64s returns integers, enums and bit fields. A value of 2^63 or more is an
// ErrWrongType.
func (b *Block) Int64s(member ...string) ([]int64, error) {
	return collect(b, member, isInteger, func(t *Type, p []byte) (int64, error) {
		n, negative := t.integer(p)
		if !negative && n > math.MaxInt64 {
			return 0, fault(ErrWrongType, "value", -1, "%d is over 2^63", n)
		}
		return int64(n), nil
	})
}

// Float64s returns floating-point numbers of up to 8 bytes. It rounds a mantissa of more
// than 53 bits.
func (b *Block) Float64s(member ...string) ([]float64, error) {
	return collect(b, member, isFloat, func(t *Type, p []byte) (float64, error) { return t.number(p), nil })
}

// Strings returns strings of fixed and of variable length, without their padding. It
// does not change their bytes, which are UTF-8 if Type.UTF8 is set.
func (b *Block) Strings(member ...string) ([]string, error) {
	reader := b.variableReader()
	return collect(b, member, isString, func(t *Type, p []byte) (string, error) {
		if t.Class == Variable {
			var err error
			if p, _, err = reader.fetch(t, p); err != nil {
				return "", err
			}
		}
		return t.text(p), nil
	})
}

// Bytes returns values of any type as they are in the file, one slice for each value. Use
// it for opaque values and references. It fetches values of variable length; the slices
// of other values share memory with b.Data.
func (b *Block) Bytes(member ...string) ([][]byte, error) {
	reader := b.variableReader()
	anything := func(*Type) bool { return true }
	return collect(b, member, anything, func(t *Type, p []byte) ([]byte, error) {
		if t.Class != Variable {
			return p[:len(p):len(p)], nil
		}
		p, _, err := reader.fetch(t, p)
		return bytes.Clone(p), err
	})
}

// Sequences yields each sequence of variable length as a block of its own. Everything
// that it fetches, including sequences in sequences, is at most 4 times as large as the
// file.
func (b *Block) Sequences(member ...string) iter.Seq2[*Block, error] {
	return func(yield func(*Block, error) bool) {
		isSequence := func(t *Type) bool { return t.Class == Variable && !t.IsString }
		reader := b.variableReader()
		err := b.each(member, isSequence, func(t *Type, p []byte) error {
			data, n, err := reader.fetch(t, p)
			if err != nil {
				return err
			}
			nested := &Block{Rows: n, Data: bytes.Clone(data), file: b.file, path: b.path, datatype: t.Base, cells: 1, reader: reader}
			if !yield(nested, nil) {
				return errDone
			}
			return nil
		})
		if err = done(err); err != nil {
			yield(nil, within(b.path, err))
		}
	}
}

func collect[T any](b *Block, member []string, fits func(*Type) bool, decode func(*Type, []byte) (T, error)) ([]T, error) {
	var values []T
	err := b.each(member, fits, func(t *Type, p []byte) error {
		if values == nil {
			values = make([]T, 0, len(b.Data)/int(b.datatype.Size)*b.perElement(member))
		}
		v, err := decode(t, p)
		values = append(values, v)
		return err
	})
	if err != nil {
		return nil, within(b.path, err)
	}
	return values, nil
}

// step is one way into an element: to the bytes from offset on, count times, stride bytes
// apart.
type step struct {
	offset, stride int
	count          int
}

// steps returns the way to a member, and its type. The way goes through arrays and
// through the parts of complex numbers.
func (b *Block) steps(member []string) ([]step, *Type, error) {
	t := b.datatype
	var steps []step
	for i := 0; ; {
		switch {
		case t.Class == Array || t.Class == Complex:
			steps = append(steps, step{0, int(t.Base.Size), int(t.Size / t.Base.Size)})
			t = t.Base
		case i == len(member):
			return steps, t, nil
		default:
			k := slices.IndexFunc(t.Members, func(m Member) bool { return m.Name == member[i] })
			if k < 0 {
				return nil, nil, fault(ErrNotFound, "datatype", -1, "no member %q in %s", strings.Join(member[:i+1], "/"), t.Class)
			}
			steps = append(steps, step{int(t.Members[k].Offset), 0, 1})
			t = t.Members[k].Type
			i++
		}
	}
}

func (b *Block) perElement(member []string) int {
	steps, _, _ := b.steps(member)
	n := 1
	for _, s := range steps {
		n *= s.count
	}
	return n
}

func (b *Block) each(member []string, fits func(*Type) bool, visit func(*Type, []byte) error) error {
	steps, t, err := b.steps(member)
	if err != nil {
		return err
	}
	if !fits(t) {
		return fault(ErrWrongType, "datatype", -1, "%q is %s", strings.Join(member, "/"), t)
	}
	var down func(p []byte, steps []step) error
	down = func(p []byte, steps []step) error {
		if len(steps) == 0 {
			return visit(t, p[:t.Size])
		}
		s := steps[0]
		for i := range s.count {
			if err := down(p[s.offset+i*s.stride:], steps[1:]); err != nil {
				return err
			}
		}
		return nil
	}
	for p := b.Data; int64(len(p)) >= b.datatype.Size; p = p[b.datatype.Size:] {
		if err := down(p[:b.datatype.Size], steps); err != nil {
			return err
		}
	}
	return nil
}

// These functions report which method of Block reads the values of a type.

func isInteger(t *Type) bool {
	return (t.Class == Integer || t.Class == Bitfield || t.Class == Enum) && t.Size <= 8
}

func isFloat(t *Type) bool { return t.Class == Float && t.Size <= 8 && !t.float.vax }

func isString(t *Type) bool { return t.Class == String || t.Class == Variable && t.IsString }

// bits returns up to 8 bytes as one number.
func (t *Type) bits(p []byte) uint64 {
	var word [8]byte
	if t.BigEndian {
		copy(word[8-len(p):], p)
		return binary.BigEndian.Uint64(word[:])
	}
	copy(word[:], p)
	return binary.LittleEndian.Uint64(word[:])
}

func (t *Type) integer(p []byte) (n uint64, negative bool) {
	if t.Class == Enum {
		t = t.Base
	}
	n = t.bits(p) >> t.BitOffset
	unused := 64 - t.Precision
	n = n << unused
	if t.Signed {
		signed := int64(n) >> unused
		return uint64(signed), signed < 0
	}
	return n >> unused, false
}

func (t *Type) number(p []byte) float64 {
	f, n := *t.float, t.bits(p)
	switch {
	case t.Size == 8 && f == floatFormat{63, 52, 11, 0, 52, 1023, 2, false}:
		return math.Float64frombits(n)
	case t.Size == 4 && f == floatFormat{31, 23, 8, 0, 23, 127, 2, false}:
		return float64(math.Float32frombits(uint32(n)))
	}
	field := func(at, width int) uint64 { return n >> at & (1<<width - 1) }
	mantissa, exponent := field(f.mantissa, f.mantissaBits), field(f.exponent, f.exponentBits)
	value, power := math.Ldexp(float64(mantissa), -f.mantissaBits), int(exponent)-int(f.bias)
	switch {
	case exponent == 1<<f.exponentBits-1 && mantissa == 0:
		value = math.Inf(1)
	case exponent == 1<<f.exponentBits-1:
		value = math.NaN()
	case f.normalization == 2 && exponent == 0:
		value = math.Ldexp(value, 1+power)
	case f.normalization == 2:
		value = math.Ldexp(1+value, power)
	default:
		value = math.Ldexp(value, power)
	}
	if field(f.sign, 1) == 1 {
		value = -value
	}
	return value
}

// text returns a string without its padding.
func (t *Type) text(p []byte) string {
	switch t.Padding {
	case NulTerminated:
		if end := bytes.IndexByte(p, 0); end >= 0 {
			p = p[:end]
		}
	case NulPadded:
		p = bytes.TrimRight(p, "\x00")
	case SpacePadded:
		p = bytes.TrimRight(p, " ")
	}
	return string(p)
}

// variableReader fetches data of variable length for one call.
type variableReader struct {
	file    *File
	reads   budget // scattered values make the same collections be read again
	payload budget // in a good file no two values share bytes
}

func (b *Block) variableReader() *variableReader {
	if b.reader != nil {
		return b.reader
	}
	return &variableReader{b.file, budget{left: 64*b.file.size + 1<<20}, budget{left: 4 * b.file.size}}
}

// fetch returns the data of a value, shared, with their number of elements.
func (r *variableReader) fetch(t *Type, p []byte) ([]byte, int, error) {
	d := decoder{file: r.file, structure: "variable-length data", start: -1, data: p}
	n, address, index := uint64(d.u32()), d.address(), d.u32()
	if n == 0 || address == 0 || address == undefined {
		return nil, 0, nil
	}
	data, err := r.file.heap.object(r.file, &r.reads, address, index)
	if err != nil {
		return nil, 0, err
	}
	size, ok := product(n, uint64(t.Base.Size))
	if !ok || size > uint64(len(data)) {
		return nil, 0, fault(ErrCorrupt, "global heap object", r.file.super.base+int64(address), "%d elements of %d bytes, but the object has %d bytes", n, t.Base.Size, len(data))
	}
	return data[:size], int(n), r.payload.spend("variable-length data", -1, size)
}

// Value returns all elements. The result is []int64 for signed integers and their enums,
// []uint64 for unsigned ones and bit fields, []float64, []string, []any with such results
// for sequences of variable length, map[string]any with the results of the members for
// compounds, and [][]byte for everything else. Arrays are flat.
func (b *Block) Value() (any, error) {
	return b.value(nil)
}

// value does for a member what Value does for the element.
func (b *Block) value(member []string) (any, error) {
	_, t, err := b.steps(member)
	if err != nil {
		return nil, err
	}
	base := t
	if t.Class == Enum {
		base = t.Base
	}
	switch {
	case isInteger(t) && base.Signed:
		return b.Int64s(member...)
	case isInteger(t):
		return b.Uint64s(member...)
	case isFloat(t):
		return b.Float64s(member...)
	case isString(t):
		return b.Strings(member...)
	case t.Class == Variable:
		values := []any{}
		for nested, err := range b.Sequences(member...) {
			if err != nil {
				return nil, err
			}
			v, err := nested.Value()
			if err != nil {
				return nil, err
			}
			values = append(values, v)
		}
		return values, nil
	case t.Class == Compound:
		values := make(map[string]any)
		for _, m := range t.Members {
			v, err := b.value(append(member[:len(member):len(member)], m.Name))
			if err != nil {
				return nil, fmt.Errorf("member %q: %w", m.Name, err)
			}
			values[m.Name] = v
		}
		return values, nil
	}
	return b.Bytes(member...)
}
