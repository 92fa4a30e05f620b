package legacy_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cidstore/cidstore/legacy"
)

// own reads a sample that testdata/samples.py has made.
func own(t *testing.T, name string, options *legacy.Options) (*legacy.Contents, error) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("testdata", name+".h5"))
	must(t, err)
	return read(content, options)
}

// wantDefects compares defects, in their order.
func wantDefects(t *testing.T, c *legacy.Contents, want ...string) {
	t.Helper()
	got := fmt.Sprint(errors.Join(c.Defects...))
	if c.DefectCount != len(want) || len(want) > 0 && got != strings.Join(want, "\n") {
		t.Errorf("%d defects:\n%s\nwant:\n%s", c.DefectCount, got, strings.Join(want, "\n"))
	}
}

// TestOddSample has names with slashes, packed rows of the other byte order, both
// forms of the directory, and things that are not part of a store.
func TestOddSample(t *testing.T) {
	c, err := own(t, "odd", nil)
	must(t, err)
	if c.Layout != legacy.Dataset {
		t.Errorf("layout %s", c.Layout)
	}
	compare(t, c, expected(t, "odd"))
	wantDefects(t, c,
		`/values/sp/other: not a value set, left out`,
		`/buckets/bucket_13: shape [2 2], want one dimension`,
		`/buckets/bucket_14: 1099511627776 rows of 53 bytes are too many for this file`,
		`/buckets/other: not a bucket, left out`,
		`/buckets/bucket_15: hdf5: object: wrong type: a group, want a dataset`,
		`/values/sp/valueset_orphan: belongs to no spilled entry, left out`)
}

// TestEveryMask: the slots that a mask names are read, and no others.
func TestEveryMask(t *testing.T) {
	c, err := own(t, "slots", nil)
	must(t, err)
	compare(t, c, expected(t, "slots"))
	wantDefects(t, c)
}

// TestGaps: if one chunk of a bucket is damaged, the others are read, and the keys
// that were in it are named.
func TestGaps(t *testing.T) {
	c, err := own(t, "gaps", nil)
	must(t, err)
	compare(t, c, expected(t, "gaps"))
	text := fmt.Sprint(errors.Join(c.Defects...))
	if c.DefectCount != 9 || !strings.HasPrefix(text, "rows 16 to 23 of /buckets/bucket_0: ") {
		t.Errorf("%d defects:\n%s", c.DefectCount, text)
	}
	for i := 16; i < 24; i++ {
		if !strings.Contains(text, fmt.Sprintf("directory: key \"key%d\" (", i)) {
			t.Errorf("key%d is not named", i)
		}
	}
}

// TestCollision: identifiers that are the same in their first 128 bits are refused.
func TestCollision(t *testing.T) {
	_, err := own(t, "collision", &legacy.Options{Truncate: true})
	if !errors.Is(err, legacy.ErrWide) || !strings.Contains(err.Error(), ": 1 have the first 128 bits of another one") {
		t.Error(err)
	}
}

// TestKilledWithoutKeys: a defect that costs no key does not make an empty store
// unreadable.
func TestKilledWithoutKeys(t *testing.T) {
	c, err := own(t, "killed", nil)
	must(t, err)
	compare(t, c, nil)
	wantDefects(t, c, "superblock: marked as open for writing: the writer was killed, or is at work")
}

// TestUnwrittenRows: a small file may have many rows that are all the same. They take
// little time, and the defects little memory.
func TestUnwrittenRows(t *testing.T) {
	content, err := os.ReadFile(filepath.Join("testdata", "fill.h5"))
	must(t, err)
	if _, err := readHostile(t, content, nil); !errors.Is(err, legacy.ErrUnreadable) || !strings.Contains(err.Error(), "no key with values, and 600000 defects") {
		t.Error(err)
	}
}
