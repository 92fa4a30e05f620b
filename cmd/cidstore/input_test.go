package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/cidstore/cidstore/internal/invariants"
	"github.com/klauspost/compress/zstd"
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
	must(t, err)
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

// gzipped packs a text.
func gzipped(t *testing.T, text string) string {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, err := io.WriteString(w, text)
	must(t, err, w.Close())
	return out.String()
}

// TestPackedInputCut cuts packed text at every byte: what comes out is the start of
// the text by whole lines, and then an error.
func TestPackedInputCut(t *testing.T) {
	packed := gzipped(t, strings.Repeat("one\ntwo\r\nthree\n", 50))
	whole, err := readAll(strings.NewReader(packed))
	if err != nil || len(whole) != 150 {
		t.Fatalf("%d lines, %v", len(whole), err)
	}
	for n := len(gzipMagic); n < len(packed); n++ {
		got, err := readAll(strings.NewReader(packed[:n]))
		if err == nil || len(got) > len(whole) || !slices.Equal(got, whole[:len(got)]) {
			t.Errorf("cut at %d: %d lines, %v", n, len(got), err)
		}
	}
}

func TestFormat(t *testing.T) {
	for _, test := range []struct {
		name, first string
		want        format
	}{
		{"a.csv", "x\ty", csvFormat},
		{"a.CSV.gz", "x\ty", csvFormat},
		{"a.csv.zst", "x\ty", csvFormat},
		{"a.tsv", "x,y", tsv},
		{"a.tsv.gz", `{"key":"a"`, tsv},
		{"a.jsonl", "", jsonLines},
		{"a.json.zst", "x", jsonLines},
		{"a.txt", "x,y", csvFormat},
		{"a", "x,y\tz", tsv},
		{"-", `{"key":"a","values":[]}`, jsonLines},
		{"-", `{"keys","b"`, csvFormat},
		{"-", "x", tsv},
		{"-", "", tsv},
	} {
		if got := formatOf(test.name, []byte(test.first)); got != test.want {
			t.Errorf("%s, %q: %d, want %d", test.name, test.first, got, test.want)
		}
	}
}

// readRecords returns the records, fields joined by "|"; "line N: " and the reason
// for one that is rejected.
func readRecords(name string, in io.Reader) (got []string, err error) {
	records, err := openInput(name, in)
	if err != nil {
		return nil, err
	}
	for {
		fields, err := records.next()
		why, rejected := err.(rejection)
		switch {
		case err == io.EOF:
			return got, nil
		case rejected:
			got = append(got, fmt.Sprintf("line %d: %v", records.start(), why))
			if why.last {
				return got, why
			}
		case err != nil:
			return got, err
		default:
			got = append(got, strings.Join(fields, "|"))
		}
	}
}

