package cidstore

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/vfs"
)

// pieceBytes is how many bytes of a file are read at a time.
const pieceBytes = 1 << 20

// inSteps calls step for one piece of size bytes after another. step fills p with the bytes
// at that offset, and uses them.
func inSteps(ctx context.Context, size int64, progress func(done, total int64), step func(p []byte, at int64) error) error {
	buffer := make([]byte, min(pieceBytes, size))
	for at := int64(0); at < size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		p := buffer[:min(pieceBytes, size-at)]
		if err := step(p, at); err != nil {
			return err
		}
		at += int64(len(p))
		progress(at, size)
	}
	return nil
}

// series is a backup to be read: a full one, and its increments, in order.
type series struct {
	paths      []string
	files      []vfs.File        // the full backup first
	full       int64             // size of the full backup, in bytes
	increments []incrementReader // read to the end: their headers and sums
}

// openSeries opens the files of a backup, reads the increments from end to end, and
// checks that each one follows the one before it.
func openSeries(paths []string, opts *Options) (*series, error) {
	if len(paths) == 0 {
		return nil, invalidf("no backup is named")
	}
	s := &series{paths: paths}
	reading := Options{ReadOnly: true, FS: opts.FS}
	for _, path := range paths {
		file, info, err := openFile(path, &reading)
		if err == nil {
			s.files = append(s.files, file)
			err = s.add(file, info)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", path, err), s.close())
		}
	}
	return s, nil
}

// add checks the file, which is the last one of the series so far.
func (s *series) add(file vfs.File, info vfs.Info) error {
	magic := make([]byte, len(incrementMagic))
	if _, err := file.ReadAt(magic, 0); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: %d bytes at 0: %w", ErrIO, len(magic), err)
	}
	switch increment, first := string(magic) == incrementMagic, len(s.files) == 1; {
	case first && increment:
		return fmt.Errorf("%w: it is an increment, the full backup comes first", ErrBackupSeries)
	case first:
		s.full = info.Size
		return notHalfMade(file)
	case !increment:
		return fmt.Errorf("%w: it is no increment", ErrBackupSeries)
	}
	r, err := newIncrementReader(io.NewSectionReader(file, 0, info.Size))
	if err != nil {
		return err
	}
	base, err := s.identity()
	if err == nil {
		err = r.header.fits(&base)
	}
	for err == nil {
		_, err = r.next()
	}
	if !errors.Is(err, io.EOF) {
		return err
	}
	r.in, r.buffer = nil, nil
	s.increments = append(s.increments, *r)
	return nil
}

// identity returns what the next increment must have been made from: a header whose fields
// about the image describe that base.
func (s *series) identity() (h incrementHeader, err error) {
	if n := len(s.increments); n > 0 {
		return s.increments[n-1].header, nil
	}
	return identify(s.files[0])
}

// identify reads which file this is. The head of a file covers all the rest by checksums,
// and no two files have the same head: each life of a store puts random bytes there.
func identify(file vfs.File) (h incrementHeader, err error) {
	info, err := file.Info()
	if err != nil {
		return h, err
	}
	if info.Size < hdf5io.HeadSize {
		return h, fmt.Errorf("%w: it has %d bytes, want %d or more", ErrNotCIDStore, info.Size, hdf5io.HeadSize)
	}
	if h.uuid, h.commit, _, err = hdf5io.Identity(file); err != nil {
		return h, err
	}
	head := make([]byte, hdf5io.HeadSize)
	if _, err := file.ReadAt(head, 0); err != nil {
		return h, fmt.Errorf("%w: %d bytes at 0: %w", ErrIO, len(head), err)
	}
	h.size, h.head = info.Size, sha256.Sum256(head)
	return h, nil
}

// fits returns an error that matches ErrBackupSeries unless the increment was made from
// base.
func (h *incrementHeader) fits(base *incrementHeader) error {
	switch {
	case h.uuid != base.uuid:
		return fmt.Errorf("%w: it is of the store %x, the backup before it of %x", ErrBackupSeries, h.uuid, base.uuid)
	case h.baseCommit < base.commit:
		return fmt.Errorf("%w: it was made since the backup of commit %d, the one before it is of commit %d: another one, or it was opened for writing since",
			ErrBackupSeries, h.baseCommit, base.commit)
	case h.baseCommit != base.commit:
		return fmt.Errorf("%w: it was made since the backup of commit %d, the one before it is of commit %d", ErrBackupSeries, h.baseCommit, base.commit)
	case h.baseHead != base.head || h.baseSize != base.size:
		return fmt.Errorf("%w: it was made since another backup of commit %d, or the backup before it was changed", ErrBackupSeries, h.baseCommit)
	}
	return nil
}

