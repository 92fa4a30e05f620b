package cidstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"

	"github.com/cidstore/cidstore/bucket"
	"github.com/cidstore/cidstore/gc"
	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/valueset"
	"github.com/cidstore/cidstore/wal"
)

// claim is room that a write has been promised and has not used yet.
type claim struct {
	records int64 // in the ring
	ops     int64 // in memory and in the tree's free space
}

// admission keeps account of the room that is promised to writers.
type admission struct {
	mu       sync.Mutex // guards the fields below
	claimed  claim
	most     int64     // records that may be claimed at once
	covered  int64     // pending operations whose growth the free space covers
	releases uint64    // claims released so far
	released sync.Cond // uses mu; signals that releases has grown
}

// admit waits until a write of these operations has room: in the ring, in
// memory, and in the tree's free space. Every wait ends, with room or with
// ErrNoSpace, ErrPoisoned or ErrClosed.
func (s *Store) admit(ops []wal.Op) (claim, error) {
	want := s.wants(ops)
	if most := s.ringRecords(s.opts.WALBytes) / 3; want.records > most {
		return claim{}, fmt.Errorf("batch of %d operations: %w: %d records including the end, want at most %d, a third of the log",
			len(ops), ErrTooLarge, want.records, most)
	}
	deletes, attempt := onlyDeletes(ops), 0
	for {
		if s.claim(want) {
			err := s.cover(deletes)
			if errors.Is(err, ErrNoSpace) && attempt > 0 {
				err = s.coverExactly(ops, err)
			}
			if err == nil {
				return want, nil
			}
			s.release(want)
			if !errors.Is(err, ErrNoSpace) {
				return claim{}, err
			}
			freed, freeErr := s.free(attempt)
			if freeErr != nil {
				return claim{}, freeErr
			}
			if !freed {
				return claim{}, err
			}
			attempt++
			continue
		}
		s.metrics.waits.Add(1)
		if err := s.makeRoom(want); err != nil {
			return claim{}, err
		}
	}
}

// wants returns the claim that a frame of these operations needs.
func (s *Store) wants(ops []wal.Op) claim {
	return claim{wal.RecordsFor(len(ops), s.opts.blockBytes), int64(len(ops))}
}

// claim promises want if there is room for it now, and reports whether there was.
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

// onlyDeletes reports whether none of the operations is an insert.
func onlyDeletes(ops []wal.Op) bool {
	for i := range ops {
		if ops[i].Code == wal.Insert {
			return false
		}
	}
	return true
}

// release gives a claim back.
func (s *Store) release(c claim) {
	s.admission.mu.Lock()
	defer s.admission.mu.Unlock()
	s.admission.claimed.records -= c.records
	s.admission.claimed.ops -= c.ops
	s.admission.releases++
	s.admission.released.Broadcast()
}

// noLimit leaves the ring as the only limit on claimed records.
const noLimit = math.MaxInt64

// limit sets how many records may be claimed at once, and waits until no more than
// that are claimed.
func (a *admission) limit(records int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.most = records
	for a.claimed.records > a.most {
		a.released.Wait()
	}
}

// awaitRelease waits until a claim has been released since releases was seen, or none
// is held. Writers that hold a claim wait only for the disk.
func (a *admission) awaitRelease(seen uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.releases == seen && a.claimed.records > 0 {
		a.released.Wait()
	}
}

// shortage is what a write has to wait for.
type shortage int

const (
	enough shortage = iota
	ringShort
	memoryShort
)

// shortOf returns what want has to wait for. admission.mu is held.
func (s *Store) shortOf(want claim) shortage {
	c := s.admission.claimed
	if min(s.log.Room(), s.admission.most)-c.records < want.records || want.records > s.log.Largest() {
		return ringShort
	}
	pending, need := s.pendingOps()+c.ops, want.ops*opBytes
	if need > s.opts.MemoryBudget {
		need = s.opts.MemoryBudget / 2 // or it could wait forever for a moment without other writers
	}
	if pending > 0 && pending*opBytes+need > s.opts.MemoryBudget {
		return memoryShort
	}
	return enough
}

// pendingOps returns the number of operations in memory that are not in the tree.
func (s *Store) pendingOps() int64 { return s.state.Load().pendingOps() }

func (st *state) pendingOps() int64 {
	n := int64(st.fresh.count.Load())
	if st.frozen != nil {
		n += int64(st.frozen.count.Load())
	}
	return n
}

