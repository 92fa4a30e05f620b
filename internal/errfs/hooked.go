package errfs

import (
	"io/fs"

	"github.com/cidstore/cidstore/vfs"
)

// Hooked is a file system whose files are what Wrap makes of those of FS: for a test that
// does something of its own at a call, or counts calls.
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
