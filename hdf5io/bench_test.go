package hdf5io

import (
	"math/rand/v2"
	"testing"

	"github.com/cidstore/cidstore/vfs"
)

// TestLookupPathAllocatesNothing: pin, page, bytes, unpin.
func TestLookupPathAllocatesNothing(t *testing.T) {
	f, _ := testFile(t, Options{})
	lookup := lookupOnce(t, f.View())
	if n := testing.AllocsPerRun(100, lookup); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

// lookupOnce is what a lookup of the store asks of this package.
func lookupOnce(t testing.TB, v *View) func() {
	t.Helper()
	d := dataset(t, v, "/buckets/state")
	page, err := d.Page(2)
	must(t, err)
	address := int64(page.address)
	return func() {
		pin := v.Pin()
		p, err := d.Page(2)
		if err != nil || p.Marked(3) {
			t.Fatal(err)
		}
		if b, err := v.Bytes(address, 512); err != nil || len(b) != 512 {
			t.Fatal(err)
		}
		v.Unpin(pin)
	}
}

func BenchmarkLookupPath(b *testing.B) {
	f, _ := testFile(b, Options{})
	lookup := lookupOnce(b, f.View())
	for b.Loop() {
		lookup()
	}
}

// BenchmarkCommitRows: 2,000 rows of ten chunks each, in random order of their
// buckets among 20,000, without the time of the disk's syncs.
func BenchmarkCommitRows(b *testing.B) {
	const buckets, rows, chunks, chunk = 20_000, 2_000, 10, 16 * entryBytes
	m := &growingMemory{}
	m.p = make([]byte, 0, 512<<20)
	unlimited := []uint64{undefinedAddress, undefinedAddress}
	f, err := Create(m, Options{UUID: testUUID}, nil, func(tx *Tx) error {
		_, err := tx.CreateDataset("/entries", DatasetSpec{
			Type: testEntry(), Dims: []uint64{buckets, 16 * chunks}, MaxDims: unlimited, Chunk: []uint32{1, 16},
		})
		return err
	})
	must(b, err)
	defer f.Close()
	row := make([]byte, chunks*chunk)
	order := rand.New(rand.NewPCG(1, 2)).Perm(buckets)
	at := 0
	b.SetBytes(rows * chunks * chunk)
	for b.Loop() {
		tx := begin(b, f)
		d, err := tx.Dataset("/entries")
		must(b, err)
		for range rows {
			address, err := tx.Place(row)
			must(b, err)
			for k := range uint64(chunks) {
				d.Put(address+k*chunk, chunk, uint64(order[at%buckets]), k)
			}
			at++
		}
		if _, err := tx.commitBoth(nil); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFragmentedPool takes and gives back space among a million extents.
func BenchmarkFragmentedPool(b *testing.B) {
	var p pool
	var list []extent
	for i := range uint64(1_000_000) {
		list = append(list, extent{FirstExtent + i*4096, 512 + i%7*512})
	}
	must(b, p.putAll(list))
	b.Run("take", func(b *testing.B) {
		for b.Loop() {
			e, ok := p.take(768, takeRun)
			if !ok {
				b.Fatal("nothing left")
			}
			p.put(e)
		}
	})
	b.Run("order", func(b *testing.B) {
		for b.Loop() {
			must(b, p.putAll([]extent{{1 << 40, 4096}}))
			if _, ok := p.take(4096, 4096); !ok {
				b.Fatal("nothing left")
			}
			p.list[len(p.list)-1] = extent{}
		}
	})
}

// growingMemory is a memoryFile without its limit.
type growingMemory struct{ memoryFile }

func (m *growingMemory) Allocate(off, n int64) error {
	m.p = append(m.p, make([]byte, max(0, off+n-int64(len(m.p))))...)
	return nil
}

var _ vfs.File = (*growingMemory)(nil)
