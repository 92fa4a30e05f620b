package vfs_test

import (
	"testing"

	"github.com/cidstore/cidstore/vfs"
)

// TestFreeLeavesTheHeapAlone: an empty piece and one of the heap can be given to Free.
func TestFreeLeavesTheHeapAlone(t *testing.T) {
	vfs.Free(vfs.Alloc[byte](0))
	p := make([]uint64, 1<<16)
	vfs.Free(p)
	p[1<<15] = 1
}
