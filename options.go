package cidstore

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/cidstore/cidstore/bucket"
	"github.com/cidstore/cidstore/directory"
	"github.com/cidstore/cidstore/vfs"
)

// Durability says when a write is safe from a power cut.
type Durability int

const (
	// Sync: a write is durable when it returns.
	Sync Durability = iota
	// Async: a write is durable within FlushInterval, or after Store.Sync.
	// Close loses nothing.
	Async
)

// VerifyMode says when checksums of stored rows are verified.
type VerifyMode int

const (
	// VerifyFirstTouch verifies a row when it is first read, an entry each time.
	VerifyFirstTouch VerifyMode = iota
	// VerifyAlways verifies a row at each read.
	VerifyAlways
	// VerifyOpen reads and verifies everything in Open, as Check does.
	VerifyOpen
)

// Options are the choices of one opening. nil and zero fields mean the defaults.
type Options struct {
	// ReadOnly opens without changing a byte of the file; see Refresh.
	ReadOnly bool
	// Durability of writes; default Sync.
	Durability Durability
	// FlushInterval bounds how long an Async write stays volatile; default 10 ms.
	FlushInterval time.Duration
	// WALBytes is the size up to which the log inside the file grows, in bytes,
	// 64 KiB to 1 TiB; default 256 MiB. A new store starts with min(4 MiB,
	// WALBytes). The log grows to a quarter of the live data, and for a batch that
	// needs more; none may take more than a third of WALBytes (ErrTooLarge). Close
	// leaves a log of 16 KiB, which grows again when it is written to.
	WALBytes int64
	// MemoryBudget bounds the operations in memory that are not in the tree yet,
	// in bytes, 1 or more; default 256 MiB.
	MemoryBudget int64
	// SplitThreshold is the most entries of a bucket, 2 to 1,024, fixed when the
	// store is made; default 128.
	SplitThreshold int
	// WALKey is the secret of the log's HMAC chain. nil: a random key kept in the
	// file, which detects damage but no forger.
	WALKey []byte
	// GCInterval is the time between collections of garbage in the background; default
	// 60 s; they come earlier when the deletion log is long. Negative: no goroutines at all, checkpoints run in the write that
	// fills the table, and Async flushes at the first write after FlushInterval.
	GCInterval time.Duration
	// ScrubInterval is the time between scrubs in the background, see Scrub; default 24 h
	// after the last whole one that the Journal knows of, or after the store was made.
	// Whether one is due is looked at once a minute, from the first minute on. Negative:
	// none; none either with a negative GCInterval, or ReadOnly.
	ScrubInterval time.Duration
	// ScrubRate is the most bytes a second that a scrub reads, Scrub too, except of the log,
	// which it reads at once, and of single groups and leaves; default 16 MiB. Negative: as
	// fast as the disk.
	ScrubRate int64
	// Logger takes structured events; nil discards them. Each has the attribute
	// path, and those in brackets; sizes are in bytes, counts are of the event
	// alone. Names stay as they are:
	//
	//	open              Info   the store is open [read_only, commit, slot, fell_back, superblock_mended, clean, frames, operations, torn_at, torn_records, keys, values, file_bytes, log_bytes]: see RecoveryReport
	//	checkpoint begin  Debug  operations are about to go into the tree [operations]
	//	checkpoint end    Info   they are there [operations, commits, bytes, splits, merges, promotions, demotions, compactions]
	//	split             Debug  a commit has split buckets [count]
	//	merge             Debug  a commit has merged buckets [count]
	//	gc                Info   a collection has come to its end [deletions, compacted, tombstones, orphans]: see GCStats
	//	deletions dropped Debug  a commit has dropped rows of the deletion log, which was too long, uncollected too [rows]
	//	run trimmed       Debug  on a full disk a run was written again without what no longer counts in it [run]
	//	shrink            Info   Shrink has given space back [from, to]: sizes of the file
	//	scrub             Info   a scrub has come to its end [bytes, corrected, mended, defects]: see ScrubReport
	//	mend              Info   a scrub has written state masks again that had a wrong bit [place, masks]
	//	damage            Error  a scrub has met a place that it cannot mend [error]
	//	grow file         Debug  a root has a longer file than the one before [from, to]
	//	grow log          Info   and a longer log [from, to]
	//	close             Info   Close has ended [keys, values, file_bytes; error, if it failed]
	//	access not kept   Warn   Backup, RestoreWith, Repair or Migrate could not give its file all the access of another [error]
	//	error             Error  a failure that no caller sees, or that ends writing [error; operation]
	//
	// Recovery may checkpoint and grow the file before open. Whoever works calls the
	// handler, with locks held: it must not call the Store.
	Logger *slog.Logger
	// Verify says when stored rows are verified; default VerifyFirstTouch.
	Verify VerifyMode
	// LockTimeout is how long Open waits for another writer; default 0.
	LockTimeout time.Duration
	// NoMmap reads with ReadAt instead of a mapping.
	NoMmap bool
	// Salvage, with ReadOnly, opens what is left of a file that is damaged, cut short,
	// or edited by another program, without a mapping. See RecoveryReport.Salvaged.
	Salvage bool
	// AllowUnsafeFS opens for writing on network and unknown file systems too.
	AllowUnsafeFS bool
	// Clock tells the time; nil: time.Now. It orders nothing.
	Clock func() time.Time
	// Rand gives random bytes; nil: crypto/rand.
	Rand io.Reader
	// FS is the file system; nil: the operating system's.
	FS vfs.FS

	// emptyLog opens a store with another log key for reading, if it was closed
	// cleanly: there is nothing in its log that the key is needed for.
	emptyLog bool
	// olderRoot, with Salvage, reads the root of the older commit slot.
	olderRoot bool

	// keepPlaces: Close moves nothing. A copy that has all that it shares with its store
	// at the same places makes the next increment short.
	keepPlaces bool

	// What follows is the geometry, set by tests to make everything small: the
	// log's block and the size that it starts with, the steps in which the file
	// grows, the largest slice of a checkpoint, the most live bytes that Close writes
	// again, all of them, the step of a scrub, the sizes at which the directory takes another
	// form, and for how many commits freed space is not used again (negative: none). 0: defaults.
	blockBytes int
	startBytes int64
	growBytes  int64
	sliceBytes int64
	againBytes int64
	stepBytes  int64
	directory  directory.Options
	quarantine int
}

