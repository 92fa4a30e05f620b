package bucket

// merge appends to dst the live items of old with changes over them: of one key
// the change alone. Both ascend. A change of version 0 gets the version behind
// the one that it supersedes. dst may be the memory of old if it begins at least
// len(changes) items before it.
func merge(dst, old, changes []Item) []Item {
	for len(changes) > 0 {
		c := &changes[0]
		for len(old) > 0 && Less(&old[0], c) {
			dst, old = append(dst, old[0]), old[1:]
		}
		version := c.Version
		if version == 0 {
			version = 1
		}
		if len(old) > 0 && old[0].Key == c.Key {
			if c.Version == 0 {
				version = old[0].Version + 1
			}
			old = old[1:]
		}
		if !c.Deleted {
			dst = append(dst, *c)
			dst[len(dst)-1].Version = version
		}
		changes = changes[1:]
	}
	return append(dst, old...)
}

// overlay appends to dst the items of a tail with changes over them, deleted ones
// too. The version of a change is one more than what it supersedes in the tail,
// and else 0: merge then counts on from the row.
func overlay(dst, tail, changes []Item) []Item {
	for i := range changes {
		c := changes[i]
		for len(tail) > 0 && Less(&tail[0], &c) {
			dst, tail = append(dst, tail[0]), tail[1:]
		}
		c.Version = 0
		if len(tail) > 0 && tail[0].Key == c.Key {
			c.Version, tail = tail[0].Version+1, tail[1:]
		}
		dst = append(dst, c)
	}
	return append(dst, tail...)
}

// unionSize is the number of distinct keys of two ascending lists.
func unionSize(a, b []Item) int {
	n := len(a) + len(b)
	for len(a) > 0 && len(b) > 0 {
		switch {
		case a[0].Key == b[0].Key:
			a, b = a[1:], b[1:]
			n--
		case Less(&a[0], &b[0]):
			a = a[1:]
		default:
			b = b[1:]
		}
	}
	return n
}
