package bucket

import (
	"bytes"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/corrupt"
)

// Damage that carries right checksums, as an error of ours would write it: Check
// names it, and readers refuse what would make an answer wrong.
func TestCheckSeesWhatChecksumsDoNot(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(w *world, s *State, row, tail []byte)
		want  string
	}{
		"order":        {func(_ *world, _ *State, row, _ []byte) { swapEntries(row, 0, 1) }, "is not above the one before"},
		"twice":        {func(_ *world, _ *State, row, _ []byte) { copy(row[EntrySize:], row[:EntrySize]) }, "is not above the one before"},
		"prefix":       {func(_ *world, s *State, _, _ []byte) { s.LocalDepth = 1 }, "want prefix 0x0 of 1 bits"},
		"deleted":      {func(_ *world, _ *State, row, _ []byte) { row[offFlags] = entryDeleted }, "deleted entry in a row"},
		"flags":        {func(_ *world, _ *State, row, _ []byte) { row[offFlags] = 2 }, "unknown flags"},
		"more row":     {func(_ *world, _ *State, row, _ []byte) { row[offMore+1] = 1 }, "more row 25"},
		"values":       {func(_ *world, _ *State, row, _ []byte) { row[offCount] ^= 1 }, "value count"},
		"unused slot":  {func(w *world, _ *State, row, _ []byte) { row[20*EntrySize] = 1 }, "unused slots are not zero"},
		"unused more":  {func(w *world, _ *State, row, _ []byte) { row[len(row)-1] = 1 }, "unused slots are not zero"},
		"live keys":    {func(_ *world, s *State, _, _ []byte) { s.EntryCount-- }, "live keys, found"},
		"tag":          {func(_ *world, s *State, _, _ []byte) { s.TailTags[1]++ }, "tag"},
		"tail's order": {func(_ *world, _ *State, _, tail []byte) { swapEntries(tail, 0, 1) }, "is not above the one before"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 24)
			state, row, tail := w.goodBucket()
			s, err := ParseState(state)
			must(t, err)
			c.spoil(w, &s, row, tail)
			w.plant(AppendState(nil, &s), row, tail, true)
			var found []string
			w.table.Check(0, func(err error) {
				if !errors.Is(err, corrupt.Err) {
					t.Error(err)
				}
				found = append(found, err.Error())
			})
			if !strings.Contains(strings.Join(found, "\n"), c.want) {
				t.Errorf("found %q, want %q", found, c.want)
			}
		})
	}
}

func swapEntries(p []byte, i, j int) {
	a, b := p[i*EntrySize:][:EntrySize], p[j*EntrySize:][:EntrySize]
	for k := range a {
		a[k], b[k] = b[k], a[k]
	}
}

// goodBucket returns the bytes of a bucket with a row of 20 and a tail of 5.
func (w *world) goodBucket() (state, row, tail []byte) {
	all := w.items(24)
	w.change(func(writer *Writer) { must(w.t, writer.Rewrite(0, 0, 0, 1, all[:20], 0, false)) })
	w.update(0, append(all[20:24:24], w.item(all[3].Key.Low, 0))...)
	s, err := w.table.State(0)
	must(w.t, err)
	row, err = w.file.View().Bytes(int64(s.RowAddress), int(s.EntryChunks+s.MoreChunks)*w.g.chunkBytes())
	must(w.t, err)
	tail, err = w.file.View().Bytes(int64(s.TailAddress), int(1+s.TailMore)*w.g.chunkBytes())
	must(w.t, err)
	return AppendState(nil, &s), bytes.Clone(row), bytes.Clone(tail)
}

// A lost or wrong record of the HDF5 index reads as a hole elsewhere: it is seen.
func TestCheckSeesTheIndex(t *testing.T) {
	for _, path := range []string{entriesPath, morePath, tailPath, tailMorePath} {
		w := newWorld(t, 24)
		w.goodBucket()
		w.verify()
		edit := func(f func(d *hdf5io.TxDataset, tx *hdf5io.Tx)) (defects int) {
			tx, err := w.file.Begin()
			must(t, err)
			defer tx.Abort()
			d, err := tx.Dataset(path)
			must(t, err)
			f(d, tx)
			_, err = tx.Commit(nil)
			must(t, err)
			w.table = w.open(FirstTouch)
			w.table.Check(0, func(err error) {
				if defects++; !errors.Is(err, corrupt.Err) || !strings.Contains(err.Error(), path) {
					t.Errorf("%v, want a corrupt error of %s", err, path)
				}
			})
			return defects
		}
		other := func(d *hdf5io.TxDataset, tx *hdf5io.Tx) {
			_, err := d.Write(make([]byte, w.g.chunkBytes()), 0, 0)
			must(t, err)
		}
		if n := edit(other); n != 1 {
			t.Errorf("%s: %d defects with a chunk elsewhere, want 1", path, n)
		}
		if n := edit(func(d *hdf5io.TxDataset, _ *hdf5io.Tx) { d.Delete(0, 0) }); n != 1 {
			t.Errorf("%s: %d defects without a chunk, want 1", path, n)
		}
	}
}

func TestCheckCounts(t *testing.T) {
	w := newWorld(t, 24)
	_, _, _ = w.goodBucket()
	items, err := w.table.Items(nil, 0)
	must(t, err)
	values, sets := uint64(0), 0
	for i := range items {
		values += uint64(items[i].Count)
		if items[i].Spilled {
			sets++
		}
	}
	k, v, spilled := w.table.Check(0, func(err error) { t.Error(err) })
	if k != uint64(len(items)) || v != values || len(spilled) != sets || sets == 0 {
		t.Errorf("%d keys, %d values, %d sets, want %d, %d, %d", k, v, len(spilled), len(items), values, sets)
	}
}

// Many goroutines touch the same rows for the first time, mapped and not.
func TestReadersShareATable(t *testing.T) {
	for _, noMap := range []bool{false, true} {
		w := newWorld(t, 24)
		w.goodBucket()
		want, err := w.table.Items(nil, 0)
		must(t, err)
		w.options.NoMmap = noMap
		w.reopen()
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for i := range want {
					e, found, err := w.table.Find(0, want[i].Hash, want[i].Key)
					if err != nil || !found || e.Item(want[i].Hash) != want[i] {
						t.Errorf("key %v: %v, %t, %v", want[i].Key, e, found, err)
					}
				}
			})
		}
		all.Wait()
		w.verify()
	}
}
