package cidstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/valueset"
	"github.com/cidstore/cidstore/wal"
)

// A scrub is the walk of Check in steps: each is a read of its own, of the root that is
// the newest then, so that a scrub of hours keeps no space from being used again. It goes
// on by path and chunk, by hash, by number of a run and by set id: what a commit moves,
// splits or merges in that time is either still to come or was just written. Whether each byte
// is used once, and counts agree, only Check can see, which holds one root.

// ScrubReport says what a scrub has verified, and what became of it.
type ScrubReport struct {
	Bytes     int64  // verified
	Corrected uint64 // state masks with one wrong bit, which reads correct
	Mended    uint64 // of these, written again; less where the store is read-only or the disk is full

	Defects     []error // what cannot be mended, distinct, the first 1,000
	DefectCount int
}

// Scrub verifies every checksum of the file once: HDF5 objects and their indexes, the
// directory, groups, runs, sets of values, the deletion log, and the log. It reads at most
// Options.ScrubRate bytes a second. State masks with one wrong bit are written again, by
// commits as of any other change, unless the store is read-only or failed. Everything else
// that is damaged stays as it is: an event names each place, and the error all of them. It
// matches ErrCorrupt, ErrTampered or ErrIO, and ErrNoSpace where the disk was too full to
// mend. Reads and writes go on. It stops between two steps when ctx is done, or
// the store is closed (ErrClosed); what is mended by then stays mended. The report says
// what was done, also with an error.
func (s *Store) Scrub(ctx context.Context) (ScrubReport, error) {
	ctx, cancel := s.during(ctx)
	defer cancel()
	c := newScrub(ctx, s)
	err := c.run()
	c.report.Defects, c.report.DefectCount = c.damage.Defects, c.damage.Count
	if err == nil {
		err = c.damage.err()
	}
	return c.report, s.ended(err)
}

// scrub is one under way.
type scrub struct {
	ctx    context.Context
	store  *Store
	report ScrubReport
	damage damages
	pace   pace
	wait   func(time.Duration) error // sleep
	limit  int64                     // bytes of a step

	place  hdf5io.Place // of objects, where the next step begins
	hash   uint64       // of groups
	number uint64       // of runs
	slot   int          // of that run
	set    uint64
	value  E // of that set

	groups []uint64 // hashes of groups with masks to be mended
	runs   []uint64 // numbers of such runs
}

func newScrub(ctx context.Context, s *Store) *scrub {
	c := &scrub{ctx: ctx, store: s, pace: pace{rate: s.opts.ScrubRate}, limit: s.opts.stepBytes}
	c.wait = c.sleep
	return c
}

// run makes all steps, and notes a scrub that came to its end.
func (c *scrub) run() error {
	s, began := c.store, c.store.opts.Clock()
	for _, part := range []func(*view) (more bool, read int64){c.objects, c.buckets, c.waiting, c.sets} {
		for more := true; more; {
			var err error
			if more, err = c.step(part); err != nil {
				return err
			}
		}
	}
	if err := c.log(); err != nil {
		return err
	}
	took := s.opts.Clock().Sub(began)
	s.metrics.scrubs.Add(1)
	s.maintained(didScrub, uint64(c.damage.Count), took)
	s.note(slog.LevelInfo, "scrub", "bytes", c.report.Bytes, "corrected", c.report.Corrected,
		"mended", c.report.Mended, "defects", c.damage.Count)
	return c.keep()
}

// keep has the file say at once that it was scrubbed, if it can be written to.
func (c *scrub) keep() error {
	s := c.store
	if !c.mends() {
		return nil
	}
	err := s.exclusively(func() error { return s.writeFailed(s.change(func(*merge) error { return nil })) })
	if errors.Is(err, ErrNoSpace) {
		return nil // the next commit says it
	}
	return err
}

// mends reports whether the store can be written to.
func (c *scrub) mends() bool { return !c.store.opts.ReadOnly && c.store.Failed() == nil }

// step is one read of a part, what is to be mended after it, and a pause.
func (c *scrub) step(part func(*view) (bool, int64)) (more bool, err error) {
	if err := c.ctx.Err(); err != nil {
		return false, err
	}
	more, read, err := c.read(part)
	if err == nil {
		c.count(read)
		err = c.mend()
	}
	if err == nil {
		err = c.pause(read)
	}
	return more, err
}

// read reads a step of a part from the newest root, which is pinned for no longer.
func (c *scrub) read(part func(*view) (bool, int64)) (more bool, read int64, err error) {
	r, pin, err := c.store.acquire()
	if err != nil {
		return false, 0, err
	}
	defer r.view.Unpin(pin)
	more, read = part(r.view)
	return more, read, nil
}

