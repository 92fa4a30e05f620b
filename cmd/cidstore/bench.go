package main

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cidstore/cidstore"
	"github.com/cidstore/cidstore/vfs"
	"github.com/spf13/cobra"
)

// Sizes of bench.
const (
	benchPairs   = 200_000
	benchWriters = 16
	benchBatch   = 1000        // pairs
	benchLookups = 100         // between two readings of the clock
	benchTime    = time.Second // for what is not done a fixed number of times
	pairBytes    = 32          // of a key and a value
	plainBlock   = 1 << 20     // bytes of a sequential write
	plainBlocks  = 128         // at most
	roomPerPair  = 100         // bytes of the file
	syncedBytes  = 4 << 10     // of a write that is synced
	singleKeys   = 1 << 40     // the first of the keys that are written one by one
	absentKeys   = 1 << 41     // the first of those that are never written
	lookupStride = 1_000_003   // a prime: lookups follow no order
)

// measured is the answer of bench.
type measured struct {
	Pairs         int     `json:"pairs"`
	DiskSyncs     float64 `json:"disk_syncs_per_second"`
	DiskBytes     float64 `json:"disk_bytes_per_second"`
	Writes1       float64 `json:"writes_1_writer_per_second"`
	Writes1Ratio  float64 `json:"writes_1_writer_per_disk_sync"`
	Writes16      float64 `json:"writes_16_writers_per_second"`
	Writes16Ratio float64 `json:"writes_16_writers_per_disk_sync"`
	Batched       float64 `json:"batched_pairs_per_second"`
	BatchedRatio  float64 `json:"batched_bytes_per_disk_byte"`
	Hits          float64 `json:"hits_per_second"`
	Misses        float64 `json:"misses_per_second"`
	OpenSeconds   float64 `json:"open_seconds"`
	FileBytes     int64   `json:"file_bytes"`
}

// bench is one run of the command.
type bench struct {
	*program
	dir   string   // of its own
	plain vfs.File // in it; its lock says that the bench is alive
	measured
}

func (p *program) benchCommand() *cobra.Command {
	b := bench{program: p}
	c := &cobra.Command{
		Use:   "bench [DIR]",
		Short: "Measure a store on the disk of a folder",
		Long: `Bench makes a store in a new folder inside DIR, or inside the current folder, measures
it for some seconds, and removes it. The folder needs up to 128 MiB, and about 100
bytes more per pair; bench does not begin if the disk has less than that. The new folder
is called cidstore-bench- and a number. If bench is killed it stays, and the next bench in
the same place removes it.

First it measures the disk itself: writes of 4 KiB to a plain file, each followed by an
fsync, and a sequential write. Then it measures the store: durable writes of single
pairs by one writer and by 16 writers at once, who share syncs; batches of 1,000 pairs;
lookups of keys that are present and of keys that are absent; and opening the store
after Close. The ratios say how many writes the store did for each sync of the disk, and
how many bytes of pairs it wrote for each byte that the disk can write. The figures mean
something only if nothing else keeps the machine busy.`,
		Args: arguments(0, 1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if b.Pairs < 1 {
				return usageError{fmt.Errorf("--pairs: %d, want 1 or more", b.Pairs)}
			}
			return b.run(append(args, ".")[0])
		},
	}
	c.Flags().IntVar(&b.Pairs, "pairs", benchPairs, "`number` of pairs that are written in batches")
	return c
}

// benchPrefix begins the name of the folder of a bench, which has these two files.
const (
	benchPrefix = "cidstore-bench-"
	benchPlain  = "plain"
	benchStore  = "store.h5"
)

func (b *bench) run(parent string) (err error) {
	if err := b.begin(parent); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	defer func() { err = errors.Join(err, b.plain.Close(), os.RemoveAll(b.dir)) }()
	if err := b.disk(); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	path := filepath.Join(b.dir, benchStore)
	if err := b.withStore(path, making, b.use); err != nil {
		return err
	}
	start := time.Now()
	err = b.withStore(path, changing, func(*cidstore.Store) error {
		b.OpenSeconds = time.Since(start).Seconds()
		b.show("open after close", b.OpenSeconds*1e3, "ms", "")
		return nil
	})
	if err != nil {
		return err
	}
	if b.FileBytes, err = fileSize(path); err != nil {
		return err
	}
	b.show("file", float64(b.FileBytes), "bytes", "after Close")
	if b.json {
		return b.result(b.measured, "")
	}
	return nil
}

