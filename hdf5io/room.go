package hdf5io

import (
	"encoding/binary"
	"fmt"
)

// LeaveRoom makes Commit leave enough free space for a later Tx that only removes a
// dataset or an attribute, even on a full disk. If there is not enough, Commit
// fails with ErrNoSpace. A Tx that only removes does not need it.
func (tx *Tx) LeaveRoom() { tx.leave = true }

// KeepFree makes Commit fail with ErrNoSpace if it places more than it frees and leaves less
// than n bytes of the file that are free, now or after later commits.
func (tx *Tx) KeepFree(n int64) { tx.keepFree = uint64(n) }

// checkFree returns an error if the Tx, which has freed these extents, does not keep what
// KeepFree asks for.
func (tx *Tx) checkFree(freed []extent) error {
	s := &tx.file.space
	s.mu.Lock()
	defer s.mu.Unlock()
	more := sumExtents(freed)
	if left := s.pool.bytes + s.waiting + more; tx.writer.placed > more && left < tx.keepFree {
		return fmt.Errorf("%d bytes would be free, want %d: %w", left, tx.keepFree, ErrNoSpace)
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

// IndexGrowth bounds by how many bytes the index of a dataset becomes longer if records are
// put into it that has total records now: every full node that takes one is divided, and so
// are the nodes above. It holds for an index of up to two dimensions.
func IndexGrowth(records, total int64) (bytes int64) {
	g, err := indexShape{rank: 2, chunkBytes: 1, nodeSize: indexNodeSize}.geometry()
	if err != nil || records <= 0 {
		return 0
	}
	for level := range g.levels {
		limit := int64(g.limit(level))
		divided := min(records, total/limit) + records/limit + 1
		bytes += divided * indexNodeSize
		records, total = divided, total/int64(g.least(level))+divided
		if total <= 1 {
			break
		}
	}
	return bytes
}

// Edits says how many chunks of the dataset at a path a commit names or deletes.
type Edits map[string]int

// RoomToChange returns bounds of what a commit places that makes the edits, apart from the
// chunks themselves: the nodes on the way to each, all headers except those of datasets in
// one piece, both chunk maps and the free map; and of the free map alone. Other objects are
// not changed, and none is added.
func (v *View) RoomToChange(edits Edits) (all, freeMap int64) {
	bytes, pieces := uint64(0), uint64(0)
	v.root.walk("/", func(path string, o *object) error {
		if o.dataset != nil && !o.chunked() {
			return nil
		}
		bytes, pieces = bytes+padded(uint64(len(o.header))), pieces+1
		if n := edits[path]; n > 0 {
			nodes := o.mostNodes(n)
			bytes += nodes*indexNodeSize + padded(indexHeaderSize)
			pieces += nodes + 1 + uint64(n)
		}
		return nil
	})
	for _, m := range v.maps {
		levels := uint64(len(m.levels)) + 1
		bytes, pieces = bytes+levels*mapNodeSize, pieces+levels
	}
	entry := 2 * uint64(len(binary.AppendUvarint(nil, v.slot.endOfFile/ExtentUnit))) // of the free map
	freeMap = int64(padded(v.slot.freeMapSize + freeMapSlack + 2*pieces*entry))
	return int64(bytes) + freeMap, freeMap
}

// mostNodes bounds how many nodes of a dataset's index n edits write: on the way to each,
// two nodes of a level, because one is divided or takes a neighbour in, and a new root; but
// never more than the index then has.
func (o *object) mostNodes(n int) uint64 {
	g, err := o.dataset.indexShape().geometry()
	if err != nil {
		return 0
	}
	all, level := uint64(0), o.index.total+uint64(n)
	for i := 0; i <= o.index.depth+1; i++ {
		level = level/uint64(g.least(i)) + 1
		all += level
	}
	return min(uint64(n*(2*(o.index.depth+1)+1)), all)
}
