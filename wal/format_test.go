package wal

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/internal/golden"
	"github.com/cidstore/cidstore/keys"
)

// dump prints fields of a structure: name, offset, bytes.
func dump(b *bytes.Buffer, title string, bytes []byte, fields []string, offsets []int) {
	fmt.Fprintln(b, title)
	offsets = append(offsets, len(bytes))
	for i, name := range fields {
		fmt.Fprintf(b, "  %-10s %3d  % x\n", name, offsets[i], bytes[offsets[i]:offsets[i+1]])
	}
}

// The bytes of a record of each kind, of a frame with pads, and of an epoch: a
// change of the format shows here.
func TestBytes(t *testing.T) {
	m := newMemory(4)
	c := testConfig(m)
	l, e := newLog(c)
	_, err := l.AppendAsync([]Op{
		{Insert, keys.FromString("key"), keys.FromString("value")},
		{Delete, keys.FromUint64(1), keys.E{}},
		{DeleteValue, keys.FromUint64(2), keys.E{High: 3, Low: 4}},
		{Split, keys.E{}, keys.FromUint64(5)},
	})
	must(t, err)
	must(t, l.Flush())
	_, err = l.Append([]Op{{Insert, keys.E{High: 6, Low: 7}, keys.E{High: 8, Low: 9}}})
	must(t, err)
	var b bytes.Buffer
	for seq := Seq(testBlockRecords); seq < 3*testBlockRecords; seq++ {
		record := recordAt(m.bytes, seq)
		fields, offsets := []string{"version_op", "flags", "reserved", "checksum"}, []int{0, 1, 2, 4}
		if opcode(record) == Time {
			fields, offsets = append(fields, "nanos", "seq", "relation", "watermark", "count", "reserved"), append(offsets, 8, 16, 20, 24, 32, 36)
		} else {
			fields, offsets = append(fields, "key_high", "key_low", "value_high", "value_low"), append(offsets, 8, 16, 24, 32)
		}
		if len(record) > RecordSize {
			fields, offsets = append(fields, "block ends"), append(offsets, RecordSize)
		}
		dump(&b, fmt.Sprintf("record %d", seq), record, fields, offsets)
	}
	e.Number, e.End = 0x0102030405060708, 0x1112131415161718
	dump(&b, "epoch", AppendEpoch(nil, e), []string{"epoch", "first", "end", "anchor"}, []int{0, 8, 16, 24})
	golden.Compare(t, "records.txt", b.String())
}

// Keys and their checks are what openssl computes:
//
//	printf 'cidstore log\0\1\2\3' | openssl dgst -sha256 -hmac secret
func TestKeys(t *testing.T) {
	salt := []byte{0, 1, 2, 3}
	if got := DeriveKey(nil, salt); !bytes.Equal(got, salt) || &got[0] == &salt[0] {
		t.Errorf("without a secret: % x, want a copy of the salt", got)
	}
	const derived = "590dd62092723ef37f1852097ad085e7c25f828eb9e20ae35a9e87a595feee0c"
	if got := hex.EncodeToString(DeriveKey([]byte("secret"), salt)); got != derived {
		t.Errorf("with a secret: %s, want %s", got, derived)
	}
	const checked = "2e56b5a8fa86c2c154adf8a821825a37"
	check := KeyCheck([]byte("secret"), [16]byte([]byte("0123456789abcdef")))
	if got := hex.EncodeToString(check[:]); got != checked {
		t.Errorf("check: %s, want %s", got, checked)
	}
}

func TestEpochsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := Epoch{Number: rapid.Uint64().Draw(t, "number"), First: Seq(rapid.Uint64().Draw(t, "first"))}
		e.End = Seq(rapid.Uint64Min(uint64(e.First)).Draw(t, "end"))
		copy(e.Anchor[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "anchor"))
		got, err := ParseEpoch(AppendEpoch(nil, e))
		if err != nil || got != e {
			t.Fatalf("%+v came back as %+v, %v", e, got, err)
		}
	})
	whole := AppendEpoch(nil, Epoch{Number: 1, First: 2, End: 1})
	for n := range len(whole) + 2 {
		if _, err := ParseEpoch(append(whole, 0)[:n]); !errors.Is(err, corrupt.Err) {
			t.Errorf("%d bytes that end before they begin: %v", n, err)
		}
	}
}

func FuzzEpoch(f *testing.F) {
	f.Add(AppendEpoch(nil, firstEpoch(testBlock)))
	f.Fuzz(func(t *testing.T, src []byte) {
		e, err := ParseEpoch(src)
		if err == nil && !bytes.Equal(AppendEpoch(nil, e), src) || err != nil && !errors.Is(err, corrupt.Err) {
			t.Errorf("% x: %+v, %v", src, e, err)
		}
	})
}

