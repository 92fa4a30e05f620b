package safeh5

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"runtime"
	"testing"

	"pgregory.net/rapid"

	"github.com/cidstore/cidstore/hdf5"
	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/internal/hdf5sum"
	"github.com/cidstore/cidstore/vfs"
)

// FuzzUpdates lets bytes choose the calls: after each Update package hdf5 reads what the model
// says.
func FuzzUpdates(f *testing.F) {
	for seed := range 4 {
		f.Add(patterned(4000, uint32(seed)))
	}
	f.Fuzz(rapid.MakeFuzz(holdAgainstModel))
}

// patterned are n bytes without a pattern.
func patterned(n int, x uint32) []byte {
	p := make([]byte, n)
	for i := range p {
		x = x*1664525 + 1013904223
		p[i] = byte(x >> 24)
	}
	return p
}

// editSize is an edit of FuzzOpenHostile: where, and what is put there.
const editSize = 5

// FuzzOpenHostile opens a file in which some bytes were changed, with all checksums above them made
// right again or not, reads it, and writes to it: nothing panics, or takes
// more memory than the file explains, and errors are those that are documented.
func FuzzOpenHostile(f *testing.F) {
	image := killedFile(f)
	structures := structuresOf(f, image)
	f.Add(true, []byte{})
	for _, s := range structures {
		for _, at := range []int{9, 16, 26, 40} {
			f.Add(true, append(binary.LittleEndian.AppendUint32(nil, uint32(s.start+min(at, s.size-5))), 0xff))
		}
	}
	f.Add(false, []byte{0, 16, 0, 0, 9})
	f.Fuzz(func(t *testing.T, seal bool, program []byte) {
		p := bytes.Clone(image)
		for ; len(program) >= editSize && len(program) <= 100*editSize; program = program[editSize:] {
			p[int(binary.LittleEndian.Uint32(program))%len(p)] = program[4]
		}
		if seal {
			sealAll(p, structures)
		}
		useHostile(t, p)
	})
}

// killedFile is a file as a killed writer leaves it.
func killedFile(t testing.TB) []byte {
	t.Helper()
	disk := crashfs.New(crashfs.Options{})
	f := mustGet(Open(crashPath, on(disk)))(t)
	defer func() { _ = f.Close() }()
	must(t, stepTo(f, 0, 6))
	return bytesOn(t, disk)
}

// bytesOn are those of the file on a disk.
func bytesOn(t testing.TB, disk *crashfs.FS) []byte {
	t.Helper()
	info := mustGet(disk.Stat(crashPath))(t)
	raw := mustGet(disk.OpenFile(crashPath, vfs.ReadOnly, 0))(t)
	defer func() { _ = raw.Close() }()
	p := make([]byte, info.Size)
	must(t, errOf(raw.ReadAt(p, 0)))
	return p
}

// useHostile does with a file all that can be done with one. It bounds what is allocated: an
// Update may read the chunks and pieces that it changes, and these may be said to be as
// large as the limits are.
func useHostile(t *testing.T, p []byte) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	disk := diskOf(t, p)
	o := on(disk)
	o.ReadOnly = true
	judge := func(what string, err error) {
		t.Helper()
		if err != nil && !knownError(err) {
			t.Fatalf("%s: %v", what, err)
		}
	}
	r, err := Open(crashPath, o)
	judge("open for reading", err)
	if err == nil {
		_, _ = stepOf(r) // any other contents are as good
		_ = r.Check(context.Background(), func(err error) { judge("check", err) })
		judge("close", r.Close())
	}
	if !bytes.Equal(bytesOn(t, disk), p) {
		t.Fatal("a reader wrote")
	}
	w, err := Open(crashPath, on(disk))
	judge("open", err)
	if err == nil {
		_ = stepTo(w, 6, 8) // the file may lack what a step wants
		for _, path := range []string{"/grid", "/piece", "/passing", "/log"} {
			_ = w.Update(func(tx *Tx) error { return tx.Delete(path) })
		}
		_ = w.Update(everything)
		_ = w.Close()
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 6*mostChunk+mostPiece+64*uint64(len(p)) {
		t.Fatalf("%d bytes allocated", used)
	}
}

