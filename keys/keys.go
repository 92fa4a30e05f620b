// Package keys has E, the 128-bit identifier that is every key and every value
// of a store: its text, its order, its bytes, and the seeded hash that places it.
//
// Everything here is a value or a pure function, except New and NewFrom, and is
// safe for concurrent use.
package keys

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/google/uuid"
)

// Size is the length of an identifier in bytes, in memory and in a file.
const Size = 16

// E is a 128-bit identifier. It is comparable, and the zero value is a legal
// identifier like any other.
type E struct{ High, Low uint64 }

// FromString returns the UUIDv5 (RFC 9562) of s in the DNS namespace. Every string
// has one, including the empty string.
func FromString(s string) E { return FromUUID(uuid.NewSHA1(uuid.NameSpaceDNS, []byte(s))) }

// FromUint64 returns the identifier whose number is v.
func FromUint64(v uint64) E { return E{Low: v} }

// FromUUID returns the 128 bits of u. UUIDs of any version and variant are
// accepted.
func FromUUID(u uuid.UUID) E {
	return E{High: binary.BigEndian.Uint64(u[:8]), Low: binary.BigEndian.Uint64(u[8:])}
}

// New returns a random identifier, a UUIDv4 from the system's source.
func New() E { return FromUUID(uuid.New()) }

// NewFrom is New with its 16 random bytes read from r. The error is that of r, or
// io.ErrUnexpectedEOF or io.EOF if r ends too early.
func NewFrom(r io.Reader) (E, error) {
	u, err := uuid.NewRandomFromReader(r)
	if err != nil {
		return E{}, fmt.Errorf("keys: new identifier: %w", err)
	}
	return FromUUID(u), nil
}

// UUID returns the same 128 bits as a UUID.
func (e E) UUID() uuid.UUID { return e.Bytes() }

// Bytes returns the identifier big-endian, High first: the order of bytes is
// the order of numbers, and the bytes are those of UUID.
func (e E) Bytes() (b [Size]byte) {
	binary.BigEndian.PutUint64(b[:8], e.High)
	binary.BigEndian.PutUint64(b[8:], e.Low)
	return b
}

// Compare orders identifiers as unsigned 128-bit numbers: -1, 0 or +1.
func (e E) Compare(o E) int {
	if c := cmp.Compare(e.High, o.High); c != 0 {
		return c
	}
	return cmp.Compare(e.Low, o.Low)
}

// IsZero reports whether all 128 bits are zero.
func (e E) IsZero() bool { return e == E{} }

// AppendHDF5 appends the file's form of the identifier to dst: 16 bytes, High
// then Low, each little-endian, on every machine.
func (e E) AppendHDF5(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, e.High)
	return binary.LittleEndian.AppendUint64(dst, e.Low)
}

// FromHDF5 reads what AppendHDF5 wrote. Any 16 bytes are an identifier; any
// other length is an error.
func FromHDF5(src []byte) (E, error) {
	if len(src) != Size {
		return E{}, fmt.Errorf("keys: identifier of %d bytes, want %d", len(src), Size)
	}
	return E{High: binary.LittleEndian.Uint64(src[:8]), Low: binary.LittleEndian.Uint64(src[8:])}, nil
}
