//go:build unix

package cidstore_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cidstore/cidstore"
)

// TestBig is scripts/big: the life of a large store, with the time that each part
// takes. A process fills it and is killed by SIGKILL when nearly all pairs are in and
// its log is full; then the store is opened, filled up, checked, read, backed up and
// closed. What is wrong fails; nothing fails because it is slow.
const (
	bigVariable       = "CIDSTORE_BIG"           // number of pairs
	bigThreshold      = "CIDSTORE_BIG_THRESHOLD" // Options.SplitThreshold; its default if it is not set
	bigChildVariable  = "CIDSTORE_BIG_WRITER"    // path of the store, in the process that is killed
	bigBatch          = 1000
	bigReady          = "killed at any moment from now on"
	bigLookups        = 1_000_000
	bigCheckedBatches = 100 // before the kill, of which each pair is looked up
)

func bigPairs(t *testing.T) uint64 {
	t.Helper()
	text := os.Getenv(bigVariable)
	if text == "" {
		t.Skip("takes minutes: scripts/big runs it")
	}
	n := mustGet(strconv.ParseFloat(text, 64))(t)
	if n < 200*bigBatch {
		t.Fatalf("%s is %s, want %d or more", bigVariable, text, 200*bigBatch)
	}
	return uint64(n) / bigBatch * bigBatch
}

func bigOptions(t *testing.T) *cidstore.Options {
	t.Helper()
	o := &cidstore.Options{}
	if text := os.Getenv(bigThreshold); text != "" {
		o.SplitThreshold = mustGet(strconv.Atoi(text))(t)
	}
	return o
}

// bigLine prints one figure.
func bigLine(what, format string, args ...any) {
	fmt.Printf("  %-42s %s\n", what, fmt.Sprintf(format, args...))
}

// TestBigWriter is the process that TestBig kills. It says so when that may be, and
// counts in a file the batches that were acknowledged.
func TestBigWriter(t *testing.T) {
	path := os.Getenv(bigChildVariable)
	if path == "" {
		t.Skip("a part of TestBig")
	}
	n := bigPairs(t)
	acked := mustGet(openCounter(path))(t)
	s := open(t, path, bigOptions(t))
	most, said, largest := uint64(0), false, uint64(0)
	var b cidstore.Batch
	for i := uint64(0); ; {
		for range bigBatch {
			b.Insert(benchKey(i), benchValue(i))
			i++
		}
		must(t, s.Apply(&b))
		b.Reset()
		must(t, acked.set(i/bigBatch))
		if i%(16*bigBatch) != 0 || said {
			continue
		}
		m := s.Metrics()
		largest = max(largest, m.FileBytes)
		if i < n/2 { // the log grows with the data: only later ones count
			continue
		}
		// Another lap that fills the log like the fullest before it. If none does, the
		// last batches will do.
		if i > n-n/10 && m.PendingOperations*20 > most*19 || i >= n-4*bigBatch {
			said = true
			fmt.Printf("%s: %d operations are in the log alone, %d at most before; log of %d MiB, file of %d MiB at most\n",
				bigReady, m.PendingOperations, most, m.WALBytes>>20, largest>>20)
		}
		most = max(most, m.PendingOperations)
	}
}

func TestBig(t *testing.T) {
	n := bigPairs(t)
	path := filepath.Join(benchDir(t), "big.h5")
	fmt.Printf("%d pairs, one value a key, in durable batches of %d:\n", n, bigBatch)
	loaded := bigKilled(t, path, n)

	start := time.Now()
	s := open(t, path, bigOptions(t))
	r := s.Recovery()
	bigLine("opened after the kill", "%.3f s, %d operations from the log", time.Since(start).Seconds(), r.OperationsReplayed)
	next := bigAfterKill(t, s, loaded)

	start = time.Now()
	peak := peakMemory()
	load(t, s, next, max(n, next), 1)
	n = max(n, next)
	bigLine("filled up", "%d pairs in %.1f s", n-next, time.Since(start).Seconds())
	bigWhole(t, s, n)
	bigLookup(t, s, "looked up, of those there", benchKey, n, 1)
	bigLookup(t, s, "looked up, of those absent", benchMiss, n, 0)
	bigBackup(t, s, path)
	start = time.Now()
	must(t, s.Close())
	info := mustGet(os.Stat(path))(t)
	bigLine("closed", "%.1f s; file %d MiB, %.1f B a pair", time.Since(start).Seconds(), info.Size()>>20, float64(info.Size())/float64(n))
	bigLine("own memory from the kill on, at most", "%d MiB", peak()>>20)

	start = time.Now()
	s = open(t, path, &cidstore.Options{ReadOnly: true})
	bigLine("opened after Close", "%.3f s", time.Since(start).Seconds())
	keys, values, err := s.Len(t.Context())
	must(t, err)
	if keys != n || values != n {
		t.Errorf("%d keys and %d values, want %d", keys, values, n)
	}
	must(t, s.Close())
}

