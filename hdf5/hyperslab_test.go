package hdf5

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// numbersOf reads numbers with commas between them.
func numbersOf(t *testing.T, text string) []uint64 {
	t.Helper()
	var numbers []uint64
	for _, part := range strings.Split(text, ",") {
		n, err := strconv.ParseUint(part, 10, 64)
		must(t, err)
		numbers = append(numbers, n)
	}
	return numbers
}

// slabSize returns how many bytes a Hyperslab selects.
func slabSize(d *Dataset, h Hyperslab) uint64 {
	size := uint64(d.Type().Size)
	for i, n := range h.Count {
		if h.Block != nil {
			n *= h.Block[i]
		}
		size *= n
	}
	return size
}

// wantSlab reads a selection at once and in blocks, and compares its digest.
func wantSlab(t *testing.T, d *Dataset, h Hyperslab, digest string) {
	t.Helper()
	p := bytes.Repeat([]byte{0xa5}, int(slabSize(d, h)))
	if err := d.ReadSlab(p, h); err != nil {
		t.Fatalf("%s: %v: %v", d.Path(), h, err)
	}
	if sum := sha256.Sum256(p); hex.EncodeToString(sum[:]) != digest {
		t.Fatalf("%s: %v: other bytes than h5py's", d.Path(), h)
	}
	b, err := d.Slab(h)
	if err != nil || !bytes.Equal(b.Data, p) || b.Start != 0 || len(b.Data) != b.Rows*b.cells*int(d.Type().Size) {
		t.Fatalf("%s: %v: Slab: %v", d.Path(), h, err)
	}
	var parts []byte
	next := uint64(0)
	for b, err := range d.Slabs(h) {
		if err != nil || b.Start != next || len(b.Data) != b.Rows*b.cells*int(d.Type().Size) {
			t.Fatalf("%s: %v: a block at %d: %v", d.Path(), h, next, err)
		}
		parts, next = append(parts, b.Data...), next+uint64(b.Rows)
	}
	if !bytes.Equal(parts, p) {
		t.Fatalf("%s: %v: the blocks have other bytes", d.Path(), h)
	}
}

// TestHyperslabs reads what h5py reads: selections of each layout, index and filter, with one
// worker and with several, in large blocks and in small ones.
func TestHyperslabs(t *testing.T) {
	dir, _ := made(t, "hyperslab.py")
	list, err := os.ReadFile(filepath.Join(dir, "slabs.txt"))
	must(t, err)
	for _, procs := range []int{1, 4} {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
		for _, limit := range []int64{0, 160 << 10} { // a tile of 150 × 512 has less
			f := openFile(t, filepath.Join(dir, "slabs.h5"), &Options{MaxChunkBytes: limit})
			n := 0
			for line := range strings.Lines(string(list)) {
				words := strings.Fields(line)
				d := objectAt[*Dataset](t, f, words[0])
				h := Hyperslab{numbersOf(t, words[1]), numbersOf(t, words[2]), numbersOf(t, words[3]), numbersOf(t, words[4])}
				if size := slabSize(d, h); limit > 0 && size > uint64(limit) {
					if _, err := d.Slab(h); !errors.Is(err, ErrLimit) {
						t.Errorf("%s: %d bytes: %v", d.Path(), size, err)
					}
					continue
				}
				wantSlab(t, d, h, words[5])
				n++
			}
			t.Logf("%d selections", n)
		}
	}
}

