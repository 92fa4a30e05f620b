package cidstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cidstore/cidstore/directory"
	"github.com/cidstore/cidstore/gc"
	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/vfs"
	"github.com/cidstore/cidstore/wal"
)

// Store is an open database. All methods are safe for concurrent use.
type Store struct {
	opts  Options
	path  string
	info  vfs.Info // of the open file: device and inode
	vfile vfs.File
	file  *hdf5io.File
	log   *wal.Log // nil when read-only, and when a full disk had no room to begin a life

	// state is what readers see; nil after Close. Only the holder of checkpointing
	// replaces it, and puts in a new fresh table only while the log pauses.
	state atomic.Pointer[state]

	closing sync.RWMutex // held for reading by every write; guards closed
	closed  bool

	// checkpointing is held during a checkpoint, and by whatever else commits a root. It
	// guards the fields below.
	checkpointing commitLock
	frozenThrough wal.Mark   // end of the frozen table's last frame
	settled       bool       // both slots name the present root
	placedEach    uint64     // bytes that the last checkpoint placed for each operation
	clearedRows   uint64     // of the deletion log, since Open
	handledRows   uint64     // of the deletion log, that a collection has handled and the next commit drops
	leftDead      uint64     // tombstones that the last erase left that looked at all sets
	outlived      []outlived // tables that only older Views need, in order of their commits
	followed      *state     // of a reader: Refresh adds to it what was written to the log since

	collecting sync.Mutex   // one collection at a time; guards scanned
	scanned    uint64       // set id at which the next one goes on
	scrubTried atomic.Int64 // when the last scrub in the background began, ns since 1970; 0 if none has
	journal    journal

	admission    admission
	pacing       pacing
	upkeep       upkeep
	olderApplied atomic.Uint64 // a wal.Seq: last_applied of the older slot

	auditing  sync.Mutex // one audit at a time
	snapshots sync.Map   // *Snapshot → struct{}, the open ones
	metrics   counters
	recovery  RecoveryReport
	replayed  wal.ScanReport // what Open or Refresh found in the log
	failure   atomic.Pointer[error]
	fileBytes atomic.Int64 // of the newest root that was loaded or committed
	logBytes  atomic.Int64
	seen      sightings    // of roots, since Open
	lastTime  atomic.Int64 // ns since 1970; never goes back
	lastFlush atomic.Int64 // by the plain clock, which may be set back

	kick       chan struct{} // a checkpoint is due
	garbage    chan struct{} // a collection is due
	stop       chan struct{}
	life       context.Context // ends with Close
	endLife    context.CancelFunc
	background sync.WaitGroup
}

// now returns the clock's time in ns since 1970, but never less than before.
func (s *Store) now() int64 {
	t := s.opts.Clock().UnixNano()
	for {
		last := s.lastTime.Load()
		if t <= last {
			return last
		}
		if s.lastTime.CompareAndSwap(last, t) {
			return t
		}
	}
}

// fail keeps err, if it is the first failure of a write or sync.
func (s *Store) fail(err error) {
	if s.failure.CompareAndSwap(nil, &err) {
		s.event("error", "error", err)
	}
}

// Failed returns why the store takes no more writes, or nil as long as it takes them.
func (s *Store) Failed() error {
	p := s.failure.Load()
	switch {
	case p == nil:
		return nil
	case errors.Is(*p, ErrPoisoned):
		return *p
	}
	return fmt.Errorf("%w: %w", ErrPoisoned, *p)
}

// anywhere is an odd number of 64 bits that makes numbers of commits places in all of a range.
const anywhere = 0x9e3779b97f4a7c15

// start runs the goroutines of a writable store. stopBackground ends them.
func (s *Store) start() {
	s.kick, s.garbage, s.stop = make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{})
	s.life, s.endLife = context.WithCancel(context.Background())
	s.upkeep.step = s.waitStep
	s.scanned = uint64(s.state.Load().view.Commit()) * anywhere
	if s.opts.ReadOnly || s.opts.GCInterval < 0 {
		return
	}
	s.background.Go(s.runCheckpoints)
	collector := gc.Background{
		Interval: s.opts.GCInterval, Need: s.garbage, Collect: s.collectInBackground,
		Report: func(err error) { s.event("error", "operation", "gc", "error", err) },
	}
	s.background.Go(func() { collector.Run(s.life) })
	if s.opts.ScrubInterval > 0 {
		scrubber := gc.Background{
			Interval: min(s.opts.ScrubInterval, scrubPoll), Collect: s.scrubIfDue,
			Report: func(err error) { s.event("error", "operation", "scrub", "error", err) },
		}
		s.background.Go(func() { scrubber.Run(s.life) })
	}
	if s.opts.Durability == Async {
		s.background.Go(s.runFlushes)
	}
}