// bigKilled makes the store in a process that it kills, and returns the number of
// pairs that were acknowledged.
func bigKilled(t *testing.T, path string, n uint64) (loaded uint64) {
	t.Helper()
	cmd := exec.Command(mustGet(os.Executable())(t), "-test.run=^TestBigWriter$", "-test.count=1", "-test.timeout=0")
	cmd.Env = append(os.Environ(), bigChildVariable+"="+path)
	out := mustGet(cmd.StdoutPipe())(t)
	cmd.Stderr = cmd.Stdout
	start := time.Now()
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	said := ""
	for lines := bufio.NewScanner(out); !strings.HasPrefix(said, bigReady) && lines.Scan(); {
		said = lines.Text()
	}
	time.Sleep(time.Duration(rand.Int64N(int64(5 * time.Millisecond)))) // into the next batches
	must(t, cmd.Process.Kill())
	took := time.Since(start)
	if err := cmd.Wait(); err == nil || !strings.HasPrefix(said, bigReady) {
		t.Fatalf("the writer was not killed as it should be (%v): %s", err, said)
	}
	batches := mustGet(mustGet(openCounter(path))(t).get())(t)
	loaded = batches * bigBatch
	bigLine("loaded until the kill", "%d pairs in %.1f s, %.0f pairs/s", loaded, took.Seconds(), float64(loaded)/took.Seconds())
	bigLine("killed", "%s", strings.TrimPrefix(said, bigReady+": "))
	return loaded
}

// bigAfterKill looks for each pair of the last acknowledged batches, and for those of
// the batch under way, which must be there wholly or not at all. It returns the number
// of the first pair that is not there.
func bigAfterKill(t *testing.T, s *cidstore.Store, loaded uint64) (next uint64) {
	t.Helper()
	count := func(from, to uint64) (found uint64) {
		for i := from; i < to; i++ {
			has := mustGet(s.Has(benchKey(i), benchValue(i)))(t)
			if has {
				found++
			}
		}
		return found
	}
	const near = bigCheckedBatches * bigBatch
	if found := count(loaded-near, loaded); found != near {
		t.Errorf("LOST: %d of the last %d acknowledged pairs are there", found, near)
	}
	switch found := count(loaded, loaded+bigBatch); found {
	case 0:
	case bigBatch:
		loaded += bigBatch
	default:
		t.Errorf("%d pairs of the batch under way are there, want all or none", found)
	}
	if found := count(loaded, loaded+3*bigBatch); found != 0 {
		t.Errorf("%d pairs are there of batches that were not begun", found)
	}
	return loaded
}

func bigWhole(t *testing.T, s *cidstore.Store, n uint64) {
	t.Helper()
	start := time.Now()
	must(t, s.Checkpoint(context.Background()))
	m := s.Metrics()
	bigLine("checkpoint", "%.1f s; directory: %s of %d pointers, %d buckets, %d runs", time.Since(start).Seconds(), s.DirectoryMode(), m.DirectorySize, m.BucketCount, m.Runs)
	start = time.Now()
	report := mustGet(s.Check(context.Background()))(t)
	took := time.Since(start).Seconds()
	bigLine("checked", "%.1f s, %.2f GB/s; %d MiB in use, %d MiB free, %d chunks", took, float64(report.UsedBytes)/took/1e9,
		report.UsedBytes>>20, report.FreeBytes>>20, report.Chunks)
	if report.Keys != n || report.Values != n {
		t.Errorf("Check counts %d keys and %d values, want %d", report.Keys, report.Values, n)
	}
}

// bigLookup looks up a sample of the keys, each with a clock of its own.
func bigLookup(t *testing.T, s *cidstore.Store, what string, key func(uint64) cidstore.E, n uint64, want int) {
	t.Helper()
	r := rand.New(rand.NewPCG(n, uint64(want)))
	ds := make([]time.Duration, bigLookups)
	var buf []cidstore.E
	var err error
	start := time.Now()
	for i := range ds {
		k := r.Uint64N(n)
		before := time.Now()
		buf, err = s.AppendLookup(buf[:0], key(k))
		ds[i] = time.Since(before)
		if err != nil || len(buf) != want || want == 1 && buf[0] != benchValue(k) {
			t.Fatalf("%s: pair %d: %d values, %v", what, k, len(buf), err)
		}
	}
	took := time.Since(start)
	slices.Sort(ds)
	bigLine(what, "%d keys, %.2f µs each, p50 %v, p99 %v", len(ds), took.Seconds()*1e6/float64(len(ds)), ds[len(ds)/2], ds[len(ds)*99/100])
}

// bigBackup makes a backup, which is verified on the way, unless the disk has no room.
func bigBackup(t *testing.T, s *cidstore.Store, path string) {
	t.Helper()
	copied := path + ".backup"
	start := time.Now()
	err := s.Backup(context.Background(), copied)
	if errors.Is(err, cidstore.ErrNoSpace) {
		bigLine("backup", "left out: %v", err)
		return
	}
	must(t, err)
	took := time.Since(start).Seconds()
	info := mustGet(os.Stat(copied))(t)
	bigLine("backup, verified", "%.1f s, %.2f GB/s, %d MiB", took, float64(info.Size())/took/1e9, info.Size()>>20)
	must(t, os.Remove(copied))
}
