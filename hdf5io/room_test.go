package hdf5io

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestSurely: however free space is cut up, a Tx that has called Surely finds room for all that
// lacks says there is room for. Things of the longest size leave most of it unused.
func TestSurely(t *testing.T) {
	f, _ := memoryStore(t)
	must(t, f.Reserve(4<<20))
	tightest := 10.0
	for seed := range uint64(100) {
		random := rand.New(rand.NewPCG(seed, 1))
		free := fragment(f, random)
		piece := 1 + random.Int64N(1+random.Int64N(20<<10))
		most := int64(f.space.pool.surely(1<<40, padded(uint64(piece))+2*sectorSize))
		room := Room{Commit: Demand{Bytes: most, Piece: piece}}
		if f.space.pool.lacks(room) != 0 {
			t.Fatalf("seed %d: %+v is lacking, of %d bytes", seed, room, free)
		}
		placed, err := surelyPlace(f, room.Commit, random, seed%4 == 0)
		if err != nil && placed < most || err == nil {
			t.Fatalf("seed %d: %d bytes placed of %+v, %d bytes free: %v", seed, placed, room.Commit, free, err)
		}
		if most > 0 {
			tightest = min(tightest, float64(placed)/float64(most))
		}
	}
	t.Logf("at least %.3f of what was sure was placed", tightest)
	if tightest > 1.05 {
		t.Error("there was much more room than was said each time")
	}
}

// fragment makes the pool have random extents of its space only, and returns how many bytes
// these have. Nothing else is taken, and the file does not grow.
func fragment(f *File, random *rand.Rand) (bytes uint64) {
	p := &f.space.pool
	at, end := (f.space.size-2<<20)&^(ExtentUnit-1), f.space.size
	*p = pool{good: p.good, inGaps: true}
	longest := 1 + random.Uint64N(2000)
	for at < end {
		e := extent{at, min(ExtentUnit*(1+random.Uint64N(longest)), end-at)}
		p.put(e)
		bytes += e.size
		at = e.end() + ExtentUnit*(1+random.Uint64N(20))
	}
	return bytes
}

// surelyPlace places random things, or the longest ones, until there is no room, and returns
// how many bytes it has placed.
func surelyPlace(f *File, want Demand, random *rand.Rand, long bool) (placed int64, err error) {
	tx, err := f.Begin()
	if err != nil {
		return 0, err
	}
	defer tx.Abort()
	tx.Surely(Demand{Bytes: 1 << 40, Piece: want.Piece})
	for {
		n := want.Piece
		if !long {
			n = 1 + random.Int64N(n)
		}
		if _, err := tx.Place(make([]byte, n)); err != nil {
			if !errors.Is(err, ErrNoSpace) {
				return 0, fmt.Errorf("place %d bytes: %w", n, err)
			}
			return tx.Placed(), err
		}
	}
}
