package hdf5io

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cidstore/cidstore/internal/hdf5sum"
	"github.com/cidstore/cidstore/internal/oracle"
)

// fileImage is an HDF5 file built in memory from the pure encoders: the nodes,
// headers and chunks lie where alloc puts them.
type fileImage struct {
	t testing.TB
	p []byte
}

func (f *fileImage) read(addr uint64, n int) ([]byte, error) {
	if addr > uint64(len(f.p)) || n > len(f.p)-int(addr) {
		return nil, errors.New("read beyond the image")
	}
	return f.p[addr:][:n], nil
}

func (f *fileImage) alloc(n int) (uint64, error) {
	addr := uint64(len(f.p))
	f.p = append(f.p, make([]byte, n)...)
	return addr, nil
}

func (f *fileImage) write(addr uint64, p []byte) error {
	copy(f.p[addr:], p)
	return nil
}

// free overwrites what the new tree no longer needs, because no reader may look
// there.
func (f *fileImage) free(addr uint64, n int) {
	for i := range n {
		f.p[int(addr)+i] = 0xa5
	}
}

func (f *fileImage) put(p []byte, err error) uint64 {
	f.t.Helper()
	must(f.t, err)
	addr := uint64(len(f.p))
	f.p = append(f.p, p...)
	return addr
}

// chunkedValues is a dataset of u32 with the values that must be read from it. Its
// first dimension is a multiple of the chunk's, because it is grown later, and must
// not show what an old chunk holds beyond it.
type chunkedValues struct {
	name     string
	dims     []uint64
	chunk    []uint32
	filtered bool
	nodeSize uint32
	batches  int
	size     int // edits of a batch

	depth  int
	values map[[4]uint64]uint32 // of the first element of each chunk; the others count up
}

// build writes the dataset in several random batches, deletes among them, and
// returns the address of its header.
func (c *chunkedValues) build(f *fileImage, rng *rand.Rand) uint64 {
	d := datasetHeader{Type: Uint(4), dims: c.dims, chunk: c.chunk, filtered: c.filtered, nodeSize: c.nodeSize, address: superblockSize}
	for range c.dims {
		d.maxDims = append(d.maxDims, undefinedAddress)
	}
	shape := d.indexShape()
	g, err := shape.geometry()
	must(f.t, err)
	head := emptyIndex()
	c.values = map[[4]uint64]uint32{}
	for range c.batches {
		edits := map[[4]uint64]chunkEdit{}
		for range c.size {
			var coord [4]uint64
			for i := range c.dims {
				coord[i] = rng.Uint64N((c.dims[i] + uint64(c.chunk[i]) - 1) / uint64(c.chunk[i]))
			}
			delete(c.values, coord)
			if edits[coord] = (chunkEdit{Chunk{Coord: coord}, true}); rng.IntN(4) > 0 {
				c.values[coord] = rng.Uint32()
				address := f.put(c.chunkData(c.values[coord]), nil)
				edits[coord] = chunkEdit{Chunk: Chunk{Coord: coord, Address: address, Size: g.storedSize()}}
			}
		}
		sorted := slices.SortedFunc(maps.Values(edits), byCoord)
		head, err = indexTree{f, shape, head}.update(f, sorted, moveNothing, func(r Chunk) { f.free(r.Address, int(r.Size)) })
		must(f.t, err)
	}
	c.depth = head.depth
	d.address = f.put(head.append(nil, shape))
	h := objectHeader{dataset: &d, attributes: []Attribute{{Name: "units", Type: String(8), Data: []byte("chunks\x00\x00")}}}
	return f.put(h.append(nil))
}

func (c *chunkedValues) chunkData(first uint32) []byte {
	n := uint32(1)
	for _, k := range c.chunk {
		n *= k
	}
	var p []byte
	for i := range n {
		p = binary.LittleEndian.AppendUint32(p, first+i)
	}
	if c.filtered {
		p = binary.LittleEndian.AppendUint32(p, hdf5sum.Fletcher32(p))
	}
	return p
}

// expected is what the reader must find, as the script's JSON.
type expected struct {
	Attributes map[string]any      `json:"attributes"`
	Contiguous []float64           `json:"contiguous"`
	Chunked    map[string][][]any  `json:"chunked"` // coordinates of a chunk in elements, and its first value
	Shapes     map[string][]uint64 `json:"shapes"`
}

