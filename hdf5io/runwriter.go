package hdf5io

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cidstore/cidstore/internal/invariants"
	"github.com/cidstore/cidstore/vfs"
)

// writeUnit is how much is written to the file at once: from one multiple of it to
// the next, if the run is that long. A system with large pages in its cache makes
// them as large as the writes that bring new space in, and maps a page of 2 MiB
// with one entry of its page tables. Readers of a large file then miss that entry
// much less often than they would miss one of 512 (docs/DECISIONS.md, no. 4).
const writeUnit = 2 << 20

// runWriter places bytes one after another in runs of free space, which it takes
// from the pool.
type runWriter struct {
	file   *File
	run    extent   // what is left of the run; its space is in taken too
	taken  []extent // all that was taken from the pool and not put back
	placed uint64
	surely *Demand // see Tx.Surely

	// buffer holds bytes for the file from bufferAt on that are not written yet.
	// All of [owned, end of the run) was taken in one piece, so gaps in the buffer
	// there may be filled.
	buffer   []byte
	bufferAt uint64
	owned    uint64
}

// alloc returns the address of size bytes of new space.
func (w *runWriter) alloc(size uint64) (uint64, error) {
	size = padded(size)
	if w.run.size < size {
		if err := w.next(size); err != nil {
			return 0, err
		}
	}
	return w.advance(size), nil
}

// advance hands out the next size bytes of the run.
func (w *runWriter) advance(size uint64) uint64 {
	address := w.run.start
	w.run = extent{address + size, w.run.size - size}
	w.placed += size
	if invariants.Enabled && w.surely != nil && (w.placed > uint64(w.surely.Bytes) || size > padded(uint64(w.surely.Piece))) {
		panic(fmt.Sprintf("hdf5io: %d bytes placed, the last %d in one piece, want at most %+v", w.placed, size, *w.surely))
	}
	return address
}

// allocAligned is alloc at a multiple of growUnit. What is placed after it goes
// into the lowest space again, because it may still be there when this is freed.
func (w *runWriter) allocAligned(size uint64) (uint64, error) {
	size = padded(size)
	if size > maxAddress-growUnit {
		return 0, fmt.Errorf("place %d bytes: %w", size, ErrNoSpace)
	}
	if err := w.next(size + growUnit - sectorSize); err != nil {
		return 0, err
	}
	// What lies before the aligned address goes back to the pool. It is the head of
	// what was taken last, which begins after it then.
	if gap := -w.run.start & (growUnit - 1); gap > 0 {
		last := &w.taken[len(w.taken)-1]
		head := extent{w.run.start, gap}
		w.run = extent{head.end(), w.run.size - gap}
		if last.start == head.start {
			*last = extent{head.end(), last.size - gap}
		} else {
			tail := extent{head.end(), last.end() - head.end()}
			last.size = head.start - last.start
			w.taken = append(w.taken, tail)
		}
		w.owned = w.run.start
		w.giveBack(head)
	}
	address := w.advance(size)
	w.dropRun()
	w.file.space.mu.Lock()
	defer w.file.space.mu.Unlock()
	if err := w.file.space.pool.putAll(nil); err != nil {
		return 0, w.file.Poison(err)
	}
	return address, nil
}

// next puts back what is left of the run and takes one of at least size bytes.
func (w *runWriter) next(size uint64) error {
	w.dropRun()
	s := &w.file.space
	s.mu.Lock()
	defer s.mu.Unlock()
	var e extent
	found := false
	lacking := func() uint64 {
		switch {
		case w.surely != nil:
			e, found = s.pool.wholly(size)
		case !s.tight():
			e, found = s.pool.take(size, takeRun)
		case size >= leastFit:
			e, found = s.pool.fit(size)
		default:
			e, found = s.pool.short(size)
		}
		if found {
			return 0
		}
		return size + sectorSize // the file may end within a sector
	}
	room := w.file.makeRoom
	if s.pool.inGaps {
		room = w.file.roomInGaps
	}
	if err := room(lacking); err != nil {
		return err
	}
	if !found && lacking() > 0 { // found is unset when the file grew
		return fmt.Errorf("place %d bytes: %w", size, ErrNoSpace)
	}
	w.run = e
	if n := len(w.taken); n == 0 || w.taken[n-1].end() != e.start {
		w.owned = e.start
	}
	w.taken = appendExtent(w.taken, e)
	return nil
}

// dropRun puts what is left of the run back into the pool.
func (w *runWriter) dropRun() {
	if w.run.size == 0 {
		return
	}
	last := &w.taken[len(w.taken)-1]
	last.size -= w.run.size
	if last.size == 0 {
		w.taken = w.taken[:len(w.taken)-1]
	}
	w.giveBack(w.run)
	w.run = extent{}
}

func (w *runWriter) giveBack(e extent) {
	w.file.space.mu.Lock()
	w.file.space.pool.put(e)
	w.file.space.mu.Unlock()
}

// abandon puts back everything that was taken.
func (w *runWriter) abandon() {
	w.file.space.mu.Lock()
	defer w.file.space.mu.Unlock()
	for _, e := range w.taken {
		w.file.space.pool.put(e)
	}
	w.taken, w.run, w.buffer = nil, extent{}, w.buffer[:0]
}

// write puts p at address, in space that alloc returned.
func (w *runWriter) write(address uint64, p []byte) error {
	for len(p) > 0 {
		if len(w.buffer) > 0 && !w.fits(address) {
			if err := w.flush(); err != nil {
				return err
			}
		}
		if len(w.buffer) == 0 {
			w.bufferAt = address
		}
		n := int(min(uint64(len(p)), w.unitEnd()-address))
		w.fill(int(address-w.bufferAt), p[:n])
		address, p = address+uint64(n), p[n:]
	}
	return nil
}

// unitEnd is the end of the unit that the buffer lies in.
func (w *runWriter) unitEnd() uint64 { return w.bufferAt&^(writeUnit-1) + writeUnit }

// fits reports whether bytes at address can go into the buffer.
func (w *runWriter) fits(address uint64) bool {
	if address < w.bufferAt || address >= w.unitEnd() {
		return false
	}
	return address <= w.bufferAt+uint64(len(w.buffer)) || w.bufferAt >= w.owned
}

// fill copies p into the buffer at the index at.
func (w *runWriter) fill(at int, p []byte) {
	if need := at + len(p); need > len(w.buffer) {
		n := len(w.buffer)
		w.buffer = slices.Grow(w.buffer, need-n)[:need] // a small store needs little
		if at > n {
			clear(w.buffer[n:at])
		}
	}
	copy(w.buffer[at:], p)
}

// flush writes the buffer to the file.
func (w *runWriter) flush() error {
	if len(w.buffer) == 0 {
		return nil
	}
	err := w.writeOut(w.buffer, w.bufferAt)
	w.buffer = w.buffer[:0]
	return err
}

// writeOut writes p to the file and asks the system to begin storing it. If the
// disk is full, the file stays usable: nothing durable names this space. After any
// other failure nothing more is written.
func (w *runWriter) writeOut(p []byte, address uint64) error {
	if err := w.file.Failed(); err != nil {
		return err
	}
	err := w.file.file.WriteAt(p, int64(address))
	if err != nil {
		err = fmt.Errorf("write %d bytes at %#x: %w", len(p), address, err)
		if errors.Is(err, vfs.ErrNoSpace) {
			return err
		}
		return w.file.Poison(err)
	}
	w.file.file.StartWriteback(int64(address), int64(len(p)))
	return nil
}
