package hdf5io

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/cidstore/cidstore/internal/corrupt"
)

var pointerType = Compound(12, Field{"bucket_id", 0, Uint(4)}, Field{"ref", 4, Uint(8)})

func TestAttributeBytes(t *testing.T) {
	for _, row := range []struct {
		a    Attribute
		want string
	}{
		{Attribute{Name: "format_version", Type: Uint(4), Data: []byte{1, 0, 0, 0}},
			`03 00 0f 00 0c 00 04 00 00 "format_version" 00 30 00 00 00 04 00 00 00 00 00 20 00 | 02 00 00 00 | 01 00 00 00`},
		{Attribute{Name: "global_depth", Type: Uint(1), Data: []byte{13}},
			`03 00 0d 00 0c 00 04 00 00 "global_depth" 00 30 00 00 00 01 00 00 00 00 00 08 00 | 02 00 00 00 | 0d`},
		{Attribute{Name: "load", Type: Float64(), Data: []byte{0, 0, 0, 0, 0, 0, 0xe8, 0x3f}},
			`03 00 05 00 14 00 04 00 00 "load" 00 31 20 3f 00 08 00 00 00 00 00 40 00 34 0b 00 34 ff 03 00 00 | 02 00 00 00 | 00 00 00 00 00 00 e8 3f`},
		{Attribute{Name: "name", Type: String(16), Data: []byte("0123456789\x00\x00\x00\x00\x00\x00")},
			`03 00 05 00 08 00 04 00 00 "name" 00 33 11 00 00 10 00 00 00 | 02 00 00 00 | "0123456789" 00*6`},
		{Attribute{Name: "dir", Type: pointerType, Dims: []uint64{2}, Data: make([]byte, 24)},
			`03 00 04 00 30 00 0c 00 00 "dir" 00 36 02 00 00 0c 00 00 00
			"bucket_id" 00 00 30 00 00 00 04 00 00 00 00 00 20 00 "ref" 00 04 30 00 00 00 08 00 00 00 00 00 40 00
			| 02 01 00 01 02 00*7 | 00*8 00*8 00*8`},
		{Attribute{Name: "ß", Type: Int(2), Data: []byte{0xff, 0xff}},
			`03 00 03 00 0c 00 04 00 01 c3 9f 00 30 08 00 00 02 00 00 00 00 00 10 00 | 02 00 00 00 | ff ff`},
	} {
		want := unhex(t, row.want)
		sameBytes(t, row.a.append(nil), want)
		got, err := parseAttribute(want)
		if err != nil || !reflect.DeepEqual(got, row.a) {
			t.Errorf("%s: parsed %+v, %v, want %+v", row.a.Name, got, err, row.a)
		}
	}
}

// The offset of a field takes as many bytes as the size of its compound.
func TestFieldOffsetWidth(t *testing.T) {
	for size, width := range map[uint32]int{1: 1, 255: 1, 256: 2, 65535: 2, 65536: 3, 1 << 24: 4} {
		d := Compound(size, Field{"x", size - 1, Uint(1)})
		p := d.append(nil)
		if want := 8 + 2 + width + 12; len(p) != want {
			t.Errorf("compound of %d bytes: %d bytes of datatype, want %d", size, len(p), want)
		}
		if got, n, err := parseDatatype(p); err != nil || n != len(p) || !got.Equal(d) {
			t.Errorf("compound of %d bytes: parsed %v, %d bytes, %v", size, got, n, err)
		}
	}
}

