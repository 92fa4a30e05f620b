package hdf5io

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// change runs one transaction and checks what it leaves.
func change(t testing.TB, f *File, edit func(*Tx) error) *View {
	t.Helper()
	tx := begin(t, f)
	defer tx.Abort()
	must(t, edit(tx))
	v, err := tx.Commit(nil)
	must(t, err)
	checkClean(t, v)
	return v
}

// memoryStore makes the small file in memory.
func memoryStore(t testing.TB) (*File, *memoryFile) {
	t.Helper()
	m := &memoryFile{}
	f, err := Create(m, Options{UUID: testUUID, GrowStep: 32 << 10}, nil, buildTestTree)
	must(t, err)
	return f, m
}

func TestTreeEdits(t *testing.T) {
	f, m := memoryStore(t)
	v := change(t, f, func(tx *Tx) error {
		return errors.Join(
			tx.CreateGroup("/values"),
			tx.Move("/wal", "/values/wal_old"),
			tx.SetAttribute("/values/wal_old", uintAttribute("first", 7)),
			tx.SetAttribute("/", uintAttribute("top", 1)),
			tx.RemoveAttribute("/config", "round"))
	})
	children, attributes, err := v.Group("/")
	if err != nil || !slices.Equal(children, []string{"buckets", "config", "values"}) || len(attributes) != 1 {
		t.Fatalf("%v, %v, %v", children, attributes, err)
	}
	if a, ok, err := v.Attribute("/values/wal_old", "first"); err != nil || !ok || a.Data[0] != 7 {
		t.Fatalf("%v, %v, %v", a, ok, err)
	}
	if _, ok, err := v.Attribute("/config", "round"); err != nil || ok {
		t.Fatalf("removed attribute: %v, %v", ok, err)
	}
	v = change(t, f, func(tx *Tx) error { return tx.Remove("/buckets") })
	if _, err := v.Dataset("/buckets/state"); !errors.Is(err, ErrNotFound) {
		t.Fatalf("removed dataset: %v", err)
	}
	v = change(t, f, func(tx *Tx) error { return tx.Remove("/values") })
	must(t, f.Settle())
	again, _, err := Open(m, Options{})
	must(t, err)
	if stats := checkClean(t, again.View()); stats.Groups != 2 || stats.Datasets != 0 || stats.Used > 1024 {
		t.Fatalf("an empty tree: %+v", stats)
	}
	if v.Commit() != again.View().Commit() {
		t.Fatalf("commit %d, want %d", again.View().Commit(), v.Commit())
	}
}

