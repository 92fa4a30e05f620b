package keys_test

import (
	"bytes"
	"encoding"
	"errors"
	"io"
	"math"
	"math/big"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/cidstore/cidstore/keys"
	"github.com/google/uuid"
	"pgregory.net/rapid"
)

var (
	_ encoding.TextMarshaler   = keys.E{}
	_ encoding.TextAppender    = keys.E{}
	_ encoding.TextUnmarshaler = (*keys.E)(nil)
)

// anyE draws identifiers with the edges that matter more often than chance would.
var anyE = rapid.Custom(func(t *rapid.T) keys.E {
	word := rapid.OneOf(rapid.Uint64(), rapid.SampledFrom([]uint64{0, 1, 1 << 63, math.MaxUint64}))
	return keys.E{High: word.Draw(t, "high"), Low: word.Draw(t, "low")}
})

// number is an identifier as a big integer.
func number(e keys.E) *big.Int {
	n := new(big.Int).SetUint64(e.High)
	return n.Lsh(n, 64).Or(n, new(big.Int).SetUint64(e.Low))
}

func TestFromString(t *testing.T) {
	for _, c := range []struct{ name, want string }{
		{"hello", "9342d47a-1bab-5709-9869-c840b2eac501"},
		{"python.org", "886313e1-3b8a-5372-9b90-0c9aee199e5d"},
		{"www.example.com", "2ed6657d-e927-568b-95e1-2665a8aea6a2"},
	} {
		e := keys.FromString(c.name)
		if got := e.UUID().String(); got != c.want {
			t.Errorf("FromString(%q) = %s, want %s", c.name, got, c.want)
		}
		if got, want := e.String(), strings.ReplaceAll(c.want, "-", ""); got != want {
			t.Errorf("FromString(%q).String() = %s, want %s", c.name, got, want)
		}
	}
	if e := keys.FromString("hello"); e.High != 0x9342d47a1bab5709 || e.Low != 0x9869c840b2eac501 {
		t.Errorf("words of hello: %#x %#x", e.High, e.Low)
	}
}

func TestFromStringIsVersion5OfAnyText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		u := keys.FromString(rapid.String().Draw(t, "text")).UUID()
		if u.Version() != 5 || u.Variant() != uuid.RFC4122 {
			t.Fatalf("%s: version %d, variant %s", u, u.Version(), u.Variant())
		}
	})
}

func TestFromUint64(t *testing.T) {
	for _, v := range []uint64{0, 1, math.MaxUint64} {
		if got := keys.FromUint64(v); got != (keys.E{Low: v}) {
			t.Errorf("FromUint64(%d) = %+v", v, got)
		}
	}
}

func TestNew(t *testing.T) {
	seen := make(map[keys.E]bool)
	for range 1000 {
		e := keys.New()
		if u := e.UUID(); seen[e] || u.Version() != 4 || u.Variant() != uuid.RFC4122 {
			t.Fatalf("New() = %s: seen before %t, version %d", u, seen[e], u.Version())
		}
		seen[e] = true
	}
}

func TestNewFrom(t *testing.T) {
	source := bytes.Repeat([]byte{0xff}, keys.Size)
	e, err := keys.NewFrom(iotest.OneByteReader(bytes.NewReader(source)))
	if want := "ffffffff-ffff-4fff-bfff-ffffffffffff"; err != nil || e.UUID().String() != want {
		t.Errorf("NewFrom(all ones) = %s, %v; want %s", e.UUID(), err, want)
	}
	for n := range keys.Size {
		want := io.ErrUnexpectedEOF
		if n == 0 {
			want = io.EOF
		}
		if e, err := keys.NewFrom(bytes.NewReader(source[:n])); !errors.Is(err, want) || !e.IsZero() {
			t.Errorf("NewFrom(%d bytes) = %s, %v; want %v", n, e, err, want)
		}
	}
}

func TestIsZero(t *testing.T) {
	for e, want := range map[keys.E]bool{{}: true, {High: 1}: false, {Low: 1}: false, {High: 1 << 63}: false} {
		if e.IsZero() != want {
			t.Errorf("%s: IsZero %t", e, e.IsZero())
		}
	}
}

