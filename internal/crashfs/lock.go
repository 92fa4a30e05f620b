package crashfs

import (
	"slices"

	"github.com/cidstore/cidstore/vfs"
)

// lockTable holds the locks of one inode. The owner of a lock is an open file, as
// with flock and open-file-description locks: a second open file conflicts, a
// conversion replaces the lock, a close frees it. The two kinds do not conflict
// with each other.
type lockTable struct {
	whole  map[*file]bool // exclusive
	ranges []rangeLock
}

type rangeLock struct {
	owner      *file
	start, end int64
	exclusive  bool
}

func (t *lockTable) take(owner *file, l vfs.Lock) error {
	if l.Whole {
		for other, exclusive := range t.whole {
			if other != owner && (exclusive || l.Exclusive) {
				delete(t.whole, owner) // what the kernel's conversion loses
				return vfs.ErrLockHeld
			}
		}
		if t.whole == nil {
			t.whole = map[*file]bool{}
		}
		t.whole[owner] = l.Exclusive
		return nil
	}
	if held, _ := t.conflict(owner, l); held {
		return vfs.ErrLockHeld
	}
	t.free(owner, l)
	t.ranges = append(t.ranges, rangeLock{owner, l.Offset, l.Offset + l.Length, l.Exclusive})
	return nil
}

// conflict finds a byte range of another open file because of which l cannot be
// taken.
func (t *lockTable) conflict(owner *file, l vfs.Lock) (held bool, at int64) {
	for _, r := range t.ranges {
		if r.owner != owner && r.start < l.Offset+l.Length && l.Offset < r.end && (r.exclusive || l.Exclusive) {
			return true, r.start
		}
	}
	return false, 0
}

func (t *lockTable) free(owner *file, l vfs.Lock) {
	if l.Whole {
		delete(t.whole, owner)
		return
	}
	var kept []rangeLock
	for _, r := range t.ranges {
		start, end := l.Offset, l.Offset+l.Length
		if r.owner != owner || r.end <= start || end <= r.start {
			kept = append(kept, r)
			continue
		}
		if r.start < start {
			kept = append(kept, rangeLock{owner, r.start, start, r.exclusive})
		}
		if end < r.end {
			kept = append(kept, rangeLock{owner, end, r.end, r.exclusive})
		}
	}
	t.ranges = kept
}

// freeAll drops the locks of owner, as its close does.
func (t *lockTable) freeAll(owner *file) {
	delete(t.whole, owner)
	t.ranges = slices.DeleteFunc(t.ranges, func(r rangeLock) bool { return r.owner == owner })
}
