package cidstore

import (
	"math/rand/v2"
	"path/filepath"
	"testing"
)

// TestGroupsAreMerged: when most keys are deleted, groups are merged and the directory
// is halved; when keys come again, the ids that are unused are used first. At every
// step the store is the map that the operations make.
func TestGroupsAreMerged(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), "s.h5"), &Options{SplitThreshold: 8, GCInterval: -1})
	if err != nil {
		t.Fatal(err)
	}
	model, random := contents{}, rand.New(rand.NewPCG(1, 2))
	apply := func(b *Batch) {
		t.Helper()
		model.apply(b.ops)
		if err := s.Apply(b); err != nil {
			t.Fatal(err)
		}
		if err := s.Checkpoint(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.Reset()
	}
	fill := func() {
		var b Batch
		for k := range uint64(20_000) {
			b.Insert(FromUint64(k), FromUint64(random.Uint64N(9)))
		}
		apply(&b)
		mustHold(t, s, model)
	}
	maintain := func() {
		t.Helper()
		if err := s.Maintain(t.Context()); err != nil {
			t.Fatal(err)
		}
		mustHold(t, s, model)
	}
	record := func() *record { return &s.state.Load().view.record }

	fill()
	full := *record()
	for _, part := range []uint64{2, 10, 1000} { // leaves one key in so many
		var b Batch
		for k := range uint64(20_000) {
			if k%part != 0 {
				b.Delete(FromUint64(k))
			}
		}
		apply(&b)
		mustHold(t, s, model)
		maintain()
	}
	few := *record()
	if few.groups() > 8 || few.globalDepth > 6 || full.groups() < 32 { // of 20 keys, eight of which may be a group
		t.Errorf("%d groups, depth %d, of %d groups and depth %d", few.groups(), few.globalDepth, full.groups(), full.globalDepth)
	}
	if few.numGroups > full.numGroups+full.numGroups/8 || uint64(few.unusedGroups) != few.numGroups-few.groups() {
		t.Errorf("%d of %d ids are unused, want %d", few.unusedGroups, few.numGroups, few.numGroups-few.groups())
	}
	fill()
	if again := record(); again.numGroups > full.numGroups+full.numGroups/8 {
		t.Errorf("%d group ids after filling it again, were %d", again.numGroups, full.numGroups)
	}
	if s.Metrics().MergeEvents == 0 {
		t.Error("no merge was counted")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