// buildImage writes a file with every structure that the package knows.
func buildImage(t testing.TB) ([]byte, []*chunkedValues, expected) {
	f := &fileImage{t: t, p: make([]byte, superblockSize)}
	rng := rand.New(rand.NewPCG(11, 12))
	datasets := []*chunkedValues{
		{name: "empty", dims: []uint64{40}, chunk: []uint32{4}, nodeSize: 2048},
		{name: "one_leaf", dims: []uint64{88}, chunk: []uint32{4}, nodeSize: 2048, batches: 3, size: 12},
		{name: "rank1", dims: []uint64{6000}, chunk: []uint32{2}, nodeSize: 2048, batches: 6, size: 900},
		{name: "rank1_deep", dims: []uint64{15000}, chunk: []uint32{1}, filtered: true, nodeSize: 512, batches: 9, size: 3000},
		{name: "rank2", dims: []uint64{700, 11}, chunk: []uint32{1, 4}, nodeSize: 2048, batches: 8, size: 700},
		{name: "rank2_deep", dims: []uint64{1500, 13}, chunk: []uint32{1, 3}, filtered: true, nodeSize: 512, batches: 8, size: 2500},
		{name: "rank3", dims: []uint64{30, 20, 9}, chunk: []uint32{2, 3, 2}, filtered: true, nodeSize: 1024, batches: 4, size: 300},
		{name: "rank4", dims: []uint64{10, 8, 7, 6}, chunk: []uint32{2, 2, 2, 1}, nodeSize: 512, batches: 4, size: 300},
	}
	want := expected{Chunked: map[string][][]any{}, Shapes: map[string][]uint64{}}
	var members objectHeader
	for _, c := range datasets {
		members.links = append(members.links, link{c.name, c.build(f, rng)})
		want.Shapes[c.name] = c.dims
		rows := [][]any{}
		for coord, v := range c.values {
			row := []any{}
			for i := range c.dims {
				row = append(row, coord[i]*uint64(c.chunk[i]))
			}
			rows = append(rows, append(row, v))
		}
		want.Chunked[c.name] = rows
	}
	var numbers []byte
	for i := range 1000 {
		want.Contiguous = append(want.Contiguous, math.Sqrt(float64(i)))
		numbers = binary.LittleEndian.AppendUint64(numbers, math.Float64bits(want.Contiguous[i]))
	}
	contiguous := objectHeader{dataset: &datasetHeader{Type: Float64(), dims: []uint64{1000}, address: f.put(numbers, nil), size: 8000}}
	none := objectHeader{dataset: &datasetHeader{Type: Compound(24, Field{"id", 0, Uint(8)}, Field{"ids", 8, Array(Uint(4), 2, 2)}), dims: []uint64{0}, address: undefinedAddress}}
	chunked := f.put(members.append(nil))
	pointer := Compound(12, Field{"bucket_id", 0, Uint(4)}, Field{"ref", 4, Uint(8)})
	root := objectHeader{
		links: []link{{"chunked", chunked}, {"numbers", f.put(contiguous.append(nil))}, {"nichts_für_niemand", f.put(none.append(nil))}},
		attributes: []Attribute{
			{Name: "u8", Type: Uint(1), Data: []byte{200}},
			{Name: "i16", Type: Int(2), Data: []byte{0xfe, 0xff}},
			{Name: "u64", Type: Uint(8), Data: []byte{1, 0, 0, 0, 0, 0, 0, 0x80}},
			{Name: "f64", Type: Float64(), Data: binary.LittleEndian.AppendUint64(nil, math.Float64bits(0.75))},
			{Name: "text", Type: String(16), Data: append([]byte("grün"), make([]byte, 11)...)},
			{Name: "größe", Type: Uint(2), Dims: []uint64{3}, Data: []byte{1, 0, 2, 0, 3, 0}},
			{Name: "dir", Type: pointer, Dims: []uint64{5455}, Data: make([]byte, 5455*12)},
			{Name: "wide", Type: Compound(256, Field{"last", 255, Uint(1)}), Data: append(make([]byte, 255), 7)},
		},
	}
	want.Attributes = map[string]any{"u8": 200, "i16": -2, "u64": uint64(1<<63 + 1), "f64": 0.75, "text": "grün", "größe": []int{1, 2, 3}}
	s := superblock{root: f.put(root.append(nil))}
	s.endOfFile = uint64(len(f.p))
	copy(f.p, s.append(nil))
	return f.p, datasets, want
}

