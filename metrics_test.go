package cidstore_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/cidstore/cidstore"
	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/vfs"
)

// gauges are the fields of Metrics that are figures of a moment.
var gauges = []string{
	"BucketCount", "DirectorySize", "Keys", "Values", "Tombstones", "SpilledSets", "Runs", "WaitingEntries", "Commit",
	"PendingOperations", "PendingBytes", "CachedKeys", "Snapshots", "FileBytes", "FreeBytes", "LimboBytes", "PinnedBytes",
	"OldestPin", "WALBytes", "LastSequence", "LastApplied", "Watermark",
}

// numbers are the figures of m that are integers, those of structs and arrays in it
// too, by their names.
func numbers(m cidstore.Metrics) map[string]uint64 {
	found := map[string]uint64{}
	var visit func(name string, v reflect.Value)
	visit = func(name string, v reflect.Value) {
		switch v.Kind() {
		case reflect.Uint64:
			found[name] += v.Uint()
		case reflect.Int64:
			found[name] += uint64(v.Int())
		case reflect.Array:
			for i := range v.Len() {
				visit(name, v.Index(i))
			}
		case reflect.Struct:
			if v.Type() == reflect.TypeFor[time.Time]() {
				return
			}
			for i := range v.NumField() {
				visit(name+"."+v.Type().Field(i).Name, v.Field(i))
			}
		}
	}
	v := reflect.ValueOf(m)
	for i := range v.NumField() {
		visit(v.Type().Field(i).Name, v.Field(i))
	}
	return found
}

// notLess fails the test where a counter of after is less than in before.
func notLess(t *testing.T, when string, before, after cidstore.Metrics) {
	t.Helper()
	was, is := numbers(before), numbers(after)
	for _, name := range gauges {
		if _, found := was[name]; !found {
			t.Fatalf("%s is no field", name)
		}
		delete(was, name)
	}
	for name, n := range was {
		if is[name] < n {
			t.Errorf("%s: %s went from %d down to %d", when, name, n, is[name])
		}
	}
}

// TestCountersStay: what is counted is never less than before, and after Close it is
// as it was, while gauges are zero.
func TestCountersStay(t *testing.T) {
	s, _ := fresh(t, &cidstore.Options{SplitThreshold: 8, GCInterval: -1})
	last := s.Metrics()
	if !last.Open || last.Opened.IsZero() {
		t.Errorf("open %t, since %v", last.Open, last.Opened)
	}
	see := func(when string) {
		t.Helper()
		m := s.Metrics()
		notLess(t, when, last, m)
		last = m
	}
	for i := range uint64(300) {
		must(t, s.Insert(cidstore.FromUint64(i%40), cidstore.FromUint64(i)))
	}
	see("written")
	must(t, s.Checkpoint(context.Background()), s.Delete(cidstore.FromUint64(3)), s.AuditWAL(0))
	see("checkpoint")
	for i := range uint64(4096) {
		must(t, errOf(s.Lookup(cidstore.FromUint64(i))))
	}
	must(t, errOf(s.RunGCOnce(t.Context())), errOf(s.RunGCOnce(t.Context())))
	see("collected")
	s.LogEvent("error", "error", cidstore.ErrNoSpace)
	s.LogEvent("error", "what", "nothing that is an error")
	see("errors")
	must(t, s.Close())
	see("closed")
	closed := numbers(last)
	for _, name := range gauges {
		if closed[name] != 0 {
			t.Errorf("%s is %d after Close", name, closed[name])
		}
	}
	records := map[string]uint64{}
	for name, n := range last.Records() {
		records[name] = n
	}
	if last.Open || records["insert"] != 300 || records["delete"] != 1 || records["commit"] == 0 || last.WAL.Audits != 1 {
		t.Errorf("open %t, records %v, %d audits", last.Open, records, last.WAL.Audits)
	}
	if last.WALSyncTimes.Count() != last.WAL.Syncs || last.CheckpointTimes.Count() != last.Checkpoints || last.Checkpoints != 2 {
		t.Errorf("%d times of %d syncs, %d times of %d checkpoints",
			last.WALSyncTimes.Count(), last.WAL.Syncs, last.CheckpointTimes.Count(), last.Checkpoints)
	}
	if n := last.LookupTimes.Count(); last.GCTimes.Count() != last.GCRuns || last.GCRuns != 2 || n < 1 || n > 40 {
		t.Errorf("%d times of %d collections, %d of lookups", last.GCTimes.Count(), last.GCRuns, n)
	}
	if last.LastError != "what=nothing that is an error" || last.LastErrorTime.IsZero() || last.ErrorEvents != 2 {
		t.Errorf("%d errors, the last %q at %v", last.ErrorEvents, last.LastError, last.LastErrorTime)
	}
	for name, n := range last.Errors() {
		if want := name == "no_space" || name == "other"; (n == 1) != want {
			t.Errorf("%d errors of type %s", n, name)
		}
	}
}