func TestDatatypeRefuses(t *testing.T) {
	deep := Uint(1)
	for range maxDatatypeDepth {
		deep = Array(deep, 1)
	}
	for name, d := range map[string]Datatype{
		"zero value":         {},
		"integer of 3":       Uint(3),
		"integer of -1":      Int(-1),
		"empty string":       String(0),
		"array of nothing":   Array(Uint(1)),
		"array with a zero":  Array(Uint(1), 4, 0),
		"array too large":    Array(Uint(8), 1<<16, 1<<16),
		"array of rank 5":    Array(Uint(1), 1, 1, 1, 1, 1),
		"too deep":           deep,
		"no fields":          Compound(8),
		"field beyond end":   Compound(8, Field{"a", 1, Uint(8)}),
		"fields overlap":     Compound(8, Field{"a", 0, Uint(4)}, Field{"b", 3, Uint(4)}),
		"fields descend":     Compound(8, Field{"a", 4, Uint(4)}, Field{"b", 0, Uint(4)}),
		"one name twice":     Compound(8, Field{"a", 0, Uint(4)}, Field{"a", 4, Uint(4)}),
		"field without name": Compound(8, Field{"", 0, Uint(4)}),
		"name with NUL":      Compound(8, Field{"a\x00", 0, Uint(4)}),
		"name not UTF-8":     Compound(8, Field{"\xff", 0, Uint(4)}),
		"bad field":          Compound(8, Field{"a", 0, Uint(5)}),
	} {
		if err := d.check(); err == nil {
			t.Errorf("%s: %v is accepted", name, d)
		}
		if name == "zero value" {
			continue // there is nothing to encode
		}
		if _, _, err := parseDatatype(d.append(nil)); err == nil {
			t.Errorf("%s: bytes of %v are accepted", name, d)
		}
	}
	if _, _, err := parseDatatype(unhex(t, `33 01 00 00 10 00 00 00`)); err == nil {
		t.Error("an ASCII string is accepted: never written")
	}
}

func TestDatatypeText(t *testing.T) {
	d := Compound(24, Field{"n", 0, Int(4)}, Field{"x", 8, Float64()}, Field{"s", 16, Array(String(2), 2, 2)})
	if got, want := d.String(), "{n i32 @0, x f64 @8, s [2 2]string[2] @16}"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := len(d.fields); got != 3 || d.Size() != 24 {
		t.Errorf("%d fields in %d bytes, want 3 in 24", got, d.Size())
	}
	if d.Equal(Compound(24, d.fields[:2]...)) || !d.Equal(Compound(24, d.fields...)) {
		t.Error("Equal does not compare fields")
	}
}

func drawDatatype(t *rapid.T, depth int) Datatype {
	kinds := 8
	if depth == 3 {
		kinds = 6
	}
	switch rapid.IntRange(0, kinds-1).Draw(t, "class") {
	case 0:
		return Uint(1 << rapid.IntRange(0, 3).Draw(t, "width"))
	case 1:
		return Int(1 << rapid.IntRange(0, 3).Draw(t, "width"))
	case 2:
		return Float64()
	case 3:
		return String(rapid.IntRange(1, 300).Draw(t, "size"))
	case 4:
		return Float32()
	case 5:
		return drawEnum(t)
	case 6:
		return Array(drawDatatype(t, depth+1), rapid.SliceOfN(rapid.Uint32Range(1, 4), 1, maxRank).Draw(t, "dims")...)
	}
	var fields []Field
	end := uint32(0)
	for _, name := range rapid.SliceOfNDistinct(drawName(), 1, 5, rapid.ID).Draw(t, "names") {
		f := Field{name, end + rapid.Uint32Range(0, 9).Draw(t, "gap"), drawDatatype(t, depth+1)}
		end = f.Offset + f.Type.Size()
		fields = append(fields, f)
	}
	return Compound(end+rapid.Uint32Range(0, 300).Draw(t, "tail"), fields...)
}

func drawEnum(t *rapid.T) Datatype {
	if rapid.Bool().Draw(t, "bool") {
		return Bool()
	}
	base, least, most := Uint(2), int64(0), int64(1<<16-1)
	if rapid.Bool().Draw(t, "signed") {
		base, least, most = Int(4), -1<<31, 1<<31-1
	}
	var members []EnumMember
	values := rapid.SliceOfNDistinct(rapid.Int64Range(least, most), 1, 5, rapid.ID).Draw(t, "values")
	for i, name := range rapid.SliceOfNDistinct(drawName(), len(values), len(values), rapid.ID).Draw(t, "names") {
		members = append(members, EnumMember{name, values[i]})
	}
	return Enum(base, members...)
}

func drawName() *rapid.Generator[string] {
	return rapid.StringMatching(`[a-z_]{1,12}|größe[0-9]|[a-z]{255}`)
}

