package cidstore_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cidstore/cidstore"
)

// Benchmarks of the figures in docs/PERFORMANCE.md. CIDSTORE_BENCH_PAIRS is the
// size of the store, a million by default; CIDSTORE_BENCH_DIR the disk.

// benchKey is key number i: uniformly random, the same in each run.
func benchKey(i uint64) cidstore.E   { return mixed(i, 0x1000000000000001) }
func benchMiss(i uint64) cidstore.E  { return mixed(i, 0x2000000000000001) }
func benchValue(i uint64) cidstore.E { return mixed(i, 0x3000000000000001) }

func mixed(i, stream uint64) cidstore.E {
	return cidstore.E{High: finalise(stream + i*0x9e3779b97f4a7c15), Low: finalise(^stream + i*0xd1342543de82ef95)}
}

func finalise(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func benchSize(b testing.TB) uint64 {
	b.Helper()
	text := os.Getenv("CIDSTORE_BENCH_PAIRS")
	if text == "" {
		return 1_000_000
	}
	return uint64(mustGet(strconv.ParseFloat(text, 64))(b))
}

// benchDir is a new folder, on the disk that CIDSTORE_BENCH_DIR names, if it does.
func benchDir(b testing.TB) string {
	b.Helper()
	base := os.Getenv("CIDSTORE_BENCH_DIR")
	if base == "" {
		return b.TempDir()
	}
	dir := mustGet(os.MkdirTemp(base, "cidstore-bench"))(b)
	b.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func openBench(b testing.TB, path string, o *cidstore.Options) *cidstore.Store {
	b.Helper()
	return mustGet(cidstore.Open(path, o))(b)
}

// inBatches makes an operation for each of first to n-1, in durable batches of 1,000.
func inBatches(b testing.TB, s *cidstore.Store, first, n uint64, add func(batch *cidstore.Batch, i uint64)) {
	b.Helper()
	var batch cidstore.Batch
	for i := first; i < n; i++ {
		if add(&batch, i); batch.Len() == 1000 || i == n-1 {
			must(b, s.Apply(&batch))
			batch.Reset()
		}
	}
}

// load inserts pairs first to n-1, per values a key.
func load(b testing.TB, s *cidstore.Store, first, n, per uint64) {
	b.Helper()
	inBatches(b, s, first, n, func(batch *cidstore.Batch, i uint64) { batch.Insert(benchKey(i/per), benchValue(i)) })
}

// BenchmarkStore measures one store of CIDSTORE_BENCH_PAIRS pairs, one value a
// key, through its life: loaded, opened, looked up, read as a whole, written singly.
func BenchmarkStore(b *testing.B) {
	n := benchSize(b)
	path := filepath.Join(benchDir(b), "s.h5")
	b.Run("batches-of-1000", func(b *testing.B) { benchLoad(b, path, n) })
	b.Run("open-after-close", func(b *testing.B) { benchOpen(b, path) })
	s := openBench(b, path, nil)
	b.Run("lookup-present", func(b *testing.B) { benchLookup(b, s, benchKey, n, 1) })
	b.Run("lookup-absent", func(b *testing.B) { benchLookup(b, s, benchMiss, n, 0) })
	b.Run("lookup-2-goroutines", func(b *testing.B) { benchTwo(b, s, n) })
	b.Run("all", func(b *testing.B) { benchAll(b, s, n) })
	b.Run("check", func(b *testing.B) { benchCheck(b, s) })
	b.Run("backup", func(b *testing.B) { benchBackup(b, s, path) })
	b.Run("single-inserts-1-writer", func(b *testing.B) { benchSingles(b, s, 1) })
	b.Run("single-inserts-16-writers", func(b *testing.B) { benchSingles(b, s, 16) })
	b.Run("lookup-during-checkpoints", func(b *testing.B) { benchBusyLookup(b, s, n) })
	must(b, s.Close())
	b.Run("open-after-kill", func(b *testing.B) { benchKilled(b, path, n) })
}

func benchLoad(b *testing.B, path string, n uint64) {
	for b.Loop() {
		os.Remove(path)
		peak := peakMemory()
		s := openBench(b, path, nil)
		start := time.Now()
		load(b, s, 0, n-n/10, 1)
		tenth := time.Now()
		load(b, s, n-n/10, n, 1)
		end := time.Now()
		b.ReportMetric(float64(n)/end.Sub(start).Seconds(), "pairs/s")
		b.ReportMetric(float64(n/10)/end.Sub(tenth).Seconds(), "pairs/s-last-tenth")
		m := s.Metrics()
		b.ReportMetric(float64(m.PlacedBytes+m.WAL.Bytes)/float64(n), "written-B/pair")
		b.ReportMetric(float64(m.FileBytes)/float64(n), "file-B/pair-loading")
		must(b, s.Close())
		b.ReportMetric(float64(n)/time.Since(start).Seconds(), "pairs/s-to-closed")
		b.ReportMetric(float64(peak())/(1<<20), "peak-anon-MiB")
		used := live(b, path, n)
		b.ReportMetric(used, "live-B/pair")
		b.ReportMetric(float64(m.FileBytes-m.WALBytes)/float64(n)/used, "loading-less-log/live")
		b.ReportMetric(float64(fileSize(b, path))/float64(n)/used, "closed/live")
	}
}

// live is the bytes in use a pair at rest, without the log.
func live(b testing.TB, path string, n uint64) float64 {
	b.Helper()
	s := openBench(b, path, &cidstore.Options{ReadOnly: true})
	defer func() { must(b, s.Close()) }()
	return float64(uint64(mustGet(s.Check(context.Background()))(b).UsedBytes)-s.Metrics().WALBytes) / float64(n)
}

// peakMemory watches the memory that the process has of its own, pages of files
// left out, until the function that it returns is called: that gives the most.
func peakMemory() func() int64 {
	stop, peak := make(chan struct{}), make(chan int64)
	go func() {
		most := int64(0)
		for {
			most = max(most, memory("RssAnon"))
			select {
			case <-stop:
				peak <- most
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	return func() int64 { close(stop); return <-peak }
}

// memory is a figure of /proc/self/status in bytes; 0 where there is none.
func memory(name string) int64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			kib, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kib << 10
		}
	}
	return 0
}

func benchOpen(b *testing.B, path string) {
	for b.Loop() {
		s := openBench(b, path, &cidstore.Options{ReadOnly: true})
		if _, err := s.Lookup(benchKey(1)); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		must(b, s.Close())
		b.StartTimer()
	}
}

// times reports the percentiles of ds, less what a clock costs.
func times(b *testing.B, ds []time.Duration) {
	b.Helper()
	clock := make([]time.Duration, 10_000)
	for i := range clock {
		start := time.Now()
		clock[i] = time.Since(start)
	}
	slices.Sort(clock)
	own := clock[len(clock)/2]
	slices.Sort(ds)
	sum := time.Duration(0)
	for _, d := range ds {
		sum += d - own
	}
	b.ReportMetric(float64(sum)/float64(len(ds)), "mean-ns")
	b.ReportMetric(float64(ds[len(ds)/2]-own), "p50-ns")
	b.ReportMetric(float64(ds[len(ds)*99/100]-own), "p99-ns")
	b.ReportMetric(float64(own), "clock-ns")
}

func benchLookup(b *testing.B, s *cidstore.Store, key func(uint64) cidstore.E, n uint64, want int) {
	r := rand.New(rand.NewPCG(1, 2))
	buf := make([]cidstore.E, 0, 16)
	var err error
	for i := range n { // everything in the page cache, mapped, and verified
		if buf, err = s.AppendLookup(buf[:0], key(i)); err != nil {
			b.Fatal(err)
		}
	}
	ds := make([]time.Duration, 0, 1<<20)
	b.ReportAllocs()
	for b.Loop() {
		k := key(r.Uint64N(n))
		start := time.Now()
		buf, err = s.AppendLookup(buf[:0], k)
		d := time.Since(start)
		if err != nil || len(buf) != want {
			b.Fatalf("%d values, %v", len(buf), err)
		}
		if len(ds) < cap(ds) {
			ds = append(ds, d)
		}
	}
	times(b, ds)
}

// benchTwo looks up keys with one goroutine, and then as many with each of two.
func benchTwo(b *testing.B, s *cidstore.Store, n uint64) {
	const looks = 500_000
	rate := func(goroutines uint64) float64 {
		var wg sync.WaitGroup
		start := time.Now()
		for g := range goroutines {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(5, g))
				buf := make([]cidstore.E, 0, 16)
				var err error
				for range looks {
					if buf, err = s.AppendLookup(buf[:0], benchKey(r.Uint64N(n))); err != nil || len(buf) == 0 {
						b.Errorf("%d values, %v", len(buf), err)
						return
					}
				}
			})
		}
		wg.Wait()
		return float64(goroutines*looks) / time.Since(start).Seconds()
	}
	var one, two []float64
	for b.Loop() {
		one, two = append(one, rate(1)), append(two, rate(2))
	}
	slices.Sort(one)
	slices.Sort(two)
	b.ReportMetric(one[len(one)/2], "lookups/s-1")
	b.ReportMetric(two[len(two)/2], "lookups/s-2")
	b.ReportMetric(two[len(two)/2]/one[len(one)/2], "two/one")
}

