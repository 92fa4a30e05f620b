package hdf5io

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"strings"
	"testing"

	"github.com/cidstore/cidstore/internal/golden"
)

// TestGoldenFiles: every byte of two small files, of a store's kind and a plain one, is
// what testdata says, where each has the name of its field.
func TestGoldenFiles(t *testing.T) {
	for name, o := range map[string]Options{"store": {}, "plain": {Plain: true}} {
		t.Run(name, func(t *testing.T) {
			f, content := goldenFile(t, o)
			slot := f.View().slot
			d := fileDump{golden.New(t, content), t, content}
			d.Structure("superblock", 0, d.superblock)
			for i := range 2 {
				d.Structure(fmt.Sprint("commit slot ", i), int(slotOffset(i)), d.commitSlot)
			}
			d.object("/", slot.root())
			for i, m := range slot.maps {
				if m.count > 0 {
					d.mapNode(fmt.Sprint("chunk map ", i), m.address, int(m.depth), m.count)
				}
			}
			d.Structure("free map", int(slot.freeMapAddress), d.freeMap)
			golden.Compare(t, name+".txt", d.String())
		})
	}
}

// goldenFile makes a file in two commits, with a dataset of each kind and datatypes of
// all classes.
func goldenFile(t *testing.T, o Options) (*File, []byte) {
	t.Helper()
	o.UUID, o.GrowStep, o.Quarantine = testUUID, 4096, -1
	m := new(memoryFile)
	f, err := Create(m, o, []byte("payload"), func(tx *Tx) error {
		goldenTree(t, tx, o.Plain)
		goldenRows(t, tx, 0, 45)
		return nil
	})
	must(t, err)
	tx := begin(t, f)
	goldenRows(t, tx, 43, 46)
	_, err = tx.Commit([]byte("payload of the second commit"))
	must(t, err)
	return f, m.p
}

func goldenTree(t *testing.T, tx *Tx, plain bool) {
	create := func(path string, spec DatasetSpec) {
		_, err := tx.CreateDataset(path, spec)
		must(t, err)
	}
	must(t, tx.CreateGroup("/table"))
	create("/log", DatasetSpec{Type: Uint(2), Dims: []uint64{6}, Data: []byte("twelve bytes")})
	pair := Compound(32, Field{"key", 0, Uint(8)}, Field{"scores", 8, Array(Float32(), 2)},
		Field{"kind", 16, Enum(Int(1), EnumMember{"old", -1}, EnumMember{"new", 1})})
	create("/table/rows", DatasetSpec{Type: pair, Dims: []uint64{50, 4}, MaxDims: []uint64{Unlimited, Unlimited}, Chunk: []uint32{1, 2},
		Attributes: Described("all rows", "none")})
	create("/table/sums", DatasetSpec{Type: Int(8), Dims: []uint64{8}, Chunk: []uint32{4}, Fletcher32: true})
	if plain {
		create("/packed", DatasetSpec{Type: Float64(), Dims: []uint64{9}, Chunk: []uint32{3}, Fletcher32: true, Shuffle: true, Deflate: 6})
	} else {
		create("/pages", DatasetSpec{Type: Uint(4), Dims: []uint64{4 * 200}, MaxDims: []uint64{Unlimited}, Chunk: []uint32{4}, Fletcher32: true, Map: SecondMap})
	}
}

// goldenRows writes enough rows for an inner node in the index.
func goldenRows(t *testing.T, tx *Tx, from, to uint64) {
	write := func(path string, data []byte, coord ...uint64) {
		_, err := dataset(t, tx, path).Write(data, coord...)
		must(t, err)
	}
	for row := from; row < to; row++ {
		for k := range uint64(2) {
			write("/table/rows", bytes.Repeat([]byte{byte(uint64(tx.NextCommit())<<7 | row<<1 | k)}, 64), row, k)
		}
	}
	write("/table/sums", []byte("of eight numbers, the first four"), 0)
	if !tx.file.options.Plain {
		pages := dataset(t, tx, "/pages")
		must(t, pages.WritePage(from, []byte("a page of a map."), Marks{}), pages.WritePage(199, []byte("the other pages."), Marks{}))
	}
}

// fileDump describes a file, structure by structure.
type fileDump struct {
	*golden.Dump
	t       *testing.T
	content []byte
}

func (d fileDump) superblock() {
	d.Field("signature", 8)
	d.fields("version 1", "size of offsets 1", "size of lengths 1", "consistency flags 1", "base address 8", "extension 8", "end of file 8", "root group 8", "lookup3 4")
}

