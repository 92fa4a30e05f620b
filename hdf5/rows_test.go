package hdf5

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
)

// manyChunks is a file with a dataset of 16-bit numbers in rows of 512 and chunks of
// width of them, 128 KiB each, that are shuffled and packed; and its bytes.
func manyChunks(t *testing.T, height, width, rows int) (file, content []byte) {
	t.Helper()
	const row = 512
	content = make([]byte, rows*row*2)
	for i := range content {
		content[i] = byte(i*i>>5 ^ i>>9)
	}
	var at, packed [][]byte
	for y := 0; y < rows; y += height {
		for x := 0; x < row; x += width {
			chunk := make([]byte, 2*height*width)
			for i := range height * width {
				source := 2 * ((y+i/width)*row + x + i%width)
				if source < len(content) {
					chunk[i], chunk[height*width+i] = content[source], content[source+1]
				}
			}
			at = append(at, bytesOf(uint64(y), uint64(x), uint64(0)))
			packed = append(packed, deflated(t, chunk, 1))
		}
	}
	tree := bytesOf("TREE", 1, 0, uint16(len(at)), undefined, undefined)
	place := dataAt + len(tree) + len(at)*40 + 32
	for i, p := range packed {
		tree = bytesOf(tree, uint32(len(p)), uint32(0), at[i], uint64(place))
		place += len(p)
	}
	data := bytesOf(tree, make([]byte, 32), bytes.Join(packed, nil))
	filters := bytesOf(1, 2, make([]byte, 6), uint16(filterShuffle), uint16(0), uint16(0), uint16(1), uint32(2), uint32(0),
		uint16(filterDeflate), uint16(0), uint16(0), uint16(1), uint32(1), uint32(0))
	return oldFile(data, space1(uint64(rows), row), message1{messageDatatype, integerType(2, false)},
		message1{messageLayout, bytesOf(3, 2, 3, uint64(dataAt), uint32(height), uint32(width), uint32(2))}, message1{messageFilters, filters}), content
}

// TestChunksOnSeveralCores reads rows of chunks over the whole width, which are unpacked
// into place, and of narrower ones, by one worker and by several.
func TestChunksOnSeveralCores(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	const rows = 900 // the last chunks stick out
	for _, c := range [][2]int{{128, 512}, {256, 256}} {
		file, content := manyChunks(t, c[0], c[1], rows)
		for _, limit := range []int64{0, 128 << 10} { // the least leaves one worker
			f := openBytes(t, file, &Options{MaxChunkBytes: limit})
			o, err := f.object(f.newBudget(), f.super.root, "/")
			must(t, err)
			d := o.(*Dataset)
			for _, r := range [][2]int{{0, rows}, {1, rows - 1}, {127, 2}, {128, 600}, {300, 301}, {rows - 1, 1}} {
				p := bytes.Repeat([]byte{0xa5}, r[1]*1024)
				if err := d.ReadRows(p, uint64(r[0]), uint64(r[1])); err != nil || !bytes.Equal(p, content[r[0]*1024:][:len(p)]) {
					t.Errorf("chunks of %v: %d rows from %d: %v", c, r[1], r[0], err)
				}
			}
			next := 0
			for b, err := range d.Rows(5, rows-5) {
				if err != nil || !bytes.Equal(b.Data, content[5*1024+next:][:len(b.Data)]) {
					t.Fatalf("chunks of %v: rows from %d: %v", c, b.Start, err)
				}
				next += len(b.Data)
			}
			if next != (rows-5)*1024 {
				t.Errorf("chunks of %v: %d bytes", c, next)
			}
		}
	}
}

