package wal

import (
	"errors"
	"fmt"
	"slices"
	"sync"
)

var (
	// ErrPoisoned: a write or sync of the log has failed, and what reached the
	// disk is unknown. It wraps the cause. Only a new Scan finds out.
	ErrPoisoned = errors.New("log is poisoned")
	// ErrFull: the ring has no room before the tail. Nothing was logged.
	ErrFull = errors.New("log is full")
	// ErrTooLarge: the operations take more than a third of the ring. Nothing was
	// logged.
	ErrTooLarge = errors.New("too many operations for one frame")
)

const (
	// groupBytes is how much waits before AppendAsync flushes by itself, and how
	// much one write of Append takes before it leaves the rest to the next.
	groupBytes = 1 << 20
)

// Stats counts what a Log has done.
type Stats struct {
	Records       [opcodeMask + 1]uint64 // appended, by opcode
	Frames        uint64                 // appended
	Groups        uint64                 // written
	Syncs         uint64                 // one a group, two where the ring wraps
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
	apply  func(first uint64, nanos int64, ops []Op)

	write sync.Mutex // held while the ring is written
	spare []byte     // guarded by write: the group buffer not in use
	taken []*request // guarded by write: those of the group being written

	order sync.Mutex // guards the encoder
	enc   encoder

	mu struct {
		sync.Mutex
		ring, old Ring
		queue     []*request // appends that wait for a leader
		leading   bool       // a goroutine leads, or has been chosen to
		next      uint64     // first sequence that no frame has
		mark      Mark       // end of the last frame that is applied
		tail      uint64     // may be read still; what is before it may be overwritten
		before    Mark       // end of the frame before the tail
		anchored  bool       // its MAC is known, or the tail is where an epoch begins
		failed    error
		stats     Stats // Watermark: all up to it is durable
	}
	requests sync.Pool
}

// New returns the log of a life that begins: epoch is the present one, next its
// first sequence, at a block, and tail the oldest that recovery may still need.
// watermark is ScanReport.Watermark. A log whose geometry or sequences make no
// sense is poisoned from the start.
func New(c Config, epoch Epoch, next, watermark, tail uint64) *Log {
	epochs := append(slices.Clone(c.Earlier), epoch)
	epochs[len(epochs)-1].End = NoEnd
	l := &Log{config: c, epochs: epochs}
	l.config.Ring, l.config.Old, l.config.Earlier = Ring{}, Ring{}, nil
	l.requests.New = func() any { return &request{wake: make(chan signal, 1)} }
	l.mu.ring, l.mu.old = c.Ring, c.Old
	l.mu.next, l.mu.tail = next, tail
	l.mu.mark = Mark{next - 1, epoch.Anchor, epoch.Number}
	l.mu.stats.Watermark = watermark
	if err := checkLife(&c, epochs, next, watermark, tail); err != nil {
		l.Poison(err)
		return l
	}
	l.setTail(tail)
	l.enc.start(&c, epoch, next)
	return l
}

// checkLife judges what New was given.
func checkLife(c *Config, epochs []Epoch, next, watermark, tail uint64) error {
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

// SetApply sets what applies the operations of a frame. It is called with the
// sequence of the first and the frame's time (Frame.Nanos, the same that Scan will
// give), in the order of sequences, never concurrently with itself: by Append after the frame is durable, by AppendAsync at once. It must
// not call Append, AppendAsync, Flush or Pause, nor keep ops. To be called before
// the first append.
func (l *Log) SetApply(apply func(first uint64, nanos int64, ops []Op)) { l.apply = apply }

// Pause waits until no append is under way, makes everything accepted durable,
// and keeps appends waiting until resume is called. The caller may use all
// methods in that time except Append, AppendAsync, Flush and Pause. Whether the log
// has been poisoned Failed says.
func (l *Log) Pause() (resume func()) {
	l.write.Lock()
	l.order.Lock()
	if l.Failed() == nil {
		// A failure is kept, and seen by everybody who appends.
		_ = l.writeGroup(l.closeGroup())
	}
	return sync.OnceFunc(func() {
		l.order.Unlock()
		l.write.Unlock()
	})
}

// Mark returns the end of the last frame that is applied; before the first, the
// end of what was there before this life.
func (l *Log) Mark() Mark {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.mark
}

// Next returns the first sequence that no frame has.
func (l *Log) Next() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.next
}

// Watermark returns a sequence up to which everything is durable.
func (l *Log) Watermark() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.stats.Watermark
}

// Stats returns the counts so far.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.stats
}

// Room returns how many records, those of pads included, fit before the tail is
// reached. Appends whose RecordsFor add up to no more all succeed.
func (l *Log) Room() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return int64(l.roomLocked(l.mu.next))
}

// Largest returns the most records, those of pads included, of one append: a third
// of the ring.
func (l *Log) Largest() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.largestLocked()
}

func (l *Log) largestLocked() int64 { return int64(l.config.records(l.mu.ring)) / 3 }

// roomLocked returns how many records fit from sequence on.
func (l *Log) roomLocked(sequence uint64) uint64 {
	if l.mu.ring.Storage == nil {
		return 0
	}
	// The block of the tail is kept whole (I2).
	tail := max(l.mu.tail, l.mu.ring.First)
	limit := tail - tail%l.config.blockRecords() + l.config.records(l.mu.ring)
	return limit - min(limit, sequence)
}

// Truncate lets the records up to confirmedThrough be overwritten, the end of a
// frame; the mark is the furthest that it goes. The caller knows that no commit
// slot needs them any more.
func (l *Log) Truncate(confirmedThrough uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	confirmedThrough = min(confirmedThrough, l.mu.mark.Sequence)
	if confirmedThrough < l.mu.tail || l.mu.ring.Storage == nil {
		return
	}
	l.mu.stats.Truncations++
	l.setTail(confirmedThrough + 1)
}

// setTail moves the tail and notes the MAC before it while it can still be read.
// The caller holds mu, or is New.
func (l *Log) setTail(tail uint64) {
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

// SwitchRing makes frames go to r from the next sequence on; the present ring
// holds the earlier ones. To be called inside Pause, when both commit slots name
// r and r.First == Next(). An error changes nothing.
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

// DropOld forgets the ring before the present one, and truncates what is in it.
func (l *Log) DropOld() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.old.Storage != nil && l.mu.tail < l.mu.ring.First {
		l.setTail(l.mu.ring.First)
	}
	l.mu.old = Ring{}
}

// Poison makes every later append fail with ErrPoisoned, wrapping err, the first
// one ever given.
func (l *Log) Poison(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.failed == nil {
		l.mu.failed = fmt.Errorf("%w: %w", ErrPoisoned, err)
	}
}

// Failed returns nil, or why the log is poisoned.
func (l *Log) Failed() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.failed
}
