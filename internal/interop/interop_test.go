// Package interop tests files that the store writes with foreign readers:
// python/cidstore.py, h5py with pandas, the HDF5 tools, and h5wasm, which is HDF5
// 2.0. It contains only tests. The part of an oracle that is missing is skipped.
package interop

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cidstore/cidstore"
	"github.com/cidstore/cidstore/internal/invariants"
	"github.com/cidstore/cidstore/internal/oracle"
)

// full adds the large stores and the long loops; scripts/interop sets it.
var full = os.Getenv("CIDSTORE_INTEROP_FULL") == "1"

// limit is the time for one run of a foreign program, on a busy machine.
const limit = 5 * time.Minute

type pair [2]cidstore.E

func comparePairs(a, b pair) int {
	if c := a[0].Compare(b[0]); c != 0 {
		return c
	}
	return a[1].Compare(b[1])
}

// sample is a store that is made in some way.
type sample struct {
	name    string
	options cidstore.Options
	large   bool // made only in full runs
	small   bool // h5dump prints all of it
	live    bool // stays open when its file is copied: the log has what the tree lacks
	fill    func(*testing.T, *cidstore.Store)
}

// tiny makes the log small: most of an empty store would be a log of zeros.
var tiny = cidstore.Options{WALBytes: 64 << 10, GCInterval: -1}

var samples = []sample{
	{name: "empty", options: tiny, small: true, fill: func(*testing.T, *cidstore.Store) {}},
	{name: "one pair", options: tiny, small: true, fill: func(t *testing.T, s *cidstore.Store) {
		put(t, s, slices.Values([]pair{{cidstore.FromString("hello"), {High: 1 << 63, Low: 0}}}))
	}},
	{name: "wordnet", large: true, fill: wordnet},
	{name: "a key with 1,000,000 values", large: true, fill: func(t *testing.T, s *cidstore.Store) {
		put(t, s, each(1_000_000, func(i uint64) pair { return pair{cidstore.FromString("large"), {High: i % 7 << 61, Low: i}} }))
	}},
	{name: "2,000 keys in buckets of 8", options: cidstore.Options{SplitThreshold: 8, WALBytes: 64 << 10, GCInterval: -1},
		small: true, fill: func(t *testing.T, s *cidstore.Store) { put(t, s, numbered(2000, 3)) }},
	{name: "buckets of 3", options: cidstore.Options{SplitThreshold: 3, WALBytes: 64 << 10, GCInterval: -1}, small: true, fill: deletes},
	{name: "buckets of 10", options: cidstore.Options{SplitThreshold: 10, WALBytes: 64 << 10, GCInterval: -1}, small: true, fill: deletes},
	{name: "deletes and tombstones", options: tiny, small: true, fill: deletes},
	{name: "maintained", options: cidstore.Options{SplitThreshold: 8, WALBytes: 64 << 10, GCInterval: -1}, small: true, fill: maintained},
	{name: "maintained, and written to", options: cidstore.Options{SplitThreshold: 8, WALBytes: 64 << 10, GCInterval: -1}, live: true,
		fill: func(t *testing.T, s *cidstore.Store) {
			maintained(t, s)
			put(t, s, numbered(50, 9))
			for k := range uint64(20) {
				must(t, s.Compact(cidstore.FromUint64(k)), s.DeleteValue(cidstore.FromUint64(k), cidstore.FromUint64(1)))
				if _, err := s.DemoteIfPossible(cidstore.FromUint64(k)); err != nil {
					t.Fatal(err)
				}
			}
		}},
	{name: "sets of every class", options: cidstore.Options{WALBytes: 1 << 20, GCInterval: -1}, fill: classes},
	{name: "operations over sets of every class", options: cidstore.Options{WALBytes: 1 << 20, GCInterval: -1}, live: true,
		fill: func(t *testing.T, s *cidstore.Store) {
			classes(t, s)
			must(t, s.Checkpoint(t.Context()))
			var b cidstore.Batch
			for k := range uint64(len(classSizes)) {
				key := cidstore.FromUint64(k)
				switch k % 4 {
				case 0:
					b.Insert(key, cidstore.E{High: 1 << 63, Low: k})
				case 1:
					b.DeleteValue(key, cidstore.E{High: k})
				case 2:
					b.Delete(key)
				default: // deleted and begun again
					b.Delete(key)
					b.Insert(key, cidstore.E{High: 1 << 63, Low: k})
				}
			}
			must(t, s.Apply(&b))
		}},
	{name: "log not replayed", options: cidstore.Options{WALBytes: 1 << 20}, live: true, fill: unreplayed},
	{name: "log alone", options: tiny, small: true, live: true, fill: func(t *testing.T, s *cidstore.Store) { put(t, s, numbered(10, 2)) }},
}

