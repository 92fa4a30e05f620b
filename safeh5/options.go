package safeh5

import (
	"crypto/rand"
	"fmt"
	"io"

	"github.com/cidstore/cidstore/vfs"
)

// Options of Open. Nil and the zero value are good.
type Options struct {
	// ReadOnly: View and Refresh alone; no byte of the file changes. The file must be there.
	ReadOnly bool
	// KeepUpdates is for how many more Updates space that one has freed stays
	// as it is, so that an HDF5 program that opened the file before still reads what
	// it began with. 1 to 1,000,000; default 16. A full disk ends it early.
	KeepUpdates int
	// TakeOlder opens a file whose last Update is damaged with the state before it;
	// by default that is an ErrCorrupt. A crash never damages: a disk may.
	TakeOlder bool
	// FS is where the file is; nil: the operating system's.
	FS vfs.FS

	random   io.Reader
	growStep int64 // of hdf5io.Options
	mostOpen int   // bytes of chunks under way that an Update keeps before it writes them
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
	if out.KeepUpdates == 0 {
		out.KeepUpdates = defaultKeepUpdates
	}
	if out.FS == nil {
		out.FS = vfs.OS()
	}
	if out.mostOpen == 0 {
		out.mostOpen = defaultMostOpen
	}
	if out.random == nil {
		out.random = rand.Reader
	}
	return out, nil
}
