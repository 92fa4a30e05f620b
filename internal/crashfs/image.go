package crashfs

import "fmt"

// Image is a disk that one crash may leave.
type Image struct {
	Class Class  // the way in which it was found first
	Cut   int    // entries of the trace before the crash
	Index int    // number of the candidate in its class, at the cut
	Marks []any  // the marks before the crash, oldest first; must not be changed
	Hash  uint64 // equal for equal disks, in one process

	e    *Enumeration
	last *op // before the cut; nil at cut 0
}

// String says where the crash was. Plan{From: Cut, To: Cut} with the same seed and
// classes finds the image again.
func (m *Image) String() string {
	after := "the start"
	if m.last != nil {
		after = fmt.Sprintf("%v by %s", m.last.kind, site(&m.last.stack))
	}
	return fmt.Sprintf("cut %d, %v %d, after %s", m.Cut, m.Class, m.Index, after)
}

// FS returns the disk as a file system with nothing open and nothing un-synced. A
// second call starts again from the image. It panics if the loop has gone on to
// another image, which has the memory then.
func (m *Image) FS() *FS {
	if m.e == nil {
		panic("crashfs: image used after its turn")
	}
	return m.e.materialise(m.Cut)
}

// materialise turns the disk that was put together into a file system. Its arenas
// are updated from those of the replay, so that the work is proportional to what
// differs: the sectors that the crash lost, and what the last user wrote.
func (e *Enumeration) materialise(cut int) *FS {
	e.retire()
	s := newFS(e.replay.options, e.replay.pool)
	s.lastID = e.replay.lastID
	var buf [sectorSize]byte
	at := 0
	for n, from := range e.files {
		a := e.arenas[from.id]
		if a == nil {
			a = s.pool.get()
			copy(a.changed, from.used)
			e.arenas[from.id] = a
		}
		a.follow(from.arena)
		ino := newInode(from.id, from.mode, a)
		ino.lent = true
		copy(ino.blocks, from.blocks)
		size := e.disk.sizes[n]
		ino.size.Store(size)
		ino.durable = size
		for ; at < len(e.slots) && e.slots[at].ino == from; at++ {
			sl := &e.slots[at]
			left := size - sl.sector*sectorSize
			if left >= sectorSize && e.disk.picks[at] == len(sl.versions)-1 {
				continue // equal to the replay
			}
			p := zeroSector[:]
			if left > 0 {
				p = cutSector(e.content(cut, at, &buf), left, &buf)
			}
			copy(ino.sector(sl.sector), p)
			ino.touch(sl.sector*sectorSize, sectorSize)
		}
		if sector, ok := from.syncedTail(size); ok {
			clear(ino.sector(sector)[size%sectorSize:])
			ino.touch(sector*sectorSize, sectorSize)
		}
		s.inodes[ino.id] = ino
	}
	for name, from := range e.replay.names.prefix(e.disk.names) {
		s.names.seen[name] = s.inodes[from.id]
		s.inodes[from.id].links++
	}
	for id, ino := range s.inodes {
		if ino.links == 0 {
			delete(s.inodes, id)
		}
	}
	s.names.settle()
	e.work = s
	return s
}

// Crash returns the disk after a crash at the end of what was recorded, with
// random sectors, sizes and names of what was not synced, as a file system of
// its own.
func (t *Trace) Crash(seed uint64) *FS {
	e := t.Enumerate(Plan{Seed: seed})
	e.start()
	defer e.finish()
	for i := range e.ops {
		e.advance(&e.ops[i], false)
	}
	e.gather()
	e.randomSubset(len(e.ops), 1)
	return e.materialise(len(e.ops)).Copy()
}
