package fuzz_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/cidstore/cidstore"
	"github.com/cidstore/cidstore/fuzz"
	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/internal/invariants"
	"github.com/cidstore/cidstore/keys"
	"github.com/cidstore/cidstore/vfs"
)

// An image is a small file that holds every structure, as a killed writer left it,
// and what it must answer.
type image struct {
	bytes []byte
	model fuzz.Model
	torn  fuzz.Model // without the last batch: rot there looks like a torn tail
}

const imagePath = "db/store.h5"

// pendingKey is in the log alone: where it would be in the tree, damage may hide
// that it is not there.
var pendingKey = cidstore.FromString("pending")

// newImage makes an image: keys of one to four values, sets in rows and in a tree,
// tombstones, crowded buckets, runs with deleted entries, the deletion log, and
// batches that are in the log alone.
func newImage(t testing.TB) *image {
	t.Helper()
	disk := crashfs.New(crashfs.Options{})
	s, err := cidstore.Open(imagePath, &cidstore.Options{FS: disk, WALBytes: 64 << 10, SplitThreshold: 20, GCInterval: -1, Rand: fuzz.Patterned(1)})
	must(t, err)
	model := make(fuzz.Model)
	var ops []fuzz.Op
	apply := func() {
		t.Helper()
		for len(ops) > 0 {
			n := min(len(ops), 300)
			model.Apply(ops[:n])
			must(t, s.Apply(fuzz.BatchOf(ops[:n])))
			ops = ops[n:]
		}
	}
	put := func(name string, values int) {
		for i := range values {
			ops = append(ops, fuzz.Op{Key: cidstore.FromString(name), Value: cidstore.FromString(fmt.Sprint(name, i))})
		}
	}
	drop := func(name string, from, to int) {
		for i := from; i < to; i++ {
			ops = append(ops, fuzz.Op{Kind: fuzz.DeleteValue, Key: cidstore.FromString(name), Value: cidstore.FromString(fmt.Sprint(name, i))})
		}
	}
	for i := range 120 {
		put(fmt.Sprint("key ", i), 1+i%5*(i%2))
	}
	put("row", 30)
	put("tree", 1300)
	for _, key := range fuzz.NearKeys() {
		ops = append(ops, fuzz.Op{Key: key, Value: key})
	}
	apply()
	must(t, s.Checkpoint(t.Context()))
	drop("row", 3, 9) // tombstones
	drop("tree", 100, 140)
	for i := 0; i < 24; i += 3 { // tails: a few changes in each bucket
		ops = append(ops, fuzz.Op{Kind: fuzz.Delete, Key: cidstore.FromString(fmt.Sprint("key ", i))})
		put(fmt.Sprint("late ", i), 1+i%2)
	}
	apply()
	must(t, s.Checkpoint(t.Context()))
	put("key 50", 9)
	put("pending", 3)
	drop("tree", 500, 502)
	apply()
	torn := model.Clone()
	put("pending", 5)
	apply()
	m := s.Metrics()
	if m.BucketCount <= m.DirectorySize/64 || m.Tombstones == 0 || m.SpilledSets < 2 || m.PendingOperations == 0 {
		t.Fatalf("the image lacks a structure: %+v", m)
	}
	p := contentsOf(t, disk)
	must(t, s.Close())
	return &image{p, model, torn}
}

// contentsOf reads the bytes of the file.
func contentsOf(t testing.TB, disk vfs.FS) []byte {
	t.Helper()
	f, err := disk.OpenFile(imagePath, os.O_RDONLY, 0)
	must(t, err)
	defer f.Close()
	info, err := f.Info()
	must(t, err)
	p := make([]byte, info.Size)
	if _, err := f.ReadAt(p, 0); err != nil {
		t.Fatal(err)
	}
	return p
}

// diskOf puts bytes in the file's place; file writes to them.
func diskOf(t testing.TB, p []byte) (disk *crashfs.FS, file vfs.File) {
	t.Helper()
	disk = crashfs.New(crashfs.Options{FileLimit: int64(len(p)) + 1<<20})
	file, err := disk.OpenFile(imagePath, os.O_RDWR|os.O_CREATE, 0o666)
	must(t, err)
	must(t, file.WriteAt(p, 0))
	return disk, file
}

// detected reports whether an error reports damage.
func detected(err error) bool {
	return errors.Is(err, cidstore.ErrCorrupt) || errors.Is(err, cidstore.ErrTampered)
}

// verdict is how a damaged image answers.
type verdict struct {
	refused bool // by Open
	lost    []fuzz.E
	torn    bool // the last batch is taken for a torn tail
}

// judge opens a damaged image for reading and asks it for every key. Each answer
// must be right or an error that reports damage. all: it walks all pairs too, and
// lets Check find what reads found.
func (m *image) judge(disk vfs.FS, all bool) (v verdict, err error) {
	s, err := cidstore.Open(imagePath, &cidstore.Options{FS: disk, ReadOnly: true})
	if err != nil {
		if !detected(err) {
			return v, fmt.Errorf("open: %w", err)
		}
		return verdict{refused: true}, nil
	}
	defer s.Close()
	want := m.model
	if r := s.Recovery(); r.TornAt != 0 {
		v.torn, want = true, m.torn
	}
	if err := m.ask(s, want, &v); err != nil {
		return v, err
	}
	if !all {
		return v, nil
	}
	got, err := fuzz.ContentsOf(s)
	if err == nil && !got.Equal(want) {
		return v, errors.New("all pairs: wrong contents")
	}
	if err != nil && !detected(err) {
		return v, err
	}
	if err := fuzz.Sound(s); err == nil && len(v.lost) > 0 || err != nil && !detected(err) {
		return v, fmt.Errorf("%d keys are lost, Check says %v", len(v.lost), err)
	}
	return v, nil
}

