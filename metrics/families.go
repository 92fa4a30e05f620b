package metrics

import (
	"iter"
	"time"

	"github.com/cidstore/cidstore"
)

// kind is a type of metric in Prometheus.
type kind string

const (
	counter      kind = "counter"
	gauge        kind = "gauge"
	distribution kind = "histogram"
)

// family describes the metrics of one name.
type family struct {
	name, help string
	kind       kind
	label      string // own label of its metrics; "": it has one metric, without

	samples func(m *cidstore.Metrics, add func(value float64, labels ...string))
	times   func(m *cidstore.Metrics) *cidstore.Durations // of histograms, which have no samples
}

func (f *family) fullName() string { return "cidstore_" + f.name }

func (f *family) labelNames() []string {
	if f.label == "" {
		return nil
	}
	return []string{f.label}
}

// count is a counter.
func count(name, help string, value func(m *cidstore.Metrics) uint64) family {
	return family{name: name, help: help, kind: counter, samples: func(m *cidstore.Metrics, add func(float64, ...string)) {
		add(float64(value(m)))
	}}
}

// countEach is a counter for each value of a label.
func countEach(name, label, help string, values func(m *cidstore.Metrics) iter.Seq2[string, uint64]) family {
	return family{name: name, help: help, kind: counter, label: label, samples: func(m *cidstore.Metrics, add func(float64, ...string)) {
		for of, n := range values(m) {
			add(float64(n), of)
		}
	}}
}

// now is a gauge of an open store.
func now(name, help string, value func(m *cidstore.Metrics) uint64) family {
	return family{name: name, help: help, kind: gauge, samples: func(m *cidstore.Metrics, add func(float64, ...string)) {
		if m.Open {
			add(float64(value(m)))
		}
	}}
}

// nowOfWriter is a gauge of an open store that is not read-only.
func nowOfWriter(name, help string, value func(m *cidstore.Metrics) uint64) family {
	return ratioOfWriter(name, help, func(m *cidstore.Metrics) float64 { return float64(value(m)) })
}

// ratioOfWriter is nowOfWriter for a ratio.
func ratioOfWriter(name, help string, value func(m *cidstore.Metrics) float64) family {
	return family{name: name, help: help, kind: gauge, samples: func(m *cidstore.Metrics, add func(float64, ...string)) {
		if m.Open && !m.ReadOnly {
			add(value(m))
		}
	}}
}

// moment is a gauge for a time. It stays after Close, and is left out if there is
// no time yet.
func moment(name, help string, value func(m *cidstore.Metrics) time.Time) family {
	return family{name: name, help: help, kind: gauge, samples: func(m *cidstore.Metrics, add func(float64, ...string)) {
		if t := value(m); !t.IsZero() {
			add(float64(t.UnixNano()) / 1e9)
		}
	}}
}

// took is a histogram.
func took(name, help string, times func(m *cidstore.Metrics) *cidstore.Durations) family {
	return family{name: name, help: help, kind: distribution, times: times}
}

// isOpen adds 1 or 0, also after Close.
func isOpen(m *cidstore.Metrics, add func(float64, ...string)) {
	if m.Open {
		add(1)
	} else {
		add(0)
	}
}

// logErrors yields the failures of the log by type.
func logErrors(m *cidstore.Metrics) iter.Seq2[string, uint64] {
	return func(yield func(string, uint64) bool) {
		_ = yield("write", m.WAL.Errors) && yield("replay", m.ReplayErrors) && yield("audit", m.WAL.AuditFailures)
	}
}

type figures = cidstore.Metrics

