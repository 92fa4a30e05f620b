package valueset

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/internal/golden"
	"github.com/cidstore/cidstore/keys"
)

// dump writes fields: offset, name, bytes.
func dump(out *strings.Builder, title string, b []byte, fields ...field) {
	fmt.Fprintf(out, "%s, %d bytes\n", title, len(b))
	for i, f := range fields {
		end := len(b)
		if i+1 < len(fields) {
			end = fields[i+1].at
		}
		fmt.Fprintf(out, "%6d  %-16s % x\n", f.at, f.name, b[f.at:end])
	}
}

type field struct {
	at   int
	name string
}

func TestGolden(t *testing.T) {
	var out strings.Builder
	s := state{owner: keys.E{High: 1, Low: 2}, row: 3, at: 0x40, commit: 5, count: 6, tombs: 7, sorted: 6, crc: 0xdeadbeef, class: 16}
	dump(&out, "set state", s.append(nil), field{offOwnerHigh, "owner_high"}, field{offOwnerLow, "owner_low"}, field{offRow, "row"},
		field{offAddress, "row_address"}, field{offCommit, "commit"}, field{offCount, "count"}, field{offTombs, "tombstone_count"},
		field{offSorted, "sorted_count"}, field{offCRC, "crc32c"}, field{offClass, "class"}, field{offDepth, "depth"})
	c := child{separator: keys.E{High: 1, Low: 2}, node: 3, at: 0x40, count: 5, tombs: 6, commit: 7, crc: 0xdeadbeef}
	dump(&out, "child record", c.append(nil), field{offSeparatorHigh, "separator_high"}, field{offSeparatorLow, "separator_low"},
		field{offChild, "child"}, field{offChildAddress, "address"}, field{offChildCount, "count"}, field{offChildTombs, "tombstone_count"},
		field{offChildCommit, "commit"}, field{offChildCRC, "crc32c"}, field{offChildReserved, "reserved"})
	w := newWorld(t, 1<<20)
	defer w.close()
	tx, writer := w.begin()
	x := w.tested(t, writer, keys.FromUint64(9))
	for v := range uint64(6) {
		x.add(keys.FromUint64(v))
	}
	x.remove(keys.FromUint64(2))
	r := w.save(writer, x.s)
	w.commit(tx, writer)
	stored, err := w.table().Open(r.Set, keys.FromUint64(9))
	must(t, err)
	b, err := stored.row()
	must(t, err)
	var fields []field
	for i := range len(b) / keys.Size {
		fields = append(fields, field{i * keys.Size, fmt.Sprint("slot ", i)})
	}
	dump(&out, "row of 0 1 3 4 5, tombstone 2", b, fields...)
	golden.Compare(t, "set.txt", out.String())
}

func TestStateRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b := rapid.SliceOfN(rapid.Byte(), stateSize, stateSize).Draw(rt, "bytes")
		s := parseState(b)
		if got := s.append(nil); !bytes.Equal(got, b) {
			rt.Fatalf("% x\nwant % x", got, b)
		}
	})
}

func TestChildRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b := make([]byte, nodeSize)
		copy(b, rapid.SliceOfN(rapid.Byte(), offChildReserved, offChildReserved).Draw(rt, "bytes"))
		c := inner(b).child(0)
		if got := c.append(nil); !bytes.Equal(got, b[:childSize]) {
			rt.Fatalf("% x\nwant % x", got, b[:childSize])
		}
	})
}

func TestClasses(t *testing.T) {
	for n := 1; n <= maxRow; n++ {
		k := classOf(n)
		if classes[k] < n || k > 0 && classes[k-1] >= n {
			t.Fatalf("class %d for %d values", classes[k], n)
		}
		if k > 0 && classes[k]*2 > classes[k-1]*3 {
			t.Fatalf("class %d after %d", classes[k], classes[k-1])
		}
	}
	for n := range 1 << 16 {
		k, ok := classIndex(uint16(n))
		if ok && classes[k] != n || !ok && n <= maxRow && classes[classOf(n)] == n {
			t.Fatalf("index of class %d: %d, %v", n, k, ok)
		}
	}
}