func drawAttributes(t *rapid.T) []Attribute {
	var attributes []Attribute
	for _, name := range rapid.SliceOfNDistinct(drawName(), 0, 6, rapid.ID).Draw(t, "attributes") {
		a := Attribute{Name: name, Type: drawDatatype(t, 2)}
		if rapid.Bool().Draw(t, "simple") {
			a.Dims = rapid.SliceOfN(rapid.Uint64Range(0, 2), 1, 3).Draw(t, "dims")
		}
		size, _ := dataBytes(a.Type.size, a.Dims)
		if size > 50000 {
			continue
		}
		a.Data = rapid.SliceOfN(rapid.Byte(), 1, 1).Draw(t, "fill")
		a.Data = bytes.Repeat(a.Data, int(size))
		attributes = append(attributes, a)
	}
	return attributes
}

func drawLinks(t *rapid.T) (links []link) {
	for _, name := range rapid.SliceOfNDistinct(drawName(), 0, 8, rapid.ID).Draw(t, "links") {
		links = append(links, link{name, rapid.Uint64Range(superblockSize, maxAddress).Draw(t, "address")})
	}
	return links
}

func drawDataset(t *rapid.T) *datasetHeader {
	d := &datasetHeader{Type: drawDatatype(t, 0)}
	d.dims = rapid.SliceOfN(rapid.Uint64Range(0, 1000), 1, maxRank).Draw(t, "dims")
	d.address = rapid.Uint64Range(superblockSize, 1<<50).Draw(t, "address")
	if rapid.Bool().Draw(t, "contiguous") {
		d.size, _ = dataBytes(d.Type.size, d.dims)
		return d
	}
	for _, n := range d.dims {
		d.chunk = append(d.chunk, rapid.Uint32Range(1, 16).Draw(t, "chunk"))
		d.maxDims = append(d.maxDims, rapid.SampledFrom([]uint64{n, n + 5, undefinedAddress}).Draw(t, "max"))
	}
	if rapid.Bool().Draw(t, "fixed") {
		d.maxDims = nil
	}
	d.filtered = rapid.Bool().Draw(t, "filtered")
	if d.filtered {
		d.packing = packing{rapid.Bool().Draw(t, "shuffle"), rapid.Uint8Range(0, maxDeflate).Draw(t, "deflate")}
	}
	d.nodeSize = rapid.SampledFrom([]uint32{512, 2048, 65536}).Draw(t, "node")
	return d
}

func TestObjectHeaderRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		junk := rapid.SliceOfN(rapid.Byte(), 12, 20).Draw(t, "after")
		h := &objectHeader{attributes: drawAttributes(t)}
		if rapid.Bool().Draw(t, "group") {
			h.links = drawLinks(t)
		} else {
			h.dataset = drawDataset(t)
			d := h.dataset
			if chunkBytes, ok := elementBytes(d.Type.size, d.chunk); d.chunk != nil && (!ok || chunkBytes > maxChunkBytes) {
				t.Skip("chunk too large")
			}
		}
		p, err := h.append([]byte("before"))
		must(t, err)
		p = p[len("before"):]
		got, size, err := parseObjectHeader(append(slices.Clip(p), junk...), 99)
		if err != nil || size != len(p) || !reflect.DeepEqual(got, h) {
			t.Fatalf("parsed %+v, %d bytes, %v, want %+v, %d", got, size, err, h, len(p))
		}
		if size, _, err := parseHeaderPrefix(p[:headerPrefixRead], 0); err != nil || size != len(p) {
			t.Fatalf("size from the prefix %d, %v, want %d", size, err, len(p))
		}
	})
}

func sampleHeaders(t rapid.TB) [][]byte {
	attributes := []Attribute{{Name: "dir", Type: pointerType, Dims: []uint64{2}, Data: make([]byte, 24)}}
	chunked := datasetHeader{Type: element, dims: []uint64{25, 2}, maxDims: []uint64{undefinedAddress, 2},
		chunk: []uint32{1, 2}, filtered: true, address: 0x4970, nodeSize: 2048}
	packed, deflated := chunked, chunked
	packed.packing, deflated.packing = packing{shuffle: true, deflate: 9}, packing{deflate: 1}
	deflated.Type = Float32()
	var headers [][]byte
	for _, h := range []objectHeader{
		{links: []link{{"a", 100}, {"größe", 200}}, attributes: attributes},
		{dataset: &datasetHeader{Type: Float64(), dims: []uint64{3}, address: 4096, size: 24}},
		{dataset: &chunked, attributes: attributes},
		{dataset: &datasetHeader{Type: Bool(), address: 4096, size: 1}},
		{dataset: &packed, attributes: attributes},
		{dataset: &deflated, attributes: attributes},
	} {
		p, err := h.append(nil)
		must(t, err)
		headers = append(headers, p)
	}
	return headers
}

