package cidstore

import (
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/corrupt"
)

// Maintenance is one entry of the journal. It says what was done to maintain the store,
// not for a caller's write.
type Maintenance struct {
	Time time.Time // when it ended, by Options.Clock
	// Kind says what was done, and so what Count counts:
	//
	//	merge     buckets that became one with others
	//	halve     halvings of the directory
	//	migrate   changes of the directory's form
	//	compact   sets whose tombstones were erased
	//	demote    sets that went back into the entries of their keys
	//	collect   tombstones, rows of the deletion log and orphans that a collection dropped
	//	scrub     places that a scrub found damaged and could not mend; 0 if all is well
	//	mend      state masks with a wrong bit that were written again
	//	shrink    bytes that Shrink gave back
	//	grow log  bytes of the log after it has grown
	Kind  string
	Count uint64
	Took  time.Duration
}

// maintenance is the number of a kind, in the order of the list above.
type maintenance int

const (
	didMerge maintenance = iota
	didHalve
	didMigrate
	didCompact
	didDemote
	didCollect
	didScrub
	didMend
	didShrink
	didGrowLog
	maintenanceKinds
)

var maintenanceNames = [maintenanceKinds]string{
	"merge", "halve", "migrate", "compact", "demote", "collect", "scrub", "mend", "shrink", "grow log",
}

const (
	journalEntries = 128 // that the journal keeps
	// sameEntry is how long work of one kind is added to one entry. So checkpoints that
	// merge buckets all day leave room for other entries.
	sameEntry = time.Minute
)

// journal holds the last things that maintenance did, oldest first. Each commit writes it
// into the file.
type journal struct {
	mu      sync.Mutex // guards the fields below
	entries []Maintenance
	begun   [maintenanceKinds]time.Time // when the newest entry of each kind was new
}

// add notes that something was done. Scrubs are not added up, because each says what the
// file was like.
func (j *journal) add(kind maintenance, count uint64, took time.Duration, now time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e := Maintenance{now, maintenanceNames[kind], count, max(took, 0)}
	if passed := now.Sub(j.begun[kind]); kind != didScrub && passed >= 0 && passed < sameEntry {
		for i := len(j.entries) - 1; i >= 0; i-- {
			if old := j.entries[i]; old.Kind == e.Kind {
				e.Count, e.Took = e.Count+old.Count, e.Took+old.Took
				j.entries = append(slices.Delete(j.entries, i, i+1), e)
				return
			}
		}
	}
	j.begun[kind] = now
	if len(j.entries) == journalEntries {
		j.forget()
	}
	j.entries = append(j.entries, e)
}

// forget drops the oldest entry that is not the newest of its kind. There always is one,
// because the journal keeps more entries than there are kinds.
func (j *journal) forget() {
	for i := range j.entries {
		if slices.ContainsFunc(j.entries[i+1:], func(e Maintenance) bool { return e.Kind == j.entries[i].Kind }) {
			j.entries = slices.Delete(j.entries, i, i+1)
			return
		}
	}
}

func (j *journal) list() []Maintenance {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.entries)
}

// newest returns the newest entry of a kind.
func (j *journal) newest(kind maintenance) (e Maintenance, found bool) {
	return newestOf(j.list(), kind)
}

func newestOf(list []Maintenance, kind maintenance) (e Maintenance, found bool) {
	for _, e := range slices.Backward(list) {
		if e.Kind == maintenanceNames[kind] {
			return e, true
		}
	}
	return e, false
}

// maintained notes what maintenance has done.
func (s *Store) maintained(kind maintenance, count uint64, took time.Duration) {
	s.metrics.maintained[kind].Add(1)
	s.journal.add(kind, count, took, s.opts.Clock())
}

