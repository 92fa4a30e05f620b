package cidstore

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/cidstore/cidstore/wal"
)

// Metrics is a moment's counters and gauges. Counters begin at Open.
type Metrics struct {
	BucketCount   uint64 // rows of buckets, overflow rows included
	DirectorySize uint64 // pointers, 2^global depth
	Keys, Values  uint64 // of the tree's root
	Tombstones    uint64
	SpilledSets   uint64 // rows of set states, unused ones included

	SplitEvents, MergeEvents                          uint64
	PromotionEvents, DemotionEvents, CompactionEvents uint64
	GCRuns                                            uint64
	ErrorEvents                                       uint64
	LastError                                         string

	Commits, Checkpoints uint64
	PlacedBytes          uint64 // written into the tree's space
	Waits                uint64 // times that a write had to wait for room
	PendingOperations    uint64
	PendingBytes         uint64 // of memory
	Snapshots            uint64 // open ones

	FileBytes                          uint64
	FreeBytes, LimboBytes, PinnedBytes uint64 // of a writable store
	OldestPin                          uint64 // oldest commit that a reader holds; 0: none
	CorrectedMasks, RowsJudgedSingly   uint64 // damage read through

	WAL          wal.Stats
	WALBytes     uint64 // size of the ring
	LastSequence uint64 // of the log
	LastApplied  uint64 // in the tree
	Watermark    uint64 // known to be durable
}

// counters are moved where the work is done.
type counters struct {
	commits, checkpoints, placedBytes, waits           atomic.Uint64
	splits, merges, promotions, demotions, compactions atomic.Uint64
	gcRuns, errors                                     atomic.Uint64

	mu        sync.Mutex // guards lastError
	lastError string
}

// count adds what a commit did to the structure.
func (s *Store) count(done structure) {
	s.metrics.splits.Add(done.splits)
	if done.splits > 0 {
		s.note(slog.LevelDebug, "split", "count", done.splits)
	}
	s.metrics.merges.Add(done.merges)
	s.metrics.promotions.Add(done.promotions)
	s.metrics.demotions.Add(done.demotions)
	s.metrics.compactions.Add(done.compactions)
}

// Metrics returns the present figures; after Close only the counters.
func (s *Store) Metrics() Metrics {
	c := &s.metrics
	m := Metrics{
		SplitEvents: c.splits.Load(), MergeEvents: c.merges.Load(), PromotionEvents: c.promotions.Load(),
		DemotionEvents: c.demotions.Load(), CompactionEvents: c.compactions.Load(),
		GCRuns: c.gcRuns.Load(), ErrorEvents: c.errors.Load(),
		Commits: c.commits.Load(), Checkpoints: c.checkpoints.Load(),
		PlacedBytes: c.placedBytes.Load(), Waits: c.waits.Load(),
	}
	c.mu.Lock()
	m.LastError = c.lastError
	c.mu.Unlock()
	r, pin, err := s.acquire()
	if err != nil {
		return m
	}
	defer r.view.Unpin(pin)
	rec := &r.view.record
	m.BucketCount, m.DirectorySize = rec.numBuckets, uint64(r.view.directory.Len())
	m.Keys, m.Values, m.Tombstones, m.SpilledSets = rec.numKeys, rec.numValues, rec.numTombstones, rec.numSets
	pending := uint64(r.fresh.count.Load())
	if r.frozen != nil {
		pending += uint64(r.frozen.count.Load())
	}
	m.PendingOperations, m.PendingBytes = pending, pending*opBytes
	s.snapshots.Range(func(any, any) bool { m.Snapshots++; return true })
	m.FileBytes = uint64(r.view.EndOfFile())
	if !s.opts.ReadOnly {
		space := s.file.Space()
		m.FileBytes, m.FreeBytes = uint64(space.Size), uint64(space.Free+space.Shards)
		m.LimboBytes, m.PinnedBytes, m.OldestPin = uint64(space.Limbo), uint64(space.Pinned), space.OldestPin
	}
	m.CorrectedMasks, m.RowsJudgedSingly = r.view.buckets.Counters()
	m.WALBytes, m.LastApplied, m.Watermark = rec.walSize, rec.lastApplied, rec.watermark
	if s.log != nil {
		m.WAL, m.LastSequence, m.Watermark = s.log.Stats(), s.log.Next()-1, s.log.Watermark()
	}
	return m
}

// LogEvent sends a structured event to Options.Logger and counts it: the events
// "split", "merge", "gc" and "error" move their counters too. args are pairs as
// in log/slog.
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

// event logs; errors are counted, and the last one kept.
func (s *Store) event(event string, args ...any) {
	level := slog.LevelInfo
	if event == "error" {
		level = slog.LevelError
		s.metrics.errors.Add(1)
		for i := 1; i < len(args); i += 2 {
			if err, ok := args[i].(error); ok {
				s.metrics.mu.Lock()
				s.metrics.lastError = err.Error()
				s.metrics.mu.Unlock()
			}
		}
	}
	s.opts.Logger.Log(context.Background(), level, event, append([]any{"path", s.path}, args...)...)
}