// TestHyperslabOfTiles selects from 100 × 30 numbers that count up, in tiles of 64 × 16.
func TestHyperslabOfTiles(t *testing.T) {
	d, r := countedTiles(t)
	if _, err := d.StoredSize(); err != nil { // it reads the index
		t.Fatal(err)
	}
	for _, c := range []struct {
		h    Hyperslab
		most int64 // bytes that are read
	}{
		{Hyperslab{Start: []uint64{3, 5}, Count: []uint64{1, 1}}, 2},
		{Hyperslab{Start: []uint64{3, 14}, Count: []uint64{1, 4}}, 8},
		{Hyperslab{Start: []uint64{0, 29}, Count: []uint64{100, 1}}, 100 * 32},
		{Hyperslab{Start: []uint64{62, 0}, Count: []uint64{4, 30}}, 4 * 64},
		{Hyperslab{Start: []uint64{1, 2}, Stride: []uint64{33, 9}, Count: []uint64{3, 3}, Block: []uint64{2, 5}}, 3 * 64 * 32},
		{Hyperslab{Start: []uint64{0, 0}, Stride: []uint64{50, 15}, Count: []uint64{2, 2}, Block: []uint64{50, 15}}, 100 * 64},
		{Hyperslab{Start: []uint64{100, 30}, Count: []uint64{0, 0}}, 0},
		{Hyperslab{Start: []uint64{0, 0}, Count: []uint64{9, 9}, Block: []uint64{0, 1}}, 0},
	} {
		r.bytes.Store(0)
		b, err := d.Slab(c.h)
		must(t, err)
		if n := r.bytes.Load(); n > c.most {
			t.Errorf("%v: %d bytes read, at most %d", c.h, n, c.most)
		}
		var want []uint64
		for y := range uint64(100) {
			for x := range uint64(30) {
				if selects(c.h, 0, y) && selects(c.h, 1, x) {
					want = append(want, 30*y+x)
				}
			}
		}
		if got, err := b.Uint64s(); err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%v: %v, %v, want %v", c.h, got, err, want)
		}
	}
}

// TestReadsThatFail: when a part of the data cannot be read, the error names the chunk, if it
// is in one, and the place, and wraps the reader's own error.
func TestReadsThatFail(t *testing.T) {
	for _, name := range []string{"tiles", "netcdf4", "kinds-latest", "kinds-earliest"} {
		data := readSample(t, name)
		f, err := NewReader(brokenReader{bytes.NewReader(data), int64(len(data))}, int64(len(data)), nil)
		must(t, err)
		failed := 0
		for o, err := range f.Objects() {
			must(t, err)
			d, ok := o.(*Dataset)
			if !ok || d.Len() == 0 || d.Layout() == Compact {
				continue
			}
			if stored, err := d.StoredSize(); err != nil || stored == 0 {
				continue
			}
			f.reader = brokenReader{bytes.NewReader(data), 64}
			err := d.ReadRows(make([]byte, d.Len()*d.RowSize()), 0, d.Len())
			f.reader = brokenReader{bytes.NewReader(data), int64(len(data))}
			structure := "contiguous data"
			if d.Layout() == Chunked {
				structure = "chunk"
			}
			var e *Error
			if !errors.Is(err, errBroken) || !errors.As(err, &e) || e.Object != d.Path() || e.Structure != structure || e.Offset < 64 || e.Kind != nil {
				t.Errorf("%s: %s: %v, want one of reading a %s", name, d.Path(), err, structure)
			}
			failed++
		}
		t.Logf("%s: %d datasets", name, failed)
		if failed == 0 {
			t.Errorf("%s has no dataset to fail", name)
		}
	}
}

// TestColumnOfWideRows selects one number of each row of a dataset in one piece: where rows are wider
// than gatherGap, only these are read.
func TestColumnOfWideRows(t *testing.T) {
	for _, width := range []uint64{64, 1 << 12} {
		const height = 50
		var data []byte
		for i := range height * width {
			data = binary.LittleEndian.AppendUint16(data, uint16(i))
		}
		file := oldFile(data, space1(height, width), message1{messageDatatype, integerType(2, false)},
			message1{messageLayout, bytesOf(3, 1, uint64(dataAt), uint64(len(data)))})
		d := openDataset(t, file)
		r := &countingReader{Reader: bytes.NewReader(file)}
		d.file.reader = r
		b, err := d.Slab(Hyperslab{Start: []uint64{0, 7}, Count: []uint64{height, 1}})
		must(t, err)
		got, err := b.Uint64s()
		if err != nil || len(got) != height {
			t.Fatal(got, err)
		}
		for i, v := range got {
			if v != uint64(uint16(uint64(i)*width+7)) {
				t.Errorf("row %d of %d numbers: %d", i, width, v)
			}
		}
		most := int64(2 * height)
		if width == 64 {
			most = int64(len(data))
		}
		if n := r.bytes.Load(); n > most {
			t.Errorf("rows of %d numbers: %d bytes read, at most %d", width, n, most)
		}
	}
}

