package cidstore

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/vfs"
	"github.com/cidstore/cidstore/wal"
)

// RecoveryReport says what Open found and did.
type RecoveryReport struct {
	Slot             int    // the commit slot used: 0 or 1
	Commit           uint64 // number of its root
	FellBack         bool   // the newest slot's root was damaged, and the older one is in use
	SuperblockMended bool   // the HDF5 superblock was written again from the slot
	Clean            bool   // the store was closed, and its log had nothing that the tree lacks

	FramesReplayed     int    // complete batches taken from the log
	OperationsReplayed int    // the operations of these batches
	OverBudget         int64  // bytes of memory that these take beyond Options.MemoryBudget, until they are in the tree
	RewrittenFrames    int    // batches of FramesReplayed that were not known to be durable and were logged again
	TornAt             uint64 // first sequence of a torn tail; 0 if there was none
	TornRecords        int    // intact records of the tail, dropped because their batch is not complete
	Salvaged           error  // with Options.Salvage, the damage that reads went past, joined by errors.Join
}

func (r *RecoveryReport) fromTree(o hdf5io.OpenReport) {
	r.Slot, r.Commit, r.FellBack, r.SuperblockMended = o.Slot, uint64(o.Commit), o.FellBack != nil, o.SuperblockMended
}

// add takes over what an earlier attempt of Open found: it wrote the log again, so that this
// one finds no trace of it.
func (r *RecoveryReport) add(before *RecoveryReport) {
	r.FellBack = r.FellBack || before.FellBack
	r.SuperblockMended = r.SuperblockMended || before.SuperblockMended
	r.RewrittenFrames = before.RewrittenFrames
	if before.TornAt != 0 {
		r.TornAt, r.TornRecords = before.TornAt, before.TornRecords
	}
}

// Recovery reports what Open found in the file.
func (s *Store) Recovery() RecoveryReport { return s.recovery }

// load reads the newest root and the log after it. If the store is writable, it also
// begins a life of the log. If a full disk has no room for that, load succeeds, but the
// store takes no writes.
func (s *Store) load() error {
	v, err := s.loadView(s.file.View())
	if err != nil {
		return err
	}
	// These were fixed when the file was made, whatever these options say.
	s.opts.blockBytes, s.opts.SplitThreshold = int(v.record.walBlock), int(v.record.splitThreshold)
	uuid := v.UUID()
	check := wal.KeyCheck(logKey(&s.opts, &v.record), uuid)
	if subtle.ConstantTimeCompare(check[:], v.record.keyCheck[:]) != 1 {
		if !s.opts.emptyLog || !v.record.clean {
			return ErrWALKey
		}
		s.state.Store(&state{fresh: s.newTable(0), view: v})
		v.Adopted()
		return nil
	}
	var found replayed
	if s.opts.ReadOnly {
		salvaged, err := s.follow(v)
		s.readPast(salvaged)
		if err != nil {
			return err
		}
	} else {
		if found, err = s.replay(v); err != nil {
			found.state.free()
			return err
		}
		s.showFound(&found)
	}
	s.recovery.FramesReplayed, s.recovery.OperationsReplayed = s.replayed.Frames, s.replayed.Ops
	s.recovery.OverBudget = max(0, s.state.Load().pendingBytes()-s.opts.MemoryBudget)
	s.recovery.TornAt, s.recovery.TornRecords = uint64(s.replayed.TornAt), s.replayed.Discarded
	s.recovery.Clean = v.record.clean && s.recovery.FramesReplayed == 0
	s.recovery.add(&s.opts.found)
	s.opts.found = RecoveryReport{}
	s.lastTime.Store(max(s.replayed.Nanos, int64(v.record.created)))
	if s.opts.ReadOnly {
		return nil
	}
	s.journal.entries, _ = readJournal(v.View) // Check reports a damaged one
	err = s.beginLife(&found)
	if errors.Is(err, ErrNoSpace) && s.file.Failed() == nil {
		s.log = nil
		s.fail(fmt.Errorf("begin to write (close the store, and open it again when the disk has room): %w", err))
		return nil // what is there can be read
	}
	return err
}

