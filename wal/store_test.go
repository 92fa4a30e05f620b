package wal

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"

	"pgregory.net/rapid"

	"github.com/cidstore/cidstore/keys"
)

// memory is a Storage. Its bytes are what a power cut leaves: WriteSync is the
// only way to write. fail makes the nth write fail, after half of it has landed.
type memory struct {
	mu     sync.Mutex
	bytes  []byte
	writes int
	fail   int
	gate   chan struct{} // if set, each write takes one from it
	entry  chan struct{} // if set, each write puts one there first
}

var errDisk = errors.New("disk gone")

func newMemory(blocks int) *memory { return &memory{bytes: make([]byte, blocks*testBlock)} }

func (m *memory) Size() int64 { return int64(len(m.bytes)) }

func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if off < 0 || off > int64(len(m.bytes)) {
		return 0, fmt.Errorf("read at %d of %d", off, len(m.bytes))
	}
	n := copy(p, m.bytes[off:])
	if n < len(p) {
		return n, io.ErrUnexpectedEOF
	}
	return n, nil
}

func (m *memory) WriteSync(p []byte, off int64) error {
	if m.entry != nil {
		m.entry <- struct{}{}
	}
	if m.gate != nil {
		<-m.gate
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if off < 0 || off+int64(len(p)) > int64(len(m.bytes)) {
		return fmt.Errorf("write of %d at %d of %d", len(p), off, len(m.bytes))
	}
	m.writes++
	if m.writes == m.fail {
		copy(m.bytes[off:], p[:len(p)/2])
		return errDisk
	}
	copy(m.bytes[off:], p)
	return nil
}

// The small geometry: blocks of 512 bytes, that is 12 records and 32 bytes.
const (
	testBlock        = 512
	testBlockRecords = testBlock / RecordSize
)

// place is where the record of a sequence of the first lap stands in the ring.
func place(seq Seq) int {
	return int(seq/testBlockRecords)*testBlock + int(seq%testBlockRecords)*RecordSize
}

// recordAt is the record of a sequence of the first lap.
func recordAt(ring []byte, seq Seq) []byte { return ring[place(seq):place(seq+1)] }

var testUUID = [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}

// testConfig is a config over m with a clock that advances by 10 ns a call.
func testConfig(m Storage) Config {
	var now int64
	return Config{
		UUID:  testUUID,
		Key:   []byte("a key for tests"),
		Block: testBlock,
		Ring:  Ring{Storage: m},
		Now:   func() int64 { now += 10; return now },
	}
}

// firstEpoch is the epoch of a new file.
func firstEpoch(block int) Epoch {
	return Epoch{Number: 1, First: FirstSequence(block), End: NoEnd, Anchor: [macSize]byte{0xaa, 31: 0xbb}}
}

// newLog begins the first life of a log.
func newLog(c Config) (*Log, Epoch) {
	e := firstEpoch(c.Block)
	return New(c, e, e.First, e.First-1, e.First), e
}

// copyFrame returns a frame that outlives its visit, without the field that
// depends on what follows it.
func copyFrame(f Frame) Frame {
	f.Ops = slices.Clone(f.Ops)
	f.PastWatermark = false
	return f
}

// scanAll returns the frames that Scan finds, copied.
func scanAll(c Config, epochs []Epoch, lastApplied, watermark Seq) ([]Frame, ScanReport, error) {
	var frames []Frame
	report, err := Scan(c, epochs, lastApplied, watermark, func(f Frame) error {
		frames = append(frames, copyFrame(f))
		return nil
	})
	return frames, report, err
}

// someOps returns n operations that depend on seed.
func someOps(n int, seed uint64) []Op {
	r := rand.New(rand.NewPCG(seed, 1))
	codes := []Opcode{Insert, Insert, Delete, DeleteValue, Split, Compact}
	ops := make([]Op, n)
	for i := range ops {
		ops[i] = Op{codes[r.IntN(len(codes))], keys.E{High: r.Uint64(), Low: r.Uint64()}, keys.E{High: r.Uint64(), Low: r.Uint64()}}
	}
	return ops
}

// operations joins the operations of frames.
func operations(frames []Frame) []Op {
	var ops []Op
	for _, f := range frames {
		ops = append(ops, f.Ops...)
	}
	return ops
}

func must(t rapid.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}