const (
	defaultWALBytes     = 256 << 20
	startWALBytes       = 4 << 20
	defaultMemoryBudget = 256 << 20
	defaultThreshold    = 128
	defaultScrubRate    = 16 << 20
	maxThreshold        = 1024
	defaultBlock        = 4096
	minRingBlocks       = 16
	maxWALBytes         = 1 << 40
	maxSliceBytes       = 24 << 20
)

// check names every field that makes no sense, with its value and what it may be.
func (o *Options) check() error {
	var errs []error
	want := func(ok bool, field string, value any, wanted string) {
		if !ok {
			errs = append(errs, invalidf("Options.%s is %v, want %s", field, value, wanted))
		}
	}
	within := func(field string, value, least, most int64) {
		want(value == 0 || value >= least && value <= most, field, value, fmt.Sprintf("%d to %d, or 0 for the default", least, most))
	}
	want(o.Durability == Sync || o.Durability == Async, "Durability", int(o.Durability), "Sync (0) or Async (1)")
	want(o.FlushInterval >= 0, "FlushInterval", o.FlushInterval, "more than 0, or 0 for the default")
	within("WALBytes", o.WALBytes, minRingBlocks*int64(o.blockBytes), maxWALBytes)
	within("MemoryBudget", o.MemoryBudget, 1, math.MaxInt64)
	within("SplitThreshold", int64(o.SplitThreshold), bucket.MinThreshold, maxThreshold)
	want(o.WALKey == nil || len(o.WALKey) > 0, "WALKey", "empty", "a secret, or nil for a key in the file")
	want(o.Verify >= VerifyFirstTouch && o.Verify <= VerifyOpen, "Verify", int(o.Verify), "VerifyFirstTouch (0), VerifyAlways (1) or VerifyOpen (2)")
	want(o.LockTimeout >= 0, "LockTimeout", o.LockTimeout, "0 or more")
	want(!o.Salvage || o.ReadOnly, "Salvage", o.Salvage, "false, or ReadOnly with it")
	return errors.Join(errs...)
}

// withDefaults returns a copy with every zero field filled in, or says which
// field makes no sense.
func (o *Options) withDefaults() (Options, error) {
	var c Options
	if o != nil {
		c = *o
	}
	setDefault(&c.blockBytes, defaultBlock)
	if err := c.check(); err != nil {
		return c, err
	}
	setDefault(&c.FlushInterval, 10*time.Millisecond)
	setDefault(&c.WALBytes, defaultWALBytes)
	setDefault(&c.MemoryBudget, defaultMemoryBudget)
	setDefault(&c.SplitThreshold, defaultThreshold)
	setDefault(&c.GCInterval, time.Minute)
	setDefault(&c.ScrubInterval, 24*time.Hour)
	setDefault(&c.ScrubRate, defaultScrubRate)
	setDefault(&c.startBytes, startWALBytes)
	setDefault(&c.sliceBytes, maxSliceBytes)
	setDefault(&c.againBytes, maxAgainBytes)
	setDefault(&c.stepBytes, 1<<20)
	c.WALBytes = roundUp(c.WALBytes, int64(c.blockBytes))
	c.startBytes = min(c.startBytes, c.WALBytes)
	c.WALKey = bytes.Clone(c.WALKey)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Rand == nil {
		c.Rand = rand.Reader
	} else if _, locked := c.Rand.(*lockedReader); !locked {
		c.Rand = &lockedReader{in: c.Rand}
	}
	if c.FS == nil {
		c.FS = vfs.OS()
	}
	return c, nil
}

// lockedReader lets a store and the copies that it makes draw from one Rand.
type lockedReader struct {
	mu sync.Mutex // guards in
	in io.Reader
}

func (r *lockedReader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.in.Read(p)
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func roundUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }
