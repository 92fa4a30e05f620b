package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// realPeers are the engines without the broken ones that the tests add.
var realPeers = slices.Clone(peers)

// As the program does, the test binary also acts as the child.
func TestMain(m *testing.M) {
	for _, fault := range []string{"lossy", "late", "panics", "untidy", "keeps", "hangs"} {
		peers = append(peers, peer{fault, "", true, func(dir string, relaxed bool) (engine, error) {
			e, err := openCIDStore(dir, relaxed)
			return &brokenEngine{engine: e, fault: fault}, err
		}})
	}
	if runChild() {
		return
	}
	os.Exit(m.Run())
}

// brokenEngine is CIDStore with a fault:
//
//	lossy    loses the last pair of each batch
//	late     writes everything at close
//	panics   at the first batch, as hangs does
//	untidy   loses 100 keys when it is tidied
//	keeps    deletes only the first pair of a batch of deletions
type brokenEngine struct {
	engine
	fault string
	held  []pair // late: not written yet
}

func (e *brokenEngine) insert(pairs []pair) error {
	switch e.fault {
	case "panics":
		panic("the engine is broken")
	case "hangs":
		time.Sleep(time.Hour) // not select {}, which the runtime could report as a deadlock
	case "lossy":
		pairs = pairs[:len(pairs)-1]
	case "late":
		e.held = append(e.held, pairs...)
		return nil
	}
	return e.engine.insert(pairs)
}

func (e *brokenEngine) remove(pairs []pair) error {
	if e.fault == "keeps" {
		pairs = pairs[:1]
	}
	return e.engine.remove(pairs)
}

func (e *brokenEngine) tidy() error {
	if e.fault == "untidy" {
		for i := range uint64(100) {
			if err := e.removeKey(keyAt(1, i)); err != nil {
				return err
			}
		}
	}
	return e.engine.tidy()
}

func (e *brokenEngine) close() error {
	for batch := range slices.Chunk(e.held, 1000) {
		if err := e.engine.insert(batch); err != nil {
			return err
		}
	}
	return e.engine.close()
}

// bench runs the program with small workloads.
func bench(t *testing.T, args ...string) (code int, table string) {
	t.Helper()
	var stdout, stderr strings.Builder
	args = append([]string{"-n", "10000", "-lookups", "200", "-mk", "50", "-phase", "30ms", "-dir", t.TempDir()}, args...)
	code = realMain(t.Context(), args, &stdout, &stderr)
	t.Logf("%s%s", &stderr, &stdout)
	return code, stdout.String()
}

// Every row has a figure for every engine, and a ratio.
func TestEveryRow(t *testing.T) {
	file := filepath.Join(t.TempDir(), "out.json")
	names := ""
	for _, p := range realPeers {
		names += "," + p.name
	}
	code, table := bench(t, "-engines", names[1:], "-json", file)
	if code != 0 {
		t.Fatalf("exit code %d, want 0", code)
	}
	var r report
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	if want := len(workloads) * len(realPeers); len(r.Outcomes) != want {
		t.Fatalf("%d outcomes, want %d", len(r.Outcomes), want)
	}
	for _, o := range r.Outcomes {
		w, _ := workloadNamed(o.Workload)
		for _, l := range w.rows {
			m, ok := o.Measures[l.name]
			if systemDependent := l.name == "written to the device a pair" || l.name == "CPU a pair" || l.name == "own memory, at most"; !ok && !systemDependent || m.Value < 0 {
				t.Errorf("%s, %s: %q is %v", o.Engine, o.Workload, l.name, m)
			}
			if !strings.Contains(table, "| "+l.name+" |") {
				t.Errorf("the table has no row %q", l.name)
			}
		}
		for name := range o.Measures {
			if !slices.ContainsFunc(w.rows, func(l row) bool { return l.name == name }) {
				t.Errorf("%s, %s: %q has no row", o.Engine, o.Workload, name)
			}
		}
	}
}

