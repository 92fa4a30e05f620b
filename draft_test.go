package cidstore

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/cidstore/cidstore/vfs"
)

// TestDraft: a draft reads as a copy of its base that was changed in the same way, and the
// base stays as it was.
func TestDraft(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 9))
	for range 40 {
		base := somePages(random, random.IntN(40000))
		before, want := bytes.Clone(base), bytes.Clone(base)
		d := newDraft(bytes.NewReader(base), int64(len(base)))
		grow := func(n int) {
			if n > len(want) {
				want = append(want, make([]byte, n-len(want))...)
			}
		}
		for range 60 {
			off, n := random.IntN(50000), random.IntN(9000)
			var err error
			switch random.IntN(8) {
			case 0:
				err = d.Truncate(int64(off))
				grow(off)
				want = append([]byte(nil), want[:off]...)
			case 1:
				err = d.Allocate(int64(off), int64(n))
				grow(off + n)
			default:
				p := somePages(random, n)
				if random.IntN(2) == 0 {
					err = d.WriteSync(p, int64(off))
				} else {
					err = d.WriteAt(p, int64(off))
				}
				grow(off + n)
				copy(want[off:], p)
			}
			mustDo(t, err)
			if size, _, err := d.Shape(); size != int64(len(want)) || err != nil {
				t.Fatalf("%d bytes, want %d, %v", size, len(want), err)
			}
			p := bytes.Repeat([]byte{0xee}, 1+random.IntN(9000))
			off = random.IntN(len(want) + 100)
			got, err := d.ReadAt(p, int64(off))
			rest := want[min(off, len(want)):]
			if rest = rest[:min(len(rest), len(p))]; !bytes.Equal(p[:got], rest) || got < len(p) != errors.Is(err, io.EOF) {
				t.Fatalf("%d bytes at %d of %d: %d, %v", len(p), off, len(want), got, err)
			}
		}
		if !bytes.Equal(base, before) {
			t.Fatal("what it stands on was changed")
		}
	}
	d := newDraft(failingReader{}, 5000)
	p := make([]byte, 10)
	wantErr(t, errOf(d.ReadAt(p, 4990)), ErrIO, "read")
	wantErr(t, d.WriteAt(p, 4990), ErrIO, "write of a part of a page")
	if _, err := d.ReadAt(p, -1); err == nil {
		t.Error("read before the start")
	}
	f := draftFS{d}
	wantErr(t, f.Remove("x"), vfs.ErrNotSupported, "Remove")
	wantErr(t, f.Rename("x", "y"), vfs.ErrNotSupported, "Rename")
}

type failingReader struct{}

func (failingReader) ReadAt([]byte, int64) (int, error) { return 0, ErrIO }
