package hdf5io

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/vfs"
)

// OpenReport says what Open found.
type OpenReport struct {
	Slot               int     // of the root in use
	Generation, Commit uint64  // of that slot
	SlotValid          [2]bool // by itself: magic, version, checksum, fields
	FellBack           bool    // the newest slot's root did not validate: the older one is in use
	FellBackFrom       error   // why it did not
	SuperblockStale    bool    // the superblock, or a zero behind it, is not the root's: torn, or of the other slot
	SuperblockMended   bool    // and was written again
	Unreached          int64   // bytes of the file that the root does not reach
	UnreachedHeld      bool    // readers of old roots keep them from being used, for now
	Damage             []error // Options.Salvage: what was read past
}

// slotPair is both slots as they were read once.
type slotPair struct {
	slots [2]*commitSlot // nil: not valid
	errs  [2]error
}

// readSlots reads and judges both slots, by ReadAt, for the map may lag behind on some systems. Later
// versions are ErrVersion, slots of two files corrupt.
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
	a, b := pair.slots[0], pair.slots[1]
	if a == nil || b == nil {
		return pair, nil
	}
	if a.plain != b.plain {
		return pair, corrupt.Errorf("commit slots", firstSlot, "one is of %s, the other of %s", kindOf(a.plain), kindOf(b.plain))
	}
	if a.uuid != b.uuid {
		return pair, corrupt.Errorf("commit slots", firstSlot, "file_uuid %x in the first, %x in the second", a.uuid, b.uuid)
	}
	if a.generation == b.generation {
		return pair, corrupt.Errorf("commit slots", firstSlot, "generation %d in both", a.generation)
	}
	return pair, nil
}

