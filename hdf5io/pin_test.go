package hdf5io

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/vfs"
)

// scribble overwrites every byte that the writer may use next.
func scribble(t testing.TB, f *File) {
	t.Helper()
	s := &f.space
	s.mu.Lock()
	defer s.mu.Unlock()
	list, err := s.pool.extents()
	must(t, err)
	for _, e := range list {
		must(t, f.file.WriteAt(bytes.Repeat([]byte{0xa5}, int(e.size)), int64(e.start)))
	}
}

// checkAgain is checkRound, but verifies everything again.
func checkAgain(t testing.TB, v *View, round uint64) {
	t.Helper()
	checkRound(t, v, round)
	d := dataset(t, v, "/buckets/state")
	for i := range uint64(testPages) {
		if _, err := d.PageAgain(i); err != nil {
			t.Fatalf("commit %d: %v", v.Commit(), err)
		}
	}
}

// step commits a round, sometimes settled, and makes the writer's next Begin reuse
// what it may.
func step(t testing.TB, f *File, round uint64) {
	t.Helper()
	commitRound(t, f, round)
	if round%3 == 0 {
		must(t, f.Settle())
	}
	tx := begin(t, f)
	tx.Abort()
	scribble(t, f)
}

func TestPinnedViewStays(t *testing.T) {
	for _, noMap := range []bool{false, true} {
		f, _ := testFile(t, Options{GrowStep: 32 << 10, Quarantine: -1, NoMmap: noMap})
		var held []*View
		var pins []Pin
		for round := uint64(1); round < 25; round++ {
			if round%5 == 0 {
				held = append(held, f.View())
				pins = append(pins, f.View().Pin())
			}
			step(t, f, round)
			checkAgain(t, f.View(), round)
			for i, v := range held {
				checkAgain(t, v, uint64(i)*5+4)
			}
		}
		if s := f.Space(); s.Pinned == 0 || s.OldestPin != held[0].Commit() {
			t.Fatalf("with pins: %+v", s)
		}
		for i, v := range held {
			v.Unpin(pins[i])
		}
		step(t, f, 25)
		step(t, f, 26)
		step(t, f, 27)
		if s := f.Space(); s.Pinned != 0 || s.Limbo != 0 || s.OldestPin != f.View().Commit() {
			t.Fatalf("without pins: %+v", s)
		}
		checkClean(t, f.View())
	}
}

// TestUnadoptedViewStays: as long as a View was not replaced by its caller, its
// readers may come at any moment.
func TestUnadoptedViewStays(t *testing.T) {
	f, _ := testFile(t, smallGrowth)
	old := f.View()
	tx := begin(t, f)
	must(t, writeRound(tx, 1))
	v, err := tx.commitBoth(nil)
	must(t, err)
	lack := f.Space()
	must(t, f.Reserve(lack.Free+1))
	scribble(t, f)
	checkAgain(t, old, 0)
	if f.Space().Limbo+f.Space().Pinned == 0 {
		t.Fatal("the old View's space is free before the new one was adopted")
	}
	v.Adopted()
	must(t, f.Reserve(f.Space().Free+1))
	if s := f.Space(); s.Limbo+s.Pinned != 0 {
		t.Fatalf("adopted: %+v", s)
	}
}

func TestReaderOfAnotherOpen(t *testing.T) {
	f, path := testFile(t, smallGrowth)
	reader, _, err := reopen(t, path, Options{ReadOnly: true})
	must(t, err)
	first := reader.View()
	for round := uint64(1); round < 12; round++ {
		step(t, f, round)
		checkAgain(t, first, 0)
	}
	if s := f.Space(); s.Pinned == 0 || s.OldestPin != 1 {
		t.Fatalf("with a reader: %+v", s)
	}
	pin := first.Pin()
	if newer, err := reader.Refresh(); !newer || err != nil {
		t.Fatalf("refresh: %v, %v", newer, err)
	}
	if newer, err := reader.Refresh(); newer || err != nil {
		t.Fatalf("second refresh: %v, %v", newer, err)
	}
	second := reader.View()
	checkAgain(t, second, 11)
	second.Adopted()
	step(t, f, 12)
	checkAgain(t, first, 0) // another reader of the same process still holds it
	first.Unpin(pin)
	second.Adopted()
	for round := uint64(13); round < 16; round++ {
		step(t, f, round)
		checkAgain(t, second, 11)
	}
	if s := f.Space(); s.OldestPin != 12 {
		t.Fatalf("with a refreshed reader: %+v", s)
	}
	reader.Close()
	step(t, f, 16)
	step(t, f, 17)
	step(t, f, 18)
	if s := f.Space(); s.Pinned+s.Limbo != 0 {
		t.Fatalf("without a reader: %+v", s)
	}
}

