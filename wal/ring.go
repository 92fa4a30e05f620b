package wal

import (
	"fmt"
	"slices"

	"github.com/cidstore/cidstore/internal/corrupt"
)

// Storage holds the bytes of a ring. The log writes one range at a time, and may read
// other ranges at the same time.
type Storage interface {
	ReadAt(p []byte, off int64) (int, error)
	WriteSync(p []byte, off int64) error // p is durable on return; after an error the contents of the range are undefined
	Size() int64                         // bytes; never changes
}

// Ring is a place for records.
type Ring struct {
	Storage Storage
	First   Seq // the first that lies in it
}

// Config describes a log, except for its contents.
type Config struct {
	UUID  [16]byte     // of the file; seeds every checksum
	Key   []byte       // of the MAC chain, see DeriveKey
	Block int          // bytes that the disk writes completely or not at all; every group begins and ends at a block
	Ring  Ring         // takes new frames
	Old   Ring         // holds the sequences before Ring.First; Old.Storage is nil if there is none
	Now   func() int64 // ns since 1970, for hybrid time; Scan does not call it

	// Earlier lists the epochs before this life's that have live records, oldest
	// first, with the ends that this life gives them. Audit and Replay of a Log need
	// it. Scan does not read it.
	Earlier []Epoch
	// After is a hybrid time (ns since 1970): ScanReport.Nanos. No new record is older,
	// except for those that WriteAgain writes with the times that they had.
	After int64
}

// blockRecords returns how many records a block holds.
func (c *Config) blockRecords() uint64 { return uint64(c.Block) / RecordSize }

// records returns how many records a ring holds.
func (c *Config) records(r Ring) uint64 { return uint64(Records(r.Storage.Size(), c.Block)) }

// blockOf returns the first sequence of the block that holds sequence.
func (c *Config) blockOf(sequence Seq) Seq { return sequence - sequence%Seq(c.blockRecords()) }

// lap returns in which lap of its ring a sequence is.
func (c *Config) lap(sequence Seq) uint64 {
	ring, _ := c.at(sequence)
	return uint64(sequence) / c.records(ring)
}

// place returns the offset of the record of a sequence in its ring, in bytes.
func (c *Config) place(r Ring, sequence Seq) int64 {
	n, block := uint64(sequence)%c.records(r), c.blockRecords()
	return int64(n/block)*int64(c.Block) + int64(n%block)*RecordSize
}

// at returns the ring that holds sequence, and its name.
func (c *Config) at(sequence Seq) (Ring, string) {
	if sequence < c.Ring.First && c.Old.Storage != nil {
		return c.Old, "old log"
	}
	return c.Ring, "log"
}

// end returns the sequence one lap after sequence. Up to there the rings may still hold
// records, if the one at sequence is live.
func (c *Config) end(sequence Seq) Seq {
	return max(sequence, c.Ring.First) + Seq(c.records(c.Ring))
}

// room returns how many records fit into r from sequence on, if those from tail on stay.
func (c *Config) room(r Ring, tail, sequence Seq) uint64 {
	// The block of the tail must not be written again (I2).
	limit := c.blockOf(max(tail, r.First)) + Seq(c.records(r))
	return uint64(limit - min(limit, sequence))
}

// damage returns the error for a record that is not what it must be. The offset in the
// error is that in the ring, not that in the file.
func (c *Config) damage(sequence Seq, format string, args ...any) error {
	ring, name := c.at(sequence)
	return corrupt.Errorf(fmt.Sprintf("%s record %d", name, sequence), c.place(ring, sequence), format, args...)
}

// check checks the geometry, all of which comes from a file.
func (c *Config) check() error {
	if c.Block < minBlock || c.Block > maxBlock || c.Block%blockUnit != 0 {
		return corrupt.Errorf("log", -1, "block of %d bytes, want a multiple of %d from %d to %d", c.Block, blockUnit, minBlock, maxBlock)
	}
	if err := c.checkRing(c.Ring); err != nil || c.Old.Storage == nil {
		return err
	}
	return c.checkRing(c.Old)
}

// minBlocks is the smallest number of blocks in a ring: a frame may take a third of it.
const minBlocks = 3

func (c *Config) checkRing(r Ring) error {
	size := r.Storage.Size()
	if size < minBlocks*int64(c.Block) || size%int64(c.Block) != 0 {
		return corrupt.Errorf("log", -1, "ring of %d bytes, want a multiple of %d and at least %d blocks", size, c.Block, minBlocks)
	}
	if r.First > maxSequence || r.First != c.blockOf(r.First) {
		return corrupt.Errorf("log", -1, "first sequence of a ring %d, want a multiple of %d up to %d", r.First, c.blockRecords(), maxSequence)
	}
	return nil
}

// pieceBytes is how much of a ring is read at once.
const pieceBytes = 1 << 20

// reader reads the records of the rings in ascending order, some blocks at a time. It
// is not safe for concurrent use.
type reader struct {
	config *Config
	most   int    // bytes that it reads at once, but at least a block
	piece  []byte // the blocks that have been read
	first  Seq    // of the first record of them
}

// from returns the record of sequence and those that follow it in its block, at least
// one and at most limit records. After the last record of the block it also returns the
// rest of the block. The bytes are valid until the next call.
func (r *reader) from(sequence Seq, limit uint64) ([]byte, error) {
	block, blockRecords := r.config.Block, r.config.blockRecords()
	begin := r.config.blockOf(sequence)
	nth := uint64(sequence - begin)
	if begin < r.first || uint64(begin-r.first)/blockRecords >= uint64(len(r.piece)/block) {
		if err := r.read(begin, nth+limit); err != nil {
			return nil, err
		}
	}
	records := r.piece[int(uint64(begin-r.first)/blockRecords)*block:][:block][nth*RecordSize:]
	if limit < blockRecords-nth {
		return records[:limit*RecordSize], nil
	}
	return records, nil
}

// read reads the block that begins at a sequence, and blocks that follow it in its
// ring, up to limit records.
func (r *reader) read(begin Seq, limit uint64) error {
	ring, name := r.config.at(begin)
	if begin < ring.First {
		return r.config.damage(begin, "no ring holds it: the oldest begins at %d", ring.First)
	}
	n, blockRecords := r.config.records(ring), r.config.blockRecords()
	limit = min(limit, n-uint64(begin)%n)
	if begin < r.config.Ring.First {
		limit = min(limit, uint64(r.config.Ring.First-begin))
	}
	blocks := min((limit+blockRecords-1)/blockRecords, uint64(max(r.most/r.config.Block, 1)))
	size := int(blocks) * r.config.Block
	r.piece, r.first = slices.Grow(r.piece[:0], size)[:size], begin
	if got, err := ring.Storage.ReadAt(r.piece, r.config.place(ring, begin)); got < size {
		r.piece = r.piece[:0]
		return fmt.Errorf("%s: read record %d: %w", name, begin, err)
	}
	return nil
}
