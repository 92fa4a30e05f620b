package hdf5

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode"
)

// openFile opens a file until the test ends.
func openFile(t testing.TB, path string, options *Options) *File {
	t.Helper()
	f, err := Open(path, options)
	must(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// openSample opens a file of testdata.
func openSample(t testing.TB, name string, options *Options) *File {
	t.Helper()
	return openFile(t, filepath.Join("testdata", name+".h5"), options)
}

// objectAt returns the object at a path, which is a T.
func objectAt[T Object](t testing.TB, f *File, path string) T {
	t.Helper()
	root, err := f.Root()
	must(t, err)
	object, err := openAs[T](root, path)
	must(t, err)
	return object
}

var kinds = []string{"kinds-earliest", "kinds-latest"}

func TestPaths(t *testing.T) {
	for _, name := range kinds {
		f := openSample(t, name, nil)
		root, linked := objectAt[*Group](t, f, "/"), objectAt[*Group](t, f, "linked")
		for path, want := range map[string]string{
			"a/b/c/x": "/linked/a/b/c/x", "/linked/a": "/linked/a", "/": "/", "": "/linked", ".//a/./b/": "/linked/a/b",
			"soft": "/linked/a/b/c/x", "hard/up/hard": "/linked/hard/up/hard", "/linked/hard/up/soft": "/linked/hard/up/a/b/c/x",
			"ünicode ☃": "/linked/ünicode ☃", "long " + strings.Repeat("n", 300): "/linked/long " + strings.Repeat("n", 300),
		} {
			o, err := linked.Open(path)
			if err != nil || o.Path() != want {
				t.Errorf("%s: Open(%q) = %v, %v, want %s", name, path, o, err, want)
			}
		}
		for path, want := range map[string]error{
			"absent": ErrNotFound, "a/absent/b": ErrNotFound, "absolute": ErrNotFound, "external": ErrUnsupported, "external/x": ErrUnsupported,
			"a/b/c/x/y": ErrNotFound, strings.Repeat("a/b/c/up/", 600): ErrLimit, "..": ErrNotFound,
		} {
			o, err := linked.Open(path)
			if !errors.Is(err, want) || o != nil {
				t.Errorf("%s: Open(%.30q) = %v, %v, want %v", name, path, o, err, want)
			}
		}
		if _, err := linked.Dataset("a"); !errors.Is(err, ErrWrongType) {
			t.Errorf("a group as dataset: %v", err)
		}
		if _, err := root.Group("committed"); !errors.Is(err, ErrWrongType) {
			t.Errorf("a datatype as group: %v", err)
		}
		if _, err := root.Attribute("absent"); !errors.Is(err, ErrNotFound) {
			t.Errorf("an absent attribute: %v", err)
		}
	}
}

func TestLinkOfEachKind(t *testing.T) {
	for _, name := range kinds {
		linked := objectAt[*Group](t, openSample(t, name, nil), "linked")
		for name, want := range map[string]Link{
			"soft":     {Name: "soft", Kind: SoftLink, Target: "a/b/c/x"},
			"external": {Name: "external", Kind: ExternalLink, Target: "/there", File: "other.h5"},
		} {
			if got, err := linked.Link(name); err != nil || got != want {
				t.Errorf("Link(%q) = %+v, %v, want %+v", name, got, err, want)
			}
		}
		if l, err := linked.Link("hard"); err != nil || l.Kind != HardLink || l.address == 0 {
			t.Errorf("Link(hard) = %+v, %v", l, err)
		}
		for range linked.Links() {
			break // the iterator must end
		}
	}
}

// TestSoftLinksInACircle follows links that lead to each other.
func TestSoftLinksInACircle(t *testing.T) {
	soft := func(name, target string) message1 {
		return message1{messageLink, bytesOf(1, 8, 1, len(name), name, uint16(len(target)), target)}
	}
	file := oldFile(nil, message1{messageLinkInfo, bytesOf(0, 0, undefined, undefined)}, soft("a", "b"), soft("b", "/a"), soft("self", "self/self/self"))
	o, err := openObject(t, file)
	must(t, err)
	for _, path := range []string{"a", "b", "self", "a/x"} {
		if _, err := o.(*Group).Open(path); !errors.Is(err, ErrLimit) || !strings.Contains(err.Error(), "circle") {
			t.Errorf("Open(%q): %v, want ErrLimit", path, err)
		}
	}
}

func TestObjectsYieldsEachOnce(t *testing.T) {
	for _, name := range kinds {
		f := openSample(t, name, nil)
		seen := make(map[uint64]string)
		for o, err := range f.Objects() {
			must(t, err)
			if other, ok := seen[o.Address()]; ok {
				t.Errorf("%s and %s are one object", other, o.Path())
			}
			seen[o.Address()] = o.Path()
		}
		if len(seen) != 33 {
			t.Errorf("%d objects, want 33", len(seen))
		}
		for range f.Objects() {
			break
		}
	}
}

func TestWhatADatasetSaysOfItself(t *testing.T) {
	f := openSample(t, "kinds-latest", nil)
	if s := f.Superblock(); s.Version != 3 || s.UserBlock != 0 || s.EndOfFile != f.Size() || s.OffsetSize != 8 || s.LengthSize != 8 || f.OpenForWriting() {
		t.Errorf("superblock %+v, size %d", s, f.Size())
	}
	d := objectAt[*Dataset](t, f, "chunks/treeTrue")
	if !reflect.DeepEqual(d.Shape(), []uint64{40, 3}) || !reflect.DeepEqual(d.MaxShape(), []uint64{Unlimited, Unlimited}) ||
		!reflect.DeepEqual(d.ChunkShape(), []uint64{1, 2}) || d.Layout() != Chunked || d.Index() != BTree2 || d.Type().String() != "u16" ||
		fmt.Sprint(d.Filters()) != "[shuffle deflate fletcher32]" || !bytes.Equal(d.FillValue(), []byte{9, 0}) || d.Len() != 40 || d.RowSize() != 6 {
		t.Errorf("%v %v %v %v %v %v %v %v", d.Shape(), d.MaxShape(), d.ChunkShape(), d.Layout(), d.Index(), d.Type(), d.Filters(), d.FillValue())
	}
	if n, err := d.StoredSize(); err != nil || n != 1248 {
		t.Errorf("StoredSize = %d, %v", n, err)
	}
	if got, want := objectAt[*Dataset](t, f, "types/arrays").Type().String(), "{key u64, slots [4]{high u64, low u64}, grid [2,3]i16, mask u8}"; got != want {
		t.Errorf("type %s, want %s", got, want)
	}
	if !openSample(t, "upstream-killed", nil).OpenForWriting() {
		t.Error("the file of a killed writer is not reported")
	}
}

// TestEveryRangeOfRows reads every range of rows, and compares them
// with one reading of all.
func TestEveryRangeOfRows(t *testing.T) {
	for _, path := range []string{"chunks/extensibleTrue", "chunks/treeFalse", "types/arrays", "types/compound"} {
		for _, name := range kinds {
			d := objectAt[*Dataset](t, openSample(t, name, nil), path)
			all := make([]byte, d.Len()*d.RowSize())
			must(t, d.ReadRows(all, 0, d.Len()))
			for start := range d.Len() + 1 {
				for count := range d.Len() - start + 1 {
					p := make([]byte, count*d.RowSize())
					if err := d.ReadRows(p, start, count); err != nil || !bytes.Equal(p, all[start*d.RowSize():][:len(p)]) {
						t.Fatalf("%s: rows %d and %d on: %v", path, start, count, err)
					}
				}
			}
		}
	}
}

func TestRowsThatAreNotThere(t *testing.T) {
	d := objectAt[*Dataset](t, openSample(t, "kinds-latest", nil), "chunks/treeFalse")
	for _, c := range []struct {
		size         int
		start, count uint64
	}{{6, 40, 1}, {12, 39, 2}, {0, 41, 0}, {6, 1 << 63, 1}, {6, 1, 1<<64 - 1}, {5, 0, 1}, {7, 0, 1}, {0, 0, 1}} {
		if err := d.ReadRows(make([]byte, c.size), c.start, c.count); !errors.Is(err, ErrLimit) {
			t.Errorf("%d rows from %d into %d bytes: %v", c.count, c.start, c.size, err)
		}
	}
	if err := d.ReadRows(nil, 40, 0); err != nil {
		t.Errorf("no rows: %v", err)
	}
	if b, err := d.Read(39, 1); err != nil || b.Start != 39 || b.Rows != 1 || len(b.Data) != 6 {
		t.Errorf("Read = %+v, %v", b, err)
	}
	if _, err := d.Read(39, 2); !errors.Is(err, ErrLimit) {
		t.Errorf("Read over the end: %v", err)
	}
	for _, err := range d.Rows(39, 1<<64-1) {
		if !errors.Is(err, ErrLimit) {
			t.Errorf("Rows over the end: %v", err)
		}
	}
}

func TestMembers(t *testing.T) {
	d := objectAt[*Dataset](t, openSample(t, "layout-attr-earliest", nil), "buckets/bucket_0")
	rows := 0
	for b, err := range d.Rows(0, d.Len()) {
		must(t, err)
		high, err1 := b.Uint64s("key_high")
		slots, err2 := b.Uint64s("slots")
		version, err3 := b.Int64s("version")
		if err := errors.Join(err1, err2, err3); err != nil || len(high) != b.Rows || len(slots) != 4*b.Rows || len(version) != b.Rows {
			t.Fatalf("%d, %d, %d values of %d rows: %v", len(high), len(slots), len(version), b.Rows, err)
		}
		for i := range b.Rows {
			if binary.LittleEndian.Uint64(b.Data[53*i:]) != high[i] || binary.LittleEndian.Uint64(b.Data[53*i+24:]) != slots[4*i+1] {
				t.Errorf("row %d has other values", i)
			}
		}
		rows += b.Rows
		_, err1 = b.Strings("key_high")
		_, err2 = b.Float64s("version")
		if !errors.Is(err1, ErrWrongType) || !errors.Is(err2, ErrWrongType) {
			t.Errorf("integers as other types: %v, %v", err1, err2)
		}
		_, err1 = b.Uint64s("absent")
		_, err2 = b.Uint64s("key_high", "deeper")
		_, err3 = b.Uint64s()
		if !errors.Is(err1, ErrNotFound) || !errors.Is(err2, ErrNotFound) || !errors.Is(err3, ErrWrongType) {
			t.Errorf("absent members: %v, %v, %v", err1, err2, err3)
		}
		for _, err := range b.Sequences("slots") {
			if !errors.Is(err, ErrWrongType) {
				t.Errorf("integers as sequences: %v", err)
			}
		}
	}
	if rows != 28 {
		t.Errorf("%d rows, want 28", rows)
	}
}

// TestSigns asks for integers that the other sign does not have.
func TestSigns(t *testing.T) {
	signed, err := openObject(t, attributeFile(integerType(8, true), bytesOf(undefined), 1))
	must(t, err)
	unsigned, err := openObject(t, attributeFile(integerType(8, false), bytesOf(undefined), 1))
	must(t, err)
	a, _ := signed.Attribute("a")
	b, _ := unsigned.Attribute("a")
	if _, err := a.Uint64s(); !errors.Is(err, ErrWrongType) {
		t.Errorf("-1 as unsigned: %v", err)
	}
	if _, err := b.Int64s(); !errors.Is(err, ErrWrongType) {
		t.Errorf("2^64-1 as signed: %v", err)
	}
	if got, err := a.Int64s(); err != nil || got[0] != -1 {
		t.Errorf("%v, %v, want -1", got, err)
	}
	if got, err := b.Uint64s(); err != nil || got[0] != undefined {
		t.Errorf("%v, %v, want 2^64-1", got, err)
	}
}

func TestChunkLimit(t *testing.T) {
	f := openSample(t, "kinds-latest", &Options{MaxChunkBytes: 799})
	for path, want := range map[string]bool{"lzf": false, "chunks/treeTrue": true, "chunks/fixedTrue": true} {
		d := objectAt[*Dataset](t, f, path)
		err := d.ReadRows(make([]byte, d.RowSize()), 1, 1)
		if want && err != nil || !want && !errors.Is(err, ErrLimit) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestManyReadersOfOneFile(t *testing.T) {
	f := openSample(t, "kinds-latest", nil)
	d, root, dense := objectAt[*Dataset](t, f, "chunks/treeTrue"), objectAt[*Group](t, f, "/"), objectAt[*Group](t, f, "group12")
	want, err := describe(f)
	must(t, err)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			got, err := describe(f)
			if err != nil || got != want {
				t.Errorf("another description, %v", err)
			}
			for b, err := range d.Rows(3, 20) {
				if err != nil || b.Start < 3 {
					t.Errorf("rows from %d, %v", b.Start, err)
				}
			}
			if _, err := root.Link("types"); err != nil {
				t.Error(err)
			}
			for l, err := range dense.Links() {
				if again, err2 := dense.Link(l.Name); err != nil || err2 != nil || again != l {
					t.Errorf("link %q: %v, %v", l.Name, err, err2)
				}
			}
		})
	}
	group.Wait()
}

var (
	u8          = message1{messageDatatype, integerType(1, false)}
	unallocated = message1{messageLayout, bytesOf(3, 1, undefined, undefined)}
)

func noChunks(sizes ...any) message1 {
	p := bytesOf(3, 2, len(sizes)+1, undefined)
	for _, n := range sizes {
		p = bytesOf(p, n)
	}
	return message1{messageLayout, bytesOf(p, uint32(1))}
}

// TestHugeShapes reads a little of datasets that say that they are enormous.
func TestHugeShapes(t *testing.T) {
	for name, messages := range map[string][]message1{
		"contiguous": {space1(1<<63 - 1), u8, unallocated},
		"chunked":    {space1(1<<63 - 1), u8, noChunks(uint32(1024))},
	} {
		d := openDataset(t, oldFile(nil, messages...))
		p := []byte{1, 2, 3}
		if err := d.ReadRows(p, 1<<62, 3); err != nil || !bytes.Equal(p, make([]byte, 3)) {
			t.Errorf("%s: %v, %v", name, p, err)
		}
		if _, err := d.Read(0, 1<<40); !errors.Is(err, ErrLimit) {
			t.Errorf("%s: a TiB: %v, want ErrLimit", name, err)
		}
		for _, err := range d.Rows(0, d.Len()) {
			if !errors.Is(err, ErrLimit) {
				t.Errorf("%s: all rows: %v, want ErrLimit", name, err)
			}
		}
		far, rows := Hyperslab{Start: []uint64{5}, Count: []uint64{2}, Stride: []uint64{1 << 62}}, 0
		for b, err := range d.Slabs(far) {
			if err != nil {
				t.Fatalf("%s: two elements far from each other: %v", name, err)
			}
			rows += b.Rows
		}
		if rows != 2 {
			t.Errorf("%s: %d elements far from each other, want 2", name, rows)
		}
	}
}

func TestImpossibleShapes(t *testing.T) {
	for name, c := range map[string]struct {
		want     error
		messages []message1
	}{
		"2^63 rows":       {ErrCorrupt, []message1{space1(1 << 63), u8, unallocated}},
		"2^64 elements":   {ErrLimit, []message1{space1(1<<62, 4), u8, unallocated}},
		"2^64 bytes":      {ErrCorrupt, []message1{space1(1<<61, 4), {messageDatatype, integerType(2, false)}, unallocated}},
		"2^63 chunks":     {ErrLimit, []message1{space1(1<<61, 4), u8, noChunks(uint32(1), uint32(1))}},
		"33 dimensions":   {ErrCorrupt, []message1{{messageDataspace, bytesOf(1, 33, 0, 0, uint32(0))}, u8, unallocated}},
		"null of 4 × 4":   {ErrCorrupt, []message1{{messageDataspace, bytesOf(2, 2, 0, 2, uint64(4), uint64(4))}, u8, unallocated}},
		"4 GiB chunks":    {ErrLimit, []message1{space1(4, 4), u8, noChunks(uint32(1<<31), uint32(2))}},
		"chunk of 0":      {ErrCorrupt, []message1{space1(4, 4), u8, noChunks(uint32(1), uint32(0))}},
		"chunk rank":      {ErrCorrupt, []message1{space1(4, 4), u8, noChunks(uint32(1))}},
		"other elements":  {ErrCorrupt, []message1{space1(4), {messageDatatype, integerType(2, false)}, noChunks(uint32(1))}},
		"too little":      {ErrCorrupt, []message1{space1(4), u8, {messageLayout, bytesOf(3, 1, uint64(96), uint64(3))}}},
		"fill value":      {ErrCorrupt, []message1{space1(4), u8, {messageFill, bytesOf(2, 2, 2, 1, uint32(2), uint16(0))}, unallocated}},
		"virtual":         {ErrUnsupported, []message1{space1(4), u8, {messageLayout, bytesOf(4, 3, uint64(96), uint32(1))}}},
		"elsewhere":       {ErrUnsupported, []message1{space1(4), u8, {messageExternal, bytesOf(1)}, unallocated}},
		"layout 6":        {ErrUnsupported, []message1{space1(4), u8, {messageLayout, bytesOf(6, 1)}}},
		"index 9":         {ErrUnsupported, []message1{space1(4), u8, {messageLayout, bytesOf(4, 2, 0, 2, 1, 1, 1, 9)}}},
		"no datatype":     {ErrCorrupt, []message1{space1(4), unallocated}},
		"no dataspace":    {ErrCorrupt, []message1{u8, unallocated}},
		"unknown message": {ErrUnsupported, []message1{space1(4), u8, unallocated, {0x99, nil}}},
	} {
		file := oldFile(nil, c.messages...)
		if name == "unknown message" {
			file[bytes.Index(file, []byte{0x99})+4] = messageMustBeKnown
		}
		if _, err := openObject(t, file); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// TestBombs opens files that are larger than they look.
func TestBombs(t *testing.T) {
	u8 := message1{messageDatatype, integerType(1, false)}
	// A thousand chunks that are all the same bytes of the file.
	tree := bytesOf("TREE", 1, 0, uint16(1000), undefined, undefined)
	for i := range 1000 {
		tree = bytesOf(tree, uint32(1000), uint32(0), uint64(1000*i), uint64(0), uint64(dataAt))
	}
	tree = append(tree, make([]byte, 24)...)
	layout := message1{messageLayout, bytesOf(3, 2, 2, uint64(dataAt), uint32(1000), uint32(1))}
	d := openDataset(t, oldFile(tree, space1(1000000), u8, layout))
	if err := d.ReadRows(make([]byte, 10), 0, 10); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "chunks overlap: chunk 0 is from address 0x400 to 0x7e8, and chunk 1 begins at 0x400") {
		t.Errorf("chunks in one place: %v", err)
	}
	// Two chunks, of which the second in the file is the first in the dataset, share one byte.
	for shared := range uint64(2) {
		pair := bytesOf("TREE", 1, 0, uint16(2), undefined, undefined,
			uint32(100), uint32(0), uint64(0), uint64(0), uint64(dataAt+300-shared),
			uint32(100), uint32(0), uint64(100), uint64(0), uint64(dataAt+200), make([]byte, 24))
		pair = append(pair, make([]byte, 400-len(pair))...)
		d := openDataset(t, oldFile(pair, space1(200), u8, message1{messageLayout, bytesOf(3, 2, 2, uint64(dataAt), uint32(100), uint32(1))}))
		err := d.ReadRows(make([]byte, 200), 0, 200)
		if (err == nil) != (shared == 0) || err != nil && (!errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "chunks overlap: chunk 1 is from")) {
			t.Errorf("%d bytes in two chunks: %v", shared, err)
		}
	}
	// A node of a B-tree that is below itself.
	loop := bytesOf("TREE", 1, 1, uint16(1), undefined, undefined, make([]byte, 24), uint64(dataAt), make([]byte, 24))
	d = openDataset(t, oldFile(loop, space1(1000000), u8, layout))
	if _, err := d.StoredSize(); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "level") {
		t.Errorf("a B-tree in a circle: %v", err)
	}
	// A header that continues in itself.
	circle := bytesOf(uint16(messageContinuation), uint16(16), uint32(0), uint64(dataAt), uint64(24))
	if _, err := openObject(t, oldFile(circle, message1{messageContinuation, bytesOf(uint64(dataAt), uint64(24))})); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "circle") {
		t.Errorf("a header in a circle: %v", err)
	}
	// Sequences of sequences of themselves, a hundred at a time.
	datatype := integerType(1, false)
	for range 20 {
		datatype = bytesOf(0x19, 0, 0, 0, uint32(16), datatype)
	}
	heap := bytesOf("GCOL", 1, 0, 0, 0, uint64(4096), uint16(1), uint16(1), uint32(0), uint64(1600))
	for range 100 {
		heap = bytesOf(heap, uint32(100), uint64(dataAt), uint32(1))
	}
	heap = append(heap, make([]byte, 4096-len(heap))...)
	space := space1(1).data
	attribute := bytesOf(3, 0, uint16(2), uint16(len(datatype)), uint16(len(space)), 0, "a\x00", datatype, space, uint32(100), uint64(dataAt), uint32(1))
	o, err := openObject(t, oldFile(heap, message1{messageSymbolTable, bytesOf(undefined, undefined)}, message1{messageAttribute, attribute}))
	must(t, err)
	a, err := o.Attribute("a")
	must(t, err)
	if _, err := a.Value(); !errors.Is(err, ErrCorrupt) {
		t.Errorf("sequences in a circle: %v", err)
	}
}

