package bucket

import "sort"

// merge appends to dst the items of old and changes; if both have a key, it takes the
// change. Both ascend. Changes that are Deleted are left out, or kept if what they delete
// lies elsewhere. dst may share the memory of old if it begins at least len(changes)
// items before it.
func merge(dst, old, changes []Item, keepDeleted bool) []Item {
	for i := range changes {
		c := &changes[i]
		for len(old) > 0 && Less(&old[0], c) {
			dst, old = append(dst, old[0]), old[1:]
		}
		if len(old) > 0 && old[0].Key == c.Key {
			old = old[1:]
		}
		if keepDeleted || !c.Deleted {
			dst = append(dst, *c)
		}
	}
	return append(dst, old...)
}

// Split cuts the ascending items of a group of the given local depth in two, by the
// next bit of the hash: bit depth, where 0 is the top one. Both parts share the
// memory of items. depth is below 64.
func Split(items []Item, depth uint8) (left, right []Item) {
	cut := sort.Search(len(items), func(i int) bool { return items[i].Hash<<depth>>63 == 1 })
	return items[:cut:cut], items[cut:]
}
