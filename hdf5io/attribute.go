package hdf5io

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// Attribute is a small named value of a group or dataset, stored in its object
// header.
type Attribute struct {
	Name string // 1 to 255 bytes of UTF-8 without NUL
	Type Datatype
	Dims []uint64 // up to 4; nil: one element ("scalar")
	Data []byte   // the elements as they are in the file, together under 64 KiB
}

// Text is an attribute of UTF-8 text.
func Text(name, text string) Attribute {
	return Attribute{Name: name, Type: String(len(text)), Data: []byte(text)}
}

// Described are the two attributes by which every dataset of a store explains
// itself: what its elements are, and the units of their fields.
func Described(description, units string) []Attribute {
	return []Attribute{Text("description", description), Text("units", units)}
}

// Attribute message, version 3 (HDF5 spec IV.A.2.m), nothing padded:
//
//	offset  size  field
//	     0     1  version, 3
//	     1     1  flags, 0: neither type nor space is shared
//	     2     2  size of the name with its NUL
//	     4     2  size of the datatype
//	     6     2  size of the dataspace
//	     8     1  character set of the name
//	     9        name and NUL, datatype, dataspace, data
const attributeVersion = 3

// append encodes a as the data of an attribute message. a has passed check.
func (a *Attribute) append(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, attributeVersion, 0)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(a.Name)+1))
	dst = append(dst, 0, 0, 0, 0, nameCharset(a.Name)) // the two sizes are filled in below
	dst = append(append(dst, a.Name...), 0)
	typeStart := len(dst)
	dst = a.Type.append(dst)
	spaceStart := len(dst)
	dst = appendDataspace(dst, a.Dims, nil)
	binary.LittleEndian.PutUint16(dst[start+4:], uint16(spaceStart-typeStart))
	binary.LittleEndian.PutUint16(dst[start+6:], uint16(len(dst)-spaceStart))
	return append(dst, a.Data...)
}

func (a *Attribute) check() error {
	if err := cmp.Or(checkName(a.Name), a.Type.check()); err != nil {
		return err
	}
	if len(a.Dims) > maxRank {
		return fmt.Errorf("%d dimensions, limit %d", len(a.Dims), maxRank)
	}
	size, ok := dataBytes(a.Type.size, a.Dims)
	if !ok || size != uint64(len(a.Data)) {
		return fmt.Errorf("%d bytes of data for %v of %v", len(a.Data), a.Dims, a.Type)
	}
	return nil
}

func (a *Attribute) clone() Attribute {
	return Attribute{a.Name, a.Type, slices.Clone(a.Dims), bytes.Clone(a.Data)}
}

// parseAttribute reads the data of an attribute message. The result shares no
// bytes with p.
func parseAttribute(p []byte) (Attribute, error) {
	r := fieldReader{p: p}
	r.want("version", r.uint(1), attributeVersion)
	r.want("flags", r.uint(1), 0)
	nameSize, typeSize, spaceSize := r.uint(2), r.uint(2), r.uint(2)
	charset := r.uint(1)
	rest := r.p
	a := Attribute{Name: r.name()}
	r.want("size of the name", nameSize, uint64(len(rest)-len(r.p)))
	r.want("character set", charset, uint64(nameCharset(a.Name)))
	if r.err != nil {
		return Attribute{}, r.err
	}
	var n int
	if a.Type, n, r.err = parseDatatype(r.p); r.err != nil {
		return Attribute{}, r.err
	}
	r.bytes(n)
	r.want("size of the datatype", typeSize, uint64(n))
	rest = r.p
	a.Dims, _ = readDataspace(&r)
	r.want("size of the dataspace", spaceSize, uint64(len(rest)-len(r.p)))
	if r.err != nil {
		return Attribute{}, r.err
	}
	a.Data = r.p
	if err := a.check(); err != nil {
		return Attribute{}, err
	}
	a.Data = bytes.Clone(a.Data)
	return a, nil
}

const (
	charsetASCII = 0
	charsetUTF8  = 1
)

// nameCharset is the character set that a name is marked with.
func nameCharset(name string) byte {
	if strings.ContainsFunc(name, func(r rune) bool { return r >= 0x80 }) {
		return charsetUTF8
	}
	return charsetASCII
}

// Dataspace message, version 2 (HDF5 spec IV.A.2.b): version, rank, flags,
// type, then the sizes and, if flagged, the maximum sizes, u64 each.
const (
	dataspaceVersion  = 2
	dataspaceMaximums = 1 // flag: maximum sizes are there
	dataspaceScalar   = 0 // type: one element, rank 0
	dataspaceSimple   = 1 // type: rank 1 and up
)

// appendDataspace encodes a dataspace; no dims: scalar; no maxDims: fixed size.
func appendDataspace(dst []byte, dims, maxDims []uint64) []byte {
	flags, kind := byte(0), byte(dataspaceScalar)
	if len(maxDims) > 0 {
		flags = dataspaceMaximums
	}
	if len(dims) > 0 {
		kind = dataspaceSimple
	}
	dst = append(dst, dataspaceVersion, byte(len(dims)), flags, kind)
	for _, n := range dims {
		dst = binary.LittleEndian.AppendUint64(dst, n)
	}
	for _, n := range maxDims {
		dst = binary.LittleEndian.AppendUint64(dst, n)
	}
	return dst
}

func readDataspace(r *fieldReader) (dims, maxDims []uint64) {
	r.want("dataspace version", r.uint(1), dataspaceVersion)
	rank, flags, kind := r.uint(1), r.uint(1), r.uint(1)
	r.want("dataspace flags", flags&^dataspaceMaximums, 0)
	if rank == 0 {
		r.want("scalar dataspace type", kind, dataspaceScalar)
		r.want("scalar dataspace flags", flags, 0)
		return nil, nil
	}
	r.want("dataspace type", kind, dataspaceSimple)
	if rank > maxRank {
		r.fail("dataspace of %d dimensions, limit %d", rank, maxRank)
		return nil, nil
	}
	for range rank {
		dims = append(dims, r.uint(8))
	}
	if flags == dataspaceMaximums {
		for range rank {
			maxDims = append(maxDims, r.uint(8))
		}
	}
	return dims, maxDims
}

// dataBytes returns size times all dims, and whether a file can have that many
// bytes.
func dataBytes(size uint32, dims []uint64) (uint64, bool) {
	total := uint64(size)
	for _, n := range dims {
		if n == 0 {
			return 0, true
		}
	}
	for _, n := range dims {
		if n > maxAddress || total > maxAddress/n {
			return 0, false
		}
		total *= n
	}
	return total, true
}