// benchAll reads all pairs of a snapshot.
func benchAll(b *testing.B, s *cidstore.Store, n uint64) {
	pairs := uint64(0)
	for b.Loop() {
		view := mustGet(s.Snapshot())(b)
		pairs = 0
		for range view.All() {
			pairs++
		}
		if err := errors.Join(view.Err(), view.Close()); err != nil || pairs < n {
			b.Fatal(pairs, err)
		}
	}
	b.ReportMetric(float64(pairs)*float64(b.N)/b.Elapsed().Seconds(), "pairs/s")
}

// benchCheck checks the store; MB/s are of the bytes in use.
func benchCheck(b *testing.B, s *cidstore.Store) {
	for b.Loop() {
		b.SetBytes(mustGet(s.Check(context.Background()))(b).UsedBytes)
	}
}

// benchBackup makes a backup, which it verifies on the way; MB/s are of its size.
func benchBackup(b *testing.B, s *cidstore.Store, path string) {
	copied := path + ".backup"
	for b.Loop() {
		must(b, s.Backup(context.Background(), copied))
		b.StopTimer()
		b.SetBytes(fileSize(b, copied))
		os.Remove(copied)
		b.StartTimer()
	}
}

// benchBusyLookup looks up while batches are written and checkpoints run.
func benchBusyLookup(b *testing.B, s *cidstore.Store, n uint64) {
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		var batch cidstore.Batch
		for i := uint64(0); ; i++ {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			batch.Insert(benchKey(i%n), benchValue(i+n))
			if batch.Len() == 1000 {
				if err := s.Apply(&batch); err != nil {
					done <- err
					return
				}
				batch.Reset()
			}
		}
	}()
	benchBusy(b, s, n)
	close(stop)
	must(b, <-done)
}