// begin makes the folder, if the disk has room.
func (b *bench) begin(parent string) error {
	b.sweep(parent)
	info, err := vfs.OS().Stat(parent)
	if err != nil {
		return err
	}
	need := plainBlocks*plainBlock + float64(b.Pairs)*roomPerPair
	if free := float64(info.Free); free > 0 && free < need {
		return fmt.Errorf("%s pairs need about %.1f GB, and %s has %.1f GB free; choose fewer with --pairs",
			grouped(uint64(b.Pairs)), need/1e9, parent, free/1e9)
	}
	if b.dir, err = os.MkdirTemp(parent, benchPrefix); err != nil {
		return err
	}
	if b.plain, err = newUnfinished(filepath.Join(b.dir, benchPlain)); err != nil {
		return errors.Join(err, os.Remove(b.dir))
	}
	return nil
}

// sweep removes the folders of benches that were killed. It ignores errors: the folder may
// be that of another user.
func (b *bench) sweep(parent string) {
	folders, _ := os.ReadDir(parent)
	for _, folder := range folders {
		if !folder.IsDir() || !strings.HasPrefix(folder.Name(), benchPrefix) {
			continue
		}
		dir := filepath.Join(parent, folder.Name())
		plain, err := vfs.OS().OpenFile(filepath.Join(dir, benchPlain), vfs.ReadWrite, 0)
		if err != nil {
			continue
		}
		ours, err := vfs.LockNamed(vfs.OS(), plain, plain.Name(), lockUnfinished)
		dead := err == nil && ours && holdsOnly(dir, benchPlain, benchStore)
		plain.Close()
		if dead && os.RemoveAll(dir) == nil {
			b.note("note: removed %s, which a bench had left when it was killed", dir)
		}
	}
}

// holdsOnly reports whether a folder has nothing but files whose names begin with one of
// these.
func holdsOnly(dir string, beginnings ...string) bool {
	files, err := os.ReadDir(dir)
	for _, file := range files {
		begins := func(name string) bool { return strings.HasPrefix(file.Name(), name) }
		if !file.Type().IsRegular() || !slices.ContainsFunc(beginnings, begins) {
			return false
		}
	}
	return err == nil
}

// disk measures a plain file.
func (b *bench) disk() (err error) {
	file := b.plain
	block := make([]byte, plainBlock)
	for i := range block {
		block[i] = byte(rand.Uint32()) // so that the disk cannot compress it
	}
	blocks := min(plainBlocks, 1+b.Pairs/benchBatch)
	start := time.Now()
	for i := range blocks {
		if err = file.WriteAt(block, int64(i)*plainBlock); err != nil || b.ctx.Err() != nil {
			return cmp.Or(err, b.ctx.Err())
		}
	}
	if err = file.Sync(); err != nil {
		return err
	}
	b.DiskBytes = float64(blocks) * plainBlock / time.Since(start).Seconds()
	b.DiskSyncs, err = b.rate(1, b.Pairs, benchTime, func(i int) error {
		at := i * syncedBytes % plainBlock
		if err := file.WriteAt(block[at:at+syncedBytes], int64(at)); err != nil {
			return err
		}
		return file.Sync()
	})
	if err != nil {
		return err
	}
	b.show("disk, 4 KiB write + fsync", b.DiskSyncs, "/s", each(b.DiskSyncs, 1))
	b.show("disk, sequential write", b.DiskBytes/1e6, "MB/s", "")
	return nil
}

// use measures writes and lookups.
func (b *bench) use(s *cidstore.Store) (err error) {
	if err := b.single(s); err != nil {
		return err
	}
	if err := b.batches(s); err != nil {
		return err
	}
	if b.Hits, err = b.lookups(s, 0, 1); err != nil {
		return err
	}
	b.show("lookup, present key", b.Hits, "/s", each(b.Hits, 1))
	if b.Misses, err = b.lookups(s, absentKeys, 0); err != nil {
		return err
	}
	b.show("lookup, absent key", b.Misses, "/s", each(b.Misses, 1))
	return nil
}

