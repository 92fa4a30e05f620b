package bucket

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/keys"
)

// Verify says how often the bytes of a bucket are compared with its checksum.
type Verify uint8

const (
	// FirstTouch verifies pages and slots when a process first reads them, a bucket
	// when all of its entries are read, and each entry when it is returned.
	FirstTouch Verify = iota
	// Always verifies at every read, including the group's page.
	Always
	// Salvage is FirstTouch, for a file in which HDF5 objects may be missing.
	Salvage
)

// Table reads the groups and runs of one View. It is immutable except for its
// counters and the marks of what was verified. Any number of goroutines may use it
// while the View is pinned. No method takes a lock. Reading mapped bytes may fault;
// callers that must survive that use vfs.Guard.
type Table struct {
	view     *hdf5io.View
	states   *hdf5io.Dataset
	data     [2]*hdf5io.Dataset // entries, more; nil: missing, see Salvage
	groups   uint64
	runs     []run   // oldest first
	filter   *filter // of the runs; nil: there are few, or everything is verified at each read
	geometry Geometry
	hasher   keys.Hasher
	seal     sealer
	verify   Verify

	damage *Damage
}

// Damage counts damage that reads got past. Any number of goroutines may use it.
type Damage struct{ corrected, judged atomic.Uint64 }

// Counters returns how many masks were corrected, and how many buckets had to be
// verified entry by entry.
func (d *Damage) Counters() (corrected, judged uint64) { return d.corrected.Load(), d.judged.Load() }

// NewTable returns the Table of a View, after it has checked that the datasets have
// the form that geometry asks for. known, or nil, is the Table of an older View of
// the same file; what it has verified of runs is not verified again. With a nil
// View the Table has no groups, and is the base of the Writer that fills a new
// file.
func NewTable(view *hdf5io.View, geometry Geometry, uuid [16]byte, hasher keys.Hasher, verify Verify, known *Table) (*Table, error) {
	if err := geometry.check(); err != nil {
		return nil, fmt.Errorf("bucket: %w", err)
	}
	t := &Table{view: view, geometry: geometry, hasher: hasher, seal: newSealer(uuid), verify: verify, damage: new(Damage)}
	if view == nil {
		return t, nil
	}
	for i, form := range datasetForms(geometry) {
		d, err := view.Dataset(form.path)
		if err != nil && i > 0 && verify == Salvage {
			continue // pages say where rows lie
		}
		if err != nil {
			return nil, fmt.Errorf("bucket: %w", err)
		}
		if i > 0 {
			t.data[i-1] = d
		} else if t.states = d; len(d.Dims()) == 1 {
			t.groups = d.Dims()[0]
		}
		dims := []uint64{t.groups * form.perGroup}
		if !slices.Equal(d.Dims(), dims) || !slices.Equal(d.ChunkDims(), []uint32{form.chunk}) || !d.Type().Equal(form.element) {
			return nil, corrupt.Errorf("dataset "+form.path, d.Offset(), "%v in chunks of %v of %v, want %v, %v, %v",
				d.Dims(), d.ChunkDims(), d.Type(), dims, form.chunk, form.element)
		}
	}
	if t.groups > maxGroups {
		return nil, corrupt.Errorf("dataset "+statePath, t.states.Offset(), "%d groups, limit %d", t.groups, uint64(maxGroups))
	}
	var before []run
	if known != nil {
		before = known.runs
	}
	var err error
	if t.runs, err = loadRuns(view, t.seal, before); err != nil {
		return nil, fmt.Errorf("bucket: %w", err)
	}
	if verify != Always {
		t.filter = newFilter(t.runs, known)
	}
	return t, nil
}

// Waiting returns the number of entries of runs that count, which are those not
// folded into groups yet. depth is how many runs count for a hash, on average.
func (t *Table) Waiting() (entries uint64, depth float64) {
	for i := range t.runs {
		r := &t.runs[i]
		entries += uint64(r.live)
		depth += float64(r.high-r.low) / (1 << 64) * float64(r.live) / float64(r.entries)
	}
	return entries, depth
}

// RunsSum is the checksum of the records of the runs.
func (t *Table) RunsSum() uint32 { return t.seal.sumRuns(t.runs) }

// Runs is the number of runs.
func (t *Table) Runs() int { return len(t.runs) }

// Geometry is the shape that the Table was made with.
func (t *Table) Geometry() Geometry { return t.geometry }

// CountIn makes t count damage in d, which Tables of many Views may share. It must
// be called before t is used.
func (t *Table) CountIn(d *Damage) { t.damage = d }

// State returns the header of a group's page.
func (t *Table) State(id uint32) (State, error) {
	_, p, err := t.page(id)
	if err != nil {
		return State{}, err
	}
	return p.state(), nil
}

