package valueset

import (
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/cidstore/cidstore/keys"
)

// TestSetLaw: whatever is done to small sets, in however many transactions, they
// equal the model, and say so at every moment.
func TestSetLaw(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t, 8<<20)
		defer w.close()
		value := rapid.Custom(func(rt *rapid.T) keys.E {
			return keys.E{High: rapid.Uint64Range(0, 1).Draw(rt, "high"), Low: rapid.Uint64Range(0, 8).Draw(rt, "low")}
		})
		for range rapid.IntRange(1, 4).Draw(rt, "commits") {
			tx, writer := w.begin()
			for key := range uint64(3) {
				x := w.tested(rt, writer, keys.FromUint64(key))
				ops := rapid.IntRange(0, 40).Draw(rt, "operations")
				for range ops {
					switch op := rapid.IntRange(0, 20).Draw(rt, "op"); {
					case op < 10:
						x.add(value.Draw(rt, "value"))
					case op < 15:
						x.remove(value.Draw(rt, "value"))
					case op == 15:
						x.clear()
					case op == 16:
						x.promote()
					case op == 17:
						x.demote()
					case op == 18:
						x.compact()
					default:
						x.look()
					}
				}
				w.save(writer, x.s)
				x.saved(true)
			}
			w.commit(tx, writer)
			if rapid.Bool().Draw(rt, "reopen") {
				w.reopen()
			}
			w.check()
		}
		w.checkFile()
	})
}

// TestTreeLaw is the same for sets of thousands of values: rows, trees, and the
// changes between them.
func TestTreeLaw(t *testing.T) {
	seeds := uint64(12)
	if testing.Short() {
		seeds = 3
	}
	for seed := range seeds {
		rng := rand.New(rand.NewPCG(seed, 7))
		w := newWorld(t, 8<<20)
		space := []uint64{1200, 3000, 20_000}[seed%3]
		for range 12 {
			tx, writer := w.begin()
			x := w.tested(t, writer, keys.FromUint64(1))
			if rng.IntN(2) == 0 {
				x.lookCounts() // as a checkpoint does
			}
			randomBatch(x, rng, space)
			w.save(writer, x.s)
			x.saved(false)
			w.commit(tx, writer)
			w.check()
			checkReads(t, w, keys.FromUint64(1), rng, space)
		}
		w.reopen()
		w.check()
		w.checkFile()
		w.close()
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// TestCountsBeforeEditsLookNothingUp: the counts of a tree that is not edited yet are
// those of the file. The edits that follow are then merged in one descent; only a delete
// that may be the last, or a question for counts after them, looks values up.
func TestCountsBeforeEditsLookNothingUp(t *testing.T) {
	w := newWorld(t, 8<<20)
	defer w.close()
	for batch := range uint64(3) {
		tx, writer := w.begin()
		x := w.tested(t, writer, keys.FromUint64(1))
		x.lookCounts()
		for v := range uint64(3000) {
			x.add(keys.FromUint64(batch*2000 + v))
			if v%7 == 0 && batch > 0 {
				x.remove(keys.FromUint64(v))
			}
		}
		if x.s.form != formTree || x.s.exact {
			t.Errorf("batch %d: form %d, exact %t: values were looked up", batch, x.s.form, x.s.exact)
		}
		if batch == 2 {
			x.lookCounts()
			if !x.s.exact {
				t.Error("counts after edits, and no value was looked up")
			}
		}
		w.save(writer, x.s)
		x.saved(false)
		w.commit(tx, writer)
		w.check()
	}
	w.checkFile()
}

// randomBatch does one kind of batch or several.
func randomBatch(x *tested, rng *rand.Rand, space uint64) {
	value := func() keys.E { return keys.FromUint64(rng.Uint64N(space)) }
	for range 1 + rng.IntN(3) {
		switch rng.IntN(8) {
		case 0, 1, 2: // many
			for range rng.IntN(3000) {
				x.add(value())
			}
		case 3: // in order, in a part of the range
			first := rng.Uint64N(space)
			for i := range rng.Uint64N(1500) {
				x.add(keys.FromUint64((first + i) % space))
			}
		case 4: // mixed
			for range rng.IntN(2000) {
				if rng.IntN(2) == 0 {
					x.add(value())
				} else {
					x.remove(value())
				}
			}
		case 5: // nearly all, or all
			keep := rng.IntN(8)
			for i, v := range x.m.values() {
				if i >= keep {
					x.remove(v)
				}
			}
			if rng.IntN(2) == 0 {
				x.lookCounts()
			}
			if rng.IntN(2) == 0 {
				x.demote()
			}
		case 6:
			x.compact()
			if rng.IntN(3) == 0 {
				x.look()
			}
		case 7:
			if rng.IntN(3) == 0 {
				x.clear()
			}
			x.add(value())
		}
	}
}

// checkReads compares Has and Each with the model.
func checkReads(t *testing.T, w *world, key keys.E, rng *rand.Rand, space uint64) {
	t.Helper()
	r, m := w.refs[key], w.models[key]
	if !r.spilled {
		return
	}
	s, err := w.table().Open(r.set, key)
	must(t, err)
	for range 50 {
		v := keys.FromUint64(rng.Uint64N(space))
		has, err := s.Has(v)
		must(t, err)
		if has != m.live[v] {
			t.Fatalf("has %v: %v", v, has)
		}
	}
	want := m.values()
	from := keys.FromUint64(rng.Uint64N(space))
	for len(want) > 0 && want[0].Compare(from) < 0 {
		want = want[1:]
	}
	stop := 1 + rng.IntN(len(want)+1)
	n := 0
	must(t, s.Each(from, nil, func(v keys.E) (bool, error) {
		if n >= len(want) || v != want[n] {
			t.Fatalf("value %d from %v: %v", n, from, v)
		}
		n++
		return n < stop, nil
	}))
	if n != min(stop, len(want)) {
		t.Fatalf("%d values from %v, want %d", n, from, min(stop, len(want)))
	}
}
