package cidstore

import (
	"context"
	"errors"
	"fmt"
	"math"
)

const (
	// Gaps are left as they are if they are less than shrinkLeast bytes in all, or less than
	// one part in shrinkShare of the live bytes.
	shrinkLeast = 64 << 10
	shrinkShare = 50
	// deadShare is the same for entries of runs that no longer count.
	deadShare = 20
)

// Shrink gives free space back to the file system. It checkpoints, moves what lies at the
// end of the file into the gaps before it, as often as that makes the file smaller, and
// truncates the file. If a run of entries is longer than each gap, or if much of what runs
// hold no longer counts, it first folds them into their groups, as Maintain does, which
// writes all groups again. It must be alone with the file: it returns ErrLocked if another
// process has it open, and ErrSpacePinned if a Snapshot is open. Reads and writes go on; a
// write may have to wait when the log is full. The log keeps its size until Close. Shrink
// stops between two steps when ctx is done, or when the store is closed; what is done by
// then stays done. Each step is a commit, so Shrink can be killed at any moment. It moves
// data only into gaps, on a full disk too, and so takes no space of the disk. Data for
// which no gap is long enough stay where they are, which is not an error.
//
// Before Shrink, Space says about how long the file will be.
func (s *Store) Shrink(ctx context.Context) error { return s.ShrinkWith(ctx, nil) }

// ShrinkOptions are the choices of one Shrink. nil and zero fields mean the defaults.
type ShrinkOptions struct {
	// Progress is called with the number of bytes that are moved, and about the number of
	// all. Commits wait while it runs, so it must not use the store.
	Progress func(done, total int64)
}

// ShrinkWith is Shrink with options.
func (s *Store) ShrinkWith(ctx context.Context, options *ShrinkOptions) error {
	progress := noProgress
	if options != nil {
		progress = orNone(options.Progress)
	}
	ctx, cancel := s.during(ctx)
	defer cancel()
	s.collecting.Lock() // a collection has a view of its own
	defer s.collecting.Unlock()
	return s.ended(s.exclusively(func() error { return s.shrink(ctx, progress) }))
}

// shrink is Shrink; checkpointing is held.
func (s *Store) shrink(ctx context.Context, progress func(done, total int64)) error {
	if open := s.openSnapshots(); open > 0 {
		return fmt.Errorf("shrink: %d snapshots are open: %w", open, ErrSpacePinned)
	}
	if err := s.checkpointAll(ctx); err != nil {
		return err
	}
	before, began := s.file.Space().Size, s.opts.Clock()
	alone, err := s.file.Alone(func() error {
		if err := s.fillGaps(ctx, progress); err != nil {
			return err
		}
		s.drainReads()
		if s.file.Full() { // what is promised counts on all of the file
			s.admission.limit(0)
			defer s.admission.limit(noLimit)
			if err := s.checkpointAll(ctx); err != nil {
				return err
			}
		}
		return s.file.Trim(s.closedReserve(), s.adoptRoot)
	})
	switch {
	case err != nil:
		return s.writeFailed(fmt.Errorf("shrink: %w", err))
	case !alone:
		return fmt.Errorf("shrink: another process has the file open: %w", ErrLocked)
	}
	after := s.file.Space().Size
	s.LogEvent("shrink", "from", before, "to", after)
	s.maintained(didShrink, uint64(max(before-after, 0)), s.opts.Clock().Sub(began))
	return nil
}

// openSnapshots returns how many snapshots are open.
func (s *Store) openSnapshots() (open int) {
	s.snapshots.Range(func(any, any) bool { open++; return true })
	return open
}

// drainReads waits for reads of older roots that are under way. It does not wait for a
// snapshot, which keeps its root for longer: its owner may itself be waiting for Shrink.
func (s *Store) drainReads() {
	s.file.DrainOlder(func() bool { return s.openSnapshots() > 0 })
}

