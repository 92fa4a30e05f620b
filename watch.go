package cidstore

import (
	"fmt"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/wal"
)

// Others can cut the file short or remove its name while it is open: an HDF5 program that
// opens it with mode "w" truncates it before it looks at locks. What is acknowledged after
// that would be lost. So the writer looks at the file before and after every group commit,
// which costs two cheap calls to the system. If the path names another file while this one
// still has a name, the next checkpoint sees it.

// intact returns ErrTruncated if the file is shorter than the store has made it or, read-only,
// than its root says, and ErrReplaced if a writer's file no longer has a name. A reader may have
// a file system that does not count names.
func (s *Store) intact() error {
	links, err := s.file.Links()
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", s.path, err)
	case links == 0 && !s.opts.ReadOnly:
		return fmt.Errorf("%s: %w: it no longer has a name", s.path, ErrReplaced)
	}
	return nil
}

// ringAt returns the part of the file in which a ring of the log lies.
func (s *Store) ringAt(address, size int64) wal.Storage {
	return watchedRing{s.file.Region(address, size), s}
}

// watchedRing is a ring that acknowledges nothing in a file that is cut short or has no
// name.
type watchedRing struct {
	*hdf5io.Region
	store *Store
}

// WriteSync writes and syncs. It looks at the file before the write too, because the write
// can make a file that was cut short as long again as it was.
func (r watchedRing) WriteSync(p []byte, off int64) error {
	if err := r.store.intact(); err != nil {
		return err
	}
	began := r.store.opts.Clock()
	if err := r.Region.WriteSync(p, off); err != nil {
		return err
	}
	r.store.metrics.syncTimes.observe(r.store.opts.Clock().Sub(began))
	return r.store.intact()
}
