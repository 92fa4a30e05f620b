package cidstore

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
)

// recorder keeps the events that it gets.
type recorder struct {
	mu     sync.Mutex // guards events
	least  slog.Level
	events []slog.Record
}

func (r *recorder) Enabled(_ context.Context, l slog.Level) bool { return l >= r.least }
func (r *recorder) WithAttrs([]slog.Attr) slog.Handler           { return r }
func (r *recorder) WithGroup(string) slog.Handler                { return r }
func (r *recorder) Handle(_ context.Context, e slog.Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e.Clone())
	return nil
}

// take returns the events since the last call by name, and their names in order.
func (r *recorder) take() (byName map[string]map[string]slog.Value, names []string, levels map[string]slog.Level) {
	r.mu.Lock()
	defer r.mu.Unlock()
	byName, levels = map[string]map[string]slog.Value{}, map[string]slog.Level{}
	for _, e := range r.events {
		attributes := map[string]slog.Value{}
		e.Attrs(func(a slog.Attr) bool { attributes[a.Key] = a.Value; return true })
		byName[e.Message], levels[e.Message] = attributes, e.Level
		names = append(names, e.Message)
	}
	r.events = nil
	return byName, names, levels
}

// count returns how many events of a name there are since the last call of take.
func (r *recorder) count(name string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if e.Message == name {
			n++
		}
	}
	return n
}

// writeMuch writes four times a log of 64 KiB, however the keys are spread.
func writeMuch(t *testing.T, s *Store) {
	t.Helper()
	for i := uint64(0); i < 6000; {
		var b Batch
		for range 6 {
			b.Insert(FromUint64(i), FromUint64(i+1))
			i++
		}
		mustDo(t, s.Apply(&b))
	}
}

// TestLoggerFollowsALife: a life that opens, recovers, checkpoints, splits, grows
// and closes reports all of it, with figures.
func TestLoggerFollowsALife(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.h5")
	r := &recorder{least: slog.LevelDebug}
	o := Options{
		Logger: slog.New(r), GCInterval: -1, WALBytes: 1 << 20, SplitThreshold: 4,
		startBytes: 64 << 10, growBytes: 4096, sliceBytes: 16 << 10,
	}
	first := OpenStore(t, path, &o)
	mustDo(t, first.Insert(FromUint64(1), FromUint64(2)))
	// The life ends without Close: what it wrote is in the log alone.
	first.file.Close()
	first.vfile.Close()
	r.take()

	s := OpenStore(t, path, &o)
	events, _, levels := r.take()
	open := events["open"]
	if open == nil || levels["open"] != slog.LevelInfo || open["clean"].Any() != false || open["frames"].Any() != int64(1) ||
		open["operations"].Any() != int64(1) || open["path"].String() != path || open["log_bytes"].Any() != uint64(64<<10) {
		t.Errorf("open: %v", events)
	}
	writeMuch(t, s)
	mustDo(t, s.Checkpoint(context.Background()))
	events, names, levels := r.take()
	for name, level := range map[string]slog.Level{
		"checkpoint begin": slog.LevelDebug, "checkpoint end": slog.LevelInfo, "split": slog.LevelDebug,
		"grow file": slog.LevelDebug, "grow log": slog.LevelInfo,
	} {
		if !slices.Contains(names, name) || levels[name] != level {
			t.Fatalf("%s at %v, want it at %v; events %v", name, levels[name], level, slices.Compact(slices.Sorted(slices.Values(names))))
		}
	}
	end := events["checkpoint end"]
	if events["checkpoint begin"]["operations"].Any() != end["operations"].Any() || end["bytes"].Uint64() == 0 || end["commits"].Uint64() == 0 {
		t.Errorf("begin %v, end %v", events["checkpoint begin"], end)
	}
	for _, name := range []string{"grow file", "grow log"} {
		if events[name]["from"].Int64() >= events[name]["to"].Int64() {
			t.Errorf("%s: %v", name, events[name])
		}
	}
	keys, values := s.state.Load().view.record.numKeys, s.state.Load().view.record.numValues
	r.least = slog.LevelInfo
	mustDo(t, s.Close())
	events, names, _ = r.take()
	if slices.Contains(names, "checkpoint begin") {
		t.Errorf("Debug events at Info: %v", names)
	}
	last := events["close"]
	if names[len(names)-1] != "close" || last["keys"].Any() != keys || last["values"].Any() != values || last["file_bytes"].Int64() == 0 {
		t.Errorf("close: %v, events %v", last, names)
	}
	if _, failed := last["error"]; failed {
		t.Errorf("close: %v", last)
	}
}

// TestLoggerTellsMerges: each is reported with its number.
func TestLoggerTellsMerges(t *testing.T) {
	r := &recorder{least: slog.LevelDebug}
	s := OpenStore(t, filepath.Join(t.TempDir(), "s.h5"), &Options{Logger: slog.New(r), GCInterval: -1, SplitThreshold: 4})
	var b Batch
	change := func(do func(key E)) {
		t.Helper()
		b.Reset()
		for i := range uint64(2000) {
			do(FromUint64(i))
		}
		mustDo(t, s.Apply(&b), s.Checkpoint(context.Background()))
	}
	change(func(key E) { b.Insert(key, key) })
	r.take()
	change(b.Delete)
	events, _, levels := r.take()
	m := s.Metrics()
	if e := events["merge"]; e == nil || levels["merge"] != slog.LevelDebug || e["count"].Uint64() == 0 || e["count"].Uint64() > m.MergeEvents {
		t.Errorf("merge: %v, %d merges are counted", e, m.MergeEvents)
	}
}

// panicking is a handler of which every call panics.
type panicking struct{ recorder }

func (*panicking) Enabled(context.Context, slog.Level) bool { panic("a handler") }

// TestLoggerPanics: a handler that panics ends neither a call nor the background, and the
// metrics count it.
func TestLoggerPanics(t *testing.T) {
	s := OpenStore(t, filepath.Join(t.TempDir(), "s.h5"), &Options{Logger: slog.New(&panicking{}), startBytes: 64 << 10, GCInterval: time.Millisecond})
	writeMuch(t, s) // the background checkpoints
	mustDo(t, errOf(s.RunGCOnce(t.Context())), s.Maintain(t.Context()), s.Shrink(t.Context()))
	for s.Metrics().GCRuns < 3 {
		time.Sleep(time.Millisecond)
	}
	s.LogEvent("error", "error", ErrIO)
	mustDo(t, s.Close())
	if m := s.Metrics(); m.ErrorsByType[errorType(nil)] == 0 || m.ErrorsByType[errorType(ErrIO)] != 1 {
		t.Errorf("errors: %v, the last one %q", m.ErrorsByType, m.LastError)
	}
}