// TestLinksMillionTimes reads a group whose symbol table names one link a million
// times, in a file of fewer bytes.
func TestLinksMillionTimes(t *testing.T) {
	const entries = 100
	name := strings.Repeat("n", 2000)
	heapAt, nodeAt, treeAt, namesAt := 0, 64, 64+8+40*entries+24, 0
	node := bytesOf("SNOD", 1, 0, uint16(entries))
	for range entries {
		node = bytesOf(node, uint64(8), uint64(96), uint32(0), uint32(0), uint64(0), uint64(0))
	}
	tree := bytesOf("TREE", 0, 0, uint16(1000), undefined, undefined)
	for range 1000 {
		tree = bytesOf(tree, uint64(0), uint64(dataAt+nodeAt))
	}
	tree = bytesOf(tree, uint64(8))
	namesAt = treeAt + len(tree)
	data := bytesOf("HEAP", uint32(0), uint64(8+len(name)+1), undefined, uint64(dataAt+namesAt))
	data = append(data, make([]byte, nodeAt-len(data))...)
	data = bytesOf(data, node)
	data = append(data, make([]byte, treeAt-len(data))...)
	data = bytesOf(data, tree, uint64(0), name, 0)
	o, err := openObject(t, oldFile(data, message1{messageSymbolTable, bytesOf(uint64(dataAt+treeAt), uint64(dataAt+heapAt))}))
	must(t, err)
	links := 0
	for _, err = range o.(*Group).Links() {
		links++
	}
	if !errors.Is(err, ErrCorrupt) || links > 1000 {
		t.Errorf("%d links, then %v", links, err)
	}
}