func benchBusy(b *testing.B, s *cidstore.Store, n uint64) {
	r := rand.New(rand.NewPCG(3, 4))
	buf := make([]cidstore.E, 0, 16)
	var err error
	ds := make([]time.Duration, 0, 1<<20)
	for b.Loop() {
		k := benchKey(r.Uint64N(n))
		start := time.Now()
		buf, err = s.AppendLookup(buf[:0], k)
		ds = append(ds, time.Since(start))
		if err != nil || len(buf) == 0 {
			b.Fatalf("%d values, %v", len(buf), err)
		}
	}
	times(b, ds)
}

// BenchmarkUpkeep compares lookups and single durable inserts of a store of sets of 16
// values with the same beside upkeep: batches of deletions in those sets, a collection
// after each, and Maintain after every tenth. A collection holds a writer for no longer
// than the insert beside it takes.
func BenchmarkUpkeep(b *testing.B) {
	const per = 16
	n := benchSize(b)
	s := openBench(b, filepath.Join(benchDir(b), "s.h5"), &cidstore.Options{GCInterval: -1})
	load(b, s, 0, n, per)
	must(b, s.Checkpoint(context.Background()))
	deleted := uint64(0)
	for _, upkeep := range []bool{false, true} {
		beside := map[bool]string{false: "alone", true: "beside-upkeep"}[upkeep]
		run := func(name string, measure func(*testing.B)) {
			b.Run(name+"/"+beside, func(b *testing.B) {
				ctx, cancel := context.WithCancel(context.Background())
				var wg sync.WaitGroup
				if upkeep {
					wg.Go(func() { keepUp(ctx, b, s, n, per, &deleted) })
				}
				measure(b)
				cancel()
				wg.Wait()
			})
		}
		run("lookup", func(b *testing.B) { benchBusy(b, s, n/per) })
		run("single-inserts", func(b *testing.B) {
			var ds []time.Duration
			for b.Loop() {
				singles++
				start := time.Now()
				if err := s.Insert(benchKey(singles), benchValue(singles)); err != nil {
					b.Fatal(err)
				}
				ds = append(ds, time.Since(start))
			}
			times(b, ds)
		})
	}
	must(b, s.Close())
}

