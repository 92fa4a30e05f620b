package bucket

import (
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/keys"
)

// Verify says how often the bytes of a row are held against its checksum.
type Verify uint8

const (
	// FirstTouch: when a process first reads the row, and each entry of it when
	// it is returned.
	FirstTouch Verify = iota
	// Always: at every read, the page of its state too.
	Always
)

// Table reads the buckets of one View. It is immutable but for its counters and
// the marks on the View's pages: any number of goroutines may use it, while the
// View is pinned. No method takes a lock. Reading mapped bytes may fault: callers
// that must survive that use vfs.Guard.
type Table struct {
	view     *hdf5io.View
	states   *hdf5io.Dataset
	data     [4]*hdf5io.Dataset // entries, more, tail, tail_more
	rows     uint64             // buckets
	geometry Geometry
	hasher   keys.Hasher
	seal     sealer
	verify   Verify

	corrected, judged atomic.Uint64
}

// NewTable returns the Table of a View, after it has held the forms of the five
// datasets against geometry. A nil View gives a Table without buckets: the base
// of the Writer that fills a new file.
func NewTable(view *hdf5io.View, geometry Geometry, uuid [16]byte, hasher keys.Hasher, verify Verify) (*Table, error) {
	if err := geometry.Check(); err != nil {
		return nil, fmt.Errorf("bucket: %w", err)
	}
	t := &Table{view: view, geometry: geometry, hasher: hasher, seal: newSealer(uuid), verify: verify}
	if view == nil {
		return t, nil
	}
	for i, form := range datasetForms(geometry) {
		d, err := view.Dataset(form.path)
		if err != nil {
			return nil, fmt.Errorf("bucket: %w", err)
		}
		if i > 0 {
			t.data[i-1] = d
		} else if t.states = d; len(d.Dims()) == 1 {
			t.rows = d.Dims()[0]
		}
		dims := form.dims(t.rows)
		if !slices.Equal(d.Dims(), dims) || !slices.Equal(d.ChunkDims(), form.chunk) || !d.Type().Equal(form.element) {
			return nil, corrupt.Errorf("dataset "+form.path, -1, "%v in chunks of %v of %v, want %v, %v, %v",
				d.Dims(), d.ChunkDims(), d.Type(), dims, form.chunk, form.element)
		}
	}
	if t.rows > maxBuckets {
		return nil, corrupt.Errorf("dataset "+statePath, -1, "%d buckets, limit %d", t.rows, uint64(maxBuckets))
	}
	return t, nil
}

// Rows is the number of bucket ids, those not in use included.
func (t *Table) Rows() uint64 { return t.rows }

// Geometry is the shape that the Table was made with.
func (t *Table) Geometry() Geometry { return t.geometry }

// Counters returns how many masks were corrected and how many rows and tails had
// to be judged entry by entry since the Table was made.
func (t *Table) Counters() (corrected, judged uint64) {
	return t.corrected.Load(), t.judged.Load()
}

// State returns the state of a bucket. One that is not in use is a corrupt
// error, as nothing should lead to it.
func (t *Table) State(id uint32) (s State, err error) {
	_, err = t.state(id, &s)
	return s, err
}

// state reads a bucket's state, judged, into the zero State s, and returns the
// page that holds it.
func (t *Table) state(id uint32, s *State) (*hdf5io.Page, error) {
	page, err := t.anyState(id, s)
	if err == nil && !s.InUse {
		err = corrupt.Errorf(stateName(id), -1, "not in use")
	}
	return page, err
}

// anyState is state for a bucket that may be not in use.
func (t *Table) anyState(id uint32, s *State) (*hdf5io.Page, error) {
	if uint64(id) >= t.rows {
		return nil, corrupt.Errorf(stateName(id), -1, "there are %d buckets", t.rows)
	}
	page, err := t.page(uint64(id) / PageStates)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", stateName(id), err)
	}
	if page == nil {
		return nil, corrupt.Errorf(stateName(id), -1, "no page")
	}
	err = parseState(page.Data()[id%PageStates*StateSize:][:StateSize], s)
	if err == nil && s.InUse {
		err = s.Check(id, t.geometry, t.rows)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", stateName(id), err)
	}
	return page, nil
}

func stateName(id uint32) string { return fmt.Sprintf("state of bucket %d", id) }

// page returns a page of states, verified, or nil if it is absent.
func (t *Table) page(i uint64) (page *hdf5io.Page, err error) {
	if t.verify == Always {
		page, err = t.states.PageAgain(i)
	} else {
		page, err = t.states.Page(i)
	}
	if err == nil && page != nil && len(page.Data()) != PageStates*StateSize {
		err = corrupt.Errorf("page of bucket states", -1, "%d bytes, want %d", len(page.Data()), PageStates*StateSize)
	}
	return page, err
}