// single measures durable writes of one pair each.
func (b *bench) single(s *cidstore.Store) (err error) {
	var written atomic.Uint64
	write := func(int) error {
		i := singleKeys + written.Add(1)
		return s.Insert(cidstore.FromUint64(i), cidstore.FromUint64(i))
	}
	if b.Writes1, err = b.rate(1, b.Pairs, benchTime, write); err != nil {
		return err
	}
	b.Writes1Ratio = b.Writes1 / b.DiskSyncs
	if b.Writes16, err = b.rate(benchWriters, b.Pairs, benchTime, write); err != nil {
		return err
	}
	b.Writes16Ratio = b.Writes16 / b.DiskSyncs
	b.show("durable write, 1 writer", b.Writes1, "/s", fmt.Sprintf("%s, %.2f for each sync of the disk", each(b.Writes1, 1), b.Writes1Ratio))
	b.show("durable write, 16 writers", b.Writes16, "/s", fmt.Sprintf("%s, %.2f for each sync of the disk", each(b.Writes16, benchWriters), b.Writes16Ratio))
	return nil
}

// batches measures durable batches.
func (b *bench) batches(s *cidstore.Store) error {
	var batch cidstore.Batch
	rate, err := b.rate(1, (b.Pairs+benchBatch-1)/benchBatch, math.MaxInt64, func(i int) error {
		batch.Reset()
		for k := i * benchBatch; k < min((i+1)*benchBatch, b.Pairs); k++ {
			batch.Insert(cidstore.FromUint64(uint64(k)), cidstore.FromUint64(^uint64(k)))
		}
		return s.Apply(&batch)
	})
	if err != nil {
		return err
	}
	b.Batched = rate * float64(min(b.Pairs, benchBatch))
	b.BatchedRatio = b.Batched * pairBytes / b.DiskBytes
	b.show("batches of 1,000", b.Batched, "pairs/s", fmt.Sprintf("%.1f MB/s of pairs, %.3f for each byte of the disk", b.Batched*pairBytes/1e6, b.BatchedRatio))
	return nil
}

// lookups measures lookups of many keys from first on, which must have this many values.
func (b *bench) lookups(s *cidstore.Store, first uint64, values int) (float64, error) {
	var found []cidstore.E
	rate, err := b.rate(1, (b.Pairs+benchLookups-1)/benchLookups, benchTime, func(i int) (err error) {
		for k := range uint64(benchLookups) {
			key := first + (uint64(i)*benchLookups+k)*lookupStride%uint64(b.Pairs)
			if found, err = s.AppendLookup(found[:0], cidstore.FromUint64(key)); err != nil {
				return err
			}
			if len(found) != values {
				return fmt.Errorf("bench: key %d has %d values, want %d", key, len(found), values)
			}
		}
		return nil
	})
	return rate * benchLookups, err
}

// rate calls f with 0, 1 and so on from several workers at once, until it has called f
// most times or limit is over, and returns the calls per second. It does not begin if what
// was shown before could not be printed.
func (b *bench) rate(workers, most int, limit time.Duration, f func(i int) error) (float64, error) {
	if err := b.out.Flush(); err != nil {
		return 0, err
	}
	var next atomic.Int64
	errs := make([]error, workers)
	var group sync.WaitGroup
	start := time.Now()
	for w := range workers {
		group.Go(func() {
			for errs[w] == nil && time.Since(start) < limit {
				i := next.Add(1) - 1
				if i >= int64(most) {
					return
				}
				if errs[w] = b.ctx.Err(); errs[w] == nil {
					errs[w] = f(int(i))
				}
			}
		})
	}
	group.Wait()
	return float64(min(next.Load(), int64(most))) / time.Since(start).Seconds(), cmp.Or(errs...)
}

// show prints a figure as soon as it is known. With --json it leaves that to the end.
func (b *bench) show(what string, value float64, unit, note string) {
	if b.json {
		return
	}
	text := fmt.Sprintf("%.1f", value)
	if value >= 100 {
		text = grouped(uint64(value))
	}
	b.line("%s", strings.TrimRight(fmt.Sprintf("%-26s %12s %-8s %s", what, text, unit, note), " "))
	_ = b.out.Flush() // rate and run return the error
}

// each returns how long one call takes, at a rate and with so many calls at once.
func each(rate float64, atOnce int) string {
	return fmt.Sprintf("%.1f µs each", float64(atOnce)*1e6/rate)
}
