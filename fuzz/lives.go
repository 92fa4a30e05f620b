package fuzz

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cidstore/cidstore"
	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/internal/errfs"
)

// reopen closes the store, with snapshots open, and opens it again.
func (m *Machine) reopen(c Source) error {
	if err := m.store.Close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	m.secured()
	if err := m.store.Close(); !errors.Is(err, cidstore.ErrClosed) {
		return fmt.Errorf("second close: %w", err)
	}
	for _, h := range m.snapshots {
		if _, err := h.view.Lookup(hotKey); !errors.Is(err, cidstore.ErrSnapshotExpired) {
			return fmt.Errorf("snapshot of a closed store: %w", err)
		}
		if err := h.view.Close(); !errors.Is(err, cidstore.ErrSnapshotExpired) {
			return fmt.Errorf("close of an expired snapshot: %w", err)
		}
	}
	m.snapshots = nil
	if err := m.open(); err != nil {
		return err
	}
	if r := m.store.Recovery(); !r.Clean || r.FramesReplayed != 0 || r.TornRecords != 0 {
		return fmt.Errorf("after a clean close, recovery is %+v", r)
	}
	if err := CompareKey(m.store, m.model, m.key(c)); err != nil {
		return err
	}
	return CompareLen(m.store, m.model)
}

// reopenOtherwise reopens with other options.
func (m *Machine) reopenOtherwise(c Source) error {
	o := &m.options
	switch c.Choose("option", 5) {
	case 0:
		o.NoMmap = !o.NoMmap
	case 1:
		o.Durability = 1 - o.Durability
	case 2:
		o.MemoryBudget = []int64{1, 4 << 10, 64 << 10, 0}[c.Choose("budget", 4)]
	case 3:
		o.Verify = cidstore.VerifyMode(c.Choose("verify", 3))
	case 4:
		o.WALBytes = []int64{64 << 10, 68 << 10, 256 << 10}[c.Choose("log", 3)]
	}
	return m.reopen(c)
}

func (m *Machine) openReader(c Source) error {
	if len(m.readers) == maxHeld {
		return m.closeReader(c)
	}
	if err := m.sync(c); err != nil { // what is not durable need not be seen
		return err
	}
	s, err := cidstore.Open(m.path, m.readOnly())
	if err != nil {
		return err
	}
	m.readers = append(m.readers, follower{s, m.model.Clone()})
	if err := s.Insert(hotKey, E{}); !errors.Is(err, cidstore.ErrReadOnly) {
		return fmt.Errorf("insert by a reader: %w", err)
	}
	return CompareStore(s, m.model)
}

// refreshReader compares a reader before and after it catches up.
func (m *Machine) refreshReader(c Source) error {
	if len(m.readers) == 0 {
		return m.openReader(c)
	}
	f := &m.readers[c.Choose("reader", len(m.readers))]
	if err := CompareKey(f.store, f.model, m.key(c)); err != nil {
		return fmt.Errorf("before: %w", err)
	}
	if err := m.sync(c); err != nil {
		return err
	}
	if err := f.store.Refresh(); err != nil {
		return err
	}
	f.model = m.model.Clone()
	return CompareStore(f.store, f.model)
}

func (m *Machine) closeReader(c Source) error {
	if len(m.readers) == 0 {
		return nil
	}
	i := c.Choose("reader", len(m.readers))
	f := m.readers[i]
	m.readers = slices.Delete(m.readers, i, i+1)
	return errors.Join(CompareStore(f.store, f.model), Sound(f.store), f.store.Close())
}

// powerCut crashes at one of the last calls of the file system, keeps some part of what was
// not synced, and opens what is left. Everything durable must be there. Of the rest there
// must be a prefix, with each batch complete or absent.
func (m *Machine) powerCut(c Source) error {
	trace := m.trace
	if trace.Len() == 0 {
		return nil
	}
	trace.Stop()
	m.Abandon()
	back := 0
	if c.Choose("earlier", 2) == 1 {
		back = c.Choose("calls back", min(300, max(trace.Len(), 1)))
	}
	plan := crashfs.Plan{PerCut: 8, Seed: uint64(c.Choose("loss", 256))}
	plan.From = max(trace.Len()-back, 1)
	plan.To = plan.From
	image, marks := pick(trace.Enumerate(plan), c.Choose("image", 8))
	low, high := window(marks)
	// A later cut may fall into this recovery, and must find the same.
	m.use(image)
	if err := m.recover(low, min(high, len(m.past))); err != nil { // a batch that was refused is never there
		return err
	}
	m.forget()
	return nil
}

// pick returns the nth image of an enumeration, or the last one, and its marks.
func pick(e *crashfs.Enumeration, n int) (image *crashfs.FS, marks []any) {
	for i := range e.Images() {
		if image != nil {
			image.Release()
		}
		image, marks = i.FS().Copy(), slices.Clone(i.Marks)
		if n--; n < 0 {
			break
		}
	}
	return image, marks
}

