package cidstore

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cidstore/cidstore/internal/invariants"
)

// A closedLoad is what lives of a store write before it is closed, in batches of 1,000
// pairs: each of keys keys gets values values.
type closedLoad struct {
	keys, values uint64
	inTurn       bool // one value of each key after the other; else in random order
	deletes      int  // of 10 values, how many are deleted during the load
	halve        bool // then every second value is deleted, in a life of its own
}

func (l closedLoad) String() string {
	order, then := "shuffled", ""
	if l.inTurn {
		order = "in turn"
	}
	if l.halve {
		then = ", then half"
	}
	return fmt.Sprintf("%d x %d %s, %d of 10 deleted%s", l.keys, l.values, order, l.deletes, then)
}

func (l closedLoad) pair(i uint64) (key, value E) {
	return FromUint64(i % l.keys * 0x9e3779b97f4a7c15), FromUint64(i)
}

// closedLengths are lengths of a file, and of what it holds, in bytes.
type closedLengths struct {
	longest, ring int64 // while it was written
	closed, live  int64
}

// life runs what one life writes, and closes the store.
func (l closedLoad) life(t *testing.T, path string, o Options, write func(b *Batch, apply func())) (longest, ring int64) {
	t.Helper()
	s := OpenStore(t, path, &o)
	var b Batch
	write(&b, func() {
		mustDo(t, s.Apply(&b))
		b.Reset()
		m := s.Metrics()
		longest, ring = max(longest, int64(m.FileBytes)), max(ring, int64(m.WALBytes))
	})
	mustDo(t, s.Close())
	return longest, ring
}

// run loads a new store and closes it.
func (l closedLoad) run(t *testing.T, o Options, seed byte) (got closedLengths) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s.h5")
	o.GCInterval, o.Rand = -1, rand.NewChaCha8([32]byte{seed})
	o.Durability, o.FlushInterval = Async, time.Hour // the same file at each run, and fewer syncs
	random := rand.New(rand.NewPCG(uint64(seed), 1))
	pairs := make([]uint64, l.keys*l.values)
	for i := range pairs {
		pairs[i] = uint64(i)
	}
	if !l.inTurn {
		random.Shuffle(len(pairs), func(i, j int) { pairs[i], pairs[j] = pairs[j], pairs[i] })
	}
	got.longest, got.ring = l.life(t, path, o, func(b *Batch, apply func()) {
		for i, p := range pairs {
			b.Insert(l.pair(p))
			if random.IntN(10) < l.deletes {
				b.DeleteValue(l.pair(pairs[random.IntN(i+1)]))
			}
			if i%1000 == 999 || i == len(pairs)-1 {
				apply()
			}
		}
	})
	if l.halve {
		l.life(t, path, o, func(b *Batch, apply func()) {
			for i, p := range pairs {
				if i%2 == 0 {
					b.DeleteValue(l.pair(p))
				}
				if i%2000 == 1998 || i == len(pairs)-1 {
					apply()
				}
			}
		})
	}
	info := mustGet(os.Stat(path))(t)
	s := OpenStore(t, path, &Options{ReadOnly: true})
	got.closed, got.live = info.Size(), mustGet(s.Check(t.Context()))(t).UsedBytes-int64(s.state.Load().view.record.walSize)
	mustDo(t, s.Close())
	return got
}

// TestClosedLength: after Close a file is hardly longer than what it holds, however many
// values a key has, in what order they came, and whatever was deleted; for a store that is
// written again as a whole and for one of which the end is moved.
func TestClosedLength(t *testing.T) {
	for i, l := range []closedLoad{
		{keys: 6000, values: 16, inTurn: true},
		{keys: 3, values: 100_000},
		{keys: 3, values: 30_000, deletes: 3, halve: true},
		{keys: 300, values: 1000},
		{keys: 1500, values: 64, deletes: 3, halve: true},
		{keys: 60_000, values: 5},
		{keys: 20_000, values: 5, deletes: 3, halve: true},
		{keys: 25_000, values: 4, halve: true},
		{keys: 300_000, values: 1},
		{keys: 100_000, values: 1, deletes: 3, halve: true},
	} {
		if i%invariants.Sparse != 0 {
			continue
		}
		for seed, again := range []int64{maxAgainBytes, 1} {
			end := again == 1
			g := l.run(t, Options{againBytes: again}, byte(seed))
			t.Logf("%-50v end alone %-5t: live %5d KiB, closed %5d KiB (%.3f), most %5d KiB (%.2f without a log of %d)", l, end, g.live>>10,
				g.closed>>10, float64(g.closed)/float64(g.live), g.longest>>10, float64(g.longest-g.ring)/float64(g.live), g.ring>>10)
			most := g.live*115/100 + 1<<20
			if end {
				most = g.live*13/10 + 2<<20
			}
			if g.closed > most {
				t.Errorf("%v, end alone %t: %d bytes after Close, %d of them live; want at most %d", l, end, g.closed, g.live, most)
			}
		}
	}
}
