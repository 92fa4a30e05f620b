package hdf5

import (
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
)

// Options has limits. The zero value and nil mean the defaults.
type Options struct {
	// MaxChunkBytes is the size in bytes, before filters, of the largest chunk and of
	// the largest block of Rows. The default is 64 MiB. A larger chunk is an ErrLimit.
	MaxChunkBytes int64
}

const defaultMaxChunkBytes = 64 << 20

// File is an HDF5 file, open for reading.
type File struct {
	reader   io.ReaderAt
	size     int64
	closer   io.Closer // nil if the reader belongs to the caller
	maxChunk int64
	super    superblock
	heap     globalHeap

	// unchecked leaves out checksums, for tests of what they would hide.
	unchecked bool
}

// Open opens the file at a path of the file system. Its errors match ErrNotHDF5,
// ErrCorrupt or ErrUnsupported, or are those of os.Open. The caller must close the file.
//
// Open also opens a file that is marked as open for writing; see OpenForWriting.
func Open(path string, options *Options) (*File, error) {
	// Stat comes before opening, because opening a pipe waits for its writer.
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "open", Path: path, Err: errors.New("not a regular file")}
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	var f *File
	if info, err = file.Stat(); err == nil {
		f, err = NewReader(file, info.Size(), options)
	}
	if err != nil {
		_ = file.Close() // nothing was written: the first error says all
		return nil, err
	}
	f.closer = file
	return f, nil
}

// NewReader reads an HDF5 file of size bytes from r. The bytes must not change while they
// are read. Several goroutines call ReadAt at once. The errors are those of Open.
func NewReader(r io.ReaderAt, size int64, options *Options) (*File, error) {
	return newFile(&File{reader: r, size: max(size, 0), maxChunk: defaultMaxChunkBytes}, options)
}

func newFile(f *File, options *Options) (*File, error) {
	if options != nil && options.MaxChunkBytes > 0 {
		f.maxChunk = min(options.MaxChunkBytes, math.MaxInt/4)
	}
	if err := f.readSuperblock(); err != nil {
		return nil, err
	}
	return f, nil
}

// Close closes the file if Open opened it. After that nothing of it may be used.
func (f *File) Close() error {
	if f.closer == nil {
		return nil
	}
	return f.closer.Close()
}

// Superblock holds what the file says about itself.
type Superblock struct {
	Version    int   // of the superblock, 0 to 3
	UserBlock  int64 // bytes before the superblock
	EndOfFile  int64 // where the file says that it ends, an offset
	OffsetSize int   // bytes of an address: 2, 4 or 8
	LengthSize int   // bytes of a size: 2, 4 or 8
}

// Superblock returns what the file says about itself.
func (f *File) Superblock() Superblock {
	s := &f.super
	return Superblock{s.version, s.base, s.end, s.offsetSize, s.lengthSize}
}

// Size returns the file's size in bytes.
func (f *File) Size() int64 { return f.size }

// OpenForWriting reports whether the file is marked as open for writing, because a writer
// has it open now, or was killed. The HDF5 library refuses such a file, and what is read
// from it may be incomplete or damaged.
func (f *File) OpenForWriting() bool { return f.super.flags&(1|4) != 0 }

// Root returns the root group.
func (f *File) Root() (*Group, error) {
	object, err := f.object(f.newBudget(), f.super.root, "/")
	if err != nil {
		return nil, err
	}
	group, ok := object.(*Group)
	if !ok {
		return nil, within("/", fault(ErrCorrupt, "root", -1, "a %s, want a group", kindOf(object)))
	}
	return group, nil
}
