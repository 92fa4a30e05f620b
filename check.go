package cidstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"sync"

	"github.com/cidstore/cidstore/bucket"
	"github.com/cidstore/cidstore/directory"
	"github.com/cidstore/cidstore/gc"
	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/valueset"
	"github.com/cidstore/cidstore/wal"
)

// CheckReport says what Check read and every defect it found.
type CheckReport struct {
	Commit    uint64 // number of the root that was checked
	Figures          // as Check counted them
	Deletions uint64 // rows of the deletion log
	Objects   int    // HDF5 groups and datasets
	Chunks    uint64 // of all datasets
	LogFrames int    // complete batches in the log, verified
	UsedBytes int64  // bytes of the file that the root reaches, including the log
	FreeBytes int64

	Defects     []error // the first maxDefects of them
	DefectCount int
}

// maxDefects bounds how many defects of a ruined file a report keeps.
const maxDefects = 1000

// add notes one defect.
func (r *CheckReport) add(err error) {
	r.DefectCount++
	if len(r.Defects) < maxDefects {
		r.Defects = append(r.Defects, err)
	}
}

// Check reads everything that the present root reaches, and the log, and verifies every
// checksum and every invariant: the HDF5 objects and their indexes, that each byte is
// either used once or free once, the directory, buckets, sets, counts and the log's
// chain. It repairs nothing and may run while others write. One goroutine checks a small
// store, and up to half as many more as there are processors check a large one. Check stops
// when ctx is done, or when the store is closed (ErrClosed). The report is never nil. The
// error is nil only if there is no defect; an error for defects matches ErrCorrupt and
// wraps the first of them.
func (s *Store) Check(ctx context.Context) (*CheckReport, error) { return s.check(ctx, noProgress) }