// TestRecordsNameEveryOpcode: the log appends nothing that Records does not name.
func TestRecordsNameEveryOpcode(t *testing.T) {
	source := mustGet(os.ReadFile(filepath.Join("wal", "format.go")))(t)
	var m cidstore.Metrics
	want := uint64(0)
	for _, c := range regexp.MustCompile(`(?m)^\t\w+ +Opcode = (\d+)`).FindAllSubmatch(source, -1) {
		m.WAL.Records[mustGet(strconv.Atoi(string(c[1])))(t)] = 1
		want++
	}
	got := uint64(0)
	for name, n := range m.Records() {
		if got++; n != 1 {
			t.Errorf("%s is none", name)
		}
	}
	if got != want || want < 10 {
		t.Errorf("%d names of %d opcodes", got, want)
	}
}

// TestErrorTypes: the type is that of the cause.
func TestErrorTypes(t *testing.T) {
	for want, err := range map[string]error{
		"no_space": cidstore.ErrSpacePinned, "replaced": errors.Join(cidstore.ErrPoisoned, cidstore.ErrReplaced),
		"tampered": cidstore.ErrTampered, "corrupt": cidstore.ErrCorrupt, "io": cidstore.ErrIO,
		"poisoned": cidstore.ErrPoisoned, "other": errors.New("something else"),
	} {
		s, _ := fresh(t, &cidstore.Options{GCInterval: -1})
		s.LogEvent("error", "error", err)
		s.LogEvent("error", slog.Any("error", err))
		m := s.Metrics()
		for name, n := range m.Errors() {
			if (n == 2) != (name == want) || m.LastError != err.Error() {
				t.Errorf("%v: %d errors of type %s, want %s; the last is %q", err, n, name, want, m.LastError)
			}
		}
	}
}

// TestReplaysAreCounted: what Open and Refresh take from the log, and a reader's audits.
func TestReplaysAreCounted(t *testing.T) {
	disk := crashfs.New(crashfs.Options{})
	w := open(t, "db/s.h5", &cidstore.Options{FS: disk, GCInterval: -1})
	must(t, w.Insert(cidstore.E{}, cidstore.E{}))
	r := open(t, "db/s.h5", &cidstore.Options{FS: disk, ReadOnly: true})
	before := r.Metrics()
	if before.Replays == 0 || before.ReplayedFrames == 0 || before.ReplayedOperations != before.ReplayedFrames || before.ReplayErrors != 0 {
		t.Errorf("%d replays, %d frames, %d operations, %d errors",
			before.Replays, before.ReplayedFrames, before.ReplayedOperations, before.ReplayErrors)
	}
	must(t, r.Refresh(), r.AuditWAL(0))
	after := r.Metrics()
	notLess(t, "refreshed", before, after)
	if after.Replays < before.Replays+2 || after.WAL.Audits != 1 || after.WAL.AuditFailures != 0 {
		t.Errorf("%d replays after %d, %d audits, %d failed", after.Replays, before.Replays, after.WAL.Audits, after.WAL.AuditFailures)
	}
	must(t, r.Close(), w.Close())
}

