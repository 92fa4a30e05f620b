package metrics

import (
	"context"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/cidstore/cidstore"
	"github.com/cidstore/cidstore/internal/crashfs"
)

var update = flag.Bool("update", false, "write testdata and docs/METRICS.md anew")

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// small is a store in memory that does the same each time.
func small(t *testing.T) *cidstore.Store {
	t.Helper()
	s, err := cidstore.Open("db/s.h5", &cidstore.Options{
		FS: crashfs.New(crashfs.Options{}), GCInterval: -1, SplitThreshold: 8,
		Clock: func() time.Time { return time.Unix(1_700_000_000, 0) }, Rand: rand.NewChaCha8([32]byte{1}),
	})
	must(t, err)
	t.Cleanup(func() { _ = s.Close() }) // a test may have closed it
	return s
}

// fill writes what splits buckets and promotes a set.
func fill(t *testing.T, s *cidstore.Store) {
	t.Helper()
	var b cidstore.Batch
	for i := range uint64(50) {
		b.Insert(cidstore.FromUint64(i), cidstore.FromUint64(i+1))
		b.Insert(cidstore.FromUint64(7), cidstore.FromUint64(i))
	}
	b.Delete(cidstore.FromUint64(8))
	b.DeleteValue(cidstore.FromUint64(9), cidstore.FromUint64(10))
	must(t, s.Apply(&b))
	must(t, s.Checkpoint(context.Background()))
	must(t, s.Insert(cidstore.FromUint64(1), cidstore.FromUint64(1)))
}

func TestNamesAreClean(t *testing.T) {
	s := small(t)
	fill(t, s)
	s.LogEvent("error", "error", cidstore.ErrIO)
	problems, err := testutil.CollectAndLint(NewCollector(s))
	must(t, err)
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	for i := range families {
		f := &families[i]
		if (f.kind == counter) != strings.HasSuffix(f.name, "_total") {
			t.Errorf("%s is a %s", f.name, f.kind)
		}
	}
}

// sizes are the figures that depend on how densely things are packed.
var sizes = regexp.MustCompile(`(?m)^(cidstore_(?:file|free|limbo|placed|wal_written)_bytes(?:_total)?) .*$`)

// TestExposition compares the metrics of a small store with a file, except some
// sizes.
func TestExposition(t *testing.T) {
	s := small(t)
	fill(t, s)
	s.LogEvent("error", "error", cidstore.ErrNoSpace)
	registry := prometheus.NewPedanticRegistry()
	must(t, registry.Register(NewCollector(s)))
	gathered, err := registry.Gather()
	must(t, err)
	var text strings.Builder
	for _, f := range gathered {
		_, err := expfmt.MetricFamilyToText(&text, f)
		must(t, err)
	}
	got := sizes.ReplaceAllString(text.String(), "$1 *")
	if strings.Count(got, " *\n") != 5 {
		t.Error("sizes are missing")
	}
	compareFile(t, filepath.Join("testdata", "small.txt"), got)
}

// compareFile compares text with a file, line by line.
func compareFile(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		must(t, os.WriteFile(path, []byte(got), 0o666))
		return
	}
	data, err := os.ReadFile(path)
	must(t, err)
	gotLines, wantLines := strings.Split(got, "\n"), strings.Split(string(data), "\n")
	for i := range max(len(gotLines), len(wantLines)) {
		var got, want string
		if i < len(gotLines) {
			got = gotLines[i]
		}
		if i < len(wantLines) {
			want = wantLines[i]
		}
		if got != want {
			t.Fatalf("%s:%d: %q, got %q; -update writes it anew", path, i+1, want, got)
		}
	}
}