// TestWriterRespectsOlderReaders: a new writer finds the pins of readers that
// opened the file before it.
func TestWriterRespectsOlderReaders(t *testing.T) {
	f, path := testFile(t, smallGrowth)
	reader, _, err := reopen(t, path, Options{ReadOnly: true})
	must(t, err)
	for round := uint64(1); round < 5; round++ {
		step(t, f, round)
	}
	f.Close()
	f, report, err := reopen(t, path, smallGrowth)
	if err != nil || !report.UnreachedHeld {
		t.Fatalf("%+v, %v", report, err)
	}
	for round := uint64(5); round < 12; round++ {
		step(t, f, round)
		checkAgain(t, reader.View(), 0)
	}
	reader.Close()
	step(t, f, 12)
	step(t, f, 13)
	if s := f.Space(); s.Pinned != 0 {
		t.Fatalf("without a reader: %+v", s)
	}
	checkClean(t, f.View())
}

func TestLocks(t *testing.T) {
	f, path := testFile(t, Options{})
	if _, _, err := reopen(t, path, Options{}); !errors.Is(err, vfs.ErrLockHeld) {
		t.Fatalf("second writer: %v", err)
	}
	reader, _, err := reopen(t, path, Options{ReadOnly: true})
	must(t, err)
	if _, err := reader.Begin(); !errors.Is(err, ErrReadOnly) {
		t.Fatalf("begin on a reader: %v", err)
	}
	raw, err := vfs.OS().OpenFile(path, vfs.ReadOnly, 0)
	must(t, err)
	defer raw.Close()
	if p, err := ReadPayload(raw); err != nil || string(p) != "payload 0" {
		t.Fatalf("payload %q, %v", p, err)
	}
	size := f.Space().Size
	if err := f.Trim(0, nil); err != nil || f.Space().Size != size {
		t.Fatalf("trim beside a reader: %+v, %v", f.Space(), err)
	}
	f.Close()
	if err := f.Close(); !errors.Is(err, ErrClosed) {
		t.Fatalf("second close: %v", err)
	}
	again, _, err := reopen(t, path, Options{})
	must(t, err)
	reader.Close()
	if err := again.Trim(0, nil); err != nil || again.Space().Size >= size {
		t.Fatalf("trim alone: %+v, %v", again.Space(), err)
	}
	if _, _, err := reopen(t, path, Options{ReadOnly: true}); err != nil {
		t.Fatalf("after trim: %v", err)
	}
	checkAgain(t, again.View(), 0)
	checkClean(t, again.View())
	checkRound(t, commitRound(t, again, 1), 1)
}

// TestFullDisk: after a full disk the file can still be used. With a reader of an
// old root the error says so; when the reader ends, there is room again.
func TestFullDisk(t *testing.T) {
	fs := crashfs.New(crashfs.Options{Capacity: 256 << 10})
	f, raw := createOn(t, fs, Options{GrowStep: 32 << 10})
	defer raw.Close()
	defer f.Close()
	old := f.View()
	pin := old.Pin()
	round, err := uint64(1), error(nil)
	for ; round < 200 && err == nil; round++ {
		err = tryRound(f, round)
	}
	if !errors.Is(err, ErrSpacePinned) || !errors.Is(err, ErrNoSpace) {
		t.Fatalf("round %d: %v", round, err)
	}
	last := round - 2
	checkAgain(t, f.View(), last)
	checkAgain(t, old, 0)
	checkClean(t, f.View())
	if err := f.Reserve(1 << 30); !errors.Is(err, ErrNoSpace) {
		t.Fatalf("reserve: %v", err)
	}
	old.Unpin(pin)
	for round := last + 1; round < last+30; round++ {
		checkRound(t, commitRound(t, f, round), round)
	}
	checkClean(t, f.View())
}

func tryRound(f *File, round uint64) error {
	tx, err := f.Begin()
	if err != nil {
		return err
	}
	defer tx.Abort()
	if err := writeRound(tx, round); err != nil {
		return err
	}
	_, err = tx.Commit(nil)
	return err
}

