package hdf5io

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/internal/seedbug"
	"github.com/cidstore/cidstore/vfs"
)

// space is the free space of a file that is open for writing, and what is known
// about the roots that still reach some of it.
type space struct {
	mu   sync.Mutex // guards all below; held across Allocate, so that one goroutine at a time grows the file
	pool pool
	// limbo is freed space that some root may still reach, oldest first.
	limbo   []limboBatch
	waiting uint64 // sum of the bytes of limbo
	size    uint64 // of the file, as far as we allocated it; see setSize
	// least is size, for those who do not hold mu. In a file that is open for reading it is
	// the end of the newest View, except with Options.Salvage: 0.
	least atomic.Uint64
	// unsynced: the file grew, and no Sync has followed.
	unsynced bool
	full     bool // the last growth met a full disk
	short    bool // the last ReserveRoom found too little

	// slots is what each slot names; 0: it is not valid. It changes only while slotMu is
	// held too, so that either lock is enough to read it.
	slots [2]Commit
	// views are those that readers may hold, oldest first; the last is the newest.
	views   []*View
	adopted Commit // no reader pins a View of an earlier commit any more
}

// limboBatch is the space that one commit freed.
type limboBatch struct {
	extents []extent // sorted
	bytes   uint64
	// The space becomes free when three things hold: both slots name the commit slots
	// or a later one; no reader pins a commit older than pins; and the quarantine,
	// counted from the commit since, and ReuseDelay are over.
	slots, pins, since Commit
	freed              time.Time // by Options.Clock
}

// Space says how the bytes of the file are used, as the writer sees it.
type Space struct {
	Size      int64 // of the file
	Free      int64 // usable by the next Tx without growth: extents of 16 KiB and more
	Fragments int64 // free, but in shorter extents
	Limbo     int64 // freed, waiting for the older slot or the quarantine
	Pinned    int64 // freed, held by readers of old roots
	Longest   int64 // the longest free extent that is not at the end of the file

	OldestPin Commit // of the oldest pinned View or root; of the newest if none is older
}

// Space returns the present figures.
func (f *File) Space() Space {
	s := &f.space
	s.mu.Lock()
	defer s.mu.Unlock()
	oldest := f.oldestPin()
	out := Space{
		Size:      int64(s.size),
		Free:      int64(s.pool.usable),
		Fragments: int64(s.pool.bytes - s.pool.usable),
		Longest:   s.pool.longest(s.size),
		OldestPin: oldest,
	}
	for _, b := range s.limbo {
		if oldest < b.pins {
			out.Pinned += int64(b.bytes)
		} else {
			out.Limbo += int64(b.bytes)
		}
	}
	return out
}

// Space returns the figures for a file that is open for reading, as a writer that
// opened it now would find them. The caller has pinned v. What the newest commit
// freed is limbo. If a reader holds an older root than the slots name, everything
// that v does not reach counts as pinned, because the file does not say which of it
// that root reaches; with a writer at work, this is an upper bound.
func (v *View) Space() (Space, error) {
	f := v.file
	info, err := f.file.Info()
	if err != nil {
		return Space{}, err
	}
	free, err := v.freeMap()
	if err != nil {
		return Space{}, err
	}
	pair, err := readSlots(f.file)
	if err != nil {
		return Space{}, err
	}
	older := v.slot.commit
	for _, s := range pair.slots {
		if s != nil {
			older = min(older, s.commit)
		}
	}
	oldest, err := f.outsidePin(v.slot.commit)
	if errors.Is(err, vfs.ErrNotSupported) { // there a writer keeps readers out
		oldest, err = v.slot.commit, nil
	}
	if err != nil {
		return Space{}, err
	}
	f.space.mu.Lock()
	for _, own := range f.space.views {
		oldest = min(oldest, own.slot.commit)
	}
	f.space.mu.Unlock()
	out := Space{Size: info.Size, OldestPin: oldest}
	for _, e := range free.free {
		if e.end() != v.slot.endOfFile {
			out.Longest = max(out.Longest, int64(e.sectors().size))
		}
	}
	free.free = appendExtent(free.free, extent{v.slot.endOfFile, uint64(max(info.Size, v.EndOfFile())) - v.slot.endOfFile})
	out.Limbo = int64(sumExtents(free.freed))
	all := int64(sumExtents(free.free))
	if oldest < older {
		out.Pinned, out.Limbo = all+out.Limbo, 0
		return out, nil
	}
	for _, e := range free.free {
		out.Free += int64(e.usable())
	}
	out.Fragments = all - out.Free
	return out, nil
}

