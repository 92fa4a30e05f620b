package cidstore

import (
	"errors"
	"iter"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cidstore/cidstore/bucket"
	"github.com/cidstore/cidstore/wal"
)

// Metrics holds the counters and gauges of one moment. Counters start at Open, never go
// down, and outlive Close; gauges are set while the store is open. Package metrics exports
// them to Prometheus.
type Metrics struct {
	Open     bool      // whether the store was open; if not, the gauges are zero
	ReadOnly bool      // whether it was opened with Options.ReadOnly
	Opened   time.Time // when the counters started, by Options.Clock

	BucketCount    uint64 // buckets of all groups
	DirectorySize  uint64 // pointers, 2^global depth
	Keys, Values   uint64 // in the tree; pending operations are not counted
	Tombstones     uint64
	SpilledSets    uint64 // sets of values that are kept outside their entries
	Runs           uint64 // runs whose entries wait to be folded into groups
	WaitingEntries uint64 // entries in runs that still count
	DeletionRows   uint64 // rows of the deletion log that are not collected yet
	Commit         uint64 // number of the root that readers see

	SplitEvents, MergeEvents                          uint64
	PromotionEvents, DemotionEvents, CompactionEvents uint64
	GCRuns                                            uint64
	Garbage                                           GCStats // of all collections together
	ErrorEvents                                       uint64
	ErrorsByType                                      [errorTypes]uint64 // see Errors
	LastError                                         string
	LastErrorTime                                     time.Time // by Options.Clock

	Commits, Checkpoints uint64
	CheckpointTimes      Durations // of the checkpoints that completed
	GCTimes              Durations // of the collections of garbage that completed
	LookupTimes          Durations // of the Lookups and AppendLookups of one key in 1,024, always the same ones
	PlacedBytes          uint64    // bytes written into the space of the tree
	Waits                uint64    // how often a write had to wait for room
	Danger               float64   // how urgently the store needs maintenance, 0 to 1; writable stores only
	PendingOperations    uint64
	PendingBytes         uint64 // memory that pending operations take
	CachedKeys           uint64 // keys with many pending operations, whose result readers cache
	Snapshots            uint64 // that are open

	FileBytes                          uint64
	FreeBytes, LimboBytes, PinnedBytes uint64 // writable stores only
	OldestPin                          uint64 // oldest commit that a reader pins, or else the newest; writable stores only
	CorrectedMasks, RowsJudgedSingly   uint64 // counters of damage that reads got past

	MaintenanceByKind [maintenanceKinds]uint64 // how often each kind was done; see Maintained and Journal
	Scrubs            uint64                   // scrubs that completed
	ScrubbedBytes     uint64                   // also by scrubs under way
	ScrubDefects      uint64                   // places that could not be mended; each scrub counts them again
	MendedMasks       uint64                   // state masks that scrubs have written again
	LastScrub         time.Time                // when the last one ended, even before Open; zero if none has, or in a closed reader

	WAL          wal.Stats // counters; see Records
	WALSyncTimes Durations // of writes to the log, each with its sync
	WALBytes     uint64    // size of the ring
	LastSequence uint64    // last sequence in the log; writable stores only
	LastApplied  uint64    // last sequence that is in the tree
	Watermark    uint64    // last sequence known to be durable

	// Replays counts how often the log was read: by Open and Refresh, and by Check and
	// AuditWAL of a reader. The next two count what was in it, and ReplayErrors how often
	// it was damaged, or looked damaged to a reader that a writer overtook: such a reader
	// reads it again.
	Replays, ReplayedFrames, ReplayedOperations, ReplayErrors uint64
}

// Records yields how many records of each operation the log has appended.
func (m *Metrics) Records() iter.Seq2[string, uint64] {
	return func(yield func(string, uint64) bool) {
		for _, o := range [...]struct {
			name string
			code wal.Opcode
		}{
			{"insert", wal.Insert}, {"delete", wal.Delete}, {"delete_value", wal.DeleteValue},
			{"split", wal.Split}, {"merge", wal.Merge}, {"promote", wal.Promote}, {"demote", wal.Demote}, {"compact", wal.Compact},
			{"compact_set", wal.CompactSet}, {"demote_set", wal.DemoteSet}, {"commit", wal.Commit}, {"time", wal.Time}, {"pad", wal.Pad},
		} {
			if !yield(o.name, m.WAL.Records[o.code]) {
				return
			}
		}
	}
}

// Errors yields how many of ErrorEvents were of each type.
func (m *Metrics) Errors() iter.Seq2[string, uint64] {
	return named(errorTypeNames[:], m.ErrorsByType[:])
}

// named yields each count with its name.
func named(names []string, counts []uint64) iter.Seq2[string, uint64] {
	return func(yield func(string, uint64) bool) {
		for i, n := range counts {
			if !yield(names[i], n) {
				return
			}
		}
	}
}