// Offset returns where the page of a group lies in the file, or, if that is not known, where
// the dataset of all pages lies.
func (t *Table) Offset(id uint32) int64 {
	if pg, err := t.used(id); err == nil && pg != nil {
		return pg.Offset()
	}
	return t.states.Offset()
}

// used returns the page of a group id below groups, or nil if the id is not in use.
func (t *Table) used(id uint32) (*hdf5io.Page, error) {
	pg, err := t.states.Page(uint64(id))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", groupName(id), err)
	}
	return pg, nil
}

// page returns the page of a group, its checksum and its contents verified. Its note is an
// outline.
func (t *Table) page(id uint32) (*hdf5io.Page, page, error) {
	if uint64(id) >= t.groups {
		return nil, nil, corrupt.Errorf(groupName(id), t.states.Offset(), "there are %d groups", t.groups)
	}
	var pg *hdf5io.Page
	var err error
	if t.verify == Always {
		pg, err = t.states.PageAgain(uint64(id))
	} else {
		pg, err = t.states.Page(uint64(id))
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", groupName(id), err)
	}
	if pg == nil {
		return nil, nil, corrupt.Errorf(groupName(id), t.states.Offset(), "no page")
	}
	p := page(pg.Data())
	if pg.Note() == nil {
		if len(p) != t.geometry.pageSize() {
			return nil, nil, corrupt.Errorf(groupName(id), pg.Offset(), "page of %d bytes, want %d", len(p), t.geometry.pageSize())
		}
		if err := p.check(id, pg.Offset(), t.geometry, t.view.EndOfFile()); err != nil {
			return nil, nil, err
		}
		pg.SetNote(p.outline())
	}
	return pg, p, nil
}

// bucket makes x a bucket of a group, and verifies it.
func (t *Table) bucket(x *part, id uint32, p page, number int) error {
	err := t.unjudged(x, id, p, number)
	if err == nil {
		t.judge(x)
	}
	return err
}

// unjudged makes x a bucket of a group, without verifying it; entry verifies what
// it returns.
func (t *Table) unjudged(x *part, id uint32, p page, number int) error {
	x.owner, x.number = owner{uint64(id), p.commit()}, number
	entries := p.address()
	mores := entries + uint64(t.geometry.chunks(p.entries())*t.geometry.chunkBytes())
	return t.load(x, p.span(number), entries, mores)
}

// recheck says when a slot that was verified before is verified again.
type recheck bool

const (
	ifAlways recheck = false // if the Table verifies always
	again    recheck = true
)

// slot makes x a slot of a run, and verifies it if that was not done before, or as
// when says.
func (t *Table) slot(x *part, r *run, number int, when recheck) error {
	x.owner, x.number = owner{runID, r.number}, number
	s := r.span(number)
	if x.tags == nil {
		if err := t.slotTags(x, r, s); err != nil {
			return err
		}
	}
	err := t.load(x, s, r.entriesAt, r.moresAt)
	if err != nil || r.marked(number) && when != again && t.verify != Always {
		return err
	}
	if t.judge(x) {
		r.mark(number)
	}
	return nil
}

// slotTags reads the tags of a slot, without verifying them.
func (t *Table) slotTags(x *part, r *run, s span) (err error) {
	if x.tags, err = t.view.Bytes(int64(r.tagsAt)+int64(s.first)*tagSize, (s.end-s.first)*tagSize); err != nil {
		return fmt.Errorf("%s: %w", r.name(), err)
	}
	return nil
}

// Items appends the live items of a group, ascending: those of its row, as changed
// by those of runs. All are verified now. If it returns an error, which names each
// bucket and slot that is damaged, it still appends the items that are good. A key
// is left out if a damaged slot may have a later entry of it, so none of the items
// is wrong.
func (t *Table) Items(dst []Item, id uint32) ([]Item, error) {
	_, p, err := t.page(id)
	if err != nil {
		return dst, err
	}
	st := p.state()
	g := gatherings.Get().(*gathering)
	defer gatherings.Put(g)
	doubts, damage := t.later(g, &st, nil, nil)
	start := len(dst)
	rows := start + len(g.order)
	dst = slices.Grow(dst, len(g.order)+int(st.Entries))[:rows] // merging moves items down only
	dst, err = t.rowItems(dst, id, p)
	if all := len(dst); len(doubts) > 0 {
		dst = dst[:rows+len(certain(dst[rows:], doubts))]
		damage = fmt.Errorf("%w; it may have later values of %d keys of %s", damage, all-len(dst), groupName(id))
	}
	if len(g.order) > 0 {
		dst = g.merge(dst[:start], dst[rows:])
	}
	return dst, errors.Join(damage, err)
}

// hashes is a range of hashes, both ends included.
type hashes struct{ low, high uint64 }

