package wal

import (
	"errors"
	"fmt"
	"slices"
	"sync"
)

var (
	// ErrPoisoned says that a write or sync of the log has failed, and that nobody
	// knows what reached the disk. It wraps the cause. Only a new Scan can find out.
	ErrPoisoned = errors.New("log is poisoned")
	// ErrFull says that the ring has no room before the tail. Nothing was logged.
	ErrFull = errors.New("log is full")
	// ErrTooLarge says that the operations take more than a third of the ring.
	// Nothing was logged.
	ErrTooLarge = errors.New("too many operations for one frame")
)

const (
	// groupBytes is how much waits before AppendAsync asks for a Flush, and how much one
	// write of Append takes before it leaves the rest to the next.
	groupBytes = 1 << 20
	// mostWaiting is how much waits before AppendAsync flushes by itself.
	mostWaiting = 4 * groupBytes
)

// Stats holds counts of what a Log has done.
type Stats struct {
	Records       [opcodeMask + 1]uint64 // appended, by opcode
	Frames        uint64                 // appended
	Groups        uint64                 // written
	Syncs         uint64                 // one per group, two if the ring wraps
	Bytes         uint64                 // written
	Audits        uint64
	AuditFailures uint64 // audits that found damage
	Truncations   uint64 // that moved the tail
	Errors        uint64 // failed writes
	Watermark     uint64
}

// Log is one life of the log. All methods are safe for concurrent use, except
// those that say otherwise.
type Log struct {
	config Config  // except the rings, which mu guards
	epochs []Epoch // Config.Earlier and the present one
	apply  func(first Seq, nanos int64, ops []Op)

	full chan struct{} // says that groupBytes wait

	write sync.Mutex // held while the ring is written
	spare []byte     // guarded by write: the group buffer not in use
	taken []*request // guarded by write: those of the group being written

	yielded int64 // guarded by write: ns that leaders have yielded beyond their share

	order sync.Mutex // guards the encoder
	enc   encoder

	mu struct {
		sync.Mutex
		ring, old Ring
		queue     []*request // appends that wait for a leader
		leading   bool       // a goroutine leads, or has been chosen to
		writers   int        // appends that the last group answered or left in the queue
		next      Seq        // first that no frame has
		mark      Mark       // end of the last frame that is applied
		tail      Seq        // records before it may be overwritten
		before    Mark       // end of the frame before the tail
		anchored  bool       // its MAC is known, or the tail is where an epoch begins
		watermark Seq        // all up to it is durable
		failed    error
		stats     Stats // except Watermark
	}
	requests sync.Pool
}

// New returns the log of a life that begins. epoch is the present epoch, next its
// first sequence, which is at a block, and tail the oldest sequence that recovery may
// still need. watermark is ScanReport.Watermark. If the geometry or the sequences make
// no sense, the log is poisoned from the start.
func New(c Config, epoch Epoch, next, watermark, tail Seq) *Log {
	epochs := append(slices.Clone(c.Earlier), epoch)
	epochs[len(epochs)-1].End = NoEnd
	l := &Log{config: c, epochs: epochs, full: make(chan struct{}, 1)}
	l.config.Ring, l.config.Old, l.config.Earlier = Ring{}, Ring{}, nil
	l.requests.New = func() any { return &request{wake: make(chan signal, 1)} }
	l.mu.ring, l.mu.old = c.Ring, c.Old
	l.mu.next, l.mu.tail = next, tail
	l.mu.mark = Mark{next - 1, epoch.Anchor, epoch.Number}
	l.mu.watermark = watermark
	if err := checkLife(&c, epochs, next, watermark, tail); err != nil {
		l.Poison(err)
		return l
	}
	l.setTail(tail)
	l.enc.start(&c, epoch, next)
	return l
}

// checkLife checks the arguments of New.
func checkLife(c *Config, epochs []Epoch, next, watermark, tail Seq) error {
	if err := c.check(); err != nil {
		return err
	}
	if err := checkEpochs(epochs, c.blockRecords()); err != nil {
		return err
	}
	switch {
	case next != epochs[len(epochs)-1].First || next < c.Ring.First:
		return fmt.Errorf("log: next sequence %d, want the first of its epoch, %d, and of the ring, %d", next, epochs[len(epochs)-1].First, c.Ring.First)
	case watermark >= next || tail > next || tail == 0:
		return fmt.Errorf("log: watermark %d and tail %d, want them before %d", watermark, tail, next)
	}
	return nil
}

// SetApply sets the function that applies the operations of a frame. It must be called
// before the first append. The log calls apply with the sequence of the first operation
// and the time of the frame (Frame.Nanos, as Scan will report it), in the order of
// sequences and never concurrently: Append does so after the frame is durable,
// AppendAsync at once. apply must not call Append, AppendAsync, Flush or Pause, and must
// not keep ops.
func (l *Log) SetApply(apply func(first Seq, nanos int64, ops []Op)) { l.apply = apply }

