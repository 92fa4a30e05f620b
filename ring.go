package cidstore

import (
	"context"
	"errors"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/wal"
)

const (
	ringPath    = "/wal"
	oldRingPath = "/wal_old"
	ringGrowth  = 4 // the ring grows by this factor at each step
	liveShare   = 4 // the log may be one part in so many of the live bytes; see ringLimit
	// closedBlocks is the size of the log of a closed store, in blocks, which takes a few
	// single writes before it has to grow.
	closedBlocks = 4
)

// liveBytes returns how many bytes the file holds, apart from free space and the log.
func (s *Store) liveBytes() int64 {
	p := s.file.Space()
	live := p.Size - p.Free - p.Fragments - p.Limbo - p.Pinned
	if st := s.state.Load(); st != nil {
		live -= int64(st.view.record.walSize + st.view.record.oldSize)
	}
	return max(live, 0)
}

// ringLimit returns how large a log suits the data: a quarter of the live bytes, but at
// least what a new store starts with. Where each operation rewrites a part of a set of
// values, fewer checkpoints are worth a longer log: it may be as large as the data, and half
// as large again if most values lie in large sets. A value there takes fewer bytes than its
// log record, and a checkpoint rewrites nearly all of a tree for a few operations on each
// leaf.
func (s *Store) ringLimit() int64 {
	live := s.liveBytes()
	good := live / liveShare
	switch {
	case s.rewrites(live):
		good = live + live/2
	case s.placedEach > costlyOperation:
		good = live
	}
	return min(max(s.opts.startBytes, good), s.opts.WALBytes)
}

// rewrites reports whether most values lie in large sets, if that many bytes are live, and
// the last checkpoint has rewritten such sets.
func (s *Store) rewrites(live int64) bool {
	return s.placedEach > costlyInDense && live < denseValue*int64(s.state.Load().view.record.numValues)
}

const (
	// costlyOperation is how many bytes a checkpoint has to place for each operation before
	// the log grows further. It is twice the cost of an entry that waits in a run and is
	// folded.
	costlyOperation = 300
	// denseValue is how many live bytes a value takes, at most, in a store whose values
	// lie mostly in large sets. A set of four takes 39 a value, one of 16 takes 26.
	denseValue = 32
	// costlyInDense replaces costlyOperation in such a store. It is what an operation on a
	// large tree costs if the log is as large as the tree.
	costlyInDense = 100
	// leastRoom: the log grows if there is memory for so many times the operations that are
	// pending when a checkpoint is due.
	leastRoom = 1.2
	// leastSample is how many operations a checkpoint needs to show what they cost.
	leastSample = 2000
)

// growRingIfFull grows the log if a checkpoint is due because of the log's length, and not
// because of memory, and if the log is as short as that of a new store, or the data are
// large enough for one of twice the size. checkpointing is held.
func (s *Store) growRingIfFull() (grown bool, err error) {
	st := s.state.Load()
	size := int64(st.view.record.walSize)
	room := float64(s.dueMemory()) / float64(max(st.fresh.bytes(), 1))
	if size >= s.opts.WALBytes || room < leastRoom {
		return false, nil
	}
	// The log of a new store grows once, however little data there are, because writes that
	// sync while a checkpoint runs take longer, and a longer log needs fewer checkpoints.
	want := min(max(size*ringGrowth, s.opts.startBytes), max(s.ringLimit(), s.opts.startBytes*ringGrowth))
	most := s.opts.WALBytes
	if s.rewrites(s.liveBytes()) { // a longer log than memory fills would only make the file longer
		most = int64(min(float64(most), float64(size)*room))
	}
	if want = min(want, most); want < 2*size && want < most {
		return false, nil
	}
	return s.growRing(want)
}

// growRingFor grows the log for a write of that many records, if the write is larger than a
// third of the present ring, or if the ring is the small one of a store that was closed.
// checkpointing is held.
func (s *Store) growRingFor(records int64) (grown bool, err error) {
	size, need := int64(s.state.Load().view.record.walSize), wal.Bytes(3*records, s.opts.blockBytes)
	if size >= s.opts.WALBytes || need <= size && size >= s.opts.startBytes {
		return false, nil
	}
	good := max(need, min(max(size*ringGrowth, s.opts.startBytes), s.ringLimit()))
	grown, err = s.growRing(good)
	if !grown && err == nil && size < need && need < good { // the disk has no room for that much
		grown, err = s.growRing(need)
	}
	return grown, err
}