func TestCompareIsTheOrderOfNumbersAndOfBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := anyE.Draw(t, "a"), anyE.Draw(t, "b")
		if rapid.Bool().Draw(t, "same high") {
			b.High = a.High
		}
		got, ab, bb := a.Compare(b), a.Bytes(), b.Bytes()
		if want := number(a).Cmp(number(b)); got != want {
			t.Fatalf("%s.Compare(%s) = %d, want %d", a, b, got, want)
		}
		if want := bytes.Compare(ab[:], bb[:]); got != want {
			t.Fatalf("%s.Compare(%s) = %d, but their bytes %d", a, b, got, want)
		}
		if (got == 0) != (a == b) || b.Compare(a) != -got {
			t.Fatalf("%s.Compare(%s) = %d, the other way %d", a, b, got, b.Compare(a))
		}
	})
}

func TestRoundTrips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := anyE.Draw(t, "e")
		b := e.Bytes()
		if got := new(big.Int).SetBytes(b[:]); got.Cmp(number(e)) != 0 {
			t.Fatalf("Bytes of %s are the number %x", e, got)
		}
		if got := keys.FromUUID(e.UUID()); got != e {
			t.Fatalf("FromUUID(%s.UUID()) = %s", e, got)
		}
		for form, text := range forms(e) {
			if got, err := keys.Parse(text); got != e || err != nil {
				t.Fatalf("Parse of %s %q = %s, %v; want %s", form, text, got, err, e)
			}
		}
		text, err := e.MarshalText()
		var back keys.E
		if err != nil || string(text) != e.String() || back.UnmarshalText(text) != nil || back != e {
			t.Fatalf("MarshalText of %s = %q, %v, back as %s", e, text, err, back)
		}
	})
}

// forms returns every text that Parse promises to read as e, of one digit case each.
func forms(e keys.E) map[string]string {
	u := e.UUID().String()
	return map[string]string{
		"digits": e.String(), "upper digits": strings.ToUpper(e.String()),
		"uuid": u, "upper uuid": strings.ToUpper(u),
		"0x": "0x" + number(e).Text(16), "0x upper": "0x" + strings.ToUpper(number(e).Text(16)),
		"0x of 32 digits": "0x" + e.String(),
		"braces":          "{" + u + "}", "upper braces": "{" + strings.ToUpper(u) + "}",
		"urn": "urn:uuid:" + u, "upper urn": strings.ToUpper("urn:uuid:" + u),
	}
}

func TestHDF5(t *testing.T) {
	e := keys.E{High: 0x0102030405060708, Low: 0x090a0b0c0d0e0f10}
	want := []byte{0xaa, 8, 7, 6, 5, 4, 3, 2, 1, 16, 15, 14, 13, 12, 11, 10, 9}
	if got := e.AppendHDF5([]byte{0xaa}); !slices.Equal(got, want) {
		t.Errorf("AppendHDF5 = %x, want %x", got, want)
	}
	rapid.Check(t, func(t *rapid.T) {
		e := anyE.Draw(t, "e")
		if got, err := keys.FromHDF5(e.AppendHDF5(nil)); got != e || err != nil {
			t.Fatalf("FromHDF5(AppendHDF5(%s)) = %s, %v", e, got, err)
		}
	})
	for n := range 40 {
		got, err := keys.FromHDF5(bytes.Repeat([]byte{1}, n))
		if (err == nil) != (n == keys.Size) || (err != nil && !got.IsZero()) {
			t.Errorf("FromHDF5 of %d bytes = %s, %v", n, got, err)
		}
	}
}

func TestNoAllocation(t *testing.T) {
	e, o := keys.FromString("a"), keys.FromString("b")
	text, uuidText, hexText := e.String(), e.UUID().String(), "0x"+e.String()
	buf, hasher := make([]byte, 0, 64), keys.NewHasher([2]uint64{1, 2})
	var sink uint64
	for name, f := range map[string]func(){
		"Parse digits": func() { x, _ := keys.Parse(text); sink += x.Low },
		"Parse uuid":   func() { x, _ := keys.Parse(uuidText); sink += x.Low },
		"ParseKey":     func() { sink += keys.ParseKey(uuidText).Low },
		"Parse 0x":     func() { x, _ := keys.Parse(hexText); sink += x.Low },
		"Compare":      func() { sink += uint64(e.Compare(o)) },
		"Bytes":        func() { b := e.Bytes(); sink += uint64(b[0]) },
		"AppendHDF5":   func() { buf = e.AppendHDF5(buf[:0]) },
		"FromHDF5":     func() { x, _ := keys.FromHDF5(e.AppendHDF5(buf[:0])); sink += x.Low },
		"AppendText":   func() { buf, _ = e.AppendText(buf[:0]) },
		"Hash":         func() { sink += hasher.Hash(e) },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	_ = sink
}
