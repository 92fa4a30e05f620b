package hdf5io

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/internal/crc32c"
	"github.com/cidstore/cidstore/internal/hdf5sum"
	"github.com/cidstore/cidstore/vfs"
)

// OpenReport says what Open found.
type OpenReport struct {
	Slot             int     // of the root in use
	Commit           Commit  // of its root
	SlotValid        [2]bool // by itself: magic, version, checksum, fields
	FellBack         error   // why the root of the newest slot did not validate, if the older one is in use
	SuperblockStale  bool    // the superblock, or a zero after it, is not as the root wants it: torn, or of the other slot
	SuperblockMended bool    // it was stale, and was written again
	UnreachedHeld    bool    // readers of old roots keep what the root does not reach from being used, for now
	Damage           []error // with Options.Salvage: the damage that was passed over
}

// slotPair is both slots, as they were at one moment.
type slotPair struct {
	slots [2]*commitSlot // nil: not valid
	errs  [2]error
}

// readSlots reads and checks both slots. It uses ReadAt, because on some systems
// the mapping may be older than the file. Other versions are ErrVersion; slots of
// two different files are corrupt.
func readSlots(file vfs.File) (slotPair, error) {
	var pair slotPair
	for i := range pair.slots {
		p := make([]byte, slotSize)
		if _, err := file.ReadAt(p, slotOffset(i)); err != nil {
			pair.errs[i] = ioError(slotOffset(i), slotSize, err)
			continue
		}
		pair.slots[i], pair.errs[i] = parseSlot(p, slotOffset(i))
		if pair.errs[i] != nil {
			pair.slots[i] = nil
		}
		if errors.Is(pair.errs[i], ErrVersion) {
			return pair, pair.errs[i]
		}
	}
	switch a, b := pair.slots[0], pair.slots[1]; {
	case a == nil || b == nil:
		return pair, nil
	case a.plain != b.plain:
		return pair, corrupt.Errorf("commit slots", firstSlot, "one is of %s, the other of %s", kindOf(a.plain), kindOf(b.plain))
	case a.uuid != b.uuid:
		return pair, corrupt.Errorf("commit slots", firstSlot, "file_uuid %x in the first, %x in the second", a.uuid, b.uuid)
	case a.generation == b.generation:
		return pair, corrupt.Errorf("commit slots", firstSlot, "generation %d in both", a.generation)
	}
	return pair, nil
}

// newest is the number of the valid slot with the higher generation, or -1.
func (p *slotPair) newest() int {
	a, b := p.slots[0], p.slots[1]
	switch {
	case a == nil && b == nil:
		return -1
	case b == nil || a != nil && a.generation > b.generation:
		return 0
	}
	return 1
}

// highest returns the highest generation and commit in the slots.
func (p *slotPair) highest() (generation uint64, commit Commit) {
	for _, s := range p.slots {
		if s != nil {
			generation, commit = max(generation, s.generation), max(commit, s.commit)
		}
	}
	return generation, commit
}

// ReadPayload returns the payload of the newest valid slot. It takes no lock: the
// answer may be old by the time it is read.
func ReadPayload(file vfs.File) ([]byte, error) {
	pair, err := readSlots(file)
	if err != nil {
		return nil, err
	}
	if i := pair.newest(); i >= 0 {
		return pair.slots[i].payload, nil
	}
	return nil, fmt.Errorf("%w: %w", ErrNotOurs, errors.Join(pair.errs[:]...))
}

// Payloads returns the payload of each slot that is valid now: of the roots that an
// opener for writing, in this process or another, may fall back to.
func (f *File) Payloads() (payloads [][]byte, err error) {
	pair, err := readSlots(f.file)
	if err != nil {
		return nil, err
	}
	for _, s := range pair.slots {
		if s != nil {
			payloads = append(payloads, s.payload)
		}
	}
	return payloads, nil
}

