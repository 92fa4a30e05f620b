package cidstore

import (
	"slices"

	"github.com/cidstore/cidstore/keys"
	"github.com/cidstore/cidstore/wal"
)

// E is a 128-bit identifier, for keys and values alike.
type E = keys.E

// FromString returns the UUIDv5 of s in the DNS namespace.
func FromString(s string) E { return keys.FromString(s) }

// FromUint64 returns the identifier with the given low word.
func FromUint64(v uint64) E { return keys.FromUint64(v) }

// Parse reads 32 hex digits, a UUID (plain, in braces or after urn:uuid:), or 0x
// with 1 to 32 hex digits.
func Parse(text string) (E, error) { return keys.Parse(text) }

// ParseKey returns the identifier that a text stands for: what Parse returns if it
// accepts the text, else the UUIDv5 of the text.
func ParseKey(text string) E { return keys.ParseKey(text) }

// NewE returns a random identifier (UUIDv4).
func NewE() E { return keys.New() }

// Batch collects operations that Apply makes as one, in order, all or none. The zero
// value is ready for use. A Batch is not safe for concurrent use. It may be reused
// after Reset, and may be applied again as it is.
type Batch struct {
	ops []wal.Op
}

// Insert adds value to the set of key.
func (b *Batch) Insert(key, value E) { b.add(wal.Op{Code: wal.Insert, Key: key, Value: value}) }

// Delete removes all values of key.
func (b *Batch) Delete(key E) { b.add(wal.Op{Code: wal.Delete, Key: key}) }

// DeleteValue removes value from the set of key.
func (b *Batch) DeleteValue(key, value E) {
	b.add(wal.Op{Code: wal.DeleteValue, Key: key, Value: value})
}

// add doubles the memory when it is full. append alone would do so in smaller steps, which
// leave the collector half as much again.
func (b *Batch) add(o wal.Op) {
	if len(b.ops) == cap(b.ops) {
		b.ops = slices.Grow(b.ops, max(len(b.ops), 4))
	}
	b.ops = append(b.ops, o)
}

// Len returns the number of operations in the batch.
func (b *Batch) Len() int { return len(b.ops) }

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() { b.ops = b.ops[:0] }
