package bucket

import (
	"cmp"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/internal/invariants"
	"github.com/cidstore/cidstore/keys"
)

// damaged is a world with a few groups and two runs over them.
func damaged(t *testing.T) *world {
	w := newWorld(t, 8)
	r := rand.New(rand.NewPCG(7, 8))
	w.commit(w.changes(r, 120, 150), false, 0, func(*State) bool { return true })
	w.commit(w.changes(r, 30, 150), false, 0, func(*State) bool { return false })
	w.commit(w.changes(r, 20, 150), false, 0, func(*State) bool { return false })
	w.holds()
	return w
}

// TestFlipEveryBit flips each bit of rows, pages and runs. Each read is right or an
// error, and Check finds the damage.
func TestFlipEveryBit(t *testing.T) {
	w, step := damaged(t), invariants.Sparse
	if testing.Short() { // as emulated machines do
		step = 11
	}
	for _, e := range w.places() {
		b := make([]byte, e.size)
		_, err := w.raw.ReadAt(b, e.at)
		must(t, err)
		for bit := 0; bit < 8*len(b); bit += step * (1 + bit%3) {
			b[bit/8] ^= 1 << (bit % 8)
			must(t, w.raw.WriteAt(b[bit/8:bit/8+1], e.at+int64(bit/8)))
			w.survives(e.name, bit)
			b[bit/8] ^= 1 << (bit % 8)
			must(t, w.raw.WriteAt(b[bit/8:bit/8+1], e.at+int64(bit/8)))
		}
	}
	w.open(FirstTouch, false)
	w.holds()
}

type place struct {
	name     string
	at, size int64
}

// places are where the bytes of the groups and runs lie.
func (w *world) places() (list []place) {
	for _, id := range w.groups[:2] {
		s, err := w.table.State(id)
		must(w.t, err)
		size := (w.g.chunks(int(s.Entries)) + w.g.chunks(int(s.Mores))) * w.g.chunkBytes()
		list = append(list, place{groupName(id), int64(s.RowAddress), int64(size)})
	}
	for i := range w.table.runs {
		r := &w.table.runs[i]
		list = append(list,
			place{"entries", int64(r.entriesAt), int64(r.entries) * EntrySize}, place{"more", int64(r.moresAt), int64(r.mores) * moreSize},
			place{"tags", int64(r.tagsAt), int64(r.entries) * tagSize}, place{"index", int64(r.indexAt), int64(r.slots+1) * slotSize})
	}
	return list
}

func (w *world) survives(name string, bit int) {
	w.t.Helper()
	table, err := NewTable(w.file.View(), w.g, w.uuid, w.hasher, FirstTouch, nil)
	must(w.t, err)
	w.table = table
	for _, p := range []*hdf5io.Dataset{table.states} { // what was verified is verified again
		for i := range p.Pages() {
			if _, err := p.PageAgain(i); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	table.verify = Always
	for key, want := range w.model {
		e, found, err := table.Find(w.groupOf(want.Hash), want.Hash, key)
		if err == nil && (!found || e.Item(want.Hash) != want) {
			w.t.Fatalf("%s, bit %d: key %v is wrong or absent (found %v), want %+v", name, bit, key, found, want)
		}
		if err != nil && !errors.Is(err, corrupt.Err) {
			w.t.Fatalf("%s, bit %d: %v", name, bit, err)
		}
	}
	defects := 0
	checker := table.NewChecker(func(err error) {
		if defects++; !errors.Is(err, corrupt.Err) {
			w.t.Fatalf("%s, bit %d: %v", name, bit, err)
		}
	})
	for _, id := range w.groups {
		items, _ := table.Items(nil, id)
		for _, it := range items {
			if it != w.model[it.Key] {
				w.t.Fatalf("%s, bit %d: item %+v, want %+v", name, bit, it, w.model[it.Key])
			}
		}
		checker.Group(id)
	}
	checker.Slots(0, 1)
	checker.Finish()
	if corrected, _ := table.damage.Counters(); defects == 0 && corrected == 0 {
		w.t.Fatalf("%s, bit %d: Check finds nothing", name, bit)
	}
}

// TestWriterRefusesDamage: what cannot be verified is neither folded nor taken in.
func TestWriterRefusesDamage(t *testing.T) {
	w := damaged(t)
	s, err := w.table.State(0)
	must(t, err)
	must(t, w.raw.WriteAt([]byte{0xff, 0xff, 0xff}, int64(s.RowAddress)))
	w.open(FirstTouch, false)
	tx, err := w.file.Begin()
	must(t, err)
	defer tx.Abort()
	writer, err := NewWriter(tx, w.table, 3, nil)
	must(t, err)
	if _, err := writer.Fold(0, nil); !errors.Is(err, corrupt.Err) {
		t.Errorf("fold of a damaged group: %v", err)
	}
	if err := writer.Rewrite(0, State{}, make([]Item, w.g.Capacity+1)); !errors.Is(err, errCapacity) {
		t.Errorf("too many items: %v", err)
	}
}

// FuzzPage: no page makes check panic, and none that passes leads outside the file.
func FuzzPage(f *testing.F) {
	g := NewGeometry(4)
	w := newWorld(f, 4)
	w.commit(w.changes(rand.New(rand.NewPCG(1, 2)), 40, 50), false, 0, func(*State) bool { return true })
	_, p, err := w.table.page(0)
	must(f, err)
	f.Add([]byte(p))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) != g.pageSize() {
			return
		}
		const end = 1 << 20
		p := page(b)
		if err := p.check(3, 0, g, end); err != nil {
			if !errors.Is(err, corrupt.Err) {
				t.Fatal(err)
			}
			return
		}
		s := p.state()
		if size := uint64(g.chunks(int(s.Entries))+g.chunks(int(s.Mores))) * uint64(g.chunkBytes()); s.RowAddress+size > end {
			t.Fatalf("row of %d bytes at %#x", size, s.RowAddress)
		}
		for i := range s.Buckets() {
			b := p.span(i)
			if b.first > b.end || b.end > int(s.Entries) || b.firstMore > b.endMore || b.endMore > int(s.Mores) {
				t.Fatalf("bucket %d is %+v", i, b)
			}
			lowerTag(p.tags(g)[b.first*tagSize:b.end*tagSize], b.end-b.first, 7)
		}
	})
}

