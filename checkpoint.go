package cidstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"time"

	"github.com/cidstore/cidstore/bucket"
	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/vfs"
	"github.com/cidstore/cidstore/wal"
)

// Checkpoint puts everything acknowledged so far into the HDF5 tree and moves the
// log's tail. It stops between two slices when ctx is done.
func (s *Store) Checkpoint(ctx context.Context) error {
	return s.exclusively(func() error { return s.checkpointAll(ctx) })
}

// checkpointAll merges the frozen table, if an interrupted checkpoint has left one,
// and then the fresh table. checkpointing is held.
func (s *Store) checkpointAll(ctx context.Context) error { return s.checkpointPaced(ctx, atOnce) }

// checkpointPaced is checkpointAll that calls pause, which is giveWay or atOnce, before each
// slice.
func (s *Store) checkpointPaced(ctx context.Context, pause func(context.Context) error) error {
	if s.state.Load().frozen != nil {
		if err := s.mergeFrozen(ctx, pause); err != nil {
			return err
		}
	}
	if s.logEnd() == s.state.Load().view.record.lastApplied {
		return nil
	}
	s.freeze()
	return s.mergeFrozen(ctx, pause)
}

// checkpointIfDue checkpoints for the background, and for the write that made a
// checkpoint due. That write is in the log already, so it does not fail if the
// checkpoint does, which is an event. Nothing is lost. Later writers get an error if
// they need the room, or if the store is poisoned.
func (s *Store) checkpointIfDue(pause func(context.Context) error) {
	s.checkpointing.Lock()
	defer s.checkpointing.Unlock()
	if !s.checkpointDue() || s.Failed() != nil {
		return
	}
	grown, err := s.growRingIfFull()
	if grown {
		s.checkpointing.yield() // the room is for writers who wait in makeRoom
	}
	if err == nil || errors.Is(err, ErrNoSpace) {
		err = s.checkpointPaced(context.Background(), pause)
	}
	if err != nil {
		s.event("error", "operation", "checkpoint", "error", err)
	}
}

// logEnd returns the last sequence of the log or, until the store begins to write, the
// last one that was replayed.
func (s *Store) logEnd() wal.Seq {
	if s.log == nil {
		return s.replayed.End.Sequence
	}
	return s.log.Next() - 1
}

// freeze turns the fresh table into the frozen one, between two frames, when all frames
// are durable. checkpointing is held.
func (s *Store) freeze() {
	if s.promised() != nil { // the frozen table is to have all that was promised
		s.admission.limit(0)
		defer s.admission.limit(noLimit)
	}
	fresh := s.newTable(int(s.state.Load().fresh.count.Load()))
	s.frozenThrough = s.replayed.End
	if s.log != nil {
		resume := s.log.Pause()
		defer resume()
		s.frozenThrough = s.log.Mark()
	}
	st := s.state.Load()
	s.state.Store(&state{fresh: fresh, frozen: st.fresh, view: st.view})
}

// newTable makes a table of this store. Only that of a writable store is given back by
// freeTables; a reader may show another one with the View that it has.
func (s *Store) newTable(keys int) *table { return newTable(keys, !s.opts.ReadOnly) }

// outlived is a table that no state has had since the root of a commit.
type outlived struct {
	table *table
	since hdf5io.Commit
}

// freeTables gives back the memory of the tables that no reader looks at any more.
// checkpointing is held.
func (s *Store) freeTables() {
	held := s.file.OldestHeld()
	s.outlived = slices.DeleteFunc(s.outlived, func(o outlived) bool {
		if o.since > held {
			return false
		}
		o.table.free()
		return true
	})
}

// freeAll gives back the memory of all tables, including those of st, the last state. No
// reader is left.
func (s *Store) freeAll(st *state) {
	st.free()
	for _, o := range s.outlived {
		o.table.free()
	}
}

// free gives back the memory of the tables of a state.
func (st *state) free() {
	if st != nil {
		st.fresh.free()
		st.frozen.free()
	}
}