// structure is one of a file that a checksum covers.
type structure struct{ start, size int }

// structuresOf are the object headers of the newest state in the order of their paths, each before
// the header and the root node of its index.
func structuresOf(t testing.TB, p []byte) (out []structure) {
	t.Helper()
	h := mustGet(hdf5.NewReader(bytes.NewReader(p), int64(len(p)), nil))(t)
	for o, err := range h.Objects() {
		must(t, err)
		header := structure{int(o.Address()), 0}
		q := p[header.start:]
		header.size = 7 + 1<<(q[5]&3) + int(q[6]) + 3 // of less than 256 bytes, or:
		if q[5]&3 == 1 {
			header.size = 12 + int(binary.LittleEndian.Uint16(q[6:]))
		}
		out = append(out, header)
		for at := range header.size - 7 { // the layout message has the address of the index
			index := binary.LittleEndian.Uint64(q[at:])
			if index >= uint64(len(p)-38) || string(p[index:index+4]) != "BTHD" {
				continue
			}
			b := p[index:]
			out = append(out, structure{int(index), 38})
			if root := binary.LittleEndian.Uint64(b[16:]); root < uint64(len(p)) {
				records := int(binary.LittleEndian.Uint16(b[24:]))
				out = append(out, structure{int(root), 10 + records*int(binary.LittleEndian.Uint16(b[10:]))})
			}
			break
		}
	}
	return out
}

// sealAll makes the checksums of structures, and of the slots over them, right.
func sealAll(p []byte, structures []structure) {
	crc := crc32.MakeTable(crc32.Castagnoli)
	tree := uint32(0)
	for _, s := range structures {
		q := p[s.start : s.start+s.size]
		binary.LittleEndian.PutUint32(q[s.size-4:], hdf5sum.Lookup3(q[:s.size-4]))
		if string(q[:4]) != "BTLF" {
			tree = crc32.Update(tree, crc, q)
		}
	}
	newest := p[4096:8192]
	if older := p[8192:12288]; binary.LittleEndian.Uint64(older[32:]) > binary.LittleEndian.Uint64(newest[32:]) {
		newest = older
	}
	binary.LittleEndian.PutUint32(newest[124:], tree)
	at, size := binary.LittleEndian.Uint64(newest[104:]), binary.LittleEndian.Uint64(newest[112:])
	if at < uint64(len(p)) && size < uint64(len(p))-at {
		binary.LittleEndian.PutUint32(newest[120:], crc32.Checksum(p[at:at+size], crc))
	}
	binary.LittleEndian.PutUint32(newest[56+44:], hdf5sum.Lookup3(newest[56:56+44]))
	copy(p, newest[56:56+48])
	binary.LittleEndian.PutUint32(newest[4092:], crc32.Checksum(newest[:4092], crc))
}

// TestSealing: sealing a good file changes nothing, and with a change in it all checksums are
// right again.
func TestSealing(t *testing.T) {
	image := killedFile(t)
	structures := structuresOf(t, image)
	if len(structures) < 15 {
		t.Errorf("%d structures", len(structures))
	}
	p := bytes.Clone(image)
	sealAll(p, structures)
	for i := range p {
		if p[i] != image[i] {
			t.Fatalf("byte %#x is %#x, was %#x", i, p[i], image[i])
		}
	}
	for _, s := range structures {
		if string(p[s.start:s.start+4]) != "OHDR" {
			continue
		}
		if at := bytes.Index(p[s.start:s.start+s.size], []byte("step")); at > 0 { // the name of an attribute
			p[s.start+at] = 'S'
			sealAll(p, structures)
			f := opened(t, crashPath, on(diskOf(t, p)))
			checkWhole(t, f)
			if _, err := stepOf(f); err == nil {
				t.Error("the attribute has its old name")
			}
			return
		}
	}
	t.Error(fmt.Errorf("no attribute in %v", structures))
}
