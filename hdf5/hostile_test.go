package hdf5

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cidstore/cidstore/internal/invariants"
)

// hostileSamples are the samples that are damaged: together they have every
// structure.
var hostileSamples = strings.Fields("kinds-earliest kinds-latest filters netcdf4 sizes-4-4 userblock upstream-empty layout-damaged " +
	"tiny-dense tiny-extensible tiny-extensiblefilter tiny-fixed tiny-fixedfilter tiny-heap tiny-oldtree tiny-secondary tiny-tree tiny-treefilter shared superblock1")

func readSample(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name+".h5"))
	must(t, err)
	return data
}

// smallSample is the size up to which CIDSTORE_CAMPAIGN=1 damages a sample in every way, not just
// as long as there is time.
const smallSample = 4 << 10

// hostileTime is the time for all damaged copies of a sample of size bytes.
func hostileTime(size int) time.Duration {
	if os.Getenv("CIDSTORE_CAMPAIGN") == "1" && size <= smallSample {
		return time.Hour
	}
	if testing.Short() || invariants.Sparse > 1 {
		return 60 * time.Millisecond
	}
	return 250 * time.Millisecond
}

// damage runs an exercise with one damaged copy after another, as many as there
// is time for within a limit, spread over the sample.
func damage(t *testing.T, limit time.Duration, n int, one func(i int)) {
	t.Helper()
	start := time.Now()
	var longest time.Duration
	done := 0
	// Steps that have no common divisor with n come to every place once.
	stride := n*618/1000 | 1
	for gcd(stride, n) != 1 {
		stride += 2
	}
	for i, at := 0, 0; i < n && time.Since(start) < limit; i, at = i+1, (at+stride)%n {
		began := time.Now()
		one(at)
		longest = max(longest, time.Since(began))
		done++
	}
	t.Logf("%d of %d, the longest took %s", done, n, longest)
	if longest > 5*time.Second {
		t.Errorf("one damaged copy took %s", longest)
	}
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

func TestSamplesAreExercised(t *testing.T) {
	for _, name := range hostileSamples {
		x := newExercise(readSample(t, name), 64<<10, false)
		t.Logf("%s: %d values, a step took at most %d bytes", name, len(x.values), x.worst)
		for _, err := range x.errs {
			if name != "filters" && !strings.Contains(err.Error(), "link") {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestOneBitIsWrong(t *testing.T) {
	for _, name := range hostileSamples {
		t.Run(name, func(t *testing.T) {
			data := readSample(t, name)
			damage(t, hostileTime(len(data)), 8*len(data), func(i int) {
				data[i/8] ^= 1 << (i % 8)
				defer func() { data[i/8] ^= 1 << (i % 8) }()
				newExercise(data, 64<<10, true)
			})
		})
	}
}

// TestEveryChecksumIsVerified changes a file in which every byte that matters has a
// checksum: there is an error, or all is as it was.
func TestEveryChecksumIsVerified(t *testing.T) {
	data := readSample(t, "tiny-sealed")
	whole, err := describe(openBytes(t, data, nil))
	must(t, err)
	damage(t, hostileTime(0), 8*len(data), func(i int) {
		data[i/8] ^= 1 << (i % 8)
		defer func() { data[i/8] ^= 1 << (i % 8) }()
		f, err := NewReader(bytes.NewReader(data), int64(len(data)), nil)
		var got string
		if err == nil {
			got, err = describe(f)
		}
		if err == nil && got != whole {
			t.Errorf("bit %d of byte %#x: another description, and no error", i%8, i/8)
		}
	})
}

func openBytes(t *testing.T, data []byte, options *Options) *File {
	t.Helper()
	f, err := NewReader(bytes.NewReader(data), int64(len(data)), options)
	must(t, err)
	return f
}

func TestOneFieldIsExtreme(t *testing.T) {
	for _, name := range hostileSamples {
		t.Run(name, func(t *testing.T) {
			data := readSample(t, name)
			values := []uint64{0, ^uint64(0), 1 << 63, 1<<63 - 1, uint64(len(data)), 1 << 32}
			damage(t, hostileTime(len(data)), len(values)*(len(data)-8), func(i int) {
				at, value := i%(len(data)-8), values[i/(len(data)-8)]
				old := binary.LittleEndian.Uint64(data[at:])
				binary.LittleEndian.PutUint64(data[at:], value)
				defer binary.LittleEndian.PutUint64(data[at:], old)
				newExercise(data, 64<<10, true)
			})
		})
	}
}

// TestCut cuts files, and those that say that they are open for writing, which
// are read as far as they go.
func TestCut(t *testing.T) {
	for _, name := range hostileSamples {
		t.Run(name, func(t *testing.T) {
			data := readSample(t, name)
			whole := newExercise(data, 64<<10, false)
			for n := range data {
				if len(newExercise(data[:n], 64<<10, false).errs) == 0 {
					t.Fatalf("cut to %d bytes of %d: no error", n, len(data))
				}
				if n > 2000 {
					break // the superblock has the length
				}
			}
			markOpen(data)
			damage(t, hostileTime(len(data)), len(data), func(n int) {
				x := newExercise(data[:n], 64<<10, true)
				for what, value := range x.values {
					if value != whole.values[what] {
						t.Errorf("cut to %d bytes of %d: %s is wrong", n, len(data), what)
					}
				}
				if len(x.values) < len(whole.values) && len(x.errs) == 0 {
					t.Errorf("cut to %d bytes of %d: values are missing, and no error", n, len(data))
				}
			})
		})
	}
}

// markOpen marks a file as open for writing.
func markOpen(data []byte) {
	base := strings.Index(string(data), signature)
	at := base + 11
	if data[base+8] == 0 {
		at = base + 20
	}
	data[at] |= 1
}

func TestRandomBytes(t *testing.T) {
	for _, name := range hostileSamples {
		data := readSample(t, name)
		damage(t, hostileTime(len(data)), len(data), func(n int) {
			damaged := append([]byte(nil), data...)
			seed := uint64(n)*0x9e3779b97f4a7c15 + 1
			for range 1 + n%20 {
				seed ^= seed << 13
				seed ^= seed >> 7
				seed ^= seed << 17
				damaged[seed%uint64(len(damaged))] = byte(seed >> 40)
			}
			newExercise(damaged, 64<<10, true)
		})
	}
}

// TestMemoryByDefault reads damaged files with the default limit of chunks, in which a file
// may declare chunks of 64 MiB: what a step allocates, all of it together, is within 16 times
// the file, 1 MiB and two such chunks, packed and unpacked.
func TestMemoryByDefault(t *testing.T) {
	worst := uint64(0)
	for _, name := range []string{"kinds-earliest", "kinds-latest", "tiny-fixedfilter", "tiny-oldtree", "tiny-treefilter"} {
		data := readSample(t, name)
		values := []uint64{1 << 26, 1<<26 - 1, 1 << 25, 1 << 20, ^uint64(0)}
		damage(t, hostileTime(len(data)), len(values)*(len(data)-8), func(i int) {
			at, value := i%(len(data)-8), values[i/(len(data)-8)]
			old := binary.LittleEndian.Uint64(data[at:])
			defer binary.LittleEndian.PutUint64(data[at:], old)
			for _, width := range []uint64{1<<32 - 1, ^uint64(0)} { // a field of 4 bytes, and of 8
				binary.LittleEndian.PutUint64(data[at:], old&^width|value&width)
				x := newExercise(data, defaultMaxChunkBytes, true)
				if limit := uint64(16*len(data) + 1<<20 + 2*defaultMaxChunkBytes); x.worst > limit {
					t.Errorf("%s: %#x at %#x: a step allocated %d bytes, at most %d", name, value, at, x.worst, limit)
				}
				worst = max(worst, x.worst)
			}
		})
	}
	t.Logf("a step allocated at most %d bytes", worst)
}

// TestMemoryOfLargestChunk reads a row of a chunk of 64 MiB, in a file of 66 KiB, and
// one of a chunk that is one byte larger.
func TestMemoryOfLargestChunk(t *testing.T) {
	if invariants.Sparse > 1 {
		t.Skip("slices.Grow allocates twice under the race detector")
	}
	dir, _ := made(t, "largest.py")
	for name, chunks := range map[string]uint64{"most": 1, "over": 0} {
		data, err := os.ReadFile(filepath.Join(dir, name+".h5"))
		must(t, err)
		x := newExercise(data, defaultMaxChunkBytes, false)
		limit := uint64(16*len(data)) + 1<<20 + chunks*defaultMaxChunkBytes
		if x.worst > limit {
			t.Errorf("%s: a step allocated %d bytes, at most %d", name, x.worst, limit)
		}
		if refused := len(x.errs) > 0 && errors.Is(x.errs[0], ErrLimit); refused != (chunks == 0) || chunks > 0 && len(x.errs) > 0 {
			t.Errorf("%s: %v", name, x.errs)
		}
		t.Logf("%s: a file of %d bytes, a step allocated at most %d", name, len(data), x.worst)
	}
}
