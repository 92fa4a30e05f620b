package wal

import (
	"fmt"

	"github.com/cidstore/cidstore/internal/corrupt"
)

// Storage is the bytes of a ring. The log writes one range at a time, and reads
// others beside that.
type Storage interface {
	ReadAt(p []byte, off int64) (int, error)
	WriteSync(p []byte, off int64) error // p is durable on return; after an error the range is undefined
	Size() int64                         // bytes; never changes
}

// Ring is a place of records.
type Ring struct {
	Storage Storage
	First   uint64 // first sequence that lies in it
}

// Config is what a log is, apart from its contents.
type Config struct {
	UUID  [16]byte     // of the file; seeds every checksum
	Key   []byte       // of the MAC chain, see DeriveKey
	Block int          // bytes: what the disk writes whole or not at all; every group begins and ends at one
	Ring  Ring         // takes new frames
	Old   Ring         // holds the sequences before Ring.First; Old.Storage nil: there is none
	Now   func() int64 // ns since 1970, for hybrid time; Scan does not call it

	// Earlier are the epochs before this life's that have live records, oldest
	// first, with the ends that this life gives them: for Audit and Replay of a
	// Log. Scan does not read it.
	Earlier []Epoch
	// After is a hybrid time (ns since 1970) that no new record goes behind:
	// ScanReport.Nanos; or, so that frames that are written again keep their times,
	// just before that of the first of them.
	After int64
}

// records returns how many records the ring holds.
func (r Ring) records() uint64 { return uint64(r.Storage.Size()) / RecordSize }

// blockRecords returns how many records a block holds.
func (c *Config) blockRecords() uint64 { return uint64(c.Block) / RecordSize }

// at returns the ring that holds sequence, and its name.
func (c *Config) at(sequence uint64) (Ring, string) {
	if sequence < c.Ring.First && c.Old.Storage != nil {
		return c.Old, "old log"
	}
	return c.Ring, "log"
}

// end returns the sequence up to which records may still stand in the rings
// when the one at sequence is live: one lap behind it.
func (c *Config) end(sequence uint64) uint64 {
	return max(sequence, c.Ring.First) + c.Ring.records()
}

// damage returns the error for a record that is not what it must be. The place
// that it names is a byte of the ring, not of the file.
func (c *Config) damage(sequence uint64, format string, args ...any) error {
	ring, name := c.at(sequence)
	place := int64(sequence % ring.records() * RecordSize)
	return corrupt.Errorf(fmt.Sprintf("%s record %d", name, sequence), place, format, args...)
}

// check judges the geometry, all of which comes from a file.
func (c *Config) check() error {
	if c.Block < 2*RecordSize || c.Block > maxBlock || c.Block%RecordSize != 0 {
		return corrupt.Errorf("log", -1, "block of %d bytes, want a multiple of %d from %d to %d", c.Block, RecordSize, 2*RecordSize, maxBlock)
	}
	if err := c.checkRing(c.Ring); err != nil {
		return err
	}
	if c.Old.Storage == nil {
		return nil
	}
	return c.checkRing(c.Old)
}

// minBlocks is the least number of blocks in a ring: a frame may take a third.
const minBlocks = 3

func (c *Config) checkRing(r Ring) error {
	size := r.Storage.Size()
	if size < minBlocks*int64(c.Block) || size%int64(c.Block) != 0 {
		return corrupt.Errorf("log", -1, "ring of %d bytes, want a multiple of %d and at least %d blocks", size, c.Block, minBlocks)
	}
	if r.First > maxSequence || r.First%c.blockRecords() != 0 {
		return corrupt.Errorf("log", -1, "first sequence of a ring %d, want a multiple of %d up to %d", r.First, c.blockRecords(), maxSequence)
	}
	return nil
}

// pieceBytes is how much of a ring is read at once.
const pieceBytes = 1 << 20

// reader reads records of the rings in ascending order, a piece at a time. Not
// safe for concurrent use.
type reader struct {
	config *Config
	most   uint64 // bytes that it reads at once
	buf    []byte
	piece  []byte // records at hand
	first  uint64 // sequence of the first of them
}

// from returns the record of sequence and those that follow it at hand, at most
// limit records and at least one. They are valid until the next call.
func (r *reader) from(sequence, limit uint64) ([]byte, error) {
	if skip := sequence - r.first; sequence < r.first || skip >= uint64(len(r.piece))/RecordSize {
		if err := r.read(sequence, limit); err != nil {
			return nil, err
		}
	}
	records := r.piece[(sequence-r.first)*RecordSize:]
	return records[:min(uint64(len(records)), limit*RecordSize)], nil
}

func (r *reader) read(sequence, limit uint64) error {
	ring, name := r.config.at(sequence)
	if sequence < ring.First {
		return r.config.damage(sequence, "no ring holds it: the oldest begins at %d", ring.First)
	}
	n := ring.records()
	place := sequence % n
	limit = min(limit, n-place, r.most/RecordSize)
	if sequence < r.config.Ring.First {
		limit = min(limit, r.config.Ring.First-sequence)
	}
	size := int(limit) * RecordSize
	if cap(r.buf) < size {
		r.buf = make([]byte, size)
	}
	r.piece, r.first = r.buf[:0], sequence
	if got, err := ring.Storage.ReadAt(r.buf[:size], int64(place)*RecordSize); got < size {
		return fmt.Errorf("%s: read record %d: %w", name, sequence, err)
	}
	r.piece = r.buf[:size]
	return nil
}