// TestTheFirstBadChunkIsNamed damages two chunks: whoever meets which first, the error
// is that of the first in the file.
func TestTheFirstBadChunkIsNamed(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	file, content := manyChunks(t, 128, 512, 1024)
	d := openDataset(t, file)
	x, err := d.chunkIndex()
	must(t, err)
	for _, n := range []int{3, 4, 7} {
		file[x.chunks[n].address+x.chunks[n].size-1] ^= 1 // of the checksum
	}
	want := fmt.Sprintf("chunk at %#x: ", x.chunks[3].address)
	for range 20 {
		err := d.ReadRows(make([]byte, len(content)), 0, 1024)
		if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "deflate: checksum") {
			t.Fatalf("%v, want %s", err, want)
		}
	}
	if err := d.ReadRows(make([]byte, 3*128*1024), 0, 3*128); err != nil {
		t.Errorf("the chunks before it: %v", err)
	}
}

func TestUnshuffle(t *testing.T) {
	var pieces strip
	for _, element := range []int{0, 1, 2, 3, 4, 7, 8, 53, 1000, stripBytes/2 + 1, 2 * stripBytes} {
		for _, n := range []int{0, 1, 2, 300, 1003, 5003} {
			for _, rest := range []int{0, 1} {
				if n*element > 2<<20 {
					continue
				}
				want := make([]byte, n*element+rest)
				for i := range want {
					want[i] = byte(i * 7 >> 2)
				}
				shuffled := bytes.Clone(want)
				if element > 1 {
					for i := range n * element {
						shuffled[i%element*n+i/element] = want[i]
					}
				}
				if got := unshuffle(make([]byte, len(want)), shuffled, element); !bytes.Equal(got, want) {
					t.Errorf("%d elements of %d bytes, and %d", n, element, rest)
				}
				if element < 2 || n == 0 {
					continue
				}
				for _, step := range []int{1 + len(want)/1000, 1 + stripBytes/3, len(want)} { // with gaps, except for the last
					got := make([]byte, len(want))
					pieces.begin(shuffled, element)
					for from := 0; from < len(got); from += step {
						end := min(from+max(1, step*2/3), len(got))
						if step == len(want) {
							end = len(got)
						}
						pieces.copy(got[from:end], uint64(from))
						if !bytes.Equal(got[from:end], want[from:end]) {
							t.Fatalf("bytes %d to %d of %d elements of %d bytes, and %d", from, end, n, element, rest)
						}
					}
				}
			}
		}
	}
}

// countingReader counts the bytes that are read.
type countingReader struct {
	*bytes.Reader
	bytes atomic.Int64
}

func (r *countingReader) ReadAt(p []byte, offset int64) (int, error) {
	r.bytes.Add(int64(len(p)))
	return r.Reader.ReadAt(p, offset)
}

// countedTiles is a dataset of 100 × 30 numbers of 16 bits that count up, in tiles of 64 × 16,
// with what it is read with.
func countedTiles(t *testing.T) (*Dataset, *countingReader) {
	t.Helper()
	f := openBytes(t, readSample(t, "tiles"), nil)
	r := &countingReader{Reader: f.reader.(*bytes.Reader)}
	f.reader = r
	return objectAt[*Dataset](t, f, "d"), r
}

// TestRowsReadNoOthers: of chunks without filters that are tiles of the dataset, only the rows that
// are wanted are read.
func TestRowsReadNoOthers(t *testing.T) {
	d, r := countedTiles(t)
	must(t, d.ReadRows(make([]byte, d.RowSize()), 0, 1)) // and the index, once
	for _, c := range []struct{ start, count, most uint64 }{{70, 1, 2 * 32}, {63, 2, 2 * 2 * 32}, {0, 100, 100 * 2 * 32}} {
		r.bytes.Store(0)
		p := make([]byte, c.count*d.RowSize())
		must(t, d.ReadRows(p, c.start, c.count))
		if n := uint64(r.bytes.Load()); n > c.most {
			t.Errorf("%d rows from %d: %d bytes read, want %d", c.count, c.start, n, c.most)
		}
		for i := range c.count * 30 {
			if v := binary.LittleEndian.Uint16(p[2*i:]); uint64(v) != c.start*30+i {
				t.Fatalf("%d rows from %d, element %d: %d", c.count, c.start, i, v)
			}
		}
	}
}
