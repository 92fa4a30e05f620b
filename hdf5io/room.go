package hdf5io

import "encoding/binary"

// LeaveRoom makes Commit leave enough free space for a later Tx that only removes a
// dataset or an attribute, even on a full disk. If there is not enough, Commit
// fails with ErrNoSpace. A Tx that only removes does not need it.
func (tx *Tx) LeaveRoom() { tx.leave = true }

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
