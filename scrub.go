package cidstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cidstore/cidstore/bucket"
	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/valueset"
	"github.com/cidstore/cidstore/wal"
)

// A scrub is the walk of Check in steps. Each step reads the root that is the newest at that
// moment, so a scrub that takes hours does not keep freed space from being used. Its place
// is a path and chunk, a hash, the number of a run, or a set id: what a commit moves, splits
// or merges between steps is either still to come or was just written. Only Check, which
// holds one root, can see whether each byte is used once and counts agree.

// ScrubReport says what a scrub has verified, what it mended, and what it could not mend.
type ScrubReport struct {
	Bytes     int64  // bytes verified; those under several checksums count once for each
	Corrected uint64 // state masks with one wrong bit, which reads correct
	Mended    uint64 // such masks that were written again: not all if the store is read-only or the disk full

	Defects     []error // the first 1,000 distinct places that cannot be mended
	DefectCount int     // of all
}

// Scrub verifies every checksum of the file once: those of HDF5 objects and their indexes,
// the directory, groups, runs, sets of values, the deletion log, and the log. It reads at
// most Options.ScrubRate bytes a second. It commits state masks with one wrong bit again,
// like any other change, unless the store is read-only or has failed. Everything else that
// is damaged stays as it is: an event names each place, and the error names all of them.
// The error matches ErrCorrupt, ErrTampered or ErrIO, and ErrNoSpace if the disk was too
// full to mend. Reads and writes go on. Scrub stops between two steps when ctx is done, or
// when the store is closed (ErrClosed); what is mended by then stays mended. The report
// says what was done, even with an error.
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

// scrub is one Scrub under way.
type scrub struct {
	ctx    context.Context
	store  *Store
	report ScrubReport
	damage damages
	pace   pace
	wait   func(time.Duration) error // sleep
	limit  int64                     // bytes of a step

	// Where the next step begins.
	place hdf5io.Place // of objects
	hash  uint64       // of groups
	slot  bucket.Place // of runs
	set   uint64
	value E // of that set

	groups []uint64        // hashes of groups with masks to be mended
	runs   []hdf5io.Commit // numbers of such runs
}

func newScrub(ctx context.Context, s *Store) *scrub {
	c := &scrub{ctx: ctx, store: s, pace: pace{rate: s.opts.ScrubRate}, limit: s.opts.stepBytes}
	c.wait = c.sleep
	return c
}

// run makes all steps, and notes a scrub that is complete.
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
	return c.commitJournal()
}

// commitJournal commits the journal's entry of the scrub at once, if the file can be
// written to.
func (c *scrub) commitJournal() error {
	s := c.store
	if !c.mends() {
		return nil
	}
	if err := s.giveWay(c.ctx); err != nil {
		return err
	}
	err := s.exclusively(s.recommit)
	if errors.Is(err, ErrNoSpace) {
		return nil // the next commit will have it
	}
	return err
}

// mends reports whether the scrub can mend: whether the store can be written to.
func (c *scrub) mends() bool { return !c.store.opts.ReadOnly && c.store.Failed() == nil }

// step reads one step of a part, mends what it found, and pauses.
func (c *scrub) step(part func(*view) (bool, int64)) (more bool, err error) {
	if err := c.ctx.Err(); err != nil {
		return false, err
	}
	more, read, err := c.read(part)
	if err != nil {
		return more, err
	}
	c.count(read)
	if err := c.mend(); err != nil {
		return more, err
	}
	return more, c.pause(read)
}

// read reads a step of a part from the newest root, and pins it only for that time.
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

// pause waits until the rate allows that many bytes.
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

// sleep waits for d, or until the scrub has to end.
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
	rate int64 // bytes a second; not bounded if 0 or less
	owed float64
	last time.Time
}

// spend notes that read bytes were read, and returns how long to wait before the next
// read. Time that was not used is not saved up, and a clock that is set back is ignored.
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

// waited notes a wait, whatever the clock says, so that a stopped clock stops no scrub.
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

// guarded runs a read. If mapped bytes cannot be read, it notes the damage and the read
// ends.
func (c *scrub) guarded(read func()) {
	if err := guard(func() error { read(); return nil }); err != nil {
		c.found(err)
	}
}

// objects is a step over the HDF5 objects and their chunks.
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
		before := k.Corrected()
		c.slot, more = k.Slot(c.slot)
		if k.Corrected() > before && (len(c.runs) == 0 || c.runs[len(c.runs)-1] != c.slot.Run) {
			c.runs = append(c.runs, c.slot.Run)
		}
	}
	c.report.Corrected += k.Corrected()
	return more, k.Read()
}

// stateBytes is about the size of the state of a set.
const stateBytes = 64

// sets is a step over all sets of values, in order of their ids, whichever key owns them.
// If Maintain gives a set another id during the scrub, only the next scrub may see it.
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

// loggedThrough returns the last sequence of the log; for a reader, the last one that it
// has read.
func (s *Store) loggedThrough() wal.Seq {
	if s.log == nil { // then checkpointing guards it
		s.checkpointing.Lock()
		defer s.checkpointing.Unlock()
	}
	return s.logEnd()
}

// mend writes again the groups and runs that have masks with one wrong bit, each in a
// commit. What cannot be written again is damage. An error ends the scrub: the store then
// takes no more writes.
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
	if err := c.store.giveWay(c.ctx); err != nil {
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

// mendGroup folds the group of a hash, if it has masks with one wrong bit, and returns how
// many they were.
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
		err = fmt.Errorf("group %d cannot be written again: too many of its hashes are alike", g.id)
	}
	return k.Corrected(), err
}

// scrubPoll is how often the background looks whether a scrub is due.
const scrubPoll = time.Minute

// scrubIfDue scrubs if more than the interval has passed since the last complete scrub
// that the journal knows of, even one of an earlier life, or since the store was made.
func (s *Store) scrubIfDue(ctx context.Context) error {
	now := s.opts.Clock().UnixNano()
	last := s.scrubTried.Load()
	if last == 0 {
		last = int64(s.state.Load().view.record.created)
	}
	if m, found := s.journal.newest(didScrub); found && (s.scrubTried.Load() == 0 || m.Time.UnixNano() > last) {
		last = m.Time.UnixNano()
	}
	// A time far ahead comes from a clock that was wrong.
	if passed := now - last; s.Failed() != nil || passed < int64(s.opts.ScrubInterval) && passed > -int64(s.opts.ScrubInterval) {
		return nil
	}
	s.scrubTried.Store(now)
	c := newScrub(ctx, s)
	return s.ended(c.run()) // events have named the damage
}