// TestStoresShareARegistry: with labels they can, without they cannot.
func TestStoresShareARegistry(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	for _, path := range []string{"a.h5", "b.h5"} {
		s := small(t)
		if path == "b.h5" {
			fill(t, s)
		}
		labels := prometheus.Labels{"path": path}
		c := NewCollector(s, WithLabels(labels))
		labels["path"] = "changed later"
		must(t, registry.Register(c))
	}
	must(t, testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP cidstore_promotion_events_total Sets that became too large for their entry.
# TYPE cidstore_promotion_events_total counter
cidstore_promotion_events_total{path="a.h5"} 0
cidstore_promotion_events_total{path="b.h5"} 1
`), "cidstore_promotion_events_total"))
	s := small(t)
	must(t, registry.Register(NewCollector(s, WithLabels(prometheus.Labels{"path": "c.h5"}))))
	if err := registry.Register(NewCollector(s, WithLabels(prometheus.Labels{"path": "a.h5"}))); err == nil {
		t.Error("two stores with the same labels are registered")
	}
	for name, labels := range map[string]prometheus.Labels{"own label": {"type": "x"}, "no name": {"": "x"}, "bad text": {"path": "\xff"}} {
		if err := prometheus.NewRegistry().Register(NewCollector(s, WithLabels(labels))); err == nil {
			t.Errorf("%s: registered", name)
		}
	}
}

// TestClosedStore: counters stay, gauges are left out.
func TestClosedStore(t *testing.T) {
	s := small(t)
	fill(t, s)
	_, err := s.Scrub(t.Context())
	must(t, err)
	registry := prometheus.NewPedanticRegistry()
	must(t, registry.Register(NewCollector(s)))
	names := func() (all []string) {
		gathered, err := registry.Gather()
		must(t, err)
		for _, f := range gathered {
			all = append(all, f.GetName())
		}
		return all
	}
	before := names()
	must(t, s.Close())
	after := names()
	for i := range families {
		f := &families[i]
		name := f.fullName()
		if name == "cidstore_last_error_timestamp_seconds" {
			continue
		}
		if !slices.Contains(before, name) {
			t.Errorf("open: no %s", name)
		}
		stays := f.kind != gauge || name == "cidstore_open" || name == "cidstore_opened_timestamp_seconds" || name == "cidstore_last_scrub_timestamp_seconds"
		if slices.Contains(after, name) != stays {
			t.Errorf("closed: %s is there: %t", name, !stays)
		}
	}
	must(t, testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP cidstore_open Whether the store is open: 1, or 0 after Close.
# TYPE cidstore_open gauge
cidstore_open 0
# HELP cidstore_promotion_events_total Sets that became too large for their entry.
# TYPE cidstore_promotion_events_total counter
cidstore_promotion_events_total 1
`), "cidstore_open", "cidstore_promotion_events_total"))
}

// TestReadOnlyStore: what only a writer knows is left out, and nothing else. The document
// names it.
func TestReadOnlyStore(t *testing.T) {
	disk := crashfs.New(crashfs.Options{})
	w, err := cidstore.Open("db/s.h5", &cidstore.Options{FS: disk, GCInterval: -1})
	must(t, err)
	defer w.Close()
	r, err := cidstore.Open("db/s.h5", &cidstore.Options{FS: disk, ReadOnly: true})
	must(t, err)
	defer r.Close()
	data, err := os.ReadFile(filepath.Join("..", "docs", "METRICS.md"))
	must(t, err)
	text, _, _ := strings.Cut(string(data), "| name |")
	for i := range families {
		f := &families[i]
		name := f.fullName()
		written, read := testutil.CollectAndCount(NewCollector(w), name), testutil.CollectAndCount(NewCollector(r), name)
		ofWriter := []string{"free_bytes", "limbo_bytes", "pinned_bytes", "oldest_pinned_commit", "wal_last_sequence", "danger_ratio"}
		if (written != read) != slices.Contains(ofWriter, f.name) {
			t.Errorf("%s: %d of a writer, %d of a reader", name, written, read)
		}
		if written != read && !strings.Contains(text, "`"+name+"`") {
			t.Errorf("docs/METRICS.md does not say that %s is left out", name)
		}
	}
}

