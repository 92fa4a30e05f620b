package wal

import (
	"fmt"
	"runtime"
)

// request is an Append that waits.
type request struct {
	ops   []Op
	first Seq
	nanos int64
	last  Seq
	err   error
	wake  chan signal
}

// signal is what a waiting Append receives.
type signal bool

const (
	answered signal = false // last and err are set
	leads    signal = true  // take the queue, of which this is the first
)

// Append makes a frame of ops and returns the sequence of its TXN_COMMIT when the
// frame is durable and applied. The nth operation has the sequence that apply was
// called with plus n. Appends that wait at the same time share one write and sync.
// A frame without operations records on the disk that everything before it is durable.
//
// After ErrTooLarge and ErrFull nothing was logged. After ErrPoisoned nothing was
// applied, and the next Scan finds either the complete frame or nothing of it.
func (l *Log) Append(ops []Op) (last Seq, err error) {
	if err := l.admit(ops); err != nil {
		return 0, err
	}
	r := l.requests.Get().(*request)
	r.ops, r.err = ops, nil
	l.mu.Lock()
	l.mu.queue = append(l.mu.queue, r)
	lead := !l.mu.leading
	l.mu.leading = true
	l.mu.Unlock()
	if lead || <-r.wake == leads {
		l.lead(r)
	}
	last, err = r.last, r.err
	r.ops = nil
	l.requests.Put(r)
	return last, err
}

