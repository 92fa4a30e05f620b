package fuzz_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/cidstore/cidstore"
	"github.com/cidstore/cidstore/fuzz"
	"github.com/cidstore/cidstore/internal/invariants"
	"github.com/cidstore/cidstore/internal/sample"
)

// drawn makes the choices of a program by rapid, which makes failures small.
type drawn struct{ t *rapid.T }

func (d drawn) Choose(what string, n int) int { return rapid.IntRange(0, n-1).Draw(d.t, what) }

// firstOptions are those that a program begins with.
func firstOptions(c fuzz.Source) cidstore.Options {
	return cidstore.Options{
		WALBytes:       64 << 10,
		SplitThreshold: []int{3, 8, 16, 128}[c.Choose("split threshold", 4)],
		Durability:     cidstore.Durability(c.Choose("durability", 2)),
		WALKey:         [][]byte{nil, []byte("secret")}[c.Choose("log key", 2)],
		NoMmap:         c.Choose("no mapping", 3) == 1,
	}
}

// run is one program of random steps.
func run(t *rapid.T, dir string, did map[string]int) {
	c := drawn{t}
	m, err := fuzz.New(fuzz.Config{Dir: dir, Options: firstOptions(c), Seed: uint64(c.Choose("seed", 1000))})
	must(t, err)
	t.Repeat(map[string]func(*rapid.T){"step": func(t *rapid.T) {
		if err := m.Step(drawn{t}); err != nil {
			m.Abandon()
			t.Fatalf("step %d: %v", len(m.Steps), err)
		}
	}})
	must(t, m.Finish())
	for name, n := range m.Did {
		did[name] += n
	}
}

// mustHaveDone sees that a campaign met every kind of step.
func mustHaveDone(t *testing.T, did map[string]int, onDisk bool) {
	t.Helper()
	t.Logf("steps: %v", did)
	if testing.Short() || invariants.Sparse > 1 {
		return // a fifth of the programs, or less
	}
	for _, name := range fuzz.StepNames(onDisk) {
		if did[name] == 0 {
			t.Errorf("no step %q", name)
		}
	}
}

// TestPrograms runs programs in memory, where the power fails and disks fill up.
func TestPrograms(t *testing.T) {
	did := make(map[string]int)
	sample.Check(t, func(t *rapid.T) { run(t, "", did) })
	mustHaveDone(t, did, false)
}

func FuzzOps(f *testing.F) {
	did := make(map[string]int)
	f.Fuzz(rapid.MakeFuzz(func(t *rapid.T) { run(t, "", did) }))
}

// TestProgramsOnDisk runs programs on the system's files.
func TestProgramsOnDisk(t *testing.T) {
	did := make(map[string]int)
	sample.Check(t, func(r *rapid.T) { run(r, t.TempDir(), did) })
	mustHaveDone(t, did, true)
}
