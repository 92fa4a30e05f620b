package cidstore_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/cidstore/cidstore"
	"github.com/cidstore/cidstore/fuzz"
	"github.com/cidstore/cidstore/internal/sample"
)

// drawn makes the choices of a program.
type drawn struct{ t *rapid.T }

func (d drawn) Choose(what string, n int) int { return rapid.IntRange(0, n-1).Draw(d.t, what) }

// TestProgramsInSlices runs the programs of package fuzz with checkpoints of many
// slices, and logs of many laps.
func TestProgramsInSlices(t *testing.T) {
	steps := 0
	sample.Check(t, func(t *rapid.T) {
		c := drawn{t}
		m, err := fuzz.New(fuzz.Config{
			Tune: cidstore.SetSmallGeometry,
			Seed: uint64(c.Choose("seed", 1000)),
			Options: cidstore.Options{
				WALBytes:       64 << 10,
				SplitThreshold: []int{3, 8, 16, 32}[c.Choose("split threshold", 4)],
				Durability:     cidstore.Durability(c.Choose("durability", 2)),
			},
		})
		must(t, err)
		t.Repeat(map[string]func(*rapid.T){"step": func(t *rapid.T) {
			if err := m.Step(drawn{t}); err != nil {
				m.Abandon()
				t.Fatalf("step %d: %v", len(m.Steps), err)
			}
		}})
		must(t, m.Finish())
		steps += len(m.Steps)
	})
	if t.Logf("%d steps", steps); steps < 100 {
		t.Errorf("%d steps", steps)
	}
}
