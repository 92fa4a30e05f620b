package cidstore

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/internal/invariants"
	"github.com/cidstore/cidstore/wal"
)

// TestLogFollowsTheData: single writes grow the log once, then to a quarter of the live
// data, and no further than WALBytes; it never becomes shorter while the store is open.
func TestLogFollowsTheData(t *testing.T) {
	for _, c := range []struct{ most, want int64 }{{16 * 512, 16 * 512}, {64 * 512, 64 * 512}, {4096 * 512, 0}} {
		t.Run(fmt.Sprint("up to ", c.most), func(t *testing.T) {
			s := OpenStore(t, crashPath, smallWith(crashfs.New(crashfs.Options{}), c.most))
			size, limit := int64(0), int64(0)
			for i := range uint64(6000 / invariants.Sparse) {
				mustDo(t, s.Insert(FromUint64(i), FromUint64(i)))
				limit = max(limit, s.liveBytes()/4, 16*512)
				now := int64(s.state.Load().view.record.walSize)
				if now < size || now > min(max(ringGrowth*16*512, limit+512), c.most) {
					t.Fatalf("write %d: a log of %d bytes, was %d; %d are live", i, now, size, s.liveBytes())
				}
				size = now
			}
			if c.want != 0 && invariants.Sparse == 1 && size != c.want {
				t.Errorf("a log of %d bytes, want %d", size, c.want)
			}
			if c.want == 0 && size < s.liveBytes()/10 {
				t.Errorf("a log of %d bytes, %d are live", size, s.liveBytes())
			}
		})
	}
}

// smallWith are the small options, with a log that starts with 8 KiB.
func smallWith(disk *crashfs.FS, walBytes int64) *Options {
	o := smallOptions(disk)
	o.startBytes, o.WALBytes = 16*512, walBytes
	return o
}

// TestLargestBatchWhateverTheLog: a third of WALBytes is taken, and one block more is
// not, by the small log of a store just opened as by one that has grown.
func TestLargestBatchWhateverTheLog(t *testing.T) {
	for _, walBytes := range []int64{64 << 10, 1 << 20, 5 << 20} {
		block := wal.Records(defaultBlock, defaultBlock)
		most := wal.Records(walBytes, defaultBlock) / 3 / block * block // records, the end included
		batch := func(records int64) *Batch {
			b := new(Batch)
			for i := range uint64(records - 2) {
				b.Insert(FromUint64(i%5000), FromUint64(i))
			}
			return b
		}
		disk := crashfs.New(crashfs.Options{FileLimit: 64 << 20})
		for life := range 3 {
			s := OpenStore(t, crashPath, &Options{FS: disk, GCInterval: -1, WALBytes: walBytes})
			if size := s.Metrics().WALBytes; life > 0 && size != closedBlocks*defaultBlock {
				t.Errorf("WALBytes %d, life %d: opened with a log of %d bytes", walBytes, life, size)
			}
			for when := range 2 { // with the log as it is, and with one that has grown
				wantErr(t, s.Apply(batch(most+1)), ErrTooLarge, fmt.Sprintf("WALBytes %d, life %d, %d: %d records", walBytes, life, when, most+1))
				if err := s.Apply(batch(most)); err != nil {
					t.Errorf("WALBytes %d, life %d, %d: %d records: %v", walBytes, life, when, most, err)
				}
			}
			if size := int64(s.Metrics().WALBytes); size < min(walBytes, startWALBytes) || size > walBytes {
				t.Errorf("WALBytes %d, life %d: a log of %d bytes", walBytes, life, size)
			}
			mustDo(t, s.Close())
		}
	}
}