// fields describes fields of fixed sizes, each of which comes after its name.
func (d fileDump) fields(list ...string) {
	for _, f := range list {
		at := strings.LastIndexByte(f, ' ')
		var size int
		_, err := fmt.Sscan(f[at+1:], &size)
		must(d.t, err)
		d.Field(f[:at], size)
	}
}

func (d fileDump) commitSlot() {
	start := d.At()
	d.fields("magic 8", "version 4")
	payload := int(d.Uint("payload_size", 4))
	d.fields("file_uuid 16", "generation 8", "commit 8", "end_of_file 8")
	d.superblock()
	d.fields("free_map_address 8", "free_map_size 8", "free_map_crc32c 4", "tree_crc32c 4")
	for i := range 2 {
		for _, f := range []string{"address 8", "count 8", "commit 8", "depth 4", "crc32c 4"} {
			d.fields(fmt.Sprintf("chunk_map_%d %s", i, f))
		}
	}
	d.Field("payload", payload)
	d.Field("rest of the payload", start+offSlotCRC-d.At())
	d.Field("crc32c", 4)
}

// object describes an object header and all below it.
func (d fileDump) object(path string, address uint64) {
	d.Structure("object header of "+path, int(address), func() {
		d.fields("signature 4", "version 1")
		size := int(d.Uint("size of messages", 1<<d.Uint("flags", 1)))
		for end := d.At() + size; d.At() < end; {
			d.message()
		}
		d.Field("lookup3", 4)
	})
	h, _, err := parseObjectHeader(d.content[address:], int64(address))
	switch {
	case err != nil:
		d.t.Fatal(err)
	case h.dataset == nil:
		for _, l := range h.links {
			d.object(strings.TrimSuffix(path, "/")+"/"+l.name, l.address)
		}
	case h.dataset.chunk == nil:
		d.Structure("", int(h.dataset.address), func() { d.Field(path, int(h.dataset.size)) })
	default:
		d.index(path, h.dataset)
	}
}

func (d fileDump) message() {
	t := messageType(d.content[d.At()])
	form, ok := t.form()
	if !ok {
		d.t.Fatalf("message of type %d", t)
	}
	d.Field(form.name+" message", 1)
	size := int(d.Uint("size", 2))
	d.Field("flags", 1)
	end := d.At() + size
	switch t {
	case messageDataspace:
		d.dataspace()
	case messageDatatype:
		d.datatype()
	case messageFillValue:
		d.fields("version 1", "flags 1")
	case messageLayout:
		d.layout()
	case messageFilter:
		d.Field("version", 1)
		for range d.Uint("filters", 1) {
			d.fields("filter 2", "flags 2")
			for range d.Uint("number of values", 2) {
				d.Field("value", 4)
			}
		}
	case messageLinkInfo, messageAttributeInfo:
		d.fields("version 1", "flags 1", "heap 8", "name index 8")
	case messageGroupInfo:
		d.fields("version 1", "flags 1")
	case messageLink:
		d.Field("version", 1)
		if d.Uint("flags", 1)&linkCharset != 0 {
			d.Field("character set", 1)
		}
		d.Field("name", int(d.Uint("size of name", 1)))
		d.Field("address", 8)
	case messageAttribute:
		d.fields("version 1", "flags 1")
		name := int(d.Uint("size of name", 2))
		d.fields("size of datatype 2", "size of dataspace 2", "character set 1")
		d.Field("name", name)
		d.datatype()
		d.dataspace()
		d.Field("data", end-d.At())
	}
	if d.At() != end {
		d.t.Fatalf("%s message ends at %d, want %d", form.name, d.At(), end)
	}
}

func (d fileDump) dataspace() {
	d.Field("dataspace version", 1)
	rank := d.Uint("dimensions", 1)
	flags := d.Uint("flags", 1)
	d.Field("dataspace type", 1)
	for i := range rank {
		d.Field(fmt.Sprint("dimension ", i), 8)
	}
	for i := range rank * (flags & dataspaceMaximums) {
		d.Field(fmt.Sprint("maximum ", i), 8)
	}
}

func (d fileDump) datatype() {
	kind := class(d.Uint("datatype class", 1))
	form := d.Uint("class bits", 3)
	size := d.Uint("element size", 4)
	text := func(name string) { d.Field(name, bytes.IndexByte(d.content[d.At():], 0)+1) }
	switch kind {
	case classInteger:
		d.fields("bit offset 2", "precision 2")
	case classFloat:
		d.fields("bit offset 2", "precision 2", "exponent at 1", "exponent bits 1", "mantissa at 1", "mantissa bits 1", "exponent bias 4")
	case classArray:
		for range d.Uint("array dimensions", 1) {
			d.Field("array dimension", 4)
		}
		d.datatype()
	case classCompound:
		for range form {
			text("member")
			d.Field("offset", (bits.Len64(size)+7)/8)
			d.datatype()
		}
	case classEnum:
		d.datatype()
		for range form {
			text("member")
		}
		for range form {
			d.Field("value", int(size))
		}
	}
}

