package hdf5

import "math/bits"

const maxRank = 32 // dimensions: HDF5 has no more

// Unlimited is the entry of MaxShape for a dimension without a limit.
const Unlimited = undefined

// dataspace is the shape of a dataset or attribute (spec IV.A.2.b).
type dataspace struct {
	null     bool     // no elements, not even one
	dims     []uint64 // empty: one element
	max      []uint64 // as dims
	elements uint64
}

func (d *decoder) dataspace() (s dataspace) {
	version := d.version(1, 2)
	rank, flags := int(d.u8()), d.u8()
	d.require(rank <= maxRank, "%d dimensions, at most %d", rank, maxRank)
	if version == 1 {
		d.take(5)
	} else {
		kind := d.u8()
		d.require(kind <= 2 && (kind == 1 || rank == 0), "dataspace type %d with %d dimensions", kind, rank)
		s.null = kind == 2
	}
	for range rank {
		s.dims = append(s.dims, d.length())
	}
	s.max = s.dims
	if flags&1 != 0 {
		s.max = nil
		for range rank {
			s.max = append(s.max, d.length())
		}
	}
	s.elements = 1
	for i, n := range s.dims {
		d.require(n <= s.max[i], "dimension %d is %d, over its maximum %d", i, n, s.max[i])
		d.require(n < 1<<63, "dimension %d is %#x, want less than 2^63", i, n)
		var fits bool
		if s.elements, fits = product(s.elements, n); !fits {
			d.fail(ErrLimit, "%v are 2^64 elements or more", s.dims)
		}
	}
	if s.null {
		s.elements = 0
	}
	return s
}

// product multiplies. If the product overflows, it returns the largest number and false.
func product(a, b uint64) (uint64, bool) {
	high, low := bits.Mul64(a, b)
	if high != 0 {
		return ^uint64(0), false
	}
	return low, true
}

// sum returns a+b, or the largest number if the sum is larger.
func sum(a, b uint64) uint64 {
	if a+b < a {
		return ^uint64(0)
	}
	return a + b
}
