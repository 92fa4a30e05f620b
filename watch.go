package cidstore

import (
	"fmt"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/wal"
)

// Others can cut the file short or take its name away while it is open: an HDF5
// program that opens it with mode "w" truncates it before it looks at locks. What
// is acknowledged then is lost. So the writer looks at the file at every group
// commit, before and after it, which costs two calls of fstat. That the path names
// another file while this one has a name still is seen by the next checkpoint.

// whole is ErrTruncated if the file is shorter than the store has made it, and
// ErrReplaced if it has no name any more.
func (s *Store) whole() error {
	links, err := s.file.Links()
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", s.path, err)
	case links == 0:
		return fmt.Errorf("%s: %w: it has no name any more", s.path, ErrReplaced)
	}
	return nil
}

// ringAt is the part of the file in which records of the log lie.
func (s *Store) ringAt(address, size int64) wal.Storage {
	return watchedRing{s.file.Region(address, size), s}
}

// watchedRing acknowledges nothing that a file cut short, or without a name, has lost.
type watchedRing struct {
	*hdf5io.Region
	store *Store
}

// WriteSync looks before the write too: that can make a file that was cut as long
// as it was.
func (r watchedRing) WriteSync(p []byte, off int64) error {
	if err := r.store.whole(); err != nil {
		return err
	}
	began := r.store.opts.Clock()
	if err := r.Region.WriteSync(p, off); err != nil {
		return err
	}
	r.store.metrics.syncTimes.observe(r.store.opts.Clock().Sub(began))
	return r.store.whole()
}