func (d fileDump) layout() {
	d.Field("version", 1)
	if d.Uint("layout class", 1) == layoutContiguous {
		d.fields("address 8", "size 8")
		return
	}
	d.Field("flags", 1)
	rank := d.Uint("rank + 1", 1)
	width := int(d.Uint("width", 1))
	for i := range rank - 1 {
		d.Field(fmt.Sprint("chunk dimension ", i), width)
	}
	d.Field("element size", width)
	d.fields("index type 1", "node size 4", "split percent 1", "merge percent 1", "index header 8")
}

// index describes the index of a dataset, and its chunks.
func (d fileDump) index(path string, dataset *datasetHeader) {
	d.Structure("index header of "+path, int(dataset.address), func() {
		d.fields("signature 4", "version 1", "record type 1", "node size 4", "record size 2", "depth 2",
			"split percent 1", "merge percent 1", "root node 8", "records in the root 2", "records in the tree 8", "lookup3 4")
	})
	shape := dataset.indexShape()
	head, err := parseIndexHeader(d.content[dataset.address:], int64(dataset.address), shape)
	must(d.t, err)
	g, err := shape.geometry()
	must(d.t, err)
	if head.total > 0 {
		d.indexNode(path, g, child{head.root, head.rootRecords, head.total}, head.depth)
	}
}

func (d fileDump) indexNode(path string, g *geometry, c child, level int) {
	d.Structure(fmt.Sprintf("index node of %s, level %d", path, level), int(c.address), func() {
		n, err := g.parseNode(d.content[d.At():], c.count, level)
		must(d.t, err)
		d.fields("signature 4", "version 1", "record type 1")
		for i := range c.count {
			r, err := n.record(i)
			must(d.t, err)
			d.chunk(path, g, r)
		}
		for i := range c.count + 1 {
			if level > 0 {
				d.Field("node address", 8)
				d.Field("records", g.countWidth)
				d.Field("and below", g.levels[level-1].totalWidth)
				d.indexNode(path, g, n.child(i), level-1)
			}
		}
		d.Field("lookup3", 4)
		d.Field("not in use", int(c.address)+int(g.nodeSize)-d.At())
	})
}

// chunk describes a record of an index, and the chunk.
func (d fileDump) chunk(path string, g *geometry, r Chunk) {
	place := g.place(r.Coord)
	d.Field(fmt.Sprint("chunk ", place, " at"), 8)
	if g.filtered {
		d.Field("stored bytes", g.sizeWidth)
		d.Field("filters not used", 4)
	}
	d.Field("place", 8*g.rank)
	d.Structure("", int(r.Address), func() { d.Field(fmt.Sprint(path, " ", place), int(r.Size)) })
}

// mapNode describes a node of a chunk map and all below it, for count chunks.
func (d fileDump) mapNode(title string, address uint64, level int, count uint64) {
	d.Structure(fmt.Sprintf("%s, level %d", title, level), int(address), func() {
		if level > 0 {
			for first := uint64(0); first < count; first += mapLeafChunks {
				leaf := binary.LittleEndian.Uint64(d.content[d.At():])
				d.fields("node address 8", "commit 8", "crc32c 4", "reserved 4")
				d.mapNode(title, leaf, level-1, min(count-first, mapLeafChunks))
			}
		}
		for i := uint64(0); level == 0 && i < count; {
			absent := i
			for i < count && binary.LittleEndian.Uint64(d.content[d.At()+int(i-absent)*chunkRecordSize:]) == 0 {
				i++
			}
			if i > absent {
				d.Field(fmt.Sprintf("no chunks %d to %d", absent, i-1), int(i-absent)*chunkRecordSize)
			} else {
				d.fields(fmt.Sprintf("chunk %d address 8", i), "commit 8", "size 4", "crc32c 4")
				i++
			}
		}
		d.Field("not in use", int(address)+mapNodeSize-d.At())
	})
}

func (d fileDump) freeMap() {
	for _, list := range []string{"free", "freed by this commit"} {
		for i := range d.varint(list) {
			d.varint(fmt.Sprint("gap before extent ", i))
			d.varint(fmt.Sprint("length of extent ", i))
		}
	}
}

func (d fileDump) varint(name string) uint64 {
	value, n := binary.Uvarint(d.content[d.At():])
	d.Field(name, n)
	return value
}
