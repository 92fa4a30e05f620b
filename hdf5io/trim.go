package hdf5io

import (
	"errors"
	"fmt"

	"github.com/cidstore/cidstore/vfs"
)

// Trim gives the free space at the end of the file back to the file system, except
// what is needed to leave keepFree bytes of usable space in all. If another opener
// has the file open, it does nothing and returns nil. It commits the present root
// again, with the smaller end of file, in both slots, and only then truncates the
// file. There must be no Tx. Before each commit, and at the end, it calls adopt,
// which puts File.View in the place of older Views; adopt is nil if nobody reads.
func (f *File) Trim(keepFree int64, adopt func() error) error {
	if adopt == nil {
		adopt = func() error { f.View().Adopted(); return nil }
	}
	_, err := f.Alone(func() error { return f.trim(uint64(max(keepFree, 0)), adopt) })
	return err
}

// Alone calls do if nobody else has the file open, and keeps others from opening it
// until do returns. It reports whether do was called. There must be one call at a
// time, except calls inside do.
func (f *File) Alone(do func() error) (alone bool, err error) {
	if err := f.writable(); err != nil {
		return false, err
	}
	if f.alone.Load() { // inside another call, or nobody else can ever open the file
		return true, do()
	}
	err = f.file.TryLock(lockExclusive)
	if errors.Is(err, vfs.ErrLockHeld) {
		return false, f.shareAgain()
	}
	if err != nil {
		return false, errors.Join(fmt.Errorf("lock the file alone: %w", err), f.shareAgain())
	}
	f.alone.Store(true)
	defer func() {
		f.alone.Store(false)
		err = errors.Join(err, f.shareAgain())
	}()
	return true, do()
}

// shareAgain goes back to the shared lock. The exchange is not atomic: an HDF5
// program may have opened the file for writing in between, and then we must not
// write.
func (f *File) shareAgain() error {
	if err := f.file.TryLock(lockShared); err != nil {
		return f.Poison(fmt.Errorf("lock the file again: %w", err))
	}
	return nil
}

// trimRounds: the second round takes the space before the free map, which the
// commit of the first round has moved.
const trimRounds = 2

func (f *File) trim(keepFree uint64, adopt func() error) error {
	for range trimRounds {
		if err := f.Settle(); err != nil {
			return err
		}
		if err := adopt(); err != nil {
			return err
		}
		tail, err := f.cutTail(keepFree)
		if err != nil || tail.size == 0 {
			return err
		}
		if err := f.commitAgain(tail); err != nil {
			return err
		}
		if err := f.truncate(); err != nil {
			return err
		}
	}
	return adopt()
}

// cutTail takes what Trim may give back from the pool and from the file's size.
func (f *File) cutTail(keepFree uint64) (extent, error) {
	s := &f.space
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := f.reclaim(true); err != nil {
		return extent{}, err
	}
	list, err := s.pool.extents()
	if err != nil {
		return extent{}, f.Poison(err)
	}
	if len(list) == 0 || list[len(list)-1].end() != s.size {
		return extent{}, nil
	}
	last := &list[len(list)-1]
	piece := f.view.Load().slot.freeMapSize + growUnit
	if f.options.Plain {
		piece = max(piece, keepFree) // see LeaveRoom
	}
	keep := s.keepAtEnd(list[:len(list)-1], keepFree, piece)
	if keep >= last.size {
		return extent{}, nil
	}
	end := (last.start + keep + growUnit - 1) &^ (growUnit - 1)
	if end >= s.size {
		return extent{}, nil
	}
	tail := extent{end, s.size - end}
	last.size -= tail.size
	s.setSize(end)
	return tail, s.pool.putAll(nil)
}

// keepAtEnd is how much free space is kept at the end of the file, so that there
// are keepFree bytes together with the extents before it, and one extent of piece
// bytes: the commit that makes the file smaller needs room for its own free map.
func (s *space) keepAtEnd(before []extent, keepFree, piece uint64) uint64 {
	for _, e := range before {
		if size := e.sectors().size; size >= minUsable {
			keepFree -= min(keepFree, size)
			if size >= piece {
				piece = 0
			}
		}
	}
	return max(keepFree, piece)
}

// commitAgain commits the present root once more. If that fails, it puts tail back.
func (f *File) commitAgain(tail extent) error {
	tx, err := f.Begin()
	if err == nil {
		if _, err = tx.commitBoth(tx.Base().Payload()); err == nil {
			return nil
		}
		tx.Abort()
	}
	f.space.mu.Lock()
	defer f.space.mu.Unlock()
	if tail.start == f.space.size {
		f.space.pool.put(tail)
		f.space.setSize(f.space.size + tail.size)
	}
	return err
}

// truncate cuts the file where its space ends. Both slots have that end, and are
// durable.
func (f *File) truncate() error {
	f.space.mu.Lock()
	defer f.space.mu.Unlock()
	if err := f.intact(); err != nil { // a file that was cut short would become longer
		return fmt.Errorf("truncate the file: %w", err)
	}
	if err := f.file.Truncate(int64(f.space.size)); err != nil {
		return f.Poison(fmt.Errorf("truncate the file to %d bytes: %w", f.space.size, err))
	}
	return f.syncAll(true)
}
