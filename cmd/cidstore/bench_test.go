package main

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cidstore/cidstore"
)

// BenchmarkProgram measures the program as a process: export of a store of
// CIDSTORE_BENCH_PAIRS pairs, a million by default, one value a key; and the sizes of
// the files that import makes of WordNet's words, and put of one pair.
func BenchmarkProgram(b *testing.B) {
	b.Run("export", benchExport)
	b.Run("import-words", func(b *testing.B) {
		for b.Loop() {
			store := filepath.Join(b.TempDir(), "words.h5")
			took, _ := runTimed(b, "import", "--quiet", store, "../../examples/wordnet/wordnet-words.tsv.gz")
			b.ReportMetric(206_978/took.Seconds(), "pairs/s")
			b.ReportMetric(sizeOf(b, store), "file-B")
		}
	})
	b.Run("put-one-pair", func(b *testing.B) {
		for b.Loop() {
			store := filepath.Join(b.TempDir(), "one.h5")
			runTimed(b, "put", store, "dog", "dog.n.02084071")
			b.ReportMetric(sizeOf(b, store), "file-B")
		}
	})
}

func benchExport(b *testing.B) {
	pairs := 1_000_000.0
	if text := os.Getenv("CIDSTORE_BENCH_PAIRS"); text != "" {
		var err error
		pairs, err = strconv.ParseFloat(text, 64)
		must(b, err)
	}
	store := filepath.Join(b.TempDir(), "s.h5")
	s, err := cidstore.Open(store, nil)
	must(b, err)
	random := rand.New(rand.NewPCG(1, 2))
	var batch cidstore.Batch
	for i := 1; i <= int(pairs); i++ {
		batch.Insert(cidstore.E{High: random.Uint64(), Low: random.Uint64()}, cidstore.E{High: random.Uint64(), Low: random.Uint64()})
		if batch.Len() == 10_000 || i == int(pairs) {
			must(b, s.Apply(&batch))
			batch.Reset()
		}
	}
	must(b, s.Close())
	for b.Loop() {
		took, cpu := runTimed(b, "export", store)
		b.ReportMetric(pairs/took.Seconds(), "pairs/s")
		b.ReportMetric(pairs/cpu.Seconds(), "pairs/CPU-s")
	}
}

// runTimed runs the program, whose output goes nowhere, and returns its time and its
// CPU time.
func runTimed(b *testing.B, args ...string) (took, cpu time.Duration) {
	b.Helper()
	var messages strings.Builder
	cmd := exec.Command("cidstore", args...)
	cmd.Stderr = &messages
	start := time.Now()
	if err := cmd.Run(); err != nil {
		b.Fatalf("%q: %v: %s", args, err, &messages)
	}
	return time.Since(start), cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
}

func sizeOf(b *testing.B, path string) float64 {
	b.Helper()
	size, err := fileSize(path)
	must(b, err)
	return float64(size)
}