// keepUp makes garbage and collects it until ctx is done. Value number 0 of each set stays.
func keepUp(ctx context.Context, b *testing.B, s *cidstore.Store, n, per uint64, deleted *uint64) {
	for round := 1; ctx.Err() == nil; round++ {
		var batch cidstore.Batch
		for batch.Len() < 1000 && *deleted < n {
			if i := *deleted; i%per != 0 {
				batch.DeleteValue(benchKey(i/per), benchValue(i))
			}
			*deleted++
		}
		err := s.Apply(&batch)
		if err == nil {
			_, err = s.RunGCOnce(ctx)
		}
		if err == nil && round%10 == 0 {
			err = s.Maintain(ctx)
		}
		if err != nil && ctx.Err() == nil {
			b.Error(err)
			return
		}
	}
}

// singles counts the pairs written singly, so that each benchmark writes new ones.
var singles uint64 = 1 << 40

func benchSingles(b *testing.B, s *cidstore.Store, writers int) {
	next := make(chan uint64, 64)
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for i := range next {
				if err := s.Insert(benchKey(i), benchValue(i)); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for b.Loop() {
		singles++
		next <- singles
	}
	close(next)
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "inserts/s")
}

// benchKilled opens what a kill leaves: a copy of the file taken while it is open
// with as much in its log as there ever is.
func benchKilled(b *testing.B, path string, n uint64) {
	s := openBench(b, path, &cidstore.Options{GCInterval: -1})
	killed := path + ".killed"
	defer os.Remove(killed)
	fillLog(b, s, n)
	copyFile(b, path, killed)
	must(b, s.Close())
	for b.Loop() {
		b.StopTimer()
		once := killed + ".once"
		copyFile(b, killed, once)
		b.StartTimer()
		s := openBench(b, once, nil)
		b.ReportMetric(float64(s.Recovery().OperationsReplayed), "operations")
		b.StopTimer()
		must(b, s.Close())
		os.Remove(once)
		b.StartTimer()
	}
}

// fillLog inserts pairs until as many operations are in the log alone as there ever
// are: it sees two checkpoints begin, and stops before the third.
func fillLog(b testing.TB, s *cidstore.Store, first uint64) {
	b.Helper()
	checkpoints, most := 0, uint64(0)
	for i, before := first, uint64(0); ; i += 1000 {
		load(b, s, i, i+1000, 1)
		pending := s.Metrics().PendingOperations
		if pending < before {
			checkpoints, most = checkpoints+1, max(most, before)
		}
		if before = pending; checkpoints >= 2 && pending*20 > most*19 {
			return
		}
	}
}

func copyFile(b testing.TB, from, to string) {
	b.Helper()
	in := mustGet(os.Open(from))(b)
	defer in.Close()
	out := mustGet(os.Create(to))(b)
	if _, err := io.Copy(out, in); err != nil {
		b.Fatal(err)
	}
	must(b, out.Close())
}