// chain walks a bucket's overflow rows and sees when they form a circle: it
// keeps one id of the way, renewed at steps 1, 2, 4, 8, …
type chain struct {
	anchor      uint32
	steps, next uint32
}

// follow goes from the state s of row *id, whose Next is not 0, to that row:
// *id and s become its own.
func (t *Table) follow(c *chain, id *uint32, s *State) (*hdf5io.Page, error) {
	if c.steps == c.next {
		c.anchor, c.next = *id, 2*c.next+1
	}
	c.steps++
	var n State
	page, err := t.state(s.Next, &n)
	switch {
	case err != nil:
	case s.Next == c.anchor:
		err = corrupt.Errorf(stateName(s.Next), -1, "the overflow rows form a circle")
	case !n.Overflow || n.Prefix != s.Prefix || n.LocalDepth != s.LocalDepth:
		err = corrupt.Errorf(stateName(s.Next), -1, "overflow %t, prefix %#x of %d bits, want an overflow row of bucket %d with %#x of %d bits",
			n.Overflow, n.Prefix, n.LocalDepth, *id, s.Prefix, s.LocalDepth)
	}
	*id, *s = s.Next, n
	return page, err
}

// Items appends the live items of a bucket, ascending: its row, its tail and its
// chain. Every one is verified now. A bucket with a damaged entry gives a
// corrupt error and no item.
func (t *Table) Items(dst []Item, id uint32) ([]Item, error) {
	var s State
	page, err := t.head(id, &s)
	if err != nil {
		return dst, err
	}
	var tail [MaxChunk]Item
	changes, err := t.tailItems(tail[:0], id, &s, page)
	if err != nil {
		return dst, err
	}
	// The rows go behind room for the tail; merging then moves items down only.
	start := len(dst)
	dst = append(dst, changes...)
	rows := len(dst)
	if dst, err = t.rowItems(dst, id, &s, page); err != nil {
		return dst[:start], err
	}
	return merge(dst[:start], dst[rows:], changes), nil
}

// head is state for a bucket that the directory leads to.
func (t *Table) head(id uint32, s *State) (*hdf5io.Page, error) {
	page, err := t.state(id, s)
	if err == nil && s.Overflow {
		err = corrupt.Errorf(stateName(id), -1, "an overflow row, want a bucket")
	}
	return page, err
}

// tailItems appends the items of a bucket's tail, deleted ones too.
func (t *Table) tailItems(dst []Item, id uint32, s *State, page *hdf5io.Page) ([]Item, error) {
	if s.TailCount == 0 {
		return dst, nil
	}
	var x extent
	err := t.tailOf(&x, id, s, page, true)
	if err != nil {
		return dst, err
	}
	start := len(dst)
	if dst, err = t.decode(dst, &x, s, start); err != nil {
		return dst, err
	}
	for i, tag := range s.TailTags[:s.TailCount] {
		if byte(dst[start+i].Hash) != tag {
			return dst, x.entryError(i, "hash %#x, tag %#02x", dst[start+i].Hash, tag)
		}
	}
	return dst, nil
}

// rowItems appends the items of a bucket's row and of its chain.
func (t *Table) rowItems(dst []Item, id uint32, s *State, page *hdf5io.Page) ([]Item, error) {
	start, at := len(dst), *s
	for way := (chain{anchor: id}); ; {
		if at.SortedCount > 0 {
			var x extent
			err := t.rowOf(&x, id, &at, page, true)
			if err != nil {
				return dst, err
			}
			if dst, err = t.decode(dst, &x, &at, start); err != nil {
				return dst, err
			}
		}
		if at.Next == 0 {
			return dst, nil
		}
		var err error
		if page, err = t.follow(&way, &id, &at); err != nil {
			return dst, err
		}
	}
}

// decode appends the entries of x. All that dst has from start on must ascend.
func (t *Table) decode(dst []Item, x *extent, s *State, start int) ([]Item, error) {
	dst = slices.Grow(dst, x.count)
	seed := t.seal.seed(x.id, x.commit)
	for i := range x.count {
		e, err := t.entry(x, i, seed)
		if err != nil {
			if x.trust == isBad {
				err = fmt.Errorf("%w; %w", x.damage(), err)
			}
			return dst, err
		}
		dst = dst[:len(dst)+1]
		it := &dst[len(dst)-1]
		e.fill(it, t.hasher.Hash(e.Key()))
		if !s.Covers(it.Hash) {
			return dst, x.entryError(i, "hash %#x, want prefix %#x of %d bits", it.Hash, s.Prefix, s.LocalDepth)
		}
		if n := len(dst); n-1 > start && !Less(&dst[n-2], it) {
			return dst, x.entryError(i, "key %v is not above the one before, %v", it.Key, dst[n-2].Key)
		}
	}
	return dst, nil
}