// Adopted is called when v has taken the place of all older Views for the caller,
// so that no reader will pin one of those any more. Begin calls it for the newest
// View. Until then, what v's commit freed is not used.
func (v *View) Adopted() {
	f := v.file
	f.space.mu.Lock()
	defer f.space.mu.Unlock()
	f.space.adopted = max(f.space.adopted, v.slot.commit)
	f.dropViews()
}

// dropViews forgets old Views that no reader holds. Because of what View.Pin demands of
// readers, a View that is not pinned after its successor was adopted is never read again.
func (f *File) dropViews() {
	s := &f.space
	for len(s.views) > 1 && s.views[0].slot.commit < s.adopted && !s.views[0].pinned() {
		if f.options.ReadOnly {
			f.unpin(s.views[0].slot.commit)
		}
		_ = closeWindows(s.views[:1], s.views[1].window) // if it fails, only address space is lost
		s.views[0] = nil
		s.views = s.views[1:]
	}
}

// oldestPin is the oldest commit that a reader reads or may begin to read; 0 if it
// is not known. space.mu is held.
func (f *File) oldestPin() Commit {
	if seedbug.On("pin-ignored") {
		return maxCommit
	}
	f.dropViews()
	s := &f.space
	oldest := s.adopted
	if len(s.views) > 0 {
		oldest = min(oldest, s.views[0].slot.commit)
	}
	outside, err := f.outsidePin(oldest)
	if err != nil {
		return 0
	}
	return min(oldest, outside)
}

// reclaim moves what no root in use reaches from limbo to the pool, and if yield is
// set, all that is in quarantine too. space.mu is held.
func (f *File) reclaim(yield bool) error {
	s := &f.space
	newest := f.view.Load().slot.commit
	waits := f.delays()
	ready := func(b *limboBatch) bool {
		if min(s.slots[0], s.slots[1]) < b.slots && !seedbug.On("reuse-too-early") {
			return false
		}
		return yield || f.overfull() || b.since+Commit(f.options.Quarantine) <= newest && !waits(b)
	}
	// Each batch waits for later slots and pins than the one before it. So if one
	// is not ready, none after it is.
	if len(s.limbo) == 0 || !ready(&s.limbo[0]) {
		return nil
	}
	oldest := f.oldestPin()
	var freed []extent
	for len(s.limbo) > 0 && ready(&s.limbo[0]) && oldest >= s.limbo[0].pins {
		var err error
		if freed, err = mergeExtents(freed, s.limbo[0].extents); err != nil {
			return f.Poison(err)
		}
		s.waiting -= s.limbo[0].bytes
		s.limbo[0].extents = nil
		s.limbo = s.limbo[1:]
	}
	if len(freed) == 0 {
		return nil
	}
	if err := s.pool.putAll(freed); err != nil {
		return f.Poison(err)
	}
	return nil
}

// overfull reports whether so much of a store's file waits that the quarantine ends for the
// oldest of it. space.mu is held.
func (f *File) overfull() bool {
	s := &f.space
	return !f.options.Plain && s.waiting > max(s.size/8, min(s.size/4, mostDelayed))
}

// delays returns a function that reports whether the oldest batch of limbo waits for
// ReuseDelay: it is not over, and what waits is a small part of the file. space.mu is
// held while that function is called.
func (f *File) delays() func(*limboBatch) bool {
	s, delay := &f.space, f.options.ReuseDelay
	if delay <= 0 || f.options.Clock == nil || s.full {
		return func(*limboBatch) bool { return false }
	}
	now := f.options.Clock()
	return func(b *limboBatch) bool {
		waited := now.Sub(b.freed)
		// A clock that was set back ends the delay: nothing waits for it to catch up.
		return waited >= 0 && waited < delay && s.waiting <= max(s.size/16, min(s.size/4, mostDelayed))
	}
}

// hold adds the space that a commit freed to limbo. space.mu is held.
func (f *File) hold(b limboBatch) {
	if f.options.Clock != nil {
		b.freed = f.options.Clock()
	}
	b.bytes = sumExtents(b.extents)
	f.space.limbo = append(f.space.limbo, b)
	f.space.waiting += b.bytes
}

// setSize records the size of the file. mu is held.
func (s *space) setSize(n uint64) {
	s.size = n
	s.least.Store(n)
	s.pool.setFileSize(n)
}

