package cidstore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/cidstore/cidstore/bucket"
	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/invariants"
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
	promise  promise   // to them, on a full disk
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
			err := s.cover(ops, deletes)
			if err == nil {
				return want, nil
			}
			s.release(want)
			freed, freeErr := true, error(nil)
			switch {
			case errors.Is(err, errOthersFirst):
				freeErr = s.spare()
			case errors.Is(err, ErrNoSpace):
				freed, freeErr = s.free(attempt)
				attempt++
			default:
				return claim{}, err
			}
			if freeErr != nil {
				return claim{}, freeErr
			}
			if !freed {
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
	const each = opBytes + keyBytes
	pending, need := s.state.Load().pendingBytes()+c.ops*each, want.ops*each
	if need > s.opts.MemoryBudget {
		need = s.opts.MemoryBudget / 2 // or it could wait forever for a moment without other writers
	}
	if pending > 0 && pending+need > s.opts.MemoryBudget {
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

// pendingBytes returns the memory of the operations that are not in the tree.
func (st *state) pendingBytes() int64 {
	n := st.fresh.bytes()
	if st.frozen != nil {
		n += st.frozen.bytes()
	}
	return n
}

// cover grows the file, before a write is logged, until its free space covers what
// the pending operations can add to the tree, and the reserve. The caller holds a claim.
func (s *Store) cover(ops []wal.Op, deletes bool) error {
	s.admission.mu.Lock()
	defer s.admission.mu.Unlock()
	pending := s.pendingOps() + s.admission.claimed.ops
	if pending <= s.admission.covered {
		return nil
	}
	ahead, slice := pending+pending/8+64, s.smallestSlice()
	step := s.step()
	room := hdf5io.Room{Pieces: 4, Size: max(step.Piece, s.foldBytes())}
	room.Bytes = usualGrowth(ahead) + max(2*slice, step.Bytes) + slice
	err := s.file.ReserveRoom(room)
	switch {
	case err != nil && !errors.Is(err, ErrNoSpace):
		return s.writeFailed(fmt.Errorf("write: %w", err))
	case err == nil && !s.file.Full() && !s.admission.promise.outstanding():
		s.admission.covered, s.admission.promise.holds = ahead, false
		return nil
	}
	// While the disk has room, the file grows by what is usual. Once it is full, a write is
	// promised no more than there is.
	s.admission.covered = 0
	room.Bytes, room.Short = step.Bytes, (max(2*slice, step.Bytes)+slice-step.Bytes)/hdf5io.ShortBytes
	return s.coverOnAFullDisk(ops, deletes, room)
}

// promise says what is promised on a full disk: that one commit surely finds room for all
// pending operations, among which are inserts. docs/CRASH.md, "What is promised on a full
// disk", has the proof.
type promise struct {
	holds bool
	need  demand // of all pending operations; none: all that was promised is in the tree
}

// outstanding reports whether operations that are not in the tree have the promise.
func (p *promise) outstanding() bool { return p.holds && p.need != demand{} }

// errOthersFirst: what is pending has to be in the tree before a write can be admitted.
var errOthersFirst = errors.New("pending operations come first")

// coverOnAFullDisk extends the promise by a write, if the disk also has room for the reserve.
// Deletes need neither promise nor reserve: they stay in the log if a checkpoint finds no room
// for them. But they must not break a promise. admission.mu is held.
func (s *Store) coverOnAFullDisk(ops []wal.Op, deletes bool, reserve hdf5io.Room) error {
	p, frozen := &s.admission.promise, s.state.Load().frozen != nil
	if others := s.pendingOps() + s.admission.claimed.ops - int64(len(ops)); others == 0 {
		*p = promise{holds: !frozen} // else there was no room for a commit that changes nothing
	}
	switch {
	case deletes && !p.outstanding():
		p.holds = false
		return nil
	case !p.holds:
		return fmt.Errorf("write: operations for which the full disk may have no room come first: %w", ErrNoSpace)
	case frozen:
		return errOthersFirst
	}
	r, pin, err := s.acquire()
	if err != nil {
		return err
	}
	defer r.view.Unpin(pin)
	need := p.need
	if err := guard(func() error { return need.count(r.view, ops) }); err != nil {
		if deletes {
			return errOthersFirst
		}
		return fmt.Errorf("write on a full disk: %w", err)
	}
	room := need.room(r.view.View, &r.view.record)
	if !deletes {
		reserve.Bytes, reserve.Commit = reserve.Bytes+room.Commit.Bytes, room.Commit
		room = reserve
	}
	err = s.file.ReserveRoom(room)
	switch {
	case err == nil:
		p.need = need
		return nil
	case deletes && errors.Is(err, ErrNoSpace):
		return errOthersFirst
	}
	return s.writeFailed(fmt.Errorf("write: %w", err))
}

// promised returns what is promised to operations that are not in the tree, or nil.
func (s *Store) promised() *demand {
	s.admission.mu.Lock()
	defer s.admission.mu.Unlock()
	if p := s.admission.promise; p.outstanding() {
		return &p.need
	}
	return nil
}

// keepPromise makes the commit of m leave the room that is promised, unless it puts the last
// pending operations into the tree: then the state that follows has no frozen table.
func (s *Store) keepPromise(m *merge, frozen *table) {
	need := s.promised()
	if need == nil || s.state.Load().frozen != nil && frozen == nil {
		return
	}
	m.tx.KeepRoom(func(root *hdf5io.View) hdf5io.Room { return need.room(root, &m.record) })
}

// breakPromise notes that a checkpoint found no room. Inserts are refused then until
// another one does.
func (s *Store) breakPromise(err error) {
	if s.promised() != nil && invariants.Enabled {
		panic(fmt.Sprintf("cidstore: a checkpoint finds no room for what was promised: %v", err))
	}
	s.admission.mu.Lock()
	defer s.admission.mu.Unlock()
	s.admission.promise = promise{}
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

// leastFree is what a commit of a checkpoint on a full disk leaves free, in bytes, unless it
// frees more than it takes: enough for the commits with which the next life begins, and for
// one that frees space.
func (s *Store) leastFree() int64 {
	return s.step().Bytes
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
	return min(max(live/64, max(3*leastSlice, v.record.step(v.View).Bytes)+fold), 3*mostSlice)
}
