package directory

import (
	"cmp"
	"iter"
	"slices"

	"github.com/cidstore/cidstore/hdf5io"
)

// MaxDepth bounds the depth, in bits. Bucket ids have 32 bits, and a directory has
// up to 64 times as many pointers as buckets.
const MaxDepth = 38

// Pointers are kept in pages, the unit that versions share: 12 KiB each.
const (
	pageBits     = 10
	pagePointers = 1 << pageBits
)

// Mode is the form in which a directory lies in a file.
type Mode string

const (
	Attribute Mode = "attribute" // attribute of /config
	Dataset   Mode = "dataset"   // one chunked dataset
	Sharded   Mode = "sharded"   // a group of datasets
)

// Pointer names a bucket.
type Pointer struct {
	Bucket uint32
	Ref    hdf5io.Commit // in which this bucket id was created
}

// Limits say how many pointers each form holds. Tests lower them; one that is not positive
// is that of the format.
type Limits struct {
	Attribute int // most pointers of an attribute, up to 5,000: it must fit one message
	Dataset   int // most pointers of one dataset
	Shard     int // pointers of each dataset of a group
}

// mode is the form for n pointers.
func (l Limits) mode(n uint64) Mode {
	switch {
	case n <= uint64(l.Attribute):
		return Attribute
	case n <= uint64(l.Dataset):
		return Dataset
	}
	return Sharded
}

// complete returns the limits with those of the format in the place of absent ones.
func (l Limits) complete() Limits {
	return Limits{
		Attribute: min(cmp.Or(max(l.Attribute, 0), 1000), maxAttribute),
		Dataset:   cmp.Or(max(l.Dataset, 0), 1_000_000),
		Shard:     cmp.Or(max(l.Shard, 0), 100_000),
	}
}

// page holds pagePointers pointers, or fewer in a directory that is smaller than a
// page. Bucket ids are kept apart, because lookups need nothing else, and more of
// them fit in a near cache at four bytes each than at twelve. Pages of a Directory
// never change.
type page struct {
	buckets []uint32
	refs    []hdf5io.Commit
}

func newPage(n uint64) page { return page{make([]uint32, n), make([]hdf5io.Commit, n)} }

func (p page) len() uint64              { return uint64(len(p.buckets)) }
func (p page) at(i uint64) Pointer      { return Pointer{p.buckets[i], p.refs[i]} }
func (p page) set(i uint64, to Pointer) { p.buckets[i], p.refs[i] = to.Bucket, to.Ref }
func (p page) clone() page              { return page{slices.Clone(p.buckets), slices.Clone(p.refs)} }

// same reports whether p and q are one and the same page, not only equal.
func (p page) same(q page) bool { return &p.buckets[0] == &q.buckets[0] }

// pointerAt is pointer i of all that pages hold.
func pointerAt(pages []page, i uint64) Pointer {
	return pages[i>>pageBits].at(i & (pagePointers - 1))
}

// Directory is one version of the pointers; immutable.
type Directory struct {
	depth  int
	shift  uint // 64 - depth
	pages  []page
	stored stored
	limits Limits
}

// stored is what a file holds of a directory. Store compares with it to find what
// changed. Pages are compared by identity, then by content.
type stored struct {
	form  form
	depth int
	pages []page
}

// New returns the directory of a new store: depth 0, one pointer, to bucket 0.
// ref is the commit that creates that bucket.
func New(ref hdf5io.Commit, limits Limits) *Directory {
	return newDirectory(0, []page{{[]uint32{0}, []hdf5io.Commit{ref}}}, stored{}, limits.complete())
}

func newDirectory(depth int, pages []page, base stored, limits Limits) *Directory {
	return &Directory{depth: depth, shift: uint(64 - depth), pages: pages, stored: base, limits: limits}
}

// Len is the number of pointers, 2^depth.
func (d *Directory) Len() int { return 1 << d.depth }

// Mode is the form in which the file holds this directory. If no file holds it, it
// is the form that its size asks for.
func (d *Directory) Mode() Mode {
	if d.stored.form.mode == "" {
		return d.limits.mode(uint64(1) << d.depth)
	}
	return d.stored.form.mode
}

// Fits reports whether the file holds this directory in the form that its size asks
// for.
func (d *Directory) Fits() bool { return d.stored.form == d.limits.form(uint64(1)<<d.depth) }

// Bucket returns the bucket of a hash.
func (d *Directory) Bucket(hash uint64) uint32 {
	i := hash >> d.shift
	return d.pages[i>>pageBits].buckets[i&(pagePointers-1)]
}

// Run is the part of the directory that points to one bucket.
type Run struct {
	Prefix  uint64 // the lowest hash of the bucket
	Depth   uint8  // its local depth, in bits
	Pointer Pointer
}

// Last is the highest hash of the run's bucket.
func (r Run) Last() uint64 { return r.Prefix | ^uint64(0)>>r.Depth }

// Run returns the run that holds a hash.
func (d *Directory) Run(hash uint64) Run { return runAt(d.pages, d.depth, hash) }

// runAt finds the run of a hash by trying aligned stretches of growing length: if
// the first and the last pointer of one are equal, all between them are (I2, I3).
func runAt(pages []page, depth int, hash uint64) Run {
	at := func(i uint64) Pointer { return pointerAt(pages, i) }
	i := hash >> uint(64-depth)
	p := at(i)
	run := 0 // log2 of its length
	for run < depth {
		first := i &^ (uint64(2)<<run - 1)
		if at(first) != p || at(first|(uint64(2)<<run-1)) != p {
			break
		}
		run++
	}
	local := uint8(depth - run)
	return Run{Prefix: hash &^ (^uint64(0) >> local), Depth: local, Pointer: p}
}

// All yields the runs in order of their hashes: every bucket that the directory
// points to, once.
func (d *Directory) All() iter.Seq[Run] { return d.From(0) }

// From is All beginning with the run that holds a hash.
func (d *Directory) From(hash uint64) iter.Seq[Run] {
	return func(yield func(Run) bool) {
		for {
			r := d.Run(hash)
			if !yield(r) || r.Last() == ^uint64(0) {
				return
			}
			hash = r.Last() + 1
		}
	}
}