// ask looks up every key, and some that are not there.
func (m *image) ask(s *cidstore.Store, want fuzz.Model, v *verdict) error {
	var values []fuzz.E
	for key := range m.model {
		var err error
		values, err = s.AppendLookup(values[:0], key)
		switch {
		case detected(err):
			v.lost = append(v.lost, key)
		case err != nil:
			return err
		case len(values) != len(want[key]):
			return fmt.Errorf("key %v: %d values, want %d", key, len(values), len(want[key]))
		}
		for _, value := range values {
			if err == nil && !want.Has(key, value) {
				return fmt.Errorf("key %v has %v", key, value)
			}
		}
		if n, err := s.Count(key); err == nil && n != len(want[key]) || err != nil && !detected(err) {
			return fmt.Errorf("key %v: Count = %d, %v; want %d", key, n, err, len(want[key]))
		}
	}
	for i := range uint64(20) {
		key := cidstore.FromUint64(i)
		if ok, err := s.HasKey(key); ok || err != nil && !detected(err) {
			return fmt.Errorf("absent key %v: %v, %v", key, ok, err)
		}
	}
	return nil
}

// TestImage: undamaged it answers right, from whatever moment.
func TestImage(t *testing.T) {
	m := newImage(t)
	disk, _ := diskOf(t, m.bytes)
	v, err := m.judge(disk, true)
	if err != nil || v.refused || len(v.lost) > 0 || v.torn {
		t.Fatalf("%+v, %v", v, err)
	}
	if !bytes.Equal(contentsOf(t, disk), m.bytes) {
		t.Error("reading changed it")
	}
	t.Logf("%d bytes, %d keys, %d pairs", len(m.bytes), len(m.model), m.model.Pairs())
}

// TestFlippedBits flips bits of an image, one at a time: every bit of the
// superblock, and a sample of the slots, of all that is not zero, and of the rest.
func TestFlippedBits(t *testing.T) {
	m := newImage(t)
	flips := m.sample(t)
	const shards = 2
	for shard := range shards {
		t.Run(fmt.Sprint(shard), func(t *testing.T) {
			t.Parallel()
			disk, file := diskOf(t, m.bytes)
			refused, harmed, torn, harmless := 0, 0, 0, 0
			for i := shard; i < len(flips); i += shards {
				bit := flips[i]
				at, was := bit/8, m.bytes[bit/8]
				must(t, file.WriteAt([]byte{was ^ 1<<(bit%8)}, at))
				v, err := m.judge(disk, i%16 < 2)
				if err != nil {
					t.Fatalf("bit %d of byte %#x: %v", bit%8, at, err)
				}
				if at < 3*4096 && (v.refused || len(v.lost) > 0) {
					t.Fatalf("bit %d of byte %#x, in superblock or slot: refused %v, %d keys lost", bit%8, at, v.refused, len(v.lost))
				}
				if owner, ok := m.entryAt(at); ok && slices.ContainsFunc(v.lost, func(key fuzz.E) bool { return key != owner && key != pendingKey }) {
					t.Fatalf("bit %d of byte %#x, of the entry of %v: %v are lost", bit%8, at, owner, v.lost)
				}
				switch {
				case v.refused:
					refused++
				case len(v.lost) > 0:
					harmed++
				case v.torn:
					torn++
				default:
					harmless++
				}
				must(t, file.WriteAt([]byte{was}, at))
			}
			if !bytes.Equal(contentsOf(t, disk), m.bytes) {
				t.Error("reading changed the file")
			}
			t.Logf("%d flips: %d refused by Open, %d with keys that are errors, %d taken for a torn tail, %d harmless",
				refused+harmed+torn+harmless, refused, harmed, torn, harmless)
			if harmed == 0 || refused == 0 || harmless == 0 {
				t.Error("the sample misses an outcome")
			}
		})
	}
}

// sample chooses the bits to flip, ascending no more than the seed makes them.
func (m *image) sample(t *testing.T) (bits []int64) {
	count := 20_000 / invariants.Sparse
	if testing.Short() {
		count = 1_200
	}
	random := fuzz.NewRandom(uint64(count))
	for bit := range int64(48 * 8) {
		bits = append(bits, bit)
	}
	var used []int64
	for at, b := range m.bytes {
		if b != 0 {
			used = append(used, int64(at))
		}
	}
	for len(bits) < count {
		switch n := random.IntN(20); {
		case n < 2:
			bits = append(bits, 8*(4096+random.Int64N(8192)))
		case n < 17:
			bits = append(bits, 8*used[random.IntN(len(used))]+random.Int64N(8))
		default:
			bits = append(bits, random.Int64N(8*int64(len(m.bytes))))
		}
	}
	return bits
}

// entryAt returns the key whose entry, in a row or a run, has the byte at an offset. It finds
// only keys with one value.
func (m *image) entryAt(at int64) (key fuzz.E, ok bool) {
	const entrySize = 48
	for start := max(at-entrySize+1, 3*4096); start <= at; start++ {
		if start+entrySize > int64(len(m.bytes)) {
			break
		}
		p := m.bytes[start:]
		key, err := keys.FromHDF5(p[:keys.Size])
		if err != nil || len(m.model[key]) != 1 {
			continue
		}
		value, err := keys.FromHDF5(p[keys.Size : 2*keys.Size])
		if err == nil && m.model.Has(key, value) && p[32] == 0x87 {
			return key, true
		}
	}
	return key, false
}
