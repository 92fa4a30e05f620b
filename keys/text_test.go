package keys_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/cidstore/cidstore/keys"
	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// legal is the promise of Parse, written in another way.
var legal = regexp.MustCompile(`\A(?:[0-9a-fA-F]{32}|(?:(?i:urn:uuid:))?` + hyphened + `|\{` + hyphened + `\}|0x[0-9a-fA-F]{1,32})\z`)

const hyphened = `[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}`

func TestParse(t *testing.T) {
	const digits = "0123456789abcdef0123456789ABCDEF"
	e := keys.E{High: 0x0123456789abcdef, Low: 0x0123456789abcdef}
	for _, c := range []struct {
		name, text string
		want       keys.E
	}{
		{"32 digits of both cases", digits, e},
		{"uuid", "01234567-89ab-cdef-0123-456789ABCDEF", e},
		{"uuid in braces", "{01234567-89ab-cdef-0123-456789ABCDEF}", e},
		{"urn", "urn:uuid:01234567-89ab-cdef-0123-456789ABCDEF", e},
		{"urn of both cases", "uRn:UUID:01234567-89ab-cdef-0123-456789ABCDEF", e},
		{"0x and one digit", "0x0", keys.E{}},
		{"0x and 16 digits", "0xffffffffffffffff", keys.FromUint64(1<<64 - 1)},
		{"0x and 17 digits", "0x10000000000000000", keys.E{High: 1}},
		{"0x and 30 digits", "0x" + digits[2:], keys.E{High: 0x0023456789abcdef, Low: 0x0123456789abcdef}},
		{"0x and 32 digits", "0x" + digits, e},
		{"0x and 32 zeros", "0x" + strings.Repeat("0", 32), keys.E{}},
	} {
		if got, err := keys.Parse(c.text); got != c.want || err != nil {
			t.Errorf("%s: Parse(%q) = %s, %v; want %s", c.name, c.text, got, err, c.want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	const digits = "0123456789abcdef0123456789abcdef"
	for name, text := range map[string]string{
		"nothing":              "",
		"a name":               "hello",
		"31 digits":            digits[1:],
		"33 digits":            digits + "0",
		"a sign":               "+" + digits[1:],
		"an underscore":        digits[:15] + "_" + digits[16:],
		"a space before":       " " + digits,
		"a line end":           digits + "\n",
		"0x alone":             "0x",
		"0X":                   "0X" + digits,
		"0x and 33 digits":     "0x" + digits + "0",
		"0x and a sign":        "0x-1",
		"0x twice":             "0x0x1",
		"x inside":             "00x" + digits[3:],
		"one brace before":     "{01234567-89ab-cdef-0123-456789abcdef",
		"one brace after":      "01234567-89ab-cdef-0123-456789abcdef}",
		"braces the wrong way": "}01234567-89ab-cdef-0123-456789abcdef{",
		"two opening braces":   "{01234567-89ab-cdef-0123-456789abcdef{",
		"parentheses":          "(01234567-89ab-cdef-0123-456789abcdef)",
		"quotes":               `"01234567-89ab-cdef-0123-456789abcdef"`,
		"braces around digits": "{" + digits + "}",
		"urn and digits":       "urn:uuid:" + digits,
		"urn and braces":       "urn:uuid:{01234567-89ab-cdef-0123-456789abcdef}",
		"braces and urn":       "{urn:uuid:01234567-89ab-cdef-0123-456789abcdef}",
		"another urn":          "urn:guid:01234567-89ab-cdef-0123-456789abcdef",
		"urn with a long i":    "urn:uu\u0131d:1234567-89ab-cdef-0123-456789abcdef",
		"uuid:":                "uuid:01234567-89ab-cdef-0123-456789abcdef",
		"a dash elsewhere":     "0123456-789ab-cdef-0123-456789abcdef",
		"a dash for a digit":   "01234567-89ab-cdef-0123-45678-abcdef",
		"36 digits":            digits + "0123",
		"a letter past f":      digits[:31] + "g",
		"zero byte":            digits[:31] + "\x00",
		"digits of other sets": strings.Repeat("\u0663", 16),
		"not text":             strings.Repeat("\xff", 32),
	} {
		e, err := keys.Parse(text)
		if err == nil || !e.IsZero() {
			t.Errorf("%s: Parse(%q) = %s, %v; want an error", name, text, e, err)
		}
	}
}

func TestParseErrorNamesTheText(t *testing.T) {
	if _, err := keys.Parse("walrus"); err == nil || !strings.Contains(err.Error(), `"walrus"`) {
		t.Errorf("error %v does not name the text", err)
	}
	long := "walrus" + strings.Repeat("\x00", 1<<20)
	_, err := keys.Parse(long)
	if err == nil || !strings.Contains(err.Error(), `"walrus`) || !strings.Contains(err.Error(), "1048582 bytes") {
		t.Fatalf("error %.200v names neither the start nor the length of the text", err)
	}
	if n := len(err.Error()); n > 512 {
		t.Errorf("error of %d bytes for a long text", n)
	}
}

// TestParseKeyOfTheTable reads a table that tests in other languages read too.
func TestParseKeyOfTheTable(t *testing.T) {
	table, err := os.ReadFile("testdata/identifiers.tsv")
	if err != nil {
		t.Fatal(err)
	}
	identifiers, names := 0, 0
	for line := range strings.Lines(string(table)) {
		text, want, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if got := keys.ParseKey(text); got.String() != want {
			t.Errorf("ParseKey(%q) = %s, want %s", text, got, want)
		}
		if legal.MatchString(text) {
			identifiers++
		} else {
			names++
		}
	}
	if identifiers < 20 || names < 20 {
		t.Errorf("the table has %d identifiers and %d names", identifiers, names)
	}
}

func TestResembles(t *testing.T) {
	const digits, id = "6ba7b8109dad11d180b400c04fd430c8", "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
	for _, text := range []string{
		digits[1:], digits[2:], digits + "0", "0x", "0xZZ", "0X2a", "0x" + digits + "0", "0x 2a", id[1:], id + "0", id[:35] + "g",
		"{" + id, id + "}", "}" + id + "{", "{" + digits + "}", "(" + id + ")", "[" + id + "]", `"` + id + `"`,
		"urn:uuid:" + digits, "URN:UUID:" + id[1:], "urn:uuid:", "uuid:" + id, "urn:" + id, "{urn:uuid:" + id + "}",
		" " + id, id + "\t", digits[:31] + "O", digits[:16] + "-" + digits[16:], digits[:16] + "\u2013" + digits[17:],
		"\ufeff" + id, strings.ReplaceAll(id, "-", "_"), strings.ReplaceAll(id, "-", " "), strings.ReplaceAll(id, "-", "\u2010"),
		"143098242562633686632406296499919794632", strings.Repeat("1", 37),
	} {
		if !keys.Resembles(text) {
			t.Errorf("%q does not resemble an identifier", text)
		}
	}
	for _, text := range []string{
		"", "hello", "42", "deadbeef", "x", "{", "}", "{}", "a-b-c-d-e", "urn:isbn:0451450523", strings.Repeat("-", 36),
		"da39a3ee5e6b4b0d3255bfef95601890afd80709", "0 x", "the quick brown fox jumps over it", "de facto bed-and-breakfast cafe: a decade",
		"2026-11-27T12:00:00Z", "+49 30 1234567-89", digits + digits, strings.Repeat("1", 40), strings.Repeat("1", 29), strings.Repeat("1", 35) + "a", strings.Repeat(" ", 1<<20), "0x" + strings.Repeat("a", 1<<20),
		digits, id, "0x2a", "{" + id + "}", "urn:uuid:" + id,
	} {
		if keys.Resembles(text) {
			t.Errorf("%.100q resembles an identifier", text)
		}
	}
}

func TestUnmarshalTextKeepsTheValueOnError(t *testing.T) {
	e := keys.FromUint64(7)
	if err := e.UnmarshalText([]byte("walrus")); err == nil || e != keys.FromUint64(7) {
		t.Errorf("UnmarshalText: %v, left %s", err, e)
	}
}

func TestParseAcceptsExactlyItsForms(t *testing.T) {
	anyText := rapid.OneOf(
		rapid.StringMatching(`(0[xX])?[0-9a-gA-G-]{1,37}`),
		rapid.Custom(func(t *rapid.T) string { // one byte of a legal text changed
			all := forms(anyE.Draw(t, "e"))
			text := []byte(all[rapid.SampledFrom([]string{"digits", "uuid", "0x", "upper uuid", "braces", "urn"}).Draw(t, "form")])
			text[rapid.IntRange(0, len(text)-1).Draw(t, "at")] = rapid.Byte().Draw(t, "byte")
			return string(text)
		}),
	)
	rapid.Check(t, func(t *rapid.T) { checkParse(t, anyText.Draw(t, "text")) })
}

// checkParse compares Parse with its promise for any text.
func checkParse(t interface{ Fatalf(string, ...any) }, text string) {
	e, err := keys.Parse(text)
	if u, uuidErr := uuid.Parse(text); err == nil && uuidErr == nil && keys.FromUUID(u) != e {
		t.Fatalf("Parse(%q) = %s, but a UUID reads it as %s", text, e, u)
	}
	if want := map[bool]keys.E{true: e, false: keys.FromString(text)}[err == nil]; keys.ParseKey(text) != want {
		t.Fatalf("ParseKey(%q) = %s, want %s", text, keys.ParseKey(text), want)
	}
	if err == nil && keys.Resembles(text) {
		t.Fatalf("%q is an identifier, and resembles one", text)
	}
	if (err == nil) != legal.MatchString(text) {
		t.Fatalf("Parse(%q) = %s, %v; legal: %t", text, e, err, err != nil)
	}
	if err != nil {
		if !e.IsZero() || len(err.Error()) > 512 {
			t.Fatalf("Parse(%q) = %s with an error of %d bytes", text, e, len(err.Error()))
		}
		return
	}
	digits := strings.TrimPrefix(strings.TrimPrefix(strings.ToLower(text), "urn:uuid:"), "0x")
	digits = strings.NewReplacer("-", "", "{", "", "}", "").Replace(digits)
	if want := strings.Repeat("0", 32-len(digits)) + digits; e.String() != want {
		t.Fatalf("Parse(%q) = %s, want %s", text, e, want)
	}
	for form, other := range forms(e) {
		if back, err := keys.Parse(other); back != e || err != nil {
			t.Fatalf("Parse(%q) = %s, but its %s %q gives %s, %v", text, e, form, other, back, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"", "0x", "0x0", "0xg", "hello", "9342d47a-1bab-5709-9869-c840b2eac501",
		"9342d47a1bab57099869c840b2eac501", "0X9342d47a1bab57099869c840b2eac501",
		"0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF", "0x100000000000000000000000000000000",
		"{9342d47a-1bab-5709-9869-c840b2eac501}", "urn:uuid:9342d47a-1bab-5709-9869-c840b2eac501",
		"x9342d47a-1bab-5709-9869-c840b2eac501y", "{9342d47a-1bab-5709-9869-c840b2eac501", "9342d47a-1bab-5709-9869-c840b2eac50\xff",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) { checkParse(t, text) })
}

func FuzzFromHDF5(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(make([]byte, 16))
	f.Add([]byte("0123456789abcdef"))
	f.Add([]byte("0123456789abcdef0"))
	f.Fuzz(func(t *testing.T, src []byte) {
		e, err := keys.FromHDF5(src)
		if (err == nil) != (len(src) == keys.Size) {
			t.Fatalf("FromHDF5 of %d bytes: %v", len(src), err)
		}
		if err == nil && string(e.AppendHDF5(nil)) != string(src) {
			t.Fatalf("FromHDF5(%x) = %s, written back as %x", src, e, e.AppendHDF5(nil))
		}
	})
}
