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
	ringGrowth  = 4 // times, at each step
)

// growRingIfFull grows the log when its length, and not memory, is what asks for
// a checkpoint. checkpointing is held.
func (s *Store) growRingIfFull() error {
	st := s.state.Load()
	if int64(st.view.record.walSize) >= s.opts.WALBytes || st.fresh.bytes() >= s.opts.MemoryBudget/3 {
		return nil
	}
	_, err := s.growRing(int64(st.view.record.walSize) * ringGrowth)
	return err
}

// growRingFor grows the log for a write of so many records, if it is larger than
// a third of the present ring. checkpointing is held.
func (s *Store) growRingFor(records int64) (grown bool, err error) {
	size, want := int64(s.state.Load().view.record.walSize), 3*records*wal.RecordSize
	if want <= size || size >= s.opts.WALBytes {
		return false, nil
	}
	return s.growRing(max(size*ringGrowth, want))
}

// growRing makes a longer ring. One commit makes it and keeps the present one as
// /wal_old; both slots then name the first sequence of the new ring; only then
// do frames go there. A disk without room for it is no error: the log stays.
func (s *Store) growRing(size int64) (grown bool, err error) {
	size = min(roundUp(size, int64(s.opts.blockBytes)), s.opts.WALBytes)
	if s.state.Load().view.record.oldAddress != 0 { // the last step is not over
		if err := s.finishRingGrowth(); err != nil {
			return false, err
		}
	}
	if err := s.file.Reserve(size + s.growth(s.pendingOps()) + 3*s.smallestSlice()); err != nil {
		if errors.Is(err, ErrNoSpace) {
			return false, nil
		}
		return false, s.writeFailed(err)
	}
	tx, err := s.file.Begin()
	if err != nil {
		return false, err
	}
	m, err := newMerge(s, tx, s.state.Load().view)
	if err == nil {
		err = tx.Move(ringPath, oldRingPath)
	}
	var address int64
	if err == nil {
		address, err = createRing(tx, size)
	}
	if err != nil {
		tx.Abort()
		return false, s.writeFailed(err)
	}
	resume := s.log.Pause()
	defer resume()
	r := &m.record
	r.oldAddress, r.oldSize = r.walAddress, r.walSize
	r.walAddress, r.walSize, r.walFirst = uint64(address), uint64(size), s.log.Next()
	if err := s.commit(tx, m, s.state.Load().frozen); err != nil {
		return false, s.writeFailed(err)
	}
	if err := s.settle(); err != nil {
		return false, err
	}
	if err := s.log.SwitchRing(wal.Ring{Storage: s.file.Region(address, size), First: r.walFirst}); err != nil {
		return false, s.poisoned(err)
	}
	return true, nil
}

// finishRingGrowth brings everything in /wal_old into the tree and removes it.
func (s *Store) finishRingGrowth() error {
	for range 2 { // the first root leaves /wal_old behind, the next is without it
		if err := s.checkpointAll(context.Background()); err != nil {
			return err
		}
		if s.state.Load().view.record.oldAddress == 0 {
			break
		}
		tx, err := s.file.Begin()
		if err != nil {
			return err
		}
		m, err := newMerge(s, tx, s.state.Load().view)
		if err == nil {
			_, err = m.dropOldRing(tx)
		}
		if err != nil {
			tx.Abort()
			return err
		}
		if err := s.commit(tx, m, s.state.Load().frozen); err != nil {
			return s.writeFailed(err)
		}
	}
	s.log.DropOld()
	return nil
}

// dropOldRing removes /wal_old when the root that is about to become the older
// one needs no record of it.
func (m *merge) dropOldRing(tx *hdf5io.Tx) (bool, error) {
	if m.record.oldAddress == 0 || m.base.record.lastApplied+1 < m.record.walFirst {
		return false, nil
	}
	m.record.oldAddress, m.record.oldSize = 0, 0
	return true, tx.Remove(oldRingPath)
}

// createRing makes /wal of size bytes, written with zeros, so that no append
// needs space or metadata of the file system.
func createRing(tx *hdf5io.Tx, size int64) (address int64, err error) {
	d, err := tx.CreateDataset(ringPath, hdf5io.DatasetSpec{
		Type: recordType(), Dims: []uint64{uint64(size) / wal.RecordSize}, Zero: true,
		Attributes: described("ring of log records; the record of sequence s is number s mod length", "record"),
	})
	if err != nil {
		return 0, err
	}
	address, _ = d.Extent()
	return address, nil
}

func recordType() hdf5io.Datatype {
	u64, u32, u16, u8 := hdf5io.Uint(8), hdf5io.Uint(4), hdf5io.Uint(2), hdf5io.Uint(1)
	return hdf5io.Compound(wal.RecordSize,
		hdf5io.Field{Name: "version_op", Offset: 0, Type: u8}, hdf5io.Field{Name: "flags", Offset: 1, Type: u8},
		hdf5io.Field{Name: "reserved", Offset: 2, Type: u16}, hdf5io.Field{Name: "checksum", Offset: 4, Type: u32},
		hdf5io.Field{Name: "nanos", Offset: 8, Type: u64}, hdf5io.Field{Name: "seq", Offset: 16, Type: u32},
		hdf5io.Field{Name: "shard_id", Offset: 20, Type: u32},
		hdf5io.Field{Name: "key_high", Offset: 24, Type: u64}, hdf5io.Field{Name: "key_low", Offset: 32, Type: u64},
		hdf5io.Field{Name: "value_high", Offset: 40, Type: u64}, hdf5io.Field{Name: "value_low", Offset: 48, Type: u64},
		hdf5io.Field{Name: "watermark", Offset: 56, Type: u64},
	)
}
