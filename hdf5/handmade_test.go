package hdf5

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// message1 is a message of a version 1 object header.
type message1 struct {
	kind int
	data []byte
}

// bytesOf strings numbers together: a byte is 1 byte, u16, u32 and u64 as many as
// they say, and texts are themselves.
func bytesOf(parts ...any) []byte {
	var p []byte
	for _, part := range parts {
		switch v := part.(type) {
		case int:
			p = append(p, byte(v))
		case uint16:
			p = binary.LittleEndian.AppendUint16(p, v)
		case uint32:
			p = binary.LittleEndian.AppendUint32(p, v)
		case uint64:
			p = binary.LittleEndian.AppendUint64(p, v)
		case string:
			p = append(p, v...)
		case []byte:
			p = append(p, v...)
		default:
			panic(part)
		}
	}
	return p
}

// oldFile is a file of version 0 whose root is an object with these messages,
// followed by data, which begins at dataAt.
func oldFile(data []byte, messages ...message1) []byte {
	var body []byte
	for _, m := range messages {
		padded := append(bytes.Clone(m.data), make([]byte, (8-len(m.data)%8)%8)...)
		body = append(body, bytesOf(uint16(m.kind), uint16(len(padded)), 0, 0, 0, 0, padded)...)
	}
	head := bytesOf(1, 0, uint16(len(messages)), uint32(1), uint32(len(body)), uint32(0), body)
	end := uint64(96 + len(head))
	for end < dataAt {
		head, end = append(head, 0), end+1
	}
	if end > dataAt {
		panic("too many messages")
	}
	return bytesOf(signature, 0, 0, 0, 0, 0, 8, 8, 0, uint16(4), uint16(16), uint32(0),
		uint64(0), undefined, end+uint64(len(data)), undefined,
		uint64(0), uint64(96), uint32(0), uint32(0), uint64(0), uint64(0), head, data)
}

const dataAt = 1024

// openObject opens the object that is the root of a file.
func openObject(t *testing.T, file []byte) (Object, error) {
	t.Helper()
	f, err := NewReader(bytes.NewReader(file), int64(len(file)), nil)
	if err != nil {
		return nil, err
	}
	return f.object(f.newBudget(), f.super.root, "/")
}

func openDataset(t *testing.T, file []byte) *Dataset {
	t.Helper()
	o, err := openObject(t, file)
	must(t, err)
	return o.(*Dataset)
}

// space1 is a version 1 dataspace.
func space1(dims ...uint64) message1 {
	p := bytesOf(1, len(dims), 0, 0, uint32(0))
	for _, n := range dims {
		p = bytesOf(p, n)
	}
	return message1{messageDataspace, p}
}

func integerType(size int, signed bool) []byte {
	flags := 0
	if signed {
		flags = 8
	}
	return bytesOf(0x10, flags, 0, 0, uint32(size), uint16(0), uint16(8*size))
}

// TestOldLayouts reads layouts of versions 1 and 2, which the library has not
// written for twenty years, with the old fill value.
func TestOldLayouts(t *testing.T) {
	datatype := message1{messageDatatype, integerType(2, false)}
	fill := message1{messageOldFill, bytesOf(uint32(2), uint16(7))}
	values := bytesOf(uint16(1), uint16(2), uint16(3), uint16(4))
	chunkTree := bytesOf("TREE", 1, 0, uint16(1), undefined, undefined,
		uint32(4), uint32(0), uint64(2), uint64(0), uint64(dataAt+128), // key: 4 bytes at element 2
		uint32(0), uint32(0), uint64(4), uint64(0))
	chunkTree = append(chunkTree, make([]byte, 128-len(chunkTree))...)
	for name, c := range map[string]struct {
		layout, data []byte
		want         []uint64
	}{
		"contiguous 1":  {bytesOf(1, 1, 1, 0, uint32(0), uint64(dataAt), uint32(4)), values, []uint64{1, 2, 3, 4}},
		"contiguous 2":  {bytesOf(2, 1, 1, 0, uint32(0), uint64(dataAt), uint32(4)), values, []uint64{1, 2, 3, 4}},
		"not allocated": {bytesOf(1, 1, 1, 0, uint32(0), undefined, uint32(4)), nil, []uint64{7, 7, 7, 7}},
		"compact 2":     {bytesOf(2, 1, 0, 0, uint32(0), uint32(4), uint32(8), values), nil, []uint64{1, 2, 3, 4}},
		"chunked 1":     {bytesOf(1, 2, 2, 0, uint32(0), uint64(dataAt), uint32(2), uint32(2)), bytesOf(chunkTree, values), []uint64{7, 7, 1, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			d := openDataset(t, oldFile(c.data, space1(4), datatype, fill, message1{messageLayout, c.layout}))
			for b, err := range d.Rows(0, 4) {
				must(t, err)
				if got, err := b.Uint64s(); err != nil || !reflect.DeepEqual(got, c.want) {
					t.Errorf("%v, %v, want %v", got, err, c.want)
				}
			}
		})
	}
}

