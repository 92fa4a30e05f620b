package gc

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/keys"
	"github.com/cidstore/cidstore/vfs"
)

type fataler interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

func must(t fataler, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// world is a file with a deletion log, on storage in memory, and its model.
type world struct {
	t     fataler
	fs    *crashfs.FS
	raw   vfs.File
	file  *hdf5io.File
	model []Record
}

func newWorld(t fataler) *world {
	w := &world{t: t, fs: crashfs.New(crashfs.Options{FileLimit: 8 << 20})}
	w.openFile(vfs.Create)
	var err error
	w.file, err = hdf5io.Create(w.raw, hdf5io.Options{GrowStep: 1 << 16}, nil, CreateDatasets)
	must(t, err)
	return w
}

func (w *world) openFile(flag int) {
	raw, err := w.fs.OpenFile("f", vfs.ReadWrite|flag, 0o600)
	must(w.t, err)
	w.raw = raw
}

func (w *world) reopen() {
	must(w.t, w.file.Close())
	w.openFile(0)
	var err error
	w.file, _, err = hdf5io.Open(w.raw, hdf5io.Options{})
	must(w.t, err)
}

func (w *world) close() {
	_, err := w.file.View().Check(context.Background(), func(err error) { w.t.Fatal(err) })
	must(w.t, err)
	must(w.t, w.file.Close())
}

func (w *world) log() *DeletionLog { return Open(w.file.View(), uint64(len(w.model))) }

// commit runs change on the log in one transaction.
func (w *world) commit(change func(tx *hdf5io.Tx, l *DeletionLog)) {
	tx, err := w.file.Begin()
	must(w.t, err)
	l := w.log()
	change(tx, l)
	if l.rows != uint64(len(w.model)) {
		w.t.Fatalf("%d rows, want %d", l.rows, len(w.model))
	}
	_, err = tx.Commit(nil)
	must(w.t, err)
}

func (w *world) append(tx *hdf5io.Tx, l *DeletionLog, rows []Record) {
	n, err := l.Append(tx, rows)
	must(w.t, err)
	w.model = append(w.model, rows...)
	if n != uint64(len(w.model)) {
		w.t.Fatalf("%d rows, want %d", n, len(w.model))
	}
}

func (w *world) clear(tx *hdf5io.Tx, l *DeletionLog, through int) {
	n, err := l.Clear(tx, uint64(through))
	must(w.t, err)
	w.model = slices.Delete(w.model, 0, min(through, len(w.model)))
	if n != uint64(len(w.model)) {
		w.t.Fatalf("%d rows left, want %d", n, len(w.model))
	}
}

func (w *world) check() {
	w.t.Helper()
	var got []Record
	must(w.t, w.log().Scan(func(i uint64, r Record) bool {
		if i != uint64(len(got)) {
			w.t.Fatalf("row %d after %d", i, len(got))
		}
		got = append(got, r)
		return true
	}))
	if !slices.Equal(got, w.model) {
		w.t.Fatalf("%d rows, want %d, or others", len(got), len(w.model))
	}
}

func record(i int) Record {
	r := Record{Key: keys.FromUint64(uint64(i)), Value: keys.E{High: 7, Low: uint64(i)}, Timestamp: 1.7e9 + float64(i)/8}
	if i%5 == 0 {
		r.Whole, r.Value = true, keys.E{}
	}
	return r
}

func records(first, n int) []Record {
	var list []Record
	for i := range n {
		list = append(list, record(first+i))
	}
	return list
}

// TestDeletionLogLaw: after appends and clears, several in each commit, the log
// equals a slice.
func TestDeletionLogLaw(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt)
		next := 0
		some := func() []Record {
			list := records(next, rapid.IntRange(0, 300).Draw(rt, "rows"))
			next += len(list)
			return list
		}
		for range rapid.IntRange(1, 6).Draw(rt, "commits") {
			w.commit(func(tx *hdf5io.Tx, l *DeletionLog) {
				if rapid.IntRange(0, 2).Draw(rt, "clear") == 0 {
					w.clear(tx, l, rapid.IntRange(0, len(w.model)+2).Draw(rt, "through"))
				}
				for range rapid.IntRange(0, 3).Draw(rt, "appends") {
					w.append(tx, l, some())
				}
			})
			if rapid.Bool().Draw(rt, "reopen") {
				w.reopen()
			}
			w.check()
		}
		w.close()
	})
}

func TestScanStops(t *testing.T) {
	w := newWorld(t)
	defer w.close()
	w.commit(func(tx *hdf5io.Tx, l *DeletionLog) { w.append(tx, l, records(0, 300)) })
	n := 0
	must(t, w.log().Scan(func(uint64, Record) bool { n++; return n < 200 }))
	if n != 200 {
		t.Errorf("%d rows seen, want 200", n)
	}
	for _, from := range []uint64{0, 1, 127, 128, 129, 256, 299, 300, 301} {
		next := from
		must(t, w.log().ScanFrom(from, func(i uint64, r Record) bool {
			if i != next || r != w.model[i] {
				t.Fatalf("from %d: row %d after %d", from, i, next)
			}
			next++
			return true
		}))
		if want := max(from, 300); next != want {
			t.Errorf("from %d: %d rows, want %d", from, next-from, want-from)
		}
	}
}

