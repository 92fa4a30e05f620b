package legacy

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cidstore/cidstore/hdf5"
	"github.com/cidstore/cidstore/keys"
)

// maxDefects is how many defects are kept; more are only counted.
const maxDefects = 1000

// Defect is one thing that is wrong with a store, and where.
type Defect struct {
	Place string // for example "entry 2 of /buckets/bucket_0"; rows and records count from 0
	Cause error  // what is wrong, and what was done about it
}

// Error says where and what.
func (d *Defect) Error() string { return d.Place + ": " + d.Cause.Error() }

// Unwrap returns the cause.
func (d *Defect) Unwrap() error { return d.Cause }

// report records a defect, the same one only once. It makes no text of those that
// are only counted, because a hostile file may have millions.
func (r *reader) report(place any, format string, args ...any) {
	c := &r.contents
	if len(c.Defects) < maxDefects {
		d := &Defect{fmt.Sprint(place), fmt.Errorf(format, args...)}
		text := d.Error()
		if r.seen[text] {
			return
		}
		r.seen[text] = true
		c.Defects = append(c.Defects, d)
	}
	c.DefectCount++
}

// lose reports a defect because of which keys may lack values, or be missing.
func (r *reader) lose(place any, format string, args ...any) {
	r.lost = true
	r.report(place, format, args...)
}

// damaged reports damage; it returns any other error, which ends Read, and nil for nil.
func (r *reader) damaged(place any, err error) error {
	if !isDamage(err) {
		return err
	}
	r.lose(place, "%w", cause(err))
	return nil
}

// isDamage reports whether an error comes from the file's contents, and not from a
// failure to read it.
func isDamage(err error) bool {
	kinds := []error{hdf5.ErrCorrupt, hdf5.ErrUnsupported, hdf5.ErrLimit, hdf5.ErrNotFound, hdf5.ErrWrongType}
	return slices.ContainsFunc(kinds, func(kind error) bool { return errors.Is(err, kind) })
}

// cause returns an error without the path of its object, because the place has it.
func cause(err error) error {
	var e *hdf5.Error
	if !errors.As(err, &e) {
		return err
	}
	plain := *e
	plain.Object = ""
	return &plain
}

// label is a key as people read it: its name if that is known, and its digits.
type label struct {
	names map[keys.E]string
	key   keys.E
}

func (r *reader) label(key keys.E) label { return label{r.names, key} }

func (l label) String() string {
	if name, known := l.names[l.key]; known {
		return fmt.Sprintf("key %q (%s)", name, l.key)
	}
	return "key " + l.key.String()
}

type rowPlace struct {
	what string
	row  uint64
	path string
}

func (p rowPlace) String() string { return fmt.Sprintf("%s %d of %s", p.what, p.row, p.path) }