// TestReadersWhileWriting: the race detector reports any reuse of bytes that a
// reader reads, because the mapping is the file's own memory.
func TestReadersWhileWriting(t *testing.T) {
	fs := crashfs.New(crashfs.Options{})
	f, raw := createOn(t, fs, smallGrowth)
	defer raw.Close()
	defer f.Close()
	stop := make(chan struct{})
	var readers sync.WaitGroup
	failed := make(chan error, 4)
	for range cap(failed) {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := readOnce(f); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	for round := uint64(1); round < 60; round++ {
		if err := tryRound(f, round); err != nil {
			t.Error(err)
		}
		if round%4 == 0 {
			if err := f.Settle(); err != nil {
				t.Error(err)
			}
		}
	}
	close(stop)
	readers.Wait()
	close(failed)
	for err := range failed {
		t.Error(err)
	}
	checkClean(t, f.View())
}

// readOnce reads rows of the newest View as a store would.
func readOnce(f *File) error {
	var v *View
	var pin Pin
	for {
		v = f.View()
		pin = v.Pin()
		if f.View() == v {
			break
		}
		v.Unpin(pin)
	}
	defer v.Unpin(pin)
	a, _, err := v.Attribute("/config", "round")
	if err != nil {
		return err
	}
	round := uint64(a.Data[0])
	rows, err := v.Dataset("/buckets/entries")
	if err != nil {
		return err
	}
	for i := range uint64(testRows) {
		r, ok := lastRound(i, round, 3)
		got, err := rows.Read(i, 0)
		if err != nil {
			return err
		}
		if ok && !bytes.Equal(got, rowBytes(i, r)[:rowChunk*entryBytes]) {
			return fmt.Errorf("row %d of round %d: other bytes", i, round)
		}
	}
	return nil
}

// TestReuseDelay: without a pin, what a root reaches stays as it is for the delay, unless
// much of the file waits, the disk is full, or the clock is set back.
func TestReuseDelay(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	o := Options{GrowStep: 16 << 20, ReuseDelay: 10 * time.Second, Clock: func() time.Time { return now }}
	f, _ := testFile(t, o)
	stranger := commitRound(t, f, 1)
	round := uint64(2)
	for ; round < 12; round++ {
		now = now.Add(900 * time.Millisecond)
		step(t, f, round)
		checkAgain(t, stranger, 1)
	}
	early := f.Space()
	for ; round < 20; round++ { // the delay of the first commits is over
		now = now.Add(900 * time.Millisecond)
		step(t, f, round)
	}
	if late := f.Space(); late.Limbo > early.Limbo+early.Limbo/4 {
		t.Errorf("%d bytes wait after 20 commits, %d after 12", late.Limbo, early.Limbo)
	}

	for ; round < 300; round++ { // the clock stands still
		commitRound(t, f, round)
	}
	if s := f.Space(); s.Limbo < s.Size/6 || s.Limbo > s.Size/4+early.Limbo {
		t.Errorf("%d bytes wait of %d", s.Limbo, s.Size)
	}
	now = now.Add(-time.Hour)
	step(t, f, round)
	step(t, f, round+1)
	if s := f.Space(); s.Limbo > early.Limbo {
		t.Errorf("the clock was set back, and %d bytes wait", s.Limbo)
	}
	checkClean(t, f.View())
}

func TestReuseDelayOnAFullDisk(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	fs := crashfs.New(crashfs.Options{Capacity: 256 << 10})
	f, raw := createOn(t, fs, Options{GrowStep: 32 << 10, ReuseDelay: time.Hour, Clock: func() time.Time { return now }})
	defer raw.Close()
	defer f.Close()
	for round := range uint64(60) {
		checkRound(t, commitRound(t, f, round), round)
	}
	checkClean(t, f.View())
}

// TestQuarantineOfMuch: what each commit frees is used again after two commits, and in a
// store at once where it is much of the file.
func TestQuarantineOfMuch(t *testing.T) {
	const size = 256 << 10
	for _, c := range []struct {
		plain bool
		most  int64 // bytes of the file
	}{{false, 7 * size / 2}, {true, 11 * size / 2}} {
		write := func(tx *Tx) error {
			_, err := tx.CreateDataset("/data", DatasetSpec{Type: Uint(8), Dims: []uint64{size / 8}, Zero: true})
			return err
		}
		raw, err := crashfs.New(crashfs.Options{}).OpenFile("db", vfs.ReadWrite|vfs.Create, 0o600)
		must(t, err)
		f, err := Create(raw, Options{UUID: testUUID, GrowStep: 4096, Plain: c.plain}, nil, write)
		must(t, err)
		for range 8 {
			tx := begin(t, f)
			err = errors.Join(tx.Remove("/data"), write(tx))
			if _, committed := tx.Commit(nil); errors.Join(err, committed, f.Settle()) != nil {
				t.Fatal(err, committed)
			}
		}
		if s := f.Space(); s.Size < c.most-size || s.Size > c.most {
			t.Errorf("plain %t: %d bytes, want %d to %d", c.plain, s.Size, c.most-size, c.most)
		}
		f.Close()
		raw.Close()
	}
}
