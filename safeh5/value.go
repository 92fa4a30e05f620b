package safeh5

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/cidstore/cidstore/hdf5io"
)

// Enum is the interface that a Go integer type implements to become an enum in the file.
// Its method returns the names, each with its value. Values without a name may be written.
type Enum interface{ H5Enum() []hdf5io.EnumMember }

// Append appends rows along the first dimension of a dataset whose elements are of type T.
// With one dimension the values are the rows; with more, values has complete rows, one
// after another. If T is string, the elements must be of a string type.
func Append[T any](d *Dataset, values []T) error {
	return d.do(func() error {
		p, err := encode(d, values)
		if err != nil {
			return err
		}
		return d.append(p)
	})
}

// Write writes the box that begins at start and has count elements along each dimension,
// the last dimension varying fastest. If start and count are nil, the box is all elements.
func Write[T any](d *Dataset, start, count []uint64, values []T) error {
	return d.do(func() error {
		p, err := encode(d, values)
		if err != nil {
			return err
		}
		return d.write(start, count, p)
	})
}

// encode returns values as the file stores them, valid until the next call for d.
func encode[T any](d *Dataset, values []T) ([]byte, error) {
	want := d.typ
	if p, ok := any(values).([]byte); ok && want.Equal(hdf5io.Uint(1)) {
		return p, nil
	}
	c, err := coderOf(reflect.TypeFor[T](), "")
	if err != nil {
		return nil, err
	}
	if c.kind == reflect.String { // a Go string has no fixed size: use that of the elements
		c = &coder{kind: reflect.String, typ: hdf5io.String(int(want.Size()))}
	}
	if !c.typ.Equal(want) && !want.IsEnumOf(c.typ) {
		return nil, fmt.Errorf("values of type %v, elements are %v", c.typ, want)
	}
	size := int(c.typ.Size())
	if len(values) > math.MaxInt/max(size, 1) {
		return nil, errors.New("too many values")
	}
	p := slices.Grow(d.scratch[:0], len(values)*size)[:len(values)*size]
	d.scratch = p
	if basic(c.kind) {
		if n, err := binary.Encode(p, binary.LittleEndian, values); err == nil && n == len(p) {
			return p, nil
		}
	}
	clear(p)
	v := reflect.ValueOf(values)
	for i := range values {
		if err := c.put(p[i*size:(i+1)*size], v.Index(i)); err != nil {
			return nil, fmt.Errorf("value %d: %w", i, err)
		}
	}
	return p, nil
}

// basic reports whether encoding/binary can encode a slice of the kind at once.
func basic(k reflect.Kind) bool {
	return k == reflect.Bool || k >= reflect.Int8 && k <= reflect.Int64 || k >= reflect.Uint8 && k <= reflect.Uint64 ||
		k >= reflect.Float32 && k <= reflect.Complex128
}

// datatypeOf returns the type of elements like value, or value itself if it is an
// hdf5io.Datatype.
func datatypeOf(value any) (hdf5io.Datatype, error) {
	if t, ok := value.(hdf5io.Datatype); ok {
		return t, nil
	}
	if value == nil {
		return hdf5io.Datatype{}, errors.New("no Type, want a value of the elements' Go type")
	}
	c, err := coderOf(reflect.TypeOf(value), "")
	if err != nil {
		return hdf5io.Datatype{}, err
	}
	if c.kind == reflect.String {
		return hdf5io.Datatype{}, errors.New("a string has no fixed size, want hdf5io.String(size)")
	}
	return c.typ, nil
}

// coder says how the file stores values of one Go type.
type coder struct {
	kind   reflect.Kind
	typ    hdf5io.Datatype
	base   *coder  // of an array
	count  int     // its elements
	fields []field // of a struct
}

type field struct {
	index  int
	offset int
	*coder
}

// coders caches the coders of types without a tag.
var coders sync.Map