const errorTypes = 7

// errorTypeNames names the types that errorType returns.
var errorTypeNames = [errorTypes]string{"no_space", "replaced", "tampered", "corrupt", "io", "poisoned", "other"}

// errorType returns the type of err. An error that poisons the store has the type of the
// error that it wraps, if that is known.
func errorType(err error) int {
	for i, of := range [errorTypes - 1]error{ErrNoSpace, ErrReplaced, ErrTampered, ErrCorrupt, ErrIO, ErrPoisoned} {
		if errors.Is(err, of) {
			return i
		}
	}
	return errorTypes - 1
}

// counters are the counters of Metrics. Each is raised where the work is done.
type counters struct {
	opened                                             time.Time
	commits, checkpoints, placedBytes, waits           atomic.Uint64
	splits, merges, promotions, demotions, compactions atomic.Uint64
	gcRuns                                             atomic.Uint64
	deletions, compacted, collected, orphans           atomic.Uint64 // GCStats of all collections
	scrubs, scrubbedBytes, scrubDefects, mendedMasks   atomic.Uint64
	maintained                                         [maintenanceKinds]atomic.Uint64
	damage                                             bucket.Damage
	checkpointTimes, gcTimes, lookupTimes, syncTimes   durations

	replays, replayedFrames, replayedOperations, replayErrors atomic.Uint64
	audits, auditFailures                                     atomic.Uint64 // by readers, which have no wal.Log

	mu        sync.Mutex // guards what follows
	errors    [errorTypes]uint64
	lastError string
	lastTime  time.Time
}

// scanned counts a replay of the log, or of what it has beyond before.
func (c *counters) scanned(before, now *wal.ScanReport, err error) {
	c.replays.Add(1)
	c.replayedFrames.Add(uint64(now.Frames - before.Frames))
	c.replayedOperations.Add(uint64(now.Ops - before.Ops))
	if err != nil {
		c.replayErrors.Add(1)
	}
}

// audited counts a reader's audit of the log.
func (c *counters) audited(err error) {
	c.audits.Add(1)
	if err != nil {
		c.auditFailures.Add(1)
	}
}

// garbage counts what a collection did.
func (c *counters) garbage(done *GCStats) {
	c.deletions.Add(done.Deletions)
	c.compacted.Add(done.Compacted)
	c.collected.Add(done.Tombstones)
	c.orphans.Add(done.Orphans)
}

// failed counts an error.
func (c *counters) failed(err error, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.errors[errorType(err)]++
	c.lastError, c.lastTime = err.Error(), now
}

// count counts what a commit did to the structure of the tree.
func (s *Store) count(m *merge) {
	done := m.done
	s.journalOf(m)
	s.metrics.splits.Add(done.splits)
	if done.splits > 0 {
		s.note(slog.LevelDebug, "split", "count", done.splits)
	}
	s.metrics.merges.Add(done.merges)
	if done.merges > 0 {
		s.note(slog.LevelDebug, "merge", "count", done.merges)
	}
	if done.halvings > 0 {
		s.note(slog.LevelDebug, "halve", "count", done.halvings)
	}
	if from, to := m.base.directory.Mode(), s.state.Load().view.directory.Mode(); from != to {
		s.note(slog.LevelInfo, "migrate", "from", from, "to", to)
	}
	s.metrics.promotions.Add(done.promotions)
	s.metrics.demotions.Add(done.demotions)
	s.metrics.compactions.Add(done.compactions)
}

// journalOf enters in the journal the maintenance that was a part of a commit.
func (s *Store) journalOf(m *merge) {
	counts := map[maintenance]uint64{
		didMerge: m.done.merges, didHalve: m.done.halvings, didDemote: m.done.demotions, didCompact: m.done.compactions,
	}
	if m.base.directory.Mode() != s.state.Load().view.directory.Mode() {
		counts[didMigrate] = 1
	}
	for kind := range maintenanceKinds {
		if n := counts[kind]; n > 0 {
			s.maintained(kind, n, time.Duration(s.now()-m.now))
		}
	}
}

// Metrics returns the present figures; after Close, only the counters.
func (s *Store) Metrics() Metrics {
	m := s.metrics.load()
	m.ReadOnly = s.opts.ReadOnly
	if s.log != nil { // set before Open returns, and never changed
		m.WAL = s.log.Stats()
	}
	m.WAL.Audits += s.metrics.audits.Load()
	m.WAL.AuditFailures += s.metrics.auditFailures.Load()
	if e, found := newestOf(s.Journal(), didScrub); found {
		m.LastScrub = e.Time
	}
	if r, pin, err := s.acquire(); err == nil {
		defer r.view.Unpin(pin)
		m.Open = true
		s.gauges(&m, r)
	}
	return m
}

