package hdf5io

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
)

// TestImage: what an Image reads, in pieces of any size, is what Copy writes, byte
// for byte, while the file itself changes and has other bytes in its free space.
func TestImage(t *testing.T) {
	f, m := memoryStore(t)
	for round := range uint64(6) {
		step(t, f, round)
	}
	v := f.View()
	defer v.Unpin(v.Pin())
	d := dataset(t, v, "/wal")
	address, size := d.Extent()
	skip := Range{address, size}
	payload := []byte("of the copy")
	copied := &memoryFile{}
	must(t, v.Copy(t.Context(), copied, payload, skip))
	scribble(t, f)
	image, err := v.Image(payload, skip)
	must(t, err)
	if bytes.Equal(copied.p, m.p[:len(copied.p)]) || image.Size() != int64(len(copied.p)) {
		t.Fatalf("the image has %d bytes, the copy %d", image.Size(), len(copied.p))
	}
	random := rand.New(rand.NewPCG(1, 1))
	var got []byte
	for int64(len(got)) < image.Size() {
		p := bytes.Repeat([]byte{0xaa}, 1+random.IntN(9000))
		n, err := image.ReadAt(p, int64(len(got)))
		if n < len(p) != errors.Is(err, io.EOF) || err != nil && !errors.Is(err, io.EOF) {
			t.Fatalf("%d of %d bytes, %v", n, len(p), err)
		}
		got = append(got, p[:n]...)
	}
	if !bytes.Equal(got, copied.p) {
		t.Fatal("the image is not the copy")
	}
	if n, err := image.ReadAt(make([]byte, 1), image.Size()+5); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %d bytes, %v", n, err)
	}
	if _, err := image.ReadAt(make([]byte, 1), -1); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("before the start: %v", err)
	}
	uuid, commit, end, err := Identity(copied)
	if uuid != v.UUID() || commit != v.Commit() || end <= 0 || end > image.Size() || err != nil {
		t.Errorf("Identity: %x, commit %d, end %d, %v", uuid, commit, end, err)
	}
	if _, _, _, err := Identity(&memoryFile{p: make([]byte, 20000)}); !errors.Is(err, ErrNotOurs) {
		t.Errorf("Identity of zeros: %v", err)
	}
	if _, err := v.Image(make([]byte, MaxPayload+1)); err == nil {
		t.Error("a payload that is too long")
	}
	if _, err := v.Image(nil, skip, skip); err == nil {
		t.Error("a range that is left out twice")
	}
}

// TestMayBeOurs: whatever is left of a store counts as one, but not what other programs make.
func TestMayBeOurs(t *testing.T) {
	ours := func(change func(p []byte) []byte) []byte {
		head := superblock{endOfFile: 1 << 20, root: 1 << 14}.append(nil)
		head = append(head, make([]byte, HeadSize-len(head))...)
		copy(head[firstSlot:], slotMagic)
		copy(head[slotOffset(1):], slotMagic)
		return change(head)
	}
	clearSlots := func(p []byte) []byte { clear(p[firstSlot:]); return p }
	for name, test := range map[string]struct {
		head []byte
		want bool
	}{
		"a store":                       {ours(func(p []byte) []byte { return p }), true},
		"its superblock is lost":        {ours(func(p []byte) []byte { clear(p[:firstSlot]); return p }), true},
		"and a slot":                    {ours(func(p []byte) []byte { clear(p[:slotOffset(1)]); return p }), true},
		"both slots are lost":           {ours(clearSlots), true},
		"cut off before the slots":      {ours(func(p []byte) []byte { return p[:firstSlot] }), true},
		"cut off in the superblock":     {ours(func(p []byte) []byte { return p[:20] }), true},
		"cut off in the signature":      {ours(func(p []byte) []byte { return p[:3] }), true},
		"everything is lost":            {ours(func(p []byte) []byte { clear(p); return p }), false},
		"a file of Options.Plain":       {ours(func(p []byte) []byte { clearSlots(p); copy(p[firstSlot:], plainMagic); return p }), false},
		"data after the superblock":     {ours(func(p []byte) []byte { clearSlots(p); p[superblockSize] = 'O'; return p }), false},
		"text":                          {bytes.Repeat([]byte("text "), 3000), false},
		"text that names a slot":        {bytes.Repeat([]byte(slotMagic+"."), 2000), false},
		"text shorter than a signature": {[]byte("hi\n"), false},
	} {
		if got := MayBeOurs(test.head); got != test.want {
			t.Errorf("%s: %t, want %t", name, got, test.want)
		}
	}
}
