package table

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"
)

const (
	// firstChunk is where chunks begin, after the superblock.
	firstChunk = 512
	// usualChunk is the size of a chunk before it is packed, in bytes.
	usualChunk = 256 << 10
	// leastRows is the least number of elements of a chunk, so that appending a few
	// of them makes no tiny chunks.
	leastRows = 64
	// maxDatasets is how many names the one leaf of the root group holds.
	maxDatasets = 8
)

// Writer writes one file.
type Writer struct {
	out      io.WriterAt
	at       int64 // where the next bytes go
	chunk    int   // size of a chunk before it is packed, in bytes
	pack     bool
	packed   bytes.Buffer
	packer   *zlib.Writer
	datasets []*Dataset
}

// NewWriter returns a Writer of an empty file. With pack, chunks are packed by
// deflate, which every HDF5 library reads; that makes them smaller, but much slower
// to write.
func NewWriter(out io.WriterAt, pack bool) *Writer {
	w := &Writer{out: out, at: firstChunk, chunk: usualChunk, pack: pack}
	if pack {
		w.packer = zlib.NewWriter(&w.packed)
	}
	return w
}

// Dataset is a dataset that is being written.
type Dataset struct {
	w           *Writer
	name        string
	description string
	fields      []string // none: the elements are numbers
	rows        uint64
	chunkRows   int    // elements of a chunk
	chunk       []byte // not yet written
	chunks      []stored
}

// stored says where a chunk is.
type stored struct {
	address int64
	size    uint32
}

// Dataset begins a dataset of the root group. Its elements are records of the
// fields, or, without fields, numbers. Names are ASCII without NUL; those of
// datasets have no slash. A file has up to 8 datasets.
func (w *Writer) Dataset(name, description string, fields ...string) (*Dataset, error) {
	if len(w.datasets) == maxDatasets {
		return nil, fmt.Errorf("dataset %s: there are %d already, and no more fit", name, maxDatasets)
	}
	d := &Dataset{w: w, name: name, description: description, fields: fields}
	d.chunkRows = w.chunk / d.width()
	d.chunk = make([]byte, 0, d.chunkRows*d.width())
	w.datasets = append(w.datasets, d)
	return d, nil
}

// width is the size of an element, in bytes.
func (d *Dataset) width() int { return 8 * max(len(d.fields), 1) }

// Len is the number of elements so far.
func (d *Dataset) Len() uint64 { return d.rows }

// Append adds an element, its fields in order. After an error the file is useless.
func (d *Dataset) Append(fields ...uint64) error {
	for _, v := range fields {
		d.chunk = binary.LittleEndian.AppendUint64(d.chunk, v)
	}
	d.rows++
	if len(d.chunk) < cap(d.chunk) {
		return nil
	}
	return d.flush()
}

// flush writes the present chunk.
func (d *Dataset) flush() error {
	data := d.chunk
	d.chunk = d.chunk[:0]
	if d.w.pack {
		var err error
		if data, err = d.w.deflate(data); err != nil {
			return err
		}
	}
	d.chunks = append(d.chunks, stored{d.w.at, uint32(len(data))})
	_, err := d.w.write(data)
	return err
}

func (w *Writer) deflate(data []byte) ([]byte, error) {
	w.packed.Reset()
	w.packer.Reset(&w.packed)
	if _, err := w.packer.Write(data); err != nil {
		return nil, err
	}
	if err := w.packer.Close(); err != nil {
		return nil, err
	}
	return w.packed.Bytes(), nil
}

// write appends p to the file and returns its address.
func (w *Writer) write(p []byte) (address int64, err error) {
	address = w.at
	n, err := w.out.WriteAt(p, w.at)
	w.at += int64(n)
	return address, err
}

// finish writes the rest of a dataset's data. If the dataset has only this chunk,
// it is only as long as needed; otherwise the last chunk is as long as the others.
func (d *Dataset) finish() error {
	if len(d.chunk) == 0 {
		return nil
	}
	if len(d.chunks) == 0 {
		d.chunkRows = min(d.chunkRows, max(int(d.rows), leastRows))
	}
	d.chunk = zeros(d.chunk, d.chunkRows*d.width())
	return d.flush()
}

// Close writes the structures that lead to the data, the superblock last. It neither
// syncs nor closes the file.
func (w *Writer) Close() error {
	for _, d := range w.datasets {
		if err := d.finish(); err != nil {
			return err
		}
	}
	if _, err := w.write(make([]byte, -w.at&7)); err != nil {
		return err
	}
	// The names of a group are in order.
	slices.SortFunc(w.datasets, func(a, b *Dataset) int { return strings.Compare(a.name, b.name) })
	headers := make([]int64, len(w.datasets))
	for i, d := range w.datasets {
		tree, err := w.writeTree(d)
		if err != nil {
			return err
		}
		if headers[i], err = w.write(objectHeader(d.messages(tree))); err != nil {
			return err
		}
	}
	group, err := w.writeGroup(headers)
	if err != nil {
		return err
	}
	_, err = w.out.WriteAt(superblock(group, w.at), 0)
	return err
}
