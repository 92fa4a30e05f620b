package cidstore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/cidstore/cidstore/bucket"
	"github.com/cidstore/cidstore/wal"
)

// claim is room that a write has been promised and has not used yet.
type claim struct {
	records int64 // of the ring
	ops     int64 // of memory and of the tree's space
}

// admission keeps the promises to writers under way.
type admission struct {
	mu       sync.Mutex // guards the fields below
	claimed  claim
	most     int64     // records that may be claimed at once
	covered  int64     // pending operations whose growth the free space covers
	releases uint64    // claims given back so far
	released sync.Cond // with mu: releases has grown
}

// admit waits until a write of these operations has room: in the ring, in
// memory, and in the tree's free space. Every wait ends: in room, ErrNoSpace,
// ErrPoisoned or ErrClosed.
func (s *Store) admit(ops []wal.Op) (claim, error) {
	want := s.wants(ops)
	if most := s.ringRecords(s.opts.WALBytes) / 3; want.records > most {
		return claim{}, fmt.Errorf("batch of %d operations: %w: %d records with their end, a third of the log is %d",
			len(ops), ErrTooLarge, want.records, most)
	}
	deletes, spared := onlyDeletes(ops), false
	for {
		if s.claim(want) {
			err := s.cover(deletes)
			if err == nil {
				return want, nil
			}
			s.release(want)
			if spared || !errors.Is(err, ErrNoSpace) {
				return claim{}, err
			}
			spared = true
			if err := s.spare(); err != nil {
				return claim{}, err
			}
			continue
		}
		s.metrics.waits.Add(1)
		if err := s.makeRoom(want); err != nil {
			return claim{}, err
		}
	}
}

// wants is the claim of a frame of these operations.
func (s *Store) wants(ops []wal.Op) claim {
	return claim{wal.RecordsFor(len(ops), s.opts.blockBytes), int64(len(ops))}
}

// claim promises want if there is room for it now.
func (s *Store) claim(want claim) bool {
	s.admission.mu.Lock()
	defer s.admission.mu.Unlock()
	if s.shortOf(want) != enough {
		return false
	}
	s.admission.claimed.records += want.records
	s.admission.claimed.ops += want.ops
	return true
}

func onlyDeletes(ops []wal.Op) bool {
	for i := range ops {
		if ops[i].Code == wal.Insert {
			return false
		}
	}
	return true
}

func (s *Store) release(c claim) {
	s.admission.mu.Lock()
	defer s.admission.mu.Unlock()
	s.admission.claimed.records -= c.records
	s.admission.claimed.ops -= c.ops
	s.admission.releases++
	s.admission.released.Broadcast()
}

// noLimit is the limit of an admission that only the ring limits.
const noLimit = math.MaxInt64

// limit sets how many records may be claimed at once, and waits until no more are.
func (a *admission) limit(records int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.most = records
	for a.claimed.records > a.most {
		a.released.Wait()
	}
}

// awaitRelease waits until a claim is given back that was held when seen was read.
// Those who hold one wait for nothing but the disk.
func (a *admission) awaitRelease(seen uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.releases == seen && a.claimed.records > 0 {
		a.released.Wait()
	}
}

// shortage says what a write has to wait for.
type shortage int

const (
	enough shortage = iota
	ringShort
	memoryShort
)

// shortOf returns what is missing for want. admission.mu is held.
func (s *Store) shortOf(want claim) shortage {
	c := s.admission.claimed
	if min(s.log.Room(), s.admission.most)-c.records < want.records || want.records > s.log.Largest() {
		return ringShort
	}
	pending, need := s.pendingOps()+c.ops, want.ops*opBytes
	if need > s.opts.MemoryBudget {
		need = s.opts.MemoryBudget / 2 // it would wait for ever for the moment when nobody else writes
	}
	if pending > 0 && pending*opBytes+need > s.opts.MemoryBudget {
		return memoryShort
	}
	return enough
}

// pendingOps is the number of operations in memory that are not in the tree.
func (s *Store) pendingOps() int64 { return s.state.Load().pendingOps() }

func (st *state) pendingOps() int64 {
	n := int64(st.fresh.count.Load())
	if st.frozen != nil {
		n += int64(st.frozen.count.Load())
	}
	return n
}

