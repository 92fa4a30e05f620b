package cidstore

import (
	"fmt"
	"testing"

	"github.com/cidstore/cidstore/wal"
)

// TestAhead puts values into sets ahead of a slice, whether the disk is full or not, between
// operations of all kinds. It changes nothing that anybody reads, also after a restart, and
// after the slices that apply the operations again.
func TestAhead(t *testing.T) {
	commits := uint64(0)
	for seed := range uint64(10) {
		c := newScenario(t, crashSeed(t)+seed, func(o *Options) { mediumOptions(o); o.SplitThreshold, o.sliceBytes = 8, 1<<10 })
		c.open()
		for k := range uint64(len(aheadValues)) {
			var ops []wal.Op
			for v := range aheadValues[k] {
				ops = append(ops, ins(k, v))
				if len(ops) == 300 || v+1 == aheadValues[k] {
					c.apply(ops...)
					ops = nil
				}
			}
		}
		mustDo(t, c.store.Checkpoint(t.Context()))
		for range 6 {
			for range 5 {
				c.change()
			}
			before := c.store.metrics.commits.Load()
			mustDo(t, c.goAheadEverywhere())
			commits += c.store.metrics.commits.Load() - before
			mustDo(t, c.counts())
			switch c.random.IntN(4) {
			case 0:
				c.kill()
				c.open()
			case 1:
				mustDo(t, c.store.Checkpoint(t.Context()))
			case 2:
				_, err := c.store.RunGCOnce(t.Context())
				mustDo(t, err)
			}
			mustDo(t, c.counts())
		}
		c.close()
		c.open()
		mustDo(t, c.counts())
		c.close()
	}
	if commits == 0 {
		t.Error("no values went ahead")
	}
}

// aheadValues is how many values each key has at first: in its entry, in a row, in a tree.
var aheadValues = []uint64{3, 6, 12, 60, 300, 1500, 2600, 5, 40}

// change writes a batch of random operations on a few keys, and asks for a demotion.
func (c *scenario) change() {
	var ops []wal.Op
	k := c.random.Uint64N(uint64(len(aheadValues)))
	for range 1 + c.random.IntN(90) {
		if c.random.IntN(4) == 0 {
			k = c.random.Uint64N(uint64(len(aheadValues)))
		}
		v := c.random.Uint64N(aheadValues[k] + 2)
		switch n := c.random.IntN(100); {
		case n < 45:
			ops = append(ops, ins(k, v))
		case n < 99:
			ops = append(ops, delv(k, v))
		default:
			ops = append(ops, del(k))
		}
	}
	c.apply(ops...)
	_, err := c.store.DemoteIfPossible(FromUint64(k))
	mustDo(c.t, err)
}

// goAheadEverywhere freezes the fresh table, and goes ahead in each group.
func (c *scenario) goAheadEverywhere() error {
	s := c.store
	return s.exclusively(func() error {
		if s.state.Load().frozen == nil {
			s.freeze()
		}
		st := s.state.Load()
		p := &checkpoint{store: s, frozen: st.frozen, through: s.frozenThrough}
		for p.ops = newQueue(st.frozen, st.view.record.sliceHash); p.ops.len() > 0; {
			if err := p.goAhead(c.t.Context()); err != nil {
				return err
			}
			group := s.state.Load().view.directory.Run(p.ops.first())
			p.ops.places = p.ops.places[p.ops.within(0, group.Last()):]
		}
		return nil
	})
}

// counts holds the store against the model: its pairs, the number of values of each key, and
// what Check says.
func (c *scenario) counts() error {
	for k := range uint64(len(aheadValues)) {
		n, err := c.store.Count(FromUint64(k))
		if want := len(c.model[FromUint64(k)]); err != nil || n != want {
			return fmt.Errorf("key %d: %d values, want %d: %w", k, n, want, err)
		}
	}
	if report, err := c.store.Check(c.t.Context()); err != nil || len(report.Defects) > 0 {
		return fmt.Errorf("%w: %v", err, report.Defects)
	}
	return c.same()
}