// check is Check with progress, which is called with about the number of bytes checked
// so far and the total. It estimates the number from the part of all hashes that is done.
func (s *Store) check(ctx context.Context, progress func(done, total int64)) (*CheckReport, error) {
	report := new(CheckReport)
	ctx, cancel := s.during(ctx)
	defer cancel()
	v, err := s.Snapshot()
	if err != nil {
		return report, err
	}
	defer v.Close()
	report.Commit = uint64(v.view.Commit())
	c := newCheck(ctx, v.view, report)
	if err := v.guard(func() error { return c.tree(progress) }); errors.Is(err, ErrSnapshotExpired) {
		return report, ErrClosed
	} else if err != nil {
		report.add(err)
	}
	keys, values, err := v.beyondTree(ctx)
	report.Keys += keys
	report.Values += values
	if err != nil && report.DefectCount == 0 && ctx.Err() == nil {
		report.add(err)
	}
	_ = v.Close() // a commit may wait for the snapshot, and checkLog for the commit
	if report.LogFrames, err = s.checkLog(); errors.Is(err, ErrClosed) {
		return report, err
	} else if err != nil {
		report.add(err)
	}
	if err := ctx.Err(); err != nil {
		return report, s.ended(err)
	}
	if report.DefectCount == 0 {
		return report, nil
	}
	err = fmt.Errorf("check: defects: %d, the first: %w", report.DefectCount, report.Defects[0])
	if !errors.Is(err, ErrCorrupt) { // the log's chain does not match, or a read failed
		err = fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return report, err
}

// checkLog calls verifyLog, unless the store is closed.
func (s *Store) checkLog() (frames int, err error) {
	s.closing.RLock()
	defer s.closing.RUnlock()
	if s.closed {
		return 0, ErrClosed
	}
	return s.verifyLog()
}

// verifyLog verifies every live batch of the log and returns how many there are. A
// read-only store reads the log as Refresh does, even while a writer overwrites it, but
// does not show what it reads. closing is held.
func (s *Store) verifyLog() (frames int, err error) {
	s.checkpointing.Lock() // the tail stays where it is
	defer s.checkpointing.Unlock()
	if s.log == nil {
		if s.opts.emptyLog {
			return 0, nil
		}
		found, salvaged, err := s.readAfter(s.state.Load().view)
		defer found.state.free()
		return found.report.Frames, errors.Join(err, salvaged)
	}
	err = s.log.Replay(func(wal.Frame) error { frames++; return nil })
	return frames, err
}

// check walks one root, or a part of it.
type check struct {
	ctx    context.Context
	view   *view
	report *CheckReport

	groups *bucket.Checker
	sets   map[uint64]bool // ids that keys name
	owned  uint64          // chunks of /values that sets own
}

func newCheck(ctx context.Context, v *view, report *CheckReport) *check {
	return &check{ctx: ctx, view: v, report: report, groups: v.buckets.NewChecker(report.add), sets: make(map[uint64]bool)}
}

func (c *check) tree(progress func(done, total int64)) error {
	stats, _ := c.view.View.Check(c.ctx, c.report.add) // the report has its error: the first defect
	c.report.Objects, c.report.Chunks = stats.Groups+stats.Datasets, stats.Chunks
	c.report.UsedBytes, c.report.FreeBytes = stats.Used, stats.Free
	return c.contents(progress)
}

// contents checks what the HDF5 objects hold.
func (c *check) contents(progress func(done, total int64)) error {
	c.report.WaitingEntries, _ = c.view.buckets.Waiting()
	c.report.Runs = c.view.buckets.Runs()
	if err := c.inParts(c.view.goroutines(), progress); err != nil || c.ctx.Err() != nil {
		return err // Check itself reports that ctx is done
	}
	c.groups.Finish()
	c.unusedSets()
	c.deletions()
	if _, err := readJournal(c.view.View); err != nil {
		c.report.add(err)
	}
	if c.ctx.Err() == nil {
		c.counts()
	}
	return nil
}

// groupsPerPart is how many groups are worth one more goroutine.
const groupsPerPart = 64

// goroutines is how many of them should share the reading of all groups: one, and up to
// half as many more as there are processors.
func (v *view) goroutines() int {
	return 1 + min(runtime.GOMAXPROCS(0)/2, int(v.record.groups()/groupsPerPart))
}

// inParts checks the groups with their sets, and the runs, divided into parts that are
// checked at the same time. The error names the parts whose bytes could not be read.
func (c *check) inParts(parts int, progress func(done, total int64)) error {
	done := checkProgress{size: c.view.EndOfFile(), progress: progress}
	list, errs := make([]*check, parts), make([]error, parts)
	var all sync.WaitGroup
	for i := range list {
		list[i] = newCheck(c.ctx, c.view, new(CheckReport))
		part := func() { errs[i] = guard(func() error { list[i].part(i, parts, &done); return nil }) }
		if i < parts-1 {
			all.Go(part)
		} else {
			part()
		}
	}
	all.Wait()
	for _, part := range list {
		c.join(part)
	}
	return errors.Join(errs...)
}

// part checks the groups whose first hash lies in part number of all hashes, with their
// sets, and this part of the runs.
func (c *check) part(number, parts int, done *checkProgress) {
	width := math.MaxUint64/uint64(parts) + 1 // 0 for one part
	first := width * uint64(number)
	for run := range c.view.directory.From(first) {
		switch {
		case run.Prefix < first: // it belongs to the part before
			continue
		case number < parts-1 && run.Prefix-first >= width || c.ctx.Err() != nil:
			return
		}
		c.setsOf(c.group(run, c.report.add))
		done.add(run)
	}
	c.groups.Slots(number, parts)
}

// join adds what a part has found.
func (c *check) join(part *check) {
	to, from := &c.report.Figures, &part.report.Figures
	to.Groups += from.Groups
	to.Buckets += from.Buckets
	to.Keys += from.Keys
	to.Values += from.Values
	to.Tombstones += from.Tombstones
	for _, err := range part.report.Defects {
		c.report.add(err)
	}
	c.report.DefectCount += part.report.DefectCount - len(part.report.Defects)
	c.groups.Join(part.groups)
	for set := range part.sets {
		c.name(set)
	}
	c.owned += part.owned
}

// checkProgress adds up how far the parts are.
type checkProgress struct {
	mu   sync.Mutex
	done float64 // part of all hashes
	size int64   // of the file

	progress func(done, total int64)
}

func (p *checkProgress) add(run directory.Run) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += math.Ldexp(1, -int(run.Depth))
	p.progress(int64(float64(p.size)*p.done), p.size)
}

// group checks that a group is what the directory says, and checks its contents. It
// returns the entries with spilled sets, which it does not check.
func (c *check) group(run directory.Run, bad func(error)) []bucket.Item {
	g, err := c.view.groupOf(run)
	if err != nil {
		bad(err)
		return nil
	}
	id, st := g.id, &g.state
	if st.Prefix != run.Prefix || st.LocalDepth != run.Depth || st.Created != run.Pointer.Ref {
		bad(corrupt.Errorf(fmt.Sprintf("group %d", id), c.view.buckets.Offset(id), "prefix %#x, depth %d, created %d; the directory says %#x, %d, %d",
			st.Prefix, st.LocalDepth, st.Created, run.Prefix, run.Depth, run.Pointer.Ref))
	}
	keys, values, spilled := c.groups.Group(id)
	c.report.Groups++
	c.report.Buckets += uint64(st.Buckets())
	c.report.Keys += keys
	c.report.Values += values
	return spilled
}

