package cidstore

import (
	"cmp"
	"math"
	"slices"

	"github.com/cidstore/cidstore/vfs"
)

// queue holds the operations of a table that a checkpoint has still to merge, in order of
// (hash, key, sequence). It holds their places, not copies.
type queue struct {
	table  *table
	places []place
}

// place is the place of an operation in its table.
type place struct {
	hash   uint64
	number uint32
}

// newQueue returns all operations of a table whose hashes are from or higher. It sorts
// them in 256 parts, each of which fits the processor's cache.
func newQueue(t *table, from uint64) queue {
	var ends [256 + 1]int
	each := func(visit func(number uint32, hash uint64)) {
		number := uint32(0)
		t.all(func(o *op) {
			if number++; number%1024 == 0 {
				vfs.Yield()
			}
			if o.hash >= from {
				visit(number, o.hash)
			}
		})
	}
	each(func(_ uint32, hash uint64) { ends[hash>>56+1]++ })
	for i := range 256 {
		ends[i+1] += ends[i]
	}
	q := queue{t, alloc[place](ends[256], ends[256] >= heapFew)}
	next := ends
	each(func(number uint32, hash uint64) {
		part := hash >> 56
		q.places[next[part]] = place{hash, number}
		next[part]++
	})
	for i := range 256 {
		part := q.places[ends[i]:ends[i+1]]
		if len(part) >= 64 {
			vfs.Yield()
		}
		slices.SortFunc(part, func(a, b place) int { // stable: numbers are distinct
			if a.hash != b.hash {
				return cmp.Compare(a.hash, b.hash)
			}
			return cmp.Compare(a.number, b.number)
		})
	}
	q.groupEqualHashes()
	return q
}

// groupEqualHashes puts operations on different keys with equal hashes in order of keys.
// There are hardly ever any.
func (q *queue) groupEqualHashes() {
	for i := 0; i < len(q.places); {
		first, n, mixed := q.places[i], i+1, false
		for n < len(q.places) && q.places[n].hash == first.hash {
			mixed = mixed || q.table.at(q.places[n].number).key != q.table.at(first.number).key
			n++
		}
		if mixed {
			slices.SortStableFunc(q.places[i:n], func(a, b place) int {
				return q.table.at(a.number).key.Compare(q.table.at(b.number).key)
			})
		}
		i = n
	}
}

func (q *queue) len() int { return len(q.places) }

// first returns the lowest hash; the queue must not be empty.
func (q *queue) first() uint64 { return q.places[0].hash }

// below returns how many operations have a lower hash.
func (q *queue) below(hash uint64) int {
	n, _ := slices.BinarySearchFunc(q.places, hash, func(p place, hash uint64) int { return cmp.Compare(p.hash, hash) })
	return n
}

// within returns how many operations have hashes from low to high, both included.
func (q *queue) within(low, high uint64) int {
	if high == math.MaxUint64 {
		return q.len() - q.below(low)
	}
	return q.below(high+1) - q.below(low)
}

// take moves operations from the front to dst, as long as holds returns true for their
// hashes.
func (q *queue) take(dst []*op, holds func(hash uint64) bool) []*op {
	n := 0
	for n < len(q.places) && holds(q.places[n].hash) {
		n++
	}
	dst = slices.Grow(dst, n)
	for _, p := range q.places[:n] {
		dst = append(dst, q.table.at(p.number))
	}
	q.places = q.places[n:]
	return dst
}

// upTo returns the operations whose hashes are not above last.
func (q *queue) upTo(last uint64) queue { return queue{q.table, q.places[:q.within(0, last)]} }

// takeKey takes the operations on the key in front.
func (q *queue) takeKey() (ops []*op) {
	key := q.table.at(q.places[0].number).key
	for len(q.places) > 0 {
		o := q.table.at(q.places[0].number)
		if o.key != key {
			break
		}
		ops, q.places = append(ops, o), q.places[1:]
	}
	return ops
}
