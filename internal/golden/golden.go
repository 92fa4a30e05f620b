// Package golden compares what the code writes with texts in testdata: each byte, with
// the name of its field. Only tests import it.
package golden

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"flag"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write testdata again")

// Compare compares text with a file of testdata.
func Compare(t testing.TB, name, text string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got, want := strings.Split(text, "\n"), strings.Split(string(content), "\n")
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Errorf("%s, line %d: got\n%s\nwant\n%s", path, i+1, got[i], want[i])
			return
		}
	}
	if len(got) != len(want) {
		t.Errorf("%s: %d lines, want %d", path, len(got), len(want))
	}
}

// Dump describes bytes as structures made of fields. Its String has every byte once.
type Dump struct {
	t          testing.TB
	content    []byte
	at         int // of the next field
	structures []structure
	text       *strings.Builder // of the present structure
}

// structure is the text about content[start:end].
type structure struct {
	start, end int
	text       string
}

// New returns a dump without structures.
func New(t testing.TB, content []byte) *Dump { return &Dump{t: t, content: content} }

// Structure adds a structure at offset at, with the fields that the function fields
// describes. The function may describe other structures too. Without a title the text is
// only the fields.
func (d *Dump) Structure(title string, at int, fields func()) {
	outer, outerText := d.at, d.text
	d.at, d.text = at, new(strings.Builder)
	if title != "" {
		fmt.Fprintln(d.text, title)
	}
	fields()
	d.structures = append(d.structures, structure{at, d.at, d.text.String()})
	d.at, d.text = outer, outerText
}

// At returns the offset of the next field.
func (d *Dump) At() int { return d.at }

// Field describes the next n bytes and returns them.
func (d *Dump) Field(name string, n int) []byte {
	d.t.Helper()
	if n < 0 || n > len(d.content)-d.at {
		d.t.Fatalf("%s at %d: %d bytes, only %d are left", name, d.at, n, len(d.content)-d.at)
	}
	field := d.content[d.at : d.at+n]
	d.write(name, d.at, field)
	d.at += n
	return field
}

// Uint describes the next field, a little-endian number of size bytes, and returns it.
func (d *Dump) Uint(name string, size int) uint64 {
	d.t.Helper()
	var b [8]byte
	copy(b[:], d.Field(name, size))
	return binary.LittleEndian.Uint64(b[:])
}

const rowBytes = 16 // in a line of the text

func (d *Dump) write(name string, at int, field []byte) {
	if len(field) > rowBytes && bytes.Count(field, field[:1]) == len(field) {
		fmt.Fprintf(d.text, "%8d  %-24s  %d times %02x\n", at, name, len(field), field[0])
		return
	}
	for len(field) > 0 {
		row := field[:min(rowBytes, len(field))]
		line := fmt.Sprintf("%8d  %-24s  %-47s  %s", at, name, fmt.Sprintf("% x", row), printable(row))
		fmt.Fprintln(d.text, strings.TrimRight(line, " "))
		at, name, field = at+len(row), "", field[len(row):]
	}
}

// printable is text if some of it is, for people.
func printable(p []byte) string {
	letters := 0
	text := []byte(nil)
	for _, b := range p {
		if b >= ' ' && b <= '~' {
			text, letters = append(text, b), letters+1
		} else {
			text = append(text, '.')
		}
	}
	if letters < 3 {
		return ""
	}
	return string(text)
}

// String returns all structures in the order of their places. Of what lies between them
// it gives the length and a checksum.
func (d *Dump) String() string {
	d.t.Helper()
	slices.SortStableFunc(d.structures, func(a, b structure) int { return cmp.Compare(a.start, b.start) })
	var out strings.Builder
	at := 0
	between := func(end int) {
		if at < end {
			fmt.Fprintf(&out, "%8d  %-24s  %d bytes, crc32 %08x\n", at, "not in use", end-at, crc32.ChecksumIEEE(d.content[at:end]))
		}
	}
	for _, s := range d.structures {
		if s.start < at {
			d.t.Fatalf("two structures share bytes: %s", s.text)
		}
		between(s.start)
		out.WriteString(s.text)
		at = s.end
	}
	between(len(d.content))
	return out.String()
}