// TestAbort: after an aborted transaction, a log that is opened again is as it was.
func TestAbort(t *testing.T) {
	w := newWorld(t)
	defer w.close()
	w.commit(func(tx *hdf5io.Tx, l *DeletionLog) { w.append(tx, l, records(0, 200)) })
	tx, err := w.file.Begin()
	must(t, err)
	l := w.log()
	_, err = l.Clear(tx, 150)
	must(t, err)
	_, err = l.Append(tx, records(7, 7))
	must(t, err)
	tx.Abort()
	w.check()
}

// TestOrderInTransaction: what a transaction has placed cannot be read back.
func TestOrderInTransaction(t *testing.T) {
	w := newWorld(t)
	defer w.close()
	tx, err := w.file.Begin()
	must(t, err)
	l := w.log()
	_, err = l.Append(tx, records(0, 3))
	must(t, err)
	if _, err := l.Clear(tx, 1); err == nil {
		t.Error("Clear behind Append: no error")
	}
	if err := l.Scan(func(uint64, Record) bool { return true }); err == nil {
		t.Error("Scan behind Append: no error")
	}
	tx.Abort()
}

// TestWrongRows: a store record that disagrees with the dataset is damage.
func TestWrongRows(t *testing.T) {
	w := newWorld(t)
	defer w.close()
	w.commit(func(tx *hdf5io.Tx, l *DeletionLog) { w.append(tx, l, records(0, 200)) })
	for _, rows := range []uint64{1, 199, 201, 1 << 40, ^uint64(0)} {
		err := Open(w.file.View(), rows).Scan(func(uint64, Record) bool { return true })
		if !errors.Is(err, corrupt.Err) {
			t.Errorf("%d rows: %v", rows, err)
		}
		tx, err := w.file.Begin()
		must(t, err)
		if _, err := Open(w.file.View(), rows).Clear(tx, 1); rows > 1 && !errors.Is(err, corrupt.Err) {
			t.Errorf("clear of %d rows: %v", rows, err)
		}
		tx.Abort()
	}
}

// TestFlipEveryBit flips bits of the last stored chunk.
func TestFlipEveryBit(t *testing.T) {
	w := newWorld(t)
	defer w.close()
	w.commit(func(tx *hdf5io.Tx, l *DeletionLog) { w.append(tx, l, records(0, 130)) })
	d, err := w.file.View().Dataset(logPath)
	must(t, err)
	c, found, err := d.Find(1)
	must(t, err)
	if !found {
		t.Fatal("no second chunk")
	}
	b := make([]byte, c.Size)
	_, err = w.raw.ReadAt(b, int64(c.Address))
	must(t, err)
	for bit := 0; bit < 8*len(b); bit++ {
		if bit >= 8*3*RecordSize && bit < 8*(len(b)-8) && bit%7 != 0 {
			continue // after the rows: every seventh
		}
		b[bit/8] ^= 1 << (bit % 8)
		must(t, w.raw.WriteAt(b[bit/8:bit/8+1], int64(c.Address)+int64(bit/8)))
		if err := w.log().Scan(func(uint64, Record) bool { return true }); !errors.Is(err, corrupt.Err) {
			t.Fatalf("bit %d: %v", bit, err)
		}
		b[bit/8] ^= 1 << (bit % 8)
		must(t, w.raw.WriteAt(b[bit/8:bit/8+1], int64(c.Address)+int64(bit/8)))
	}
	w.check()
}

func TestRecordGolden(t *testing.T) {
	for _, c := range []struct {
		r    Record
		want string
	}{
		{Record{Key: keys.E{High: 1, Low: 2}, Value: keys.E{High: 3, Low: 4}, Timestamp: 1.5},
			"0100000000000000 0200000000000000 0300000000000000 0400000000000000 000000000000f83f 00000000 00000000"},
		{Record{Key: keys.E{High: 1, Low: 2}, Timestamp: 1.5, Whole: true},
			"0100000000000000 0200000000000000 0000000000000000 0000000000000000 000000000000f83f 01000000 00000000"},
	} {
		b := c.r.append(nil)
		got := fmt.Sprintf("%x %x %x %x %x %x %x", b[:8], b[8:16], b[16:24], b[24:32], b[32:40], b[40:44], b[44:])
		if got != c.want {
			t.Errorf("%+v:\n%s\nwant\n%s", c.r, got, c.want)
		}
	}
}

// TestRecordRefuses: each bit that has no meaning must be zero.
func TestRecordRefuses(t *testing.T) {
	whole := record(0).append(nil)
	for bit := range 8 * RecordSize {
		b := bytes.Clone(whole)
		b[bit/8] ^= 1 << (bit % 8)
		_, err := parseRecord(b)
		at := bit / 8
		free := at < offValueHigh || at >= offTimestamp && at < offFlags || bit == 8*offFlags
		if free != (err == nil) || err != nil && !errors.Is(err, corrupt.Err) {
			t.Errorf("bit %d: %v", bit, err)
		}
	}
}

func FuzzDeletion(f *testing.F) {
	f.Add(record(0).append(nil))
	f.Add(record(1).append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) != RecordSize {
			return
		}
		r, err := parseRecord(b)
		if err != nil {
			if !errors.Is(err, corrupt.Err) {
				t.Fatal(err)
			}
			return
		}
		if got := r.append(nil); !bytes.Equal(got, b) {
			t.Fatalf("% x\nencoded again % x", b, got)
		}
		if bits := binary.LittleEndian.Uint64(b[offTimestamp:]); math.Float64bits(r.Timestamp) != bits {
			t.Fatalf("timestamp %x, want %x", math.Float64bits(r.Timestamp), bits)
		}
	})
}