// cover grows the file, before a write is logged, until its free space covers what
// the pending operations can add to the tree, and the reserve. Deletes on a full disk
// need neither.
func (s *Store) cover(deletes bool) error {
	s.admission.mu.Lock()
	defer s.admission.mu.Unlock()
	pending := s.pendingOps() + s.admission.claimed.ops
	if pending <= s.admission.covered {
		return nil
	}
	ahead, slice := pending+pending/8+64, s.smallestSlice()
	step, piece := s.step()
	least, piece := max(2*slice, step), max(piece, s.foldBytes())
	// While the disk has room, the file grows by what is usual. Once it is full, a write is
	// promised no more than there is: the bound.
	err := s.file.ReserveRoom(hdf5io.Room{Bytes: usualGrowth(ahead) + least + slice, Pieces: 4, Size: piece})
	if err == nil && !s.file.Full() {
		s.admission.covered = ahead
		return nil
	}
	pieces := 3
	if !deletes {
		least, pieces = least+slice, 4
	}
	added, nodes := s.growth(pending)
	err = s.file.ReserveRoom(roomOnAFullDisk(added, nodes, least, step, pieces, piece))
	if err == nil {
		s.admission.covered = pending
		return nil
	}
	// Deletes write entries of runs and shorter rows, which fit into gaps that are too
	// short to count as free. If a checkpoint finds no such gap, the deletes stay in the
	// log, where they were promised room.
	if deletes && errors.Is(err, ErrNoSpace) {
		return nil
	}
	return s.writeFailed(fmt.Errorf("write: %w", err))
}

// roomOnAFullDisk returns the room for what operations add, in bytes and nodes, and for a
// reserve. A step of the reserve must be in long extents, as the pieces; the rest may be in
// short ones, as nodes.
func roomOnAFullDisk(added, nodes, reserve, step int64, pieces int, piece int64) hdf5io.Room {
	return hdf5io.Room{Bytes: added + step, Short: nodes + (reserve-step)/hdf5io.ShortBytes, Pieces: pieces, Size: piece}
}

// coverExactly is cover for a write that holds a claim and for which a full disk has no room
// by the bound, as the error short says. It looks at the sets of the write's keys.
func (s *Store) coverExactly(ops []wal.Op, short error) error {
	s.checkpointing.Lock()
	defer s.checkpointing.Unlock()
	added, nodes, err := s.state.Load().view.growth(ops)
	if err != nil {
		return short
	}
	s.admission.mu.Lock()
	defer s.admission.mu.Unlock()
	if others := s.pendingOps() + s.admission.claimed.ops - int64(len(ops)); others > 0 {
		more, moreNodes := s.growth(others)
		added, nodes = added+more, nodes+moreNodes
	}
	step, piece := s.step()
	slice := s.smallestSlice()
	room := roomOnAFullDisk(added, nodes, max(2*slice, step)+slice, step, 4, max(piece, s.foldBytes()))
	if s.file.ReserveRoom(room) != nil {
		return s.writeFailed(short)
	}
	return nil
}

// growth is Store.growth for given operations. It looks at the sets of their keys.
func (v *view) growth(ops []wal.Op) (bytes, nodes int64, err error) {
	st := state{fresh: newTable(0, false), view: v}
	st.add(1, 0, ops)
	st.fresh.publish(wal.Seq(len(ops)))
	var entries, sets int64
	for left := newQueue(st.fresh, 0); left.len() > 0; {
		list := left.takeKey()
		o := list[0]
		entry, found, err := v.buckets.Find(v.directory.Bucket(o.hash), o.hash, o.key)
		if err != nil {
			return 0, 0, err
		}
		n, more, id, spilled := int64(entry.Count()+len(list)), int64(0), uint64(0), false
		if found {
			id, spilled = entry.Spilled()
		}
		switch {
		case spilled:
			values := make([]E, len(list))
			for i, o := range list {
				values[i] = o.value
			}
			slices.SortFunc(values, E.Compare)
			set, err := v.sets.Open(id, o.key)
			if err != nil {
				return 0, 0, err
			}
			if n, more, err = set.Added(values); err != nil {
				return 0, 0, err
			}
			bytes, sets, nodes = bytes+n, sets+1, nodes+more
		case n > valueset.Inline:
			n, more = valueset.Needs(n)
			bytes, sets, nodes, entries = bytes+n, sets+1, nodes+more, entries+1
		default:
			entries++
		}
	}
	return bytes + bucket.RunBytes(entries) + commitBytes + v.record.sets.Names(sets, nodes), nodes, nil
}

// free frees space for a write that found the disk full, by other means at each attempt; the
// first is 0. It reports whether there may be more space now.
func (s *Store) free(attempt int) (freed bool, err error) {
	switch attempt {
	case 0:
		return true, s.spare()
	case 1:
		return s.erase(s.life)
	}
	return false, nil
}

// spare frees all the space it can for a write that found the disk full. It puts the
// pending operations into the tree, where they need no cover. Then it writes over the
// older slot, which holds on to space that the tree no longer uses.
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

