package valueset

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/keys"
)

// fill adds n values, random or ascending, in batches, and returns the bytes
// that the set's nodes and their index records take.
func fill(t testing.TB, w *world, n, batch int, random bool) (bytes int64) {
	rng := rand.New(rand.NewPCG(3, 4))
	key := keys.FromUint64(1)
	for i := 0; i < n; i += batch {
		tx, writer := w.begin()
		s := w.set(writer, key)
		for j := i; j < i+batch; j++ {
			v := keys.FromUint64(uint64(j))
			if random {
				v = keys.E{High: rng.Uint64(), Low: rng.Uint64()}
			}
			if err := s.Add(v); err != nil {
				t.Fatal(err)
			}
		}
		w.save(writer, s)
		w.commit(tx, writer)
	}
	return setBytes(t, w)
}

func setBytes(t testing.TB, w *world) int64 {
	const indexRecord = 24
	nodes := int64(0)
	d, err := w.file.View().Dataset(nodesPath)
	must(t, err)
	must(t, d.Walk(nil, func(hdf5io.Chunk) (bool, error) { nodes++; return true, nil }))
	return nodes * (nodeSize + indexRecord*3/2) // index nodes are at least two thirds full
}

func BenchmarkOneKey(b *testing.B) {
	for _, random := range []bool{true, false} {
		for _, batch := range []int{1_000_000, 10_000} {
			b.Run(fmt.Sprintf("random=%v/1e6/batch=%d", random, batch), func(b *testing.B) {
				for b.Loop() {
					w := newWorld(b, 128<<20)
					bytes := fill(b, w, 1_000_000, batch, random)
					b.ReportMetric(float64(bytes)/1e6, "B/value")
					w.close()
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1e6, "ns/value")
			})
		}
	}
}

func BenchmarkHas(b *testing.B) {
	for _, n := range []int{8, 1000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			w := newWorld(b, 128<<20)
			fill(b, w, n, n, false)
			s, err := w.table().Open(0, keys.FromUint64(1))
			must(b, err)
			rng := rand.New(rand.NewPCG(1, 2))
			b.ReportAllocs()
			for b.Loop() {
				if has, err := s.Has(keys.FromUint64(rng.Uint64N(uint64(n)))); !has || err != nil {
					b.Fatal(has, err)
				}
			}
			b.StopTimer()
			w.close()
		})
	}
}
