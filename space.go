package cidstore

import (
	"slices"
	"sync"
	"time"
)

// Space says how the bytes of a store's file are used at one moment, and who keeps some
// of them from being used again. File is the sum of Live, Log, Free, Limbo and Pinned; the
// last three are what the newest root does not reach.
//
// A store that is open for writing knows all of it. One that is open for reading reads
// what the file and the locks say, as a writer that opened it now would find it: if another
// process holds an old root, all that the newest does not reach counts as pinned. Beside a
// writer at work that is the most that it can be.
type Space struct {
	File   int64 // bytes, as the following
	Live   int64 // that the newest root reaches, without the log, and the head of the file
	Log    int64 // of the log's ring, and of the one before it while it grows
	Free   int64 // that the next commits may use, however short the gaps
	Limbo  int64 // freed, not usable before later commits
	Pinned int64 // freed, held by readers of old roots
	// Shrunk is about how long the file will be after Shrink and Close, if nothing else is
	// done before: not longer than it is. What only the log has is not counted.
	Shrunk int64

	Commit    uint64 // number of the root that these figures are of
	OldestPin uint64 // oldest commit of which somebody holds the root; Commit if none is older
	// OldestPinSeen is when that root, or a later one, was first seen by this Store, by
	// Options.Clock: the pin is at least as old as that. Zero if nobody holds an older root.
	OldestPinSeen time.Time
	// OldestPinHolder is the process that holds it, if that is older than Commit and the
	// system says so (Linux does, of processes that the caller may look at); 0: another
	// program, or none.
	OldestPinHolder int
}

// Space returns the present figures. It reads a few KiB of the file at most, and takes no
// lock that a writer waits for longer than that.
func (s *Store) Space() (Space, error) {
	v, err := s.Snapshot()
	if err != nil {
		return Space{}, err
	}
	defer v.Close()
	r := &v.view.record
	space := s.file.Space()
	if s.opts.ReadOnly {
		err = v.guard(func() (err error) { space, err = v.view.Space(); return err })
		if err != nil {
			return Space{}, ofStore(err)
		}
	}
	out := Space{
		File: space.Size, Log: int64(r.walSize + r.oldSize),
		Free: space.Free + space.Fragments, Limbo: space.Limbo, Pinned: space.Pinned,
		Commit: v.view.Commit(), OldestPin: min(space.OldestPin, v.view.Commit()),
	}
	out.Live = max(out.File-out.Log-out.Free-out.Limbo-out.Pinned, 0)
	log, fold := int64(closedBlocks*r.walBlock), r.foldBytes(uint64(v.pendingOps()))
	out.Shrunk = min(out.File, out.Live+log+closedReserve(out.Live, fold))
	if out.OldestPin < out.Commit {
		out.OldestPinSeen = s.seen.at(out.OldestPin)
		out.OldestPinHolder = s.file.PinHolder(out.OldestPin, s.info)
	}
	return out, nil
}

// sightings are when roots were first seen, so that a pin has an age.
type sightings struct {
	mu   sync.Mutex
	list []sighting // ascending
}

type sighting struct {
	commit uint64
	time   time.Time
}

// maxSightings bounds the list. When it is full those go without which ages are still known
// to one part in ageParts.
const (
	maxSightings = 1024
	ageParts     = 16
)

// add notes that the root of commit is there.
func (s *sightings) add(commit uint64, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.list)
	if n > 0 && s.list[n-1].commit >= commit {
		return
	}
	if n == maxSightings {
		s.thin(now)
	}
	s.list = append(s.list, sighting{commit, now})
}

// thin makes room in the list, which is full.
func (s *sightings) thin(now time.Time) {
	kept := s.list[:1]
	for i := 1; i < maxSightings-1; i++ {
		next := s.list[i+1].time
		if next.Sub(kept[len(kept)-1].time) > now.Sub(next)/ageParts {
			kept = append(kept, s.list[i])
		}
	}
	if kept = append(kept, s.list[maxSightings-1]); len(kept) == maxSightings { // by a clock that was set back
		kept = kept[maxSightings/2:]
	}
	s.list = kept
}

// at is when the root of commit, or the first one after it that is known, was seen.
func (s *sightings) at(commit uint64) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, _ := slices.BinarySearchFunc(s.list, commit, func(e sighting, c uint64) int {
		if e.commit < c {
			return -1
		}
		return 1
	})
	if i == len(s.list) {
		return time.Time{}
	}
	return s.list[i].time
}