// window returns how much of the past must be there, and how much may be.
func window(marks []any) (low, high int) {
	for _, m := range marks {
		switch m := m.(type) {
		case durable:
			low = int(m)
		case issued:
			high = int(m)
		case withdrawn:
			high = int(m)
		}
	}
	return low, max(low, high)
}

// after returns the contents after n batches of the past.
func (m *Machine) after(n int) Model {
	state := m.base.Clone()
	for _, ops := range m.past[:n] {
		state.Apply(ops)
	}
	return state
}

// recover opens the store after an accident, and wants the contents after low to high
// batches of the past. The machine goes on with what it finds.
func (m *Machine) recover(low, high int) error {
	if err := m.open(); err != nil {
		return fmt.Errorf("open: %w", err)
	}
	got, err := ContentsOf(m.store)
	if err != nil {
		return err
	}
	state := m.after(low)
	for n := low; !got.Equal(state); n++ {
		if n >= high {
			return fmt.Errorf("after %d to %d batches; the last: %s; recovery %+v", low, high, got.difference(state), m.store.Recovery())
		}
		state.Apply(m.past[n])
	}
	m.model = got
	return errors.Join(CompareStore(m.store, m.model), Sound(m.store))
}

// fault makes one call fail, once or from then on, during a few batches and a checkpoint.
// The store must keep everything acknowledged, and all or nothing of the call that failed.
func (m *Machine) fault(c Source) error {
	ops := [...]errfs.Op{errfs.Syncs, errfs.Write | errfs.WriteSync, errfs.Changes | errfs.Syncs}
	m.faults.Add(errfs.Rule{
		Ops: ops[c.Choose("calls", len(ops))], Nth: 1 + c.Choose("nth", 24),
		Forever: c.Choose("forever", 2) == 1, Partial: 512 * c.Choose("partial", 3),
	})
	var failed error
	for range 1 + c.Choose("batches", 4) {
		if failed = m.batch(c); failed != nil {
			break
		}
	}
	ctx := context.Background()
	switch care := c.Choose("care", 8); {
	case failed != nil:
	case care == 0:
		_, failed = m.store.RunGCOnce(ctx)
	case care == 1:
		failed = m.store.Maintain(ctx)
	case care == 2 && len(m.snapshots)+len(m.readers) == 0:
		failed = m.store.Shrink(ctx)
	default:
		failed = m.Checkpoint()
	}
	err := m.afterFault(failed)
	m.faults.Clear()
	if err != nil || failed == nil {
		return err
	}
	if err := m.endReaders(); err != nil {
		return err
	}
	_ = m.store.Close() // that it fails is no surprise; that it unlocks is seen at once
	if err := m.recover(m.kept, len(m.past)); err != nil {
		return err
	}
	m.record()
	return nil
}

// afterFault examines a store after a call of it has failed.
func (m *Machine) afterFault(failed error) error {
	if failed == nil {
		return nil
	}
	got, err := ContentsOf(m.store)
	if err != nil {
		return fmt.Errorf("read after %w: %w", failed, err)
	}
	if !got.Equal(m.model) && !got.Equal(m.after(len(m.past))) {
		return fmt.Errorf("after %w: %s", failed, got.difference(m.model))
	}
	if !errors.Is(failed, cidstore.ErrPoisoned) {
		return nil
	}
	if err := m.store.Insert(hotKey, E{}); !errors.Is(err, cidstore.ErrPoisoned) {
		return fmt.Errorf("insert after %w: %w", failed, err)
	}
	return nil
}

// fullDisk leaves the disk a few blocks and writes until it is full. Nothing may be lost.
// Reads must work, and so must writes when there is room again.
func (m *Machine) fullDisk(c Source) error {
	info, err := m.fs.Stat(m.path)
	if err != nil {
		return err
	}
	m.disk.SetCapacity(info.Size + int64(c.Choose("room", 64))<<12)
	for i := range 40 {
		ops := []Op{m.op(c)}
		for range 50 {
			ops = append(ops, Op{Insert, cidstore.FromUint64(uint64(c.Choose("many", 4096))), cidstore.FromUint64(uint64(i))})
		}
		err := m.Apply(ops...)
		if err == nil {
			continue
		}
		if !errors.Is(err, cidstore.ErrNoSpace) || errors.Is(err, cidstore.ErrPoisoned) {
			return fmt.Errorf("want ErrNoSpace: %w", err)
		}
		m.past = m.past[:len(m.past)-1]
		m.mark(withdrawn(len(m.past)))
		if err := CompareKey(m.store, m.model, ops[1].Key); err != nil {
			return fmt.Errorf("when it is full: %w", err)
		}
		break
	}
	m.disk.SetCapacity(0)
	return m.batch(c)
}
