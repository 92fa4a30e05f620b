package cidstore

import (
	"errors"
	"fmt"
	"strings"
)

// DamageError is what loops over a Snapshot have left out, because it cannot be
// read: the places, by bucket, slot, set or node and offset. It matches what each
// of them matches: ErrCorrupt, or ErrIO.
type DamageError struct {
	Defects []error // distinct ones in the order in which they were met, the first 1,000
	Count   int     // of all
}

// Error says how many places there are, and the first.
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

// err is the only error, or all of them; nil: there is none.
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

// ends reports whether err ends a loop: the others are of one place, and what lies
// elsewhere can be read.
func ends(err error) bool { return errors.Is(err, ErrClosed) || errors.Is(err, ErrSnapshotExpired) }

// parts are the errors of which err is no more than a list.
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
	if strings.Join(lines, "\n") != text { // not of errors.Join
		return nil
	}
	return list.Unwrap()
}
