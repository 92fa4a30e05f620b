package legacy

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/internal/crc32c"
	"github.com/cidstore/cidstore/wal"
)

// madeLog makes a log of format 1: what comes before sequence 16 lies in a ring of 24
// records, the rest in one of 16; blocks of 8. Epoch 1 ends at sequence 24, epoch 2 is open.
type madeLog struct {
	rings  [2][]byte // old, present
	epochs []wal.Epoch
	next   wal.Seq
	mac    [32]byte
}

const madeFirst, madeBlock = 16, 8

var madeUUID, madeKey = bytes.Repeat([]byte{7}, 16), []byte("log key")

func (m *madeLog) at(sequence wal.Seq) (record []byte, lap uint64) {
	ring := m.rings[1]
	if sequence < madeFirst {
		ring = m.rings[0]
	}
	n := uint64(len(ring) / logRecordSize)
	return ring[uint64(sequence)%n*logRecordSize:][:logRecordSize], uint64(sequence) / n
}

// seal gives a record the checksum that fits.
func (m *madeLog) seal(epoch uint64, sequence wal.Seq) {
	record, _ := m.at(sequence)
	clear(record[offLogChecksum:][:4])
	seen := le.AppendUint64(le.AppendUint64(bytes.Clone(madeUUID), epoch), uint64(sequence))
	le.PutUint32(record[offLogChecksum:], crc32c.Sum(append(seen, record...)))
}

// frame appends insertions of value 1 of keys, and pads up to the end of a block.
func (m *madeLog) frame(watermark uint64, numbers ...uint64) {
	e := m.epochs[len(m.epochs)-1]
	if m.next == e.First {
		m.mac = e.Anchor
	}
	mac, first := hmac.New(sha256.New, madeKey), m.next
	mac.Write(append(le.AppendUint64(nil, e.Number), m.mac[:]...))
	for i := 0; ; i++ {
		record, lap := m.at(m.next)
		clear(record)
		switch {
		case i < len(numbers):
			record[0] = logInsert
			le.PutUint64(record[offLogKey+8:], numbers[i])
			le.PutUint64(record[offLogValue+8:], 1)
		case (m.next+1)%madeBlock != 0:
			record[0] = logPad
		default:
			record[0] = logCommit
			le.PutUint32(record[offLogCount:], uint32(m.next+1-first))
			le.PutUint64(record[offLogWatermark:], watermark)
		}
		last := record[0] == logCommit
		record[0] |= byte(lap&3) << 6
		if last {
			mac.Write(record)
			copy(record[offLogKey:offLogWatermark], mac.Sum(m.mac[:0]))
		}
		m.seal(e.Number, m.next)
		mac.Write(record)
		m.next++
		if last {
			return
		}
	}
}

// newMadeLog has frames of the keys 1 and 2, 3 (epoch 1), 5 (epoch 2), each a block.
func newMadeLog() *madeLog {
	m := &madeLog{rings: [2][]byte{make([]byte, 24*logRecordSize), make([]byte, 16*logRecordSize)}, next: 8}
	m.epochs = []wal.Epoch{{Number: 1, First: 8, End: wal.NoEnd, Anchor: [32]byte{1}}}
	m.frame(0, 1, 2)
	m.frame(15, 3) // in the ring from here on
	m.epochs[0].End = m.next
	m.epochs = append(m.epochs, wal.Epoch{Number: 2, First: m.next, End: wal.NoEnd, Anchor: [32]byte{2}})
	m.frame(23, 5)
	return m
}

func (m *madeLog) replay(change func(*format1Log)) (numbers []uint64, tornAt wal.Seq, err error) {
	ring := func(p []byte) logRing {
		return logRing{io.NewSectionReader(bytes.NewReader(p), 0, int64(len(p))), uint64(len(p) / logRecordSize)}
	}
	l := format1Log{
		uuid: madeUUID, key: madeKey, block: madeBlock * logRecordSize, old: ring(m.rings[0]), ring: ring(m.rings[1]), first: madeFirst, lastApplied: 7,
		take: func(o operation) error {
			if o.code == opInsert {
				numbers = append(numbers, o.key.Low)
			}
			return nil
		},
	}
	if change != nil {
		change(&l)
	}
	err = l.replay(m.epochs)
	return numbers, l.tornAt, err
}

// TestFormat1LogRings: frames of two epochs in two rings, whole, torn, rotten and forged.
func TestFormat1LogRings(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(m *madeLog)
		change func(l *format1Log)
		want   []uint64
		torn   wal.Seq
		err    error
	}{
		{"whole", nil, nil, []uint64{1, 2, 3, 5}, 0, nil},
		{"in part applied", nil, func(l *format1Log) { l.lastApplied = 23 }, []uint64{5}, 0, nil},
		{"torn", func(m *madeLog) { r, _ := m.at(26); r[offLogKey]++ }, nil, []uint64{1, 2, 3}, 26, nil},
		{"never written", func(m *madeLog) { clear(m.rings[1][8*logRecordSize:]) }, nil, []uint64{1, 2, 3}, 0, nil},
		{"torn, and durable by the slot", func(m *madeLog) { r, _ := m.at(26); r[offLogKey]++ }, func(l *format1Log) { l.watermark = 26 }, []uint64{1, 2, 3}, 0, corrupt.Err},
		{"rotten in the old ring", func(m *madeLog) { r, _ := m.at(9); r[offLogKey]++ }, nil, nil, 0, corrupt.Err},
		{"rotten, as a later record says", func(m *madeLog) {
			m.epochs = []wal.Epoch{{Number: 2, First: 8, End: wal.NoEnd}} // of which only the last frame is
		}, nil, nil, 0, corrupt.Err},
		{"a commit too many", func(m *madeLog) { r, _ := m.at(22); r[0] = r[0]&^63 | logCommit; m.seal(1, 22) }, nil, []uint64{1, 2}, 0, wal.ErrTampered},
		{"another key", nil, func(l *format1Log) { l.key = []byte("no") }, nil, 0, wal.ErrTampered},
		{"forged", func(m *madeLog) { r, _ := m.at(24); r[offLogKey+8]++; m.seal(2, 24) }, nil, []uint64{1, 2, 3}, 0, wal.ErrTampered},
		{"another operation", func(m *madeLog) { r, _ := m.at(24); r[0] = r[0]&^63 | 7; m.seal(2, 24) }, nil, []uint64{1, 2, 3}, 0, corrupt.Err},
		{"no old ring", nil, func(l *format1Log) { l.old = logRing{} }, nil, 0, corrupt.Err},
		{"a first sequence that is too high", nil, func(l *format1Log) { l.first = 1 << 63 }, nil, 0, corrupt.Err},
		{"epochs in the wrong order", func(m *madeLog) { slices.Reverse(m.epochs) }, nil, nil, 0, corrupt.Err},
	} {
		m := newMadeLog()
		if c.damage != nil {
			c.damage(m)
		}
		numbers, torn, err := m.replay(c.change)
		if !slices.Equal(numbers, c.want) || torn != c.torn || !errors.Is(err, c.err) {
			t.Errorf("%s: keys %d, torn at %d, %v; want %d, %d, %v", c.name, numbers, torn, err, c.want, c.torn, c.err)
		}
	}
	stop := errors.New("stop")
	if _, _, err := newMadeLog().replay(func(l *format1Log) { l.take = func(operation) error { return stop } }); err != stop {
		t.Errorf("an error of take: %v", err)
	}
}