// TestRefusedEdits: what cannot be done is an error, and the Tx can be aborted.
func TestRefusedEdits(t *testing.T) {
	f, _ := memoryStore(t)
	row := rowBytes(0, 0)[:rowChunk*entryBytes]
	for name, edit := range map[string]func(*Tx) error{
		"group is there":    func(tx *Tx) error { return tx.CreateGroup("/config") },
		"no parent":         func(tx *Tx) error { return tx.CreateGroup("/none/group") },
		"parent is dataset": func(tx *Tx) error { return tx.CreateGroup("/wal/group") },
		"relative path":     func(tx *Tx) error { return tx.CreateGroup("group") },
		"name of a dot":     func(tx *Tx) error { return tx.CreateGroup("/config/.") },
		"move to a dot":     func(tx *Tx) error { return tx.Move("/config", "/.") },
		"empty name":        func(tx *Tx) error { return tx.CreateGroup("/config//group") },
		"root":              func(tx *Tx) error { return tx.Remove("/") },
		"remove nothing":    func(tx *Tx) error { return tx.Remove("/none") },
		"move into itself":  func(tx *Tx) error { return tx.Move("/buckets", "/buckets/state") },
		"move onto another": func(tx *Tx) error { return tx.Move("/wal", "/config") },
		"no attribute":      func(tx *Tx) error { return tx.RemoveAttribute("/config", "none") },
		"the map's":         func(tx *Tx) error { return tx.RemoveAttribute("/buckets/state", mapAttribute) },
		"place nothing":     func(tx *Tx) error { _, err := tx.Place(nil); return err },
		"group as dataset":  func(tx *Tx) error { _, err := tx.Dataset("/config"); return err },
		"map twice":         func(tx *Tx) error { return createPages(tx, "/second", 1, 1) },
		"map of two ranks":  func(tx *Tx) error { return createPages(tx, "/second", 3, 1) },
		"payload too long":  func(tx *Tx) error { _, err := tx.Commit(make([]byte, MaxPayload+1)); return err },
		"chunk outside":     func(tx *Tx) error { return writeChunk(tx, row, testRows, 0) },
		"chunk of one rank": func(tx *Tx) error { return writeChunk(tx, row, 1) },
		"chunk too short":   func(tx *Tx) error { return writeChunk(tx, row[:8], 0, 0) },
		"page outside": func(tx *Tx) error {
			d, _ := tx.Dataset("/buckets/state")
			return d.WritePage(testPages, pageBytes(0, 0), Marks{})
		},
		"page of no map":     func(tx *Tx) error { d, _ := tx.Dataset("/buckets/entries"); return d.WritePage(0, row, Marks{}) },
		"resize contiguous":  func(tx *Tx) error { d, _ := tx.Dataset("/wal"); return d.Resize(1) },
		"resize other ranks": func(tx *Tx) error { d, _ := tx.Dataset("/buckets/state"); return d.Resize(1, 1) },
	} {
		before := f.Space()
		tx := begin(t, f)
		if _, err := f.Begin(); !errors.Is(err, ErrTxOpen) {
			t.Fatalf("second Begin: %v", err)
		}
		_, err := tx.Place(make([]byte, 5000))
		must(t, err)
		if err := edit(tx); err == nil {
			t.Errorf("%s: no error", name)
		}
		tx.Abort()
		tx.Abort()
		if _, err := tx.Commit(nil); err == nil {
			t.Errorf("%s: committed after Abort", name)
		}
		if after := f.Space(); after.Free+after.Fragments != before.Free+before.Fragments+after.Size-before.Size {
			t.Errorf("%s: space %+v, before %+v", name, after, before)
		}
	}
	checkRound(t, f.View(), 0)
	checkRound(t, commitRound(t, f, 1), 1)
	checkClean(t, f.View())
}

func createPages(tx *Tx, path string, chunkMap ChunkMap, chunks uint64) error {
	_, err := tx.CreateDataset(path, DatasetSpec{
		Type: Uint(8), Dims: []uint64{chunks}, MaxDims: []uint64{undefinedAddress}, Chunk: []uint32{1}, Map: chunkMap,
	})
	return err
}

func writeChunk(tx *Tx, data []byte, coord ...uint64) error {
	d, err := tx.Dataset("/buckets/entries")
	if err != nil {
		return err
	}
	if _, err := d.Write(data, coord...); err != nil {
		return err
	}
	_, err = tx.Commit(nil)
	return err
}

// TestLastEditCounts: of several edits of a chunk in one Tx the last is committed
// and what the others placed is free.
func TestLastEditCounts(t *testing.T) {
	f, _ := memoryStore(t)
	v := change(t, f, func(tx *Tx) error {
		rows := dataset(t, tx, "/buckets/entries")
		state := dataset(t, tx, "/buckets/state")
		for round := range uint64(3) {
			_, err := rows.Write(rowBytes(5, round)[:rowChunk*entryBytes], 5, 0)
			must(t, err, state.WritePage(2, pageBytes(2, round), Marks{}))
		}
		rows.Delete(3, 0)
		rows.Delete(39, 1)
		_, err := rows.Write(rowBytes(39, 9)[:rowChunk*entryBytes], 39, 1)
		return err
	})
	rows := dataset(t, v, "/buckets/entries")
	if p, err := rows.Read(5, 0); err != nil || !bytes.Equal(p, rowBytes(5, 2)[:rowChunk*entryBytes]) {
		t.Fatalf("row 5: %v", err)
	}
	if p, err := rows.Read(3, 0); err != nil || p != nil {
		t.Fatalf("row 3: %d bytes, %v", len(p), err)
	}
	if p, err := rows.Read(39, 1); err != nil || p == nil {
		t.Fatalf("row 39: %d bytes, %v", len(p), err)
	}
	state := dataset(t, v, "/buckets/state")
	if p, err := state.Page(2); err != nil || !bytes.Equal(p.Data(), pageBytes(2, 2)) {
		t.Fatalf("page 2: %v", err)
	}
}

