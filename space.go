package cidstore

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/cidstore/cidstore/hdf5io"
)

// Space says how the bytes of a store's file are used at one moment, and who keeps some
// of them from being used again. File is the sum of Live, Log, Free, Limbo and Pinned; the
// last three are what the newest root does not reach.
//
// A store that is open for writing knows all of this. One that is open for reading gives
// what the file and the locks say, as a writer that opened it now would find it. There, if
// another process pins an old root, all that the newest root does not reach counts as
// pinned: while a writer is at work, that is an upper bound.
type Space struct {
	File   int64 // length of the file, in bytes, as are the following
	Live   int64 // what the newest root reaches, without the log, and the head of the file
	Log    int64 // the ring of the log, and the ring before it while the log grows
	Free   int64 // what the next commits may use, however short the gaps are
	Limbo  int64 // what is freed, but can be used only after later commits
	Pinned int64 // what is freed, but still pinned by readers of old roots
	// Shrunk is about how long the file will be after Shrink and Close, if nothing else
	// changes it; never more than File. What is only in the log is not counted.
	Shrunk int64

	Commit    uint64 // number of the root that these figures are of
	OldestPin uint64 // oldest commit whose root somebody pins; Commit if none is older
	// OldestPinSeen is when this Store first saw that root, or else the next one after it,
	// by Options.Clock; zero if nobody pins an older root.
	OldestPinSeen time.Time
	// OldestPinHolder is the process that pins OldestPin, if that is older than Commit and
	// the system names the process (Linux does, if the caller may look at it). 0 means
	// that it is unknown, or that there is none.
	OldestPinHolder int
}

// Space returns the present figures. It reads a few KiB of the file at most, and no writer
// waits for its locks longer than that takes.
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
		Commit: uint64(v.view.Commit()), OldestPin: uint64(min(space.OldestPin, v.view.Commit())),
	}
	out.Live = max(out.File-out.Log-out.Free-out.Limbo-out.Pinned, 0)
	out.Shrunk = v.view.shrunk(&out, space.Longest, r.foldBytes(uint64(v.pendingOps())))
	if out.OldestPin < out.Commit {
		out.OldestPinSeen = s.seen.at(space.OldestPin)
		out.OldestPinHolder = s.file.PinHolder(space.OldestPin, s.info)
	}
	return out, nil
}

// shrunk is Space.Shrunk; gap is the longest gap, and fold is what it takes to fold a group.
func (v *view) shrunk(s *Space, gap, fold int64) int64 {
	live, end := s.Live, int64(0)
	if v.runsBlock(gap, live+s.Log, live) {
		waiting, dead := v.buckets.RunSpace()
		if waiting < s.Free+s.Limbo { // then there is room to fold all runs
			live -= dead
		} else {
			end = v.buckets.Unmovable(gap)
		}
	}
	return min(s.File, max(end, live+int64(closedBlocks*v.record.walBlock)+v.closedReserve(live, fold)))
}

// sightings are when roots were first seen, so that a pin has an age.
type sightings struct {
	mu   sync.Mutex
	list []sighting // ascending
}

type sighting struct {
	commit hdf5io.Commit
	time   time.Time
}

// maxSightings bounds the list. When it is full, it loses the sightings without which each
// age is still known to within one part in ageParts.
const (
	maxSightings = 1024
	ageParts     = 16
)

// add notes that the root of commit is there.
func (s *sightings) add(commit hdf5io.Commit, now time.Time) {
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
	if kept = append(kept, s.list[maxSightings-1]); len(kept) == maxSightings { // the clock was set back
		kept = kept[maxSightings/2:]
	}
	s.list = kept
}

// at returns when the root of commit, or the first known one after it, was seen.
func (s *sightings) at(commit hdf5io.Commit) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, _ := slices.BinarySearchFunc(s.list, commit, func(e sighting, c hdf5io.Commit) int { return cmp.Compare(e.commit, c) })
	if i == len(s.list) {
		return time.Time{}
	}
	return s.list[i].time
}