// needCollection asks the background for a collection.
func (s *Store) needCollection() {
	select {
	case s.garbage <- struct{}{}:
	default: // one is asked for already
	}
}

func (s *Store) stopBackground() {
	close(s.stop)
	s.background.Wait()
}

// during returns a context that also ends when the store is closed.
func (s *Store) during(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.life, cancel)
	return ctx, func() { stop(); cancel() }
}

// ended returns ErrClosed for a cancellation that Store.Close has caused, else err.
func (s *Store) ended(err error) error {
	if errors.Is(err, context.Canceled) && s.life.Err() != nil {
		return ErrClosed
	}
	return err
}

// exclusively runs f while nobody else changes the tree. If the store takes no writes, it
// returns the reason instead.
func (s *Store) exclusively(f func() error) error {
	s.closing.RLock()
	defer s.closing.RUnlock()
	if err := s.writable(); err != nil {
		return err
	}
	s.checkpointing.Lock()
	defer s.checkpointing.Unlock()
	return f()
}

// recommit commits the present root once more, with what every commit brings up to date:
// the journal, the deletion log, and the form of the directory. checkpointing is held.
func (s *Store) recommit() error { return s.writeFailed(s.change(func(*merge) error { return nil })) }

func (s *Store) runCheckpoints() {
	for {
		select {
		case <-s.stop:
			return
		case <-s.kick:
			s.checkpointIfDue(s.giveWay)
		}
	}
}

func (s *Store) runFlushes() {
	ticker := time.NewTicker(s.opts.FlushInterval)
	defer ticker.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-ticker.C:
		case <-s.log.Full():
		}
		if s.Failed() == nil {
			_ = s.flush() // a failure poisons the store, and the next caller gets it
		}
	}
}

// Close puts everything into the tree, syncs, and unlocks. It leaves a log of a few
// blocks, and gives free space at the end of the file back to the file system, unless
// somebody else has the file open. If the file has many gaps, Close first moves data into
// them: it writes all of a store of up to 32 MiB again, twice. Of a larger store, or where
// the disk has no room for that, it moves the end, 512 MiB at most and no more than four
// times what was written since Open. In the same bounds, it first folds all groups after
// many deletes. Close releases the locks even when it fails; the next
// Open then finds what the log holds. A second Close returns ErrClosed.
func (s *Store) Close() error {
	s.endLife() // long operations end now
	s.closing.Lock()
	if s.closed {
		s.closing.Unlock()
		return ErrClosed
	}
	s.closed = true
	s.closing.Unlock()

	s.stopBackground()
	var err error
	if !s.opts.ReadOnly {
		err = s.closeWriter()
	}
	st := s.state.Load()
	last, reserve := st.view.record, s.closedReserve()
	s.state.Store(nil) // first, so that a Snapshot that is taken now sees it, or is seen below
	s.snapshots.Range(func(v, _ any) bool {
		_ = v.(*Snapshot).end(ErrSnapshotExpired) // no matter if its owner has closed it by then
		return true
	})
	s.file.Drain()
	s.freeAll(st)
	if !s.opts.ReadOnly && err == nil { // only now, as Trim makes roots that readers do not know
		err = s.file.Trim(reserve, nil)
	}
	err = errors.Join(err, s.file.Close(), s.vfile.Close())
	s.noteClose(&last, err)
	return err
}