// checkpoint is one merge of a frozen table into the tree.
type checkpoint struct {
	store   *Store
	frozen  *table
	through wal.Mark
	ops     queue // what is left of the frozen operations
	folds   stretch
	folded  float64 // about how many entries the groups of folds have, including those that wait
	next    uint64  // hash after the last slice
	last    bool    // that was the last one
	keep    bool    // there is no room to fold any group, so everything goes into runs
	sure    *demand // what is left goes into one commit, for which this was promised
	done    structure
	scratch scratch // of its slices
}

// structure counts the changes of structure, for the log's summary and the metrics.
type structure struct {
	splits, merges, promotions, demotions, compactions uint64
	halvings                                           uint64 // of the directory; for the journal only
}

// mergeFrozen runs the slices of one checkpoint. If it fails, the slices that it has
// committed stay, and the next call goes on from there. checkpointing is held.
func (s *Store) mergeFrozen(ctx context.Context, pause func(context.Context) error) error {
	if err := s.notReplaced(); err != nil {
		return s.poisoned(err)
	}
	if err := s.trimRuns(); err != nil {
		return err
	}
	st := s.state.Load()
	c := &checkpoint{store: s, frozen: st.frozen, through: s.frozenThrough, next: st.view.record.sliceHash}
	began, count, large := s.opts.Clock(), int(st.frozen.count.Load()), false
	sorting := sortWork * float64(count)
	s.pacing.begin(began.UnixNano(), count, sorting+usualWork*float64(count))
	defer func() { s.pacing.end(large) }()
	c.ops = newQueue(st.frozen, st.view.record.sliceHash)
	defer vfs.Free(c.ops.places) // all of them, however many are left by then
	if err := guard(func() error { c.plan(st.view); return nil }); err != nil {
		return s.writeFailed(fmt.Errorf("checkpoint: %w", err))
	}
	ends, placed := c.begins(), s.metrics.placedBytes.Load()
	limit, paused, wentAhead := s.sliceLimit(), time.Duration(0), ^uint64(0)
	count = c.ops.len()
	work, sorted := sorting+c.work(), s.opts.Clock()
	large = int64(count) >= s.dueOps(st)/4 // a small one says little about others
	s.pacing.begin(began.UnixNano(), count, work)
	s.pacing.passed(sorted.UnixNano(), sorted.Sub(began).Nanoseconds(), sorting, work-sorting)
	for last := false; !last; {
		from := s.opts.Clock()
		if err := pause(ctx); err != nil {
			return fmt.Errorf("checkpoint: %w", err)
		}
		paused += s.opts.Clock().Sub(from)
		var err error
		last, err = c.slice(limit)
		switch {
		case err == nil:
			now, left := s.opts.Clock(), c.work()
			s.pacing.passed(now.UnixNano(), (now.Sub(began) - paused).Nanoseconds(), work-left, left)
			if err := s.trimRuns(); err != nil {
				return err
			}
		case errors.Is(err, ErrNoSpace) && c.sure == nil && limit > leastSlice:
			limit = max(limit/4, leastSlice)
		case errors.Is(err, ErrNoSpace) && !s.settled && c.sure == nil:
			if err := s.settle(); err != nil {
				return err
			}
		case errors.Is(err, ErrNoSpace) && c.ops.len() > 0 && c.ops.first() != wentAhead:
			wentAhead = c.ops.first()
			if err := c.goAhead(ctx); err != nil {
				return err
			}
		case errors.Is(err, ErrNoSpace) && !c.keep:
			limit = c.keepAll(limit)
		default:
			if errors.Is(err, ErrNoSpace) {
				s.breakPromise(err)
			}
			return s.writeFailed(fmt.Errorf("checkpoint: %w", err))
		}
	}
	s.metrics.checkpoints.Add(1)
	ends()
	s.placedEach = (s.metrics.placedBytes.Load() - placed) / max(uint64(count), leastSample)
	if err := s.settleMerged(st, count); err != nil {
		return err
	}
	return s.summarize(c.done)
}