// Open opens a file that Create has made. For reading it takes a pin, and never writes;
// for writing it takes the writer's lock, or fails with vfs.ErrLockHeld, and mends the
// superblock.
func Open(file vfs.File, o Options) (*File, OpenReport, error) {
	f := newFile(file, o)
	var report OpenReport
	if err := f.open(&report); err != nil {
		f.closed.Store(true)
		return nil, report, err
	}
	return f, report, nil
}

func (f *File) open(report *OpenReport) (err error) {
	if err := f.lock(); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.release()
		}
	}()
	root, pair, err := f.findRoot(report)
	if err != nil {
		if errors.Is(err, corrupt.Err) {
			err = errors.Join(err, f.foreignSuperblock(pair))
		}
		return err
	}
	v := root.view
	f.uuid = v.slot.uuid
	if err := f.confirm(v.slot, pair, report); err != nil {
		if f.options.ReadOnly {
			f.unpin(v.slot.commit)
		}
		return err
	}
	f.slot = report.Slot
	f.generation, f.lastCommit = pair.highest()
	if err := f.openSpace(v.slot, root.free, pair); err != nil {
		return err
	}
	f.publish(v)
	v.Adopted()
	if f.options.ReadOnly {
		return nil
	}
	f.space.mu.Lock()
	defer f.space.mu.Unlock()
	if err := f.reclaim(false); err != nil {
		return err
	}
	report.UnreachedHeld = len(f.space.limbo) > 0 && f.space.limbo[0].since == 0
	return nil
}

// loadedRoot is a root that was read and verified.
type loadedRoot struct {
	view *View
	free *freeMap
}

// errSlotChanged: the writer replaced the slot while its root was being pinned.
// Both slots must be read again.
var errSlotChanged = errors.New("the slot was replaced")

// findRoot loads the newest root that validates, pinned if the file is open for
// reading.
func (f *File) findRoot(report *OpenReport) (loadedRoot, slotPair, error) {
	for {
		pair, err := readSlots(f.file)
		if err != nil {
			return loadedRoot{}, pair, err
		}
		root, err := f.chooseRoot(&pair, report)
		if !errors.Is(err, errSlotChanged) {
			return root, pair, err
		}
	}
}

// chooseRoot loads the newest root that validates of those that pair names.
func (f *File) chooseRoot(pair *slotPair, report *OpenReport) (loadedRoot, error) {
	newest := pair.newest()
	if newest < 0 {
		return loadedRoot{}, f.noSlot(*pair)
	}
	report.SlotValid = [2]bool{pair.slots[0] != nil, pair.slots[1] != nil}
	report.Damage, report.FellBack = nil, nil
	if plain := pair.slots[newest].plain; plain != f.options.Plain {
		return loadedRoot{}, fmt.Errorf("%w: it is %s", ErrNotOurs, kindOf(plain))
	}
	if err := f.checkSize(pair.slots[newest]); err != nil {
		if !f.options.Salvage {
			return loadedRoot{}, err
		}
		report.Damage = append(report.Damage, err)
	}
	if f.options.Older {
		if newest = 1 - newest; pair.slots[newest] == nil {
			return loadedRoot{}, fmt.Errorf("the other root: %w", pair.errs[newest])
		}
		pair.slots[1-newest] = nil
	}
	root, err := f.loadEither(pair, newest, report)
	if errors.Is(err, errSlotChanged) {
		return loadedRoot{}, err
	}
	if err != nil {
		err = fmt.Errorf("root of commit %d: %w", pair.slots[newest].commit, err)
		return loadedRoot{}, errors.Join(append(report.Damage, err)...)
	}
	root.view.fellBack = report.FellBack
	report.Commit = root.view.slot.commit
	return root, nil
}