// load returns the counters that the store itself counts.
func (c *counters) load() Metrics {
	m := Metrics{
		Opened: c.opened, SplitEvents: c.splits.Load(), MergeEvents: c.merges.Load(),
		PromotionEvents: c.promotions.Load(), DemotionEvents: c.demotions.Load(), CompactionEvents: c.compactions.Load(),
		GCRuns:  c.gcRuns.Load(),
		Garbage: GCStats{c.deletions.Load(), c.compacted.Load(), c.collected.Load(), c.orphans.Load()},
		Commits: c.commits.Load(), Checkpoints: c.checkpoints.Load(),
		CheckpointTimes: c.checkpointTimes.load(), WALSyncTimes: c.syncTimes.load(),
		GCTimes: c.gcTimes.load(), LookupTimes: c.lookupTimes.load(),
		PlacedBytes: c.placedBytes.Load(), Waits: c.waits.Load(),
		Replays: c.replays.Load(), ReplayedFrames: c.replayedFrames.Load(),
		ReplayedOperations: c.replayedOperations.Load(), ReplayErrors: c.replayErrors.Load(),
	}
	m.CorrectedMasks, m.RowsJudgedSingly = c.damage.Counters()
	m.Scrubs, m.ScrubbedBytes, m.ScrubDefects, m.MendedMasks = c.scrubs.Load(), c.scrubbedBytes.Load(), c.scrubDefects.Load(), c.mendedMasks.Load()
	for i := range c.maintained {
		m.MaintenanceByKind[i] = c.maintained[i].Load()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	m.ErrorsByType, m.LastError, m.LastErrorTime = c.errors, c.lastError, c.lastTime
	for _, n := range c.errors {
		m.ErrorEvents += n
	}
	return m
}

// gauges fills in the gauges of the state that r reads; its View is pinned.
func (s *Store) gauges(m *Metrics, r reader) {
	rec := &r.view.record
	m.BucketCount, m.DirectorySize = rec.numBuckets, uint64(r.view.directory.Len())
	m.Keys, m.Values, m.Tombstones, m.SpilledSets = rec.numKeys, rec.numValues, rec.numTombstones, rec.sets.Sets-rec.sets.Unused
	m.WaitingEntries, _ = r.view.buckets.Waiting()
	m.Runs, m.Commit, m.DeletionRows = uint64(r.view.buckets.Runs()), uint64(r.view.Commit()), rec.numDeletions
	m.PendingOperations, m.PendingBytes = uint64(r.pendingOps()), uint64(r.pendingBytes())
	m.CachedKeys = r.memos.len()
	s.snapshots.Range(func(any, any) bool { m.Snapshots++; return true })
	m.FileBytes = uint64(r.view.EndOfFile())
	if !s.opts.ReadOnly {
		space := s.file.Space()
		m.FileBytes, m.FreeBytes = uint64(space.Size), uint64(space.Free+space.Fragments)
		m.LimboBytes, m.PinnedBytes, m.OldestPin = uint64(space.Limbo), uint64(space.Pinned), uint64(space.OldestPin)
	}
	m.WALBytes, m.LastApplied, m.Watermark = rec.walSize, uint64(rec.lastApplied), uint64(rec.watermark)
	if s.log != nil {
		m.Danger = s.dangerOf(r.state).score()
		m.LastSequence, m.Watermark = uint64(s.log.Next()-1), uint64(s.log.Watermark())
	}
}

// LogEvent sends a structured event to Options.Logger. The events "split", "merge", "gc"
// and "error" also raise their counters. args are pairs as in log/slog. The error among
// those of "error", or if there is none their text, becomes Metrics.LastError.
func (s *Store) LogEvent(event string, args ...any) {
	switch event {
	case "split":
		s.metrics.splits.Add(1)
	case "merge":
		s.metrics.merges.Add(1)
	case "gc":
		s.metrics.gcRuns.Add(1)
	}
	s.event(event, args...)
}

// event logs an event. It counts errors, and keeps the last one.
func (s *Store) event(event string, args ...any) {
	level := slog.LevelInfo
	if event == "error" {
		level = slog.LevelError
		s.metrics.failed(errorIn(args), s.opts.Clock())
	}
	s.note(level, event, args...)
}

// errorIn returns the error in the arguments of an event, or else an error that says all of
// them.
func errorIn(args []any) (found error) {
	var r slog.Record
	r.Add(args...)
	text := make([]string, 0, len(args)/2)
	r.Attrs(func(a slog.Attr) bool {
		if err, ok := a.Value.Any().(error); ok {
			found = err
		}
		text = append(text, a.String())
		return true
	})
	if found == nil {
		found = errors.New(strings.Join(text, " "))
	}
	return found
}