// readScript compares the file with the JSON in another, element by element. Holes are
// zero.
const readScript = `
import sys, json, h5py, numpy as np
want = json.load(open(sys.argv[2], "rb"))
with h5py.File(sys.argv[1], "r") as f:
    assert sorted(f) == ["chunked", "nichts_für_niemand", "numbers"], list(f)
    assert len(f.attrs) == len(want["attributes"]) + 2, list(f.attrs)
    for name, value in want["attributes"].items():
        got = f.attrs[name]
        got = got.decode() if isinstance(got, bytes) else got.tolist()
        assert got == value, (name, got, value)
    assert f.attrs["dir"].shape == (5455,) and f.attrs["dir"].dtype.names == ("bucket_id", "ref")
    assert f.attrs["wide"]["last"] == 7
    assert f["numbers"][:].tolist() == want["contiguous"]
    assert f["nichts_für_niemand"].dtype["ids"].shape == (2, 2)
    for name, rows in want["chunked"].items():
        d = f["chunked"][name]
        expect = np.zeros(want["shapes"][name], "u4")
        for row in rows:
            chunk = row[-1] + np.arange(int(np.prod(d.chunks)), dtype="u8").reshape(d.chunks)
            at = tuple(slice(a, a + n) for a, n in zip(row, d.chunks))
            part = expect[at]
            part[...] = chunk.astype("u4")[tuple(slice(0, n) for n in part.shape)]
        assert (d[...] == expect).all(), name
        assert d.id.get_num_chunks() == len(rows), (name, d.id.get_num_chunks(), len(rows))
        assert d.attrs["units"] == b"chunks" and len(d.attrs) == 1
`

// insertScript writes 50 new chunks into each of our indexes with the library, and
// reads everything back.
const insertScript = `
import sys, h5py, numpy as np
new = {}
with h5py.File(sys.argv[1], "r+") as f:
    for name, d in f["chunked"].items():
        whole = d[...]
        used = {d.id.get_chunk_info(i).chunk_offset for i in range(d.id.get_num_chunks())}
        grown = (d.shape[0] + 60 * d.chunks[0],) + d.shape[1:]
        d.resize(grown)
        expect = np.zeros(grown, "u4")
        expect[tuple(slice(0, n) for n in whole.shape)] = whole
        added = 0
        for at in np.ndindex(*[-(-n // c) for n, c in zip(grown, d.chunks)]):
            at = tuple(a * c for a, c in zip(at, d.chunks))
            if at not in used:
                part = tuple(slice(a, a + c) for a, c in zip(at, d.chunks))
                d[part] = expect[part] = 77 + added
                added += 1
                if added == 50: break
        assert added == 50, (name, added)
        new[name] = expect
with h5py.File(sys.argv[1], "r") as f:
    for name, expect in new.items():
        assert (f["chunked"][name][...] == expect).all(), name
`

// writeImage writes the image to a file, and what must be read of it to another.
func writeImage(t *testing.T) (path, wanted string, datasets []*chunkedValues) {
	t.Helper()
	image, datasets, want := buildImage(t)
	text, err := json.Marshal(want)
	must(t, err)
	path, wanted = filepath.Join(t.TempDir(), "ours.h5"), filepath.Join(t.TempDir(), "want.json")
	must(t, os.WriteFile(path, image, 0o600), os.WriteFile(wanted, text, 0o600))
	return path, wanted, datasets
}

func TestHDF5LibraryReads(t *testing.T) {
	python := oracle.H5py(t)
	path, wanted, datasets := writeImage(t)
	depths := map[int]bool{}
	for _, c := range datasets {
		depths[c.depth] = true
		t.Logf("%s: depth %d, %d chunks", c.name, c.depth, len(c.values))
	}
	for depth := range 4 {
		if !depths[depth] {
			t.Errorf("no index of depth %d was tried", depth)
		}
	}
	run(t, python, "-c", readScript, path, wanted)
	run(t, oracle.H5dump(t), path)
	run(t, oracle.H5stat(t), "-S", path)
	run(t, oracle.H5ls(t), "-v", "-r", path)
}

func TestHDF5LibraryInserts(t *testing.T) {
	python := oracle.H5py(t)
	path, _, _ := writeImage(t)
	run(t, python, "-c", insertScript, path)
}