// each yields n pairs.
func each(n uint64, nth func(i uint64) pair) iter.Seq[pair] {
	return func(yield func(pair) bool) {
		for i := range n {
			if !yield(nth(i)) {
				return
			}
		}
	}
}

// numbered are keys with 1 to most values each.
func numbered(keys, most uint64) iter.Seq[pair] {
	var pairs []pair
	for k := range keys {
		for v := range 1 + k%most {
			pairs = append(pairs, pair{cidstore.FromUint64(k), {High: k, Low: v << 60}})
		}
	}
	return slices.Values(pairs)
}

// put inserts pairs in batches.
func put(t testing.TB, s *cidstore.Store, pairs iter.Seq[pair]) {
	t.Helper()
	var b cidstore.Batch
	apply := func() {
		must(t, s.Apply(&b))
		b.Reset()
	}
	for p := range pairs {
		if b.Insert(p[0], p[1]); b.Len() == 100 {
			apply()
		}
	}
	apply()
}

// wordnet inserts the pairs of examples/wordnet/*.gz; where they are absent,
// 200,000 of that shape: words of 1.4 synsets on average, and relations of synsets.
func wordnet(t *testing.T, s *cidstore.Store) {
	root, err := oracle.Root()
	must(t, err)
	files, err := filepath.Glob(filepath.Join(root, "examples", "wordnet", "*.gz"))
	must(t, err)
	for _, name := range files {
		put(t, s, columns(t, name))
	}
	if len(files) > 0 {
		return
	}
	random := rand.New(rand.NewPCG(1, 2))
	put(t, s, each(200_000, func(i uint64) pair {
		p := pair{cidstore.FromString(fmt.Sprint("word ", i*5/7)), cidstore.FromUint64(random.Uint64N(90_000))}
		if i%2 == 1 { // a few synsets have most of the relations
			p[0] = cidstore.FromUint64(uint64(random.ExpFloat64() * 3000))
		}
		return p
	}))
}

// columns yields the first two columns of a TSV file under gzip, as names.
func columns(t *testing.T, name string) iter.Seq[pair] {
	return func(yield func(pair) bool) {
		file, err := os.Open(name)
		must(t, err)
		defer file.Close()
		unzipped, err := gzip.NewReader(file)
		must(t, err)
		lines := bufio.NewScanner(unzipped)
		for lines.Scan() {
			fields := strings.Split(lines.Text(), "\t")
			if len(fields) >= 2 && !yield(pair{cidstore.FromString(fields[0]), cidstore.FromString(fields[1])}) {
				return
			}
		}
		must(t, lines.Err())
	}
}

// classSizes are numbers of values at and beside the bounds of every class of sets.
var classSizes = []uint64{1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 16, 17, 24, 25, 32, 33, 48, 49, 64, 65, 96, 97, 128, 129, 192, 193, 256, 257,
	384, 385, 512, 513, 768, 769, 1024, 1025, 3000}

// classes makes one key of each number of values, and deletes a value of every third.
func classes(t *testing.T, s *cidstore.Store) {
	var pairs []pair
	for k, n := range classSizes {
		for v := range n {
			pairs = append(pairs, pair{cidstore.FromUint64(uint64(k)), {High: uint64(k), Low: v << 50}})
		}
	}
	put(t, s, slices.Values(pairs))
	must(t, s.Checkpoint(t.Context()))
	for k := uint64(0); k < uint64(len(classSizes)); k += 3 {
		must(t, s.DeleteValue(cidstore.FromUint64(k), cidstore.E{High: k, Low: (classSizes[k] - 1) << 50}))
	}
}

// maintained leaves few of many keys, with unused ids of groups and of sets.
func maintained(t *testing.T, s *cidstore.Store) {
	put(t, s, numbered(3000, 9))
	var b cidstore.Batch
	for k := range uint64(3000) {
		if k%10 != 0 {
			b.Delete(cidstore.FromUint64(k))
		}
		if b.Len() == 200 || k == 2999 {
			must(t, s.Apply(&b))
			b.Reset()
		}
	}
	must(t, s.Maintain(t.Context()))
}

