package order

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cidstore/cidstore/keys"
)

// TestSort: values of every distribution are sorted as slices.SortStableFunc does it.
func TestSort(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	values := map[string]func(i int) keys.E{
		"random":           func(int) keys.E { return keys.E{High: rng.Uint64(), Low: rng.Uint64()} },
		"ascending":        func(i int) keys.E { return keys.FromUint64(uint64(i)) },
		"descending":       func(i int) keys.E { return keys.E{High: 1, Low: ^uint64(i)} },
		"all alike":        func(int) keys.E { return keys.E{High: 3, Low: 4} },
		"two":              func(int) keys.E { return keys.E{High: 3, Low: rng.Uint64N(2)} },
		"few":              func(int) keys.E { return keys.E{High: rng.Uint64N(2) << 63, Low: rng.Uint64N(50)} },
		"the last bits":    func(int) keys.E { return keys.E{High: ^uint64(0), Low: ^uint64(0) - rng.Uint64N(1000)} },
		"one far away":     func(i int) keys.E { return keys.E{High: 1 << 63 >> min(i, 64), Low: rng.Uint64N(1 << 20)} },
		"end of High":      func(int) keys.E { return keys.E{High: rng.Uint64N(3), Low: rng.Uint64()} },
		"powers of two":    func(int) keys.E { return keys.E{High: 1 << rng.IntN(65), Low: 1 << rng.IntN(65)} },
		"many of one kind": func(int) keys.E { return keys.E{Low: rng.Uint64() >> rng.IntN(64)} },
	}
	for name, value := range values {
		for _, n := range []int{0, 1, 2, few, few + 1, 100, 5000, 20_000} {
			items := make([]Item, n)
			for i := range items {
				items[i] = Item{value(i), uint64(i)}
			}
			want := slices.Clone(items)
			slices.SortStableFunc(want, func(a, b Item) int { return a.Value.Compare(b.Value) })
			Sort(items)
			if !slices.Equal(items, want) {
				t.Errorf("%d values, %s: not in order", n, name)
			}
		}
	}
}

func TestLess(t *testing.T) {
	list := []keys.E{{}, {Low: 1}, {Low: ^uint64(0)}, {High: 1}, {High: 1, Low: 1}, {High: ^uint64(0)}}
	for i, a := range list {
		for j, b := range list {
			if Less(a, b) != (i < j) {
				t.Errorf("%v < %v: %t", a, b, i >= j)
			}
		}
	}
}

func BenchmarkSort(b *testing.B) {
	for _, n := range []int{64, 1000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			rng := rand.New(rand.NewPCG(1, 2))
			random := make([]Item, n)
			for i := range random {
				random[i] = Item{keys.E{High: rng.Uint64(), Low: rng.Uint64()}, uint64(i)}
			}
			items := make([]Item, n)
			for b.Loop() {
				copy(items, random)
				Sort(items)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/value")
		})
	}
}
