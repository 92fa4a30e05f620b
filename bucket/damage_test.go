package bucket

import (
	"errors"
	"slices"
	"testing"

	"github.com/cidstore/cidstore/ecc"
	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/internal/invariants"
	"github.com/cidstore/cidstore/keys"
)

// damaged is a file of one bucket, some bytes of which a test flips, and the
// only right answers about it.
type damaged struct {
	*world
	items  []Item // all that the bucket has
	absent []Item // keys that it has not
}

// newDamaged makes a bucket with a row of 20 entries and, with tail, 6 more in a
// tail, two of which are deletions of the row's.
func newDamaged(t *testing.T, tail bool) *damaged {
	w := newWorld(t, 24)
	all := w.items(24)
	w.change(func(writer *Writer) { must(t, writer.Rewrite(0, 0, 0, 1, all[:20], 0, false)) })
	d := &damaged{world: w, items: all[:20]}
	if tail {
		w.update(0, append(slices.Clone(all[20:]), w.item(all[3].Key.Low, 0), w.item(all[9].Key.Low, 0))...)
		d.absent = append(d.absent, all[3], all[9])
		d.items = slices.Concat(all[:3], all[4:9], all[10:])
	}
	for n := range uint64(20) {
		d.absent = append(d.absent, w.item(n+1000, 1))
	}
	return d
}

// answers asks for everything and fails at any answer that is wrong: right ones
// and corrupt errors pass. It returns how many were corrupt.
func (d *damaged) answers(table *Table, where string, bit int64) (refused int) {
	d.t.Helper()
	ask := func(it *Item, want bool) {
		e, found, err := table.Find(0, it.Hash, it.Key)
		switch {
		case err != nil && !found && errors.Is(err, corrupt.Err):
			refused++
		case err != nil || found != want || found && !same(e.Item(it.Hash), *it):
			d.t.Fatalf("%s, bit %d: key %v: %v, %t, %v", where, bit, it.Key, e, found, err)
		}
	}
	for i := range d.items {
		ask(&d.items[i], true)
	}
	for i := range d.absent {
		ask(&d.absent[i], false)
	}
	items, err := table.Items(nil, 0)
	switch {
	case err != nil && len(items) == 0 && errors.Is(err, corrupt.Err):
	case err != nil || !slices.EqualFunc(items, d.items, same):
		d.t.Fatalf("%s, bit %d: items %v, %v", where, bit, items, err)
	}
	return refused
}

// flip turns one bit of the file over.
func (d *damaged) flip(bit int64) {
	d.t.Helper()
	var b [1]byte
	_, err := d.raw.ReadAt(b[:], bit/8)
	must(d.t, err)
	b[0] ^= 1 << (bit % 8)
	must(d.t, d.raw.WriteAt(b[:], bit/8))
}

// defects counts what Check finds.
func (d *damaged) defects(table *Table) (n int) {
	table.Check(0, func(err error) {
		d.t.Helper()
		if n++; !errors.Is(err, corrupt.Err) {
			d.t.Fatalf("check: %v, want a corrupt error", err)
		}
	})
	return n
}

// Every bit of a row and of a tail, one at a time: no wrong answer, Check sees
// it, a mask is corrected, and what the flip did not touch is still served.
func TestFlipEveryBitOfRowAndTail(t *testing.T) {
	for _, tail := range []bool{false, true} {
		d := newDamaged(t, tail)
		s, err := d.table.State(0)
		must(t, err)
		where, address, size, count := "row", s.RowAddress, int(s.EntryChunks+s.MoreChunks)*d.g.chunkBytes(), int(s.SortedCount)
		if tail {
			where, address, size, count = "tail", s.TailAddress, int(1+s.TailMore)*d.g.chunkBytes(), int(s.TailCount)
		}
		table := d.open(Always)
		step := int64(1)
		if testing.Short() || invariants.Enabled {
			step = 17
		}
		for bit := int64(0); bit < int64(size)*8; bit += step {
			d.flip(int64(address)*8 + bit)
			corrected, _ := table.Counters()
			refused := d.answers(table, where, bit)
			slot, field := int(bit/8)/EntrySize, int(bit/8)%EntrySize
			after, _ := table.Counters()
			if mask := field == offMask && slot < count; mask && (refused > 0 || after == corrected) {
				t.Fatalf("%s, bit %d of the mask of entry %d: %d refused, corrected %d", where, bit%8, slot, refused, after-corrected)
			}
			if most := 1 + len(d.absent); refused > most {
				t.Fatalf("%s, bit %d: %d answers refused, want at most %d", where, bit, refused, most)
			}
			if d.defects(table) == 0 {
				t.Fatalf("%s, bit %d: Check finds nothing", where, bit)
			}
			d.flip(int64(address)*8 + bit)
		}
		if d.answers(table, where, -1) != 0 || d.defects(table) != 0 {
			t.Fatal("all bits are back, and something is still refused")
		}
	}
}

