package hdf5

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// seedFiles returns the samples that are not large: those are changed too rarely where it
// matters.
func seedFiles(t testing.TB) [][]byte {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", "*.h5"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no samples: %v", err)
	}
	var files [][]byte
	for _, path := range paths {
		data, err := os.ReadFile(path)
		must(t, err)
		if len(data) <= 64<<10 {
			files = append(files, data)
		}
	}
	slices.SortStableFunc(files, func(a, b []byte) int { return cmp.Compare(len(a), len(b)) })
	return files
}

// FuzzOpen reads all that can be read of any bytes, with checksums and without.
func FuzzOpen(f *testing.F) {
	for _, data := range seedFiles(f) {
		if len(data) <= 16<<10 {
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		newExercise(data, 64<<10, true)
		newExercise(data, 64<<10, false)
	})
}

// structure is where a structure is in a sample.
type structure struct {
	name       string
	file       int
	start, end int
}

// signatures begin structures that have one.
var signatures = strings.Fields("OHDR OCHK TREE SNOD HEAP GCOL FRHP FHDB FHIB BTHD BTIN BTLF FAHD FADB EAHD EAIB EASB EADB SMTB SMLI")

// structuresOf finds the structures of samples: all that have a signature, the superblock, the
// messages of every object, and packed chunks.
func structuresOf(t testing.TB, files [][]byte) []structure {
	t.Helper()
	var all []structure
	for i, data := range files {
		add := func(name string, start, size int) {
			if end := min(start+size, len(data)); start < end {
				all = append(all, structure{name, i, start, end})
			}
		}
		f, err := newFile(&File{reader: bytes.NewReader(data), size: int64(len(data)), maxChunk: 64 << 10, unchecked: true}, nil)
		if err != nil {
			continue // it was damaged by its maker
		}
		add(fmt.Sprintf("superblock %d", f.super.version), int(f.super.base), 96)
		for _, signature := range signatures {
			for at := range data {
				if bytes.HasPrefix(data[at:], []byte(signature)) {
					add(signature, at, 256)
				}
			}
		}
		for _, s := range all {
			if s.file == i && s.name == "OHDR" {
				addMessages(f, uint64(int64(s.start)-f.super.base), add)
			}
		}
		for o := range f.Objects() {
			if o == nil {
				continue
			}
			if f.super.version < 2 {
				addMessages(f, o.Address(), add)
			}
			d, ok := o.(*Dataset)
			if !ok || d.grid == nil {
				continue
			}
			x, err := d.chunkIndex()
			if err != nil || len(x.chunks) == 0 {
				continue
			}
			for _, filter := range d.filters {
				add("chunk of "+filter.String(), int(f.super.base)+int(x.chunks[0].address), int(x.chunks[0].size))
			}
		}
	}
	return all
}

// addMessages adds the messages of the object header at an address.
func addMessages(f *File, address uint64, add func(name string, start, size int)) {
	h, err := f.header(f.newBudget(), address)
	if err != nil {
		return
	}
	if h.version == 1 {
		add("header 1", int(h.offset), 16)
	}
	for m := range h.messages() {
		add(fmt.Sprintf("message %#02x", m.kind), int(m.body.start), len(m.body.data))
	}
}

// FuzzStructures puts any bytes into one structure of a good file, whose checksums then do not
// count: so each decoder meets what it would not meet if the rest of the file were as bad.
func FuzzStructures(f *testing.F) {
	files := seedFiles(f)
	all := structuresOf(f, files)
	seen := make(map[string]int)
	for i, s := range all {
		if seen[s.name]++; seen[s.name] <= 3 {
			f.Add(uint16(i), uint8(0), files[s.file][s.start:s.end])
		}
	}
	f.Fuzz(func(t *testing.T, which uint16, at uint8, content []byte) {
		s := all[int(which)%len(all)]
		data := bytes.Clone(files[s.file])
		copy(data[min(s.start+int(at), s.end):s.end], content)
		newExercise(data, 64<<10, true)
	})
}

// TestEveryStructureIsASeed: the samples have every structure that this package decodes.
func TestEveryStructureIsASeed(t *testing.T) {
	count := make(map[string]int)
	for _, s := range structuresOf(t, seedFiles(t)) {
		count[s.name]++
	}
	want := slices.Clone(signatures)
	for _, kind := range []int{messageDataspace, messageLinkInfo, messageDatatype, messageOldFill, messageFill, messageLink, messageLayout, messageFilters,
		messageAttribute, messageSharedTable, messageContinuation, messageSymbolTable, messageAttributeInfo} {
		want = append(want, fmt.Sprintf("message %#02x", kind))
	}
	for _, filter := range []uint16{filterDeflate, filterShuffle, filterFletcher, filterBzip2, filterLZF, filterZstd} {
		want = append(want, "chunk of "+filterNames[filter])
	}
	want = append(want, "superblock 0", "superblock 1", "superblock 2", "superblock 3", "header 1")
	for _, name := range want {
		if count[name] == 0 {
			t.Errorf("no sample has a %s", name)
		}
	}
	t.Log(count)
}