// What an engine does wrong is shown, and the exit code is 1; other engines are not
// affected.
func TestFailureIsShown(t *testing.T) {
	for _, test := range []struct {
		engines, workloads, want string
		args                     []string
	}{
		{"cidstore,lossy", "W1", "WRONG DATA", nil},
		{"cidstore,lossy", "W3", "WRONG DATA", nil},
		{"cidstore,lossy", "W4", "WRONG DATA", nil},
		{"cidstore,late", "W5", "WRONG DATA", nil},
		{"cidstore,late", "W6", "LOST", nil},
		{"cidstore,lossy", "W7", "loaded, opened again: WRONG DATA", nil},
		{"cidstore,keeps", "W7", "half deleted, opened again: WRONG DATA", nil},
		{"cidstore,untidy", "W7", "tidied, opened again: WRONG DATA", nil},
		{"cidstore,panics", "W1", "panic: the engine is broken", nil},
		{"hangs", "W1", "deadline", []string{"-timeout", "100ms"}},
	} {
		t.Run(test.engines+" "+test.workloads, func(t *testing.T) {
			t.Parallel()
			args := append(test.args, "-engines", test.engines, "-workloads", test.workloads)
			code, table := bench(t, args...)
			if code != 1 {
				t.Errorf("exit code %d, want 1", code)
			}
			if !strings.Contains(table, " FAIL |") || !strings.Contains(table, test.want) {
				t.Errorf("the table shows no FAIL, or does not say %q", test.want)
			}
			if strings.Contains(table, "- FAIL: cidstore") {
				t.Error("the other engine failed too")
			}
		})
	}
}

// It is a failure if half of a batch is there after a kill, except for an engine
// that has no batches, and if a batch is there that was not begun.
func TestHalfABatch(t *testing.T) {
	for _, test := range []struct {
		name        string
		batches     bool
		from, count uint64 // pairs there beyond the acknowledged ones
		want        string
	}{
		{"nothing", true, 0, 0, ""},
		{"the whole batch in flight", true, 0, 100, ""},
		{"half of it", true, 0, 50, "50 of 100 pairs"},
		{"half of it, without batches", false, 0, 50, ""},
		{"the batch after it", false, 100, 1, "was not begun"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := &child{peer: realPeers[0]}
			c.peer.batches = test.batches
			c.task = task{Dir: t.TempDir(), N: 1000, Seed: 1, Batch: 100, Lookups: 100, Acked: 3}
			c.Measures = make(measures)
			err := c.withStore(func(e engine) error {
				var pairs []pair
				for i := range uint64(1300) {
					pairs = append(pairs, pairAt(1, i))
				}
				for i := range test.count {
					pairs = append(pairs, pairAt(1, 1300+test.from+i))
				}
				return e.insert(pairs)
			})
			if err != nil {
				t.Fatal(err)
			}
			err = c.afterKill()
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Fatalf("afterKill gives %v, want %q", err, test.want)
			}
		})
	}
}