// coderOf returns the coder of a type; tag is what follows the name in a field's tag.
func coderOf(t reflect.Type, tag string) (*coder, error) {
	if tag == "" {
		if c, ok := coders.Load(t); ok {
			return c.(*coder), nil
		}
	}
	c, err := newCoder(t, tag, 0)
	if err == nil && tag == "" {
		coders.Store(t, c)
	}
	return c, err
}

const mostNested = 8 // arrays and structs in each other, as in hdf5io

func newCoder(t reflect.Type, tag string, depth int) (*coder, error) {
	if depth >= mostNested {
		return nil, fmt.Errorf("%v: nested deeper than %d", t, mostNested)
	}
	c := &coder{kind: t.Kind()}
	size := int(t.Size())
	if named, ok := reflect.Zero(t).Interface().(Enum); ok && tag == "" {
		return c, c.enum(named, size)
	}
	switch c.kind {
	case reflect.String:
		if tag == "" && depth == 0 {
			return c, nil
		}
		n, err := strconv.ParseUint(tag, 10, 16)
		if err != nil || n == 0 {
			return nil, fmt.Errorf("a string field has the tag %q, want its size in bytes", tag)
		}
		c.typ = hdf5io.String(int(n))
		return c, nil
	case reflect.Array:
		return c, c.array(t, tag, depth)
	case reflect.Struct:
		if err := c.structure(t, depth); err != nil {
			return nil, err
		}
	case reflect.Bool:
		c.typ = hdf5io.Bool()
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		c.typ = hdf5io.Int(size)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		c.typ = hdf5io.Uint(size)
	case reflect.Float32:
		c.typ = hdf5io.Float32()
	case reflect.Float64:
		c.typ = hdf5io.Float64()
	case reflect.Complex64:
		c.typ = complexOf(hdf5io.Float32())
	case reflect.Complex128:
		c.typ = complexOf(hdf5io.Float64())
	default:
		return nil, fmt.Errorf("type %v has no fixed size in a file", t)
	}
	if tag != "" {
		return nil, fmt.Errorf("type %v has the tag %q, want none", t, tag)
	}
	return c, nil
}

// enum makes c the coder of an integer type that has names.
func (c *coder) enum(named Enum, size int) error {
	base := hdf5io.Uint(size)
	switch c.kind {
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		base = hdf5io.Int(size)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
	default:
		return fmt.Errorf("enum %T is no integer of fixed size", named)
	}
	c.typ = hdf5io.Enum(base, named.H5Enum()...)
	return nil
}

func complexOf(part hdf5io.Datatype) hdf5io.Datatype {
	return hdf5io.Compound(2*part.Size(), hdf5io.Field{Name: "r", Type: part}, hdf5io.Field{Name: "i", Offset: part.Size(), Type: part})
}

