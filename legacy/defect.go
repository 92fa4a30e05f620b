package legacy

import (
	"errors"
	"fmt"

	"github.com/cidstore/cidstore/hdf5"
	"github.com/cidstore/cidstore/keys"
)

// maxDefects are kept; more are only counted.
const maxDefects = 1000

// Defect is one thing that is wrong with a store, and where.
type Defect struct {
	Place string // as "entry 2 of /buckets/bucket_0"; rows and records count from 0
	Cause error  // what is wrong, and what becomes of it
}

// Error says where and what.
func (d *Defect) Error() string { return d.Place + ": " + d.Cause.Error() }

// Unwrap returns the cause.
func (d *Defect) Unwrap() error { return d.Cause }

// report notes a defect; the same one is noted once.
func (r *reader) report(place, format string, args ...any) {
	d := &Defect{place, fmt.Errorf(format, args...)}
	c := &r.contents
	if len(c.Defects) < maxDefects {
		text := d.Error()
		if r.seen[text] {
			return
		}
		r.seen[text] = true
		c.Defects = append(c.Defects, d)
	}
	c.DefectCount++
}

// lose reports a defect for which keys may be missing.
func (r *reader) lose(place, format string, args ...any) {
	r.lost = true
	r.report(place, format, args...)
}

// damaged reports damage; it returns any other error, which ends Read, and nil for nil.
func (r *reader) damaged(place string, err error) error {
	if !isDamage(err) {
		return err
	}
	r.lose(place, "%w", cause(err))
	return nil
}

// isDamage tells what is wrong with the file from a failure to read it.
func isDamage(err error) bool {
	for _, kind := range []error{hdf5.ErrCorrupt, hdf5.ErrUnsupported, hdf5.ErrLimit, hdf5.ErrNotFound, hdf5.ErrWrongType} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// cause is an error without the path of its object, which the place has.
func cause(err error) error {
	var e *hdf5.Error
	if !errors.As(err, &e) {
		return err
	}
	plain := *e
	plain.Object = ""
	return &plain
}

// label is a key for people: its name if that is known, and its digits.
func (r *reader) label(key keys.E) string {
	if name, known := r.names[key]; known {
		return fmt.Sprintf("key %q (%s)", name, key)
	}
	return "key " + key.String()
}

// rowPlace is the place of a row.
func rowPlace(what string, row uint64, path string) string {
	return fmt.Sprintf("%s %d of %s", what, row, path)
}
