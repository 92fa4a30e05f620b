package hdf5io

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// LeaveRoom makes Commit leave enough free space for a later Tx that only removes a
// dataset or an attribute, even on a full disk. If there is not enough, Commit
// fails with ErrNoSpace. A Tx that only removes does not need it.
func (tx *Tx) LeaveRoom() { tx.leave = true }

// KeepFree makes Commit fail with ErrNoSpace if it places more than it frees and leaves less
// than n bytes of the file that are free, now or after later commits.
func (tx *Tx) KeepFree(n int64) { tx.keepFree = uint64(n) }

// KeepRoom makes Commit fail with ErrNoSpace if the space that is free then, without what the
// commit frees, lacks the room that want returns for the View that the commit would make.
func (tx *Tx) KeepRoom(want func(*View) Room) { tx.keepRoom = want }

// Surely makes the Tx fill one extent after another, the longest first, so that it finds room
// if it places no more than want, for which there was room as Room.Commit.
func (tx *Tx) Surely(want Demand) { tx.writer.surely = &want }

// checkFree returns an error if the Tx, which has freed these extents, does not leave what
// KeepFree and KeepRoom ask for. The Tx would make v.
func (tx *Tx) checkFree(v *View, freed []extent) error {
	s := &tx.file.space
	s.mu.Lock()
	defer s.mu.Unlock()
	more := sumExtents(freed)
	if left := s.pool.bytes + s.waiting + more; tx.writer.placed > more && left < tx.keepFree {
		return fmt.Errorf("%d bytes would be free, want %d: %w", left, tx.keepFree, ErrNoSpace)
	}
	if tx.keepRoom == nil {
		return nil
	}
	if lack := s.pool.lacks(tx.keepRoom(v)); lack > 0 {
		return fmt.Errorf("%d bytes would be lacking for what else is to be written: %w", lack, ErrNoSpace)
	}
	return nil
}

// RoomToRemove is what LeaveRoom leaves, in bytes: for Trim.
func (v *View) RoomToRemove() int64 {
	pieces, size := roomToRemove(v.root, v.slot.freeMapSize, v.slot.endOfFile)
	return int64(uint64(pieces) * (padded(size) + sectorSize))
}

const (
	// removals is the number of commits that room is left for, one after another, even
	// if a reader holds what they free.
	removals = 4
	// smallMap is the largest size of a free map for which room is left that many times.
	// For a larger one, room is left for one commit.
	smallMap = 4 << 10
	// leastRecords is fewer than the nodes of an index have on average.
	leastRecords = 8
)

// roomToRemove bounds what commits write, as many as removals, each of which removes one
// object or one attribute: the headers from the root down to it, and the free map, which
// then has all that the object had. It returns the number of pieces, and the most bytes
// that one of them has.
func roomToRemove(root *object, freeMap, endOfFile uint64) (pieces int, size uint64) {
	most := uint64(0) // pieces that one dataset has in the file
	root.walk("/", func(_ string, o *object) error {
		size = max(size, uint64(len(o.header)))
		most = max(most, o.index.total+o.index.total/leastRecords)
		return nil
	})
	entry := 2 * uint64(len(binary.AppendUvarint(nil, endOfFile/ExtentUnit))) // of the free map
	pieces = (root.height() + 1) * removals
	freeMap += freeMapSlack + most*entry
	if freeMap <= max(size, smallMap) {
		return pieces, max(size, freeMap)
	}
	return 1, freeMap + uint64(pieces)*(padded(size)+sectorSize)
}

// height is the number of objects on the longest path from o down.
func (o *object) height() int {
	below := 0
	for _, m := range o.members {
		below = max(below, m.object.height())
	}
	return 1 + below
}

// An Edit says that a commit names or deletes up to N chunks of some datasets together, or
// deletes any number of them.
type Edit struct {
	N   int64
	Any bool
	Of  []string // their paths
}

// RoomToChange returns bounds of what a commit places that makes the edits, apart from the
// chunks themselves: the nodes on the way to each, all headers except those of datasets in
// one piece, both chunk maps and the free map; and of the longest piece of that. Other objects
// are not changed. The headers of objects that are added, and what headers become longer, are
// not counted.
func (v *View) RoomToChange(edits []Edit) (all, piece int64) {
	longest, pieces := uint64(mapNodeSize), uint64(16) // of these, what is added
	nodes := make([]nodeBounds, len(edits))
	var pages [2]uint64
	bytes := uint64(0)
	v.root.walk("/", func(path string, o *object) error {
		if o.dataset != nil && !o.chunked() {
			return nil
		}
		size := padded(uint64(len(o.header)))
		bytes, pieces, longest = bytes+size, pieces+1, max(longest, size)
		for i := range edits {
			if e := &edits[i]; slices.Contains(e.Of, path) {
				nodes[i].add(o.mostNodes(uint64(e.N)))
				bytes, pieces = bytes+padded(indexHeaderSize), pieces+1
				if o.chunkMap != Unmapped {
					pages[o.chunkMap-FirstMap] += uint64(e.N)
				}
				if e.Any {
					nodes[i].way, pieces = math.MaxUint32, pieces+o.index.total
				}
			}
		}
		return nil
	})
	for i, n := range nodes {
		few := min(n.way, n.now+n.more)
		bytes, pieces = bytes+few*indexNodeSize, pieces+few+uint64(edits[i].N)
	}
	for i, m := range v.maps {
		n := pages[i] + 1
		for _, level := range m.levels {
			few := min(n, uint64(len(level))+n/mapFanout+1)
			bytes, pieces = bytes+few*mapNodeSize, pieces+few
		}
		bytes, pieces = bytes+mapNodeSize, pieces+1
	}
	entry := 2 * uint64(len(binary.AppendUvarint(nil, v.slot.endOfFile/ExtentUnit))) // of the free map
	freeMap := padded(v.slot.freeMapSize + freeMapSlack + 2*pieces*entry)
	return int64(bytes + freeMap), int64(max(longest, freeMap))
}

// nodeBounds bounds how many nodes of indexes edits write.
type nodeBounds struct {
	way  uint64 // of all ways to the edits
	now  uint64 // that there are
	more uint64 // that are added, whichever of the datasets the edits are in
}

func (a *nodeBounds) add(b nodeBounds) {
	*a = nodeBounds{max(a.way, b.way), a.now + b.now, max(a.more, b.more)}
}

// mostNodes bounds how many nodes of a dataset's index n edits write: on the way to each,
// two nodes of a level, because one is divided or takes a neighbour in, and a new root; but
// never more than the index then has.
func (o *object) mostNodes(n uint64) (b nodeBounds) {
	g, err := o.dataset.indexShape().geometry()
	if err != nil {
		return b
	}
	now := o.index.total
	b.way = n * uint64(2*(o.index.depth+1)+1)
	for i := 0; i <= o.index.depth+1; i++ {
		least := uint64(g.least(i))
		now, n = now/least+1, n/least+1
		b.now, b.more = b.now+now+1, b.more+n
	}
	return b
}