// brokenReader fails to read at a place and after it.
type brokenReader struct {
	*bytes.Reader
	from int64
}

var errBroken = errors.New("the disk is broken")

func (r brokenReader) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) <= r.from {
		return r.Reader.ReadAt(p, off)
	}
	n, err := r.Reader.ReadAt(p[:max(0, r.from-off)], off)
	return n, errors.Join(err, errBroken)
}

// TestReadErrors passes on what the reader says, as no other kind of error.
func TestReadErrors(t *testing.T) {
	data := readSample(t, "kinds-earliest")
	met := 0
	for from := int64(0); from < int64(len(data)); from += 97 {
		f, err := NewReader(brokenReader{bytes.NewReader(data), from}, int64(len(data)), nil)
		if err == nil {
			_, err = describe(f)
		}
		if err == nil {
			continue // what is there is not read
		}
		met++
		for _, kind := range []error{ErrNotHDF5, ErrCorrupt, ErrUnsupported, ErrLimit, ErrNotFound, ErrWrongType} {
			if errors.Is(err, kind) {
				t.Fatalf("broken from %d on: %v is %v", from, err, kind)
			}
		}
		if !errors.Is(err, errBroken) {
			t.Fatalf("broken from %d on: %v", from, err)
		}
	}
	if met < 500 {
		t.Errorf("%d errors", met)
	}
}

