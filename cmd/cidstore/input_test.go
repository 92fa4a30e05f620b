package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/cidstore/cidstore"
	"pgregory.net/rapid"
)

// readAll returns the lines, with "LONG" for one that was passed over.
func readAll(in io.Reader) (lines []string, err error) {
	r, err := newLineReader(in)
	if err != nil {
		return nil, err
	}
	for {
		line, err := r.next()
		switch err {
		case nil:
			lines = append(lines, string(line))
		case errLongLine:
			lines = append(lines, "LONG")
		case io.EOF:
			return lines, nil
		default:
			return lines, err
		}
		if int64(len(lines)) != r.number {
			return lines, errors.New("the number of the line is wrong")
		}
	}
}

func TestLines(t *testing.T) {
	most := strings.Repeat("x", maxLine)
	for _, test := range []struct {
		name, in string
		want     []string
	}{
		{"nothing", "", nil},
		{"one empty line", "\n", []string{""}},
		{"LF", "a\nb\n", []string{"a", "b"}},
		{"CRLF", "a\r\nb\r\n", []string{"a", "b"}},
		{"no end", "a\nb", []string{"a", "b"}},
		{"CR alone is text", "a\rb\n", []string{"a\rb"}},
		{"one CR goes", "a\r\r\n", []string{"a\r"}},
		{"byte order mark", "\xef\xbb\xbfa\n", []string{"a"}},
		{"only the first mark", "\xef\xbb\xbf\xef\xbb\xbfa\n", []string{"\ufeffa"}},
		{"mark alone", "\xef\xbb\xbf", nil},
		{"half a mark", "\xef\xbb", []string{"\xef\xbb"}},
		{"longest", most + "\nb\n", []string{most, "b"}},
		{"longest, CRLF", most + "\r\nb\n", []string{most, "b"}},
		{"longest, no end", most, []string{most}},
		{"too long", most + "x\nb\n", []string{"LONG", "b"}},
		{"too long, CRLF", most + "x\r\nb\n", []string{"LONG", "b"}},
		{"too long, no end", most + "x", []string{"LONG"}},
		{"much too long", "a\n" + most + most + most + "\nb", []string{"a", "LONG", "b"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := readAll(strings.NewReader(test.in))
			if err != nil || !slices.Equal(got, test.want) {
				t.Errorf("%d lines, %v; want %d lines", len(got), err, len(test.want))
			}
		})
	}
}