// loadEither loads the newest root, else the older one, else, to salvage, what can
// be read of either.
func (f *File) loadEither(pair *slotPair, newest int, report *OpenReport) (loadedRoot, error) {
	report.Slot = newest
	root, err := f.loadPinned(pair, newest, nil)
	if err == nil || errors.Is(err, errSlotChanged) {
		return root, err
	}
	if pair.slots[1-newest] != nil && !f.options.NoFallBack {
		report.FellBack, report.Slot = err, 1-newest
		older, olderErr := f.loadPinned(pair, 1-newest, nil)
		if olderErr == nil || errors.Is(olderErr, errSlotChanged) {
			return older, olderErr
		}
	}
	if !f.options.Salvage {
		return loadedRoot{}, err
	}
	report.FellBack = nil
	return f.salvageRoot(pair, newest, report)
}

func kindOf(plain bool) string {
	if plain {
		return "a plain HDF5 file"
	}
	return "a store"
}

// salvageRoot loads a root of which a part is damaged: the newest if that is
// possible.
func (f *File) salvageRoot(pair *slotPair, newest int, report *OpenReport) (loadedRoot, error) {
	var failed error
	for _, i := range [...]int{newest, 1 - newest} {
		if pair.slots[i] == nil {
			continue
		}
		var damage []error
		root, err := f.loadPinned(pair, i, func(err error) { damage = append(damage, err) })
		if err == nil || errors.Is(err, errSlotChanged) {
			report.Slot = i
			report.Damage = append(report.Damage, damage...)
			return root, err
		}
		if failed == nil || failed.Error() != err.Error() {
			failed = errors.Join(failed, err)
		}
	}
	return loadedRoot{}, failed
}

// loadPinned loads the root of slot i; for bad see loadRoot. A reader pins the root
// first and then looks whether the slot is still the same. If so, the writer will
// see the pin before it uses again what the root reaches. If not, the error is
// errSlotChanged.
func (f *File) loadPinned(pair *slotPair, i int, bad func(error)) (root loadedRoot, err error) {
	s := pair.slots[i]
	if !f.options.ReadOnly {
		return f.loadRoot(s, bad)
	}
	if err := f.pin(s.commit); err != nil {
		return loadedRoot{}, err
	}
	defer func() {
		if err != nil {
			f.unpin(s.commit)
		}
	}()
	now, err := readSlots(f.file)
	if err != nil {
		return loadedRoot{}, err
	}
	if now.slots[i] == nil || now.slots[i].generation != s.generation {
		return loadedRoot{}, errSlotChanged
	}
	return f.loadRoot(s, bad)
}

// noSlot is the error for a file without a valid slot.
func (f *File) noSlot(pair slotPair) error {
	info, err := f.file.Info()
	if err != nil {
		return err
	}
	p := make([]byte, superblockSize)
	err = f.readAt(p, 0)
	for _, err := range append(pair.errs[:], err) {
		if errors.Is(err, ErrIO) && !errors.Is(err, io.EOF) {
			return err // it is not known what the file is
		}
	}
	if err != nil {
		return fmt.Errorf("%w: %d bytes", ErrNotOurs, info.Size)
	}
	if super, err := parseSuperblock(p); err == nil && uint64(info.Size) < super.endOfFile {
		return truncated(super.endOfFile, info.Size)
	}
	return fmt.Errorf("%w: %w", ErrNotOurs, errors.Join(pair.errs[:]...))
}

func truncated(want uint64, got int64) error {
	return corrupt.Errorf("file", got, "%w: %d bytes, want %d", ErrTruncated, got, want)
}

func (f *File) checkSize(s *commitSlot) error {
	info, err := f.file.Info()
	if err != nil {
		return err
	}
	if uint64(info.Size) < s.endOfFile {
		return truncated(s.endOfFile, info.Size)
	}
	return nil
}

