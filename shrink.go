package cidstore

import (
	"context"
	"fmt"
	"math"

	"github.com/cidstore/cidstore/wal"
)

// shrinkLeast is the space, in bytes, and shrinkShare the part of the live bytes, below
// which gaps are left as they are.
const (
	shrinkLeast = 64 << 10
	shrinkShare = 50
)

// Shrink gives free space back to the file system: it checkpoints, moves what lies at the
// end of the file into the gaps before it, as often as that makes the file smaller, and
// truncates. It needs to be alone with the file: ErrLocked if another process has it open,
// ErrSpacePinned if a Snapshot is open. Reads and writes go on meanwhile; a write may have
// to wait when the log is full. The log keeps its size until Close. Shrink stops between
// two steps when ctx is done, or the store is closed; what is done by then is done. What
// it does is committed step by step, as everything is: it can be killed at any moment.
func (s *Store) Shrink(ctx context.Context) error {
	ctx, cancel := s.during(ctx)
	defer cancel()
	s.collecting.Lock() // a collection has a view of its own
	defer s.collecting.Unlock()
	return s.ended(s.exclusively(func() error { return s.shrink(ctx) }))
}

// shrink is Shrink; checkpointing is held.
func (s *Store) shrink(ctx context.Context) error {
	if open := s.openSnapshots(); open > 0 {
		return fmt.Errorf("shrink: %d snapshots are open: %w", open, ErrSpacePinned)
	}
	if err := s.checkpointAll(ctx); err != nil {
		return err
	}
	before, began := s.file.Space().Size, s.opts.Clock()
	alone, err := s.file.Alone(func() error {
		if err := s.fillGaps(ctx); err != nil {
			return err
		}
		s.drainReads()
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

// openSnapshots is how many snapshots are open.
func (s *Store) openSnapshots() (open int) {
	s.snapshots.Range(func(any, any) bool { open++; return true })
	return open
}

// drainReads waits for reads of older roots that are under way. Whoever has a snapshot
// keeps its root for longer, and may wait for Shrink meanwhile.
func (s *Store) drainReads() {
	s.file.DrainOlder(func() bool { return s.openSnapshots() > 0 })
}

// fillGaps moves the end of the file into its gaps until that no longer makes it end
// earlier.
func (s *Store) fillGaps(ctx context.Context) error {
	for before := int64(math.MaxInt64); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		s.drainReads() // what reads under way hold could not be moved, nor given back
		if err := s.pack(); err != nil {
			return err
		}
		gaps, err := s.file.Gaps()
		live := s.liveBytes()
		if err != nil || gaps < max(shrinkLeast, live/shrinkShare) {
			return err
		}
		from, err := s.file.Squeeze(squeezeMost)
		if err != nil || from >= before {
			return err
		}
		before = from
		s.file.PlaceInGaps(true)
		err = s.moveRing(from)
		if err == nil {
			err = s.writeAgain(from, false)
		}
		s.file.PlaceInGaps(false)
		if err != nil {
			return err
		}
	}
}

// moveRing makes a log that is as large as the data ask for in place of one that is
// larger, or that lies from an address on, if there is room for it.
func (s *Store) moveRing(from int64) error {
	r := &s.state.Load().view.record
	size := min(int64(r.walSize), s.ringLimit())
	if size == int64(r.walSize) && int64(r.walAddress+r.walSize) <= from || s.file.Longest() < size {
		return nil
	}
	s.admission.limit(size / wal.RecordSize / 3)
	moved, err := s.growRing(size)
	s.admission.limit(noLimit)
	if err != nil || !moved {
		return err
	}
	if err := s.finishRingGrowth(); err != nil {
		return err
	}
	return s.pack()
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