func (c *scrub) count(read int64) {
	c.report.Bytes += read
	c.store.metrics.scrubbedBytes.Add(uint64(read))
}

// pause waits until so many bytes may have been read.
func (c *scrub) pause(read int64) error {
	wait := c.pace.spend(c.store.opts.Clock(), read)
	if wait > 0 {
		if err := c.wait(wait); err != nil {
			return err
		}
		c.pace.waited(c.store.opts.Clock(), wait)
	}
	return c.ctx.Err()
}

// sleep waits, until the scrub is to end.
func (c *scrub) sleep(d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-c.ctx.Done():
		return c.ctx.Err()
	case <-timer.C:
		return nil
	}
}

// pace is how far reads are ahead of their rate.
type pace struct {
	rate int64 // bytes a second; 0 or less: no bound
	owed float64
	last time.Time
}

// spend notes that so many bytes were read, and returns how long the next ones have to
// wait. Time that was not used counts for nothing, nor does a clock that is set back.
func (p *pace) spend(now time.Time, read int64) time.Duration {
	if p.rate <= 0 {
		return 0
	}
	if passed := now.Sub(p.last); passed > 0 {
		p.owed = max(p.owed-passed.Seconds()*float64(p.rate), 0)
	}
	p.last = now
	p.owed += float64(read)
	if p.owed < 1 {
		return 0
	}
	return max(time.Duration(p.owed/float64(p.rate)*float64(time.Second)), time.Nanosecond)
}

// waited notes a wait, whatever the clock says of it: one that stands still stops nothing.
func (p *pace) waited(now time.Time, d time.Duration) {
	p.owed = max(p.owed-d.Seconds()*float64(p.rate), 0)
	p.last = now
}

// found notes damage, each place once.
func (c *scrub) found(err error) {
	before := c.damage.Count
	c.damage.add(err)
	if c.damage.Count == before {
		return
	}
	c.store.metrics.scrubDefects.Add(uint64(c.damage.Count - before))
	if before < maxDefects {
		c.store.note(slog.LevelError, "damage", "error", err)
	}
}

// guarded runs a read. Mapped bytes that cannot be read are damage, and end it.
func (c *scrub) guarded(read func()) {
	if err := guard(func() error { read(); return nil }); err != nil {
		c.found(err)
	}
}

// objects is a step over what HDF5 knows of.
func (c *scrub) objects(v *view) (more bool, read int64) {
	c.place, more, read = v.View.CheckPart(c.ctx, c.place, c.limit, c.found)
	return more, read
}

// buckets is a step over groups, in order of their hashes.
func (c *scrub) buckets(v *view) (more bool, read int64) {
	k := &check{view: v, report: new(CheckReport), groups: v.buckets.NewChecker(c.found)}
	for run := range v.directory.From(c.hash) {
		before := k.groups.Corrected()
		c.guarded(func() { k.group(run, c.found) })
		if k.groups.Corrected() > before {
			c.groups = append(c.groups, run.Prefix)
		}
		c.hash = run.Last() + 1
		if more = c.hash != 0; k.groups.Read() >= c.limit {
			break
		}
	}
	c.report.Corrected += k.groups.Corrected()
	return more, k.groups.Read()
}

// waiting is a step over runs, in order of their numbers.
func (c *scrub) waiting(v *view) (more bool, read int64) {
	k := v.buckets.NewChecker(c.found)
	for more = true; more && k.Read() < c.limit; {
		before, run := k.Corrected(), uint64(0)
		run, c.number, c.slot, more = k.Slot(c.number, c.slot)
		if k.Corrected() > before && (len(c.runs) == 0 || c.runs[len(c.runs)-1] != run) {
			c.runs = append(c.runs, run)
		}
	}
	c.report.Corrected += k.Corrected()
	return more, k.Read()
}

// stateBytes is about what the state of a set has.
const stateBytes = 64

// sets is a step over sets of values, in order of their ids: all of them, whoever owns
// them. One to which Maintain gives another id in that time may be left to the next scrub.
func (c *scrub) sets(v *view) (more bool, read int64) {
	visit := func(o valueset.Owned) bool {
		read += o.Size()
		return read < c.limit
	}
	for all := min(v.record.sets.Sets, v.sets.States()); c.set < all; {
		var next *E
		read += stateBytes
		c.guarded(func() { next = v.sets.CheckPart(c.set, c.value, visit, c.found) })
		if next != nil {
			c.value = *next
			return true, read
		}
		c.set, c.value = c.set+1, E{}
		if read >= c.limit {
			return c.set < all, read
		}
	}
	return false, read
}

