package hdf5io

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/internal/crc32c"
	"github.com/cidstore/cidstore/internal/invariants"
	"github.com/cidstore/cidstore/vfs"
)

// memoryFile is a file in memory for one opener; it cannot be mapped.
type memoryFile struct{ p []byte }

func (m *memoryFile) Name() string { return "memory" }

func (m *memoryFile) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= int64(len(m.p)) {
		return 0, io.EOF
	}
	n := copy(p, m.p[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (m *memoryFile) WriteAt(p []byte, off int64) error {
	if off < 0 || off > int64(len(m.p)) || int64(len(p)) > int64(len(m.p))-off {
		return errors.New("write outside the file")
	}
	copy(m.p[off:], p)
	return nil
}

// memoryLimit is how large a memoryFile may grow.
const memoryLimit = 8 << 20

func (m *memoryFile) Allocate(off, n int64) error {
	if off+n > memoryLimit {
		return vfs.ErrNoSpace
	}
	m.p = append(m.p, make([]byte, max(0, off+n-int64(len(m.p))))...)
	return nil
}

func (m *memoryFile) Truncate(size int64) error               { m.p = m.p[:size]; return nil }
func (m *memoryFile) WriteSync(p []byte, off int64) error     { return m.WriteAt(p, off) }
func (m *memoryFile) StartWriteback(int64, int64)             {}
func (m *memoryFile) DropCache(int64, int64)                  {}
func (m *memoryFile) Datasync() error                         { return nil }
func (m *memoryFile) Sync() error                             { return nil }
func (m *memoryFile) Map(int64) (vfs.Mapping, error)          { return nil, vfs.ErrNoMap }
func (m *memoryFile) TryLock(vfs.Lock) error                  { return nil }
func (m *memoryFile) ProbeLock(vfs.Lock) (bool, int64, error) { return false, 0, nil }
func (m *memoryFile) Unlock(vfs.Lock) error                   { return nil }
func (m *memoryFile) Info() (vfs.Info, error)                 { return vfs.Info{Size: int64(len(m.p))}, nil }
func (m *memoryFile) Shape() (int64, uint64, error)           { return int64(len(m.p)), 1, nil }
func (m *memoryFile) Close() error                            { return nil }

// smallImage is a file of a few commits, as short as it can be.
func smallImage(t testing.TB) []byte {
	t.Helper()
	m := &memoryFile{}
	f, err := Create(m, Options{UUID: testUUID, GrowStep: 4096}, []byte("payload"), buildTestTree)
	must(t, err)
	defer f.Close()
	for round := uint64(1); round < 4; round++ {
		commitRound(t, f, round)
	}
	return m.p
}

// imageRound is the round of the newest root of smallImage.
const imageRound = 3

// readImage opens an image for reading and reads all of it. The error is that of
// the open, or the first of the reads; an older round than the newest is returned
// as such.
func readImage(t testing.TB, p []byte) (round uint64, err error) {
	f, _, err := Open(&memoryFile{p}, Options{ReadOnly: true})
	if err != nil {
		return 0, err
	}
	defer f.Close()
	v := f.View()
	if err := compareRound(v, roundOf(t, v)); err != nil {
		return 0, err
	}
	_, err = v.Check(context.Background(), nil)
	return roundOf(t, v), err
}

var errOtherData = errors.New("other data than were written")

// compareRound reads pages and rows. Rows have no checksum here; the caller must
// verify them.
func compareRound(v *View, round uint64) error {
	d, err := v.Dataset("/buckets/state")
	if err != nil {
		return err
	}
	for i := range uint64(testPages) {
		p, err := d.Page(i)
		if err != nil {
			return err
		}
		if r, ok := lastRound(i, round, 2); ok && (p == nil || !bytes.Equal(p.Data(), pageBytes(i, r))) {
			return errOtherData
		}
	}
	return nil
}

// judgeDamage fails the test if a damaged image was read with wrong data, or
// refused with an error of no known type.
func judgeDamage(t testing.TB, what string, at int, p []byte) (detected bool) {
	t.Helper()
	before := bytes.Clone(p)
	round, err := readImage(t, p)
	switch {
	case errors.Is(err, errOtherData):
		t.Errorf("%s at %#x: wrong data", what, at)
	case err == nil && round != imageRound && round != imageRound-1:
		t.Errorf("%s at %#x: round %d", what, at, round)
	case err != nil && !errors.Is(err, corrupt.Err) && !errors.Is(err, ErrNotOurs) && !errors.Is(err, ErrVersion) && !errors.Is(err, ErrIO):
		t.Errorf("%s at %#x: %v", what, at, err)
	}
	if !bytes.Equal(p, before) {
		t.Errorf("%s at %#x: a reader wrote", what, at)
	}
	return err != nil
}

func TestBitFlips(t *testing.T) {
	image := smallImage(t)
	step := 29
	if os.Getenv("CIDSTORE_LONG") != "" {
		step = 1
	}
	step *= invariants.Sparse
	detected := 0
	for at := 0; at < len(image); at += step {
		bit := byte(1) << (at / step % 8)
		image[at] ^= bit
		if judgeDamage(t, "flip", at, image) {
			detected++
		}
		image[at] ^= bit
	}
	t.Logf("%d of %d flips detected, the others were harmless", detected, len(image)/step)
	if detected == 0 {
		t.Fatal("none detected")
	}
}

// TestSectorFaults makes each sector zero, garbage, or another sector's bytes.
func TestSectorFaults(t *testing.T) {
	image := smallImage(t)
	r := rand.New(rand.NewPCG(1, 2))
	for at := 0; at+sectorSize <= len(image); at += sectorSize {
		sector := image[at : at+sectorSize]
		old := bytes.Clone(sector)
		clear(sector)
		judgeDamage(t, "zero sector", at, image)
		for i := range sector {
			sector[i] = byte(r.Uint32())
		}
		judgeDamage(t, "garbage sector", at, image)
		copy(sector, image[r.IntN(len(image)/sectorSize)*sectorSize:])
		judgeDamage(t, "misdirected sector", at, image)
		copy(sector, old)
	}
}

func TestCuts(t *testing.T) {
	image := smallImage(t)
	for size := 0; size < len(image); size += 64 {
		_, err := readImage(t, bytes.Clone(image[:size]))
		switch {
		case err == nil:
			t.Errorf("cut at %#x: opened", size)
		case size >= superblockSize && !errors.Is(err, ErrTruncated):
			t.Errorf("cut at %#x: %v", size, err)
		case size < superblockSize && !errors.Is(err, ErrNotOurs):
			t.Errorf("cut at %#x: %v", size, err)
		}
	}
	longer := append(bytes.Clone(image), bytes.Repeat([]byte{0xa5}, 5000)...)
	if round, err := readImage(t, longer); round != imageRound || err != nil {
		t.Errorf("longer: round %d, %v", round, err)
	}
	f, _, err := Open(&memoryFile{longer}, smallGrowth)
	must(t, err)
	checkClean(t, commitRound(t, f, imageRound+1))
}

// TestEitherSlotLost: without the newest slot the complete file is as it was one
// commit before, whatever the writer has done with free space since.
func TestEitherSlotLost(t *testing.T) {
	m := &memoryFile{}
	f, err := Create(m, Options{UUID: testUUID, GrowStep: 4096, Quarantine: -1}, nil, buildTestTree)
	must(t, err)
	for round := uint64(1); round < 8; round++ {
		commitRound(t, f, round)
		tx := begin(t, f)
		tx.Abort()
		scribble(t, f)
		for i, want := range [2]uint64{round - 1, round} {
			lost := &memoryFile{bytes.Clone(m.p)}
			clear(lost.p[slotOffset(f.slot^i):][:slotSize])
			again, report, err := Open(lost, smallGrowth)
			if err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
			if got := roundOf(t, again.View()); got != want {
				t.Fatalf("round %d, want %d, report %+v", got, want, report)
			}
			checkAgain(t, again.View(), want)
			checkClean(t, again.View())
			checkClean(t, commitRound(t, again, want+1))
		}
	}
}

func TestSuperblock(t *testing.T) {
	image := smallImage(t)
	slot, err := parseSlot(image[slotOffset(0):], slotOffset(0))
	must(t, err)
	other, err := parseSlot(image[slotOffset(1):], slotOffset(1))
	must(t, err)
	newest := slot
	if other.generation > slot.generation {
		newest, slot, other = other, other, slot
	}
	foreign := superblock{endOfFile: newest.endOfFile, root: newest.root() + 64}.append(nil)
	flagged := bytes.Clone(newest.superblock[:])
	flagged[11] = 1
	flagged = sealed(flagged[:44], 0)
	for _, c := range []struct {
		name   string
		p      []byte
		mended bool
		err    error
	}{
		{"the root's", slot.superblock[:], false, nil},
		{"the other slot's", other.superblock[:], true, nil},
		{"zero", make([]byte, superblockSize), true, nil},
		{"torn", append(bytes.Clone(other.superblock[:30]), newest.superblock[30:]...), !bytes.Equal(other.superblock[30:], newest.superblock[30:]), nil},
		{"somebody else's", foreign, false, ErrForeignEdit},
		{"left open by an HDF5 program", flagged, false, ErrForeignEdit},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := &memoryFile{bytes.Clone(image)}
			copy(m.p, c.p)
			before := bytes.Clone(m.p)
			f, report, err := Open(m, Options{ReadOnly: true})
			if !errors.Is(err, c.err) || report.SuperblockMended || !bytes.Equal(m.p, before) {
				t.Fatalf("reading: %+v, %v", report, err)
			}
			if err == nil {
				f.Close()
			}
			f, report, err = Open(m, Options{})
			if !errors.Is(err, c.err) || report.SuperblockMended != c.mended {
				t.Fatalf("writing: %+v, %v", report, err)
			}
			if c.err != nil {
				if !errors.Is(err, corrupt.Err) || !bytes.Equal(m.p, before) {
					t.Fatalf("touched, or %v", err)
				}
				return
			}
			if !bytes.Equal(m.p[:superblockSize], newest.superblock[:]) {
				t.Fatal("not mended")
			}
			checkClean(t, f.View())
		})
	}
}

