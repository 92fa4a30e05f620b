package hdf5io

import (
	"errors"
	"fmt"
)

// Region is a window on the file that is written in place: the data of a
// contiguous dataset. Safe for concurrent use as long as no two writes overlap.
type Region struct {
	file         *File
	offset, size int64
}

var errOutside = errors.New("outside the region")

// Region returns the window on the size bytes at offset, which the caller knows
// to be the data of a contiguous dataset (Dataset.Extent).
func (f *File) Region(offset, size int64) *Region {
	return &Region{f, offset, max(size, 0)}
}

// Size is the number of bytes of the region.
func (r *Region) Size() int64 { return r.size }

func (r *Region) place(n int, off int64) (int64, error) {
	if off < 0 || off > r.size || int64(n) > r.size-off || r.offset < FirstExtent {
		return 0, fmt.Errorf("%d bytes at %d of %d: %w", n, off, r.size, errOutside)
	}
	return r.offset + off, nil
}

// ReadAt reads len(p) bytes at off of the region. It reads all of them or returns
// an error.
func (r *Region) ReadAt(p []byte, off int64) (int, error) {
	at, err := r.place(len(p), off)
	if err != nil {
		return 0, err
	}
	if err := r.file.readAt(p, at); err != nil {
		return 0, err
	}
	return len(p), nil
}

// WriteAt writes p at off of the region. A failure poisons the File.
func (r *Region) WriteAt(p []byte, off int64) error {
	return r.write(p, off, r.file.file.WriteAt)
}

// WriteSync is WriteAt, and the bytes are durable when it returns.
func (r *Region) WriteSync(p []byte, off int64) error {
	return r.write(p, off, r.file.file.WriteSync)
}

func (r *Region) write(p []byte, off int64, write func(p []byte, off int64) error) error {
	at, err := r.place(len(p), off)
	if err != nil {
		return err
	}
	if err := r.file.writable(); err != nil {
		return err
	}
	if err := write(p, at); err != nil {
		return r.file.Poison(fmt.Errorf("write %d bytes at %#x: %w", len(p), at, err))
	}
	return nil
}

// Datasync makes what was written to the region durable. A failure poisons the File.
func (r *Region) Datasync() error {
	if err := r.file.writable(); err != nil {
		return err
	}
	return r.file.syncAll(false)
}