// Links returns how many names the file has, or ErrTruncated if it is shorter than
// it must be. It takes no lock, and makes one system call.
func (f *File) Links() (links uint64, err error) {
	least := f.space.least.Load() // read first, because the file may grow before Shape
	size, links, err := f.file.Shape()
	if err != nil {
		return 0, err
	}
	if uint64(max(size, 0)) < least {
		return links, truncated(least, size)
	}
	return links, nil
}

// intact returns an error if the file is poisoned, and poisons it if it was cut short or
// another file was written over it. It is called before a Tx begins, before each slot and
// superblock, and where the length of the file changes.
func (f *File) intact() error {
	if err := f.Failed(); err != nil {
		return err
	}
	if _, err := f.Links(); err != nil {
		return f.Poison(err)
	}
	if err := f.checkUUID(); err != nil {
		if _, short := f.Links(); short != nil { // it was cut just now
			err = short
		}
		return f.Poison(err)
	}
	return nil
}

// checkUUID returns ErrForeignEdit if neither commit slot has the file's UUID any
// more. One of them may be damaged.
func (f *File) checkUUID() error {
	if f.view.Load() == nil || f.view.Load().slot.commit == 0 { // Create has written no slot yet
		return nil
	}
	var found [2][16]byte
	for i := range found {
		if err := f.readAt(found[i][:], slotOffset(i)+offSlotUUID); err != nil {
			return err
		}
		if found[i] == f.uuid {
			return nil
		}
	}
	return corrupt.Errorf("commit slots", firstSlot, "%w: file_uuid %x in the first and %x in the second, want %x", ErrForeignEdit, found[0], found[1], f.uuid)
}

// tight is File.Tight. mu is held.
func (s *space) tight() bool { return s.full && (s.short || s.pool.usable < s.size/4) }

// Tight reports whether the disk is full and little of the file is free, or less than
// was to be reserved. Then using little space matters more than speed.
func (f *File) Tight() bool {
	f.space.mu.Lock()
	defer f.space.mu.Unlock()
	return f.space.tight()
}

// Full reports whether the disk was full when the file was to grow the last time.
func (f *File) Full() bool {
	f.space.mu.Lock()
	defer f.space.mu.Unlock()
	return f.space.full
}

// Reserve makes sure that the next Tx finds at least n bytes of usable space, and
// grows the file if needed. The error is ErrNoSpace, or ErrSpacePinned if readers
// of old roots hold enough. It may be called while a Tx runs, which may then use
// the space.
func (f *File) Reserve(n int64) error { return f.ReserveRoom(Room{Bytes: n}) }

// Room is what ReserveRoom makes.
type Room struct {
	Bytes  int64 // in extents of 16 KiB and more
	Short  int64 // of ShortBytes, each in one extent, which may be shorter
	Pieces int   // of Size bytes, each in one extent
	Size   int64
	Commit Demand // of a Tx that has called Surely
}

// Demand bounds what a Tx places.
type Demand struct {
	Bytes int64 // in all
	Piece int64 // the longest thing
}

// ReserveRoom is Reserve for things of certain sizes too.
func (f *File) ReserveRoom(r Room) error {
	if err := f.writable(); err != nil {
		return err
	}
	s := &f.space
	s.mu.Lock()
	defer s.mu.Unlock()
	err := f.makeRoom(func() uint64 { return s.pool.lacks(r) })
	s.short = err != nil
	return err
}

// makeRoom makes space until lacking returns 0: it takes from limbo, then grows the
// file by what is lacking, and at last ends the quarantine. space.mu is held.
func (f *File) makeRoom(lacking func() uint64) error {
	if lacking() == 0 {
		return nil
	}
	if err := f.reclaim(false); err != nil {
		return err
	}
	lack := lacking()
	if lack == 0 {
		return nil
	}
	growError := f.grow(lack)
	if growError == nil || !errors.Is(growError, ErrNoSpace) {
		return growError
	}
	if f.options.Plain { // a store calls Settle itself, where it serves other purposes too
		if err := f.settleUnlocked(); err != nil {
			return err
		}
	}
	if err := f.reclaim(true); err != nil {
		return err
	}
	if err := f.space.pool.putAll(nil); err != nil {
		return f.Poison(err)
	}
	if lack = lacking(); lack == 0 {
		return nil
	}
	if f.pinnedBytes() >= lack {
		return fmt.Errorf("%w: %w", ErrSpacePinned, growError)
	}
	return growError
}

// roomInGaps is makeRoom without growth of the file.
func (f *File) roomInGaps(lacking func() uint64) error {
	if lacking() == 0 {
		return nil
	}
	if err := f.reclaim(true); err != nil {
		return err
	}
	if err := f.space.pool.putAll(nil); err != nil {
		return f.Poison(err)
	}
	if n := lacking(); n > 0 {
		return fmt.Errorf("find %d bytes in the gaps of the file: %w", n, ErrNoSpace)
	}
	return nil
}

