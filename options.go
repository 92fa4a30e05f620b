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
	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/vfs"
)

// Durability says when a write is safe from a power cut.
type Durability int

const (
	// Sync makes a write durable before it returns.
	Sync Durability = iota
	// Async makes a write durable within FlushInterval, or by Store.Sync. Close loses
	// nothing.
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
	// Durability says when a write is durable; default Sync.
	Durability Durability
	// FlushInterval bounds how long an Async write stays volatile; default 10 ms.
	FlushInterval time.Duration
	// WALBytes is the size up to which the log inside the file grows, in bytes,
	// 64 KiB to 1 TiB; default 256 MiB. A new store starts with a log of 4 MiB, or of
	// WALBytes if that is less. When a checkpoint is first due, it grows to 16 MiB, later to
	// a quarter of the live data, to one and a half times their size where sets of many
	// values are rewritten and MemoryBudget lets a longer log fill, and further for a batch
	// that needs more. No batch may take more
	// than a third of WALBytes (ErrTooLarge). Close leaves a log of 16 KiB, which grows again
	// with the next writes.
	WALBytes int64
	// MemoryBudget bounds the memory of the operations that are not in the tree yet, in
	// bytes, 1 or more; default 256 MiB.
	MemoryBudget int64
	// SplitThreshold is the most entries that a bucket holds, 2 to 1,024, fixed when the
	// store is made; default 128.
	SplitThreshold int
	// WALKey is the secret of the log's HMAC chain. nil means a random key that is kept in
	// the file; it detects damage, but no forgery.
	WALKey []byte
	// GCInterval is the time between collections of garbage in the background; default
	// 60 s. They come earlier when the deletion log is long. After deletes of many keys they
	// also fold and merge all groups, as Maintain does. If it is negative, the store
	// runs no goroutines at all: checkpoints run in the write that fills the table, and
	// Async writes are flushed by the first write after FlushInterval.
	GCInterval time.Duration
	// ScrubInterval is the time between scrubs in the background, see Scrub; default 24 h.
	// It counts from the last complete scrub in the Journal, or from the making of the
	// store. The store looks once a minute whether one is due. None runs if ScrubInterval or
	// GCInterval is negative, or with ReadOnly.
	ScrubInterval time.Duration
	// ScrubRate is the most bytes a second that a scrub reads, also one by Scrub; default
	// 16 MiB. The log, and each single group and leaf, are read without a pause. Negative:
	// as fast as the disk.
	ScrubRate int64
	// Logger takes structured events; nil discards them. Each has the attribute path,
	// and those in brackets. Sizes are in bytes, and counts are those of the one event.
	// The names do not change:
	//
	//	open              Info   the store is open [read_only, commit, slot, fell_back, superblock_mended, clean, frames, operations, torn_at, torn_records, keys, values, file_bytes, log_bytes]: see RecoveryReport
	//	checkpoint begin  Debug  operations are about to go into the tree [operations]
	//	checkpoint end    Info   they are in the tree [operations, commits, bytes, splits, merges, promotions, demotions, compactions]
	//	split             Debug  a commit has split buckets [count]
	//	merge             Debug  a commit has merged buckets [count]
	//	halve             Debug  a commit has halved the directory [count]
	//	migrate           Info   the directory has another form, see DirectoryMode [from, to]
	//	gc                Info   a collection is complete [deletions, compacted, tombstones, orphans]: see GCStats
	//	deletions dropped Debug  a commit has dropped rows of the deletion log because it was too long, even uncollected ones [rows]
	//	run trimmed       Debug  on a full disk, a run was written again without the entries that no longer count [run]
	//	values ahead      Debug  on a full disk, values were put into the sets of a group, in commits before the rest of a checkpoint [commits]
	//	shrink            Info   Shrink has given space back [from, to]: sizes of the file
	//	scrub             Info   a scrub is complete [bytes, corrected, mended, defects]: see ScrubReport
	//	mend              Info   a scrub has written state masks again that had a wrong bit [place, masks]
	//	damage            Error  a scrub has met a place that it cannot mend [error]
	//	grow file         Debug  a root has a longer file than the one before [from, to]
	//	grow log          Info   a root has a longer log than the one before [from, to]
	//	close             Info   Close has ended [keys, values, file_bytes; error, if it failed]
	//	access not kept   Warn   Backup, RestoreWith, Repair or Migrate could not give its file all the access of another [error]
	//	error             Error  a failure that no caller sees, or that ends writing [error; operation]
	//
	// During recovery, events of checkpoints and growth may come before open. The
	// goroutine that does the work calls the handler with locks held, so the handler must
	// not call the Store. If it panics, the event is lost, and Metrics counts an error.
	Logger *slog.Logger
	// Verify says when stored rows are verified; default VerifyFirstTouch.
	Verify VerifyMode
	// LockTimeout is how long Open waits for another writer; default 0.
	LockTimeout time.Duration
	// ReuseDelay is how long space that a commit freed stays unused, at least for two
	// commits; default 10 s. Until then HDF5 programs, which cannot hold on to a root, still
	// find what they look at. Negative means only the two commits. The delay ends early if
	// there would be ErrNoSpace otherwise. For the oldest space it also ends when more waits
	// than a quarter of the file or 32 MiB, whichever is less, and more than a sixteenth of
	// it; beyond an eighth, that space does not even wait for two commits.
	ReuseDelay time.Duration
	// NoMmap reads with ReadAt instead of a mapping.
	NoMmap bool
	// Salvage opens what is left of a file that is damaged, cut short, or edited by
	// another program. It needs ReadOnly, and reads without a mapping. See
	// RecoveryReport.Salvaged.
	Salvage bool
	// AllowUnsafeFS opens for writing on network and unknown file systems too.
	AllowUnsafeFS bool
	// Clock returns the time; nil means time.Now. Nothing is ordered by it.
	Clock func() time.Time
	// Rand gives random bytes; nil means crypto/rand.
	Rand io.Reader
	// FS is the file system; nil means that of the operating system.
	FS vfs.FS

	// emptyLog opens a store for reading without its log key, if it was closed cleanly:
	// its log then has nothing that needs the key.
	emptyLog bool
	// olderRoot, with Salvage, reads the root of the older commit slot.
	olderRoot bool
	// found is what an earlier attempt of this Open found, before it wrote the log again.
	found RecoveryReport
	// keepPlaces stops Close from moving anything. The next increment is short if a copy
	// has what it shares with its store at the same places.
	keepPlaces bool

	// Tests set these to make everything small; 0 means the default.
	blockBytes int              // of a block of the log
	startBytes int64            // of the log of a new store
	growBytes  int64            // step in which the file grows
	sliceBytes int64            // most that a slice of a checkpoint places
	againBytes int64            // live bytes up to which Close writes all of a store again
	stepBytes  int64            // that a scrub reads in one step
	directory  directory.Limits // sizes at which the directory changes its form
	quarantine int              // commits for which freed space is not used again; negative: none, and no ReuseDelay
}