func TestOtherFiles(t *testing.T) {
	image := smallImage(t)
	newer := bytes.Clone(image)
	page := newer[slotOffset(0):][:slotSize]
	binary.LittleEndian.PutUint32(page[offSlotVersion:], 2)
	binary.LittleEndian.PutUint32(page[offSlotCRC:], crc32c.Sum(page[:offSlotCRC]))
	plain := bytes.Clone(image)
	clear(plain[firstSlot:FirstExtent])
	for _, c := range []struct {
		name string
		p    []byte
		err  error
	}{
		{"empty", nil, ErrNotOurs},
		{"text", bytes.Repeat([]byte("text "), 10_000), ErrNotOurs},
		{"HDF5 without slots", plain, ErrNotOurs},
		{"later version", newer, ErrVersion},
	} {
		before := bytes.Clone(c.p)
		if _, _, err := Open(&memoryFile{c.p}, Options{}); !errors.Is(err, c.err) {
			t.Errorf("%s: %v, want %v", c.name, err, c.err)
		}
		if !bytes.Equal(before, c.p) {
			t.Errorf("%s: written to", c.name)
		}
	}
}

// TestReaderWritesNothing: it changes no byte, and not the time of the last change.
func TestReaderWritesNothing(t *testing.T) {
	f, path := testFile(t, smallGrowth)
	commitRound(t, f, 1)
	f.Close()
	copyPath := filepath.Join(t.TempDir(), "copy.h5")
	p, err := os.ReadFile(path)
	must(t, err)
	clear(p[:superblockSize]) // something to mend
	must(t, os.WriteFile(copyPath, p, 0o400))
	before, err := os.Stat(copyPath)
	must(t, err)
	r, report, err := reopen(t, copyPath, Options{ReadOnly: true})
	if err != nil || !report.SuperblockStale || report.SuperblockMended {
		t.Fatalf("%+v, %v", report, err)
	}
	checkRound(t, r.View(), 1)
	var defects []error
	if _, err := r.View().Check(context.Background(), func(err error) { defects = append(defects, err) }); err == nil || len(defects) != 1 {
		t.Errorf("check: %v, want the superblock alone", defects)
	}
	r.Close()
	after, err := os.Stat(copyPath)
	if err != nil || !after.ModTime().Equal(before.ModTime()) {
		t.Fatalf("%v: changed at %v, before at %v", err, after.ModTime(), before.ModTime())
	}
	if q, err := os.ReadFile(copyPath); err != nil || !bytes.Equal(p, q) {
		t.Fatalf("%v: other bytes", err)
	}
}
