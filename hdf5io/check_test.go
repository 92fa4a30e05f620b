package hdf5io

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/cidstore/cidstore/internal/corrupt"
)

// checkHead opens an image for reading and checks it. The error is of either.
func checkHead(p []byte) error {
	f, _, err := Open(&memoryFile{p}, Options{ReadOnly: true})
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.View().Check(context.Background(), nil)
	return err
}

// TestCheckReaderSeesHead: Check by a reader reports every flipped bit before the first
// extent, though reading needs neither the superblock nor the second slot.
func TestCheckReaderSeesHead(t *testing.T) {
	image := smallImage(t)
	bits := []int{8 * superblockSize, 8*1000 + 3, 8*firstSlot - 1}
	for bit := range 8 * superblockSize {
		bits = append(bits, bit)
	}
	for at := firstSlot; at < FirstExtent; at += 97 {
		bits = append(bits, 8*at+at%8)
	}
	var all sync.WaitGroup
	for _, bit := range bits {
		all.Go(func() { // each waits for a writer that does not come
			p := bytes.Clone(image)
			p[bit/8] ^= 1 << (bit % 8)
			if err := checkHead(p); !errors.Is(err, corrupt.Err) {
				t.Errorf("bit %d of byte %d: %v", bit%8, bit/8, err)
			}
		})
	}
	all.Wait()
}

// TestCheckReaderAfterKill: what a writer leaves that is killed between two writes
// of a commit is no defect: the superblock is that of either slot.
func TestCheckReaderAfterKill(t *testing.T) {
	image := smallImage(t)
	older := 0
	for i := range 2 {
		s, err := parseSlot(image[slotOffset(i):], slotOffset(i))
		must(t, err)
		p := bytes.Clone(image)
		copy(p, s.superblock[:])
		if !bytes.Equal(p, image) {
			older++
		}
		if err := checkHead(p); err != nil {
			t.Errorf("superblock of slot %d: %v", i, err)
		}
	}
	if older != 1 {
		t.Errorf("%d of the slots have another superblock than the file, want 1", older)
	}
}

// TestCheckSeesFallBack: if the newest root is damaged and the older one is in use,
// Check says so until a commit has replaced the damaged one.
func TestCheckSeesFallBack(t *testing.T) {
	image := smallImage(t)
	pair, err := readSlots(&memoryFile{image})
	must(t, err)
	image[pair.slots[pair.newest()].freeMapAddress] ^= 1
	if err := checkHead(bytes.Clone(image)); !errors.Is(err, corrupt.Err) {
		t.Errorf("check: %v", err)
	}
	m := &memoryFile{image}
	f, report, err := Open(m, Options{})
	if err != nil || report.FellBack == nil {
		t.Fatalf("%+v, %v", report, err)
	}
	commitRound(t, f, imageRound)
	checkClean(t, f.View())
	f.Close()
	if err := checkHead(m.p); err != nil {
		t.Errorf("after a commit: %v", err)
	}
}

// TestOpenMendsHead: an open for writing mends whatever a power cut left in the sector
// of the superblock, and anything else before the slots.
func TestOpenMendsHead(t *testing.T) {
	for _, at := range []int{0, 44, superblockSize, 511, firstSlot - 1} {
		m := &memoryFile{smallImage(t)}
		m.p[at] ^= 1
		f, report, err := Open(m, Options{})
		if err != nil || !report.SuperblockMended {
			t.Fatalf("byte %d: %+v, %v", at, report, err)
		}
		checkClean(t, f.View())
		f.Close()
		if err := checkHead(m.p); err != nil {
			t.Errorf("byte %d: %v", at, err)
		}
	}
}
