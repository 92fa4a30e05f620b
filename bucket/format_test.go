package bucket

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/keys"
)

var update = flag.Bool("update", false, "write the golden dumps anew")

// golden compares text with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		must(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	must(t, err)
	if got != string(want) {
		t.Errorf("%s differs; the bytes of the format have changed:\n%s", path, got)
	}
}

// dump shows one element of a dataset: offset, field, bytes.
func dump(b *strings.Builder, of hdf5io.Datatype, p []byte) {
	fields := of.Fields()
	for i, f := range fields {
		end := of.Size()
		if i+1 < len(fields) {
			end = fields[i+1].Offset
		}
		fmt.Fprintf(b, "  %2d  %-14s  % x\n", f.Offset, f.Name, p[f.Offset:end])
	}
}

// dumpExtent shows a row or tail: every slot that is not zero.
func dumpExtent(g Geometry, p []byte, entryChunks int) string {
	var b strings.Builder
	for i := 0; i < len(p); i += EntrySize {
		slot, what, of := i/EntrySize, "entry", entryType()
		if n := slot - entryChunks*g.Chunk; n >= 0 {
			slot, what, of = n, "more row", moreType()
		}
		if allZero(p[i : i+EntrySize]) {
			continue
		}
		fmt.Fprintf(&b, "%s %d at %d\n", what, slot, i)
		dump(&b, of, p[i:i+EntrySize])
	}
	fmt.Fprintf(&b, "%d bytes; all others are zero\n", len(p))
	return b.String()
}

func TestGoldenRowAndTail(t *testing.T) {
	g := NewGeometry(8)
	w := &world{g: g, hasher: keys.NewHasher([2]uint64{1, 2})}
	seal := newSealer([16]byte{0xc1, 0xd5, 15: 0x7e})
	row := []Item{w.item(1, 1), w.item(2, 2), w.item(3, 4), w.item(4, 5)}
	for i := range row {
		row[i].Version = uint32(i + 1)
	}
	data, moreChunks := seal.appendExtent(nil, g, sorted(row), seal.seed(5, 77))
	if moreChunks != 1 {
		t.Fatalf("%d chunks of more rows, want 1", moreChunks)
	}
	golden(t, "row.txt", dumpExtent(g, data, 1))
	tail := []Item{w.item(2, 0), w.item(9, 3)}
	data, _ = seal.appendExtent(nil, g, sorted(tail), seal.seed(5, 78))
	golden(t, "tail.txt", dumpExtent(g, data, 1))
}

// fullState has another value in every field.
func fullState() State {
	return State{
		Prefix: 0xabc << 52, RowAddress: 0x10000, Commit: 7, Created: 3, TailAddress: 0x20040, TailCommit: 9,
		LastCompacted: 1_700_000_000_000_000_000, EntryCount: 101, SortedCount: 100, CRC: 0x01020304, TailCRC: 0x05060708,
		EntryChunks: 7, MoreChunks: 2, TailCount: 3, TailMore: 1, LocalDepth: 12, InUse: true, TailTags: [16]byte{1, 2, 3},
	}
}

func TestGoldenState(t *testing.T) {
	var b strings.Builder
	s := fullState()
	dump(&b, stateType(), AppendState(nil, &s))
	overflow := State{InUse: true, Overflow: true, LocalDepth: 64, Next: 0x01020304}
	b.WriteString("an overflow row\n")
	dump(&b, stateType(), AppendState(nil, &overflow))
	golden(t, "state.txt", b.String())
}

// The compound types of the datasets cover each element without a gap.
func TestDatatypesCoverElements(t *testing.T) {
	for name, of := range map[string]hdf5io.Datatype{"entry": entryType(), "more": moreType(), "state": stateType()} {
		end := uint32(0)
		for _, f := range of.Fields() {
			if f.Offset != end {
				t.Errorf("%s: field %s at %d, want %d", name, f.Name, f.Offset, end)
			}
			end = f.Offset + f.Type.Size()
		}
		if end != of.Size() {
			t.Errorf("%s: %d of %d bytes", name, end, of.Size())
		}
	}
}

func TestStateRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.Make[State]().Draw(t, "state")
		if s.InUse = rapid.Bool().Draw(t, "in use"); !s.InUse {
			s = State{}
		}
		got, err := ParseState(AppendState(nil, &s))
		if err != nil || got != s {
			t.Fatalf("%+v, %v, want %+v", got, err, s)
		}
	})
}

func TestStateIsJudged(t *testing.T) {
	g := NewGeometry(128)
	for name, spoil := range map[string]func(*State){
		"depth":             func(s *State) { s.LocalDepth = 65 },
		"prefix":            func(s *State) { s.Prefix |= 1 },
		"too many keys":     func(s *State) { s.EntryCount = 129 },
		"too many entries":  func(s *State) { s.SortedCount = 129 },
		"long tail":         func(s *State) { s.TailCount = 17 },
		"keys out of range": func(s *State) { s.EntryCount = 104 },
		"keys too few":      func(s *State) { s.EntryCount = 96 },
		"entry chunks":      func(s *State) { s.EntryChunks = 8 },
		"more chunks":       func(s *State) { s.MoreChunks = 8 },
		"no row":            func(s *State) { s.RowAddress = 0 },
		"odd row":           func(s *State) { s.RowAddress++ },
		"far row":           func(s *State) { s.RowAddress = 1 << 63 },
		"row of nothing":    func(s *State) { s.SortedCount, s.EntryChunks, s.MoreChunks, s.EntryCount = 0, 0, 0, 3 },
		"no tail":           func(s *State) { s.TailAddress = 0 },
		"odd tail":          func(s *State) { s.TailAddress++ },
		"tail more":         func(s *State) { s.TailMore = 2 },
		"tail of nothing":   func(s *State) { s.TailCount, s.TailTags = 0, [16]byte{}; s.EntryCount = 100 },
		"tags":              func(s *State) { s.TailTags[3] = 1 },
		"chain with a tail": func(s *State) { s.Next = 1 },
		"overflow tail":     func(s *State) { s.Overflow = true },
		"next": func(s *State) {
			s.TailCount, s.TailMore, s.TailAddress, s.TailTags, s.EntryCount, s.Next = 0, 0, 0, [16]byte{}, 100, 10
		},
	} {
		s := fullState()
		if err := s.Check(1, g, 10); err != nil {
			t.Fatal(err)
		}
		spoil(&s)
		if err := s.Check(1, g, 10); !errors.Is(err, corrupt.Err) || !strings.Contains(err.Error(), "state of bucket 1") {
			t.Errorf("%s: %v, want a corrupt error that names the bucket", name, err)
		}
	}
}

func TestStateOfAnyLengthIsRefused(t *testing.T) {
	s := fullState()
	whole := AppendState(nil, &s)
	for n := range len(whole) {
		if _, err := ParseState(whole[:n]); !errors.Is(err, corrupt.Err) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	for _, spoil := range []func([]byte){
		func(p []byte) { p[offStateFlags] = 4 | stateInUse },
		func(p []byte) { p[offStateFlags] = 0 },
		func(p []byte) { p[offReserved] = 1 },
	} {
		p := AppendState(nil, &s)
		spoil(p)
		if _, err := ParseState(p); !errors.Is(err, corrupt.Err) {
			t.Errorf("% x: %v", p[offLocalDepth:offTags], err)
		}
	}
}
