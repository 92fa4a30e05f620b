package safeh5

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cidstore/cidstore/hdf5io"
)

// Tx makes the changes of an Update. Paths are absolute, such as "/a/b", and at most 8
// names deep. Only one goroutine may use a Tx, and only until change returns. After an
// error of any method, except ErrNotFound of Dataset, the Update fails.
type Tx struct {
	inner    *hdf5io.Tx
	datasets map[string]*Dataset // those that this Update has used
	adds     bool                // something new needs space
	removes  bool                // something was removed
	done     bool
	err      error // the first
	open     int   // bytes of changed chunks in memory
	mostOpen int   // limit of open
	pieces   int64 // bytes of datasets in one piece in memory
}

var errOver = errors.New("the Update is over")

// begin returns why no further change is possible, or nil.
func (tx *Tx) begin() error {
	if tx.done {
		return errOver
	}
	return tx.err
}

// do makes a change, if that is possible. After an error the Update fails.
func (tx *Tx) do(change func() error) error {
	if err := tx.begin(); err != nil {
		return err
	}
	tx.err = change()
	return tx.err
}

// CreateGroup makes a group, and those above it that are missing. It is not an error if
// the group exists.
func (tx *Tx) CreateGroup(path string) error {
	return tx.do(func() error { return tx.groups(path) })
}

func (tx *Tx) groups(path string) error {
	if !strings.HasPrefix(path, "/") {
		return fmt.Errorf("path %q does not begin with /", path)
	}
	for at := 1; at < len(path); {
		end := len(path)
		if i := strings.IndexByte(path[at:], '/'); i >= 0 {
			end = at + i
		}
		made, err := tx.inner.EnsureGroup(path[:end])
		if err != nil {
			return err
		}
		tx.adds = tx.adds || made
		at = end + 1
	}
	return nil
}

// Delete removes the group or dataset at path, and everything below it, from the file.
// Later Updates use the space again. An Update that only deletes works on a full disk.
func (tx *Tx) Delete(path string) error {
	return tx.do(func() error {
		for p, d := range tx.datasets {
			if p == path || strings.HasPrefix(p, path+"/") {
				d.forget()
				delete(tx.datasets, p)
			}
		}
		tx.removes = true
		return tx.inner.Remove(path)
	})
}

// SetAttribute sets an attribute of the group or dataset at path, and replaces one of the
// same name. The value has a type that an element can have, or is a slice of those, a
// string, or a slice of strings. An attribute has less than 64 KiB.
func (tx *Tx) SetAttribute(path, name string, value any) error {
	return tx.do(func() error {
		a, err := attributeOf(name, value)
		if err != nil {
			return fmt.Errorf("attribute %q of %s: %w", name, path, err)
		}
		tx.adds = true
		return tx.inner.SetAttribute(path, a)
	})
}

// RemoveAttribute removes an attribute. The error is ErrNotFound if there is none.
func (tx *Tx) RemoveAttribute(path, name string) error {
	return tx.do(func() error {
		tx.removes = true
		return tx.inner.RemoveAttribute(path, name)
	})
}

// each calls do for all datasets that this Update has used, in order of their paths.
func (tx *Tx) each(do func(*Dataset) error) error {
	for _, path := range slices.Sorted(maps.Keys(tx.datasets)) {
		if err := do(tx.datasets[path]); err != nil {
			return err
		}
	}
	return nil
}