// TestErrorsOfOddNames: an error is one line of moderate length that a terminal shows, and the fields
// have the names as they are.
func TestErrorsOfOddNames(t *testing.T) {
	root := objectAt[*Group](t, openSample(t, "layout-damaged", nil), "/")
	for name, want := range map[string]string{
		"a\nb":                   `no link "a\nb"`,
		"\x1b[31m\xff'\"é":       `no link "\x1b[31m\xff'\"é"`,
		strings.Repeat("é", 4e4): "é … (79635 bytes) … é",
	} {
		_, err := root.Open(name)
		if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), want) || len(err.Error()) > 600 {
			t.Errorf("%v, want %s", err, want)
		}
		text := within("/a\r\n"+name+"/c", fault(ErrCorrupt, "chunk", 7, "\x00 %s", name))
		var e *Error
		if !errors.As(text, &e) || e.Object != "/a\r\n"+name+"/c" {
			t.Errorf("%#v", text)
		}
		for _, r := range text.Error() {
			if !unicode.IsPrint(r) {
				t.Errorf("%q is not printable", text)
			}
		}
		if got := text.Error(); len(got) > 1200 || !strings.HasPrefix(got, `hdf5: /a\r\n`) || !strings.Contains(got, `/c: chunk at 0x7: corrupt: \x00 `) {
			t.Errorf("%.2000s", got)
		}
	}
}

func TestErrorsAreOfOneLine(t *testing.T) {
	root := objectAt[*Group](t, openSample(t, "layout-damaged", nil), "/")
	_, err := root.Open("buckets/bucket_7")
	if got, want := fmt.Sprint(err), `hdf5: /buckets: group at 0x`; !strings.HasPrefix(got, want) || !strings.HasSuffix(got, `: not found: no link "bucket_7"`) {
		t.Errorf("%s, want %s…", got, want)
	}
	names := []string{}
	for l, err := range root.Links() {
		must(t, err)
		names = append(names, l.Name)
	}
	slices.Sort(names)
	if want := []string{"buckets", "config", "deletion_log", "nodes", "values", "wal", "wal_meta"}; !slices.Equal(names, want) {
		t.Errorf("links %q, want %q", names, want)
	}
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}
