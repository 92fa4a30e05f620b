package hdf5io

import (
	"bytes"
	"encoding/binary"
	"errors"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"

	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/vfs"
)

// The small file that most tests use: a dataset of 8 pages with a chunk map, rows of two
// chunks, a log, and an attribute that says how often it was changed.
const (
	testRows   = 40
	testPages  = 8
	testLog    = 4096
	pageRows   = 64
	rowChunk   = 4 // entries of a chunk
	entryBytes = 48
)

var testUUID = [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}

func testEntry() Datatype {
	return Compound(entryBytes, Field{Name: "key", Type: Uint(8)}, Field{Name: "rest", Offset: 8, Type: Array(Uint(8), 5)})
}

func uintAttribute(name string, value uint64) Attribute {
	return Attribute{Name: name, Type: Uint(8), Data: binary.LittleEndian.AppendUint64(nil, value)}
}

// buildTestTree makes the tree of the small file.
func buildTestTree(tx *Tx) error {
	for _, path := range []string{"/config", "/buckets"} {
		if err := tx.CreateGroup(path); err != nil {
			return err
		}
	}
	unlimited := []uint64{undefinedAddress, undefinedAddress}
	if _, err := tx.CreateDataset("/buckets/entries", DatasetSpec{
		Type: testEntry(), Dims: []uint64{testRows, 2 * rowChunk}, MaxDims: unlimited, Chunk: []uint32{1, rowChunk},
	}); err != nil {
		return err
	}
	if _, err := tx.CreateDataset("/buckets/state", DatasetSpec{
		Type: Uint(8), Dims: []uint64{testPages * pageRows}, MaxDims: unlimited[:1], Chunk: []uint32{pageRows}, Fletcher32: true, Map: 1,
	}); err != nil {
		return err
	}
	if _, err := tx.CreateDataset("/wal", DatasetSpec{Type: Uint(8), Dims: []uint64{testLog / 8}, Zero: true}); err != nil {
		return err
	}
	return writeRound(tx, 0)
}

// writeRound changes rows, pages and the attribute, in each round in another way.
func writeRound(tx *Tx, round uint64) error {
	if err := tx.SetAttribute("/config", uintAttribute("round", round)); err != nil {
		return err
	}
	rows, err := tx.Dataset("/buckets/entries")
	if err != nil {
		return err
	}
	for i := round % 3; i < testRows; i += 3 {
		data := rowBytes(i, round)
		address, err := tx.Place(data)
		if err != nil {
			return err
		}
		const chunk = rowChunk * entryBytes
		rows.Put(address, chunk, i, 0)
		rows.Put(address+chunk, chunk, i, 1)
	}
	state, err := tx.Dataset("/buckets/state")
	if err != nil {
		return err
	}
	for i := round % 2; i < testPages; i += 2 {
		if err := state.WritePage(i, pageBytes(i, round), Marks{}); err != nil {
			return err
		}
	}
	return nil
}

func rowBytes(row, round uint64) []byte {
	p := make([]byte, 2*rowChunk*entryBytes)
	for i := 0; i < len(p); i += 8 {
		binary.LittleEndian.PutUint64(p[i:], row<<32|round<<16|uint64(i))
	}
	return p
}

func pageBytes(page, round uint64) []byte {
	p := make([]byte, pageRows*8)
	for i := 0; i < len(p); i += 8 {
		binary.LittleEndian.PutUint64(p[i:], page<<40|round<<20|uint64(i))
	}
	return p
}

// lastRound is the last round up to round that changed what is changed every
// step rounds, beginning with that of index % step; ok is false before that.
func lastRound(index, round, step uint64) (last uint64, ok bool) {
	for r := int64(round); r >= 0; r-- {
		if uint64(r)%step == index%step {
			return uint64(r), true
		}
	}
	return 0, false
}

// checkRound reads the whole tree and compares it with what writeRound wrote.
func checkRound(t testing.TB, v *View, round uint64) {
	t.Helper()
	a, ok, err := v.Attribute("/config", "round")
	if err != nil || !ok || binary.LittleEndian.Uint64(a.Data) != round {
		t.Fatalf("attribute round: % x, %v, %v; want %d", a.Data, ok, err, round)
	}
	rows := dataset(t, v, "/buckets/entries")
	for i := range uint64(testRows) {
		r, ok := lastRound(i, round, 3)
		want := rowBytes(i, r)
		for k := range uint64(2) {
			got, err := rows.Read(i, k)
			if err != nil || (got != nil) != ok {
				t.Fatalf("row %d: %d bytes, %v", i, len(got), err)
			}
			if ok && !bytes.Equal(got, want[k*rowChunk*entryBytes:][:rowChunk*entryBytes]) {
				t.Fatalf("row %d chunk %d of round %d: other bytes", i, k, round)
			}
		}
	}
	state := dataset(t, v, "/buckets/state")
	for i := range uint64(testPages) {
		r, ok := lastRound(i, round, 2)
		page, err := state.Page(i)
		if err != nil || (page != nil) != ok {
			t.Fatalf("page %d: %v", i, err)
		}
		if ok && !bytes.Equal(page.Data(), pageBytes(i, r)) {
			t.Fatalf("page %d of round %d: other bytes", i, round)
		}
		if again, err := state.Read(i); ok && (err != nil || !bytes.Equal(again, page.Data())) {
			t.Fatalf("page %d through the index: %v", i, err)
		}
	}
}