// families are all metrics, in the order of docs/METRICS.md.
var families = []family{
	{name: "open", help: "Whether the store is open: 1, or 0 after Close.", kind: gauge, samples: isOpen},
	moment("opened_timestamp_seconds", "When the store was opened and its counters began.", func(m *figures) time.Time { return m.Opened }),

	now("buckets", "Buckets of all groups.", func(m *figures) uint64 { return m.BucketCount }),
	now("directory_pointers", "Pointers of the directory, a power of two.", func(m *figures) uint64 { return m.DirectorySize }),
	now("keys", "Keys in the tree, without what only the log has yet.", func(m *figures) uint64 { return m.Keys }),
	now("values", "Values in the tree, without what only the log has yet.", func(m *figures) uint64 { return m.Values }),
	now("tombstones", "Deleted values that are not compacted away.", func(m *figures) uint64 { return m.Tombstones }),
	now("spilled_sets", "Sets of values that are not inline.", func(m *figures) uint64 { return m.SpilledSets }),
	now("runs", "Runs of entries that wait to be folded into groups.", func(m *figures) uint64 { return m.Runs }),
	now("waiting_entries", "Entries of runs that count.", func(m *figures) uint64 { return m.WaitingEntries }),
	now("deletion_rows", "Rows of the deletion log, which are not collected yet.", func(m *figures) uint64 { return m.DeletionRows }),
	ratioOfWriter("danger_ratio", "How much the store asks for maintenance: 0.4 × pending + 0.3 × unsorted + 0.3 × age.", func(m *figures) float64 { return m.Danger }),
	now("commit", "Number of the root that readers see.", func(m *figures) uint64 { return m.Commit }),

	count("split_events_total", "Splits of buckets.", func(m *figures) uint64 { return m.SplitEvents }),
	count("merge_events_total", "Merges of buckets.", func(m *figures) uint64 { return m.MergeEvents }),
	count("promotion_events_total", "Sets that became too large for their entry.", func(m *figures) uint64 { return m.PromotionEvents }),
	count("demotion_events_total", "Sets that went back into their entry.", func(m *figures) uint64 { return m.DemotionEvents }),
	count("compaction_events_total", "Sets whose tombstones were erased.", func(m *figures) uint64 { return m.CompactionEvents }),
	count("gc_runs_total", "Collections of garbage that were completed.", func(m *figures) uint64 { return m.GCRuns }),

	took("gc_duration_seconds", "How long collections of garbage took that were completed.", func(m *figures) *cidstore.Durations { return &m.GCTimes }),
	count("gc_deletions_total", "Rows of the deletion log that collections handled.", func(m *figures) uint64 { return m.Garbage.Deletions }),
	count("gc_compacted_sets_total", "Sets whose tombstones collections dropped.", func(m *figures) uint64 { return m.Garbage.Compacted }),
	count("gc_tombstones_total", "Tombstones that collections dropped.", func(m *figures) uint64 { return m.Garbage.Tombstones }),
	count("gc_orphans_total", "Sets that no key named, which collections freed.", func(m *figures) uint64 { return m.Garbage.Orphans }),

	took("lookup_duration_seconds", "How long lookups took, of one key in 1,024.", func(m *figures) *cidstore.Durations { return &m.LookupTimes }),

	countEach("errors_total", "type", "Error events by type.", (*figures).Errors),
	moment("last_error_timestamp_seconds", "When the last error event was; left out before the first.", func(m *figures) time.Time { return m.LastErrorTime }),
	count("corrected_masks_total", "State masks of which one wrong bit was corrected, at each read.", func(m *figures) uint64 { return m.CorrectedMasks }),
	count("rows_judged_singly_total", "Buckets and slots with a wrong checksum whose entries were judged one by one, at each read.", func(m *figures) uint64 { return m.RowsJudgedSingly }),

	countEach("maintenance_total", "kind", "Times that maintenance did something, by kind.", (*figures).Maintained),
	count("scrubs_total", "Scrubs that were completed.", func(m *figures) uint64 { return m.Scrubs }),
	count("scrubbed_bytes_total", "Bytes that scrubs have verified.", func(m *figures) uint64 { return m.ScrubbedBytes }),
	count("scrub_defects_total", "Places that scrubs found damaged and could not mend, in each scrub.", func(m *figures) uint64 { return m.ScrubDefects }),
	count("mended_masks_total", "State masks with one wrong bit that scrubs have written again.", func(m *figures) uint64 { return m.MendedMasks }),
	moment("last_scrub_timestamp_seconds", "When the last scrub ended, in an earlier life too; left out before the first.", func(m *figures) time.Time { return m.LastScrub }),

	count("commits_total", "Roots committed.", func(m *figures) uint64 { return m.Commits }),
	count("checkpoints_total", "Checkpoints that were completed.", func(m *figures) uint64 { return m.Checkpoints }),
	took("checkpoint_duration_seconds", "How long checkpoints took that were completed.", func(m *figures) *cidstore.Durations { return &m.CheckpointTimes }),
	count("placed_bytes_total", "Bytes written into the space of the tree.", func(m *figures) uint64 { return m.PlacedBytes }),
	count("write_waits_total", "Times that a write had to wait for room.", func(m *figures) uint64 { return m.Waits }),
	now("pending_operations", "Operations in memory that the tree lacks.", func(m *figures) uint64 { return m.PendingOperations }),
	now("pending_bytes", "Memory of the pending operations.", func(m *figures) uint64 { return m.PendingBytes }),
	now("cached_keys", "Keys with many pending operations of which the outcome is kept in memory.", func(m *figures) uint64 { return m.CachedKeys }),

	now("file_bytes", "Size of the file.", func(m *figures) uint64 { return m.FileBytes }),
	nowOfWriter("free_bytes", "Free space in the file.", func(m *figures) uint64 { return m.FreeBytes }),
	nowOfWriter("limbo_bytes", "Space that will be free after the next commits.", func(m *figures) uint64 { return m.LimboBytes }),
	nowOfWriter("pinned_bytes", "Space that waits for readers of old roots.", func(m *figures) uint64 { return m.PinnedBytes }),
	nowOfWriter("oldest_pinned_commit", "Oldest root that a reader holds, or the newest.", func(m *figures) uint64 { return m.OldestPin }),
	now("snapshots", "Snapshots that are open.", func(m *figures) uint64 { return m.Snapshots }),

	countEach("wal_records_total", "operation", "Records appended to the log by operation.", (*figures).Records),
	count("wal_frames_total", "Batches appended to the log.", func(m *figures) uint64 { return m.WAL.Frames }),
	count("wal_groups_total", "Groups of batches written to the log.", func(m *figures) uint64 { return m.WAL.Groups }),
	count("wal_syncs_total", "Syncs of the log.", func(m *figures) uint64 { return m.WAL.Syncs }),
	took("wal_sync_duration_seconds", "How long writes of the log took, each with its sync.", func(m *figures) *cidstore.Durations { return &m.WALSyncTimes }),
	count("wal_written_bytes_total", "Bytes written to the log.", func(m *figures) uint64 { return m.WAL.Bytes }),
	count("wal_truncations_total", "Times that the tail of the log moved.", func(m *figures) uint64 { return m.WAL.Truncations }),
	count("wal_audits_total", "Audits of the HMAC chain.", func(m *figures) uint64 { return m.WAL.Audits }),
	count("wal_audit_failures_total", "Audits of the HMAC chain that failed.", func(m *figures) uint64 { return m.WAL.AuditFailures }),
	countEach("wal_errors_total", "type", "Failures of the log by type: write, replay, audit.", logErrors),
	count("wal_replays_total", "Times that the log was read by Open, Refresh, or a read-only store's Check or AuditWAL.", func(m *figures) uint64 { return m.Replays }),
	count("wal_replayed_frames_total", "Batches that replays found.", func(m *figures) uint64 { return m.ReplayedFrames }),
	count("wal_replayed_operations_total", "Operations that replays found.", func(m *figures) uint64 { return m.ReplayedOperations }),
	now("wal_size_bytes", "Size of the log's ring.", func(m *figures) uint64 { return m.WALBytes }),
	nowOfWriter("wal_last_sequence", "Last sequence of the log.", func(m *figures) uint64 { return m.LastSequence }),
	now("wal_applied_sequence", "Sequence up to which the tree holds everything.", func(m *figures) uint64 { return m.LastApplied }),
	now("wal_watermark_sequence", "Sequence up to which everything is known to be durable.", func(m *figures) uint64 { return m.Watermark }),
}