func TestRecords(t *testing.T) {
	bare := `line 1: bare " in non-quoted-field (line 1)`
	for _, test := range []struct {
		name, in string
		want     []string
	}{
		{"a.tsv", "", nil},
		{"a.tsv", "a\tb\tc\n", []string{"a|b|c"}},
		{"a.tsv", "\n\t\n", []string{"", "|"}},
		{"a.tsv", "\"a\tb\"\n", []string{`"a|b"`}},
		{"a.tsv", "a\t\xff\nb\tc", []string{"line 1: not valid UTF-8", "b|c"}},
		{"a.tsv", "\ufeffa\tb\n\ufeff\ufeffc\td\n", []string{"a|b", "c|d"}},
		{"a.tsv", "a\t\ufeffb\nc\td\n", []string{"line 1: it has a byte order mark that is not at its start", "c|d"}},
		{"a.tsv", "a\rb\tc\n", []string{"line 1: it has a carriage return without a line feed"}},
		{"a.tsv", "\xff\xfea\x00\t\x00b\x00\n\x00", []string{"a|b"}},
		{"a.tsv", "\xfe\xff\x00a\x00\t\x00b", []string{"a|b"}},
		{"a.tsv", "\xff\xfea\x00\n\x00\x00\xd8\n\x00", []string{"a", "line 2: not valid UTF-16, or has U+FFFD"}},
		{"a.tsv", "\xff\xfea\x00\n\x00\xff\xfeb\x00", []string{"a", "b"}},
		{"a.tsv", "\xff\xfea\x00\n\x00\xfe\xff\x00b", []string{"a", "line 2: it has a byte order mark that is not at its start"}},
		{"a.csv", "a,b\r\nc,d", []string{"a|b", "c|d"}},
		{"a.csv", "\n\na,b\n", []string{"", "", "a|b"}},
		{"a.csv", "k,\"first\nsecond,third\"\nc,d\n", []string{"k|first\nsecond,third", "c|d"}},
		{"a.csv", "k,\"first\r\n\r\n\ufeff\"\r\nc,d\n", []string{"line 1: it has a byte order mark that is not at its start", "c|d"}},
		{"a.csv", "k,\"x\n\xe4\n\"\nc,d\n", []string{"line 1: not valid UTF-8", "c|d"}},
		{"a.csv", `"a ""q"" b",""` + "\n", []string{`a "q" b|`}},
		{"a.csv", "a,\"open\nb,c\n", []string{`line 1: extraneous or missing " in quoted-field (line 2)`}},
		{"a.csv", "a, \"first\nb,c\nd\"\n", []string{bare}},
		{"a.csv", "a\"b,c\nd,e\n", []string{bare}},
		{"a.csv", "a,b\nc,\"d\"e\nf,g\n", []string{"a|b", `line 2: extraneous or missing " in quoted-field (line 2)`}},
		{"a.csv", "\ufeff\"a\",b\n\ufeff\"c\",d\n", []string{"a|b", "c|d"}},
		{"a.csv", "a,b\n" + strings.Repeat("x", maxLine+1) + "\nc,d\n", []string{"a|b", "line 2: line is longer than 1 MiB", "c|d"}},
		{"a.csv", "a,b\n\"" + strings.Repeat("x", maxLine) + "\nc,d\n", []string{"a|b", "line 2: line is longer than 1 MiB"}},
		{"a.csv", "a,\"b\n" + strings.Repeat("c,d\n", maxLine), []string{"line 1: " + errLongRecord.Error()}},
	} {
		// What comes after a record without an end is never read.
		got, err := readRecords(test.name, strings.NewReader(test.in))
		if _, rejected := err.(rejection); err != nil && !rejected || !slices.Equal(got, test.want) {
			t.Errorf("%s, %.60q: %.200q, %v; want %q", test.name, test.in, got, err, test.want)
		}
		slow, _ := readRecords(test.name, iotest.OneByteReader(strings.NewReader(test.in)))
		if len(test.in) < 100 && !slices.Equal(slow, test.want) {
			t.Errorf("%s, %q, byte by byte: %q, want %q", test.name, test.in, slow, test.want)
		}
	}
}

func TestJSONRecords(t *testing.T) {
	for _, test := range []struct {
		in   string
		want []string
	}{
		{"", nil},
		{`{"key":"a","values":["b","c"]}` + "\n" + `{"key":"d","values":[]}`, []string{"a|b", "a|c"}},
		{`{"key":"a","values":["b"],"names":{"b":["x",{"y":1}]}}`, []string{"a|b"}},
		{"\ufeff" + `{"key":"a\u000ab","values":["ä"]}`, []string{"a\nb|ä"}},
		{`{"key":"a"}` + "\n" + `{"key":"b","values":["c"]}`, []string{`line 1: not the JSON that export prints: want "key" and "values" in each object`}},
		{`{"key":"a","values":["\u0000","b"]}`, []string{"line 1: it has a NUL byte", "a|b"}},
		{`{"key":"a","values":["\ud800","b"]}`, []string{"line 1: not valid UTF-8", "a|b"}},
		{"\n" + `{"key":"a","values":["b",1]}`, []string{"a|b", `line 2: not the JSON that export prints: a value is 1, want a string`}},
		{`{"values":["b"],"key":"a"}`, []string{`line 1: not the JSON that export prints: want "values" after "key", as an array`}},
		{`{"key":"a","key":"b"}`, []string{`line 1: not the JSON that export prints: want one "key", as a string`}},
		{`["a"]`, []string{"line 1: not the JSON that export prints: want one object per line"}},
	} {
		got, err := readRecords("a.json", strings.NewReader(test.in))
		if _, rejected := err.(rejection); err != nil && !rejected || !slices.Equal(got, test.want) {
			t.Errorf("%q: %q, %v; want %q", test.in, got, err, test.want)
		}
	}
	whole := `{"key":"a","values":["b","c"]}`
	for n := 1; n < len(whole); n++ {
		if got, err := readRecords("a.json", strings.NewReader(whole[:n])); err == nil {
			t.Errorf("cut at %d: %q and no error", n, got)
		}
	}
	long := io.MultiReader(strings.NewReader(`{"key":"`), io.LimitReader(endless{}, 64<<20))
	if got, err := readRecords("a.json", long); err == nil || !strings.Contains(err.Error(), errLongString.Error()) {
		t.Errorf("%d records, %v; want %v", len(got), err, errLongString)
	}
}

