// Package order sorts values, many at a time.
package order

import (
	"math/bits"

	"github.com/cidstore/cidstore/keys"
)

// Item is a value with a mark, which does not count for the order.
type Item struct {
	Value keys.E
	Mark  uint64
}

// Less is a.Compare(b) < 0 in fewer instructions.
func Less(a, b keys.E) bool {
	if a.High != b.High {
		return a.High < b.High
	}
	return a.Low < b.Low
}

const (
	few         = 20 // up to this many items are sorted by insertion
	pileItems   = 8  // items that a pile should have
	maxDealBits = 9  // so that the places where the piles are written next fit the near caches
)

const _ = uint(few - pileItems) // what is dealt is enough for two piles

// Sort sorts items by their values. Items of one value stay in their order. It is a radix
// sort: it deals items to piles by the first bits in which their values differ, and sorts
// each pile in the same way. It takes as much memory again as the items.
func Sort(items []Item) {
	if !ascend(items) {
		if len(items) <= few {
			insert(items, items)
			return
		}
		sortTo(items, items, make([]Item, len(items)))
	}
}

func ascend(items []Item) bool {
	for i := 1; i < len(items); i++ {
		if Less(items[i].Value, items[i-1].Value) {
			return false
		}
	}
	return true
}

// sortTo sorts items into dst, which is items or spare. All have one length.
func sortTo(dst, items, spare []Item) {
	if len(items) <= few {
		insert(dst, items)
		return
	}
	high, low := uint64(0), uint64(0) // bits in which values differ from the first
	for i := range items {
		high |= items[i].Value.High ^ items[0].Value.High
		low |= items[i].Value.Low ^ items[0].Value.Low
	}
	if high|low == 0 {
		copy(dst, items)
		return
	}
	width := min(bits.Len(uint(len(items)/pileItems)), maxDealBits)
	up, down, ofLow := bits.LeadingZeros64(high), 64-width, high == 0
	if ofLow {
		up = bits.LeadingZeros64(low)
	}
	pile := func(v *keys.E) uint64 { // width bits, beginning with the first that differs: piles are in the order of values
		if ofLow {
			return v.Low << (up & 63) >> (down & 63)
		}
		return v.High << (up & 63) >> (down & 63)
	}
	var ends [1<<maxDealBits + 1]uint32 // first where each pile begins, then where it ends
	for i := range items {
		ends[pile(&items[i].Value)+1]++
	}
	for i := 1; i < 1<<width; i++ {
		ends[i] += ends[i-1]
	}
	for i := range items {
		k := pile(&items[i].Value)
		spare[ends[k]] = items[i]
		ends[k]++
	}
	inItems := &dst[0] == &items[0]
	first := uint32(0)
	for _, end := range ends[:1<<width] {
		if a, b := items[first:end], spare[first:end]; inItems {
			sortTo(a, b, a)
		} else {
			sortTo(b, b, a)
		}
		first = end
	}
}

// insert sorts items into dst, which may be items.
func insert(dst, items []Item) {
	for i := range items {
		it, k := items[i], i
		for ; k > 0 && Less(it.Value, dst[k-1].Value); k-- {
			dst[k] = dst[k-1]
		}
		dst[k] = it
	}
}
