package bucket

import "sort"

// Split cuts the ascending items of a bucket of the given local depth in two,
// by the next bit of the hash: bit depth, where 0 is the top one. Both parts are
// parts of items. depth is below 64.
func Split(items []Item, depth uint8) (left, right []Item) {
	cut := sort.Search(len(items), func(i int) bool { return items[i].Hash<<depth>>63 == 1 })
	return items[:cut:cut], items[cut:]
}
