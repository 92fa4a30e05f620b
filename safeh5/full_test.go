package safeh5

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cidstore/cidstore/hdf5"
	"github.com/cidstore/cidstore/internal/crashfs"
)

// fullDisk is a disk that datasets /a/0, /a/1 … and /b have filled, and how many of the
// first there are: no Update that writes finds room any more.
func fullDisk(t *testing.T, o crashfs.Options, chunk uint32) (disk *crashfs.FS, f *File, datasets int) {
	t.Helper()
	disk = crashfs.New(o)
	f = mustGet(Open(crashPath, on(disk)))(t)
	rows := make([]uint16, 2000)
	for i := range rows {
		rows[i] = uint16(i * 7919)
	}
	var err error
	for n := range 1000 {
		// Chunks of two datasets take turns, so that a deletion leaves many gaps.
		for part := 0; part < len(rows) && err == nil; part += 500 {
			err = f.Update(func(tx *Tx) error {
				for _, path := range []string{fmt.Sprintf("/a/%d", n), "/b"} {
					d, err := tx.Dataset(path)
					if errors.Is(err, ErrNotFound) {
						d, err = tx.CreateDataset(path, Spec{Type: uint16(0), Dims: []uint64{0}, MaxDims: []uint64{Unlimited}, Chunk: []uint32{chunk}})
					}
					if err = errors.Join(err, Append(d, rows[part:part+500])); err != nil {
						return err
					}
				}
				return nil
			})
		}
		if err != nil {
			if !errors.Is(err, ErrNoSpace) || n < 4 {
				t.Fatalf("dataset %d: %v", n, err)
			}
			fillUp(t, f)
			return disk, f, n
		}
	}
	t.Fatal("the disk was never full")
	return nil, nil, 0
}

// fillUp makes smaller and smaller things until not even an empty dataset finds room.
func fillUp(t *testing.T, f *File) {
	t.Helper()
	for size, n := 16<<10, 0; ; n++ {
		err := f.Update(func(tx *Tx) error {
			return dataset(tx, fmt.Sprintf("/filling/%d", n), Spec{Type: uint8(0), Dims: []uint64{uint64(size)}}, make([]uint8, size))
		})
		if err != nil && !errors.Is(err, ErrNoSpace) {
			t.Fatal(err)
		}
		if err != nil && size == 0 {
			return
		}
		if err != nil {
			size /= 4
		}
	}
}

// TestFaultDiskFullDelete: on a full disk all can be deleted, one after another, in this life
// and in the next; and what is deleted makes room at once.
func TestFaultDiskFullDelete(t *testing.T) {
	for _, chunk := range []uint32{2, 32, 500} {
		for _, again := range []bool{false, true} {
			t.Run(fmt.Sprintf("chunks of %d, opened again %v", chunk, again), func(t *testing.T) {
				disk, f, n := fullDisk(t, crashfs.Options{Capacity: max(512<<10, 4<<20/int64(chunk))}, chunk)
				if again { // what Close gave back, something else takes
					must(t, f.Close())
					disk.SetCapacity(mustGet(disk.Stat(crashPath))(t).Size)
					f = mustGet(Open(crashPath, on(disk)))(t)
				}
				add := func(path string) error {
					return f.Update(func(tx *Tx) error {
						return dataset(tx, path, Spec{Type: uint16(0), Dims: []uint64{2000}, Chunk: []uint32{chunk}}, make([]uint16, 2000))
					})
				}
				for i := range n {
					mustAt(t, f.Update(func(tx *Tx) error { return tx.Delete(fmt.Sprintf("/a/%d", i)) }), "delete", i, "of", n)
					if i == 2 && chunk == 500 { // of three there is room for one, at the first try; gaps of 32 are too short
						mustAt(t, add("/c"), "after deletions")
					}
				}
				must(t, f.Update(func(tx *Tx) error { return tx.Delete("/b") }))
				checkWhole(t, f)
				for i := range n { // and all that was there finds room again
					mustAt(t, add(fmt.Sprintf("/d/%d", i)), i, "of", n, "again")
				}
				checkWhole(t, f)
				must(t, f.Close())
			})
		}
	}
}