// settleMerged writes the other slot too, which holds on to the count records that a
// checkpoint of st has merged, if these are a large part of the log.
func (s *Store) settleMerged(st *state, count int) error {
	if uint64(count)*wal.RecordSize < st.view.record.walSize/8 || s.settled {
		return nil
	}
	return s.settle()
}

// keepAll makes the rest go into runs, and into one commit if that is sure to find room. It
// returns the limit of the next slice, which is limit unless that commit is next.
func (c *checkpoint) keepAll(limit int64) int64 {
	if c.keep, c.sure = true, c.surely(); c.sure != nil {
		return math.MaxInt64
	}
	return limit
}

// A slice of a checkpoint is limited to a part of the live data, because the space that
// it replaces is free only two commits later. It may always place leastLongSlice bytes,
// so that it is worth its syncs.
const (
	sliceParts     = 16
	leastLongSlice = 4 << 20
)

// sliceLimit returns about how many bytes a slice places.
func (s *Store) sliceLimit() int64 {
	return min(s.opts.sliceBytes, max(s.liveBytes()/sliceParts, leastLongSlice))
}

// surely returns what the rest of the checkpoint needs in one commit, if that is promised, or
// there is room for it all the same; else nil.
func (c *checkpoint) surely() *demand {
	s := c.store
	if need := s.promised(); need != nil {
		return need
	}
	need, v := new(demand), s.state.Load().view
	err := guard(func() error { return need.countAll(v, c.ops) })
	if err != nil || s.file.ReserveRoom(need.room(v.View, &v.record)) != nil {
		return nil
	}
	return need
}

// writeFailed returns err, after poisoning the store if the file is poisoned. If the file was
// cut short or has no name any more, that is the error: it may be why another was met.
func (s *Store) writeFailed(err error) error {
	if err == nil {
		return nil
	}
	if lost := s.intact(); lost != nil {
		return s.poisoned(lost)
	}
	if s.file.Failed() != nil {
		s.poisoned(err)
	}
	return err
}

const (
	// waitingShare bounds the entries that may wait in runs to be folded into groups, as a
	// part of the number of keys. In a load of new keys 1.1 times as many entries wait for a
	// group as it has when its turn comes, and a new entry means that 1.3 are folded. An
	// entry that has been folded takes space in its run until the last group of the run is
	// folded.
	waitingShare = 0.3
	// tightShare replaces waitingShare when the disk is full: then space counts more than
	// time.
	tightShare = 0.02
	// manyRuns is the number of runs that count for a hash, on average, above which more
	// groups are folded, because reads become slow.
	manyRuns = 24.0
)

// plan decides which groups this checkpoint folds. It takes them in turn, as many as
// are needed so that no more entries wait after the checkpoint than may.
func (c *checkpoint) plan(v *view) {
	c.folds = stretch{start: v.record.foldHash}
	waiting, depth := v.buckets.Waiting()
	share := waitingShare
	if c.store.file.Tight() {
		share = tightShare
	}
	excess := float64(waiting) + float64(c.ops.len()) - share*float64(v.record.numKeys)
	// A read looks into every run that counts for its hash, and a root has no room for more
	// than MostRuns.
	if many := max(depth/manyRuns, 2*float64(v.buckets.Runs())/bucket.MostRuns); many > 1 {
		excess = max(excess, float64(waiting)*(many-1))
	}
	if excess <= 0 {
		return
	}
	for lap, from := range [...]uint64{c.folds.start, 0} {
		for g, err := range v.groups(from) {
			if excess <= 0 || lap > 0 && g.Prefix >= c.folds.start {
				break
			}
			waits := float64(c.takes(v, &g, err))
			excess -= waits
			c.folded += waits + float64(g.state.Entries)
			c.folds.size = g.Last() + 1 - c.folds.start
		}
	}
	c.folds.all = c.folds.size == 0 // the stretch goes once around the circle
}