func TestObjectHeaderDamage(t *testing.T) {
	for _, p := range sampleHeaders(t) {
		cutAndFlip(t, p, func(p []byte) error { _, _, err := parseObjectHeader(p, 4096); return err })
		if size, _, err := parseHeaderPrefix(p, 0); err != nil || size != len(p) {
			t.Errorf("size %d, %v, want %d", size, err, len(p))
		}
		// The same with a correct checksum: any error is corrupt, nothing panics,
		// and what is accepted can be written again.
		for bit := range 8 * (len(p) - checksumSize) {
			q := bytes.Clone(p)
			q[bit/8] ^= 1 << (bit % 8)
			parseResealed(t, q)
		}
	}
}

// parseResealed parses p with its checksum made right.
func parseResealed(t rapid.TB, p []byte) {
	size, _, err := parseHeaderPrefix(p, 0)
	if err != nil || size > len(p) {
		return
	}
	p = sealed(bytes.Clone(p[:size-checksumSize]), 0)
	h, n, err := parseObjectHeader(p, 0)
	if err != nil {
		if !errors.Is(err, corrupt.Err) {
			t.Fatalf("error %v, want a corrupt one", err)
		}
		return
	}
	again, err := h.append(nil)
	if err != nil {
		t.Fatalf("accepted, but not written again: %v", err)
	}
	h2, _, err := parseObjectHeader(again, 0)
	if err != nil || n != size || !reflect.DeepEqual(h, h2) {
		t.Fatalf("%+v became %+v, %v", h, h2, err)
	}
}

// withMessages is a header of the given messages.
func withMessages(messages []byte) []byte {
	p := append([]byte("OHDR\x02\x02"), binary.LittleEndian.AppendUint32(nil, uint32(len(messages)))...)
	return sealed(append(p, messages...), 0)
}

func TestObjectHeaderRefuses(t *testing.T) {
	const linkInfo, info = "\x02\x12\x00\x00" + noDenseStorage, "\x0a\x02\x00\x01\x00\x00"
	for name, row := range map[string]struct {
		messages string
		names    string // what the error must name; empty: accepted
	}{
		"a group":                      {linkInfo + info, ""},
		"nil message":                  {linkInfo + "\x00\x03\x00\x00abc" + info, ""},
		"unknown message":              {linkInfo + info + "\x10\x00\x00\x00", "unknown type 0x10"},
		"message beyond the end":       {linkInfo + info + "\x06\xff\x00\x00", "link message"},
		"gap":                          {linkInfo + info + "\x00\x00\x00", "3 bytes after"},
		"no group info":                {linkInfo, "neither"},
		"nothing":                      {"", "neither"},
		"two link infos":               {linkInfo + linkInfo + info, "second link info"},
		"group with a dataspace":       {linkInfo + info + "\x01\x04\x00\x00\x02\x00\x00\x00", "neither"},
		"shared message":               {"\x02\x12\x00\x02" + noDenseStorage + info, "flags 0x02"},
		"attribute info, no attribute": {linkInfo + info + "\x15\x12\x00\x04" + noDenseStorage, "attribute info"},
		"group info too long":          {linkInfo + "\x0a\x03\x00\x01\x00\x00\x00", "group info message"},
	} {
		_, _, err := parseObjectHeader(withMessages([]byte(row.messages)), 0x1000)
		if row.names == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if !errors.Is(err, corrupt.Err) || !strings.Contains(err.Error(), row.names) {
			t.Errorf("%s: error %v, want a corrupt one that names %q", name, err, row.names)
		}
	}
	_, _, err := parseObjectHeader(withMessages([]byte(linkInfo+"\x10\x00\x00\x00")), 0x1000)
	if want := "0x1020"; err == nil || !strings.Contains(err.Error(), want) { // 10 bytes of prefix, 22 of link info
		t.Errorf("error %v, want the offset %s of the message", err, want)
	}
	if _, _, err := parseHeaderPrefix([]byte("OHDR\x02\x02\xff\xff\xff\xff\x00\x00"), 0); !errors.Is(err, corrupt.Err) {
		t.Errorf("header of 4 GiB: %v, want a corrupt error", err)
	}
}