// settleUnlocked is Settle, so that all that was freed is free at once. space.mu is held,
// and released in that time.
func (f *File) settleUnlocked() error {
	f.space.mu.Unlock()
	defer f.space.mu.Lock()
	return f.Settle()
}

// pinnedBytes is how much of the limbo only pins hold. space.mu is held.
func (f *File) pinnedBytes() (bytes uint64) {
	s := &f.space
	oldest := f.oldestPin()
	for _, b := range s.limbo {
		if oldest < b.pins && min(s.slots[0], s.slots[1]) >= b.slots {
			bytes += b.bytes
		}
	}
	return bytes
}

// grow makes the file longer by at least n bytes of free space. Nothing names
// them before the size is synced (Tx.commit). space.mu is held.
func (f *File) grow(n uint64) error {
	s := &f.space
	if err := f.intact(); err != nil { // growth would hide that the file was cut short
		return err
	}
	least := (n + growUnit - 1) &^ (growUnit - 1)
	step := max(least, uint64(f.options.GrowStep), min(s.size/16, maxGrowStep)&^(growUnit-1))
	for _, step := range []uint64{step, least} {
		if step < n || step > maxAddress-s.size {
			return fmt.Errorf("grow the file by %d bytes: %w", n, ErrNoSpace)
		}
		err := f.file.Allocate(int64(s.size), int64(step))
		if err == nil {
			if err := f.intact(); err != nil { // it may have been cut just before, and be long again
				return err
			}
			s.pool.put(extent{max(s.size, FirstExtent), s.size + step - max(s.size, FirstExtent)})
			s.setSize(s.size + step)
			s.unsynced, s.full = true, false
			return nil
		}
		s.full = true
		if !errors.Is(err, vfs.ErrNoSpace) {
			return f.Poison(fmt.Errorf("grow the file to %d bytes: %w", s.size+step, err))
		}
		if step == least {
			return fmt.Errorf("grow the file by %d bytes: %w", n, err)
		}
	}
	return ErrNoSpace
}

// PlaceAtEnd makes a Tx, as long as on is set, place things only after the present
// end of the file, which grows, and leave the gaps before it as they are.
func (f *File) PlaceAtEnd(on bool) {
	s := &f.space
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pool.floor = 0
	if on {
		s.pool.floor = s.size
	}
}

// PlaceInGaps makes a Tx, as long as on is set, fill the lowest gaps first, however
// short they are. The file does not grow for it: what finds no gap is ErrNoSpace.
func (f *File) PlaceInGaps(on bool) {
	f.space.mu.Lock()
	defer f.space.mu.Unlock()
	f.space.pool.inGaps = on
}

// InGaps reports whether PlaceInGaps is on.
func (f *File) InGaps() bool {
	f.space.mu.Lock()
	defer f.space.mu.Unlock()
	return f.space.pool.inGaps
}

// Gaps is how many bytes of usable space lie before the end of the last extent in use,
// and where that end is.
func (f *File) Gaps() (bytes, end int64, err error) {
	s := &f.space
	s.mu.Lock()
	defer s.mu.Unlock()
	list, err := s.pool.extents()
	if err != nil {
		return 0, 0, f.Poison(err)
	}
	gaps, last := s.pool.usable, s.size
	if n := len(list); n > 0 && list[n-1].end() == s.size {
		gaps, last = gaps-list[n-1].usable(), list[n-1].start
	}
	return int64(gaps), int64(last), nil
}

// UsedFrom is how many bytes from an address on are not free.
func (f *File) UsedFrom(address int64) (bytes int64, err error) {
	s := &f.space
	s.mu.Lock()
	defer s.mu.Unlock()
	list, err := s.pool.extents()
	if err != nil {
		return 0, f.Poison(err)
	}
	from := min(uint64(max(address, 0)), s.size)
	used := s.size - from
	for _, e := range list {
		if e.end() > from {
			used -= e.end() - max(e.start, from)
		}
	}
	return int64(used), nil
}

// EndQuarantine frees what neither slot's root nor a reader reaches. It is called before
// the file is closed, so that the last commits fill gaps.
func (f *File) EndQuarantine() error {
	if err := f.writable(); err != nil {
		return err
	}
	f.space.mu.Lock()
	defer f.space.mu.Unlock()
	return f.reclaim(true)
}
