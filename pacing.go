package cidstore

import (
	"sync"
	"time"
)

// pacing slows writers while a checkpoint runs. A checkpoint gives room back only at its
// end: without pacing, writers would run at full speed until the log is full, and then
// wait for the rest of the checkpoint. With pacing they use the room that is left at an
// even rate until the end of the checkpoint, which its plan and its slices predict.
// Slower writers never wait.
type pacing struct {
	mu    sync.Mutex // guards the fields below
	began int64      // when the checkpoint under way began, in ns since 1970; 0: none is
	ends  int64      // when it will probably end
	perOp float64    // predicted ns of the whole checkpoint, for each of its operations
	soFar float64    // ns that a unit of its work took so far
	unit  float64    // the same, by large checkpoints before it
	seen  int64      // when owe was last called
	owed  float64    // ns by which writers are ahead of the rate
}

const (
	// A checkpoint's work is counted in entries that it folds. To sort the operations costs
	// as much as sortWork of these for each; to find what one changes, and to put it into a
	// run, as much as opWork. usualWork stands for what comes after the sorting, until that is
	// planned.
	sortWork  = 1
	opWork    = 3
	usualWork = opWork + 1
	// firstUnit is pacing.unit before the first large checkpoint.
	firstUnit = 300.0
	// paceReserve: writers leave one part in so many of the log and of memory, because a
	// checkpoint may take longer than predicted.
	paceReserve = 10
	// overdue: a checkpoint that should have ended is expected to take one part in so many
	// of the time so far.
	overdue = 16
	// pauseStep is the shortest sleep: less is saved up. Sleeps are whole steps, because the
	// system ends them only then: one of 1.2 ms would take 2.1 ms.
	pauseStep = time.Millisecond
	// payback: a write sleeps for a step, or for one part in so many of what is owed if that
	// is more, so that many writes share what one of them owes.
	payback = 8
	// mostPause bounds how long one write sleeps, and mostOwed what writes may owe in all,
	// in ns, whatever the clock has said.
	mostPause = 6 * time.Millisecond
	mostOwed  = float64(payback * mostPause)
)

// begin notes that a checkpoint of ops operations and that much work begins at now.
func (p *pacing) begin(now int64, ops int, work float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.unit == 0 {
		p.unit = firstUnit
	}
	p.began, p.ends, p.perOp = now, now+int64(work*p.unit), work*p.unit/float64(max(ops, 1))
}

// passed notes that the work done so far took that many ns, and how much work is left.
func (p *pacing) passed(now, took int64, done, left float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.soFar = float64(took) / max(done, 1)
	p.ends = now + int64(left*p.soFar)
}

// end notes that the checkpoint under way has ended. Only a large one says something about
// the next.
func (p *pacing) end(large bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if large && p.soFar > 0 {
		p.unit = max(p.soFar, (p.unit+p.soFar)/2) // it falls slowly: writers that go too fast at first wait at the end
	}
	p.began, p.ends, p.soFar = 0, 0, 0
}

// owe counts n operations of a writer, and returns how long it should sleep. room is how
// many operations still fit. If the store is in danger, writers may be no faster than the
// checkpoint.
func (p *pacing) owe(now int64, n int, room int64, danger bool) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.began == 0 {
		return 0
	}
	left := max(p.ends-now, (now-p.began)/overdue, 0)
	each := float64(left) / float64(max(room, 1))
	if danger {
		each = max(each, p.perOp)
	}
	elapsed := float64(max(now-p.seen, 0))
	p.seen = now
	p.owed = min(max(p.owed+each*float64(n)-elapsed, 0), mostOwed)
	owed := time.Duration(p.owed)
	return min(owed, max(owed/payback, pauseStep)).Truncate(pauseStep)
}

// pace makes a writer of n operations wait if writers take the room for pending operations
// faster than the checkpoint under way allows. Nobody is refused.
func (s *Store) pace(n int) {
	st := s.state.Load()
	if st == nil || st.frozen == nil || s.opts.GCInterval < 0 {
		return
	}
	pending := s.pendingShare(st)
	danger := pending*pendingWeight+unsortedWeight+ageWeight > dangerMost && s.dangerOf(st).score() > dangerMost
	if pause := s.pacing.owe(s.opts.Clock().UnixNano(), n, s.roomToPace(st), danger); pause > 0 {
		select {
		case <-s.stop:
		case <-time.After(pause):
		}
	}
}

// roomToPace returns how many operations writers may add until the checkpoint under way ends.
func (s *Store) roomToPace(st *state) int64 {
	ring, memory := s.ringRecords(int64(st.view.record.walSize)), s.opts.MemoryBudget
	fresh, frozen := int64(st.fresh.count.Load()), int64(st.frozen.count.Load())
	each := max(st.frozen.bytes()/max(frozen, 1), 1)
	return lessNext(min(lessReserve(s.log.Room(), ring), lessReserve(memory-st.pendingBytes(), memory)/each), fresh, frozen)
}

// lessNext takes from the room that is left what the next checkpoint needs: it should begin
// with half of all room, that of the pending operations included. If it did not, its writers
// would be slow, and those of the present one fast. At least half of what is left stays.
func lessNext(room, fresh, frozen int64) int64 {
	return max(min(room, (room+fresh+frozen)/2-fresh), room/2)
}

// lessReserve takes the reserve of all from the room that is left, but no more than half of
// that room: so writers in the reserve become slower, and do not stop.
func lessReserve(room, all int64) int64 { return max(room-all/paceReserve, room/2) }
