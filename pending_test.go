package cidstore

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/cidstore/cidstore/wal"
)

// TestOperationIsALineOfTheCache: opBytes and the speed of lookups count on it.
func TestOperationIsALineOfTheCache(t *testing.T) {
	if size := reflect.TypeFor[op]().Size(); size != 64 {
		t.Errorf("an operation takes %d bytes, want 64", size)
	}
}

// TestSinceIsTheChain: since finds what a walk from operation to operation finds, for
// chains of every length, from each sequence on.
func TestSinceIsTheChain(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	table, keys := newTable(0), uint64(4)
	for n := range 3 * opsPerBlock {
		key := min(rng.Uint64N(20), keys-1) // most are of the last one
		o := wal.Op{Code: wal.Insert, Key: E{Low: key}, Value: E{Low: rng.Uint64()}}
		if key < 2 && rng.IntN(100) == 0 {
			o.Code = wal.Delete
		}
		table.add(key<<40, wal.Seq(2*n+1), 0, o)
	}
	table.publish(6 * opsPerBlock)
	stations := 0
	for key := range keys {
		newest := table.newest(key<<40, E{Low: key}, everything)
		for k := 0; newest != nil; k++ {
			if k%997 == 0 || newest.previous == 0 {
				var chain []*op
				for o := newest; o != nil; o = table.before(o) {
					if chain = append(chain, o); o.code == wal.Delete {
						break
					}
				}
				if got := int(newest.depth.operations()); got != len(chain) {
					t.Fatalf("key %d: depth %d, want %d", key, got, len(chain))
				}
				for _, n := range []int{1, 2, leg - 1, leg, 3*leg + 5, len(chain) - 1, len(chain)} {
					n = min(max(n, 0), len(chain))
					sequence := chain[len(chain)-1].sequence - 1
					if n < len(chain) {
						sequence = chain[n].sequence
					}
					if got := table.since(nil, newest, sequence); !slices.Equal(got, chain[:n]) {
						t.Fatalf("key %d: %d operations after %d, want %d, in order", key, len(got), sequence, n)
					}
				}
				if got := table.since(nil, newest, 0); !slices.Equal(got, chain) {
					t.Fatalf("key %d: %d operations, want %d, in order", key, len(got), len(chain))
				}
				stations += len(chain) / leg
			}
			newest = table.before(newest)
		}
	}
	if stations == 0 {
		t.Error("no chain has a station")
	}
}
