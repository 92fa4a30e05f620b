package cidstore

import (
	"fmt"
	"sync"

	"github.com/cidstore/cidstore/wal"
)

// Insert puts value into the set of key. It is durable when it returns, unless
// Options.Durability is Async. Inserting a value that is there has no effect.
func (s *Store) Insert(key, value E) error {
	return s.one(wal.Op{Code: wal.Insert, Key: key, Value: value})
}

// Delete removes all values of key. An absent key is no error.
func (s *Store) Delete(key E) error { return s.one(wal.Op{Code: wal.Delete, Key: key}) }

// DeleteValue removes value from the set of key. An absent value is no error.
func (s *Store) DeleteValue(key, value E) error {
	return s.one(wal.Op{Code: wal.DeleteValue, Key: key, Value: value})
}

// Apply applies the operations of b as one, in order: readers see all of them or none, and
// a crash leaves all of them or none. It returns ErrTooLarge if they take more than a
// third of Options.WALBytes.
func (s *Store) Apply(b *Batch) error {
	if b == nil {
		b = new(Batch)
	}
	return s.write(b.ops)
}

// singles keeps the one-element slices of single operations.
var singles = sync.Pool{New: func() any { return new([1]wal.Op) }}

func (s *Store) one(o wal.Op) error {
	ops := singles.Get().(*[1]wal.Op)
	ops[0] = o
	err := s.write(ops[:])
	singles.Put(ops)
	return err
}

func (s *Store) write(ops []wal.Op) error {
	s.closing.RLock()
	defer s.closing.RUnlock()
	if err := s.writable(); err != nil || len(ops) == 0 {
		return err
	}
	s.pace(len(ops))
	claim, err := s.admit(ops)
	if err != nil {
		return err
	}
	_, err = s.append(ops)
	s.release(claim)
	if err != nil {
		return err
	}
	return s.afterWrite()
}

// append logs a frame, for which there is a claim, and returns its last sequence.
func (s *Store) append(ops []wal.Op) (last wal.Seq, err error) {
	if s.opts.Durability == Async {
		last, err = s.log.AppendAsync(ops)
	} else {
		last, err = s.log.Append(ops)
	}
	return last, s.poisoned(err)
}

// writable returns why the store takes no writes, or nil. closing is held.
func (s *Store) writable() error {
	switch {
	case s.closed:
		return ErrClosed
	case s.opts.ReadOnly:
		return fmt.Errorf("write: %w", ErrReadOnly)
	}
	return s.Failed()
}

// Sync makes everything accepted so far durable in the log. With the durability Sync, it
// is so already.
func (s *Store) Sync() error {
	s.closing.RLock()
	defer s.closing.RUnlock()
	if err := s.writable(); err != nil {
		return err
	}
	return s.flush()
}

func (s *Store) flush() error {
	s.lastFlush.Store(s.opts.Clock().UnixNano())
	return s.poisoned(s.log.Flush())
}

// poisoned makes every later write fail if err is not nil, and returns the error that these
// get. After a failed write or sync, nobody knows what the disk holds until the store is
// opened again.
func (s *Store) poisoned(err error) error {
	if err == nil {
		return nil
	}
	s.file.Poison(err)
	if s.log != nil { // Open may be recovering yet
		s.log.Poison(err)
	}
	s.fail(err)
	return s.Failed()
}

// afterWrite starts a checkpoint if enough waits for one.
func (s *Store) afterWrite() error {
	inline := s.opts.GCInterval < 0
	if inline && s.opts.Durability == Async && s.flushDue() {
		if err := s.flush(); err != nil {
			return err
		}
	}
	if !s.checkpointDue() {
		return nil
	}
	if inline {
		s.checkpointIfDue(atOnce)
		return nil
	}
	select {
	case s.kick <- struct{}{}:
	default: // one is asked for already
	}
	return nil
}

// flushDue reports whether FlushInterval has passed since the last flush, or may have: the
// clock was set back.
func (s *Store) flushDue() bool {
	passed := s.opts.Clock().UnixNano() - s.lastFlush.Load()
	return passed < 0 || passed >= int64(s.opts.FlushInterval)
}

// checkpointDue reports whether the records or the memory since the last checkpoint fill
// their share.
func (s *Store) checkpointDue() bool {
	st := s.state.Load()
	if st == nil || s.log == nil {
		return false
	}
	applied := max(st.view.record.lastApplied, st.view.record.sliceThrough)
	return s.log.Next()-1-min(applied, s.log.Next()-1) >= wal.Seq(s.ringRecords(int64(st.view.record.walSize))*2/5) ||
		st.fresh.bytes() >= s.dueMemory()
}

// dueMemory returns how much memory of operations makes a checkpoint due, in bytes.
func (s *Store) dueMemory() int64 { return s.opts.MemoryBudget / 5 * 2 }

// dueOps returns at about how many operations, each on another key, a checkpoint is due.
func (s *Store) dueOps(st *state) int64 {
	return min(s.ringRecords(int64(st.view.record.walSize))*2/5, s.dueMemory()/(opBytes+keyBytes))
}

// changes reports whether an operation changes a set, or how it is kept. Summaries do
// neither.
func changes(c wal.Opcode) bool {
	switch c {
	case wal.Insert, wal.Delete, wal.DeleteValue, wal.CompactSet, wal.DemoteSet:
		return true
	}
	return false
}

// apply puts the operations of a frame into the fresh table, and then makes all of them
// visible at once. The log's leader calls it once the frame is durable or, with Async,
// accepted.
func (s *Store) apply(first wal.Seq, nanos int64, ops []wal.Op) {
	st := s.state.Load()
	st.add(first, nanos, ops)
	st.fresh.publish(first + wal.Seq(len(ops)) - 1)
}

// add puts the operations of a frame into the fresh table, where nobody sees them yet.
func (st *state) add(first wal.Seq, nanos int64, ops []wal.Op) {
	var hash uint64 // of the operation before, which often has the same key
	for i, o := range ops {
		if !changes(o.Code) {
			continue
		}
		if i == 0 || o.Key != ops[i-1].Key {
			hash = st.view.hasher.Hash(o.Key)
		}
		st.fresh.add(hash, first+wal.Seq(i), nanos, o)
	}
}
