package errfs

import (
	"io/fs"

	"github.com/cidstore/cidstore/vfs"
)

// Hooked is a file system that gives each file of FS to Wrap, and opens what Wrap returns.
// It is for tests that do something of their own at a call, or count calls.
type Hooked struct {
	vfs.FS
	Wrap func(vfs.File) vfs.File
}

func (h Hooked) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	f, err := h.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return h.Wrap(f), nil
}