// TestGarbageIsCounted: the figures are those of all collections together.
func TestGarbageIsCounted(t *testing.T) {
	s, _ := fresh(t, &cidstore.Options{GCInterval: -1})
	var want cidstore.GCStats
	for round := range uint64(3) {
		var b cidstore.Batch
		for i := range uint64(20) {
			b.Insert(cidstore.FromUint64(round), cidstore.FromUint64(i))
		}
		for i := range uint64(10) {
			b.DeleteValue(cidstore.FromUint64(round), cidstore.FromUint64(i))
		}
		must(t, s.Apply(&b))
		stats := mustGet(s.RunGCOnce(context.Background()))(t)
		want.Deletions += stats.Deletions
		want.Compacted += stats.Compacted
		want.Tombstones += stats.Tombstones
		want.Orphans += stats.Orphans
	}
	m := s.Metrics()
	if m.Garbage != want || m.GCRuns != 3 || want.Deletions == 0 || want.Tombstones == 0 || m.DeletionRows != 0 {
		t.Errorf("%d runs, %+v, want %+v; %d rows are left", m.GCRuns, m.Garbage, want, m.DeletionRows)
	}
}

// TestDamageCountsOn: the counters of damage that reads got past go on with each new root.
func TestDamageCountsOn(t *testing.T) {
	disk := crashfs.New(crashfs.Options{})
	o := &cidstore.Options{FS: disk, GCInterval: -1}
	s := open(t, "db/s.h5", o)
	key, value := cidstore.FromString("damaged"), cidstore.FromString("value")
	must(t, s.Insert(key, value), s.Close())
	flipMasks(t, disk, key, value)
	s = open(t, "db/s.h5", o)
	look := func() uint64 {
		t.Helper()
		wantIs(t, true, "Has")(s.Has(key, value))
		return s.Metrics().CorrectedMasks
	}
	one := look()
	if one == 0 {
		t.Fatal("no mask was corrected")
	}
	must(t, s.Insert(cidstore.FromUint64(2), value)) // into a run: the damaged entry stays where it is
	must(t, s.Checkpoint(context.Background()))
	two := look()
	if two <= one {
		t.Errorf("%d masks corrected, %d before another root", two, one)
	}
	last := s.Metrics()
	must(t, s.Close())
	notLess(t, "closed", last, s.Metrics())
}

// flipMasks flips a bit in the state mask of every stored entry of a pair.
func flipMasks(t *testing.T, disk *crashfs.FS, key, value cidstore.E) {
	t.Helper()
	f := mustGet(disk.OpenFile("db/s.h5", vfs.ReadWrite, 0))(t)
	defer f.Close()
	data := make([]byte, mustGet(f.Info())(t).Size)
	if n, err := f.ReadAt(data, 0); n < len(data) {
		t.Fatal(err)
	}
	entry, found := value.AppendHDF5(key.AppendHDF5(nil)), 0
	for at := 0; ; at++ {
		next := bytes.Index(data[at:], entry)
		if next < 0 {
			break
		}
		at += next
		mask := at + len(entry)
		if data[mask] == 0x87 { // of one value; the log's records have another byte there
			must(t, f.WriteAt([]byte{data[mask] ^ 1}, int64(mask)))
			found++
		}
	}
	if found == 0 {
		t.Fatal("the entry is nowhere in the file")
	}
}

// TestMetricsBesideEverything: counters only rise while everything is under way, and
// while the store closes.
func TestMetricsBesideEverything(t *testing.T) {
	s, _ := fresh(t, &cidstore.Options{SplitThreshold: 8, WALBytes: 64 << 10})
	var group sync.WaitGroup
	group.Go(func() {
		for i := uint64(0); untilClosed(t, "Insert", s.Insert(cidstore.FromUint64(i%500), cidstore.FromUint64(i))); i++ {
		}
	})
	group.Go(func() {
		for untilClosed(t, "Checkpoint", s.Checkpoint(context.Background())) {
		}
	})
	for range 2 {
		group.Go(func() {
			for last, closed := s.Metrics(), false; !closed; {
				m := s.Metrics()
				notLess(t, "beside", last, m)
				last, closed = m, !m.Open
			}
		})
	}
	time.Sleep(100 * time.Millisecond)
	must(t, s.Close())
	group.Wait()
}
