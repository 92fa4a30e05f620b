package crashfs

import (
	"bytes"
	"io/fs"
	"maps"
	"slices"
	"sync/atomic"
)

// inode is one file, whatever its names: the bytes that processes see, and what the
// disk does not have yet.
type inode struct {
	*arena
	id   uint64
	mode fs.FileMode
	// size is read by mappings without the file system's lock. It is stored only
	// when it changes: for the race detector, each store would order the writer's
	// earlier writes before a reader's later views, and so hide the races that it
	// looks for.
	size atomic.Int64
	// durable is the size on the disk; sizes are the later ones, the last equal to
	// size, and empty when the size is synced.
	durable int64
	sizes   []int64
	// unsynced has the sectors of which the disk may have old bytes.
	unsynced map[int64]*unsynced
	blocks   bitset       // pages that have space on the disk
	opens    int          // open files
	links    int          // names
	maps     atomic.Int32 // open mappings: memory in use, whatever is closed
	lent     bool         // the arena belongs to an enumeration
	locks    lockTable
}

// unsynced is a sector of which the disk may still have an older version.
type unsynced struct {
	old []byte // what was synced last
	// versions are the contents after each write since then, oldest first; the last
	// is what processes see. They are kept only while a trace is replayed.
	versions [][]byte
	// lost: after a failed sync the system regards the sector as written. No later
	// sync writes it until it is written again.
	lost bool
}

func newInode(id uint64, mode fs.FileMode, a *arena) *inode {
	return &inode{
		arena: a, id: id, mode: mode,
		unsynced: map[int64]*unsynced{},
		blocks:   newBitset(int64(len(a.used)) * 64),
	}
}

// sectors returns the first sector of [off, off+n) and the one past the last.
func sectors(off, n int64) (first, end int64) {
	return off / sectorSize, (off + n + sectorSize - 1) / sectorSize
}

// write puts p where processes see it; the disk gets it at a sync.
func (ino *inode) write(p []byte, off int64, keep bool) {
	if len(p) == 0 {
		return
	}
	n := int64(len(p))
	first, end := sectors(off, n)
	ino.dirty(first, end)
	copy(ino.data[off:], p)
	ino.touch(off, n)
	if keep {
		ino.keepVersions(first, end)
	}
	if off+n > ino.size.Load() {
		ino.resize(off + n)
	}
}

// dirty records that sectors are about to be written.
func (ino *inode) dirty(first, end int64) {
	var old []byte
	for s := first; s < end; s++ {
		if u := ino.unsynced[s]; u != nil {
			u.lost = false
			continue
		}
		if old == nil { // at once for all that follow
			old = bytes.Clone(ino.data[s*sectorSize : end*sectorSize])
		}
		at := int64(len(old)) - (end-s)*sectorSize
		ino.unsynced[s] = &unsynced{old: old[at : at+sectorSize : at+sectorSize]}
	}
}

// keepVersions keeps what the sectors hold now as a version.
func (ino *inode) keepVersions(first, end int64) {
	slab := bytes.Clone(ino.data[first*sectorSize : end*sectorSize])
	for s := first; s < end; s++ {
		u := ino.unsynced[s]
		u.versions = append(u.versions, slab[:sectorSize:sectorSize])
		slab = slab[sectorSize:]
	}
}

func (ino *inode) resize(size int64) {
	if size == ino.size.Load() {
		return
	}
	ino.size.Store(size)
	ino.sizes = append(ino.sizes, size)
}

// truncate cuts the file, or extends it with a hole. What is cut off becomes zeros,
// which are un-synced like any write.
func (ino *inode) truncate(size int64, keep bool) {
	old := ino.size.Load()
	for page := size / pageSize; page*pageSize < old; page++ {
		if page*pageSize >= size {
			ino.blocks.unset(page)
		}
		if !ino.used.has(page) {
			continue
		}
		start, end := sectors(page*pageSize, int64(len(ino.page(page))))
		for s := max(start, size/sectorSize); s < end; s++ {
			tail := ino.sector(s)[max(0, size-s*sectorSize):]
			if allZero(tail) {
				continue
			}
			ino.dirty(s, s+1)
			clear(tail)
			ino.touch(s*sectorSize, sectorSize)
			if keep {
				ino.keepVersions(s, s+1)
			}
		}
	}
	ino.resize(size)
}

var zeroSector [sectorSize]byte

func allZero(p []byte) bool { return bytes.Equal(p, zeroSector[:len(p)]) }

// sync makes the sectors of [off, off+n) durable, and the size if the range needs
// it.
func (ino *inode) sync(off, n int64) {
	first, end := sectors(off, n)
	if int64(len(ino.unsynced)) < end-first {
		for s := range ino.unsynced {
			ino.syncSector(s, first, end)
		}
	} else {
		for s := first; s < end; s++ {
			ino.syncSector(s, first, end)
		}
	}
	if n > 0 && off+n > slices.Min(append(ino.sizes, ino.durable)) {
		ino.syncSize()
	}
}

func (ino *inode) syncSector(s, first, end int64) {
	if u := ino.unsynced[s]; u != nil && !u.lost && first <= s && s < end {
		delete(ino.unsynced, s)
	}
}

func (ino *inode) syncAll() {
	ino.sync(0, int64(len(ino.data)))
	ino.syncSize()
}

// syncedTail finds what a file of size bytes must not show: the end of its last
// sector, if a WriteSync of the sector's beginning made later bytes durable, but
// not the size that they need.
func (ino *inode) syncedTail(size int64) (sector int64, ok bool) {
	sector = size / sectorSize
	return sector, size < ino.size.Load() && size%sectorSize != 0 && ino.unsynced[sector] == nil
}

func (ino *inode) syncSize() {
	ino.durable, ino.sizes = ino.size.Load(), nil
}

// failSync is a sync of [off, off+n) that reports an error.
func (ino *inode) failSync(mode SyncFailure, off, n int64) {
	first, end := sectors(off, n)
	for s, u := range ino.unsynced {
		if s < first || s >= end {
			continue
		}
		switch mode {
		case FailRevert:
			copy(ino.sector(s), u.old)
			ino.touch(s*sectorSize, sectorSize)
			delete(ino.unsynced, s)
		case FailLost:
			u.lost = true
		}
	}
}

func (ino *inode) dirtySectors() []int64 { return slices.Sorted(maps.Keys(ino.unsynced)) }

// missing counts the pages of [off, off+n) that have no space on the disk yet.
func (ino *inode) missing(off, n int64) (pages int64) {
	for page := off / pageSize; page*pageSize < off+n; page++ {
		if !ino.blocks.has(page) {
			pages++
		}
	}
	return pages
}

// reserve gives [off, off+n) space on the disk.
func (ino *inode) reserve(off, n int64) {
	for page := off / pageSize; page*pageSize < off+n; page++ {
		ino.blocks.set(page)
	}
}

// allocated returns the bytes of disk in use.
func (ino *inode) allocated() int64 { return ino.blocks.count() * pageSize }
