package cidstore

import "context"

// Figures say what a store holds at one moment. Figures and Check give the same.
type Figures struct {
	Keys, Values   uint64 // including what only the log has so far, as Len counts them
	Groups         uint64 // of buckets
	Buckets        uint64
	Runs           int    // of entries that wait to be folded into groups
	WaitingEntries uint64 // entries of runs that are not folded yet
	SpilledSets    uint64 // in use
	Tombstones     uint64 // deleted values that are not compacted away
}

// Figures returns what the store holds. It takes the numbers that the store has recorded,
// and corrects Keys and Values by the operations that are not in the tree yet, for which
// it reads states of spilled sets. Check counts them all.
func (s *Store) Figures(ctx context.Context) (Figures, error) {
	v, err := s.Snapshot()
	if err != nil {
		return Figures{}, err
	}
	defer v.Close()
	r := &v.view.record
	f := Figures{Groups: r.groups(), Buckets: r.numBuckets, SpilledSets: r.sets.Sets - r.sets.Unused, Tombstones: r.numTombstones}
	f.WaitingEntries, _ = v.view.buckets.Waiting()
	f.Runs = v.view.buckets.Runs()
	if f.Keys, f.Values, err = v.len(ctx); err != nil {
		return Figures{}, ofStore(err)
	}
	return f, nil
}