// admit checks the operations of one frame.
func (l *Log) admit(ops []Op) error {
	for i := range ops {
		if !ops[i].Code.operation() {
			return fmt.Errorf("log: operation %d of %d has opcode %d", i, len(ops), ops[i].Code)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.failed != nil {
		return l.mu.failed
	}
	if need, most := RecordsFor(len(ops), l.config.Block), l.largestLocked(); need > most {
		return fmt.Errorf("%w: %d records, a third of the ring is %d", ErrTooLarge, need, most)
	}
	return nil
}

// lead writes one group for self, which is the first of the queue, and for as many
// requests after it as fit. It then hands the lead to the next that waits.
func (l *Log) lead(self *request) {
	l.write.Lock()
	l.order.Lock()
	l.gather()
	err := l.take()
	if err == nil {
		l.encodeTaken()
		err = l.writeGroup(l.closeGroup())
	}
	for _, r := range l.taken {
		if r.err == nil {
			r.err = err
		}
		if r.err == nil && l.apply != nil && len(r.ops) > 0 {
			l.apply(r.first, r.nanos, r.ops)
		}
	}
	if err == nil {
		l.publish()
	}
	for i, r := range l.taken {
		l.taken[i] = nil
		if r != self {
			r.wake <- answered
		}
	}
	l.yielded = max(l.yielded-int64(len(l.taken))*gatherShare, 0)
	l.order.Unlock()
	l.write.Unlock()

	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.writers = len(l.taken) + len(l.mu.queue)
	if len(l.mu.queue) == 0 {
		l.mu.leading = false
		return
	}
	l.mu.queue[0].wake <- leads
}

// Where other goroutines want all processors, a yield takes as long as they run.
const (
	gatherShare = 10_000      // ns that leaders may yield for each append, on average
	mostYielded = 100_000_000 // most ns that one gather counts, whatever the clock has said
)

// gather yields, twice at most, until as many appends wait as the last group answered or
// left in the queue. Goroutines whose appends it answered come back at once if they have
// more to write, and one sync then serves them all. The caller holds write and order.
func (l *Log) gather() {
	all := func() bool { return len(l.mu.queue) >= l.mu.writers }
	if l.yielded > 0 || locked(l, all) {
		return
	}
	began := l.config.Now()
	for range 2 {
		if runtime.Gosched(); locked(l, all) {
			break
		}
	}
	l.yielded = min(l.config.Now()-began, mostYielded)
}

// take moves requests from the queue to l.taken, about groupBytes of them. It sets
// the error of those for which the ring has no room. The error that it returns
// concerns all of them.
func (l *Log) take() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.taken = l.taken[:0]
	records := l.enc.grouped()
	room := l.roomLocked(l.enc.first)
	for _, r := range l.mu.queue {
		if len(l.taken) > 0 && records*RecordSize >= groupBytes {
			break
		}
		l.taken = append(l.taken, r)
		with := records + uint64(len(r.ops)) + endRecords
		if with+l.enc.pads(with) > room {
			r.err = ErrFull
			continue
		}
		records = with
	}
	left := copy(l.mu.queue, l.mu.queue[len(l.taken):])
	clear(l.mu.queue[left:])
	l.mu.queue = l.mu.queue[:left]
	l.mu.next = l.enc.first + Seq(records+l.enc.pads(records))
	return l.mu.failed
}

// encodeTaken adds the frames of l.taken to the group and pads the last.
func (l *Log) encodeTaken() {
	var last *request
	for _, r := range l.taken {
		if r.err == nil {
			last = r
		}
	}
	watermark := l.Watermark()
	for _, r := range l.taken {
		if r.err != nil {
			continue
		}
		pads := uint64(0)
		if r == last {
			pads = l.enc.pads(l.enc.grouped() + uint64(len(r.ops)) + endRecords)
		}
		r.first, r.nanos = l.enc.frame(r.ops, pads, watermark)
		r.last = l.enc.mark.Sequence
	}
}

// AppendAsync makes a frame of ops, applies it and returns the sequence of its
// TXN_COMMIT. The frame is durable after the next Flush. AppendAsync asks for one by Full
// when 1 MiB waits, and calls it itself when 4 MiB do.
//
// Errors are those of Append, but with ErrPoisoned the frame may have been applied.
func (l *Log) AppendAsync(ops []Op) (last Seq, err error) {
	if err := l.admit(ops); err != nil {
		return 0, err
	}
	l.order.Lock()
	with := l.enc.grouped() + uint64(len(ops)) + endRecords
	if err := l.reserve(with); err != nil {
		l.order.Unlock()
		return 0, err
	}
	pads := l.enc.pads(with)
	if pads >= endRecords { // a frame that ends the block fits
		pads = 0
	}
	first, nanos := l.enc.frame(ops, pads, l.Watermark())
	last = l.enc.mark.Sequence
	if l.apply != nil && len(ops) > 0 {
		l.apply(first, nanos, ops)
	}
	l.publish()
	waiting := len(l.enc.group)
	l.order.Unlock()
	switch {
	case waiting >= mostWaiting:
		err = l.Flush()
	case waiting >= groupBytes:
		select {
		case l.full <- struct{}{}:
		default: // one is asked for already
		}
	}
	return last, err
}

// Full returns a channel that receives when AppendAsync wants a Flush.
func (l *Log) Full() <-chan struct{} { return l.full }

// reserve checks whether the group may have that many records.
func (l *Log) reserve(with uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.failed != nil {
		return l.mu.failed
	}
	if with+l.enc.pads(with) > l.roomLocked(l.enc.first) {
		return ErrFull
	}
	return nil
}

// Flush makes everything that was accepted durable. Appends may go on beside it.
func (l *Log) Flush() error {
	l.write.Lock()
	defer l.write.Unlock()
	if err := l.Failed(); err != nil {
		return err
	}
	l.order.Lock()
	first, group := l.closeGroup()
	l.order.Unlock()
	return l.writeGroup(first, group)
}

// closeGroup ends the group at the end of a block and begins the next. If the last
// frame does not end there, it adds a frame of pads alone. It returns the group,
// which the caller may use until it calls closeGroup again. The caller holds write
// and order.
func (l *Log) closeGroup() (first Seq, group []byte) {
	if pads := l.enc.pads(l.enc.grouped()); pads > 0 {
		l.enc.frame(nil, pads-endRecords, l.Watermark())
		l.publish()
	}
	first, group = l.enc.first, l.enc.group
	l.enc.first, l.enc.group = l.enc.next, l.spare[:0]
	l.spare = group
	if cap(group) > mostWaiting {
		l.spare = nil
	}
	return first, group
}

// publish moves the mark to the end of the last frame, which has been applied. The
// caller holds order.
func (l *Log) publish() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.mark, l.mu.next = l.enc.mark, l.enc.next
	l.mu.stats.Records, l.mu.stats.Frames = l.enc.records, l.enc.frames
}

// writeGroup makes a group durable, with two writes if the ring wraps. A failure
// poisons the log. The caller holds write.
func (l *Log) writeGroup(first Seq, group []byte) error {
	if len(group) == 0 {
		return nil
	}
	l.mu.Lock()
	ring, err := l.mu.ring, l.mu.failed
	l.mu.Unlock()
	if err != nil {
		return err
	}
	place := l.config.place(ring, first)
	last := first + Seq(Records(int64(len(group)), l.config.Block)) - 1
	before := min(int64(len(group)), ring.Storage.Size()-place)
	syncs := uint64(1)
	// Nothing of the group is acknowledged or, with Append, applied before both
	// writes are durable.
	err = ring.Storage.WriteSync(group[:before], place)
	if rest := group[before:]; err == nil && len(rest) > 0 {
		syncs++
		err = ring.Storage.WriteSync(rest, 0)
	}
	if err != nil {
		err = fmt.Errorf("write log records %d to %d: %w", first, last, err)
		l.Poison(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.mu.stats.Errors++
		return l.mu.failed
	}
	l.mu.stats.Groups++
	l.mu.stats.Syncs += syncs
	l.mu.stats.Bytes += uint64(len(group))
	l.mu.watermark = last
	return nil
}