// attributeFile is a file whose root has one attribute "a" of a type.
func attributeFile(datatype, data []byte, n uint64) []byte {
	pad := func(p []byte) []byte { return append(bytes.Clone(p), make([]byte, (8-len(p)%8)%8)...) }
	space := space1(n).data
	return oldFile(nil, message1{messageSymbolTable, bytesOf(undefined, undefined)},
		message1{messageAttribute, bytesOf(1, 0, uint16(2), uint16(len(datatype)), uint16(len(space)), pad([]byte("a\x00")), pad(datatype), pad(space), data)})
}

var float32Type = bytesOf(0x11, 0x20, 31, 0, uint32(4), uint16(0), uint16(32), 23, 8, 0, 23, uint32(127))

// TestRareTypes reads types that h5py does not make.
func TestRareTypes(t *testing.T) {
	float24 := bytesOf(0x11, 0x21, 23, 0, uint32(3), uint16(0), uint16(24), 15, 8, 0, 15, uint32(127)) // big-endian
	compound1 := bytesOf(0x16, 2, 0, 0, uint32(7),
		"n\x00\x00\x00\x00\x00\x00\x00", uint32(0), 0, 0, 0, 0, uint32(0), uint32(0), uint32(0), uint32(0), uint32(0), uint32(0), integerType(1, false),
		"grid\x00\x00\x00\x00", uint32(1), 2, 0, 0, 0, uint32(0), uint32(0), uint32(3), uint32(1), uint32(0), uint32(0), integerType(2, true))
	for name, c := range map[string]struct {
		datatype, data []byte
		n              uint64
		want           any
	}{
		"bits 4 to 9, signed":   {bytesOf(0x10, 8, 0, 0, uint32(2), uint16(4), uint16(6)), bytesOf(uint16(0x3f1), uint16(0x1f1)), 2, []int64{-1, 31}},
		"bits 4 to 9, unsigned": {bytesOf(0x10, 1, 0, 0, uint32(2), uint16(4), uint16(6)), []byte{0x03, 0xf1}, 1, []uint64{63}},
		"three bytes":           {bytesOf(0x10, 8, 0, 0, uint32(3), uint16(0), uint16(24)), []byte{0xfe, 0xff, 0xff}, 1, []int64{-2}},
		"bit field":             {bytesOf(0x14, 0, 0, 0, uint32(1), uint16(0), uint16(8)), []byte{0x81}, 1, []uint64{0x81}},
		"float of 24 bits":      {float24, []byte{0xbf, 0xc0, 0, 0x7f, 0x80, 0, 0, 0, 0}, 3, []float64{-1.5, math.Inf(1), 0}},
		"spaces":                {bytesOf(0x13, 2, 0, 0, uint32(4)), []byte("a b     "), 2, []string{"a b", ""}},
		"NUL-terminated":        {bytesOf(0x13, 0, 0, 0, uint32(4)), []byte("a\x00b\x00abcd"), 2, []string{"a", "abcd"}},
		"opaque":                {bytesOf(0x15, 8, 0, 0, uint32(2), "a tag\x00\x00\x00"), []byte("xyzw"), 2, [][]byte{[]byte("xy"), []byte("zw")}},
		"time":                  {bytesOf(0x12, 0, 0, 0, uint32(4), uint16(32)), []byte("abcd"), 1, [][]byte{[]byte("abcd")}},
		"complex":               {bytesOf(0x5b, 1, 0, 0, uint32(8), float32Type), bytesOf(math.Float32bits(1.5), math.Float32bits(-2)), 1, []float64{1.5, -2}},
		"compound 1":            {compound1, []byte{5, 1, 0, 2, 0, 0xff, 0xff}, 1, map[string]any{"n": []uint64{5}, "grid": []int64{1, 2, -1}}},
	} {
		t.Run(name, func(t *testing.T) {
			o, err := openObject(t, attributeFile(c.datatype, c.data, c.n))
			must(t, err)
			a, err := o.Attribute("a")
			must(t, err)
			if got, err := a.Value(); err != nil || !reflect.DeepEqual(got, c.want) {
				t.Errorf("%v, %v, want %v", got, err, c.want)
			}
		})
	}
}