// certain removes from list the items whose hashes lie in one of the ranges.
func certain(list []Item, doubts []hashes) []Item {
	return slices.DeleteFunc(list, func(it Item) bool { return contains(doubts, it.Hash) })
}

func contains(list []hashes, hash uint64) bool {
	return slices.ContainsFunc(list, func(h hashes) bool { return hash >= h.low && hash <= h.high })
}

// rowItems appends the items of a group's row; with an error, those that are good.
func (t *Table) rowItems(dst []Item, id uint32, p page) ([]Item, error) {
	if p.entries() == 0 {
		return dst, nil
	}
	var damage error
	start := len(dst)
	for i := range 1 << p.bits() {
		var x part
		err := t.bucket(&x, id, p, i)
		if err == nil {
			shared := uint(p.depth() + p.bits())
			low := p.prefix()
			if p.bits() > 0 {
				low |= uint64(i) << (64 - shared)
			}
			dst, err = t.decode(dst, &x, low, low|^prefixMask(uint8(shared)), start)
		}
		damage = errors.Join(damage, err)
	}
	return dst, damage
}

// later gathers changes, which are newer, and what runs hold for a group: of each key the
// newest item, which may be a deleted one. It reads the runs for which only returns
// true, or all if only is nil. With an error, it has the items that are good, and
// doubts are the ranges of hashes for which entries in older runs and in the row
// may be out of date.
func (t *Table) later(g *gathering, s *State, changes []Item, only func(r *run) bool) (doubts []hashes, err error) {
	g.begin(changes)
	owned := false
	for i := range slices.Backward(t.runs) {
		r := &t.runs[i]
		low, high := max(s.Prefix, r.low), min(s.Last(), r.high)
		if r.number <= s.Commit || low > high || only != nil && !only(r) {
			continue
		}
		if !owned {
			g.own()
			owned = true
		}
		first, newerDoubts := len(g.items), doubts
		var damage error
		g.items, doubts, damage = t.runItems(g.items, doubts, r, low, high)
		err = errors.Join(err, damage)
		g.put(first, newerDoubts)
	}
	if owned {
		g.memory = g.items
	}
	return doubts, err
}

// runItems appends the items of a run from low to high. With an error it appends
// those that are good, and adds to doubts the ranges where the others may be.
func (t *Table) runItems(dst []Item, doubts []hashes, r *run, low, high uint64) ([]Item, []hashes, error) {
	if r.err != nil {
		return dst, append(doubts, hashes{low, high}), r.err
	}
	start := len(dst)
	var damage error
	for i := r.slot(low); i <= r.slot(high); i++ {
		s := r.span(i)
		if s.first == s.end {
			continue
		}
		from := r.base + uint64(i)<<r.shift
		to := from + (^uint64(0) >> (64 - r.shift))
		var x part
		err := t.slot(&x, r, i, again)
		if err == nil {
			dst, err = t.decode(dst, &x, from, to, start)
		}
		if err != nil {
			doubts = append(doubts, hashes{max(from, low), min(to, high)})
			damage = errors.Join(damage, err)
		}
	}
	items := dst[start:]
	first, _ := slices.BinarySearchFunc(items, low, compareHash)
	end := len(items)
	if high < ^uint64(0) {
		end, _ = slices.BinarySearchFunc(items, high+1, compareHash)
	}
	if first > 0 {
		end = copy(items, items[first:end])
	}
	return dst[:start+end], doubts, damage
}

func compareHash(it Item, hash uint64) int { return cmp.Compare(it.Hash, hash) }

// decode appends the entries of x, whose hashes are from low to high. All items of
// dst from index start on must ascend. With an error it appends those that are
// good.
func (t *Table) decode(dst []Item, x *part, low, high uint64, start int) ([]Item, error) {
	dst = slices.Grow(dst, x.count)
	var first error // of the entries that are damaged
	lost := 0
	for i := range x.count {
		e, err := t.entry(x, i)
		if err == nil {
			dst = dst[:len(dst)+1]
			n := len(dst) - 1
			it := &dst[n]
			e.fill(it, t.hasher.Hash(e.key()))
			switch {
			case it.Hash < low || it.Hash > high:
				err = x.entryError(i, "hash %#x, want %#x to %#x", it.Hash, low, high)
			case n > start && !Less(&dst[n-1], it):
				err = x.entryError(i, "key %v is not above the one before, %v", it.Key, dst[n-1].Key)
			default:
				continue
			}
			dst = dst[:n]
		}
		if lost++; first == nil {
			first = err
		}
	}
	switch {
	case lost > 0:
		return dst, fmt.Errorf("%d of %d entries cannot be read, the first: %w", lost, x.count, first)
	case x.trust == isBad:
		return dst, x.damage()
	}
	return dst, nil
}