// setsOf checks the spilled sets of these entries.
func (c *check) setsOf(spilled []bucket.Item) {
	for _, item := range spilled {
		if !c.name(item.Set) {
			continue
		}
		live, tombstones := c.view.sets.Check(item.Set, item.Key, func(valueset.Owned) { c.owned++ }, c.report.add)
		c.report.Values += live
		c.report.Tombstones += tombstones
	}
}

// name notes that a key names a set, and reports whether it is the only one.
func (c *check) name(set uint64) bool {
	if c.sets[set] {
		c.report.add(corrupt.Errorf(fmt.Sprintf("set %d", set), -1, "two keys name it"))
		return false
	}
	c.sets[set] = true
	return true
}

// unusedSets checks that every set id that no key names is unused, and that every chunk
// of /values belongs to a set.
func (c *check) unusedSets() {
	r := &c.view.record
	unused := c.view.sets.CheckUnused(c.ctx, r.sets.Sets, c.report.add)
	if c.ctx.Err() == nil && (unused != r.sets.Unused || unused+uint64(len(c.sets)) != r.sets.Sets) {
		c.report.add(corrupt.Errorf("set states", -1, "%d ids are unused and keys name %d, want %d and %d",
			unused, len(c.sets), r.sets.Unused, r.sets.Sets-r.sets.Unused))
	}
	chunks := uint64(0)
	for _, path := range valueset.Paths() {
		d, err := c.view.Dataset(path)
		if err == nil {
			err = d.Walk(nil, func(hdf5io.Chunk) (bool, error) { chunks++; return true, c.ctx.Err() })
		}
		if c.ctx.Err() != nil {
			return // reported by Check itself
		}
		if err != nil {
			c.report.add(err)
			return
		}
	}
	if chunks != c.owned {
		c.report.add(corrupt.Errorf("/values", -1, "%d chunks, of which sets own %d", chunks, c.owned))
	}
}

func (c *check) deletions() {
	r := &c.view.record
	err := gc.Open(c.view.View, r.numDeletions).Scan(func(uint64, gc.Record) bool {
		c.report.Deletions++
		return c.ctx.Err() == nil
	})
	if err != nil {
		c.report.add(err)
	}
}

// counts compares the numbers in the store record with what was found.
func (c *check) counts() {
	r := &c.view.record
	c.report.SpilledSets = uint64(len(c.sets))
	for _, f := range []struct {
		offset    int64
		name      string
		got, want uint64
	}{
		{recNumKeys, "keys", c.report.Keys, r.numKeys}, {recNumValues, "values", c.report.Values, r.numValues},
		{recNumTombstones, "tombstones", c.report.Tombstones, r.numTombstones},
		{recNumDeletions, "deletions", c.report.Deletions, r.numDeletions},
		{recNumGroups, "groups", c.report.Groups, r.groups()}, {recNumBuckets, "buckets", c.report.Buckets, r.numBuckets},
	} {
		if f.got != f.want {
			c.report.add(corrupt.Errorf("store record", f.offset, "%d %s, found %d", f.want, f.name, f.got))
		}
	}
}

// AuditWAL verifies the HMAC chain on a random sample of the batches that the log
// holds. A sample of 0 means all of them; a read-only store always verifies all. The error
// names the record.
func (s *Store) AuditWAL(sample int) error {
	if sample < 0 {
		return invalidf("AuditWAL of %d batches, want 0 or more", sample)
	}
	s.closing.RLock()
	defer s.closing.RUnlock()
	if s.closed {
		return ErrClosed
	}
	if s.log != nil {
		s.auditing.Lock()
		defer s.auditing.Unlock()
		return s.log.Audit(sample, s.random)
	}
	_, err := s.verifyLog()
	s.metrics.audited(err)
	return err
}

// random returns a number below n, for samples.
func (s *Store) random(n int) int {
	var p [8]byte
	if _, err := io.ReadFull(s.opts.Rand, p[:]); err != nil {
		return 0 // any batch will do as a sample
	}
	return int(le.Uint64(p[:]) % uint64(n))
}