// usualGrowth is about what n pending operations add to the tree, in bytes: an entry of a run
// each, with a more row or its share of a set.
func usualGrowth(n int64) int64 { return bucket.RunBytes(n) + 2*commitBytes }

// growth returns bounds of the bytes and the nodes of values that n pending operations add
// to the tree, by a checkpoint of one slice that folds no group. docs/CRASH.md, "What
// operations add", has the reasons. Each operation adds an entry of a run, or less than
// that to a set.
func (s *Store) growth(n int64) (bytes, nodes int64) {
	st := s.state.Load()
	most, repeated := int64(st.fresh.distinct.Load()), int64(0)
	repeated = int64(st.fresh.count.Load()) - most
	if st.frozen != nil {
		frozen := int64(st.frozen.distinct.Load())
		repeated += int64(st.frozen.count.Load()) - frozen
		most = max(most, frozen)
	}
	return st.view.record.growth(n, min(most, n), max(n-repeated, 0))
}

// growth is Store.growth for n operations on at least most different keys, and on no more
// than keys.
func (r *record) growth(n, most, keys int64) (bytes, nodes int64) {
	sets, all := int64(r.sets.Sets-r.sets.Unused), int64(r.numKeys)
	// A key gets a set with its fifth value. One that has v values has v - 1 of them already,
	// and each operation but those on other keys may add one.
	more := min(int64(r.numValues)-all, (valueset.Inline-1)*max(all-sets, 0))
	promoted := min(keys, (n-most+more)/(valueset.Inline-1))
	bytes, nodes = r.sets.Growth(n, keys, promoted, int64(r.numValues+r.numTombstones))
	return bytes + bucket.RunBytes(n) + commitBytes, nodes
}

// commitBytes bounds what a commit that writes a run adds to headers: those of the run's four
// datasets, the links to them, and what attributes become longer.
const commitBytes = 8 << 10

// step bounds what the least commit of a checkpoint places, which changes one value of one
// key: all together, and the longest piece, in bytes. goAhead and slices of one group come
// down to it.
func (s *Store) step() (bytes, piece int64) { return s.state.Load().view.step() }

func (v *view) step() (bytes, piece int64) {
	bytes, piece, edits := v.record.sets.Step()
	row, more := gc.Step()
	maps.Copy(edits, more)
	change, freeMap := v.RoomToChange(edits)
	return bytes + row + bucket.RunBytes(1) + commitBytes + change, max(piece, freeMap)
}

// leastFree is what a commit of a checkpoint on a full disk leaves free, in bytes, unless it
// frees more than it takes: enough for the commits with which the next life begins, and for
// one that frees space.
func (s *Store) leastFree() int64 {
	bytes, _ := s.step()
	return bytes
}

// foldBytes returns about the most bytes that it takes to write a group again. That is
// the least that a checkpoint can fold at once. The space of the old group is free two
// commits later.
func (s *Store) foldBytes() int64 {
	return s.state.Load().view.record.foldBytes(uint64(s.pendingOps()))
}

func (r *record) foldBytes(pending uint64) int64 {
	g := bucket.NewGeometry(int(r.splitThreshold))
	keys := r.numKeys + pending
	entries := min(2*keys/r.groups()+64, keys+64, uint64(g.Capacity))
	if r.numValues > r.numKeys {
		entries *= 2 // for the more rows
	}
	return int64(entries) * bucket.EntrySize
}

// Bounds of smallestSlice, in bytes.
const (
	sliceShare = 32 // a slice is one part in so many of the live bytes
	leastSlice = 16 << 10
	mostSlice  = 2 << 20
)

// smallestSlice returns the least space that a checkpoint can work with, in bytes: a
// part of the live data, 16 KiB to 2 MiB, but no more than half the ring that the store
// started with. Opening it with a larger ring size does not make the reserve larger.
func (s *Store) smallestSlice() int64 {
	return s.sliceOf(int64(s.state.Load().view.record.walSize))
}

// sliceOf returns smallestSlice for a ring of size bytes.
func (s *Store) sliceOf(size int64) int64 {
	return min(max(min(s.liveBytes()/sliceShare, s.opts.startBytes/2, size/2), leastSlice), mostSlice)
}

// closedReserve returns the free space that Close leaves in the file, in bytes. It is a
// small part of the data, but enough for the commits of the next Open, and for its
// deletes, on a disk that is full by then. Deletes need room to fold a group.
func (s *Store) closedReserve() int64 {
	return s.state.Load().view.closedReserve(s.liveBytes(), s.foldBytes())
}

func (v *view) closedReserve(live, fold int64) int64 {
	step, _ := v.step()
	return min(max(live/64, max(3*leastSlice, step)+fold), 3*mostSlice)
}
