package valueset

import (
	"cmp"
	"math/bits"
	"slices"
)

// Many edits are sorted in two steps: they are distributed by the first bits in
// which their values differ, then each small heap is sorted by itself. For a
// million random edits this takes a third of the time of slices.SortFunc.
const (
	dealFrom    = 4096 // fewer edits are sorted at once
	heapEdits   = 8    // edits that a heap should have
	maxDealBits = 16   // 2^16 heap ends take 256 KiB
)

// sorted returns the edits sorted by value, then by order, in the same or another
// slice. edits must not be used afterwards.
func sorted(edits []edit) []edit {
	if slices.IsSortedFunc(edits, compareEdits) {
		return edits
	}
	if len(edits) >= dealFrom {
		return dealt(edits)
	}
	slices.SortFunc(edits, compareEdits)
	return edits
}

func compareEdits(a, b edit) int {
	switch {
	case less(a.value, b.value):
		return -1
	case less(b.value, a.value):
		return +1
	}
	return cmp.Compare(a.op, b.op)
}

func dealt(edits []edit) []edit {
	high, low := uint64(0), uint64(0) // bits in which values differ from the first
	for i := range edits {
		high |= edits[i].value.High ^ edits[0].value.High
		low |= edits[i].value.Low ^ edits[0].value.Low
	}
	width := min(bits.Len(uint(len(edits)/heapEdits)), maxDealBits)
	heap := func(e *edit) uint64 { // width bits, beginning with the first that differs: heaps are in the order of values
		if high != 0 {
			return e.value.High << bits.LeadingZeros64(high) >> (64 - width)
		}
		return e.value.Low << bits.LeadingZeros64(low) >> (64 - width)
	}
	ends := make([]uint32, 1<<width+1) // first where each heap begins, then where it ends
	for i := range edits {
		ends[heap(&edits[i])+1]++
	}
	for i := 1; i < len(ends); i++ {
		ends[i] += ends[i-1]
	}
	out := make([]edit, len(edits))
	for i := range edits {
		k := heap(&edits[i])
		out[ends[k]] = edits[i]
		ends[k]++
	}
	first := uint32(0)
	for _, end := range ends[:1<<width] {
		slices.SortFunc(out[first:end], compareEdits)
		first = end
	}
	return out
}
