package cidstore

import (
	"errors"
	"fmt"
	"strings"
)

// DamageError lists the places that loops over a Snapshot have left out because they
// cannot be read, by bucket, slot, set or node, and offset. It matches what its defects
// match: ErrCorrupt or ErrIO.
type DamageError struct {
	Defects []error // the first 1,000 distinct ones, in the order in which they were found
	Count   int     // number of all
}

// Error returns how many places there are, and the first.
func (e *DamageError) Error() string {
	return fmt.Sprintf("%d places cannot be read, the first: %v", e.Count, e.Defects[0])
}

// Unwrap returns the defects.
func (e *DamageError) Unwrap() []error { return e.Defects }

// damages collects distinct errors.
type damages struct {
	DamageError
	seen map[string]bool
}

func (d *damages) add(err error) {
	text := err.Error()
	if parts := parts(err, text); parts != nil {
		for _, err := range parts {
			d.add(err)
		}
		return
	}
	if d.seen[text] {
		return
	}
	d.Count++
	if len(d.Defects) == maxDefects {
		return
	}
	if d.seen == nil {
		d.seen = make(map[string]bool)
	}
	d.seen[text] = true
	d.Defects = append(d.Defects, err)
}

// err returns the only error, or a DamageError of all of them, or nil if there are none.
func (d *damages) err() error {
	switch d.Count {
	case 0:
		return nil
	case 1:
		return d.Defects[0]
	}
	whole := d.DamageError
	return &whole
}

// ends reports whether err ends a loop. Any other error is about one place, and a loop
// goes on elsewhere.
func ends(err error) bool { return errors.Is(err, ErrClosed) || errors.Is(err, ErrSnapshotExpired) }

// parts returns the errors that err lists, if it is no more than a list of them.
func parts(err error, text string) []error {
	if several, ok := err.(*DamageError); ok {
		return several.Defects
	}
	list, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return nil
	}
	var lines []string
	for _, part := range list.Unwrap() {
		lines = append(lines, part.Error())
	}
	if strings.Join(lines, "\n") != text { // errors.Join has not made it
		return nil
	}
	return list.Unwrap()
}