// TestBadTypes reads types that do not agree with their sizes.
func TestBadTypes(t *testing.T) {
	deep := integerType(1, false)
	for range 40 {
		deep = bytesOf(0x3a, 0, 0, 0, uint32(1), 1, uint32(1), deep)
	}
	for name, c := range map[string]struct {
		datatype []byte
		want     error
		words    string
	}{
		"no bytes":         {bytesOf(0x10, 0, 0, 0, uint32(0), uint16(0), uint16(8)), ErrCorrupt, "0 bytes"},
		"too many bits":    {bytesOf(0x10, 0, 0, 0, uint32(1), uint16(1), uint16(8)), ErrCorrupt, "bits 1 to 9"},
		"version 7":        {bytesOf(0x70, 0, 0, 0, uint32(1), uint16(0), uint16(8)), ErrUnsupported, "version 7"},
		"class 12":         {bytesOf(0x3c, 0, 0, 0, uint32(1)), ErrUnsupported, "class 12"},
		"polar":            {bytesOf(0x5b, 3, 0, 0, uint32(16), float32Type), ErrUnsupported, "complex"},
		"half a complex":   {bytesOf(0x5b, 1, 0, 0, uint32(4), float32Type), ErrCorrupt, "complex"},
		"wrong array":      {bytesOf(0x3a, 0, 0, 0, uint32(3), 1, uint32(2), integerType(2, false)), ErrCorrupt, "array type"},
		"huge array":       {bytesOf(0x3a, 0, 0, 0, uint32(4), 2, uint32(1<<31), uint32(1<<31), integerType(2, false)), ErrCorrupt, "array type"},
		"deep":             {deep, ErrLimit, "32 deep"},
		"outside member":   {bytesOf(0x36, 1, 0, 0, uint32(2), "a\x00", 1, integerType(2, false)), ErrCorrupt, "bytes 1 to 3 of 2"},
		"members overlap":  {bytesOf(0x36, 2, 0, 0, uint32(2), "a\x00", 0, integerType(2, false), "b\x00", 0, integerType(1, false)), ErrCorrupt, "overlap"},
		"enum of a string": {bytesOf(0x38, 0, 0, 0, uint32(2), 0x13, 0, 0, 0, uint32(2)), ErrCorrupt, "enum"},
		"cut":              {bytesOf(0x36, 9, 0, 0, uint32(9), "a\x00"), ErrCorrupt, "bytes left"},
	} {
		t.Run(name, func(t *testing.T) {
			o, err := openObject(t, attributeFile(c.datatype, make([]byte, 16), 1))
			must(t, err)
			_, err = o.Attribute("a")
			var e *Error
			if !errors.Is(err, c.want) || !errors.As(err, &e) || e.Object != "/" || e.Offset < 96 || !strings.Contains(err.Error(), c.words) {
				t.Errorf("%v, want %v with %q", err, c.want, c.words)
			}
		})
	}
}

// TestFilters reads chunks of filters that h5py does not have, and names those that
// this package does not have.
func TestFilters(t *testing.T) {
	root := objectAt[*Group](t, openSample(t, "filters", nil), "/")
	want := make([]byte, 256)
	for i := range want {
		want[i] = byte(i % 64)
	}
	for name, missing := range map[string]string{
		"bzip2": "", "zstd": "", "skipped": "", "blosc": "filter blosc", "szip": "filter szip", "nbit": "filter nbit", "unknown": "filter 31234", "scaleoffset": "filter scaleoffset",
	} {
		d, err := root.Dataset(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := make([]byte, d.RowSize()*d.Len())
		err = d.ReadRows(got, 0, d.Len())
		switch {
		case missing == "" && (err != nil || !bytes.Equal(got, want)):
			t.Errorf("%s: %v, %x", name, err, got)
		case missing != "" && (!errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), missing) || !strings.HasPrefix(err.Error(), "hdf5: /"+name+": chunk at 0x")):
			t.Errorf("%s: %v, want ErrUnsupported with %q", name, err, missing)
		}
	}
}

// TestFletcherOfOldLibraries accepts the checksum with its bytes swapped.
func TestFletcherOfOldLibraries(t *testing.T) {
	data := []byte("hello world")
	for stored, fits := range map[uint32]bool{0xfc2791ce: true, 0x27fcce91: true, 0xce9127fc: false, 0: false} {
		got, err := unfletcher(binary.LittleEndian.AppendUint32(bytes.Clone(data), stored))
		if (err == nil) != fits || fits && !bytes.Equal(got, data) {
			t.Errorf("%08x: %q, %v", stored, got, err)
		}
	}
}

func TestNotHDF5(t *testing.T) {
	for name, data := range map[string][]byte{
		"empty": nil, "text": []byte("hello"), "long": make([]byte, 5000), "signature at 256": bytesOf(make([]byte, 256), signature, make([]byte, 1000)),
		"damaged signature": bytes.Replace(readSample(t, "upstream-empty"), []byte("HDF"), []byte("HDG"), 1),
	} {
		if _, err := NewReader(bytes.NewReader(data), int64(len(data)), nil); !errors.Is(err, ErrNotHDF5) {
			t.Errorf("%s: %v, want ErrNotHDF5", name, err)
		}
	}
	if _, err := Open(filepath.Join("testdata", "absent.h5"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an absent file: %v", err)
	}
	if _, err := Open("testdata", nil); err == nil {
		t.Error("a folder was opened")
	}
}
