package cidstore

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/cidstore/cidstore/internal/invariants"
	"github.com/cidstore/cidstore/wal"
)

// TestEveryThreshold: a store with any legal split threshold is the map that the
// operations make, and its buckets hold no more keys than the threshold says.
func TestEveryThreshold(t *testing.T) {
	for _, threshold := range invariants.Sample([]int{0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 15, 16, 17, 100, 1000, 1024}) {
		t.Run(fmt.Sprint(threshold), func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "s.h5")
			model := contents{}
			s := OpenStore(t, path, &Options{SplitThreshold: threshold, GCInterval: -1})
			for _, ops := range thresholdBatches() {
				model.apply(ops)
				mustDo(t, s.Apply(&Batch{ops: ops}), s.Checkpoint(t.Context()))
				mustHold(t, s, model)
			}
			mustDo(t, s.Close())
			// The threshold is the file's: what another opening asks for does not count.
			s = OpenStore(t, path, &Options{SplitThreshold: 64, GCInterval: -1})
			mustHold(t, s, model)
			if want := uint32(threshold); want != 0 && s.state.Load().view.record.splitThreshold != want {
				t.Errorf("threshold %d after reopening, want %d", s.state.Load().view.record.splitThreshold, want)
			}
		})
	}
}

// thresholdBatches make 3,000 keys of 1, 3, 5 and 40 values, delete some keys and
// values, and then change a few keys of many buckets, as a run would take them.
func thresholdBatches() [][]wal.Op {
	var fill, deletes, few []wal.Op
	for k := range uint64(3000) {
		for v := range []uint64{1, 3, 5, 40}[k%4] {
			fill = append(fill, ins(k, v))
		}
		switch k % 7 {
		case 0:
			deletes = append(deletes, del(k))
		case 3:
			deletes = append(deletes, delv(k, 0), delv(k, 2))
		case 5:
			deletes = append(deletes, ins(k+10_000, k))
		}
		if k%50 < 3 {
			few = append(few, ins(k, 99), del(k+3), ins(k+20_000, k))
		}
	}
	return [][]wal.Op{fill[:len(fill)/2], fill[len(fill)/2:], deletes, few}
}

// fullest returns the number of entries of the fullest bucket of a group's row: the page
// of the group says where each ends.
func fullest(t *testing.T, v *view, g group) (most int) {
	t.Helper()
	const header, record = 72, 8
	page := mustGet(mustGet(v.Dataset("/buckets/state"))(t).Page(uint64(g.id)))(t)
	before := 0
	for i := range g.state.Buckets() {
		end := int(le.Uint16(page.Data()[header+i*record:]))
		most, before = max(most, end-before), end
	}
	return most
}

// put writes a batch, checkpoints, and empties the batch.
func (c contents) put(t *testing.T, s *Store, b *Batch) {
	t.Helper()
	c.apply(b.ops)
	mustDo(t, s.Apply(b), s.Checkpoint(t.Context()))
	b.Reset()
}

// mustHold checks a store after a checkpoint: contents, defects, keys of each bucket.
func mustHold(t *testing.T, s *Store, model contents) {
	t.Helper()
	mustCheck(t, s)
	wantIs(t, model.print())(printOf(s))
	v := s.state.Load().view
	threshold, crowded := int(v.record.splitThreshold), 0
	for g, err := range v.groups(0) {
		mustDo(t, err)
		n := fullest(t, v, g)
		if n <= threshold {
			continue
		}
		if crowded++; int(g.state.LocalDepth)+7 < int(v.record.globalDepth) { // a directory may have 64 pointers a group
			t.Errorf("a bucket of group %d has %d keys, limit %d", g.id, n, threshold)
		}
	}
	t.Logf("threshold %d: %d buckets in %d groups, %d of them crowded, depth %d", threshold, v.record.numBuckets, v.record.groups(), crowded, v.record.globalDepth)
}

// TestGroupsAreMerged: when most keys are deleted, groups are merged and the directory
// is halved; when keys come again, the ids that are unused are used first. At every
// step the store is the map that the operations make.
func TestGroupsAreMerged(t *testing.T) {
	s := OpenStore(t, filepath.Join(t.TempDir(), "s.h5"), &Options{SplitThreshold: 8, GCInterval: -1})
	model, random := contents{}, rand.New(rand.NewPCG(1, 2))
	fill := func() {
		var b Batch
		for k := range uint64(20_000) {
			b.Insert(FromUint64(k), FromUint64(random.Uint64N(9)))
		}
		model.put(t, s, &b)
		mustHold(t, s, model)
	}
	reported := 0 // how often merges without a checkpoint were put into the log
	maintain := func() {
		t.Helper()
		before := s.Metrics()
		mustDo(t, s.exclusively(func() error { return s.foldAll(t.Context()) }), s.exclusively(func() error { return s.uniteGroups(t.Context()) }))
		if after := s.Metrics(); after.MergeEvents > before.MergeEvents {
			reported++
			if after.WAL.Records[wal.Merge] == before.WAL.Records[wal.Merge] {
				t.Errorf("%d merges, none of them in the log", after.MergeEvents-before.MergeEvents)
			}
		}
		mustDo(t, s.Maintain(t.Context()))
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
		model.put(t, s, &b)
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
	if reported == 0 {
		t.Error("nothing was merged")
	}
}