// TestMarks: a page keeps its marks as long as it is the same, and the page that
// replaces it gets those that the writer says.
func TestMarks(t *testing.T) {
	f, _ := memoryStore(t)
	page := func(v *View, i uint64) *Page {
		d := dataset(t, v, "/buckets/state")
		p, err := d.Page(i)
		must(t, err)
		return p
	}
	for _, i := range []int{0, 1, 63, 64, 127} {
		page(f.View(), 0).Mark(i)
	}
	old := page(f.View(), 2)
	v := change(t, f, func(tx *Tx) error {
		d := dataset(t, tx, "/buckets/state")
		return d.WritePage(0, pageBytes(0, 1), Marks{1 | 1<<63, 1 << 63})
	})
	for i := range PageMarks {
		if want := i == 0 || i == 63 || i == 127; page(v, 0).Marked(i) != want {
			t.Errorf("mark %d: %v", i, !want)
		}
	}
	if page(v, 2) != old {
		t.Error("a page that is the same is another")
	}
}

// writeNumbers writes the numbers of each step-th page of /many to it.
func writeNumbers(tx *Tx, from, to, step uint64) error {
	d, err := tx.Dataset("/many")
	for i := from; i < to && err == nil; i += step {
		err = d.WritePage(i, binary.LittleEndian.AppendUint64(nil, i), Marks{})
	}
	return err
}

// TestLargeChunkMap: a map of three levels grows, is changed in places, read again,
// cut back and dropped.
func TestLargeChunkMap(t *testing.T) {
	f, m := memoryStore(t)
	const many = mapLeafChunks*mapFanout + 500
	check := func(v *View, want uint64) {
		t.Helper()
		d := dataset(t, v, "/many")
		for i := uint64(0); i < want; i += 97 {
			if p, err := d.Page(i); err != nil || p == nil || !bytes.Equal(p.Data(), binary.LittleEndian.AppendUint64(nil, i)) {
				t.Fatalf("page %d of %d: %v, %v", i, want, p, err)
			}
		}
		if p, err := d.Page(want); p != nil || err != nil {
			t.Fatalf("page %d: %v, %v", want, p, err)
		}
	}
	for _, n := range []uint64{1, mapLeafChunks, mapLeafChunks + 1, 3000, many} {
		check(change(t, f, func(tx *Tx) error {
			if n == 1 {
				must(t, createPages(tx, "/many", 2, n))
			}
			d := dataset(t, tx, "/many")
			had := d.Dims()[0]
			must(t, d.Resize(n))
			return writeNumbers(tx, had-had%2, n, 1)
		}), n)
	}
	if depth := f.View().maps[1].root().depth; depth != 2 {
		t.Fatalf("depth %d", depth)
	}
	check(change(t, f, func(tx *Tx) error { return writeNumbers(tx, 50, many, 5000) }), many)
	f.Close()
	f, _, err := Open(m, Options{})
	must(t, err)
	check(f.View(), many)
	v := change(t, f, func(tx *Tx) error {
		d := dataset(t, tx, "/many")
		return d.Resize(100)
	})
	check(v, 100)
	v = change(t, f, func(tx *Tx) error {
		must(t, tx.Remove("/many"))
		return createPages(tx, "/another", 2, 5)
	})
	if v.maps[1].count != 0 {
		t.Fatalf("%d pages of a dataset that is gone", v.maps[1].count)
	}
}

// unsyncedFile counts the bytes that no sync has followed.
type unsyncedFile struct {
	*memoryFile
	now, most int
}

func (f *unsyncedFile) WriteAt(p []byte, off int64) error {
	f.now += len(p)
	f.most = max(f.most, f.now)
	return f.memoryFile.WriteAt(p, off)
}

func (f *unsyncedFile) Datasync() error { f.now = 0; return nil }
func (f *unsyncedFile) Sync() error     { f.now = 0; return nil }

