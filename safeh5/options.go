package safeh5

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"io"

	"github.com/cidstore/cidstore/vfs"
)

// Options are the options of Open. Nil and the zero value mean the defaults.
type Options struct {
	// ReadOnly allows View and Refresh, and no change of the file, which must exist.
	ReadOnly bool
	// KeepUpdates is the number of further Updates during which space that an Update
	// freed is left alone. Until then, an HDF5 program that opened the file before that
	// Update reads what it began with. The range is 1 to 1,000,000, the default 16. If
	// the disk is full, the space is used earlier.
	KeepUpdates int
	// TakeOlder opens a file whose last Update is damaged with the state before it. By
	// default Open returns ErrCorrupt. A crash never damages an Update, but a disk may.
	TakeOlder bool
	// FS is the file system that has the file; nil is that of the operating system.
	FS vfs.FS

	random   io.Reader
	growStep int64 // of hdf5io.Options
	mostOpen int   // bytes of changed chunks that an Update keeps before it writes them
}

const (
	defaultKeepUpdates = 16
	mostKeepUpdates    = 1_000_000
	defaultMostOpen    = 16 << 20
)

func (o *Options) withDefaults() (Options, error) {
	var out Options
	if o != nil {
		out = *o
	}
	if out.KeepUpdates < 0 || out.KeepUpdates > mostKeepUpdates {
		return out, fmt.Errorf("KeepUpdates %d, want 1 to %d", out.KeepUpdates, mostKeepUpdates)
	}
	out.KeepUpdates = cmp.Or(out.KeepUpdates, defaultKeepUpdates)
	out.FS = cmp.Or(out.FS, vfs.OS())
	out.mostOpen = cmp.Or(out.mostOpen, defaultMostOpen)
	out.random = cmp.Or(out.random, rand.Reader)
	return out, nil
}