// logConfig returns the configuration of the log as a root names it.
func (s *Store) logConfig(v *view) wal.Config {
	r := &v.record
	c := wal.Config{
		UUID: v.UUID(), Key: logKey(&s.opts, r), Block: int(r.walBlock), Now: s.now,
		Ring: wal.Ring{Storage: s.ringAt(int64(r.walAddress), int64(r.walSize)), First: r.walFirst},
	}
	if r.oldAddress != 0 {
		c.Old = wal.Ring{Storage: s.ringAt(int64(r.oldAddress), int64(r.oldSize))}
	}
	return c
}

// replayed is what the log has beyond a root.
type replayed struct {
	state         *state
	report        wal.ScanReport
	frozenThrough wal.Mark    // end of the frozen table's last frame, if there is a frozen table
	durable       wal.Mark    // end of the last frame that is known to be durable, if there is one
	late          []wal.Frame // those after it, which may be only in the page cache
}

// replay reads every complete frame that v does not hold into tables. It leaves out
// operations that the slices of an interrupted checkpoint have applied: nothing is applied
// twice. With an error, found is what was read before it.
func (s *Store) replay(v *view) (found replayed, err error) {
	st := &state{fresh: s.newTable(0), view: v}
	found.state = st
	r := &v.record
	if r.sliceThrough != 0 {
		st.frozen = s.newTable(0)
	}
	report, err := wal.Scan(s.logConfig(v), r.epochs, r.lastApplied, r.watermark, func(f wal.Frame) error {
		if f.Last == r.sliceThrough {
			found.frozenThrough = wal.Mark{Sequence: f.Last, MAC: f.MAC, Epoch: f.Epoch}
		}
		if f.PastWatermark {
			kept := f
			kept.Ops = slices.Clone(f.Ops)
			found.late = append(found.late, kept)
		} else {
			found.durable = wal.Mark{Sequence: f.Last, MAC: f.MAC, Epoch: f.Epoch}
		}
		for i, o := range f.Ops {
			if !changes(o.Code) {
				continue
			}
			hash, sequence := v.hasher.Hash(o.Key), f.First+wal.Seq(i)
			switch {
			case sequence > r.sliceThrough:
				st.fresh.add(hash, sequence, f.Nanos, o)
			case hash >= r.sliceHash:
				st.frozen.add(hash, sequence, f.Nanos, o)
			}
		}
		return nil
	})
	found.report = report
	s.metrics.scanned(new(wal.ScanReport), &report, err)
	if err == nil && r.sliceThrough != 0 && found.frozenThrough.Sequence != r.sliceThrough {
		err = corrupt.Errorf("store record", recSliceThrough, "a checkpoint is under way through sequence %d, at which no batch of the log ends", r.sliceThrough)
	}
	if err == nil && report.Next < r.walFirst {
		err = corrupt.Errorf("store record", recWALFirst, "wal_first %d, but the log ends at sequence %d", r.walFirst, report.End.Sequence)
	}
	st.fresh.publish(report.End.Sequence)
	if st.frozen != nil {
		st.frozen.publish(r.sliceThrough)
	}
	return found, err
}

// showFound lets readers see what replay found. checkpointing is held, or Open has not
// returned.
func (s *Store) showFound(found *replayed) {
	s.replayed, s.frozenThrough = found.report, found.frozenThrough
	s.show(found.state)
}

// show lets readers see st. checkpointing is held, or Open has not returned.
func (s *Store) show(st *state) {
	s.state.Store(st)
	st.view.Adopted()
}