// BenchmarkValuesPerKey measures the bytes a pair at rest.
func BenchmarkValuesPerKey(b *testing.B) {
	n := benchSize(b)
	for _, per := range []uint64{1, 4, 64} {
		b.Run(fmt.Sprint(per), func(b *testing.B) {
			for b.Loop() {
				path := filepath.Join(benchDir(b), "s.h5")
				s := openBench(b, path, nil)
				start := time.Now()
				load(b, s, 0, n, per)
				b.ReportMetric(float64(n)/time.Since(start).Seconds(), "pairs/s")
				must(b, s.Close())
				b.ReportMetric(live(b, path, n), "live-B/pair")
			}
		})
	}
}

// BenchmarkOneKey puts all pairs into one set.
func BenchmarkOneKey(b *testing.B) {
	n := benchSize(b)
	path := filepath.Join(benchDir(b), "s.h5")
	key := cidstore.FromString("one key")
	for b.Loop() {
		os.Remove(path)
		s := openBench(b, path, nil)
		start := time.Now()
		oneKey(b, s, key, 0, n/10)
		first := time.Since(start)
		oneKey(b, s, key, n/10, n-n/10)
		tenth := time.Now()
		oneKey(b, s, key, n-n/10, n)
		b.ReportMetric(float64(n)/time.Since(start).Seconds(), "pairs/s")
		b.ReportMetric(first.Seconds()/time.Since(tenth).Seconds(), "last-tenth/first")
		m := s.Metrics()
		b.ReportMetric(float64(m.PlacedBytes+m.WAL.Bytes)/float64(n), "written-B/pair")
		b.ReportMetric(float64(m.FileBytes)/float64(n), "file-B/pair-loading")
		must(b, s.Close())
		b.ReportMetric(live(b, path, n), "live-B/pair")
		b.ReportMetric(float64(fileSize(b, path))/float64(n), "closed-B/pair")
		s = openBench(b, path, nil)
		b.ReportMetric(hasEach(b, s, key, n, 10_000), "ns/first-has") // they map the pages of the file, too
		b.ReportMetric(hasEach(b, s, key, n, 200_000), "ns/has")
		if count, err := s.Count(key); err != nil || uint64(count) != n {
			b.Fatal(count, err)
		}
		must(b, s.Close())
	}
}

// hasEach looks some of the n values of a key up, evenly spread, and returns the mean time of one.
func hasEach(b *testing.B, s *cidstore.Store, key cidstore.E, n, looks uint64) float64 {
	start := time.Now()
	for i := range looks {
		if ok, err := s.Has(key, benchValue(i*(n/looks))); err != nil || !ok {
			b.Fatal(ok, err)
		}
	}
	return float64(time.Since(start)) / float64(looks)
}

// oneKey inserts values first to n-1 of a key.
func oneKey(b testing.TB, s *cidstore.Store, key cidstore.E, first, n uint64) {
	b.Helper()
	inBatches(b, s, first, n, func(batch *cidstore.Batch, i uint64) { batch.Insert(key, benchValue(i)) })
}

// BenchmarkHotKey writes 20,000 values of one key, none of which a checkpoint
// takes, and asks for all there is to ask after each.
func BenchmarkHotKey(b *testing.B) {
	const values = 20_000
	key := cidstore.FromString("hot key")
	for b.Loop() {
		s := openBench(b, filepath.Join(benchDir(b), "s.h5"), &cidstore.Options{Durability: cidstore.Async, WALBytes: 64 << 20})
		start := time.Now()
		for i := range uint64(values) {
			if err := s.Insert(key, benchValue(i)); err != nil {
				b.Fatal(err)
			}
			n, err := s.Count(key)
			if err != nil || uint64(n) != i+1 {
				b.Fatal(n, err)
			}
			if ok, err := s.Has(key, benchMiss(i)); err != nil || ok {
				b.Fatal(ok, err)
			}
			if ok, err := s.HasKey(key); err != nil || !ok {
				b.Fatal(ok, err)
			}
		}
		b.ReportMetric(float64(time.Since(start))/values, "ns/round")
		must(b, s.Close())
	}
}
