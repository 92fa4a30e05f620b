package interop

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/cidstore/cidstore"
	"github.com/cidstore/cidstore/internal/oracle"
)

// figures measures what cidstore.py does, in CPU time; the file is in the page
// cache. It looks up keys that are spread over the file, each for the first time.
const figures = `
import sys, time
sys.path.insert(0, sys.argv[1])
import cidstore, pandas
now = time.process_time

def times(calls):
    spent = []
    for call in calls:
        start = now()
        call()
        spent.append(now() - start)
    return sorted(spent)

opened = times([lambda: cidstore.open(sys.argv[2]).close()] * 9)[4]
with cidstore.open(sys.argv[2]) as store:
    start = now()
    frame = store.to_dataframe()
    rate = len(frame) / (now() - start)
    start = now()
    each = sum(1 for _ in store.pairs()) / (now() - start)
with cidstore.open(sys.argv[2]) as store:
    store.get(0)
    keys = [int(a) << 64 | int(b) for a, b in frame[["key_high", "key_low"]].to_numpy()[::max(len(frame) // 2000, 1)].tolist()]
    hits = times([lambda key=key: store.get(key) for key in dict.fromkeys(keys)])
    misses = times([lambda key=key: store.get(key) for key in range(1 << 100, (1 << 100) + 2000)])
print(rate, each, opened * 1e3, *(spent[int(len(spent) * part)] * 1e3 for spent in (hits, misses) for part in (0.5, 0.99)))
`

// BenchmarkPython measures python/cidstore.py. CIDSTORE_BENCH_PAIRS is the number
// of pairs of a store, 10^6 by default. Run it with -benchtime 1x, because each run
// measures many calls.
func BenchmarkPython(b *testing.B) {
	pairs := 1_000_000.0
	if text := os.Getenv("CIDSTORE_BENCH_PAIRS"); text != "" {
		var err error
		pairs, err = strconv.ParseFloat(text, 64)
		must(b, err)
	}
	for _, values := range []int{1, 4, 64, 100_000} {
		for _, pending := range []int{0, 100_000} {
			b.Run(fmt.Sprintf("values=%d/pending=%d/%.0e", values, pending, pairs), func(b *testing.B) {
				benchmarkPython(b, int(pairs), values, pending)
			})
		}
	}
}

// benchmarkPython makes a store of pairs pairs, pending of which are only in the log. Each
// key has that many values.
func benchmarkPython(b *testing.B, pairs, values, pending int) {
	python := oracle.Python(b, "h5py", "numpy", "pandas")
	path := filepath.Join(b.TempDir(), "store.h5")
	s, err := cidstore.Open(path, nil)
	must(b, err)
	random := rand.New(rand.NewPCG(1, 2))
	keys := make([]cidstore.E, max(pairs/values, 1))
	for i := range keys {
		keys[i] = cidstore.E{High: random.Uint64(), Low: random.Uint64()}
	}
	put(b, s, each(uint64(len(keys)*values), func(i uint64) pair {
		return pair{keys[int(i)/values], {High: random.Uint64(), Low: random.Uint64()}}
	}))
	if pending == 0 {
		err = s.Close()
	} else {
		err = s.Checkpoint(b.Context())
	}
	must(b, err)
	if pending > 0 {
		defer s.Close()
		put(b, s, each(uint64(pending), func(i uint64) pair { return pair{keys[int(i)*7%len(keys)], {High: i, Low: 1}} }))
	}
	var rate, each, opened, hit, hit99, miss, miss99 float64
	for b.Loop() {
		out := run(b, python, "-c", figures, filepath.Dir(reader(b)), path)
		if _, err := fmt.Sscan(out, &rate, &each, &opened, &hit, &hit99, &miss, &miss99); err != nil {
			b.Fatalf("%v: %s", err, out)
		}
	}
	b.ReportMetric(0, "ns/op") // the time includes the start of the program, and means nothing
	b.ReportMetric(rate, "frame-pairs/s")
	b.ReportMetric(each, "iterated-pairs/s")
	b.ReportMetric(opened, "open-ms")
	b.ReportMetric(hit, "get-p50-ms")
	b.ReportMetric(hit99, "get-p99-ms")
	b.ReportMetric(miss, "absent-p50-ms")
	b.ReportMetric(miss99, "absent-p99-ms")
}
