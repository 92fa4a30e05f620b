package legacy_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/cidstore/cidstore/keys"
	"github.com/cidstore/cidstore/legacy"
)

// The samples are shared with package hdf5.
func sample(t testing.TB, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("..", "hdf5", "testdata", name+".h5"))
	must(t, err)
	return content
}

func wideLog(t testing.TB) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("testdata", "upstream-256bit.wal"))
	must(t, err)
	return content
}

// withLog are the options to read a store of 256 bits with its log.
func withLog(log []byte) *legacy.Options {
	return &legacy.Options{Truncate: true, Log: bytes.NewReader(log), LogSize: int64(len(log))}
}

type pair struct{ key, value keys.E }

// digest is the first half of the SHA-256 of a name.
func digest(name string) keys.E {
	sum := sha256.Sum256([]byte(name))
	return keys.E{High: binary.BigEndian.Uint64(sum[:]), Low: binary.BigEndian.Uint64(sum[8:])}
}

// expected are the pairs that a sample must have.
func expected(t testing.TB, name string) map[pair]bool {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name+".expected.tsv"))
	must(t, err)
	pairs := make(map[pair]bool)
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if name == "upstream-256bit" {
			pairs[pair{digest(key), digest(value)}] = true
			continue
		}
		number, err := strconv.ParseUint(value, 10, 64)
		must(t, err)
		pairs[pair{keys.FromString(key), keys.FromUint64(number)}] = true
	}
	return pairs
}

func read(content []byte, options *legacy.Options) (*legacy.Contents, error) {
	return legacy.Read(context.Background(), bytes.NewReader(content), int64(len(content)), options)
}

// compare compares all that was read with what is wanted, including the counts.
func compare(t *testing.T, c *legacy.Contents, want map[pair]bool) {
	t.Helper()
	got := make(map[pair]bool)
	names := make(map[keys.E]bool)
	var last pair
	for key, value := range c.All() {
		p := pair{key, value}
		if len(got) > 0 && (last.key.Compare(key) > 0 || last.key == key && last.value.Compare(value) >= 0) {
			t.Fatalf("%v follows %v", p, last)
		}
		last = p
		got[p], names[key] = true, true
		if !want[p] {
			t.Errorf("%v is not wanted", p)
		}
	}
	for p := range want {
		if !got[p] {
			t.Errorf("%v is missing", p)
		}
	}
	if c.Keys() != len(names) || c.Pairs() != len(got) {
		t.Errorf("%d keys, %d pairs; %d and %d were read", c.Keys(), c.Pairs(), len(names), len(got))
	}
}

func TestSamples(t *testing.T) {
	const unbegun = "/wal: 106 operations of transactions that were not begun are not replayed"
	for _, c := range []struct {
		name     string
		layout   legacy.Layout
		replayed int
		defects  []string
	}{
		{"layout-attr-latest", legacy.Attribute, 1, nil},
		{"layout-attr-earliest", legacy.Attribute, 1, nil},
		{"layout-dataset", legacy.Dataset, 0, nil},
		{"layout-sharded", legacy.Sharded, 0, nil},
		{"upstream-100keys", legacy.Attribute, 0, []string{unbegun}},
		{"upstream-killed", legacy.Attribute, 0, []string{"superblock: marked as open for writing: the writer was killed, or is at work", unbegun}},
		{"upstream-empty", legacy.Empty, 0, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			contents, err := read(sample(t, c.name), nil)
			must(t, err)
			if contents.Layout != c.layout || contents.Replayed != c.replayed {
				t.Errorf("layout %s, %d replayed; want %s, %d", contents.Layout, contents.Replayed, c.layout, c.replayed)
			}
			wantDefects(t, contents, c.defects...)
			compare(t, contents, expected(t, c.name))
		})
	}
}

// TestDamagedSample: what is damaged is reported with its place, and all else is there.
func TestDamagedSample(t *testing.T) {
	contents, err := read(sample(t, "layout-damaged"), nil)
	must(t, err)
	t.Logf("%v", errors.Join(contents.Defects...))
	want := make(map[pair]bool)
	for _, p := range []struct {
		key   string
		value uint64
	}{{"good", 11}, {"bit1", 21}, {"bit1", 22}, {"dup", 41}, {"dup", 42}, {"badmask", 51}} {
		want[pair{keys.FromString(p.key), keys.FromUint64(p.value)}] = true
	}
	compare(t, contents, want)
	defects := fmt.Sprint(errors.Join(contents.Defects...))
	for _, part := range []string{
		`entry 1 of /buckets/bucket_0: key "bit1" (2cae2dba417c56588d55837e2de6450b): state mask 0x0e is corrected to 0x1e`,
		`entry 2 of /buckets/bucket_0: key "bit2" (f6e0262af58f5213aa935024f3ffc9e2): state mask 0x0f cannot be corrected; what is in the slots is left out: [31 32 0 0]`,
		`entry 3 of /buckets/bucket_0: key "lost-spill" (854893c1f92f5fd8850d453a75ff7334) is spilled, and its value set is not there: its values are lost`,
		`entry 5 of /buckets/bucket_0: key "dup" (be2f06852ac3558e926036b0321e364f) has another entry in bucket 0: the values of both are kept`,
		`entry 6 of /buckets/bucket_0: key "badmask" (73bc4f689a975ef799f7e0fbd5005990): slot 1 has the value 52, and the state mask says that it is not used: it is left out`,
		`directory: key "ghost" (`,
		`) is in bucket 7, which does not exist`,
		`record 4 of /wal: wrong HMAC; the log is not replayed from there on`,
	} {
		if !strings.Contains(defects, part) {
			t.Errorf("defects lack %q", part)
		}
	}
	if contents.DefectCount != 7 {
		t.Errorf("%d defects, want 7", contents.DefectCount)
	}
}

func TestFutureVersionIsRefused(t *testing.T) {
	_, err := read(sample(t, "layout-future-version"), nil)
	if !errors.Is(err, legacy.ErrVersion) || !strings.Contains(err.Error(), "99") {
		t.Error(err)
	}
}

func TestWide(t *testing.T) {
	content, log := sample(t, "upstream-256bit"), wideLog(t)
	if _, err := read(content, &legacy.Options{Log: bytes.NewReader(log), LogSize: int64(len(log))}); !errors.Is(err, legacy.ErrWide) {
		t.Errorf("not to be truncated: %v", err)
	}
	contents, err := read(content, withLog(log))
	if err != nil || contents.Layout != legacy.Wide || contents.DefectCount > 0 || contents.Replayed != 1 {
		t.Fatalf("%+v, %v", contents, err)
	}
	compare(t, contents, expected(t, "upstream-256bit"))

	contents, err = read(content, &legacy.Options{Truncate: true})
	if err != nil || contents.DefectCount != 1 {
		t.Fatalf("%+v, %v", contents, err)
	}
	compare(t, contents, expected(t, "upstream-256bit"))
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}
