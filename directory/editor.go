package directory

import (
	"slices"

	"github.com/cidstore/cidstore/internal/corrupt"
)

// Editor makes the next version of a Directory. Not safe for concurrent use.
type Editor struct {
	depth  int
	pages  []page
	owned  []bool // the page belongs only to this editor and may be changed
	stored stored
	limits Limits
	err    error // of the first call that was not possible; Store returns it
}

// Edit returns an editor that begins with d. d stays as it is.
func (d *Directory) Edit() *Editor {
	return &Editor{depth: d.depth, pages: slices.Clone(d.pages), owned: make([]bool, len(d.pages)), stored: d.stored, limits: d.limits}
}

// Depth is the global depth as edited so far, in bits.
func (e *Editor) Depth() int { return e.depth }

// run returns the run that holds a hash as edited so far.
func (e *Editor) run(hash uint64) Run { return runAt(e.pages, e.depth, hash) }

// Split points the upper half of a run to right: that of the bucket of local depth
// depth that holds the hash prefix. The directory doubles first when the run has
// one pointer. If the run has another depth, which only a damaged file can cause,
// nothing changes and Store fails.
func (e *Editor) Split(prefix uint64, depth uint8, right Pointer) (doubled bool) {
	r := e.run(prefix)
	if r.Depth != depth || depth >= MaxDepth {
		e.fail("split of the bucket of hash %#016x at depth %d, limit %d: its run has depth %d", prefix, depth, MaxDepth, r.Depth)
		return false
	}
	if int(depth) == e.depth {
		e.double()
		doubled = true
	}
	half := uint64(1) << (e.depth - int(depth) - 1)
	e.set(r.Prefix>>uint(64-e.depth)+half, half, right)
	return doubled
}

// Merge points all hashes that share depth top bits with prefix to one bucket. They
// must be several runs; otherwise nothing changes and Store fails.
func (e *Editor) Merge(prefix uint64, depth uint8, into Pointer) {
	if int(depth) >= e.depth || e.run(prefix).Depth <= depth {
		e.fail("merge of the buckets of hash %#016x to depth %d: they have other depths", prefix, depth)
		return
	}
	first := prefix &^ (^uint64(0) >> depth)
	e.set(first>>uint(64-e.depth), 1<<(e.depth-int(depth)), into)
}

// Halve makes the directory one bit shallower if no bucket needs the last bit;
// it reports whether it did.
func (e *Editor) Halve() bool {
	if e.depth == 0 {
		return false
	}
	at := func(i uint64) Pointer { return pointerAt(e.pages, i) }
	half := uint64(1) << (e.depth - 1)
	for i := range half {
		if at(2*i) != at(2*i+1) {
			return false
		}
	}
	e.rebuild(e.depth-1, func(i uint64) Pointer { return at(2 * i) })
	return true
}

// Done returns the edited version. The editor may be used further.
func (e *Editor) Done() *Directory {
	clear(e.owned)
	return newDirectory(e.depth, slices.Clone(e.pages), e.stored, e.limits)
}

func (e *Editor) double() {
	old := e.pages
	e.rebuild(e.depth+1, func(i uint64) Pointer { return pointerAt(old, i>>1) })
}

// rebuild replaces all pointers by those that at returns for the new depth.
func (e *Editor) rebuild(depth int, at func(i uint64) Pointer) {
	n := uint64(1) << depth
	pages := make([]page, 0, (n+pagePointers-1)>>pageBits)
	for first := uint64(0); first < n; first += pagePointers {
		p := newPage(min(n-first, pagePointers))
		for i := range p.len() {
			p.set(i, at(first+i))
		}
		pages = append(pages, p)
	}
	e.depth, e.pages, e.owned = depth, pages, make([]bool, len(pages))
	for i := range e.owned {
		e.owned[i] = true
	}
}

// set points n pointers from first on to p.
func (e *Editor) set(first, n uint64, p Pointer) {
	for i := first; i < first+n; i++ {
		k := i >> pageBits
		if !e.owned[k] {
			e.pages[k], e.owned[k] = e.pages[k].clone(), true
		}
		e.pages[k].set(i&(pagePointers-1), p)
	}
}

func (e *Editor) fail(format string, args ...any) {
	if e.err == nil {
		e.err = corrupt.Errorf("directory", -1, format, args...)
	}
}