// fillGaps moves the end of the file into its gaps until that no longer makes the file
// shorter. It takes shorter steps where a long one does not: a piece may be longer than
// each gap before it.
func (s *Store) fillGaps(ctx context.Context, progress func(done, total int64)) error {
	done, total, folded := int64(0), int64(-1), false
	room, lowest, earliest := int64(squeezeMost), int64(math.MaxInt64), int64(math.MaxInt64)
	for {
		s.drainReads() // what reads under way hold can be neither moved nor given back
		if err := s.freeReplaced(); err != nil {
			return err
		}
		if total < 0 {
			beyond, err := s.file.UsedFrom(s.liveBytes()) // after its future end, with the log
			if err != nil {
				return err
			}
			total = min(beyond, s.liveBytes())
			progress(done, total)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if !folded && s.runsBlock() {
			folded = true
			if err := s.foldInGaps(ctx); err != nil {
				return err
			}
			continue
		}
		from, end, err := s.squeeze(room)
		if err != nil {
			return err
		}
		if from < lowest || end <= earliest-shrinkLeast {
			room = min(2*room, squeezeMost)
		} else {
			room = min(room, end-from) / 2
			if from, end, err = s.squeeze(room); err != nil {
				return err
			}
		}
		if from >= end || room < shrinkLeast {
			progress(total, total)
			return nil
		}
		lowest, earliest = min(lowest, from), min(earliest, end)
		if room == squeezeMost { // by shorter steps the log would go to and fro
			if err := s.moveRing(from); err != nil {
				return err
			}
		}
		start := done
		err = s.inGaps(func() error {
			return s.writeAgain(from, s.file.Space().Size, func(bytes int64) {
				done = min(start+bytes, total)
				progress(done, total)
			})
		})
		if err != nil {
			return err
		}
	}
}

// runsBlock reports whether runs keep the file long: one that is longer than each gap, and
// so cannot be moved, lies where the file could end otherwise, or too much of what they hold
// no longer counts.
func (s *Store) runsBlock() bool {
	r, live := &s.state.Load().view.record, s.liveBytes()
	return s.state.Load().view.runsBlock(s.file.Space().Longest, live+int64(r.walSize+r.oldSize), live)
}

// runsBlock is that of a store whose longest gap, length without gaps and live bytes are
// given.
func (v *view) runsBlock(gap, length, live int64) bool {
	_, dead := v.buckets.RunSpace()
	return dead > live/deadShare || v.buckets.Unmovable(gap) > length+max(shrinkLeast, live/shrinkShare)
}

// inGaps runs f, whose commits place everything in gaps: the file does not grow.
func (s *Store) inGaps(f func() error) error {
	s.file.PlaceInGaps(true)
	defer s.file.PlaceInGaps(false)
	return f()
}

// foldInGaps folds all runs into their groups, as far as the free space has room for that.
func (s *Store) foldInGaps(ctx context.Context) error {
	err := s.inGaps(func() error { return s.foldAll(ctx) })
	switch {
	case errors.Is(err, ErrNoSpace) && s.Failed() == nil:
		return nil
	case errors.Is(err, ErrCorrupt):
		s.event("error", "operation", "shrink", "error", err)
		return nil
	}
	return err
}

// squeeze returns the address after which the file should be moved into its gaps, at most
// room bytes of it, and where the file ends. Both are the same if the gaps are not worth it.
func (s *Store) squeeze(room int64) (from, end int64, err error) {
	gaps, end, err := s.file.Gaps()
	if err != nil || gaps < max(shrinkLeast, s.liveBytes()/shrinkShare) {
		return end, end, err
	}
	from, err = s.file.Squeeze(room)
	return from, end, err
}

// moveRing replaces the log with one that is as large as the data need, if the log is
// larger, or if any of it lies after the address from, and if there is room for that.
func (s *Store) moveRing(from int64) error {
	r := &s.state.Load().view.record
	size := min(int64(r.walSize), s.ringLimit())
	if size == int64(r.walSize) && int64(r.walAddress+r.walSize) <= from || s.file.Longest() < size {
		return nil
	}
	s.admission.limit(s.ringRecords(size) / 3)
	moved := false
	err := s.inGaps(func() (err error) { moved, err = s.growRing(size); return err })
	s.admission.limit(noLimit)
	if err != nil || !moved {
		return err
	}
	if err := s.finishRingGrowth(); err != nil {
		return err
	}
	return s.freeReplaced()
}

// adoptRoot shows the newest root of the file, which Trim has made, to readers.
func (s *Store) adoptRoot() error {
	st := s.state.Load()
	if root := s.file.View(); root != st.view.View {
		v, err := s.loadView(root)
		if err != nil {
			return s.poisoned(err)
		}
		st = &state{fresh: st.fresh, frozen: st.frozen, view: v}
	}
	s.show(st)
	s.movedTo(st.view.record.lastApplied)
	return nil
}