// selects reports whether a Hyperslab selects a coordinate of a dimension.
func selects(h Hyperslab, dimension int, at uint64) bool {
	stride, block := uint64(1), uint64(1)
	if h.Stride != nil {
		stride = h.Stride[dimension]
	}
	if h.Block != nil {
		block = h.Block[dimension]
	}
	for i := range h.Count[dimension] {
		if first := h.Start[dimension] + i*stride; at >= first && at < first+block {
			return true
		}
	}
	return false
}

// TestBadHyperslabs refuses what is no selection of a dataset of 100 × 30.
func TestBadHyperslabs(t *testing.T) {
	d, _ := countedTiles(t)
	two := func(a, b uint64) []uint64 { return []uint64{a, b} }
	for words, h := range map[string]Hyperslab{
		"0 numbers in Start, want 2":                    {},
		"1 numbers in Count, want 2":                    {Start: two(0, 0), Count: []uint64{1}},
		"3 numbers in Stride, want 2":                   {Start: two(0, 0), Count: two(1, 1), Stride: []uint64{1, 1, 1}},
		"0 numbers in Block, want 2":                    {Start: two(0, 0), Count: two(1, 1), Block: []uint64{}},
		"dimension 1: a stride of 0":                    {Start: two(0, 0), Count: two(1, 2), Stride: two(1, 0)},
		"dimension 0: a stride of 2 for blocks of 3":    {Start: two(0, 0), Count: two(2, 1), Stride: two(2, 1), Block: two(3, 1)},
		"dimension 0: 1 blocks of 1 from 100":           {Start: two(100, 0), Count: two(1, 1)},
		"dimension 0: 0 blocks of 1 from 101":           {Start: two(101, 0), Count: two(0, 1)},
		"dimension 1: 31 blocks of 1 from 0":            {Start: two(0, 0), Count: two(1, 31)},
		"dimension 1: 3 blocks of 1 from 0, each 15":    {Start: two(0, 0), Count: two(1, 3), Stride: two(1, 15)},
		"blocks of 1 from 0, each 18446744073709551615": {Start: two(0, 0), Count: two(3, 1), Stride: two(math.MaxUint64, 1)},
		"blocks of 18446744073709551615 from 1":         {Start: two(1, 0), Count: two(1, 1), Block: two(math.MaxUint64, 1)},
	} {
		_, err := d.Slab(h)
		if !errors.Is(err, ErrLimit) || !strings.Contains(err.Error(), "hdf5: /d: hyperslab: over a limit: ") || !strings.Contains(err.Error(), words) {
			t.Errorf("%v: %v, want %q", h, err, words)
		}
		if err := d.ReadSlab(make([]byte, 2), h); !errors.Is(err, ErrLimit) {
			t.Errorf("%v: ReadSlab: %v", h, err)
		}
		for _, err := range d.Slabs(h) {
			if !errors.Is(err, ErrLimit) {
				t.Errorf("%v: Slabs: %v", h, err)
			}
		}
	}
	if err := d.ReadSlab(make([]byte, 3), Hyperslab{Start: two(0, 0), Count: two(1, 1)}); !errors.Is(err, ErrLimit) || !strings.Contains(err.Error(), "a buffer of 3 bytes") {
		t.Errorf("a buffer that is too long: %v", err)
	}
}
