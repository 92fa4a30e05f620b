package fuzz_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/cidstore/cidstore"
	"github.com/cidstore/cidstore/fuzz"
	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/internal/hdf5sum"
	"github.com/cidstore/cidstore/internal/invariants"
)

// An edit is seven bytes of a fuzzed program: what is done, where, and with what.
const editBytes = 7

// mutate makes the edits of a program on an image. forged reports that checksums were made
// right again, so that not every answer can be judged.
func mutate(image, program []byte) (p []byte, forged bool) {
	p = bytes.Clone(image)
	for ; len(program) >= editBytes && len(p) > 0; program = program[editBytes:] {
		at := int(binary.LittleEndian.Uint32(program[1:])&0xffffff) % len(p)
		with := program[5]
		sector := at &^ 511
		switch program[0] % 9 {
		case 0:
			p[at] ^= max(with, 1)
		case 1:
			p[at] = with
		case 2:
			clear(p[sector:min(sector+512, len(p))])
		case 3: // a sector that is written elsewhere, or stays as it was there
			from := int(with) << 12 % len(p)
			copy(p[sector:min(sector+512, len(p))], p[from&^511:])
		case 4:
			p = p[:at]
		case 5:
			p = append(p, bytes.Repeat([]byte{with}, 1+int(program[6])*64)...)
		case 6, 7: // a word of the slots, or of one of them
			forged = true
			forgeSlot(p, 4096, at%4088, program[5:7])
			if program[0]%9 == 6 {
				forgeSlot(p, 8192, at%4088, program[5:7])
			}
		case 8:
			forged = true
			forgeHeader(p, at, program[5:7])
		}
	}
	return p, forged
}

// forgeSlot changes a byte of a commit slot and makes its checksum right.
func forgeSlot(p []byte, slot, at int, with []byte) {
	if len(p) < slot+4096 {
		return
	}
	s := p[slot : slot+4096]
	s[at] = with[0]
	s[(at+int(with[1])%8)%4088] ^= with[1]
	binary.LittleEndian.PutUint32(s[4092:], crc32.Checksum(s[:4092], crc32.MakeTable(crc32.Castagnoli)))
}

// forgeHeader changes a byte of the first object header or index node after at, and makes
// its checksum right.
func forgeHeader(p []byte, at int, with []byte) {
	for _, magic := range []string{"OHDR", "BTHD", "BTLF", "BTIN"} {
		i := bytes.Index(p[at:], []byte(magic))
		if i < 0 {
			continue
		}
		h := p[at+i:]
		if size := structureSize(h); size > 8 && size <= len(h) {
			h[4+int(with[0])*int(with[1]|1)%(size-8)] ^= max(with[1], 1)
			binary.LittleEndian.PutUint32(h[size-4:], hdf5sum.Lookup3(h[:size-4]))
			return
		}
	}
}

// structureSize is the length of an HDF5 structure, its checksum included; 0 if it
// is not known. HDF5 spec IV.A.1.b and III.A.2.
func structureSize(h []byte) int {
	if len(h) < 64 {
		return 0
	}
	switch string(h[:4]) {
	case "OHDR":
		at := 6
		if h[5]&0x20 != 0 {
			at += 16
		}
		if h[5]&0x10 != 0 {
			at += 4
		}
		width := 1 << (h[5] & 3)
		var size [8]byte
		copy(size[:], h[at:at+width])
		return at + width + int(binary.LittleEndian.Uint64(size[:])&0xfffff) + 4
	case "BTHD":
		return 38
	}
	return 2048 // the checksum of a node is after its records; a wrong one is a case too
}

// known are the errors that Open may have for a file, whatever is in it.
var known = []error{
	cidstore.ErrNotCIDStore, cidstore.ErrFormatVersion, cidstore.ErrCorrupt, cidstore.ErrTampered, cidstore.ErrWALKey,
}

func isKnown(err error) bool {
	return slices.ContainsFunc(known, func(k error) bool { return errors.Is(err, k) })
}

// bounds holds the work on one file to a time and to an amount of memory.
func bounds(t *testing.T, size int) func() {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	return func() {
		t.Helper()
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > 256<<20+64*uint64(size) {
			t.Errorf("%d bytes allocated for a file of %d", used, size)
		}
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("it took %v", took)
		}
	}
}

// readHostile opens a file for reading and reads all that it gives. It may refuse
// or fail, with an error that is known; it may not change the file.
func readHostile(t *testing.T, p []byte, m *image, forged bool) {
	t.Helper()
	disk, _ := diskOf(t, p)
	defer bounds(t, len(p))()
	s, err := cidstore.Open(imagePath, &cidstore.Options{FS: disk, ReadOnly: true})
	if err != nil {
		if !isKnown(err) {
			t.Fatalf("open: %v", err)
		}
	} else {
		view, err := s.Snapshot()
		must(t, err)
		got, err := fuzz.Contents(view)
		if err != nil && !isKnown(err) && !forged {
			t.Fatal(err)
		}
		must(t, view.Close())
		report, sound := s.Check(context.Background())
		if report == nil || sound != nil && !isKnown(sound) {
			t.Fatalf("Check: %v", sound)
		}
		if !forged && err == nil && !got.Equal(m.model) && !(s.Recovery().TornAt != 0 && got.Equal(m.torn)) {
			t.Fatalf("wrong contents: %d pairs, want %d; recovery %+v", got.Pairs(), m.model.Pairs(), s.Recovery())
		}
		if sound == nil && err != nil {
			t.Fatalf("Check finds nothing, but reading fails: %v", err)
		}
		must(t, s.Close())
	}
	if !bytes.Equal(contentsOf(t, disk), p) {
		t.Fatal("reading changed the file")
	}
}

