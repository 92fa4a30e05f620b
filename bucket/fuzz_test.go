package bucket

import (
	"bytes"
	"errors"
	"testing"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/keys"
)

// FuzzState: any bytes are refused, or are exactly what the state encodes to.
func FuzzState(f *testing.F) {
	s := fullState()
	f.Add(AppendState(nil, &s))
	f.Add(make([]byte, StateSize))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, p []byte) {
		s, err := ParseState(p)
		if err != nil {
			if !errors.Is(err, corrupt.Err) {
				t.Fatal(err)
			}
			return
		}
		if got := AppendState(nil, &s); !bytes.Equal(got, p) {
			t.Fatalf("% x became % x", p, got)
		}
	})
}

// FuzzRow puts any bytes where a bucket has its state, row and tail, with
// checksums that agree or not, and then does everything with the bucket: results
// are items that ascend, or corrupt errors.
func FuzzRow(f *testing.F) {
	w := newWorld(f, 24)
	seedRows(f, w)
	f.Fuzz(func(t *testing.T, state, row, tail []byte, seal bool) {
		w.t = t
		w.plant(state, row, tail, seal)
		items, err := w.table.Items(nil, 0)
		if err != nil && !errors.Is(err, corrupt.Err) {
			t.Fatal(err)
		}
		for i := range items {
			if i > 0 && !Less(&items[i-1], &items[i]) {
				t.Fatalf("items %v", items)
			}
			e, found, err := w.table.Find(0, items[i].Hash, items[i].Key)
			if err != nil && !errors.Is(err, corrupt.Err) || found && e.Item(items[i].Hash) != items[i] {
				t.Fatalf("key %v: %v, %t, %v, want %v", items[i].Key, e, found, err, items[i])
			}
		}
		if _, _, err := w.table.Find(0, w.hasher.Hash(keys.E{}), keys.E{}); err != nil && !errors.Is(err, corrupt.Err) {
			t.Fatal(err)
		}
		w.table.Check(0, func(err error) {
			if !errors.Is(err, corrupt.Err) {
				t.Fatal(err)
			}
		})
		tx, err := w.file.Begin()
		must(t, err)
		defer tx.Abort()
		writer, err := NewWriter(tx, w.table, 0)
		must(t, err)
		over, err := writer.Update(0, nil)
		if err != nil && !errors.Is(err, corrupt.Err) {
			t.Fatal(err)
		}
		for i := range over {
			if i > 0 && !Less(&over[i-1], &over[i]) {
				t.Fatalf("over %v", over)
			}
		}
	})
}

// seedRows adds a good bucket, and one whose parts are cut.
func seedRows(f *testing.F, w *world) {
	state, row, tail := w.goodBucket()
	f.Add(state, row, tail, true)
	f.Add(state, row[:100], tail[:50], true)
	f.Add(state, tail, row, false)
}

// plant writes bucket 0 with the given bytes. Addresses, commits and, with seal,
// checksums are made to fit.
func (w *world) plant(state, row, tail []byte, seal bool) {
	tx, err := w.file.Begin()
	must(w.t, err)
	defer tx.Abort()
	pad := func(p []byte, chunks int) []byte {
		size := min(chunks, 4) * w.g.chunkBytes()
		return append(p, make([]byte, size)...)[:size]
	}
	page := append(bytes.Clone(state), make([]byte, PageStates*StateSize)...)[:PageStates*StateSize]
	if s, err := ParseState(page[:StateSize]); err == nil && s.InUse {
		row, tail = pad(bytes.Clone(row), int(s.EntryChunks)+int(s.MoreChunks)), pad(bytes.Clone(tail), 1+int(s.TailMore))
		s.Commit, s.TailCommit = tx.NextCommit(), tx.NextCommit()
		if seal {
			w.seal(&s, row, tail)
		}
		if s.SortedCount > 0 {
			s.RowAddress = w.place(tx, row, entriesPath, morePath, 2)
		}
		if s.TailCount > 0 {
			s.TailAddress = w.place(tx, tail, tailPath, tailMorePath, 1)
		}
		AppendState(page[:0], &s)
	}
	d, err := tx.Dataset(statePath)
	must(w.t, err)
	must(w.t, d.WritePage(0, page, [2]uint64{}))
	_, err = tx.Commit(nil)
	must(w.t, err)
	w.table = w.open(FirstTouch)
}

// place writes an extent of bucket 0: so many chunks of one dataset, then of more.
func (w *world) place(tx *hdf5io.Tx, extent []byte, path, more string, chunks int) uint64 {
	address, err := tx.Place(extent)
	must(w.t, err)
	for i := range len(extent) / w.g.chunkBytes() {
		if i == chunks {
			path = more
		}
		d, err := tx.Dataset(path)
		must(w.t, err)
		d.Put(address+uint64(i*w.g.chunkBytes()), uint32(w.g.chunkBytes()), 0, uint64(i%chunks))
	}
	return address
}

// seal makes the checksums of the first entries and of the extents right.
func (w *world) seal(s *State, row, tail []byte) {
	seal := w.table.seal
	for _, x := range []struct {
		data   []byte
		count  int
		chunks int
		commit uint64
		sum    *uint32
	}{{row, int(s.SortedCount), int(s.EntryChunks), s.Commit, &s.CRC}, {tail, int(s.TailCount), 1, s.TailCommit, &s.TailCRC}} {
		mores := x.data[min(x.chunks*w.g.chunkBytes(), len(x.data)):]
		for i := range min(x.count, len(x.data)/EntrySize) {
			e := x.data[i*EntrySize:][:EntrySize]
			var more []byte
			if n := int(e[offMore]) | int(e[offMore+1])<<8; n > 0 && n*MoreSize <= len(mores) {
				more = mores[(n-1)*MoreSize : n*MoreSize]
			}
			sum := seal.entrySum(seal.seed(0, x.commit), e, more)
			e[offEntryCRC], e[offEntryCRC+1], e[offEntryCRC+2], e[offEntryCRC+3] = byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24)
		}
		*x.sum = seal.sum(x.data)
	}
}