// closeWriter brings everything into the root, so that the log is not needed. If it fails,
// the file still has what Open needs.
func (s *Store) closeWriter() error {
	s.checkpointing.Lock()
	defer s.checkpointing.Unlock()
	for _, step := range []func() error{
		s.Failed,
		func() error { return s.poisoned(s.notReplaced()) },
		s.flush, // so the log has all Async writes, even if the checkpoint fails
		s.freeReplaced,
		func() error { return s.checkpointAll(context.Background()) },
		s.freeReplaced,
		s.commitClean,
		s.freeReplaced,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	if s.opts.keepPlaces {
		return nil
	}
	return s.writeFailed(s.compact())
}

// freeReplaced makes all replaced space that nobody reads usable at once. So the last
// commits of a life go into the gaps of the file, and its end can be given back.
func (s *Store) freeReplaced() error {
	if !s.settled {
		if err := s.settle(); err != nil {
			return err
		}
	}
	return s.writeFailed(s.file.EndQuarantine())
}

// commitClean writes the last root of a life, in both slots, with a log of a few
// blocks, unless the disk has no room for that.
func (s *Store) commitClean() error {
	err := s.commitLast(true)
	if errors.Is(err, ErrNoSpace) && s.Failed() == nil {
		err = s.commitLast(false)
	}
	if err != nil {
		return s.writeFailed(err)
	}
	return s.settle()
}

func (s *Store) commitLast(shrink bool) error {
	return s.change(func(m *merge) error {
		m.record.clean = true
		_, err := m.dropOldRing()
		// The older root has all that the log has, and still reaches the longer log,
		// which stays as it is until both slots name this root.
		if err == nil && shrink {
			err = m.shrinkRing(s.log.Next())
		}
		return err
	})
}

// notReplaced returns an error if the path no longer names the open file, or if that is cut
// short.
func (s *Store) notReplaced() error {
	if err := s.intact(); err != nil {
		return err
	}
	info, err := s.opts.FS.Stat(s.path)
	if err != nil {
		return fmt.Errorf("%s: %w: %w", s.path, ErrReplaced, err)
	}
	if info.Device != s.info.Device || info.Inode != s.info.Inode {
		return fmt.Errorf("%s: %w", s.path, ErrReplaced)
	}
	return nil
}

// DirectoryMode is a form of the directory: "attribute", "dataset" or "sharded".
type DirectoryMode = directory.Mode

// DirectoryMode returns the form in which the directory is stored; "" after Close.
func (s *Store) DirectoryMode() DirectoryMode {
	st := s.state.Load()
	if st == nil {
		return ""
	}
	return st.view.directory.Mode()
}

// Len returns the exact numbers of keys and of (key, value) pairs at one moment between
// call and return. A writable store first makes a checkpoint if operations are pending; a
// read-only one looks at each key that they touch.
func (s *Store) Len(ctx context.Context) (keys, values uint64, err error) {
	if !s.opts.ReadOnly {
		if err := s.Checkpoint(ctx); err != nil && !errors.Is(err, ErrPoisoned) && !errors.Is(err, ErrNoSpace) {
			return 0, 0, err
		}
	}
	v, err := s.Snapshot()
	if err != nil {
		return 0, 0, err
	}
	defer v.Close()
	keys, values, err = v.len(ctx)
	return keys, values, ofStore(err)
}

// len returns the counts of the tree, corrected for the keys with pending operations.
func (v *Snapshot) len(ctx context.Context) (keys, values uint64, err error) {
	keys, values, err = v.beyondTree(ctx)
	if err != nil {
		return 0, 0, err
	}
	return v.view.record.numKeys + keys, v.view.record.numValues + values, nil
}

// beyondTree returns by how much pending operations change the numbers of keys and values,
// modulo 2^64. With an error, it counts the keys that can be read.
func (v *Snapshot) beyondTree(ctx context.Context) (keys, values uint64, err error) {
	touched, err := v.touchedKeys()
	if err != nil {
		return 0, 0, err
	}
	for i, item := range touched {
		if i%1024 == 0 && ctx.Err() != nil {
			return keys, values, ctx.Err()
		}
		failed := v.guard(func() error {
			d, err := v.stored(item.Hash, item.Key)
			if err != nil {
				return err
			}
			after, err := v.count(item.Key)
			if err != nil {
				return err
			}
			values += after - d.count()
			if d.found {
				keys--
			}
			if after > 0 {
				keys++
			}
			return nil
		})
		if err == nil {
			err = failed
		}
	}
	return keys, values, err
}