// FuzzRun: no run record or index makes check panic, and none that passes leads
// outside the file.
func FuzzRun(f *testing.F) {
	w := newWorld(f, 4)
	w.commit(w.changes(rand.New(rand.NewPCG(1, 2)), 40, 50), false, 0, func(*State) bool { return false })
	r := &w.table.runs[0]
	f.Add(r.append(nil), r.index)
	f.Fuzz(func(t *testing.T, record, index []byte) {
		if len(record) != runRecordSize {
			return
		}
		const end = 1 << 20
		r := parseRun(record)
		if err := r.check(record, nil, 100, end); err != nil {
			return
		}
		if uint64(len(index)) != (uint64(r.slots)+1)*slotSize || r.checkIndex(index) != nil {
			return
		}
		r.body = &body{index: index}
		for _, hash := range []uint64{r.low, r.high, r.low/2 + r.high/2} {
			i := r.slot(hash)
			if i < 0 || i >= int(r.slots) {
				t.Fatalf("slot %d of %d", i, r.slots)
			}
			if s := r.span(i); s.first > s.end || s.end > int(r.entries) || s.endMore > int(r.mores) {
				t.Fatalf("slot %d is %+v", i, s)
			}
		}
	})
}

// TestFindPastADamagedTwin: a good entry is found, though a damaged one with the
// same tag comes before it.
func TestFindPastADamagedTwin(t *testing.T) {
	w := newWorld(t, 8)
	var twins []Item
	tags := map[uint16]Item{}
	for i := uint64(0); twins == nil; i++ {
		it := w.item(keys.FromUint64(i), i)
		if other, found := tags[tagOf(it.Hash, 0)]; found {
			twins = []Item{other, it}
		}
		tags[tagOf(it.Hash, 0)] = it
	}
	w.commit(twins, false, -1, func(*State) bool { return true })
	s, err := w.table.State(0)
	must(t, err)
	slices.SortFunc(twins, func(a, b Item) int { return cmp.Compare(a.Hash, b.Hash) })
	must(t, w.raw.WriteAt([]byte{0xff}, int64(s.RowAddress)+offValueHigh)) // of the first
	w.open(FirstTouch, false)
	if _, found, err := w.table.Find(0, twins[0].Hash, twins[0].Key); found || !errors.Is(err, corrupt.Err) {
		t.Errorf("the damaged one: found %t, %v", found, err)
	}
	e, found, err := w.table.Find(0, twins[1].Hash, twins[1].Key)
	if err != nil || !found || e.Item(twins[1].Hash) != twins[1] {
		t.Errorf("its twin: found %t, %v", found, err)
	}
	absent := keys.FromUint64(1 << 60)
	if _, found, err := w.table.Find(0, twins[0].Hash, absent); found || !errors.Is(err, corrupt.Err) {
		t.Errorf("a key that the damaged one may have been: found %t, %v", found, err)
	}
}

// TestEntryOverAnother: an entry that is copied over its neighbour has a checksum that
// agrees, and so has the part. The key that is gone is damaged, not absent.
func TestEntryOverAnother(t *testing.T) {
	w := newWorld(t, 8)
	var row, waiting []Item
	for i := range uint64(40) {
		row = append(row, w.item(keys.FromUint64(i), i))
		waiting = append(waiting, w.item(keys.FromUint64(100+i), i))
	}
	w.commit(row, false, -1, func(*State) bool { return true })
	w.commit(waiting, false, 0, func(*State) bool { return false })
	s, err := w.table.State(0)
	must(t, err)
	r := &w.table.runs[0]
	for _, part := range []struct {
		name        string
		at, entries int64
	}{{"row", int64(s.RowAddress), int64(s.Entries)}, {"run", int64(r.entriesAt), int64(r.entries)}} {
		name, at := part.name, part.at
		if part.entries < 10 {
			t.Fatalf("the %s has %d entries", name, part.entries)
		}
		for i := range part.entries - 1 {
			both := make([]byte, 2*EntrySize)
			_, err := w.raw.ReadAt(both, at+i*EntrySize)
			must(t, err)
			key, gone := getE(both[offKeyHigh:]), getE(both[EntrySize+offKeyHigh:])
			must(t, w.raw.WriteAt(both[:EntrySize], at+(i+1)*EntrySize))
			w.open(FirstTouch, false)
			hash := w.hasher.Hash(gone)
			if _, found, err := w.table.Find(w.groupOf(hash), hash, gone); found || !errors.Is(err, corrupt.Err) {
				t.Errorf("entry %d of the %s: found %t, %v", i+1, name, found, err)
			}
			hash = w.hasher.Hash(key)
			if e, found, err := w.table.Find(w.groupOf(hash), hash, key); !found || err != nil || e.Item(hash) != w.model[key] {
				t.Errorf("entry %d of the %s: found %t, %v", i, name, found, err)
			}
			must(t, w.raw.WriteAt(both, at+i*EntrySize))
		}
	}
}