// cover grows the file, before a write is logged, until the free space covers
// what the pending operations can add to the tree and a reserve of slices. Deletes
// may use the reserve down to two slices.
func (s *Store) cover(deletes bool) error {
	s.admission.mu.Lock()
	defer s.admission.mu.Unlock()
	pending := s.pendingOps() + s.admission.claimed.ops
	if pending <= s.admission.covered {
		return nil
	}
	ahead := pending + pending/8 + 64
	if err := s.file.ReservePieces(s.growth(ahead)+3*s.smallestSlice(), 4, s.foldBytes()); err == nil {
		s.admission.covered = ahead
		return nil
	}
	slices := int64(3)
	if deletes {
		slices = 2
	}
	err := s.file.ReservePieces(s.growth(pending)+slices*s.smallestSlice(), int(slices)+1, s.foldBytes())
	if err == nil {
		s.admission.covered = pending
		return nil
	}
	// What deletes write, entries of runs and shorter rows, fits into gaps too short to
	// count as free. A checkpoint that finds none leaves them to the log, which has room
	// for what it takes.
	if space := s.file.Space(); deletes && errors.Is(err, ErrNoSpace) && space.Free+space.Fragments >= slices*s.smallestSlice() {
		return nil
	}
	return s.writeFailed(fmt.Errorf("write: %w", err))
}

// spare gives a write that finds the disk full all the space there is: what waits
// goes into the tree, where it needs no cover, and the older slot, which holds on
// to what the tree no longer uses, is written over.
func (s *Store) spare() error {
	s.checkpointing.Lock()
	defer s.checkpointing.Unlock()
	if err := s.Failed(); err != nil {
		return err
	}
	if s.logEnd() != s.state.Load().view.record.lastApplied {
		if err := s.checkpointAll(context.Background()); err != nil && !errors.Is(err, ErrNoSpace) {
			return err
		}
	} else if err := s.trimRuns(); err != nil {
		return err
	}
	if s.settled {
		return nil
	}
	return s.settle()
}

// growth estimates what n pending operations add to the tree, in bytes: each an
// entry of a run, with a more row or its share of a spilled one, and its share of
// the larger groups that it makes. Sets that move to a larger class can take more;
// a checkpoint that finds too little room stops between two slices with
// ErrNoSpace, and the log keeps the rest.
func (s *Store) growth(n int64) int64 { return n*perOperation + 16<<10 }

// perOperation: an entry, a more row, a tag, and a share of what leads to them.
const perOperation = 112

// foldBytes is about the most that writing a group again takes: the least that a
// checkpoint can fold at once. A commit that does so frees as much, two commits later.
func (s *Store) foldBytes() int64 {
	return s.state.Load().view.record.foldBytes(uint64(s.pendingOps()))
}

func (r *record) foldBytes(pending uint64) int64 {
	g := bucket.NewGeometry(int(r.splitThreshold))
	keys := r.numKeys + pending
	entries := min(2*keys/r.groups()+64, keys+64, uint64(g.Capacity))
	if r.numValues > r.numKeys {
		entries *= 2 // and more rows
	}
	return int64(entries) * bucket.EntrySize
}

// smallestSlice is the least space that a checkpoint can work with: a part of the
// live data, 16 KiB to 2 MiB, but no more than half the ring that the store started
// with. An opener who would start with a larger one keeps no larger reserve.
func (s *Store) smallestSlice() int64 {
	return s.sliceOf(int64(s.state.Load().view.record.walSize))
}

// sliceOf is smallestSlice with a ring of size bytes.
func (s *Store) sliceOf(size int64) int64 {
	return min(max(min(s.liveBytes()/sliceShare, s.opts.startBytes/2, size/2), leastSlice), mostSlice)
}

// closedReserve is the free space that Close leaves in the file, bytes: a small part
// of the data, but enough for the commits of the next Open, and for its deletes, on
// a disk that is full by then: these need room to fold a group.
func (s *Store) closedReserve() int64 { return closedReserve(s.liveBytes(), s.foldBytes()) }

func closedReserve(live, fold int64) int64 {
	return min(max(live/64, 3*leastSlice+fold), 3*mostSlice)
}