// work returns how much of the checkpoint is left, in entries that are folded.
func (c *checkpoint) work() float64 {
	if c.last {
		return 0
	}
	return opWork*float64(c.ops.len()) + c.folded*(1-c.folds.below(c.next))
}

// takes returns about how many entries wait for a group, including the operations of
// this checkpoint. err is the error of reading its state; the fold of the group
// reports it.
func (c *checkpoint) takes(v *view, g *group, err error) int {
	n := c.ops.within(g.Prefix, g.Last())
	if err != nil {
		return n
	}
	return n + v.buckets.WaitingFor(&g.state, g.Last())
}

// slice merges operations from the front of c.ops, group by group, until about limit
// bytes are placed, and commits. last reports whether the whole table is in the tree.
func (c *checkpoint) slice(limit int64) (last bool, err error) {
	s := c.store
	if err := s.file.Reserve(min(limit, usualGrowth(int64(c.ops.len()))+s.smallestSlice())); err != nil && !errors.Is(err, ErrNoSpace) {
		return false, err
	}
	m, err := s.begin(&c.scratch)
	if err != nil {
		return false, err
	}
	defer m.tx.Abort()
	defer m.buckets.Free()
	switch {
	case c.sure != nil:
		m.tx.Surely(c.sure.total(m.base.View, &m.base.record))
	case s.file.Tight():
		limit = min(limit, m.tx.Longest()/2) // so that the new run is one piece
		m.tx.KeepFree(s.leastFree())
	}
	m.folds, m.keep, m.sure = c.folds, c.keep, c.sure != nil
	rest, err := m.run(c.ops, limit)
	if err != nil {
		return false, err
	}
	r := &m.record
	last = m.end
	if last {
		r.lastApplied, r.sliceThrough, r.sliceHash = c.through.Sequence, 0, 0
		r.foldHash = c.folds.start + c.folds.size
		r.epochs = wal.TrimEpochs(r.epochs, c.through)
	} else {
		r.sliceThrough, r.sliceHash = c.through.Sequence, m.next
	}
	frozen := c.frozen
	if last {
		frozen = nil
	}
	dropped, err := m.dropOldRing()
	if err != nil {
		return false, err
	}
	if err := s.commit(m, frozen); err != nil {
		return false, err
	}
	if dropped && s.log != nil {
		s.log.DropOld()
	}
	c.ops, c.next, c.last = rest, m.next, last
	c.done.add(m.done)
	return last, nil
}

func (a *structure) add(b structure) {
	a.splits += b.splits
	a.merges += b.merges
	a.promotions += b.promotions
	a.demotions += b.demotions
	a.compactions += b.compactions
}

// commit finishes the transaction and publishes its View to readers. They see tables
// and View of one moment, because one pointer holds them all. checkpointing is held.
func (s *Store) commit(m *merge, frozen *table) error {
	if err := guard(m.flush); err != nil {
		return err
	}
	return s.publish(m, frozen)
}

// publish commits a merge that is flushed already.
func (s *Store) publish(m *merge, frozen *table) error {
	m.record.watermark = max(m.record.watermark, s.watermark())
	if err := writeConfig(m.tx, &m.record, m.commit); err != nil {
		return err
	}
	if err := m.writeJournal(s.journal.list()); err != nil {
		return err
	}
	s.keepPromise(m, frozen)
	root, err := m.tx.Commit(m.record.append(nil))
	if err != nil {
		return err
	}
	var next *view
	err = guard(func() (err error) { next, err = s.openView(root, m.record, m.directory.Done()); return err })
	if err != nil {
		return s.poisoned(s.writeFailed(err))
	}
	older, before := m.base.record.lastApplied, s.state.Load()
	s.admission.mu.Lock()
	s.state.Store(&state{fresh: before.fresh, frozen: frozen, view: next})
	if before.frozen != frozen {
		s.admission.promise.need = demand{}
		s.outlived = append(s.outlived, outlived{before.frozen, root.Commit()})
	}
	s.admission.mu.Unlock()
	root.Adopted()
	s.freeTables()
	s.settled = false
	s.movedTo(older)
	if s.log != nil {
		s.upkeep.passed.Store(s.log.Stats().Groups)
	}
	s.clearedRows += m.cleared
	s.handledRows -= min(s.handledRows, m.cleared)
	s.leftDead = min(s.leftDead, m.record.numTombstones)
	if m.cleared > m.handled || m.unlogged > 0 {
		s.note(slog.LevelDebug, "deletions dropped", "rows", m.cleared+m.unlogged)
	}
	if m.record.numDeletions > m.record.mostDeletions()/2 {
		s.needCollection()
	}
	s.count(m)
	s.metrics.commits.Add(1)
	s.metrics.placedBytes.Add(uint64(m.placed))
	return nil
}

