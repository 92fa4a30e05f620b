package legacy

import (
	"errors"
	"fmt"

	"github.com/cidstore/cidstore/hdf5"
)

// Limits of the work for unreadable places, each of which costs walks through the
// chunks.
const (
	maxGaps  = 100    // of one dataset; after that many the rest is left out
	maxSteps = 10_000 // chunks of all datasets that are read one by one, to find those places
)

// walk calls take for the rows of a dataset from from to end, in blocks. It returns
// the first row that was not taken, and why: err is nil at the end, and taken
// reports whether it is an error of take.
func (r *reader) walk(d *hdf5.Dataset, from, end uint64, take func(*hdf5.Block) error) (next uint64, taken bool, err error) {
	next = from
	for block, err := range d.Rows(from, end-from) {
		if err == nil {
			err = r.ctx.Err()
		}
		if err != nil {
			return next, false, err
		}
		if err := take(block); err != nil {
			return next, true, err
		}
		next = block.Start + uint64(block.Rows)
	}
	return next, false, nil
}

// rows calls take for all rows that can be read, and reports those that cannot.
func (r *reader) rows(d *hdf5.Dataset, take func(*hdf5.Block) error) error {
	return r.scan(d, take, func(first, last uint64, err error) error {
		return r.damaged(fmt.Sprintf("rows %d to %d of %s", first, last, d.Path()), err)
	})
}

// scan calls take for all rows that can be read, and gap, which may end the scan,
// for those that cannot. A block has many chunks: if one fails, its chunks are read
// one by one.
func (r *reader) scan(d *hdf5.Dataset, take func(*hdf5.Block) error, gap func(first, last uint64, err error) error) error {
	if ok, err := r.affords(d); err != nil || !ok {
		return err
	}
	height := d.Len()
	if chunk := d.ChunkShape(); len(chunk) > 0 && chunk[0] > 0 {
		height = chunk[0]
	}
	searching, gaps := false, 0
	for at := uint64(0); at < d.Len(); {
		end := d.Len()
		if searching {
			r.steps++
			end = min(end, at-at%height+height)
		}
		if gaps > maxGaps || r.steps > maxSteps {
			return gap(at, d.Len()-1, errTooManyGaps)
		}
		next, taken, err := r.walk(d, at, end, take)
		switch {
		case err == nil:
			next = end
		case taken:
			return r.damaged(d.Path(), err)
		case !searching && isDamage(err):
			searching = true
		default:
			if err := gap(next, end-1, err); err != nil {
				return err
			}
			next, searching = end, false
			gaps++
		}
		at = next
	}
	return nil
}

// errTooManyGaps is the error of rows that were not tried.
var errTooManyGaps = fmt.Errorf("%w: too many other places cannot be read", hdf5.ErrLimit)

// affords reports whether a dataset is a list, as all datasets of a store are, and
// may be read. If not, it reports the reason as a defect.
func (r *reader) affords(d *hdf5.Dataset) (bool, error) {
	if d.IsNull() || d.Len() == 0 {
		return false, r.ctx.Err()
	}
	if shape := d.Shape(); len(shape) != 1 {
		r.lose(d.Path(), "shape %v, want one dimension", shape)
		return false, r.ctx.Err()
	}
	if d.RowSize() == 0 || d.Len() > r.credit/d.RowSize() {
		r.lose(d.Path(), "%d rows of %d bytes are too many for this file", d.Len(), d.RowSize())
		return false, r.ctx.Err()
	}
	r.credit -= d.Len() * d.RowSize()
	return true, r.ctx.Err()
}

// columns reads members of all rows of a block. want says how many values of each
// member a row has.
func columns(b *hdf5.Block, want map[string]int) (map[string][]uint64, error) {
	values := make(map[string][]uint64, len(want))
	for member, count := range want {
		column, err := b.Uint64s(member)
		if err != nil {
			return nil, err
		}
		if len(column) != b.Rows*count {
			return nil, fmt.Errorf("%w: %d values of %s in %d rows, want %d each", hdf5.ErrWrongType, len(column), member, b.Rows, count)
		}
		values[member] = column
	}
	return values, nil
}

// group opens a group. It returns nil if there is none, or if it is damaged, which
// it reports.
func (r *reader) group(path string) (*hdf5.Group, error) {
	g, err := r.root.Group(path)
	return opened(r, path, g, err)
}

// dataset is group for a dataset.
func (r *reader) dataset(path string) (*hdf5.Dataset, error) {
	d, err := r.root.Dataset(path)
	return opened(r, path, d, err)
}

func opened[T any](r *reader, path string, object *T, err error) (*T, error) {
	switch {
	case err == nil:
		return object, nil
	case errors.Is(err, hdf5.ErrNotFound):
		return nil, nil
	}
	return nil, r.damaged("/"+path, err)
}

// children calls visit with the name of each link of a group.
func (r *reader) children(g *hdf5.Group, visit func(name string) error) error {
	for link, err := range g.Links() {
		if err != nil {
			return r.damaged("links of "+g.Path(), err)
		}
		if err := visit(link.Name); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) number(o hdf5.Object, name string) (n int64, there bool, err error) {
	a, err := o.Attribute(name)
	if errors.Is(err, hdf5.ErrNotFound) {
		return 0, false, nil
	}
	place := fmt.Sprintf("attribute %s of %s", name, o.Path())
	if err != nil {
		return 0, false, r.damaged(place, err)
	}
	values, err := a.Int64s()
	if err != nil {
		return 0, false, r.damaged(place, err)
	}
	if len(values) != 1 {
		r.report(place, "%d values, want 1", len(values))
		return 0, false, nil
	}
	return values[0], true, nil
}
