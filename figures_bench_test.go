package cidstore_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/cidstore/cidstore"
)

// BenchmarkSteady measures what a long life leaves. A store of CIDSTORE_BENCH_PAIRS
// pairs has CIDSTORE_BENCH_CHANGES pairs deleted and inserted, ten for each pair of it
// by default, so that as many stay; it deletes the oldest. Before that, after that,
// and then beside a snapshot, commits of one operation are timed.
func BenchmarkSteady(b *testing.B) {
	n := benchSize(b)
	changes := 10 * n
	if text := os.Getenv("CIDSTORE_BENCH_CHANGES"); text != "" {
		changes = uint64(mustGet(strconv.ParseFloat(text, 64))(b))
	}
	path := filepath.Join(benchDir(b), "s.h5")
	s := openBench(b, path, nil)
	load(b, s, 0, n, 1)
	b.Run("commit-of-one/fresh", func(b *testing.B) { benchCommits(b, s) })
	b.Run("changes", func(b *testing.B) { benchChanges(b, s, n, changes) })
	b.Run("commit-of-one/after", func(b *testing.B) { benchCommits(b, s) })
	view := mustGet(s.Snapshot())(b)
	b.Run("commit-of-one/pinned", func(b *testing.B) { benchCommits(b, s) })
	must(b, view.Close())
	b.Run("close", func(b *testing.B) {
		for b.Loop() {
			must(b, s.Close())
			s = openBench(b, path, nil)
			b.ReportMetric(float64(fileSize(b, path))/(1<<20), "file-MiB")
		}
	})
	must(b, s.Close())
}

// benchCommits makes 1,000 commits of one insert each.
func benchCommits(b *testing.B, s *cidstore.Store) {
	const commits = 1000
	ctx := context.Background()
	must(b, s.Checkpoint(ctx))
	for b.Loop() {
		ds := make([]time.Duration, commits)
		before := s.Metrics()
		for i := range ds {
			singles++
			start := time.Now()
			must(b, s.Insert(benchKey(singles), benchValue(singles)), s.Checkpoint(ctx))
			ds[i] = time.Since(start)
		}
		after := s.Metrics()
		slices.Sort(ds)
		sum := time.Duration(0)
		for _, d := range ds {
			sum += d
		}
		b.ReportMetric(sum.Seconds()*1e3/commits, "mean-ms")
		b.ReportMetric(ds[commits/2].Seconds()*1e3, "p50-ms")
		b.ReportMetric(ds[commits*99/100].Seconds()*1e3, "p99-ms")
		b.ReportMetric(ds[commits-1].Seconds()*1e3, "longest-ms")
		b.ReportMetric(float64(after.PlacedBytes-before.PlacedBytes)/commits, "written-B")
		b.ReportMetric(float64(after.FileBytes-before.FileBytes)/commits, "grown-B")
	}
}

// benchChanges deletes the oldest pairs and inserts as many, in batches of 1,000, half
// of each.
func benchChanges(b *testing.B, s *cidstore.Store, n, changes uint64) {
	const half = 500
	first := uint64(0) // the oldest pair
	for b.Loop() {
		before := s.Metrics()
		start, rates := time.Now(), make([]float64, 10)
		var batch cidstore.Batch
		done := uint64(0)
		for tenth := range rates {
			began, from := time.Now(), done
			for done < changes*uint64(tenth+1)/10 {
				for range half {
					oldest := first + done/2
					batch.Delete(benchKey(oldest))
					batch.Insert(benchKey(oldest+n), benchValue(oldest+n))
					done += 2
				}
				must(b, s.Apply(&batch))
				batch.Reset()
			}
			rates[tenth] = float64(done-from) / time.Since(began).Seconds()
		}
		first += done / 2
		b.ReportMetric(float64(done)/time.Since(start).Seconds(), "changes/s")
		b.ReportMetric(rates[len(rates)-1]/rates[0], "last-tenth/first")
		after := s.Metrics()
		b.ReportMetric(float64(after.PlacedBytes+after.WAL.Bytes-before.PlacedBytes-before.WAL.Bytes)/float64(done), "written-B/change")
		b.ReportMetric(float64(after.FileBytes)/(1<<20), "file-MiB")
		b.ReportMetric(float64(after.WALBytes)/(1<<20), "log-MiB")
		must(b, s.Checkpoint(context.Background()))
		space := mustGet(s.Space())(b)
		b.ReportMetric(float64(space.Live)/(1<<20), "live-MiB")
		b.ReportMetric(float64(after.FileBytes-after.WALBytes)/float64(space.Live), "file-less-log/live")
	}
}

// BenchmarkLargeSet reads one key with CIDSTORE_BENCH_PAIRS values: all of them pending,
// in the tree, in a store that was just opened, and with a tenth of them deleted.
func BenchmarkLargeSet(b *testing.B) {
	n := benchSize(b)
	path := filepath.Join(benchDir(b), "s.h5")
	key := cidstore.FromString("one key")
	for b.Loop() {
		os.Remove(path)
		// The log of a new store has room for so many operations only if they are one batch.
		s := openBench(b, path, &cidstore.Options{WALBytes: 8 << 30, MemoryBudget: 8 << 30, GCInterval: -1})
		var batch cidstore.Batch
		for i := range n {
			batch.Insert(key, benchValue(i))
		}
		must(b, s.Apply(&batch))
		b.ReportMetric(float64(s.Metrics().PendingOperations), "pending")
		read(b, s, key, n, "pending-first")
		oneKey(b, s, key, n, n+1)
		read(b, s, key, n+1, "pending-after-one-more")
		read(b, s, key, n+1, "pending-again")
		must(b, s.Checkpoint(context.Background()))
		read(b, s, key, n+1, "tree-first")
		read(b, s, key, n+1, "tree-again")
		must(b, s.Close())
		s = openBench(b, path, nil)
		read(b, s, key, n+1, "reopened-first")
		start := time.Now()
		inBatches(b, s, 0, (n+9)/10, func(batch *cidstore.Batch, i uint64) { batch.DeleteValue(key, benchValue(10*i)) })
		left := n + 1 - (n+9)/10
		b.ReportMetric(float64(n/10)/time.Since(start).Seconds(), "deleted/s")
		read(b, s, key, left, "deleted-first")
		read(b, s, key, left, "deleted-again")
		must(b, s.Close())
	}
}

// read measures AppendLookup of a key that has n values.
func read(b *testing.B, s *cidstore.Store, key cidstore.E, n uint64, name string) {
	b.Helper()
	buf := make([]cidstore.E, 0, n)
	for i := range buf[:n] { // so that the memory is there
		buf[:n][i] = cidstore.E{High: 1}
	}
	start := time.Now()
	buf, err := s.AppendLookup(buf, key)
	if err != nil || uint64(len(buf)) != n {
		b.Fatal(len(buf), n, err)
	}
	b.ReportMetric(float64(n)/time.Since(start).Seconds()/1e6, name+"-M/s")
}