// loadRoot reads and verifies what a root consists of, except the chunks and their
// indexes, which are verified when they are used. If bad is not nil, it is called
// for what is damaged but not needed.
func (f *File) loadRoot(s *commitSlot, bad func(error)) (loadedRoot, error) {
	v := &View{file: f, slot: s}
	tree := treeReader{src: v, end: s.endOfFile, file: f, bad: bad}
	var err error
	if v.root, err = tree.object("/", s.root(), 0); err != nil {
		return loadedRoot{}, err
	}
	if v.root.dataset != nil {
		return loadedRoot{}, corrupt.Errorf("object /", int64(s.root()), "a dataset, want a group")
	}
	if got := v.root.treeCRC(); got != s.treeCRC {
		err := corrupt.Errorf("object tree", int64(s.root()), "crc32c of all headers %#08x, want %#08x", got, s.treeCRC)
		if bad == nil {
			return loadedRoot{}, err
		}
		bad(v.root.edited(s, err))
	}
	if err := v.loadMaps(bad); err != nil {
		return loadedRoot{}, err
	}
	free, err := v.freeMap()
	if err != nil && bad != nil {
		bad(err)
		return loadedRoot{v, new(freeMap)}, nil
	}
	return loadedRoot{v, free}, err
}

// loadMaps loads the chunk maps. What is the same in the newest View, if there is
// one, is shared with it. bad is called for nodes that are left out.
func (v *View) loadMaps(bad func(error)) error {
	var known [2]*chunkMap
	if newest := v.file.View(); newest != nil {
		known = newest.maps
	}
	err := v.root.walk("/", func(_ string, o *object) (err error) {
		if o.chunkMap != Unmapped {
			i := o.chunkMap - FirstMap
			l := mapLoader{v, known[i], o.dataset.indexShape().storedSize(), v.slot.commit, v.slot.endOfFile, bad}
			v.maps[i], err = l.load(v.slot.maps[i])
		}
		return err
	})
	if err != nil {
		return err
	}
	for i, root := range v.slot.maps {
		if v.maps[i] == nil && root.count > 0 {
			err := mapNodeError(root.address, "chunk map %d is of no dataset", i)
			if bad == nil {
				return err
			}
			bad(err)
		}
	}
	return nil
}

// freeMap reads and verifies the root's free map.
func (v *View) freeMap() (*freeMap, error) {
	s := v.slot
	p := make([]byte, s.freeMapSize)
	if err := v.file.readAt(p, int64(s.freeMapAddress)); err != nil {
		return nil, err
	}
	if got := crc32c.Sum(p); got != s.freeMapCRC {
		return nil, corrupt.Errorf("free map", int64(s.freeMapAddress), "crc32c %#08x, want %#08x", got, s.freeMapCRC)
	}
	m, err := parseFreeMap(p, int64(s.freeMapAddress), s.endOfFile)
	return &m, err
}

// foreignSuperblock is ErrForeignEdit if both slots are valid and the superblock,
// though undamaged, names the root of neither: another program has written it.
func (f *File) foreignSuperblock(pair slotPair) error {
	p := make([]byte, superblockSize)
	for {
		a, b := pair.slots[0], pair.slots[1]
		if err := f.readAt(p, 0); err != nil {
			return err
		}
		found := [superblockSize]byte(p)
		if a == nil || b == nil || !wholeSuperblock(p) || found == a.superblock || found == b.superblock {
			return nil
		}
		now, err := readSlots(f.file)
		if err != nil {
			return err
		}
		before, _ := pair.highest()
		if after, _ := now.highest(); after == before {
			return corrupt.Errorf("superblock", 0, "%w: it names a root that neither commit slot names", ErrForeignEdit)
		}
		pair = now // a writer has committed since they were read
	}
}