// beginLife makes a new epoch of the log durable in both slots before the first append,
// so that no record of an earlier life can pass for one of this life. Before that it
// writes the frames again that may be only in the page cache, with the times that they
// had. Package wal describes the steps under "How a life begins". On a full disk it may
// write more frames again and return a *logAgain.
func (s *Store) beginLife(found *replayed) error {
	s.checkpointing.Lock()
	defer s.checkpointing.Unlock()
	s.olderApplied.Store(uint64(s.state.Load().view.record.lastApplied))
	again, err := s.makeRoomForLife(found)
	if err != nil {
		return err
	}
	v := s.state.Load().view
	old := wal.InUse(v.record.epochs)
	epoch, err := wal.NextEpoch(v.record.epochs, s.replayed.Next, s.opts.Rand)
	if err != nil {
		return err
	}
	if len(again.frames) > 0 {
		if err := s.commitEpochs(append(slices.Clone(old), epoch.Reserved())); err != nil {
			return err
		}
	}
	c := s.logConfig(v)
	c.Earlier, c.After = wal.EndEpochs(old, v.record.lastApplied, again.from), s.replayed.Nanos
	log := wal.New(c, epoch, s.replayed.Next, s.replayed.Watermark, v.record.lastApplied+1)
	log.SetApply(s.apply)
	if err := log.WriteAgain(again.frames); err != nil { // they are in the tables already
		return err
	}
	s.dropRing(&v.record)
	s.log = log
	s.recovery.RewrittenFrames = max(s.recovery.RewrittenFrames, len(again.frames))
	if again.reopen {
		return s.startLogAgain(append(c.Earlier, epoch))
	}
	return s.commitEpochs(append(c.Earlier, epoch))
}

// rewrite is what a life writes again before it begins.
type rewrite struct {
	frames []wal.Frame
	from   wal.Seq // where they begin in the earlier epochs, which end there
	reopen bool    // they are not only late frames: Open begins again with what was written
}

// onlyLate returns the rewrite of the late frames, of which there may be none.
func (s *Store) onlyLate(late []wal.Frame) rewrite {
	if len(late) == 0 {
		return rewrite{from: s.replayed.End.Sequence + 1}
	}
	return rewrite{frames: late, from: max(s.replayed.Watermark, s.state.Load().view.record.lastApplied) + 1}
}

// makeRoomForLife makes room for one more epoch in the root, and for the late frames in the
// log: it puts everything into the tree if it has to. If the disk has no room for that, but
// the log has, it returns frames of several epochs, to be written again as one.
func (s *Store) makeRoomForLife(found *replayed) (again rewrite, err error) {
	epochs := func() []wal.Epoch { return wal.InUse(s.state.Load().view.record.epochs) }
	room := func() bool { return len(epochs()) < maxEpochs-1 && s.fits(found.late) }
	if room() {
		return s.onlyLate(found.late), nil
	}
	err = s.checkpointDurable(found)
	if err == nil && room() {
		return s.onlyLate(found.late), nil
	}
	if err == nil { // the late frames take more than half of the log
		err = s.checkpointAll(context.Background())
	}
	if err == nil {
		return s.onlyLate(nil), nil
	}
	if !errors.Is(err, ErrNoSpace) || s.file.Failed() != nil {
		return rewrite{}, err
	}
	full := err
	live, err := s.liveFrames()
	if err != nil {
		return rewrite{}, err
	}
	if len(epochs()) < maxEpochs {
		if again, ok := s.fewerEpochs(epochs(), live); ok {
			return again, nil
		}
		if s.fits(found.late) {
			return s.onlyLate(found.late), nil
		}
	}
	return rewrite{}, full
}

// liveFrames reads the frames that the tree lacks, with the operations that change anything.
func (s *Store) liveFrames() (live []wal.Frame, err error) {
	v := s.state.Load().view
	_, err = wal.Scan(s.logConfig(v), v.record.epochs, v.record.lastApplied, v.record.watermark, func(f wal.Frame) error {
		f.Ops = slices.DeleteFunc(slices.Clone(f.Ops), func(o wal.Op) bool { return !changes(o.Code) })
		if len(f.Ops) > 0 {
			live = append(live, f)
		}
		return nil
	})
	return live, err
}