// TestStateRanges: what a state may not say, one thing at a time.
func TestStateRanges(t *testing.T) {
	good := state{owner: keys.FromUint64(1), row: 7, at: 0x4000, commit: 3, count: 5, tombs: 1, sorted: 5, class: 6}
	tree := state{row: 1, at: 0x4000, commit: 3, count: 5, sorted: 5, class: classTree, depth: maxDepth}
	const set, commit, end = 7, 3, 1 << 20
	for name, change := range map[string]func(*state){
		"count 0":        func(s *state) { s.count, s.sorted = 0, 0 },
		"too many":       func(s *state) { s.tombs = 2 },
		"overflow":       func(s *state) { s.tombs = ^uint64(0) - 2 },
		"sorted":         func(s *state) { s.sorted = 4 },
		"class":          func(s *state) { s.class = 7 },
		"row":            func(s *state) { s.row = 8 },
		"depth":          func(s *state) { s.depth = 1 },
		"address 0":      func(s *state) { s.at = 0 },
		"address odd":    func(s *state) { s.at++ },
		"address far":    func(s *state) { s.at = end },
		"commit":         func(s *state) { s.commit = 4 },
		"unused, owner":  func(s *state) { *s = state{owner: keys.FromUint64(1)} },
		"unused, row":    func(s *state) { *s = state{row: 5} },
		"tree, depth":    func(s *state) { *s = tree; s.depth++ },
		"tree, too many": func(s *state) { *s = tree; s.tombs = end / keys.Size },
	} {
		s := good
		change(&s)
		if err := s.check(set, commit, end); !errors.Is(err, corrupt.Err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, s := range []state{good, tree, {}} {
		must(t, s.check(set, commit, end))
	}
}

func FuzzSetState(f *testing.F) {
	good := state{row: 7, at: 0x4000, commit: 3, count: 5, tombs: 1, sorted: 5, class: 6}
	f.Add(good.append(nil))
	f.Add(make([]byte, stateSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) != stateSize {
			return
		}
		s := parseState(b)
		if !bytes.Equal(s.append(nil), b) {
			t.Fatal("another encoding")
		}
		if err := s.check(7, 10, 1<<30); err != nil && !errors.Is(err, corrupt.Err) {
			t.Fatal(err)
		} else if err == nil && s.class != classFree && (s.count == 0 || s.count+s.tombs > 1<<26) {
			t.Fatalf("accepts %d values and %d tombstones", s.count, s.tombs)
		}
	})
}

func FuzzNode(f *testing.F) {
	c := child{node: 3, at: 0x4000, count: 2, tombs: 1, commit: 9}
	kid := child{separator: keys.FromUint64(3), at: 0x40, count: 2, tombs: 1, commit: 7}
	f.Add(kid.append(nil), uint64(2), uint64(1))
	f.Add(appendValues(nil, []keys.E{{}, {Low: 2}}, []keys.E{{Low: 1}}), uint64(2), uint64(1))
	f.Fuzz(func(t *testing.T, data []byte, count, tombs uint64) {
		b := make([]byte, nodeSize)
		copy(b, data)
		c.count, c.tombs = count, tombs
		kids, err := inner(b).children(&c)
		if err == nil {
			var again []byte
			for i := range kids {
				again = kids[i].append(again)
				count, tombs = count-kids[i].count, tombs-kids[i].tombs
			}
			if !bytes.Equal(again, b[:len(again)]) || count != 0 || tombs != 0 {
				t.Fatal("accepts another encoding, or counts that do not add up")
			}
		} else if !errors.Is(err, corrupt.Err) {
			t.Fatal(err)
		}
		if n := inner(b).len(); n > 0 {
			if i := inner(b).find(keys.FromUint64(binary.LittleEndian.Uint64(b)), n); i < 0 || i >= n {
				t.Fatalf("child %d of %d", i, n)
			}
		}
		if c.count <= leafValues && c.tombs <= leafValues-c.count {
			if err := checkValues(b, c.count, c.tombs); err != nil {
				return
			}
			alive, _ := split(b, c.count, c.tombs)
			for i := range alive.len() {
				if statusIn(b, c.count, c.tombs, alive.at(i)) != isLive {
					t.Fatalf("value %d of a sound leaf is not found", i)
				}
			}
		}
	})
}