// TestLogFollowsCostlyOperations: where checkpoints rewrite a part of the tree of a key with
// many values, the log grows past a quarter of the data, up to one and a half times their
// size, but not past what fits into memory. Where the values of the key come in order, or as
// many keys have one value each, it does not.
func TestLogFollowsCostlyOperations(t *testing.T) {
	const n = 80_000
	share := func(memory int64, key, value func(i uint64) E) float64 {
		s := OpenStore(t, filepath.Join(t.TempDir(), "s.h5"), &Options{GCInterval: -1, MemoryBudget: memory, startBytes: 128 << 10, Rand: rand.NewChaCha8([32]byte{7})})
		for done := uint64(0); done < n; {
			var b Batch
			for range 500 {
				b.Insert(key(done), value(done))
				done++
			}
			mustDo(t, s.Apply(&b))
		}
		defer func() { mustDo(t, s.Close()) }()
		return float64(s.state.Load().view.record.walSize) / float64(s.liveBytes())
	}
	random := rand.New(rand.NewPCG(1, 2))
	anyValue := func(uint64) E { return E{High: random.Uint64(), Low: random.Uint64()} }
	one := func(uint64) E { return E{} }
	tree, ordered, many := share(0, one, anyValue), share(0, one, FromUint64), share(0, FromUint64, anyValue)
	scarce := share(17<<20/10, one, anyValue)
	t.Logf("the log is %.2f of the data of one key, %.2f with little memory, %.2f if its values come in order, %.2f of those of many", tree, scarce, ordered, many)
	if tree < 0.5 || tree > 1.6 || scarce < 0.5 || scarce > 0.65 || ordered > 0.4 || many > 0.4 {
		t.Error("want half to one and a half times the data of one key, 0.5 to 0.65 with little memory, and less of the others")
	}
}

// TestLogNeedsOnePiece: a disk that is full, with room for a log of the size that a new store
// has, but not in one piece, refuses no batch that a shorter log takes.
func TestLogNeedsOnePiece(t *testing.T) {
	const size, pieces = 60 << 10, 20
	c := newScenario(t, 1, mediumOptions)
	c.open()
	c.close()
	c.open() // with a short log
	each := func(f func(m *merge, name string, i int) error) {
		c.do(func() error {
			return c.store.exclusively(func() error {
				return c.store.change(func(m *merge) (err error) {
					for i := range pieces {
						err = errors.Join(err, f(m, fmt.Sprintf("/piece_%d", i), i))
					}
					return err
				})
			})
		})
	}
	each(func(m *merge, name string, i int) error {
		_, err := m.tx.CreateDataset(name, hdf5io.DatasetSpec{Type: hdf5io.Uint(1), Dims: []uint64{size}, Zero: true})
		return err
	})
	each(func(m *merge, name string, i int) error { // each second one goes
		if i%2 == 1 {
			return nil
		}
		return m.tx.Remove(name)
	})
	c.do(func() error { return c.store.exclusively(c.store.freeReplaced) })
	c.fs.SetCapacity(use(t, c.fs))
	start := c.options(c.fs).startBytes
	if free, longest := c.store.file.Space().Free, c.store.file.Longest(); free < 3*start || longest >= start {
		t.Fatalf("%d bytes free, the longest piece has %d, want many pieces below %d", free, longest, start)
	}
	for i := range uint64(20) {
		var ops []wal.Op // more than a third of the log that Close has left
		for k := range 4 * i {
			ops = append(ops, ins(k, i), del(k+1))
		}
		c.apply(ops...)
	}
	if err := c.store.Shrink(t.Context()); err != nil {
		t.Errorf("Shrink: %v", err)
	}
	mustDo(t, c.same())
	c.close()
}

// TestLogOfAnotherForm: a log whose elements are no blocks of records, as in files that
// were written before records had 40 bytes, is refused in words that say so.
func TestLogOfAnotherForm(t *testing.T) {
	c := newScenario(t, 1, nil)
	Unchecked(t, crashPath, "its log has another form")
	c.open()
	mustDo(t, c.try(ins(1, 1)), c.store.Checkpoint(t.Context()))
	mustDo(t, c.store.exclusively(func() error {
		return c.store.change(func(m *merge) error {
			if err := m.tx.Remove(ringPath); err != nil {
				return err
			}
			d, err := m.tx.CreateDataset(ringPath, hdf5io.DatasetSpec{Type: hdf5io.Array(hdf5io.Uint(8), 64), Dims: []uint64{m.record.walSize / 512}, Zero: true})
			if err != nil {
				return err
			}
			address, _ := d.Extent()
			m.record.walAddress = uint64(address)
			return nil
		})
	}))
	c.kill()
	_, err := Open(crashPath, c.options(c.fs))
	if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "its elements are no blocks of 512 bytes of log records of 40") {
		t.Errorf("%v", err)
	}
}