// fewerEpochs finds frames to be written again as one epoch, so that the root has room for
// one more: all of them, or else those of the newest epochs. It takes more epochs than it
// must, as long as the next older one has no more operations than those taken together: so
// most later lives find room, and few frames are written again by each of them.
func (s *Store) fewerEpochs(epochs []wal.Epoch, live []wal.Frame) (again rewrite, ok bool) {
	if s.fits(live) {
		return rewrite{live, s.state.Load().view.record.lastApplied + 1, true}, true
	}
	const enough = maxEpochs - 3 // epochs that stay, beside theirs and that of the next life
	from, ops := len(live), 0
	for k := len(epochs) - 1; k > 0; k-- {
		i, more := from, 0
		for ; i > 0 && live[i-1].Epoch == epochs[k].Number; i-- {
			more += len(live[i-1].Ops)
		}
		if k < enough && more > ops || !s.fits(live[i:]) {
			break
		}
		from, ops = i, ops+more
		again, ok = rewrite{live[from:], epochs[k].First, true}, k <= enough
	}
	return again, ok
}

// checkpointDurable puts everything into the tree except the late frames. The sequence
// through which a slice is under way must not be one of theirs, because a power cut may
// take them back.
func (s *Store) checkpointDurable(found *replayed) error {
	ctx := context.Background()
	if len(found.late) == 0 {
		return s.checkpointAll(ctx)
	}
	if s.state.Load().frozen != nil {
		if err := s.mergeFrozen(ctx, atOnce); err != nil {
			return err
		}
	}
	st := s.state.Load()
	if found.durable.Sequence <= st.view.record.lastApplied {
		return nil
	}
	fresh, frozen := s.newTable(0), s.newTable(0)
	st.fresh.all(func(o *op) {
		t := fresh
		if o.sequence <= found.durable.Sequence {
			t = frozen
		}
		t.add(o.hash, o.sequence, o.nanos, wal.Op{Code: o.code, Key: o.key, Value: o.value})
	})
	fresh.publish(st.fresh.through())
	frozen.publish(found.durable.Sequence)
	s.frozenThrough = found.durable
	s.state.Store(&state{fresh: fresh, frozen: frozen, view: st.view})
	st.free()
	return s.mergeFrozen(ctx, atOnce)
}

// logAgain is the error of an Open that has written frames of several lives again. The
// store is then opened once more, and finds them as if one life had written them.
type logAgain struct{ found RecoveryReport }

func (*logAgain) Error() string { return "the log was written again" }

// startLogAgain commits a root with epochs that have all that the tree lacks. If there is
// only one, the log begins with it.
func (s *Store) startLogAgain(epochs []wal.Epoch) error {
	err := s.change(func(m *merge) error {
		r := &m.record
		if len(epochs) == 1 {
			r.lastApplied = epochs[0].First - 1
		}
		r.sliceThrough, r.sliceHash, r.epochs = 0, 0, epochs
		return nil
	})
	if err != nil {
		return err
	}
	if err := s.settle(); err != nil {
		return err
	}
	return &logAgain{s.recovery}
}

// fits reports whether the ring has room for copies of frames.
func (s *Store) fits(frames []wal.Frame) bool {
	v := s.state.Load().view
	c := s.logConfig(v)
	return c.Fits(frames, v.record.lastApplied+1, s.replayed.Next)
}

// commitEpochs commits a root that differs only in the log's epochs and its writer, into
// both slots.
func (s *Store) commitEpochs(epochs []wal.Epoch) error {
	err := s.change(func(m *merge) error {
		m.record.clean = false
		m.record.epochs = epochs
		m.record.writerPID, m.record.writerSince = uint64(vfs.ProcessID()), uint64(s.now())
		return nil
	})
	if err != nil {
		return err
	}
	return s.settle()
}