// TestZerosDoNotPileUp: what others sync never waits for many zeros.
func TestZerosDoNotPileUp(t *testing.T) {
	m := &unsyncedFile{memoryFile: &memoryFile{}}
	f, err := Create(m, Options{UUID: testUUID, GrowStep: 32 << 10}, nil, buildTestTree)
	must(t, err)
	m.now, m.most = 0, 0
	change(t, f, func(tx *Tx) error {
		must(t, writeRound(tx, 1))
		_, err := tx.CreateDataset("/ring", DatasetSpec{Type: Uint(8), Dims: []uint64{6<<17 + 5}, Zero: true})
		must(t, err)
		if m.most < zerosAtOnce || m.most > zerosAtOnce+writeUnit {
			t.Errorf("%d bytes waited for a sync, want about %d", m.most, zerosAtOnce)
		}
		must(t, tx.Sync())
		if m.now != 0 {
			t.Errorf("%d bytes wait after Sync", m.now)
		}
		return nil
	})
	tx := begin(t, f)
	tx.Abort()
	if err := tx.Sync(); err == nil {
		t.Error("Sync after Abort returned no error")
	}
}

func TestContiguous(t *testing.T) {
	f, m := memoryStore(t)
	var offset, size int64
	change(t, f, func(tx *Tx) error {
		must(t, writeRound(tx, 1)) // out of step with 4,096
		d, err := tx.CreateDataset("/ring", DatasetSpec{Type: Uint(8), Dims: []uint64{5 << 17}, Zero: true})
		must(t, err)
		offset, size = d.Extent()
		return tx.Remove("/wal")
	})
	if offset%growUnit != 0 || size != 5<<20 {
		t.Fatalf("%d bytes at %#x", size, offset)
	}
	if !bytes.Equal(m.p[offset:offset+size], make([]byte, size)) {
		t.Fatal("not zero")
	}
	r := f.Region(offset, size)
	want := bytes.Repeat([]byte("log "), 1024)
	must(t, r.WriteSync(want, size-4096), r.WriteAt(want, 0), r.Datasync())
	got := make([]byte, 4096)
	if n, err := r.ReadAt(got, size-4096); n != 4096 || err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d, %v", n, err)
	}
	for _, off := range []int64{-1, size - 4095, size + 1, 1 << 62} {
		if err := r.WriteAt(want, off); !errors.Is(err, errOutside) {
			t.Errorf("write at %d: %v", off, err)
		}
		if _, err := r.ReadAt(got, off); !errors.Is(err, errOutside) {
			t.Errorf("read at %d: %v", off, err)
		}
	}
	if f.Failed() != nil {
		t.Fatal(f.Failed())
	}
}

// TestPool compares the pool with a map of bytes.
func TestPool(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var p pool
		const units = 4096
		free := make([]bool, units) // by ExtentUnit
		var taken []extent
		mark := func(e extent, to bool) {
			for u := e.start / ExtentUnit; u < e.end()/ExtentUnit; u++ {
				if free[u] == to {
					t.Fatalf("byte %#x is owned twice", u*ExtentUnit)
				}
				free[u] = to
			}
		}
		add := func(e extent) { p.put(e); mark(e, true) }
		add(extent{0, units * ExtentUnit / 2})
		t.Repeat(map[string]func(*rapid.T){
			"take": func(t *rapid.T) {
				least := ExtentUnit * rapid.Uint64Range(1, 300).Draw(t, "least")
				e, ok := p.take(least, ExtentUnit*rapid.Uint64Range(0, 400).Draw(t, "most"))
				if !ok {
					return
				}
				if e.size < least || e.start%sectorSize != 0 || e.size%sectorSize != 0 {
					t.Fatalf("%+v for %d bytes", e, least)
				}
				mark(e, false)
				taken = append(taken, e)
			},
			"put": func(t *rapid.T) {
				if len(taken) == 0 {
					t.Skip("nothing taken")
				}
				i := rapid.IntRange(0, len(taken)-1).Draw(t, "which")
				e := taken[i]
				first := ExtentUnit * rapid.Uint64Range(0, e.size/ExtentUnit).Draw(t, "first")
				add(extent{e.start, first})
				taken[i] = extent{e.start + first, e.size - first}
			},
			"order": func(t *rapid.T) {
				must(t, p.putAll(nil))
			},
			"": func(t *rapid.T) {
				bytes := uint64(0)
				for _, f := range free {
					if f {
						bytes += ExtentUnit
					}
				}
				if p.bytes != bytes || p.usable > p.bytes {
					t.Fatalf("%d bytes, %d usable, want %d", p.bytes, p.usable, bytes)
				}
			},
		})
		_, err := p.extents()
		must(t, err)
		if sumExtents(p.list) != p.bytes {
			t.Fatal("lost bytes")
		}
		p.put(extent{0, units * ExtentUnit})
		if _, err := p.extents(); err == nil && p.bytes != units*ExtentUnit {
			t.Fatal("overlapping extents pass")
		}
	})
}

func TestFreeMapRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var m freeMap
		at := uint64(FirstExtent)
		for range rapid.IntRange(0, 40).Draw(t, "extents") {
			e := extent{at + ExtentUnit*rapid.Uint64Range(1, 1<<20).Draw(t, "gap"), ExtentUnit * rapid.Uint64Range(1, 1<<30).Draw(t, "size")}
			at = e.end()
			if rapid.Bool().Draw(t, "freed") {
				m.freed = append(m.freed, e)
			} else {
				m.free = append(m.free, e)
			}
		}
		p := append(m.append(nil), make([]byte, rapid.IntRange(0, 70).Draw(t, "zeros"))...)
		got, err := parseFreeMap(p, 0, at)
		if err != nil || !slices.Equal(got.free, m.free) || !slices.Equal(got.freed, m.freed) {
			t.Fatalf("%+v, %v, want %+v", got, err, m)
		}
		if len(m.free)+len(m.freed) > 0 {
			if _, err := parseFreeMap(p, 0, at-ExtentUnit); err == nil {
				t.Fatal("an extent beyond the end of the file passes")
			}
			if _, err := parseFreeMap(m.append(nil)[:len(m.append(nil))-1], 0, at); err == nil {
				t.Fatal("a cut map passes")
			}
		}
	})
}

// TestCheckFinds: Check names each of a few defects, without the help of Open.
func TestCheckFinds(t *testing.T) {
	for name, damage := range map[string]func(f *File, m *memoryFile) uint64{
		"header": func(f *File, m *memoryFile) uint64 { return f.View().groups["/config"].address + 20 },
		"index": func(f *File, m *memoryFile) uint64 {
			return f.View().datasets["/buckets/entries"].object.dataset.address + 9
		},
		"node": func(f *File, m *memoryFile) uint64 {
			return f.View().datasets["/buckets/entries"].object.index.root + 9
		},
		"page":       func(f *File, m *memoryFile) uint64 { return f.View().maps[0].page(0).address + 9 },
		"filter":     func(f *File, m *memoryFile) uint64 { return f.View().maps[0].page(0).address + pageRows*8 },
		"map":        func(f *File, m *memoryFile) uint64 { return f.View().maps[0].root().address + 4095 },
		"free map":   func(f *File, m *memoryFile) uint64 { return f.View().slot.freeMapAddress + 1 },
		"slot":       func(f *File, m *memoryFile) uint64 { return uint64(slotOffset(0)) + 3000 },
		"superblock": func(f *File, m *memoryFile) uint64 { return 40 },
	} {
		f, m := memoryStore(t)
		m.p[damage(f, m)] ^= 0x10
		reported := 0
		_, err := f.View().Check(context.Background(), func(error) { reported++ })
		if err == nil || reported == 0 {
			t.Errorf("%s: %v, %d reports", name, err, reported)
		}
		for _, limit := range []int64{1, 5000, math.MaxInt64} {
			reported, parts, read := 0, 0, int64(0)
			place, more := Place{}, true
			for ; more; parts++ {
				var n int64
				place, more, n = f.View().CheckPart(context.Background(), place, limit, func(error) { reported++ })
				read += n
			}
			if reported == 0 || read == 0 || (parts == 1) != (limit > 1<<30) {
				t.Errorf("%s, in %d parts of %d bytes: %d reports, %d bytes read", name, parts, limit, reported, read)
			}
		}
	}
	f, _ := memoryStore(t)
	sound := 0
	for place, more := (Place{}), true; more; {
		place, more, _ = f.View().CheckPart(context.Background(), place, 1, func(err error) { t.Errorf("a sound file: %v", err) })
		if sound++; sound > 10_000 {
			t.Fatalf("no end, at %+v", place)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := f.View().Check(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, more, _ := f.View().CheckPart(ctx, Place{}, 1, nil); more {
		t.Error("cancelled: there is another part")
	}
}
