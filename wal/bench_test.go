package wal

import (
	"fmt"
	"testing"
)

// discard is a Storage that takes every write and keeps none.
type discard struct{ size int64 }

func (d discard) Size() int64                           { return d.size }
func (d discard) ReadAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (d discard) WriteSync([]byte, int64) error         { return nil }

// BenchmarkAppend is what a frame costs beside the disk, in blocks of 4 KiB.
func BenchmarkAppend(b *testing.B) {
	for _, n := range []int{1, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c := testConfig(discard{64 << 20})
			c.Block = 4096
			l, _ := newLog(c)
			ops := someOps(n, 1)
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				if l.Room() < RecordsFor(n, c.Block) {
					l.Truncate(l.Mark().Sequence)
				}
				if _, err := l.Append(ops); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkAppendAsync is the same for frames that share blocks.
func BenchmarkAppendAsync(b *testing.B) {
	c := testConfig(discard{64 << 20})
	c.Block = 4096
	l, _ := newLog(c)
	ops := someOps(1, 1)
	b.ReportAllocs()
	for b.Loop() {
		if l.Room() < 1<<16 {
			l.Truncate(l.Mark().Sequence)
		}
		if _, err := l.AppendAsync(ops); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkScan reads a full ring of 64 MiB: frames of n operations, and a ring
// in which every record but the first passes, which is searched to its end.
func BenchmarkScan(b *testing.B) {
	for _, n := range []int{1, 100, 1000, 100000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c := testConfig(newMemory(64 << 20 / testBlock))
			c.Block = 4096
			l, e := newLog(c)
			ops := someOps(n, 1)
			for l.Room() >= RecordsFor(n, c.Block) {
				if _, err := l.AppendAsync(ops); err != nil {
					b.Fatal(err)
				}
			}
			if err := l.Flush(); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(c.Ring.Storage.Size())
			for b.Loop() {
				report, err := Scan(c, []Epoch{e}, 0, 0, passOver)
				if err != nil || report.End != l.Mark() {
					b.Fatal(report, err)
				}
			}
		})
	}
	b.Run("search", func(b *testing.B) {
		m := newMemory(64 << 20 / testBlock)
		c := testConfig(m)
		c.Block = 4096
		l, e := newLog(c)
		if _, err := l.Append(someOps(300000, 1)); err != nil {
			b.Fatal(err)
		}
		m.bytes[4096] ^= 1
		b.SetBytes(m.Size())
		for b.Loop() {
			report, err := Scan(c, []Epoch{e}, 0, 0, passOver)
			if err != nil || report.Discarded == 0 {
				b.Fatal(report, err)
			}
		}
		_ = l
	})
}