// log verifies the log, all of it at once.
func (c *scrub) log() error {
	s := c.store
	r, pin, err := s.acquire()
	if err != nil {
		return err
	}
	applied := r.view.record.lastApplied
	r.view.Unpin(pin)
	if s.opts.emptyLog {
		return nil
	}
	err = s.AuditWAL(0)
	if errors.Is(err, ErrClosed) {
		return err
	}
	if err != nil {
		c.found(fmt.Errorf("log: %w", err))
	}
	c.count(wal.Bytes(int64(s.loggedThrough()-min(applied, s.loggedThrough())), s.opts.blockBytes))
	return c.ctx.Err()
}

// loggedThrough is the last sequence of the log; of a reader, as far as it has read.
func (s *Store) loggedThrough() uint64 {
	if s.log != nil {
		return s.log.Next() - 1
	}
	s.checkpointing.Lock()
	defer s.checkpointing.Unlock()
	return s.replayed.End.Sequence
}

// mend writes again what was met with masks of which one bit is wrong, a commit each.
// What cannot be written again is damage. An error ends the scrub: nothing can be.
func (c *scrub) mend() error {
	groups, runs := c.groups, c.runs
	c.groups, c.runs = nil, nil
	if !c.mends() {
		return nil
	}
	for _, hash := range groups {
		if err := c.mendOne(fmt.Sprintf("group of hash %#x", hash), func(m *merge) (uint64, error) { return m.mendGroup(hash) }); err != nil {
			return err
		}
	}
	for _, number := range runs {
		if err := c.mendOne(fmt.Sprintf("run %d", number), func(m *merge) (uint64, error) { return m.buckets.MendRun(number) }); err != nil {
			return err
		}
	}
	return nil
}

// errNothing ends a change that has nothing to change.
var errNothing = errors.New("nothing to mend")

func (c *scrub) mendOne(what string, mend func(*merge) (uint64, error)) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	s, began, mended := c.store, c.store.opts.Clock(), uint64(0)
	err := s.exclusively(func() error {
		if err := s.file.Reserve(s.smallestSlice() + s.foldBytes()); err != nil && !errors.Is(err, ErrNoSpace) {
			return s.writeFailed(err)
		}
		return s.writeFailed(s.change(func(m *merge) error {
			return guard(func() (err error) {
				if mended, err = mend(m); err == nil && mended == 0 { // somebody else has written it again
					err = errNothing
				}
				return err
			})
		}))
	})
	switch {
	case errors.Is(err, errNothing):
	case err == nil:
		c.report.Mended += mended
		s.metrics.mendedMasks.Add(mended)
		s.maintained(didMend, mended, s.opts.Clock().Sub(began))
		s.note(slog.LevelInfo, "mend", "place", what, "masks", mended)
	case errors.Is(err, ErrClosed), s.Failed() != nil:
		return err
	default:
		c.found(fmt.Errorf("mend %s: %w", what, err))
	}
	return nil
}

// mendGroup folds the group of a hash, if it has masks of which one bit is wrong, and
// returns how many these were.
func (m *merge) mendGroup(hash uint64) (mended uint64, err error) {
	g, err := m.base.group(hash)
	if err != nil {
		return 0, err
	}
	k := m.base.buckets.NewChecker(func(error) {}) // Fold names what is wrong
	k.Group(g.id)
	if k.Corrected() == 0 {
		return 0, nil
	}
	m.changes = m.changes[:0]
	folded, err := m.fold(&g)
	if err == nil && !folded {
		err = fmt.Errorf("group %d: too many hashes are alike for it to be written again", g.id)
	}
	return k.Corrected(), err
}

// scrubPoll is how often the background looks whether a scrub is due.
const scrubPoll = time.Minute

// scrubs is the state of the scrubs in the background.
type scrubs struct {
	tried atomic.Int64 // when the last one began, ns since 1970; 0: none has
}

// scrubIfDue scrubs if the last whole scrub that the journal knows of, or the making of
// the store, lies longer back than the interval: also when that was in another life.
func (s *Store) scrubIfDue(ctx context.Context) error {
	now := s.opts.Clock().UnixNano()
	last := s.scrubs.tried.Load()
	if last == 0 {
		last = int64(s.state.Load().view.record.created)
	}
	if m, found := s.journal.newest(didScrub); found && (s.scrubs.tried.Load() == 0 || m.Time.UnixNano() > last) {
		last = m.Time.UnixNano()
	}
	// A time far ahead is of a clock that was wrong.
	if passed := now - last; s.Failed() != nil || passed < int64(s.opts.ScrubInterval) && passed > -int64(s.opts.ScrubInterval) {
		return nil
	}
	s.scrubs.tried.Store(now)
	c := newScrub(ctx, s)
	return s.ended(c.run()) // events have named the damage
}
