package hdf5io

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/internal/crc32c"
)

// FuzzOpenImage: any bytes are an error, or a file that can be read, checked and
// written without a panic; reading changes no byte, and only a file that
// Check finds clean must stay so.
func FuzzOpenImage(f *testing.F) {
	image := smallImage(f)
	f.Add(image)
	f.Add(image[:FirstExtent])
	f.Add([]byte(superblockSignature))
	f.Fuzz(func(t *testing.T, p []byte) { openAnyImage(t, p) })
}

// FuzzMutateImage changes bytes of a good file and corrects the checksums above
// them, so that the code that relies on these checksums is reached. The program is
// a list of {offset u24, byte}.
func FuzzMutateImage(f *testing.F) {
	image := smallImage(f)
	f.Add([]byte{0, 16, 32, 9})
	f.Add(binary.LittleEndian.AppendUint32(nil, 0x7f001030))
	structures := sealedStructures(f, image)
	for _, s := range structures[1:] {
		for _, at := range []int{4, 9, 16, 21} {
			f.Add(binary.LittleEndian.AppendUint32(nil, uint32(s.start+min(at, s.size-1))|0x05<<24))
		}
	}
	f.Fuzz(func(t *testing.T, program []byte) {
		p := bytes.Clone(image)
		for ; len(program) >= 4 && len(program) <= 400; program = program[4:] {
			edit := binary.LittleEndian.Uint32(program)
			p[int(edit&0xffffff)%len(p)] = byte(edit >> 24)
		}
		for _, s := range structures {
			s.seal(p)
		}
		openAnyImage(t, p)
	})
}

func openAnyImage(t *testing.T, p []byte) {
	before := bytes.Clone(p)
	clean := false
	f, _, err := Open(&memoryFile{p}, Options{ReadOnly: true})
	if err == nil {
		_, err := f.View().Check(context.Background(), func(err error) {
			if !errors.Is(err, corrupt.Err) && !errors.Is(err, ErrIO) {
				t.Fatalf("defect: %v", err)
			}
		})
		clean = err == nil
		readEverything(f.View())
		f.Close()
	}
	if !bytes.Equal(p, before) {
		t.Fatal("a reader wrote")
	}
	w, report, err := Open(&memoryFile{p}, smallGrowth)
	if err != nil {
		return
	}
	defer w.Close()
	for round := range uint64(3) {
		if err := tryRound(w, round); err != nil {
			if clean && report.FellBack == nil && w.Failed() != nil {
				t.Fatalf("clean, but %v", err)
			}
			return
		}
	}
	if clean && report.FellBack == nil {
		checkClean(t, w.View())
	}
}

// readEverything reads all chunks of all datasets, whatever they are.
func readEverything(v *View) {
	for _, d := range v.datasets {
		d.Walk(nil, func(c Chunk) (bool, error) {
			d.readChunk(c)
			d.Find(c.Coord[:d.shape.rank]...)
			return true, nil
		})
		for i := range d.Pages() {
			d.Page(i)
		}
		if offset, size := d.Extent(); size > 0 {
			v.Bytes(offset, int(min(size, memoryLimit)))
		}
	}
}

// sealedRange is a structure of an image and how its checksum is made again.
type sealedRange struct {
	start, size int
	seal        func(p []byte)
}

// sealedStructures lists the structures of the newest root, beginning with those
// whose checksums are in others.
func sealedStructures(t testing.TB, image []byte) []sealedRange {
	t.Helper()
	f, report, err := Open(&memoryFile{image}, Options{ReadOnly: true})
	must(t, err)
	defer f.Close()
	v := f.View()
	var out []sealedRange
	lookup := func(start, size int) {
		out = append(out, sealedRange{start, size, func(p []byte) { sealed(p[start:start+size-checksumSize:start+size], 0) }})
	}
	v.root.walk("/", func(_ string, o *object) error {
		if o.chunked() {
			shape := o.dataset.indexShape()
			g, err := shape.geometry()
			must(t, err)
			if o.index.depth > 0 {
				t.Fatal("the image's indexes are to be one leaf each")
			}
			lookup(int(o.index.root), nodePrefix+o.index.rootRecords*g.recordSize+checksumSize)
			lookup(int(o.dataset.address), len(o.indexBytes))
		}
		lookup(int(o.address), len(o.header))
		return nil
	})
	slot := slotOffset(report.Slot)
	crc := func(start, size int, field int64) {
		out = append(out, sealedRange{start, size, func(p []byte) {
			binary.LittleEndian.PutUint32(p[slot+field:], crc32c.Sum(p[start:start+size]))
		}})
	}
	crc(int(v.slot.freeMapAddress), int(v.slot.freeMapSize), offSlotFreeMapCRC)
	crc(int(v.slot.maps[0].address), mapNodeSize, offSlotMap0+offRootCRC)
	out = append(out, sealedRange{int(slot), slotSize, func(p []byte) {
		crc := uint32(0)
		v.root.walk("/", func(_ string, o *object) error {
			crc = crc32c.Extend(crc, p[o.address:][:len(o.header)])
			if o.chunked() {
				crc = crc32c.Extend(crc, p[o.dataset.address:][:indexHeaderSize])
			}
			return nil
		})
		binary.LittleEndian.PutUint32(p[slot+offSlotTreeCRC:], crc)
		sealed(p[slot+offSlotSuperblock:slot+offSlotSuperblock+44:slot+offSlotSuperblock+48], 0)
		binary.LittleEndian.PutUint32(p[slot+offSlotCRC:], crc32c.Sum(p[slot:slot+offSlotCRC]))
	}})
	return out
}

