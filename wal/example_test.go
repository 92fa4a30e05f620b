package wal_test

import (
	"fmt"
	"log"
	"math/rand/v2"
	"time"

	"github.com/cidstore/cidstore/keys"
	"github.com/cidstore/cidstore/wal"
)

// inMemory is a ring in memory.
type inMemory []byte

func (m inMemory) ReadAt(p []byte, off int64) (int, error) { return copy(p, m[off:]), nil }
func (m inMemory) WriteSync(p []byte, off int64) error     { copy(m[off:], p); return nil }
func (m inMemory) Size() int64                             { return int64(len(m)) }

// Operations are appended, durable when Append returns, and found again until the log is
// truncated.
func ExampleLog() {
	const block = 4096
	first := wal.FirstSequence(block)
	l := wal.New(wal.Config{
		Key: []byte("a secret"), Block: block, Ring: wal.Ring{Storage: make(inMemory, 16*block)},
		Now: func() int64 { return time.Now().UnixNano() },
	}, wal.Epoch{Number: 1, First: first, End: wal.NoEnd}, first, first-1, first)
	show := func(f wal.Frame) error {
		for _, op := range f.Ops {
			fmt.Println(op.Code == wal.Insert, op.Key.Low, op.Value.Low)
		}
		return nil
	}

	last, err := l.Append([]wal.Op{{Code: wal.Insert, Key: keys.FromUint64(1), Value: keys.FromUint64(2)}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(l.Replay(show), l.Audit(100, rand.IntN))
	l.Truncate(last) // the tree has it
	fmt.Println(l.Replay(show))
	stats := l.Stats()
	fmt.Println(stats.Frames, stats.Records[wal.Insert], stats.Audits, stats.AuditFailures, stats.Truncations)
	// Output:
	// true 1 2
	// <nil> <nil>
	// <nil>
	// 1 1 1 0 1
}
