package cidstore

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cidstore/cidstore/hdf5io"
)

// TestJournalKeeps: the journal keeps 128 entries and of each kind the newest, adds up what
// one kind does within a minute, and keeps scrubs apart.
func TestJournalKeeps(t *testing.T) {
	var j journal
	now := time.Unix(1_700_000_000, 0)
	j.add(didShrink, 7, time.Second, now)
	for i := range 10 {
		j.add(didMerge, 2, time.Second, now.Add(time.Duration(i)*10*time.Second))
	}
	j.add(didScrub, 0, time.Second, now)
	j.add(didScrub, 1, -time.Second, now) // a clock that was set back since
	want := []Maintenance{
		{now, "shrink", 7, time.Second},
		{now.Add(50 * time.Second), "merge", 12, 6 * time.Second},
		{now.Add(90 * time.Second), "merge", 8, 4 * time.Second},
		{now, "scrub", 0, time.Second}, {now, "scrub", 1, 0},
	}
	if list := j.list(); !slices.Equal(list, want) {
		t.Errorf("%+v, want %+v", list, want)
	}
	j.add(didMerge, 1, 0, now.Add(-time.Hour)) // the clock was set back: an entry of its own
	for i := range 1000 {
		j.add(didScrub, uint64(i), 0, now)
	}
	list := j.list()
	if len(list) != journalEntries || list[0].Kind != "shrink" || list[1].Kind != "merge" || list[1].Count != 1 {
		t.Errorf("%d entries, the first %+v", len(list), list[:2])
	}
	if e, found := j.newest(didScrub); !found || e.Count != 999 {
		t.Errorf("the newest scrub is %+v", e)
	}
	if _, found := j.newest(didMend); found {
		t.Error("a kind is found that never was")
	}
}

// TestJournalOfLives: every kind of maintenance is in the journal, as metrics and events count
// it. Readers and the next life find the journal in the file; after a kill, as of the last
// commit.
func TestJournalOfLives(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.h5")
	var clock atomic.Int64
	events := &recorder{least: slog.LevelDebug}
	options := func() *Options {
		o := &Options{GCInterval: -1, ScrubRate: -1, SplitThreshold: 8, WALBytes: 8 << 20, startBytes: 64 << 10}
		o.Clock = func() time.Time { return time.Unix(1_700_000_000, clock.Add(1000)) }
		o.directory.Attribute = 2
		o.Rand = rand.NewChaCha8([32]byte{1}) // with one hash seed of about 100, nothing is halved
		o.Logger = slog.New(events)
		return o
	}
	s := OpenStore(t, path, options())
	maintainedInEveryWay(t, s)
	for name, kind := range map[string]maintenance{"merge": didMerge, "halve": didHalve, "migrate": didMigrate, "shrink": didShrink} {
		if n, want := events.count(name), s.Metrics().MaintenanceByKind[kind]; n != int(want) {
			t.Errorf("%d events %q, want %d", n, name, want)
		}
	}
	list := s.Journal()
	reads := func(when string) {
		t.Helper()
		r := OpenStore(t, path, &Options{ReadOnly: true})
		if got := r.Journal(); fmt.Sprint(got) != fmt.Sprint(list) || r.Metrics().LastScrub.IsZero() {
			t.Errorf("%s: a reader has\n%+v, want\n%+v", when, got, list)
		}
		mustCheck(t, r)
		mustDo(t, r.Close())
		if got := r.Journal(); got != nil {
			t.Errorf("a reader that is closed: %+v", got)
		}
	}
	reads("beside the writer")
	mustDo(t, s.Close())
	if len(s.Journal()) < len(list) {
		t.Error("the journal does not outlive Close")
	}
	list = s.Journal()
	reads("closed")
	s = OpenStore(t, path, options())
	if got := s.Journal(); fmt.Sprint(got) != fmt.Sprint(list) {
		t.Errorf("the next life has %+v, want %+v", got, list)
	}
}

// maintainedInEveryWay does maintenance of every kind to a new store, and compares the
// journal with the metrics.
func maintainedInEveryWay(t *testing.T, s *Store) {
	t.Helper()
	for k := uint64(0); k < 8000; k += 200 {
		mustDo(t, s.Apply(insertsOf(k, k+200, 1)))
	}
	mustDo(t, s.Apply(insertsOf(0, 40, 40)), s.Checkpoint(t.Context()))
	for k := uint64(0); k < 8000; k += 200 {
		mustDo(t, s.Apply(deletesOf(max(k, 40), k+200, 0)))
	}
	mustDo(t, s.Apply(deletesOf(0, 20, 37)), s.Apply(deletesOf(20, 40, 30)))
	mustDo(t, errOf(s.RunGCOnce(t.Context())), s.Maintain(t.Context()), s.Shrink(t.Context()))
	report := mustGet(s.Scrub(t.Context()))(t)
	kinds := map[string]Maintenance{}
	for _, e := range s.Journal() {
		kinds[e.Kind] = e
	}
	m := s.Metrics()
	for kind, n := range m.Maintained() {
		if e, found := kinds[kind]; found != (n > 0) || found && (e.Time.Unix() != 1_700_000_000 || e.Took <= 0) {
			t.Errorf("%s: %d times by the metrics, the journal has %+v", kind, n, e)
		}
		if kind != "mend" && n == 0 {
			t.Errorf("there was no %s", kind)
		}
	}
	for kind, want := range map[string]uint64{
		"merge": m.MergeEvents, "compact": m.CompactionEvents, "demote": m.DemotionEvents,
		"scrub": 0, "migrate": m.MaintenanceByKind[didMigrate],
	} {
		if kinds[kind].Count != want {
			t.Errorf("%s: %d in the journal, want %d", kind, kinds[kind].Count, want)
		}
	}
	if m.Scrubs != 1 || m.ScrubbedBytes != uint64(report.Bytes) || !m.LastScrub.Equal(kinds["scrub"].Time) {
		t.Errorf("%d scrubs of %d bytes, the last one at %v; want %+v", m.Scrubs, m.ScrubbedBytes, m.LastScrub, kinds["scrub"])
	}
}

// TestJournalDamaged: a damaged journal is a defect for Check, and counts as an empty one
// otherwise.
func TestJournalDamaged(t *testing.T) {
	for name, a := range map[string]hdf5io.Attribute{
		"another type":   {Name: journalName, Type: hdf5io.Uint(8), Data: make([]byte, 8)},
		"another kind":   journalAttribute([]Maintenance{{Kind: "tidy"}}),
		"too many":       journalAttribute(slices.Repeat([]Maintenance{{Kind: "merge"}}, journalEntries+1)),
		"two dimensions": {Name: journalName, Type: journalType(), Dims: []uint64{1, 1}, Data: make([]byte, journalEntrySize)},
	} {
		s, _ := deletedSets(t, &Options{GCInterval: -1}, 0)
		mustDo(t, s.exclusively(func() error {
			return s.change(func(m *merge) error { return m.tx.SetAttribute(configPath, a) })
		}))
		wantErr(t, errOf(s.Check(t.Context())), ErrCorrupt, name, "Check says")
		s.kill()
		s = OpenStore(t, s.path, &Options{GCInterval: -1})
		if list := s.Journal(); list != nil {
			t.Errorf("%s: %+v", name, list)
		}
		mustDo(t, errOf(s.Scrub(t.Context())))
		mustCheck(t, s) // it is written again
		mustDo(t, s.Close())
	}
}