// A phase that is cut is marked, and what was not measured is not compared.
func TestCutAtTheLimit(t *testing.T) {
	code, table := bench(t, "-engines", "cidstore", "-workloads", "W1,W3,W4", "-limit", "1ns")
	if code != 0 || !strings.Contains(table, `/s \* |`) || !strings.Contains(table, "stopped after 1ns") {
		t.Fatalf("exit code %d, want 0, and figures marked as cut", code)
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{
		{"-n", "9999"}, {"-n", "x"}, {"-engines", "leveldb"}, {"-engines", ","}, {"-workloads", "W8"}, {"-runs", "0"},
		{"-mk", "0"}, {"-lookups", "0"}, {"-phase", "0s"}, {"-limit", "-1s"}, {"-timeout", "0s"}, {"more"}, {"-none"},
	} {
		if code, _ := bench(t, args...); code != 2 {
			t.Errorf("%q: exit code %d, want 2", args, code)
		}
	}
	if code, _ := bench(t, "-help"); code != 0 {
		t.Errorf("-help: exit code %d, want 0", code)
	}
	if code, _ := bench(t, "-dir", "/dev/null/x"); code != 1 {
		t.Errorf("an impossible directory: exit code %d, want 1", code)
	}
}

// An interruption ends the run with an error, and leaves no files.
func TestInterruption(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var stdout, stderr strings.Builder
	if code := realMain(ctx, []string{"-dir", dir, "-engines", "cidstore"}, &stdout, &stderr); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 0 || !strings.Contains(stderr.String(), "interrupted") {
		t.Errorf("%d files are left (%v); stderr: %s", len(left), err, &stderr)
	}
}

func TestTable(t *testing.T) {
	r := &report{
		N: 1_000_000, Seed: 1, Runs: 3, Limit: time.Second,
		Engines: []version{{"cidstore", "m", "v0"}, {"a", "m/a", "v1"}, {"b", "m/b", "v2"}, {"c", "m/c", "v3"}},
	}
	add := func(engine, fault string, pairs, p50 float64, cut bool) {
		m := measures{}
		if fault == "" {
			m.put("pairs", pairs, cut)
			m.put("batch p50", p50, cut)
		}
		r.Outcomes = append(r.Outcomes, outcome{Engine: engine, Workload: "W1", Error: fault, Measures: m})
	}
	for _, x := range []float64{3, 1, 2} { // the median is 2
		add("cidstore", "", x*1e6, x*1000, false)
	}
	add("a", "", 1e6, 500, false)
	add("b", "", 500e3, 8000, true)
	add("c", "", 9e6, 1, false)
	add("c", "two\nlines", 0, 0, false)
	var out strings.Builder
	r.print(&out)
	for _, want := range []string{
		"1,000,000 pairs, seed 1, medians of 3 runs",
		"| | cidstore | a | b | c | best peer | ratio |",
		"| pairs | 2.00 M/s | 1.00 M/s | 500 k/s \\* | FAIL | a | 2.00 |",
		"| batch p50 | 2.00 µs | 500 ns | 8.00 µs \\* | FAIL | a | 0.25 |",
		"| batch p99 | – | – | – | FAIL | – | – |",
		"- a: m/a, v1",
		"- FAIL: c, W1, run 1: two",
	} {
		if !strings.Contains(out.String(), want+"\n") && !strings.Contains(out.String(), want+";") {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
	if !r.failed() || strings.Contains(out.String(), "W2") {
		t.Error("the report has not failed, or shows a workload that was not run")
	}
}

func TestMedian(t *testing.T) {
	for _, test := range []struct {
		values []float64
		want   float64
	}{{nil, 0}, {[]float64{7}, 7}, {[]float64{4, 1}, 2.5}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 3, 2, 1}, 2.5}} {
		if got := median(test.values); got != test.want {
			t.Errorf("the median of %v is %v, want %v", test.values, got, test.want)
		}
	}
}

func TestPermutation(t *testing.T) {
	for _, n := range []uint64{1, 2, 7, 1000, 4097} {
		seen := make(map[uint64]bool)
		for i := range n {
			seen[newPermutation(n, 5).at(i)] = true
		}
		if uint64(len(seen)) != n {
			t.Errorf("the permutation of %d gives %d numbers", n, len(seen))
		}
	}
}

func TestQuantiles(t *testing.T) {
	h := &histogram{}
	if h.quantile(.5) != 0 {
		t.Error("the median of nothing is not 0")
	}
	for i := range int64(100_000) {
		h.add(i + 1)
	}
	for _, q := range []float64{.001, .01, .5, .99, .999, 1} {
		if got := h.quantile(q) / (q * 100_000); got < .992 || got > 1.008 {
			t.Errorf("quantile %v is %v, want %v", q, h.quantile(q), q*100_000)
		}
	}
	h.add(1 << 60) // beyond the last bucket
	if h.max != 1<<60 || h.quantile(1) < 1<<41 {
		t.Errorf("the longest is %d, in a bucket that ends at %v, want 2^60", h.max, h.quantile(1))
	}
}
