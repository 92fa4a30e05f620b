package bucket

import (
	"fmt"
	"testing"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/keys"
)

// manyBuckets is a file of 2^bits buckets of about perBucket items with one
// value each, half of the buckets with a tail.
func manyBuckets(b *testing.B, bits uint8, perBucket int) (*world, [][]Item) {
	w := newWorldOf(b, 128, 256<<20)
	buckets := make([][]Item, 1<<bits)
	for k := range uint64(perBucket) << bits {
		it := w.item(k, 1)
		i := it.Hash >> (64 - bits)
		buckets[i] = append(buckets[i], it)
	}
	w.rows = 1 << bits
	w.change(func(writer *Writer) {
		for i := range buckets {
			buckets[i] = sorted(buckets[i])
			must(b, writer.Rewrite(uint32(i), uint64(i)<<(64-bits), bits, 1, buckets[i][:min(len(buckets[i]), 128)], 0, false))
		}
	})
	return w, buckets
}

func BenchmarkFind(b *testing.B) {
	const bits = 9
	w, buckets := manyBuckets(b, bits, 90)
	w.change(func(writer *Writer) {
		for i := range buckets {
			over, err := writer.Update(uint32(i), buckets[i][:8])
			if over != nil {
				b.Fatal("full")
			}
			must(b, err)
		}
	})
	for _, c := range []struct {
		name string
		item int
		used int
	}{{"tail", 3, 8}, {"row", 50, 8}, {"row of many", 50, 1 << bits}} {
		used := uint32(c.used)
		b.Run(c.name, func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				id := uint32(i*7) & (used - 1)
				it := &buckets[id][c.item]
				if _, found, err := w.table.Find(id, it.Hash, it.Key); !found || err != nil {
					b.Fatal(found, err)
				}
			}
		})
	}
	b.Run("absent", func(b *testing.B) {
		for i := uint64(0); b.Loop(); i++ {
			hash := i * 0x9e3779b97f4a7c15
			if _, found, err := w.table.Find(uint32(hash>>(64-bits)), hash, keys.E{High: 1}); found || err != nil {
				b.Fatal(found, err)
			}
		}
	})
}

func BenchmarkItems(b *testing.B) {
	w, buckets := manyBuckets(b, 6, 90)
	var items []Item
	for i := 0; b.Loop(); i++ {
		var err error
		if items, err = w.table.Items(items[:0], uint32(i%len(buckets))); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkUpdate commits nothing: it measures the merging and the placing.
func BenchmarkUpdate(b *testing.B) {
	const bits = 12
	w, buckets := manyBuckets(b, bits, 60)
	for _, n := range []int{1, 8, 17} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(0)
			var tx *hdf5io.Tx
			var writer *Writer
			for i := 0; b.Loop(); i++ {
				if i%len(buckets) == 0 {
					b.StopTimer()
					if tx != nil {
						tx.Abort()
					}
					var err error
					tx, err = w.file.Begin()
					must(b, err)
					writer, err = NewWriter(tx, w.table, 0)
					must(b, err)
					b.StartTimer()
				}
				id := i % len(buckets)
				if _, err := writer.Update(uint32(id), buckets[id][10:10+n]); err != nil {
					b.Fatal(err)
				}
			}
			tx.Abort()
		})
	}
}
