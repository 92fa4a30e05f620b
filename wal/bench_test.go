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