// confirm makes sure that the slot and the superblock that name the root in use are
// on the disk. After a failed sync the system's cache may hold a slot and a
// superblock that never reached the disk, and regard them as written. An opener
// that believed them would go on to write over the other slot, the only one that is
// durable. So both are written again first. This also mends a superblock that is
// damaged, or that names the root of the other slot because the process ended
// between slot and superblock. The zeros after it are written too: a power cut can
// leave anything in the sector that was written.
func (f *File) confirm(s *commitSlot, pair slotPair, report *OpenReport) error {
	if err := f.foreignSuperblock(pair); err != nil {
		if !f.options.Salvage {
			return err
		}
		report.Damage = append(report.Damage, err)
	}
	p, want := make([]byte, firstSlot), make([]byte, firstSlot)
	copy(want, s.superblock[:])
	if err := f.readAt(p, 0); err != nil {
		return err
	}
	report.SuperblockStale = !bytes.Equal(p, want)
	if f.options.ReadOnly {
		return nil
	}
	// A crash here may tear the slot, so the other slot must name a good root. If
	// the other slot is not valid, this one was read from the disk and not from a
	// cache: a crash or rot must have damaged the other.
	if pair.slots[1-report.Slot] != nil && report.FellBack == nil {
		if err := f.file.WriteSync(s.append(nil), slotOffset(report.Slot)); err != nil {
			return f.Poison(fmt.Errorf("write commit slot %d: %w", report.Slot, err))
		}
	}
	if err := f.file.WriteSync(want, 0); err != nil {
		return f.Poison(fmt.Errorf("write superblock: %w", err))
	}
	report.SuperblockMended = report.SuperblockStale
	return nil
}

// wholeSuperblock reports whether p is a superblock that is not torn. It may have
// any form, for example that of a program that was killed while it was writing.
func wholeSuperblock(p []byte) bool {
	return string(p[:8]) == superblockSignature && binary.LittleEndian.Uint32(p[44:]) == hdf5sum.Lookup3(p[:44])
}

// openSpace makes what the root does not reach the free space of the writer.
func (f *File) openSpace(s *commitSlot, free *freeMap, pair slotPair) error {
	if f.options.ReadOnly {
		return nil
	}
	sp := &f.space
	sp.mu.Lock()
	defer sp.mu.Unlock()
	info, err := f.file.Info()
	if err != nil {
		return err
	}
	// The file may have grown after the last commit. That size may not be durable.
	sp.setSize(max(uint64(info.Size)&^(growUnit-1), s.endOfFile))
	sp.unsynced = true
	unnamed := extent{s.endOfFile, sp.size - s.endOfFile}
	for i, s := range pair.slots {
		if s != nil {
			sp.slots[i] = s.commit
		}
	}
	all, err := mergeExtents(free.free, appendExtent(nil, unnamed))
	if err != nil {
		return err
	}
	// Readers may hold roots that are older than both slots, from before this
	// opening. These may reach any of it. After a fall back, so may the root that
	// failed.
	held := limboBatch{extents: all, bytes: sumExtents(all), pins: s.commit} // ReuseDelay is over
	for _, other := range pair.slots {
		if other != nil && other.commit < s.commit {
			held.pins = other.commit
		}
		if other != nil && other.commit > s.commit {
			held.pins = other.commit + 1
			break
		}
	}
	sp.limbo, sp.waiting = append(sp.limbo, held), held.bytes
	if len(free.freed) > 0 {
		f.hold(limboBatch{extents: free.freed, slots: s.commit, pins: max(held.pins, s.commit), since: s.commit})
	}
	return nil
}

// Refresh makes the root of the newest slot the File.View of an opener for reading,
// if it is newer, and reports whether it was. The View before it stays pinned until
// its last reader is gone and the caller has called Adopted of the new one.
func (f *File) Refresh() (bool, error) {
	f.slotMu.Lock()
	defer f.slotMu.Unlock()
	switch {
	case f.closed.Load():
		return false, ErrClosed
	case !f.options.ReadOnly:
		return false, errors.New("refresh: the file is open for writing")
	}
	now := f.view.Load()
	pair, err := readSlots(f.file)
	if err != nil {
		return false, fmt.Errorf("refresh: %w", err)
	}
	if i := pair.newest(); i >= 0 && pair.slots[i].commit <= now.slot.commit {
		return false, nil
	}
	root, _, err := f.findRoot(new(OpenReport))
	if err != nil {
		return false, fmt.Errorf("refresh: %w", err)
	}
	v := root.view
	if v.slot.commit <= now.slot.commit || v.slot.uuid != f.uuid {
		f.unpin(v.slot.commit) // the newest does not validate
		return false, nil
	}
	f.publish(v)
	return true, nil
}