// TestFaultDiskFullReader: while a reader holds what deletions free, there is room for some
// of them, and an error after that; and when it is gone, for all.
func TestFaultDiskFullReader(t *testing.T) {
	disk, f, n := fullDisk(t, crashfs.Options{Capacity: 512 << 10}, 500)
	o := on(disk)
	o.ReadOnly = true
	reader := opened(t, crashPath, o)
	i := 0
	remove := func() error {
		return f.Update(func(tx *Tx) error { return tx.Delete(fmt.Sprintf("/a/%d", i)) })
	}
	var err error
	for ; i < n; i++ {
		if err = remove(); err != nil {
			break
		}
	}
	if i < 4 || err != nil && !errors.Is(err, ErrNoSpace) {
		t.Fatalf("%d deletions: %v", i, err)
	}
	err = reader.View(func(h *hdf5.File) error {
		root, err := h.Root()
		if err != nil {
			return err
		}
		d, err := root.Dataset("a/0")
		if err != nil {
			return err
		}
		b, err := d.Read(0, d.Len())
		if err != nil {
			return err
		}
		v, err := b.Uint64s()
		if err == nil && (len(v) != 2000 || v[1999] != 1999*7919%65536) {
			err = fmt.Errorf("%d values", len(v))
		}
		return err
	})
	wantErr(t, err, nil, "the reader")
	must(t, reader.Close())
	for ; i < n; i++ {
		mustAt(t, remove(), "deletion", i)
	}
	checkWhole(t, f)
	must(t, f.Close())
}

// TestCrashDiskFull cuts the power at every call of a life on a disk that is full, where an Update
// that finds no room settles the one before it: each disk has all of the last state or of
// the one under way.
func TestCrashDiskFull(t *testing.T) {
	disk := crashfs.New(crashfs.Options{Capacity: 96 << 10})
	f := mustGet(Open(crashPath, on(disk)))(t)
	trace := disk.Record()
	states, full := fullLife(t, disk, f)
	if full < 4 {
		t.Errorf("the disk was full %d times", full)
	}
	trace.Stop()
	images := 0
	plan := crashfs.Plan{Seed: 1, Subsets: 2, Random: 1, PerCut: 2}
	if campaign() {
		plan = crashfs.Plan{Seed: 1, Subsets: 6, Random: 4, PerCut: 14}
	}
	for image := range trace.Enumerate(plan).Images() {
		acked := 0
		if n := len(image.Marks); n > 0 {
			acked = image.Marks[n-1].(int)
		}
		f, err := Open(crashPath, on(image.FS()))
		if err != nil {
			t.Fatalf("state %d: %v\nimage: %v", acked, err, image)
		}
		found, _, err := f.file.View().Group("/a")
		if errors.Is(err, ErrNotFound) {
			err = nil
		}
		slices.SortFunc(found, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b)) })
		if !slices.ContainsFunc(states[acked:min(acked+2, len(states))], func(s []string) bool { return slices.Equal(s, found) }) {
			err = errors.Join(err, fmt.Errorf("%v", found))
		}
		if err := errors.Join(err, f.Check(t.Context(), nil), f.Close()); err != nil {
			t.Fatalf("state %d: %v\nimage: %v", acked, err, image)
		}
		images++
	}
	if images < 100 {
		t.Errorf("%d images", images)
	}
	t.Logf("%d images, the disk was full %d times", images, full)
}

// fullLife adds datasets to /a, and deletes the oldest where there is no room. It returns the
// names in /a after each Update, which the disk's marks number, and how often the disk was full.
func fullLife(t *testing.T, disk *crashfs.FS, f *File) (states [][]string, full int) {
	t.Helper()
	now := []string{}
	states = [][]string{now}
	for n := range 24 {
		name := fmt.Sprint(n)
		err := f.Update(func(tx *Tx) error {
			return dataset(tx, "/a/"+name, Spec{Type: uint16(0), Dims: []uint64{3000}, Chunk: []uint32{500}}, make([]uint16, 3000))
		})
		switch {
		case err == nil:
			now = append(slices.Clone(now), name)
		case errors.Is(err, ErrNoSpace):
			full++
			must(t, f.Update(func(tx *Tx) error { return tx.Delete("/a/" + now[0]) }))
			now = now[1:]
		default:
			t.Fatal(err)
		}
		states = append(states, now)
		disk.Mark(len(states) - 1)
	}
	return states, full
}