// movedTo moves the log's tail to after applied, because neither slot needs the records up
// to it.
func (s *Store) movedTo(applied wal.Seq) {
	s.olderApplied.Store(uint64(applied))
	if s.log != nil {
		s.log.Truncate(applied)
	}
	s.admission.mu.Lock()
	s.admission.covered = 0
	s.admission.mu.Unlock()
}

// watermark returns the highest sequence that is known to be durable.
func (s *Store) watermark() wal.Seq {
	if s.log == nil {
		return s.replayed.Watermark
	}
	return s.log.Watermark()
}

// settle writes the other slot too, which frees the log's tail and the space of the
// root before at once. checkpointing is held.
func (s *Store) settle() error {
	if err := s.file.Settle(); err != nil {
		return s.writeFailed(fmt.Errorf("settle: %w", err))
	}
	s.settled = true
	s.movedTo(s.state.Load().view.record.lastApplied)
	return nil
}

// summarize logs one frame that reports what a checkpoint did to the structure. If
// the log has no room for it, it is left out.
func (s *Store) summarize(done structure) error {
	var ops []wal.Op
	for _, c := range []struct {
		code  wal.Opcode
		count uint64
	}{
		{wal.Split, done.splits}, {wal.Merge, done.merges}, {wal.Promote, done.promotions},
		{wal.Demote, done.demotions}, {wal.Compact, done.compactions},
	} {
		if c.count > 0 {
			ops = append(ops, wal.Op{Code: c.code, Value: E{Low: c.count}})
		}
	}
	if len(ops) == 0 || s.log == nil {
		return nil
	}
	select {
	case <-s.stop: // this is the checkpoint of Close
		return nil
	default:
	}
	want := claim{records: wal.RecordsFor(len(ops), s.opts.blockBytes)}
	s.admission.mu.Lock()
	short := s.shortOf(want)
	if short == enough {
		s.admission.claimed.records += want.records
	}
	s.admission.mu.Unlock()
	if short != enough {
		return nil
	}
	defer s.release(want)
	_, err := s.append(ops)
	return err
}

// makeRoom takes one step toward the room that want needs. It returns an error if there
// is no step left, or if the step failed.
func (s *Store) makeRoom(want claim) error {
	s.checkpointing.Lock()
	defer s.checkpointing.Unlock()
	if err := s.Failed(); err != nil {
		return err
	}
	s.admission.mu.Lock()
	short, claimed, seen := s.shortOf(want), s.admission.claimed.records, s.admission.releases
	s.admission.mu.Unlock()
	if short == enough {
		return nil // another writer made room while this one waited
	}
	if short == ringShort {
		if grown, err := s.growRingFor(want.records); grown || err != nil {
			return err
		}
	}
	if s.logEnd() != s.state.Load().view.record.lastApplied {
		return s.checkpointAll(context.Background())
	}
	if wal.Seq(s.olderApplied.Load()) != s.state.Load().view.record.lastApplied {
		return s.settle()
	}
	if claimed > 0 { // others had the room, and are about to use it
		s.admission.awaitRelease(seen)
		return nil
	}
	return fmt.Errorf("log of %d bytes has no room for %d records: %w",
		s.state.Load().view.record.walSize, want.records, ErrNoSpace)
}