// TestRefused: each kind of file that is no text is named in one sentence.
func TestRefused(t *testing.T) {
	packed := func(text string) string { return gzipped(t, text) }
	for in, want := range map[string]string{
		"\x89HDF\r\n\x1a\nx":            "HDF5",
		"PK\x03\x04x":                   "ZIP",
		"\xfd7zXZ\x00x":                 "xz",
		"BZh91AY&SYx":                   "bzip2",
		packed("PK\x03\x04x"):           "ZIP",
		packed(packed("a\tb\n")):        "packed twice",
		packed("\xfd7zXZ\x00x"):         "xz",
		"a\x00\t\x00b\x00\n\x00":        "UTF-16 without a byte order mark",
		"\x00a\x00\t\x00b\x00\n":        "UTF-16 without a byte order mark",
		"\xff\xfe\x00\x00a\x00\x00\x00": "UTF-32",
		"a\tb\rc\td\r":                  "CR alone",
		"\x7fELF\x02\x01\x01\x00":       "binary",
		packed("a\tb\n") + "\x00\x00x":  "bytes that are not gzip follow",
	} {
		_, err := readRecords("a", strings.NewReader(in))
		if !isA[inputError](err) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v, want %q", in, err, want)
		}
	}
	for _, text := range []string{"BZh", "PK\tx\n", "%PD\tF-\n", "LZIP\ta\n"} {
		if got, err := readRecords("a.tsv", strings.NewReader(text)); err != nil || len(got) != 1 {
			t.Errorf("%q: %q, %v; want one record", text, got, err)
		}
	}
	for _, padded := range []string{"\x00", strings.Repeat("\x00", 100000), "\x00\x00" + packed("c\td\n")} {
		got, err := readRecords("a.tsv", strings.NewReader(packed("a\tb\n")+padded))
		if err != nil || got[0] != "a|b" {
			t.Errorf("%d bytes of padding: %q, %v", len(padded), got, err)
		}
	}
}

// TestBomb: what a small packed file unpacks to is not kept.
func TestBomb(t *testing.T) {
	for name, pack := range map[string]func(io.Writer) io.WriteCloser{
		"gzip": func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) },
		"zstd": func(w io.Writer) io.WriteCloser {
			z, err := zstd.NewWriter(w)
			must(t, err)
			return z
		},
	} {
		var bomb bytes.Buffer
		w := pack(&bomb)
		_, err := io.Copy(w, io.MultiReader(io.LimitReader(endless{}, 100<<20/invariants.Sparse), strings.NewReader("\na\tb\n")))
		must(t, err, w.Close())
		whole := bomb.Len()
		cut := bytes.NewReader(bomb.Bytes()[:whole/2])
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		got, err := readRecords("a.tsv", &bomb)
		runtime.ReadMemStats(&after)
		if err != nil || !slices.Equal(got, []string{"line 1: line is longer than 1 MiB", "a|b"}) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > 40<<20 {
			t.Errorf("%s: %d bytes were allocated for a bomb of %d", name, used, whole)
		}
		if _, err := readRecords("a.tsv", cut); err == nil || !strings.HasPrefix(err.Error(), name+": ") {
			t.Errorf("%s, cut short: %v", name, err)
		}
	}
}

// TestQuotedFieldsComeBack: any fields, written as CSV, are read again.
func TestQuotedFieldsComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(rapid.StringMatching(`[a," \t€\n]{0,6}`), 1, 5).Draw(t, "fields")
		quoted := make([]string, len(want))
		for i, f := range want {
			quoted[i] = `"` + strings.ReplaceAll(f, `"`, `""`) + `"`
		}
		got, err := readRecords("a.csv", strings.NewReader(strings.Join(quoted, ",")))
		if err != nil || !slices.Equal(got, []string{strings.Join(want, "|")}) {
			t.Fatalf("%q, %v; want %q", got, err, want)
		}
	})
}

// FuzzInput: no input makes the reader of any format panic, and what passes is text.
func FuzzInput(f *testing.F) {
	for _, seed := range []string{"", "a\tb\n", "\"a\"\",b\n", "\xef\xbb\xbf", "\x1f\x8b\x08\x00", "a\r\n\r\n", "\xff\t\n",
		",\n\",\"", "\xff\xfea\x00", `{"key":"a","values":["b"]}`, "\x28\xb5\x2f\xfd\x04\x00\x01\x00\x00"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, name := range []string{"a.tsv", "a.csv", "a.json"} {
			in, err := openInput(name, bytes.NewReader(data))
			if err != nil {
				continue
			}
			for {
				fields, err := in.next()
				if why, rejected := err.(rejection); err != nil && (!rejected || why.last) {
					break
				}
				for _, field := range fields {
					if err == nil && checkText([]byte(field)) != nil {
						t.Fatalf("%s: %q passed: %v", name, field, checkText([]byte(field)))
					}
				}
			}
		}
	})
}

func TestNumbersInWords(t *testing.T) {
	for got, want := range map[string]string{
		counted(0, "defect"): "0 defects", counted(1, "defect"): "1 defect", counted(2, "defect"): "2 defects",
		grouped(0): "0", grouped(999): "999", grouped(1000): "1,000", grouped(1234567): "1,234,567",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