// isNot returns errOntoItself if path leads to a file of the series.
func (s *series) isNot(path string, opts *Options) error {
	for _, file := range s.files {
		info, err := file.Info()
		if err != nil {
			return err
		}
		switch same, err := vfs.HasName(opts.FS, info, vfs.Target(opts.FS, path)); {
		case err != nil:
			return err
		case same:
			return errOntoItself
		}
	}
	return nil
}

func (s *series) close() error {
	var errs []error
	for _, file := range s.files {
		errs = append(errs, file.Close())
	}
	return errors.Join(errs...)
}

// size returns the size of the image in bytes.
func (s *series) size() int64 {
	if n := len(s.increments); n > 0 {
		return s.increments[n-1].header.size
	}
	return s.full
}

// name returns the names of the files of the series, for errors.
func (s *series) name() string {
	switch n := len(s.increments); n {
	case 0:
		return s.paths[0]
	case 1:
		return s.paths[0] + " and 1 increment"
	default:
		return fmt.Sprintf("%s and %d increments", s.paths[0], n)
	}
}

// each calls visit with each part of the image, in order, and verifies the image by the
// checksum of the last increment, if there is one.
func (s *series) each(ctx context.Context, progress func(done, total int64), visit func(p []byte, at int64) error) error {
	in, err := s.read()
	if err != nil {
		return err
	}
	sum := sha256.New()
	err = inSteps(ctx, s.size(), progress, func(p []byte, at int64) error {
		if err := in.next(p); err != nil {
			return err
		}
		if len(s.increments) > 0 {
			sum.Write(p)
		}
		return visit(p, at)
	})
	if err != nil {
		return err
	}
	if n := len(s.increments); n > 0 {
		if got, want := [sha256.Size]byte(sum.Sum(nil)), s.increments[n-1].sum; got != want {
			return fmt.Errorf("%w: SHA-256 %x of the file that %s make, want %x: one of them was changed, or is damaged", ErrCorrupt, got, s.name(), want)
		}
	}
	return nil
}

// copyTo writes the image into dst and syncs it.
func (s *series) copyTo(ctx context.Context, dst vfs.File, progress func(done, total int64)) error {
	if err := s.each(ctx, progress, func(p []byte, at int64) error { return dst.WriteAt(p, at) }); err != nil {
		return err
	}
	return dst.Sync()
}

// verify reads the image and compares it with the checksum of the last increment.
func (s *series) verify(ctx context.Context, progress func(done, total int64)) error {
	return s.each(ctx, progress, func([]byte, int64) error { return nil })
}

// seriesReader reads the image of a series once, from its start. It keeps one part of each
// increment in memory.
type seriesReader struct {
	full   vfs.File
	size   int64 // of full
	at     int64
	layers []layer
}

// layer is an increment whose parts before a place have been applied.
type layer struct {
	in   *incrementReader
	part incrementPart
	err  error // instead of a part; io.EOF if there are no more
}

func (s *series) read() (*seriesReader, error) {
	r := &seriesReader{full: s.files[0], size: s.full}
	for _, file := range s.files[1:] {
		info, err := file.Info()
		if err != nil {
			return nil, err
		}
		in, err := newIncrementReader(io.NewSectionReader(file, 0, info.Size))
		if err != nil {
			return nil, err
		}
		l := layer{in: in}
		l.part, l.err = in.next()
		r.layers = append(r.layers, l)
	}
	return r, nil
}

// next fills p with the next bytes of the image; after its end they are zero.
func (r *seriesReader) next(p []byte) error {
	n := max(0, min(int64(len(p)), r.size-r.at))
	clear(p[n:])
	if n > 0 {
		if got, err := r.full.ReadAt(p[:n], r.at); int64(got) < n {
			return fmt.Errorf("%w: %d bytes at %#x of %s: %w", ErrIO, n, r.at, r.full.Name(), err)
		}
	}
	for i := range r.layers {
		if err := r.layers[i].apply(p, r.at); err != nil {
			return err
		}
	}
	r.at += int64(len(p))
	return nil
}

// apply turns p, the bytes of the base from at on, into those of the image.
func (l *layer) apply(p []byte, at int64) error {
	end := at + int64(len(p))
	for l.err == nil && l.part.offset < end {
		from, to := max(l.part.offset, at), min(l.part.offset+l.part.size, end)
		if from < to {
			if target := p[from-at : to-at]; l.part.data == nil {
				clear(target)
			} else {
				copy(target, l.part.data[from-l.part.offset:])
			}
		}
		if l.part.offset+l.part.size > end {
			return nil
		}
		l.part, l.err = l.in.next()
	}
	if l.err != nil && !errors.Is(l.err, io.EOF) {
		return l.err
	}
	clear(p[max(0, min(int64(len(p)), l.in.header.size-at)):])
	return nil
}