// testFile creates the small file and returns its path, and a function that opens it again.
func testFile(t testing.TB, o Options) (*File, string) {
	t.Helper()
	o.UUID = testUUID
	path := filepath.Join(t.TempDir(), "test.h5")
	raw, err := vfs.OS().OpenFile(path, vfs.ReadWrite|vfs.Create|vfs.Exclusive, 0o600)
	must(t, err)
	f, err := Create(raw, o, []byte("payload 0"), buildTestTree)
	must(t, err)
	t.Cleanup(func() { f.Close(); raw.Close() })
	return f, path
}

func reopen(t testing.TB, path string, o Options) (*File, OpenReport, error) {
	t.Helper()
	flag := vfs.ReadWrite
	if o.ReadOnly {
		flag = vfs.ReadOnly
	}
	raw, err := vfs.OS().OpenFile(path, flag, 0)
	must(t, err)
	f, report, err := Open(raw, o)
	if err != nil {
		raw.Close()
		return nil, report, err
	}
	t.Cleanup(func() { f.Close(); raw.Close() })
	return f, report, nil
}

func commitRound(t testing.TB, f *File, round uint64) *View {
	t.Helper()
	tx := begin(t, f)
	defer tx.Abort()
	must(t, writeRound(tx, round))
	v, err := tx.Commit([]byte("payload"))
	must(t, err)
	return v
}

func TestCommitAndReopen(t *testing.T) {
	for _, o := range []Options{{GrowStep: 1 << 16}, {NoMmap: true}} {
		f, path := testFile(t, o)
		checkRound(t, f.View(), 0)
		for round := uint64(1); round < 20; round++ {
			v := commitRound(t, f, round)
			if v.Commit() != Commit(round+1) || string(v.Payload()) != "payload" {
				t.Fatalf("commit %d with payload %q, want %d", v.Commit(), v.Payload(), round+1)
			}
			checkRound(t, v, round)
		}
		f.Close()
		again, report, err := reopen(t, path, o)
		must(t, err)
		if report.FellBack != nil || report.SuperblockStale || report.Commit != 20 || report.SlotValid != [2]bool{true, true} {
			t.Fatalf("report %+v", report)
		}
		checkRound(t, again.View(), 19)
		checkRound(t, commitRound(t, again, 20), 20)
	}
}

// TestPoolFits: on a full disk the shortest of the extents that are long enough is
// found, after however many that are not, and no more of it is taken than a run.
func TestPoolFits(t *testing.T) {
	var p pool
	var list []extent
	at := uint64(FirstExtent)
	for range 40 {
		list = append(list, extent{at, 8704})
		at += 16 << 10
	}
	list = append(list, extent{at, 15 << 10}, extent{at + 32<<10, 1 << 20})
	must(t, p.putAll(list))
	if e, ok := p.fit(12 << 10); !ok || e != (extent{at, 12 << 10}) {
		t.Errorf("12 KiB: %+v, %t", e, ok)
	}
	if e, ok := p.fit(1000); !ok || e.size != 3<<10 {
		t.Errorf("1,000 bytes: %+v, %t, want what is left of the 15 KiB", e, ok)
	}
	if e, ok := p.fit(600 << 10); !ok || e.size != 600<<10 {
		t.Errorf("600 KiB: %+v, %t", e, ok)
	}
	if e, ok := p.fit(600 << 10); ok {
		t.Errorf("600 KiB of 424: %+v", e)
	}
}

// TestPageOfAnUnmappedDataset: a caller that asks for a page expects a chunk map, so it
// is damage if the dataset has none.
func TestPageOfAnUnmappedDataset(t *testing.T) {
	f, _ := testFile(t, Options{})
	d := dataset(t, f.View(), "/buckets/entries")
	for name, page := range map[string]func(uint64) (*Page, error){"Page": d.Page, "PageAgain": d.PageAgain} {
		if p, err := page(0); p != nil || !errors.Is(err, corrupt.Err) {
			t.Errorf("%s = %v, %v, want an error that matches corrupt.Err", name, p, err)
		}
	}
}

func must(t rapid.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// dataset opens the dataset at a path: of a View to be read, of a Tx to be changed.
func dataset[D any](t rapid.TB, from interface{ Dataset(string) (D, error) }, path string) D {
	t.Helper()
	d, err := from.Dataset(path)
	must(t, err)
	return d
}

func begin(t rapid.TB, f *File) *Tx {
	t.Helper()
	tx, err := f.Begin()
	must(t, err)
	return tx
}

// TestLookupPathAllocatesNothing: what a lookup of the store asks of this package.
func TestLookupPathAllocatesNothing(t *testing.T) {
	f, _ := testFile(t, Options{})
	v := f.View()
	d := dataset(t, v, "/buckets/state")
	page, err := d.Page(2)
	must(t, err)
	n := testing.AllocsPerRun(100, func() {
		pin := v.Pin()
		p, err := d.Page(2)
		if err != nil || p.Marked(3) {
			t.Fatal(err)
		}
		if b, err := v.Bytes(page.Offset(), 512); err != nil || len(b) != 512 {
			t.Fatal(err)
		}
		v.Unpin(pin)
	})
	if n != 0 {
		t.Fatalf("%v allocations", n)
	}
}