// FuzzSlotPair: a slot is refused or encodes to itself; of two, the valid one
// with the higher generation is the newest.
func FuzzSlotPair(f *testing.F) {
	image := smallImage(f)
	f.Add(image[firstSlot:FirstExtent], uint16(0), byte(0))
	f.Add(image[firstSlot:FirstExtent], uint16(offSlotGeneration), byte(9))
	f.Add(image[firstSlot:FirstExtent], uint16(slotSize+offSlotUUID), byte(1))
	f.Fuzz(func(t *testing.T, pair []byte, at uint16, value byte) {
		p := make([]byte, FirstExtent)
		copy(p[firstSlot:], pair)
		p[firstSlot+int(at)%(2*slotSize)] ^= value
		for i := range 2 { // once the checksum is corrected, every field is seen
			page := p[slotOffset(i):][:slotSize]
			if value&1 == 0 {
				binary.LittleEndian.PutUint32(page[offSlotCRC:], crc32c.Sum(page[:offSlotCRC]))
			}
		}
		var want [2]*commitSlot
		for i := range want {
			page := p[slotOffset(i):][:slotSize]
			s, err := parseSlot(page, slotOffset(i))
			if err != nil {
				continue
			}
			if !bytes.Equal(s.append(nil), page) {
				t.Fatalf("slot %d encodes to other bytes", i)
			}
			want[i] = s
		}
		found, err := readSlots(&memoryFile{p})
		switch newest := found.newest(); {
		case err != nil:
			if !errors.Is(err, corrupt.Err) && !errors.Is(err, ErrVersion) {
				t.Fatal(err)
			}
		case newest < 0 != (want[0] == nil && want[1] == nil):
			t.Fatalf("newest %d", newest)
		case newest >= 0 && want[1-newest] != nil && want[1-newest].generation > want[newest].generation:
			t.Fatalf("newest %d is the older", newest)
		}
	})
}

// FuzzFreeSpace runs a program of commits, pins, settles and aborts. Nothing that a
// pinned root reaches is used again; nothing is owned twice or lost.
func FuzzFreeSpace(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 0, 0, 0, 1, 1, 3})
	f.Add([]byte{2, 0, 0, 0, 1, 3, 0, 0, 2, 0, 4, 3, 0, 5, 0})
	f.Add([]byte{0, 0x10, 0x20, 0x35, 0, 2, 0, 1, 6, 0, 6, 2, 0, 3, 6})
	f.Fuzz(func(t *testing.T, program []byte) {
		m := &memoryFile{}
		o := Options{UUID: testUUID, GrowStep: 4096, Quarantine: -1}
		w, err := Create(m, o, nil, buildTestTree)
		must(t, err)
		s := spaceModel{t: t, file: m, options: o, writer: w}
		for _, op := range program[:min(len(program), 60)] {
			s.run(op)
		}
		s.check()
	})
}

// spaceModel runs a FuzzFreeSpace program.
type spaceModel struct {
	t       *testing.T
	file    *memoryFile
	options Options
	writer  *File
	round   uint64
	held    []heldView
}

type heldView struct {
	view  *View
	pin   Pin
	round uint64
}

func (s *spaceModel) run(op byte) {
	f := s.writer
	switch op % 7 {
	case 0: // commit
		s.round++
		commitRound(s.t, f, s.round)
	case 1:
		must(s.t, f.Settle())
	case 2:
		s.held = append(s.held, heldView{f.View(), f.View().Pin(), s.round})
	case 3: // the reader of op / 16 goes
		if i := int(op / 16); i < len(s.held) {
			s.held[i].view.Unpin(s.held[i].pin)
			s.held = slices.Delete(s.held, i, i+1)
		}
	case 4: // a transaction that is aborted after it has written
		tx := begin(s.t, f)
		must(s.t, writeRound(tx, s.round+1+uint64(op/16)))
		tx.Abort()
		scribble(s.t, f)
	case 5:
		must(s.t, f.Trim(int64(op/16)*4096, nil))
	case 6: // close and open; the readers of this process are gone
		f.Close()
		s.held = nil
		again, _, err := Open(s.file, s.options)
		must(s.t, err)
		s.writer = again
	}
	checkAgain(s.t, s.writer.View(), s.round)
	for _, h := range s.held {
		checkAgain(s.t, h.view, h.round)
	}
}

// check: every byte has one owner, in the file and in memory.
func (s *spaceModel) check() {
	checkClean(s.t, s.writer.View())
	v := s.writer.View()
	free, err := v.freeMap()
	must(s.t, err)
	sp := &s.writer.space
	have := sp.pool.bytes
	for _, b := range sp.limbo {
		have += b.bytes
	}
	unnamed := sp.size - v.slot.endOfFile
	if want := sumExtents(free.free) + sumExtents(free.freed) + unnamed; have != want {
		s.t.Fatalf("%d bytes free in memory, %d in the file", have, want)
	}
}