func TestTrimEpochs(t *testing.T) {
	mac := [32]byte{9}
	a, b := Epoch{Number: 1, First: 8, End: 32}, Epoch{Number: 2, First: 32, End: 64}
	open, reserved := Epoch{Number: 3, First: 64, End: NoEnd}, Epoch{Number: 4, First: 96, End: 96}
	anchored := func(e Epoch) Epoch { e.Anchor = mac; return e }
	for _, c := range []struct {
		name     string
		sequence Seq
		epoch    uint64
		epochs   []Epoch
		want     []Epoch
	}{
		{"nothing applied", 7, 1, []Epoch{a, b, open}, []Epoch{a, b, open}},
		{"in the first", 15, 1, []Epoch{a, b, open}, []Epoch{anchored(a), b, open}},
		{"end of the first", 31, 1, []Epoch{a, b, open}, []Epoch{b, open}},
		{"in the second", 40, 2, []Epoch{a, b, open}, []Epoch{anchored(b), open}},
		{"end of the second", 63, 2, []Epoch{a, b, open}, []Epoch{open}},
		{"in the present one", 71, 3, []Epoch{a, b, open}, []Epoch{anchored(open)}},
		{"before the first frame of a life", 63, 3, []Epoch{open}, []Epoch{open}},
		{"reserved and not used", 80, 3, []Epoch{open, {Number: 4, First: 96, End: 96}, {Number: 5, First: 96, End: 96}}, []Epoch{anchored(open), {Number: 5, First: 96, End: 96}}},
		{"the highest number is kept", 95, 3, []Epoch{open, reserved}, []Epoch{anchored(open), reserved}},
	} {
		got := TrimEpochs(c.epochs, Mark{c.sequence, mac, c.epoch})
		if fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestRecordsFor(t *testing.T) {
	for _, c := range []struct {
		ops, block int
		want       int64
	}{{0, 512, 12}, {1, 512, 12}, {10, 512, 12}, {11, 512, 24}, {1, 4096, 102}, {100, 4096, 102}, {101, 4096, 204}, {2, 192, 4}} {
		if got := RecordsFor(c.ops, c.block); got != c.want {
			t.Errorf("%d operations in blocks of %d: %d records, want %d", c.ops, c.block, got, c.want)
		}
	}
}

// A ring of so many bytes holds so many records, and is the least that does.
func TestRecordsAndBytes(t *testing.T) {
	for _, c := range []struct {
		records, bytes int64
		block          int
	}{{0, 0, 512}, {12, 512, 512}, {36, 1536, 512}, {102, 4096, 4096}, {104448, 4 << 20, 4096}} {
		if got := Records(c.bytes, c.block); got != c.records {
			t.Errorf("%d bytes in blocks of %d: %d records, want %d", c.bytes, c.block, got, c.records)
		}
		if got := Bytes(c.records, c.block); got != c.bytes {
			t.Errorf("%d records in blocks of %d: %d bytes, want %d", c.records, c.block, got, c.bytes)
		}
		if got, want := Bytes(c.records+1, c.block), c.bytes+int64(c.block); got != want {
			t.Errorf("%d records in blocks of %d: %d bytes, want %d", c.records+1, c.block, got, want)
		}
	}
}

// Hybrid time ascends from frame to frame by at least the records of each, whatever
// the clock does, and from life to life; so each record has a time of its own.
func TestTimeNeverGoesBack(t *testing.T) {
	m := newMemory(64)
	c := testConfig(m)
	clock := []int64{100, 50, -7, 100, 101, 101, 1 << 40, 3}
	c.Now = func() int64 {
		now := clock[0]
		clock = clock[1:]
		return now
	}
	c.After = 60
	l, e := newLog(c)
	for len(clock) > 0 {
		_, err := l.Append(someOps(3, 1))
		must(t, err)
	}
	var nanos, seq uint64 // of the record after the last
	for s := e.First; s < l.Next(); s++ {
		r := recordAt(m.bytes, s)
		if opcode(r) != Time {
			continue
		}
		now, number := binary.LittleEndian.Uint64(r[offNanos:]), uint64(binary.LittleEndian.Uint32(r[offSeq:]))
		if now < nanos || now == nanos && number < seq {
			t.Errorf("record %d: time %d.%d after %d.%d", s, now, number, nanos, seq)
		}
		nanos, seq = now, number+uint64(binary.LittleEndian.Uint32(r[offCount:]))
	}
	frames, report, err := scanAll(c, []Epoch{e}, 0, 0)
	must(t, err)
	if frames[0].Nanos != 100 || frames[5].Nanos != 101 || report.Nanos != 1<<40 {
		t.Errorf("times %d, %d and %d, want 100, 101 and 2^40", frames[0].Nanos, frames[5].Nanos, report.Nanos)
	}
}