// newest is the number of the valid slot of the higher generation, or -1.
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
func (p *slotPair) highest() (generation, commit uint64) {
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

// Payloads returns the payload of each slot that is valid now: of the roots that
// an opener for writing, here or in another process, may go back to.
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

// Open opens a file that Create has made. The vfs.File stays the caller's, who
// closes it after File.Close, or when Open fails. Opened for reading it takes a pin, and writes
// nothing, ever; for writing it needs the writer's lock (vfs.ErrLockHeld), and
// mends the superblock.
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
	v, free, pair, err := f.findRoot(report)
	if err != nil {
		if errors.Is(err, corrupt.Err) {
			err = errors.Join(err, f.foreignSuperblock(pair))
		}
		return err
	}
	f.uuid = v.slot.uuid
	if err := f.confirm(v.slot, pair, report); err != nil {
		if f.options.ReadOnly {
			f.unpin(v.slot.commit)
		}
		return err
	}
	f.slot = report.Slot
	f.generation, f.lastCommit = pair.highest()
	if err := f.openSpace(v.slot, free, pair, report); err != nil {
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

// findRoot loads the newest root that validates, pinned if the file is open for reading.
func (f *File) findRoot(report *OpenReport) (*View, *freeMap, slotPair, error) {
	for {
		pair, err := readSlots(f.file)
		if err != nil {
			return nil, nil, pair, err
		}
		newest := pair.newest()
		if newest < 0 {
			return nil, nil, pair, f.noSlot(pair)
		}
		report.SlotValid = [2]bool{pair.slots[0] != nil, pair.slots[1] != nil}
		report.Damage = nil
		if plain := pair.slots[newest].plain; plain != f.options.Plain {
			return nil, nil, pair, fmt.Errorf("%w: it is %s", ErrNotOurs, kindOf(plain))
		}
		if err := f.checkSize(pair.slots[newest]); err != nil && !f.options.Salvage {
			return nil, nil, pair, err
		} else if err != nil {
			report.Damage = append(report.Damage, err)
		}
		if f.options.Older {
			if newest = 1 - newest; pair.slots[newest] == nil {
				return nil, nil, pair, fmt.Errorf("the other root: %w", pair.errs[newest])
			}
			pair.slots[1-newest] = nil
		}
		v, free, err, again := f.loadPinned(pair, newest, nil)
		if again {
			continue
		}
		report.Slot = newest
		if older := pair.slots[1-newest]; err != nil && older != nil && !f.options.NoFallBack {
			report.FellBack, report.FellBackFrom, report.Slot = true, err, 1-newest
			var olderErr error
			if v, free, olderErr, again = f.loadPinned(pair, 1-newest, nil); again {
				report.FellBack, report.FellBackFrom = false, nil
				continue
			}
			if olderErr == nil {
				err = nil
			}
		}
		if err != nil && f.options.Salvage {
			report.FellBack, report.FellBackFrom = false, nil
			if v, free, err, again = f.salvageRoot(pair, newest, report); again {
				continue
			}
		}
		if err != nil {
			err = fmt.Errorf("root of commit %d: %w", pair.slots[newest].commit, err)
			return nil, nil, pair, errors.Join(append(report.Damage, err)...)
		}
		v.fellBack = report.FellBackFrom
		report.Generation, report.Commit = v.slot.generation, v.slot.commit
		return v, free, pair, nil
	}
}

// kindOf says what a file is by its slots.
func kindOf(plain bool) string {
	if plain {
		return "a plain HDF5 file"
	}
	return "a store"
}

// salvageRoot loads a root of which a part is damaged, the newest if that is possible.
func (f *File) salvageRoot(pair slotPair, newest int, report *OpenReport) (v *View, free *freeMap, err error, again bool) {
	for _, i := range [...]int{newest, 1 - newest} {
		if pair.slots[i] == nil {
			continue
		}
		var damage []error
		var loadErr error
		v, free, loadErr, again = f.loadPinned(pair, i, func(err error) { damage = append(damage, err) })
		if loadErr == nil || again {
			report.Slot = i
			report.Damage = append(report.Damage, damage...)
			return v, free, nil, again
		}
		if err == nil || err.Error() != loadErr.Error() {
			err = errors.Join(err, loadErr)
		}
	}
	return nil, nil, err, false
}

// loadPinned loads the root of slot i; bad: see loadRoot. A reader pins it first and then looks whether
// the slot is still the same: if so the writer will see the pin before it
// reuses what the root reaches, else again is true.
func (f *File) loadPinned(pair slotPair, i int, bad func(error)) (v *View, free *freeMap, err error, again bool) {
	s := pair.slots[i]
	if f.options.ReadOnly {
		if err := f.pin(s.commit); err != nil {
			return nil, nil, err, false
		}
		now, err := readSlots(f.file)
		if err != nil || now.slots[i] == nil || now.slots[i].generation != s.generation {
			f.unpin(s.commit)
			return nil, nil, err, err == nil
		}
	}
	v, free, err = f.loadRoot(s, bad)
	if err != nil && f.options.ReadOnly {
		f.unpin(s.commit)
	}
	return v, free, err, false
}

// noSlot says what a file without a valid slot is.
func (f *File) noSlot(pair slotPair) error {
	info, err := f.file.Info()
	if err != nil {
		return err
	}
	p := make([]byte, superblockSize)
	err = f.readAt(p, 0)
	for _, err := range append(pair.errs[:], err) {
		if errors.Is(err, ErrIO) && !errors.Is(err, io.EOF) {
			return err // nobody can say what the file is
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

// checkSize compares the file's size with what the slot says.
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
// indexes, which are verified when they are used. If bad is not nil, it is told of
// what is damaged but can be done without.
func (f *File) loadRoot(s *commitSlot, bad func(error)) (*View, *freeMap, error) {
	v := &View{file: f, slot: s}
	tree := treeReader{src: v, end: s.endOfFile, file: f, bad: bad}
	var err error
	if v.root, err = tree.object("/", s.root(), 0); err != nil {
		return nil, nil, err
	}
	if v.root.dataset != nil {
		return nil, nil, corrupt.Errorf("object /", int64(s.root()), "a dataset, want a group")
	}
	if got := v.root.treeCRC(); got != s.treeCRC {
		err := corrupt.Errorf("object tree", int64(s.root()), "crc32c of all headers %#08x, want %#08x", got, s.treeCRC)
		if bad == nil {
			return nil, nil, err
		}
		bad(v.root.edited(s, err))
	}
	if err := v.loadMaps(bad); err != nil {
		return nil, nil, err
	}
	free, err := v.freeMap()
	if err != nil && bad != nil {
		bad(err)
		return v, new(freeMap), nil
	}
	return v, free, err
}

// loadMaps loads the chunk maps. What is the same in the newest View, if there is
// one, is shared with it. bad is told of nodes that are left out.
func (v *View) loadMaps(bad func(error)) error {
	var known [2]*chunkMap
	if newest := v.file.View(); newest != nil {
		known = newest.maps
	}
	err := v.root.walk("/", func(_ string, o *object) (err error) {
		if i := o.chunkMap - 1; i >= 0 {
			l := mapLoader{v, known[i], o.dataset.storedSize(), v.slot.commit, v.slot.endOfFile, bad}
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
	if got := crc32c(p); got != s.freeMapCRC {
		return nil, corrupt.Errorf("free map", int64(s.freeMapAddress), "crc32c %#08x, want %#08x", got, s.freeMapCRC)
	}
	m, err := parseFreeMap(p, int64(s.freeMapAddress), s.endOfFile)
	return &m, err
}

// foreignSuperblock is ErrForeignEdit if the superblock is whole but names neither
// slot's root, while both slots are valid: somebody else has written it.
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

// confirm makes sure that the disk has what names the root in use. After a failed
// sync the cache may hold a slot and a superblock that the disk has not, and take
// them for written: an opener who believes them goes on to write over the other
// slot, the only one that is durable. So both are written again first. The
// superblock is also mended that way where it is damaged or the other slot's (the
// process ended between slot and superblock), with the zeros behind it: a power cut
// can leave anything in the sector that was written.
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
	// A crash in here may tear the slot: the root of the other must be as good. A
	// slot without such a twin was read from the disk, for it took a crash or rot to
	// spoil the twin.
	if pair.slots[1-report.Slot] != nil && !report.FellBack {
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

// wholeSuperblock reports whether p is a superblock that is not torn, of whatever
// form: that of a program that was killed while it wrote, for one.
func wholeSuperblock(p []byte) bool {
	return string(p[:8]) == superblockSignature && binary.LittleEndian.Uint32(p[44:]) == lookup3(p[:44])
}

// openSpace makes the writer's free space of what the root does not reach.
func (f *File) openSpace(s *commitSlot, free *freeMap, pair slotPair, report *OpenReport) error {
	report.Unreached = int64(sumExtents(free.free) + sumExtents(free.freed))
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
	// Growth that no commit has named: it may not be durable either.
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
	// Roots before the older slot's, which readers may hold from the life before
	// this, reach any of it. After a fall back so does the root that failed.
	held := limboBatch{extents: all, bytes: sumExtents(all), pins: s.commit}
	for _, other := range pair.slots {
		if other != nil && other.commit < s.commit {
			held.pins = other.commit
		}
		if other != nil && other.commit > s.commit {
			held.pins = other.commit + 1
			break
		}
	}
	sp.limbo = append(sp.limbo, held)
	if len(free.freed) > 0 {
		sp.limbo = append(sp.limbo, limboBatch{free.freed, sumExtents(free.freed), s.commit, max(held.pins, s.commit), s.commit})
	}
	return nil
}
