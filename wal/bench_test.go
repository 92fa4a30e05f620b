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

// BenchmarkAppend is what a frame costs beside the disk, in blocks of 4 KiB: frames with
// blocks of their own, and frames that share blocks.
func BenchmarkAppend(b *testing.B) {
	for _, n := range []int{1, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) { benchAppend(b, n, (*Log).Append) })
	}
}

func BenchmarkAppendAsync(b *testing.B) { benchAppend(b, 1, (*Log).AppendAsync) }

func benchAppend(b *testing.B, n int, appendTo func(*Log, []Op) (Seq, error)) {
	c := testConfig(discard{64 << 20})
	c.Block = 4096
	l, _ := newLog(c)
	ops := someOps(n, 1)
	b.SetBytes(int64(n))
	b.ReportAllocs()
	for b.Loop() {
		if l.Room() < max(RecordsFor(n, c.Block), 1<<16) {
			l.Truncate(l.Mark().Sequence)
		}
		if _, err := appendTo(l, ops); err != nil {
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
				_, err := l.AppendAsync(ops)
				must(b, err)
			}
			must(b, l.Flush())
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
		_, err := l.Append(someOps(300000, 1))
		must(b, err)
		m.bytes[4096] ^= 1
		b.SetBytes(m.Size())
		for b.Loop() {
			report, err := Scan(c, []Epoch{e}, 0, 0, passOver)
			if err != nil || report.Discarded == 0 {
				b.Fatal(report, err)
			}
		}
	})
}