// Journal returns the last 128 things that maintenance did to the store, oldest first.
// The newest of each kind is always among them. What one kind does within a minute is
// one entry, except for scrubs. The file keeps the journal. A store that is opened again
// goes on with it, and a read-only store returns the journal of the root that it reads.
// After a kill, what was done after the last commit is missing.
func (s *Store) Journal() []Maintenance {
	if !s.opts.ReadOnly {
		return s.journal.list()
	}
	r, pin, err := s.acquire()
	if err != nil {
		return nil
	}
	defer r.view.Unpin(pin)
	list, _ := readJournal(r.view.View) // Check reports a damaged one
	return list
}

// A journal entry, one element of the attribute `journal` of /config.
//
// FORMAT.md: journal entry
//
//	offset  size  field  meaning
//	     0     8  ended  ns since 1970
//	     8     8  took   ns
//	    16     8  count
//	    24     8  kind   text, zeros after it
const (
	offJournalEnded, offJournalTook, offJournalCount, offJournalKind = 0, 8, 16, 24
	journalEntrySize                                                 = 32
)

var _ [journalEntrySize]byte = [offJournalKind + 8]byte{}

const journalName = "journal"

func journalType() hdf5io.Datatype {
	u64 := hdf5io.Uint(8)
	return hdf5io.Compound(journalEntrySize,
		hdf5io.Field{Name: "ended", Offset: offJournalEnded, Type: u64}, hdf5io.Field{Name: "took", Offset: offJournalTook, Type: u64},
		hdf5io.Field{Name: "count", Offset: offJournalCount, Type: u64}, hdf5io.Field{Name: "kind", Offset: offJournalKind, Type: hdf5io.String(8)})
}

// journalAttribute returns the journal in the form that the file has.
func journalAttribute(list []Maintenance) hdf5io.Attribute {
	a := hdf5io.Attribute{Name: journalName, Type: journalType(), Dims: []uint64{uint64(len(list))}}
	for _, e := range list {
		a.Data = le.AppendUint64(a.Data, uint64(e.Time.UnixNano()))
		a.Data = le.AppendUint64(a.Data, uint64(e.Took))
		a.Data = le.AppendUint64(a.Data, e.Count)
		a.Data = append(append(a.Data, e.Kind...), make([]byte, 8-len(e.Kind))...)
	}
	return a
}

// writeJournal writes the journal into the file. On a full disk the file keeps its old one.
func (m *merge) writeJournal(list []Maintenance) error {
	if len(list) == 0 || m.file.Tight() || m.sure {
		return nil
	}
	return m.tx.SetAttribute(configPath, journalAttribute(list))
}

// readJournal reads the journal of a root, which may have none.
func readJournal(v *hdf5io.View) ([]Maintenance, error) {
	a, found, err := v.Attribute(configPath, journalName)
	if err != nil || !found {
		return nil, err
	}
	if !a.Type.Equal(journalType()) || len(a.Dims) != 1 || a.Dims[0] > journalEntries || uint64(len(a.Data)) != a.Dims[0]*journalEntrySize {
		return nil, corrupt.Errorf("attribute journal of "+configPath, -1, "%v of %v, want up to %d journal entries", a.Dims, a.Type, journalEntries)
	}
	list := make([]Maintenance, a.Dims[0])
	for i := range list {
		p := a.Data[i*journalEntrySize:][:journalEntrySize]
		e := &list[i]
		e.Time = time.Unix(0, int64(le.Uint64(p)))
		e.Took, e.Count = time.Duration(le.Uint64(p[offJournalTook:])), le.Uint64(p[offJournalCount:])
		e.Kind = strings.TrimRight(string(p[offJournalKind:]), "\x00")
		if !slices.Contains(maintenanceNames[:], e.Kind) {
			return nil, corrupt.Errorf("attribute journal of "+configPath, -1, "kind %q of entry %d", e.Kind, i)
		}
	}
	return list, nil
}

// Maintained yields how often each kind of maintenance was done; see Maintenance.
func (m *Metrics) Maintained() iter.Seq2[string, uint64] {
	return named(maintenanceNames[:], m.MaintenanceByKind[:])
}
