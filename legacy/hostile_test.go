package legacy_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cidstore/cidstore/internal/invariants"
	"github.com/cidstore/cidstore/legacy"
)

var allSamples = []string{
	"layout-attr-latest", "layout-attr-earliest", "layout-dataset", "layout-sharded", "layout-damaged", "layout-future-version",
	"upstream-empty", "upstream-100keys", "upstream-killed", "upstream-256bit",
}

// patience is how long one damaged sample may take. Deriving the keys of the log and
// reading the rest take a few hundredths of a second; the rest is for slow machines.
const patience = 20 * time.Second

// readHostile reads any content. It must end in time, with contents that agree with
// their counts, or with an error.
func readHostile(t *testing.T, content []byte, options *legacy.Options) (*legacy.Contents, error) {
	t.Helper()
	start := time.Now()
	c, err := read(content, options)
	if took := time.Since(start); took > patience {
		t.Errorf("it took %v", took)
	}
	if (c == nil) == (err == nil) {
		t.Fatalf("%v and %v", c, err)
	}
	if err != nil {
		return nil, err
	}
	pairs := 0
	for range c.All() {
		pairs++
	}
	if pairs != c.Pairs() || len(c.Defects) > c.DefectCount {
		t.Errorf("%d pairs, %d are counted; %d defects of %d", pairs, c.Pairs(), len(c.Defects), c.DefectCount)
	}
	return c, nil
}

// TestCutSamples: a file that is cut short is an error.
func TestCutSamples(t *testing.T) {
	for _, name := range allSamples {
		t.Run(name, func(t *testing.T) {
			content := sample(t, name)
			for size := 0; size < len(content); size += invariants.Sparse * (1 + len(content)/64) {
				c, err := readHostile(t, content[:size], nil)
				if err == nil && c.DefectCount == 0 {
					t.Errorf("%d of %d bytes are read without a word", size, len(content))
				}
			}
		})
	}
}

// TestFlippedSamples: wrong bits anywhere cause no panic and do not take long.
func TestFlippedSamples(t *testing.T) {
	log := wideLog(t)
	for _, name := range allSamples {
		t.Run(name, func(t *testing.T) {
			content := sample(t, name)
			random := rand.New(rand.NewPCG(1, uint64(len(content))))
			refused, defects := 0, 0
			for at := 0; at < len(content); at += invariants.Sparse * (1 + random.IntN(len(content)/40)) {
				damaged := bytes.Clone(content)
				damaged[at] ^= byte(1 + random.IntN(255))
				c, err := readHostile(t, damaged, withLog(log))
				if err != nil {
					refused++
				} else if c.DefectCount > 0 {
					defects++
				}
			}
			t.Logf("%d refused, %d with defects", refused, defects)
		})
	}
}

// TestFlippedHeads: the beginning of a file has most of its structures.
func TestFlippedHeads(t *testing.T) {
	content := sample(t, "layout-damaged")
	for at := 0; at < 2000; at += 17 * invariants.Sparse {
		damaged := bytes.Clone(content)
		damaged[at] = ^damaged[at]
		_, _ = readHostile(t, damaged, nil)
	}
}

// TestDamagedWideLog: the log of 256 bits is read up to its damage.
func TestDamagedWideLog(t *testing.T) {
	content, log := sample(t, "upstream-256bit"), wideLog(t)
	for size := 0; size < len(log); size += invariants.Sparse * (1 + len(log)/64) {
		c, err := readHostile(t, content, withLog(log[:size]))
		if err != nil || size < 16960 && c.DefectCount == 0 {
			t.Errorf("%d bytes: %+v, %v", size, c, err)
		}
	}
	for at := 0; at < 16; at++ {
		damaged := bytes.Clone(log)
		damaged[at] ^= 0xff
		c, err := readHostile(t, content, withLog(damaged))
		if err != nil || c.DefectCount == 0 {
			t.Errorf("byte %d: %+v, %v", at, c, err)
		}
	}
}

// failing is a disk that fails at one place.
type failing struct {
	io.ReaderAt
	at int64
}

var errDisk = errors.New("the disk failed")

func (f failing) ReadAt(p []byte, off int64) (int, error) {
	if off <= f.at && f.at < off+int64(len(p)) {
		return 0, errDisk
	}
	return f.ReaderAt.ReadAt(p, off)
}

// TestFailingDisk: what the disk cannot read is never regarded as damage, because
// the migrated store would lack it.
func TestFailingDisk(t *testing.T) {
	for name, content := range map[string][]byte{
		"earliest": sample(t, "layout-attr-earliest"), "sharded": sample(t, "layout-sharded"), "256 bits": sample(t, "upstream-256bit"), "format 1": golden(t, "closed.h5"),
	} {
		whole, err := read(content, &legacy.Options{Truncate: true})
		must(t, err)
		failures := 0
		for at := int64(0); at < int64(len(content)); at += int64(invariants.Sparse * (1 + len(content)/100)) {
			in := failing{bytes.NewReader(content), at}
			c, err := legacy.Read(context.Background(), in, int64(len(content)), &legacy.Options{Truncate: true})
			switch {
			case err != nil && !errors.Is(err, errDisk):
				t.Errorf("%s: byte %d: %v", name, at, err)
			case err != nil:
				failures++
			case c.Pairs() != whole.Pairs() || c.DefectCount != whole.DefectCount:
				t.Errorf("%s: byte %d: %d pairs, %d defects, want %d, %d", name, at, c.Pairs(), c.DefectCount, whole.Pairs(), whole.DefectCount)
			}
		}
		if failures == 0 {
			t.Errorf("%s: the disk never failed", name)
		}
	}
}

// FuzzRead begins with small samples: the others take too long to be made smaller.
func FuzzRead(f *testing.F) {
	f.Add(sample(f, "upstream-empty"), []byte{})
	for _, name := range []string{"odd", "gaps", "slots", "killed", "collision"} {
		content, err := os.ReadFile(filepath.Join("testdata", name+".h5"))
		must(f, err)
		f.Add(content, wideLog(f)[16512:])
	}
	f.Fuzz(func(t *testing.T, content, log []byte) {
		_, _ = readHostile(t, content, withLog(log))
	})
}