// The same by first touch, where a verified row is marked.
func TestFlippedBitsByFirstTouch(t *testing.T) {
	d := newDamaged(t, true)
	s, err := d.table.State(0)
	must(t, err)
	for _, address := range []uint64{s.RowAddress, s.TailAddress} {
		for bit := int64(0); bit < 48*8*4; bit += 13 {
			d.flip(int64(address)*8 + bit)
			d.reopen()
			d.answers(d.table, "first touch", bit)
			d.answers(d.table, "second touch", bit)
			d.flip(int64(address)*8 + bit)
		}
	}
}

// Every bit of the page that holds the states.
func TestFlipEveryBitOfState(t *testing.T) {
	d := newDamaged(t, true)
	page, err := d.table.page(0)
	must(t, err)
	at := d.find(page.Data()[:StateSize])
	table := d.open(Always)
	for bit := range int64(StateSize) * 8 {
		d.flip(at*8 + bit)
		if refused := d.answers(table, "state", bit); refused != len(d.items)+len(d.absent) {
			t.Fatalf("bit %d: %d answers refused, want all", bit, refused)
		}
		d.flip(at*8 + bit)
	}
}

// find returns the offset of bytes in the file.
func (d *damaged) find(p []byte) int64 {
	size := int(d.file.View().EndOfFile())
	all := make([]byte, size)
	_, err := d.raw.ReadAt(all, 0)
	must(d.t, err)
	for i := 0; i+len(p) <= size; i += 64 {
		if slices.Equal(all[i:i+len(p)], p) {
			return int64(i)
		}
	}
	d.t.Fatal("not in the file")
	return 0
}

// A row that is another bucket's, or of another commit, or gone, is seen even
// though it is whole in itself.
func TestStaleAndMisplacedRowsAreCorrupt(t *testing.T) {
	w := newWorld(t, 8)
	a, b := w.items(16)[:8], w.items(16)[8:]
	w.rows, w.heads[1] = 2, true
	w.change(func(writer *Writer) {
		must(t, writer.Rewrite(0, 0, 0, 1, a, 0, false))
		must(t, writer.Rewrite(1, 0, 0, 1, b, 0, false))
	})
	s, err := w.table.State(0)
	must(t, err)
	other, err := w.table.State(1)
	must(t, err)
	chunk := make([]byte, int(other.EntryChunks+other.MoreChunks)*w.g.chunkBytes())
	for name, from := range map[string]uint64{"bucket 1's": other.RowAddress, "zeros": 0} {
		clear(chunk)
		if from != 0 {
			_, err = w.raw.ReadAt(chunk, int64(from))
			must(t, err)
		}
		must(t, w.raw.WriteAt(chunk, int64(s.RowAddress)))
		for _, it := range append(slices.Clone(a), b...) {
			if _, found, err := w.open(Always).Find(0, it.Hash, it.Key); found || !errors.Is(err, corrupt.Err) {
				t.Fatalf("row is %s: key %v: %t, %v", name, it.Key, found, err)
			}
		}
	}
}

// Exhaustive: every mask that an entry can have, with every pattern of flipped
// bits. One bit is corrected, and nothing else is taken for a mask.
func TestMaskCorrectionNeedsChecksum(t *testing.T) {
	table, err := NewTable(nil, NewGeometry(16), [16]byte{1}, keys.Hasher{}, FirstTouch)
	must(t, err)
	seed := table.seal.seed(3, 9)
	for n := range 6 {
		w := &world{g: table.geometry, hasher: table.hasher}
		it := w.item(7, n)
		data, _ := table.seal.appendExtent(nil, table.geometry, []Item{it}, seed)
		good := data[offMask]
		for pattern := range 256 {
			data[offMask] = good ^ byte(pattern)
			x := extent{bytes: data, mores: data[table.geometry.chunkBytes():], count: 1, id: 3, commit: 9, tail: true}
			before, _ := table.Counters()
			e, err := table.entry(&x, 0, seed)
			after, _ := table.Counters()
			ones := 0
			for p := pattern; p > 0; p &= p - 1 {
				ones++
			}
			switch {
			case ones <= 1 && (err != nil || e.Item(it.Hash) != it || after-before != uint64(ones)):
				t.Errorf("%d values, pattern %#02x: %v, %v, corrected %d", n, pattern, e, err, after-before)
			case ones > 1 && (!errors.Is(err, corrupt.Err) || after != before):
				t.Errorf("%d values, pattern %#02x: %v, %v, want a corrupt error", n, pattern, e, err)
			}
		}
	}
	// The remaining code words are no entry's, whatever their checksum says.
	it := (&world{}).item(7, 2)
	for code := range uint8(16) {
		data, _ := table.seal.appendExtent(nil, table.geometry, []Item{it}, seed)
		data[offMask] = ecc.Encode(code)
		more := data[table.geometry.chunkBytes():]
		sum := table.seal.entrySum(seed, data[:EntrySize], more[:MoreSize])
		data[offEntryCRC], data[offEntryCRC+1], data[offEntryCRC+2], data[offEntryCRC+3] = byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24)
		x := extent{bytes: data, mores: more, count: 1, id: 3, commit: 9}
		if _, err := table.entry(&x, 0, seed); (err == nil) != (code == 3) {
			t.Errorf("data %#x for two values: %v", code, err)
		}
	}
}