func TestHeaderLimits(t *testing.T) {
	good := datasetHeader{Type: Uint(4), dims: []uint64{8}, chunk: []uint32{4}, address: 4096, nodeSize: 2048}
	for name, change := range map[string]func(d *datasetHeader){
		"no dimension":        func(d *datasetHeader) { d.dims, d.chunk = nil, nil },
		"rank 5":              func(d *datasetHeader) { d.dims = make([]uint64, 5) },
		"beyond the maximum":  func(d *datasetHeader) { d.maxDims = []uint64{7} },
		"maximum of rank 2":   func(d *datasetHeader) { d.maxDims = []uint64{8, 8} },
		"too many elements":   func(d *datasetHeader) { d.dims = []uint64{1 << 62} },
		"chunk of rank 2":     func(d *datasetHeader) { d.chunk = []uint32{4, 4} },
		"empty chunk":         func(d *datasetHeader) { d.chunk = []uint32{0} },
		"chunk too large":     func(d *datasetHeader) { d.chunk = []uint32{1 << 30} },
		"index in superblock": func(d *datasetHeader) { d.address = 0 },
		"no index":            func(d *datasetHeader) { d.address = undefinedAddress },
		"no node size":        func(d *datasetHeader) { d.nodeSize = 0 },
		"contiguous size":     func(d *datasetHeader) { d.size = 32 },
		"bad type":            func(d *datasetHeader) { d.Type = Uint(3) },
		"packed, unchecked":   func(d *datasetHeader) { d.filtered, d.deflate = false, 1 },
		"deflate of level 10": func(d *datasetHeader) { d.filtered, d.deflate = true, 10 },
		"filter, contiguous":  func(d *datasetHeader) { d.chunk, d.nodeSize, d.size, d.filtered = nil, 0, 32, true },
		"growing, contiguous": func(d *datasetHeader) { d.chunk, d.nodeSize, d.size, d.maxDims = nil, 0, 32, []uint64{9} },
		"data nowhere":        func(d *datasetHeader) { d.chunk, d.nodeSize, d.size, d.address = nil, 0, 32, undefinedAddress },
		"wrong size":          func(d *datasetHeader) { d.chunk, d.nodeSize, d.size = nil, 0, 31 },
	} {
		d := good
		change(&d)
		if _, err := (&objectHeader{dataset: &d}).append(nil); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	a := Attribute{Name: "a", Type: Uint(1), Data: []byte{1}}
	for name, attributes := range map[string][]Attribute{
		"attribute too short": {{Name: "a", Type: Uint(4), Data: []byte{1}}},
		"attribute twice":     {a, a},
		"attribute of 64 KiB": {{Name: "a", Type: String(65536), Data: make([]byte, 65536)}},
	} {
		if _, err := (&objectHeader{dataset: &good, attributes: attributes}).append(nil); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for _, links := range [][]link{{{"", 100}}, {{"a", 47}}, {{"a", undefinedAddress}}, {{"a", 100}, {"a", 200}}, {{strings.Repeat("a", 256), 100}}} {
		g := objectHeader{links: links}
		if _, err := g.append(nil); err == nil {
			t.Errorf("links %v: no error", links)
		}
	}
	// The largest directory that fits an attribute: a message of 65,535 bytes at most.
	for entries, fits := range map[uint64]bool{5455: true, 5456: false} {
		g := objectHeader{attributes: []Attribute{{Name: "dir", Type: pointerType, Dims: []uint64{entries}, Data: make([]byte, 12*entries)}}}
		if p, err := g.append(nil); (err == nil) != fits {
			t.Errorf("%d pointers: %d bytes, %v, want it to fit: %v", entries, len(p), err, fits)
		}
	}
	var many objectHeader
	for i := range 300 {
		name := strings.Repeat("a", 1+i%200) + strings.Repeat("b", i/200)
		many.attributes = append(many.attributes, Attribute{Name: name, Type: String(65000), Data: make([]byte, 65000)})
	}
	if _, err := many.append(nil); err == nil {
		t.Error("header of 19 MB: no error")
	}
	many.attributes = many.attributes[:250]
	if p, err := many.append(nil); err != nil || len(p) < 16_000_000 {
		t.Errorf("header of 250 large attributes: %d bytes, %v", len(p), err)
	}
}