func deletes(t *testing.T, s *cidstore.Store) {
	put(t, s, numbered(100, 9))
	put(t, s, each(3000, func(i uint64) pair { return pair{cidstore.FromString("tree"), cidstore.FromUint64(i)} }))
	for step := range uint64(3) {
		must(t, s.Checkpoint(t.Context()))
		for k := step; k < 100; k += 7 + step {
			var err error
			if k%2 == 0 {
				err = s.Delete(cidstore.FromUint64(k))
			} else {
				err = s.DeleteValue(cidstore.FromUint64(k), cidstore.E{High: k, Low: k % 9 << 60})
			}
			must(t, err)
		}
		for i := range uint64(100) {
			must(t, s.DeleteValue(cidstore.FromString("tree"), cidstore.FromUint64(i*29+step)))
		}
	}
}

// unreplayed leaves operations of every kind in the log, not yet in the tree.
func unreplayed(t *testing.T, s *cidstore.Store) {
	deletes(t, s)
	put(t, s, numbered(3000, 7))
	must(t, s.Delete(cidstore.FromUint64(2999)))
}

// build makes the sample's file; want is what the store itself says that it holds.
func build(t *testing.T, c sample) (path string, want []pair) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "store.h5")
	s, err := cidstore.Open(path, &c.options)
	must(t, err)
	c.fill(t, s)
	if c.live {
		path = copied(t, path)
	}
	want = pairsOf(t, s)
	must(t, s.Close())
	return path, want
}

// copied returns a copy of a file, as kill -9 would leave it now.
func copied(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	to := filepath.Join(t.TempDir(), "copy.h5")
	must(t, os.WriteFile(to, data, 0o600))
	return to
}

// pairsOf returns the pairs of a snapshot, ascending.
func pairsOf(t *testing.T, s *cidstore.Store) []pair {
	t.Helper()
	v, err := s.Snapshot()
	must(t, err)
	defer v.Close()
	var pairs []pair
	for key, value := range v.All() {
		pairs = append(pairs, pair{key, value})
	}
	must(t, v.Err())
	slices.SortFunc(pairs, comparePairs)
	return pairs
}

// reader returns python/cidstore.py.
func reader(t testing.TB) string {
	t.Helper()
	root, err := oracle.Root()
	must(t, err)
	path := filepath.Join(root, "python", "cidstore.py")
	_, err = os.Stat(path) // from now on the cached result of the test depends on it
	must(t, err)
	return path
}

// parsePairs reads the lines that cidstore.py prints.
func parsePairs(t *testing.T, text string) []pair {
	t.Helper()
	var pairs []pair
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		k, err1 := cidstore.Parse(key)
		v, err2 := cidstore.Parse(value)
		must(t, err1, err2)
		pairs = append(pairs, pair{k, v})
	}
	slices.SortFunc(pairs, comparePairs)
	return pairs
}

func samePairs(t *testing.T, what string, got, want []pair) {
	t.Helper()
	if slices.Equal(got, want) {
		return
	}
	at := 0
	for at < min(len(got), len(want)) && got[at] == want[at] {
		at++
	}
	t.Errorf("%s: %d pairs, want %d; the first difference is at %d: %v, want %v",
		what, len(got), len(want), at, got[at:min(at+1, len(got))], want[at:min(at+1, len(want))])
}

// run runs a foreign program, which must succeed and print nothing on stderr.
func run(t testing.TB, program string, args ...string) string {
	t.Helper()
	start := time.Now()
	out, errout, err := oracle.Run(t, limit, program, args...)
	if err != nil || errout != "" || strings.Contains(out, "HDF5-DIAG") {
		t.Fatalf("%s %.200q: %v\n%.2000s", filepath.Base(program), args, err, errout)
	}
	t.Logf("%s %.60q: %s, %d bytes", filepath.Base(program), args, time.Since(start).Round(time.Millisecond), len(out))
	return out
}

func TestForeignReadersReadEveryKindOfStore(t *testing.T) {
	t.Parallel()
	for _, c := range samples {
		t.Run(c.name, func(t *testing.T) {
			if c.large && !full {
				t.Skip("a large store: scripts/interop makes it")
			}
			t.Parallel()
			path, want := build(t, c)
			if invariants.Sparse > 1 {
				return // no race is to be found in foreign readers
			}
			t.Run("python", func(t *testing.T) { checkPython(t, path, want) })
			t.Run("pandas", func(t *testing.T) { checkPandas(t, path, want) })
			t.Run("tools", func(t *testing.T) { checkTools(t, path, c.small) })
			t.Run("repack", func(t *testing.T) { checkRepack(t, path, c.small, want) })
			t.Run("h5wasm", func(t *testing.T) { checkH5wasm(t, path) })
		})
	}
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}