// Pause waits until no append is under way, makes everything that was accepted
// durable, and keeps appends waiting until resume is called. Until then the caller may
// use all methods except Append, AppendAsync, Flush and Pause. Failed says whether the
// log has been poisoned.
func (l *Log) Pause() (resume func()) {
	_ = l.Flush() // so that appends wait only for the rest; the log keeps a failure
	l.write.Lock()
	l.order.Lock()
	if l.Failed() == nil {
		_ = l.writeGroup(l.closeGroup())
	}
	return sync.OnceFunc(func() {
		l.order.Unlock()
		l.write.Unlock()
	})
}

// locked returns what read returns while mu is held.
func locked[T any](l *Log, read func() T) T {
	l.mu.Lock()
	defer l.mu.Unlock()
	return read()
}

// Mark returns the end of the last frame that is applied. Before the first it returns
// the end of what this life found.
func (l *Log) Mark() Mark { return locked(l, func() Mark { return l.mu.mark }) }

// Next returns the first sequence that no frame has.
func (l *Log) Next() Seq { return locked(l, func() Seq { return l.mu.next }) }

// Watermark returns a sequence up to which everything is durable.
func (l *Log) Watermark() Seq { return locked(l, func() Seq { return l.mu.watermark }) }

// Stats returns the counts so far.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	stats := l.mu.stats
	stats.Watermark = uint64(l.mu.watermark)
	return stats
}

// Room returns how many records, including pads, fit before the tail is reached.
// Appends whose RecordsFor add up to no more than that all succeed.
func (l *Log) Room() int64 { return locked(l, func() int64 { return int64(l.roomLocked(l.mu.next)) }) }

// Largest returns the most records that one append may take, including pads. It is a
// third of the ring.
func (l *Log) Largest() int64 { return locked(l, l.largestLocked) }

func (l *Log) largestLocked() int64 { return int64(l.config.records(l.mu.ring)) / 3 }

// roomLocked returns how many records fit from sequence on.
func (l *Log) roomLocked(sequence Seq) uint64 {
	if l.mu.ring.Storage == nil {
		return 0
	}
	return l.config.room(l.mu.ring, l.mu.tail, sequence)
}

// Truncate allows the log to overwrite the records up to confirmedThrough, which is the
// end of a frame. It never goes past the mark. The caller makes sure that no commit
// slot needs these records any more.
func (l *Log) Truncate(confirmedThrough Seq) {
	l.mu.Lock()
	defer l.mu.Unlock()
	confirmedThrough = min(confirmedThrough, l.mu.mark.Sequence)
	if confirmedThrough < l.mu.tail || l.mu.ring.Storage == nil {
		return
	}
	l.mu.stats.Truncations++
	l.setTail(confirmedThrough + 1)
}

// setTail moves the tail. It keeps the MAC before the tail, which can still be read
// now. The caller holds mu, or is New.
func (l *Log) setTail(tail Seq) {
	l.mu.tail, l.mu.before, l.mu.anchored = tail, Mark{Sequence: tail - 1}, true
	if tail == l.mu.mark.Sequence+1 {
		l.mu.before = l.mu.mark
		return
	}
	c := l.placesLocked()
	for _, e := range l.epochs {
		if tail <= e.First || tail >= e.End {
			continue
		}
		record, err := (&reader{config: &c}).from(tail-1, 1)
		l.mu.anchored = err == nil && opcode(record) == Commit && newSealer(c.UUID, e.Number).passes(tail-1, record)
		if l.mu.anchored {
			l.mu.before.MAC, l.mu.before.Epoch = [macSize]byte(record[offMAC:]), e.Number
		}
	}
}

// placesLocked returns the config with the present rings.
func (l *Log) placesLocked() Config {
	c := l.config
	c.Ring, c.Old = l.mu.ring, l.mu.old
	return c
}

// SwitchRing makes frames go to r from the next sequence on. The present ring keeps the
// earlier ones. It must be called during Pause, when both commit slots name r, and
// r.First must be Next(). If it returns an error, nothing has changed.
func (l *Log) SwitchRing(r Ring) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.placesLocked()
	if err := c.checkRing(r); err != nil {
		return err
	}
	if r.First != l.mu.next {
		return fmt.Errorf("log: new ring begins at sequence %d, want %d", r.First, l.mu.next)
	}
	if l.mu.old.Storage != nil && l.mu.tail < l.mu.ring.First {
		return fmt.Errorf("log: the ring before the last still holds sequence %d", l.mu.tail)
	}
	l.mu.old, l.mu.ring = l.mu.ring, r
	l.enc.ringRecords = c.records(r)
	return nil
}

// DropOld truncates what is in the ring before the present one, and forgets that ring.
func (l *Log) DropOld() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.old.Storage != nil && l.mu.tail < l.mu.ring.First {
		l.setTail(l.mu.ring.First)
	}
	l.mu.old = Ring{}
}

// Poison makes every later append fail with ErrPoisoned, which wraps err. Only the
// first call counts.
func (l *Log) Poison(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.failed == nil {
		l.mu.failed = fmt.Errorf("%w: %w", ErrPoisoned, err)
	}
}

// Failed returns why the log is poisoned, or nil if it is not.
func (l *Log) Failed() error { return locked(l, func() error { return l.mu.failed }) }