// TestLongLineIsNotKept holds the reader to its bound of memory.
func TestLongLineIsNotKept(t *testing.T) {
	r, err := newLineReader(io.LimitReader(endless{}, 64<<20))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.next(); err != errLongLine {
		t.Fatalf("error %v, want %v", err, errLongLine)
	}
	if cap(r.line) > 4*maxLine {
		t.Errorf("%d bytes kept of a line of 64 MiB", cap(r.line))
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

// TestInputFails: the lines before a failure count, the one it is in does not.
func TestInputFails(t *testing.T) {
	broken := errors.New("broken")
	got, err := readAll(io.MultiReader(strings.NewReader("a\nb"), iotest.ErrReader(broken)))
	if err != broken || !slices.Equal(got, []string{"a"}) {
		t.Errorf("%q, %v; want a and %v", got, err, broken)
	}
}

// TestPackedInputCut cuts packed text at every byte: what comes out is the start of
// the text by whole lines, and then an error.
func TestPackedInputCut(t *testing.T) {
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	for range 50 {
		if _, err := w.Write([]byte("one\ntwo\r\nthree\n")); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := readAll(bytes.NewReader(packed.Bytes()))
	if err != nil || len(whole) != 150 {
		t.Fatalf("%d lines, %v", len(whole), err)
	}
	for n := len(gzipMagic); n < packed.Len(); n++ {
		got, err := readAll(bytes.NewReader(packed.Bytes()[:n]))
		if err == nil || len(got) > len(whole) || !slices.Equal(got, whole[:len(got)]) {
			t.Errorf("cut at %d: %d lines, %v", n, len(got), err)
		}
	}
}

func TestSeparator(t *testing.T) {
	for _, test := range []struct {
		name, first string
		want        separator
	}{
		{"a.csv", "x\ty", commas},
		{"a.CSV.gz", "x\ty", commas},
		{"a.tsv", "x,y", tabs},
		{"a.tsv.gz", "x,y", tabs},
		{"a.txt", "x,y", commas},
		{"a", "x,y\tz", tabs},
		{"-", "x", tabs},
		{"-", "", tabs},
	} {
		if got := separatorOf(test.name, []byte(test.first)); got != test.want {
			t.Errorf("%s, %q: %q, want %q", test.name, test.first, got, test.want)
		}
	}
}

func TestSplit(t *testing.T) {
	for _, test := range []struct {
		by   separator
		line string
		want []string
		err  error
	}{
		{tabs, "", []string{""}, nil},
		{tabs, "a\tb\tc", []string{"a", "b", "c"}, nil},
		{tabs, "\t", []string{"", ""}, nil},
		{tabs, `"a` + "\t" + `b"`, []string{`"a`, `b"`}, nil},
		{tabs, "a\t\xff", nil, errNotUTF8},
		{commas, "", []string{""}, nil},
		{commas, "a,b", []string{"a", "b"}, nil},
		{commas, `"a","b"`, []string{"a", "b"}, nil},
		{commas, `"a,b",c`, []string{"a,b", "c"}, nil},
		{commas, `"a""b",""`, []string{`a"b`, ""}, nil},
		{commas, `"",""""`, []string{"", `"`}, nil},
		{commas, `a,"b",`, []string{"a", "b", ""}, nil},
		{commas, `"a",`, []string{"a", ""}, nil},
		{commas, `a"b,c`, []string{`a"b`, "c"}, nil},
		{commas, `"a`, nil, errQuotes},
		{commas, `"`, nil, errQuotes},
		{commas, `"a"b,c`, nil, errQuotes},
		{commas, `a,"b""`, nil, errQuotes},
	} {
		s := splitter{by: test.by}
		fields, err := s.split([]byte(test.line))
		var got []string
		for _, f := range fields {
			got = append(got, string(f))
		}
		if err != test.err || !slices.Equal(got, test.want) {
			t.Errorf("%q by %q: %q, %v; want %q, %v", test.line, test.by, got, err, test.want, test.err)
		}
	}
}

// TestQuotedFieldsComeBack: any fields, written as CSV, are read again.
func TestQuotedFieldsComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(rapid.StringMatching(`[a," \t€]{0,6}`), 1, 5).Draw(t, "fields")
		quoted := make([]string, len(want))
		for i, f := range want {
			quoted[i] = `"` + strings.ReplaceAll(f, `"`, `""`) + `"`
		}
		s := splitter{by: commas}
		fields, err := s.split([]byte(strings.Join(quoted, ",")))
		if err != nil || len(fields) != len(want) {
			t.Fatalf("%d fields, %v; want %q", len(fields), err, want)
		}
		for i, f := range fields {
			if string(f) != want[i] {
				t.Fatalf("field %d is %q, want %q", i, f, want[i])
			}
		}
	})
}

// FuzzInput: no input makes the reader panic; every line is counted; what passes is
// UTF-8, and without quotes the fields are the line.
func FuzzInput(f *testing.F) {
	for _, seed := range []string{"", "a\tb\n", "\"a\"\",b\n", "\xef\xbb\xbf", "\x1f\x8b\x08\x00", "a\r\n\r\n", "\xff\t\n", ",\n\",\""} {
		f.Add([]byte(seed), true)
		f.Add([]byte(seed), false)
	}
	f.Fuzz(func(t *testing.T, data []byte, comma bool) {
		s := splitter{by: tabs}
		if comma {
			s.by = commas
		}
		lines, err := readAll(bytes.NewReader(data))
		if plain := !bytes.HasPrefix(data, gzipMagic); plain && err != nil {
			t.Fatal(err)
		} else if plain && len(lines) > bytes.Count(data, []byte{'\n'})+1 {
			t.Fatalf("%d lines of %d bytes", len(lines), len(data))
		}
		for _, line := range lines {
			fields, err := s.split([]byte(line))
			if err != nil {
				continue
			}
			if !utf8.ValidString(line) || len(fields) == 0 {
				t.Fatalf("%q passed as %q", line, fields)
			}
			joined := string(bytes.Join(fields, []byte{byte(s.by)}))
			if joined != line && (!comma || !strings.Contains(line, `"`)) {
				t.Fatalf("%q became %q", line, joined)
			}
		}
	})
}

func TestIdentifier(t *testing.T) {
	for text, want := range map[string]cidstore.E{
		"hello":                                cidstore.FromString("hello"),
		"0x2a":                                 {Low: 42},
		"0x":                                   cidstore.FromString("0x"),
		"42":                                   cidstore.FromString("42"),
		"9342d47a-1bab-5709-9869-c840b2eac501": cidstore.FromString("hello"),
		"9342D47A1BAB57099869C840B2EAC501":     cidstore.FromString("hello"),
	} {
		if got := identifier(text); got != want {
			t.Errorf("%q is %v, want %v", text, got, want)
		}
	}
}

func TestGrouped(t *testing.T) {
	for n, want := range map[uint64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if got := grouped(n); got != want {
			t.Errorf("%d is %s, want %s", n, got, want)
		}
	}
}