// writeHostile opens a file for writing, and writes. A file that is refused as not ours,
// or as of another version, must not change.
func writeHostile(t *testing.T, p []byte) {
	t.Helper()
	disk, _ := diskOf(t, p)
	defer bounds(t, len(p))()
	s, err := cidstore.Open(imagePath, &cidstore.Options{FS: disk, GCInterval: -1})
	if err != nil {
		untouched := errors.Is(err, cidstore.ErrNotCIDStore) || errors.Is(err, cidstore.ErrFormatVersion) || errors.Is(err, cidstore.ErrForeignEdit)
		if untouched && !bytes.Equal(contentsOf(t, disk), p) {
			t.Fatalf("refused and changed: %v", err)
		}
		return
	}
	key := cidstore.FromString("written")
	if err := s.Insert(key, key); err == nil {
		if ok, err := s.Has(key, key); err == nil && !ok {
			t.Fatal("what was written is not there")
		}
	}
	_ = s.Close() // a ruined file may not close well
}

// FuzzOpenImage opens arbitrary bytes, and an image with edits.
func FuzzOpenImage(f *testing.F) {
	m := newImage(f)
	f.Add(true, []byte{})
	f.Add(false, []byte("\x89HDF\r\n\x1a\n\x03\x08\x08\x00"))
	f.Add(false, bytes.Clone(m.bytes[:3*4096]))
	random := fuzz.NewRandom(3)
	for kind := range byte(9) {
		program := make([]byte, 3*editBytes)
		for i := range program {
			program[i] = byte(random.IntN(256))
		}
		for i := 0; i < len(program); i += editBytes {
			program[i] = kind
			program[i+3] &= 0x07 // most of it is in the first 512 KiB
		}
		f.Add(true, program)
	}
	f.Fuzz(func(t *testing.T, edit bool, data []byte) {
		p, forged := data, false
		if edit {
			p, forged = mutate(m.bytes, data)
		}
		if len(p) == 0 {
			return // an empty file is a new store
		}
		readHostile(t, p, m, forged || !edit)
		writeHostile(t, p)
	})
}

// TestHostileImages runs the fuzz target on random programs.
func TestHostileImages(t *testing.T) {
	m := newImage(t)
	programs := 300 / invariants.Sparse
	if testing.Short() {
		programs = 60
	}
	for seed := range programs {
		random := fuzz.NewRandom(uint64(seed))
		program := make([]byte, editBytes*(1+random.IntN(4)))
		for i := range program {
			program[i] = byte(random.IntN(256))
			if i%editBytes == 3 {
				program[i] &= 7
			}
		}
		p, forged := mutate(m.bytes, program)
		if len(p) == 0 {
			continue
		}
		readHostile(t, p, m, forged)
		writeHostile(t, p)
		if t.Failed() {
			t.Fatalf("program %x", program)
		}
	}
}

// TestMutatorForges: what the mutator makes right is right: an image with one of
// its object headers signed again opens.
func TestMutatorForges(t *testing.T) {
	m := newImage(t)
	p := bytes.Clone(m.bytes)
	at := bytes.Index(p[3*4096:], []byte("OHDR")) + 3*4096
	h := p[at:]
	size := structureSize(h)
	if want := binary.LittleEndian.Uint32(h[size-4:]); hdf5sum.Lookup3(h[:size-4]) != want {
		t.Errorf("checksum of an object header of %d bytes: %#x, want %#x", size, hdf5sum.Lookup3(h[:size-4]), want)
	}
	forgeSlot(p, 4096, 4000, []byte{0, 0})
	if !bytes.Equal(p, m.bytes) {
		t.Error("a slot signed again is another")
	}
}

// FuzzCrashProgram lets bytes choose the steps, and what a power cut leaves.
func FuzzCrashProgram(f *testing.F) {
	f.Add([]byte{})
	for seed := range uint64(4) {
		program := make([]byte, 400)
		random := fuzz.NewRandom(seed)
		for i := range program {
			program[i] = byte(random.IntN(256))
			if i%40 == 0 {
				program[i] = 111 // a power cut
			}
		}
		f.Add(program)
	}
	f.Fuzz(func(t *testing.T, program []byte) {
		c := &fuzz.Bytes{Rest: program[:min(len(program), 1200)]}
		m, err := fuzz.New(fuzz.Config{Options: firstOptions(c), Seed: uint64(c.Choose("seed", 256))})
		must(t, err)
		for len(c.Rest) > 0 {
			if err := m.Step(c); err != nil {
				m.Abandon()
				t.Fatalf("step %d of %q: %v", len(m.Steps), m.Steps, err)
			}
		}
		must(t, m.Finish())
	})
}

// TestEmptyDisk: no file, nothing made by a reader.
func TestEmptyDisk(t *testing.T) {
	disk := crashfs.New(crashfs.Options{})
	if _, err := cidstore.Open(imagePath, &cidstore.Options{FS: disk, ReadOnly: true}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open: %v", err)
	}
	if _, err := cidstore.Open(imagePath, &cidstore.Options{FS: disk, Rand: bytes.NewReader(nil)}); !errors.Is(err, io.EOF) {
		t.Errorf("open without random bytes: %v", err)
	}
	if _, err := disk.Stat(imagePath); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something was made: %v", err)
	}
}