// TestCollectBesideWrites: what is gathered is consistent while the store is written
// to, closed, and after that.
func TestCollectBesideWrites(t *testing.T) {
	s, err := cidstore.Open(filepath.Join(t.TempDir(), "s.h5"), &cidstore.Options{WALBytes: 64 << 10, SplitThreshold: 8})
	must(t, err)
	registry := prometheus.NewPedanticRegistry()
	must(t, registry.Register(NewCollector(s)))
	var group sync.WaitGroup
	group.Go(func() {
		for i := uint64(0); s.Insert(cidstore.FromUint64(i%100), cidstore.FromUint64(i)) == nil; i++ {
		}
	})
	for range 2 {
		group.Go(func() {
			for closed := false; !closed; {
				closed = !s.Metrics().Open
				if _, err := registry.Gather(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	time.Sleep(100 * time.Millisecond)
	must(t, s.Close())
	group.Wait()
}

// written are the metrics that a collector makes of m, as text.
func written(t *testing.T, m *cidstore.Metrics) (all []string) {
	t.Helper()
	c := NewCollector(nil).(*collector)
	c.send(m, func(metric prometheus.Metric) {
		var d dto.Metric
		must(t, metric.Write(&d))
		all = append(all, metric.Desc().String()+d.String())
	})
	return all
}

// TestEveryFigureIsCollected: a change of any field of Metrics changes a metric.
func TestEveryFigureIsCollected(t *testing.T) {
	elsewhere := []string{
		"ErrorEvents",   // the sum of ErrorsByType
		"LastError",     // a text
		"WAL.Watermark", // Watermark
	}
	before := written(t, &cidstore.Metrics{Open: true})
	var visit func(name string, m *cidstore.Metrics, v reflect.Value)
	visit = func(name string, m *cidstore.Metrics, v reflect.Value) {
		switch {
		case v.Type() == reflect.TypeFor[time.Time]():
			v.Set(reflect.ValueOf(time.Unix(5, 0)))
		case v.Kind() == reflect.Struct:
			for i := range v.NumField() {
				visit(name+"."+v.Type().Field(i).Name, m, v.Field(i))
			}
			return
		case v.Kind() == reflect.Array:
			v = v.Index(1)
			v.SetUint(5)
		case v.CanUint():
			v.SetUint(5)
		case v.CanInt():
			v.SetInt(5)
		case v.CanFloat():
			v.SetFloat(0.5)
		case v.Kind() == reflect.Bool:
			v.SetBool(!v.Bool())
		case v.Kind() == reflect.String:
			v.SetString("x")
		default:
			t.Fatalf("%s is of kind %v", name, v.Kind())
		}
		if same := slices.Equal(before, written(t, m)); same != slices.Contains(elsewhere, name) {
			t.Errorf("%s: no metric changes: %t", name, same)
		}
		*m = cidstore.Metrics{Open: true}
	}
	m := &cidstore.Metrics{Open: true}
	for v, i := reflect.ValueOf(m).Elem(), 0; i < v.NumField(); i++ {
		visit(v.Type().Field(i).Name, m, v.Field(i))
	}
}

// TestHistogramIsBoth: the classic buckets count what the native ones do.
func TestHistogramIsBoth(t *testing.T) {
	d := cidstore.Durations{Sum: 3 * time.Second, Zero: 2}
	at := func(number int) *uint64 { return &d.Buckets[number-cidstore.DurationFirst] }
	*at(0), *at(-1), *at(1), *at(48) = 3, 5, 7, 1 // up to 1 s, up to 0.84 s, up to 1.19 s, up to 4096 s
	var got dto.Metric
	must(t, histogram(prometheus.NewDesc("x", "x", nil, nil), &d, time.Unix(1, 0)).Write(&got))
	h := got.Histogram
	if h.GetSampleCount() != 18 || h.GetSampleSum() != 3 || h.GetZeroCount() != 2 || h.GetSchema() != 2 || h.GetZeroThreshold() != 0x1p-24 {
		t.Errorf("count %d, sum %v, zero %d, schema %d", h.GetSampleCount(), h.GetSampleSum(), h.GetZeroCount(), h.GetSchema())
	}
	classic := map[float64]uint64{}
	for _, b := range h.Bucket {
		classic[b.GetUpperBound()] = b.GetCumulativeCount()
	}
	if len(classic) != mostBound-leastBound+1 || classic[0.5] != 2 || classic[1] != 10 || classic[2] != 17 || classic[64] != 17 || classic[0x1p-22] != 2 {
		t.Errorf("classic buckets %v", classic)
	}
	var spans []int32
	for _, s := range h.PositiveSpan {
		spans = append(spans, s.GetOffset(), int32(s.GetLength()))
	}
	if !slices.Equal(spans, []int32{-1, 3, 46, 1}) {
		t.Errorf("native buckets at %v", spans)
	}
}