// array joins the dimensions of arrays of arrays.
func (c *coder) array(t reflect.Type, tag string, depth int) error {
	if tag == "string" && t.Elem().Kind() == reflect.Uint8 && t.Len() > 0 {
		c.typ, c.count = hdf5io.String(t.Len()), t.Len()
		c.base = &coder{kind: reflect.Uint8, typ: hdf5io.Uint(1)}
		return nil
	}
	if tag != "" {
		return fmt.Errorf("type %v has the tag %q, want none, or string for bytes", t, tag)
	}
	var dims []uint32
	base := t
	for base.Kind() == reflect.Array {
		if base.Len() == 0 || base.Len() > math.MaxInt32 {
			return fmt.Errorf("type %v: an array of %d", t, base.Len())
		}
		dims = append(dims, uint32(base.Len()))
		base = base.Elem()
	}
	elements, err := newCoder(base, "", depth+1)
	if err != nil {
		return err
	}
	c.typ, c.count, c.base = hdf5io.Array(elements.typ, dims...), t.Len(), elements
	if len(dims) > 1 { // the coder goes one level at a time
		if c.base, err = newCoder(t.Elem(), "", depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (c *coder) structure(t reflect.Type, depth int) error {
	var fields []hdf5io.Field
	offset := 0
	for i := range t.NumField() {
		f := t.Field(i)
		name, tag, _ := strings.Cut(f.Tag.Get("h5"), ",")
		if name == "-" && tag == "" {
			continue
		}
		if !f.IsExported() {
			return fmt.Errorf("field %s of %v is not exported; the tag h5:\"-\" leaves it out", f.Name, t)
		}
		if name == "" {
			name = f.Name
		}
		part, err := newCoder(f.Type, tag, depth+1)
		if err != nil {
			return fmt.Errorf("field %s: %w", f.Name, err)
		}
		fields = append(fields, hdf5io.Field{Name: name, Offset: uint32(offset), Type: part.typ})
		c.fields = append(c.fields, field{i, offset, part})
		offset += int(part.typ.Size())
	}
	if len(fields) == 0 {
		return fmt.Errorf("type %v has no field", t)
	}
	c.typ = hdf5io.Compound(uint32(offset), fields...)
	return nil
}

// put encodes v at the start of p, which is zero.
func (c *coder) put(p []byte, v reflect.Value) error {
	switch c.kind {
	case reflect.Bool:
		if v.Bool() {
			p[0] = 1
		}
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		putUint(p, uint64(v.Int()), c.typ.Size())
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		putUint(p, v.Uint(), c.typ.Size())
	case reflect.Float32:
		binary.LittleEndian.PutUint32(p, math.Float32bits(float32(v.Float())))
	case reflect.Float64:
		binary.LittleEndian.PutUint64(p, math.Float64bits(v.Float()))
	case reflect.Complex64, reflect.Complex128:
		_, err := binary.Encode(p, binary.LittleEndian, v.Interface())
		return err
	case reflect.String:
		return putString(p, v.String(), int(c.typ.Size()))
	case reflect.Array:
		for i, size := 0, int(c.base.typ.Size()); i < c.count; i++ {
			if err := c.base.put(p[i*size:], v.Index(i)); err != nil {
				return err
			}
		}
	case reflect.Struct:
		for _, f := range c.fields {
			if err := f.put(p[f.offset:], v.Field(f.index)); err != nil {
				return err
			}
		}
	}
	return nil
}

func putUint(p []byte, n uint64, size uint32) {
	for i := range size {
		p[i] = byte(n >> (8 * i))
	}
}

// putString writes a string. It refuses one that could not be read back.
func putString(p []byte, s string, size int) error {
	if len(s) > size || strings.IndexByte(s, 0) >= 0 {
		return fmt.Errorf("text %.40q of %d bytes, want at most %d without NUL", s, len(s), size)
	}
	copy(p[:size], s)
	return nil
}

func attributeOf(name string, value any) (hdf5io.Attribute, error) {
	a := hdf5io.Attribute{Name: name}
	v := reflect.ValueOf(value)
	if !v.IsValid() {
		return a, errors.New("no value")
	}
	element, values := v.Type(), []reflect.Value{v}
	if v.Kind() == reflect.Slice {
		element, values = v.Type().Elem(), nil
		for i := range v.Len() {
			values = append(values, v.Index(i))
		}
		a.Dims = []uint64{uint64(v.Len())}
	}
	c, err := coderOf(element, "")
	if err != nil {
		return a, err
	}
	if c.kind == reflect.String { // make room for the longest
		size := 1
		for _, v := range values {
			size = max(size, v.Len())
		}
		c = &coder{kind: reflect.String, typ: hdf5io.String(size)}
	}
	a.Type = c.typ
	size := int(c.typ.Size())
	a.Data = make([]byte, len(values)*size)
	for i, v := range values {
		if err := c.put(a.Data[i*size:(i+1)*size], v); err != nil {
			return a, err
		}
	}
	return a, nil
}