const (
	defaultWALBytes     = 256 << 20
	startWALBytes       = 4 << 20
	defaultMemoryBudget = 256 << 20
	defaultThreshold    = 128
	defaultScrubRate    = 16 << 20
	defaultReuseDelay   = 10 * time.Second
	defaultBlock        = 4096
	minRingBlocks       = 16
	maxWALBytes         = 1 << 40
	maxSliceBytes       = 24 << 20
)

// check returns an error that names every field that makes no sense, with its value and
// what it may be.
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
	within("SplitThreshold", int64(o.SplitThreshold), bucket.MinThreshold, bucket.MaxThreshold)
	want(o.WALKey == nil || len(o.WALKey) > 0, "WALKey", "empty", "a secret, or nil for a key in the file")
	want(o.Verify >= VerifyFirstTouch && o.Verify <= VerifyOpen, "Verify", int(o.Verify), "VerifyFirstTouch (0), VerifyAlways (1) or VerifyOpen (2)")
	want(o.LockTimeout >= 0, "LockTimeout", o.LockTimeout, "0 or more")
	want(!o.Salvage || o.ReadOnly, "Salvage", o.Salvage, "false, or ReadOnly with it")
	return errors.Join(errs...)
}

// withDefaults returns a copy with every zero field filled in, or the error of check.
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
	setDefault(&c.ReuseDelay, defaultReuseDelay)
	if c.quarantine < 0 {
		c.ReuseDelay = -1
	}
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

// tree returns the options of the HDF5 tree that hold for a new file too.
func (o *Options) tree() hdf5io.Options {
	return hdf5io.Options{GrowStep: o.growBytes, Quarantine: o.quarantine, ReuseDelay: o.ReuseDelay, Clock: o.Clock}
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
