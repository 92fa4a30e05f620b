package cidstore

import (
	"context"
	"fmt"
	"log/slog"
)

// Options.Logger lists the events.

// note logs an event that is not an error. It runs in goroutines of the store and with locks
// held, so it outlives a handler that panics.
func (s *Store) note(level slog.Level, event string, args ...any) {
	defer func() {
		if p := recover(); p != nil {
			s.metrics.failed(fmt.Errorf("event %q: the handler of Options.Logger panics: %v", event, p), s.opts.Clock())
		}
	}()
	ctx := context.Background()
	if s.opts.Logger.Enabled(ctx, level) {
		s.opts.Logger.Log(ctx, level, event, append([]any{"path", s.path}, args...)...)
	}
}

// noteOpen notes what Open has found.
func (s *Store) noteOpen() {
	v, r := s.state.Load().view, &s.recovery
	s.note(slog.LevelInfo, "open", "read_only", s.opts.ReadOnly, "commit", r.Commit, "slot", r.Slot,
		"fell_back", r.FellBack, "superblock_mended", r.SuperblockMended, "clean", r.Clean,
		"frames", r.FramesReplayed, "operations", r.OperationsReplayed, "torn_at", r.TornAt, "torn_records", r.TornRecords,
		"keys", v.record.numKeys, "values", v.record.numValues, "file_bytes", v.EndOfFile(), "log_bytes", v.record.walSize)
}

// begins notes the beginning of a checkpoint. The function that it returns notes the end.
func (c *checkpoint) begins() (ends func()) {
	m, operations := &c.store.metrics, c.ops.len()
	commits, bytes, began := m.commits.Load(), m.placedBytes.Load(), c.store.opts.Clock()
	c.store.note(slog.LevelDebug, "checkpoint begin", "operations", operations)
	return func() {
		d := &c.done
		m.checkpointTimes.observe(c.store.opts.Clock().Sub(began))
		c.store.note(slog.LevelInfo, "checkpoint end", "operations", operations,
			"commits", m.commits.Load()-commits, "bytes", m.placedBytes.Load()-bytes,
			"splits", d.splits, "merges", d.merges, "promotions", d.promotions, "demotions", d.demotions, "compactions", d.compactions)
	}
}

// noteGrowth notes that the file or the log has grown since the root before.
func (s *Store) noteGrowth(file, log int64) {
	if before := s.fileBytes.Swap(file); before != 0 && before < file {
		s.note(slog.LevelDebug, "grow file", "from", before, "to", file)
	}
	if before := s.logBytes.Swap(log); before != 0 && before < log {
		s.note(slog.LevelInfo, "grow log", "from", before, "to", log)
	}
}

// noteClose notes the end of Close; last is the newest root that readers saw.
func (s *Store) noteClose(last *record, err error) {
	args := []any{"keys", last.numKeys, "values", last.numValues, "file_bytes", s.file.View().EndOfFile()}
	if err != nil {
		args = append(args, "error", err)
	}
	s.note(slog.LevelInfo, "close", args...)
}
