package cidstore_test

import (
	"bufio"
	"compress/gzip"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cidstore/cidstore"
	"github.com/cidstore/cidstore/internal/invariants"
)

// fileSize is the length of the file at path, bytes.
func fileSize(t testing.TB, path string) int64 {
	t.Helper()
	return mustGet(os.Stat(path))(t).Size()
}

// insertPairs puts the pairs from..to into s, a thousand a batch.
func insertPairs(t *testing.T, s *cidstore.Store, from, to int) {
	t.Helper()
	for from < to {
		var b cidstore.Batch
		for ; from < to && b.Len() < 1000; from++ {
			b.Insert(cidstore.FromString(fmt.Sprint("key ", from)), cidstore.FromUint64(uint64(from)))
		}
		must(t, s.Apply(&b))
	}
}

// holdsPairs opens the store and compares it with what insertPairs has put there.
func holdsPairs(t *testing.T, path string, n int) {
	t.Helper()
	s := open(t, path, &cidstore.Options{ReadOnly: true})
	defer s.Close()
	if _, pairs, err := s.Len(context.Background()); err != nil || pairs != uint64(n) {
		t.Fatalf("%d pairs, %v, want %d", pairs, err, n)
	}
	for i := range n {
		key := cidstore.FromString(fmt.Sprint("key ", i))
		wantIs(t, true, "pair", i)(s.Has(key, cidstore.FromUint64(uint64(i))))
		if i > 2000 {
			break
		}
	}
	mustBeWhole(t, s)
}

// TestClosedFileIsSmall: a closed store keeps no log and little free space,
// whatever it has written, and opening it again, with or without one more write,
// makes it no larger.
func TestClosedFileIsSmall(t *testing.T) {
	for _, c := range []struct {
		pairs int
		most  int64 // bytes
	}{
		{0, 160 << 10}, {1, 192 << 10}, {1000, 384 << 10}, {100_000, 8 << 20},
	} {
		t.Run(fmt.Sprint(c.pairs, " pairs"), func(t *testing.T) {
			t.Parallel()
			s, path := fresh(t, nil)
			insertPairs(t, s, 0, c.pairs)
			must(t, s.Close())
			closed := fileSize(t, path)
			t.Logf("%d bytes", closed)
			if closed > c.most {
				t.Errorf("%d bytes, want at most %d", closed, c.most)
			}
			holdsPairs(t, path, c.pairs)
			s = open(t, path, nil)
			insertPairs(t, s, c.pairs, c.pairs+1)
			must(t, s.Close())
			again := fileSize(t, path)
			if limit := max(c.most, closed) + closed/8; again > limit {
				t.Errorf("%d bytes after one more pair, want at most %d", again, limit)
			}
			for range 50 {
				must(t, open(t, path, nil).Close())
			}
			if size := fileSize(t, path); size > again+4096 {
				t.Errorf("%d bytes after 50 openings, were %d", size, again)
			}
			holdsPairs(t, path, c.pairs+1)
		})
	}
}

// TestClosedWordNetIsSmall: the words of WordNet, in batches of 4,096 as import makes them.
func TestClosedWordNetIsSmall(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	f := mustGet(os.Open("examples/wordnet/wordnet-words.tsv.gz"))(t)
	defer f.Close()
	unpacked := mustGet(gzip.NewReader(f))(t)
	s, path := fresh(t, nil)
	var b cidstore.Batch
	pairs := uint64(0)
	for lines := bufio.NewScanner(unpacked); lines.Scan() && pairs < 220_000/invariants.Sparse; {
		word, synset, _ := strings.Cut(lines.Text(), "\t")
		b.Insert(cidstore.FromString(word), cidstore.FromString(synset))
		if pairs++; b.Len() == 4096 {
			must(t, s.Apply(&b))
			b.Reset()
		}
	}
	must(t, s.Apply(&b), s.Close())
	if size := fileSize(t, path); size > 20_000_000 {
		t.Errorf("%d bytes, want at most 20,000,000", size)
	}
	s = open(t, path, nil)
	if _, values, err := s.Len(context.Background()); err != nil || values != pairs {
		t.Errorf("%d pairs, %v, want %d", values, err, pairs)
	}
	mustBeWhole(t, s)
}

// TestClosedFileIsSmallAgain: every life writes a pair, with a log that grows.
func TestClosedFileIsSmallAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.h5")
	for i := range 50 {
		s := open(t, path, nil)
		for range 5 { // more than the small log takes: it grows
			insertPairs(t, s, i, i+1)
		}
		if got := s.Metrics().WALBytes; got != 4<<20 {
			t.Fatalf("life %d: a log of %d bytes, want %d", i, got, 4<<20)
		}
		must(t, s.Close())
		if size := fileSize(t, path); size > 256<<10 {
			t.Fatalf("life %d: %d bytes", i, size)
		}
	}
	holdsPairs(t, path, 50)
}