// growRing makes a longer ring. One commit makes it and keeps the present one as /wal_old.
// Then both slots name the first sequence of the new ring, and only then do frames go
// there. If the disk has no room for it, that is no error: the log stays as it is.
func (s *Store) growRing(size int64) (grown bool, err error) {
	size = min(roundUp(size, int64(s.opts.blockBytes)), s.opts.WALBytes)
	if err := s.intact(); err != nil {
		return false, s.poisoned(err)
	}
	if s.state.Load().view.record.oldAddress != 0 { // the last step is not over
		if err := s.finishRingGrowth(); err != nil {
			return false, err
		}
	}
	if err := s.file.Reserve(size + usualGrowth(s.pendingOps()) + 3*s.sliceOf(size)); err != nil {
		if errors.Is(err, ErrNoSpace) {
			return false, nil
		}
		return false, s.writeFailed(err)
	}
	resume, began := func() {}, s.opts.Clock()
	defer func() { resume() }()
	err = s.change(func(m *merge) error {
		if err := m.tx.Move(ringPath, oldRingPath); err != nil {
			return err
		}
		address, err := createRing(m.tx, size, s.opts.blockBytes)
		if err != nil {
			return err
		}
		if err := m.tx.Sync(); err != nil { // the zeros, before Pause makes writers wait
			return err
		}
		resume = s.log.Pause()
		r := &m.record
		r.oldAddress, r.oldSize = r.walAddress, r.walSize
		r.walAddress, r.walSize, r.walFirst = uint64(address), uint64(size), s.log.Next()
		return nil
	})
	if errors.Is(err, ErrNoSpace) && s.file.Failed() == nil {
		return false, nil // there is room, but not in one piece
	}
	if err != nil {
		return false, s.writeFailed(err)
	}
	if err := s.settle(); err != nil {
		return false, err
	}
	r := &s.state.Load().view.record
	s.dropRing(r)
	if err := s.log.SwitchRing(wal.Ring{Storage: s.ringAt(int64(r.walAddress), size), First: r.walFirst}); err != nil {
		return false, s.poisoned(err)
	}
	s.maintained(didGrowLog, uint64(size), s.opts.Clock().Sub(began))
	return true, nil
}

// dropRing takes the present ring out of the system's cache, which has it in long pieces,
// as it was written or read: for each short write into one the system looks at all of it.
// What the log writes later is cached in short pieces.
func (s *Store) dropRing(r *record) { s.vfile.DropCache(int64(r.walAddress), int64(r.walSize)) }

// finishRingGrowth brings everything in /wal_old into the tree and removes it.
func (s *Store) finishRingGrowth() error {
	for range 2 { // the first root keeps /wal_old, the next drops it
		if err := s.checkpointAll(context.Background()); err != nil {
			return err
		}
		if s.state.Load().view.record.oldAddress == 0 {
			break
		}
		err := s.change(func(m *merge) error { _, err := m.dropOldRing(); return err })
		if err != nil {
			return s.writeFailed(err)
		}
	}
	s.log.DropOld()
	return nil
}

// dropOldRing removes /wal_old if the root that is about to become the older one needs no
// record in it.
func (m *merge) dropOldRing() (bool, error) {
	if m.record.oldAddress == 0 || m.base.record.lastApplied+1 < m.record.walFirst {
		return false, nil
	}
	m.record.oldAddress, m.record.oldSize = 0, 0
	return true, m.tx.Remove(oldRingPath)
}

// shrinkRing replaces a longer /wal with a log of closedBlocks, whose first sequence is
// next. Everything before next is in the tree of the base root.
func (m *merge) shrinkRing(next wal.Seq) error {
	size := closedBlocks * uint64(m.record.walBlock)
	if m.record.walSize <= size {
		return nil
	}
	return m.replaceRing(size, next)
}

// moveClosedRing replaces the log with one of the same size, if any of it lies after the
// address from and the base root closes the store: nothing is in the log then, and nothing
// will be.
func (m *merge) moveClosedRing(from int64, next wal.Seq) error {
	r := &m.base.record
	if !r.clean || int64(r.walAddress+r.walSize) <= from {
		return nil
	}
	return m.replaceRing(r.walSize, next)
}

// replaceRing replaces /wal with an empty log.
func (m *merge) replaceRing(size uint64, next wal.Seq) error {
	if err := m.tx.Remove(ringPath); err != nil {
		return err
	}
	r := &m.record
	address, err := createRing(m.tx, int64(size), int(r.walBlock))
	r.walAddress, r.walSize, r.walFirst = uint64(address), size, next
	return err
}

// ringRecords returns how many records a log of size bytes holds.
func (s *Store) ringRecords(size int64) int64 { return wal.Records(size, s.opts.blockBytes) }

// createRing makes /wal of size bytes and fills it with zeros, so that no append needs
// space or metadata from the file system.
func createRing(tx *hdf5io.Tx, size int64, block int) (address int64, err error) {
	d, err := tx.CreateDataset(ringPath, hdf5io.DatasetSpec{
		Type: wal.BlockType(block), Dims: []uint64{uint64(size) / uint64(block)}, Zero: true,
		Attributes: hdf5io.Described("ring of log records, in blocks; the record of sequence s is number s mod their number", "block"),
	})
	if err != nil {
		return 0, err
	}
	address, _ = d.Extent()
	return address, nil
}
