package directory

import (
	"fmt"
	"math/bits"
	"slices"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/corrupt"
)

// Load reads the directory of a file, whichever form it has, and checks all of it:
// its length, that bucket ids are below buckets, and invariants I2 and I3. depth is
// the global depth in bits; buckets is the number of rows of the bucket state. The
// error is a corrupt error if the bytes are wrong.
func Load(view *hdf5io.View, depth int, buckets uint64, limits Limits) (*Directory, error) {
	if depth < 0 || depth > min(MaxDepth, bits.UintSize-2) {
		return nil, corrupt.Errorf("directory", -1, "depth %d, want 0 to %d", depth, MaxDepth)
	}
	l := loader{view: view, want: 1 << depth}
	found, err := l.read()
	if err != nil {
		return nil, fmt.Errorf("directory: load: %w", err)
	}
	if err := checkRuns(l.pages, l.want, buckets); err != nil {
		return nil, err
	}
	base := stored{form: found, depth: depth, pages: l.pages}
	return newDirectory(depth, slices.Clone(l.pages), base, limits.complete()), nil
}

// loader gathers want pointers from pieces of the file.
type loader struct {
	view  *hdf5io.View
	pages []page
	got   uint64
	want  uint64
}

func (l *loader) read() (form, error) {
	attribute, inAttribute, err := l.view.Attribute(configPath, attributeName)
	if err != nil {
		return form{}, err
	}
	top, _, err := l.view.Group("/")
	if err != nil {
		return form{}, err
	}
	inTree := slices.Contains(top, path[1:])
	switch {
	case inAttribute == inTree:
		return form{}, corrupt.Errorf("directory", -1, "attribute %q of %s: %v, object %s: %v; want one of them",
			attributeName, configPath, inAttribute, path, inTree)
	case inAttribute:
		return l.readAttribute(attribute)
	}
	if shards, _, err := l.view.Group(path); err == nil {
		return l.readShards(shards)
	}
	f := form{mode: Dataset, shard: ^uint64(0)}
	d, err := l.readDataset(path)
	if err != nil {
		return form{}, err
	}
	if l.got != l.want {
		return form{}, corrupt.Errorf("directory", d.Offset(), "%d pointers, want %d", l.got, l.want)
	}
	f.chunk = uint64(d.ChunkDims()[0])
	return f, nil
}

func (l *loader) readAttribute(a hdf5io.Attribute) (form, error) {
	if !a.Type.Equal(pointerType()) || len(a.Dims) != 1 || uint64(len(a.Data)) != l.want*pointerSize {
		return form{}, corrupt.Errorf("directory", -1, "attribute of type %v, dimensions %d, %d bytes, want %v, [%d], %d bytes",
			a.Type, a.Dims, len(a.Data), pointerType(), l.want, l.want*pointerSize)
	}
	l.add(a.Data)
	return form{mode: Attribute}, nil
}

// readShards reads the datasets shard_00000, shard_00001 and so on. All have one
// size, except the last, which may be smaller.
func (l *loader) readShards(names []string) (form, error) {
	f := form{mode: Sharded}
	for k := uint64(0); l.got < l.want; k++ {
		d, err := l.readDataset(f.path(k))
		if err != nil {
			return form{}, err
		}
		chunk, size := uint64(d.ChunkDims()[0]), d.Dims()[0]
		if k == 0 {
			f.chunk, f.shard = chunk, size
		}
		if chunk != f.chunk || size > f.shard || size < f.shard && l.got < l.want {
			return form{}, corrupt.Errorf(f.path(k), d.Offset(), "%d pointers in chunks of %d, want %d in chunks of %d", size, chunk, f.shard, f.chunk)
		}
	}
	if want := (l.want + f.shard - 1) / f.shard; uint64(len(names)) != want {
		return form{}, corrupt.Errorf(path, -1, "%d shards, want %d", len(names), want)
	}
	return f, nil
}

// readDataset reads all pointers of one dataset, which has one dimension, and
// chunks.
func (l *loader) readDataset(name string) (*hdf5io.Dataset, error) {
	d, err := l.view.Dataset(name)
	if err != nil {
		return nil, err
	}
	dims, chunks := d.Dims(), d.ChunkDims()
	if !d.Type().Equal(pointerType()) || len(dims) != 1 || len(chunks) != 1 || chunks[0] == 0 || chunks[0] > maxChunk || !d.Filtered() {
		return nil, corrupt.Errorf(name, d.Offset(), "dataset of type %v, dimensions %d in chunks of %d, want %v in checked chunks of one dimension",
			d.Type(), dims, chunks, pointerType())
	}
	chunk, size := uint64(chunks[0]), dims[0]
	if size == 0 || size > l.want-l.got {
		return nil, corrupt.Errorf(name, d.Offset(), "%d pointers, want 1 to %d", size, l.want-l.got)
	}
	for at := uint64(0); at < size; at += chunk {
		data, err := d.Read(at / chunk)
		if err != nil {
			return nil, err
		}
		if uint64(len(data)) != chunk*pointerSize {
			return nil, corrupt.Errorf(name, d.Offset(), "chunk %d of %d bytes, want %d", at/chunk, len(data), chunk*pointerSize)
		}
		l.add(data[:min(chunk, size-at)*pointerSize])
	}
	return d, nil
}

// add appends the pointers in b. The callers have checked that there are not more
// than want.
func (l *loader) add(b []byte) {
	for ; len(b) >= pointerSize; b = b[pointerSize:] {
		if l.got&(pagePointers-1) == 0 {
			l.pages = append(l.pages, newPage(min(l.want-l.got, pagePointers)))
		}
		l.pages[l.got>>pageBits].set(l.got&(pagePointers-1), parsePointer(b))
		l.got++
	}
}

// checkRuns checks that n pointers obey I2 and I3.
func checkRuns(pages []page, n, buckets uint64) error {
	seen := newIDSet(buckets, n)
	for first := uint64(0); first < n; {
		p := pointerAt(pages, first)
		end := first + 1
		for end < n && pointerAt(pages, end) == p {
			end++
		}
		length := end - first
		bad := func(format string, args ...any) error {
			where := fmt.Sprintf("directory pointer %d to bucket %d", first, p.Bucket)
			return corrupt.Errorf(where, -1, format, args...)
		}
		switch {
		case uint64(p.Bucket) >= buckets:
			return bad("want a bucket below %d", buckets)
		case length&(length-1) != 0 || first&(length-1) != 0:
			return bad("run of %d pointers, want a power of two that divides %d", length, first)
		case !seen.add(p.Bucket):
			return bad("a second run of this bucket")
		}
		first = end
	}
	return nil
}

// idSet is a set of bucket ids. If ids are dense, as they are in every sound file,
// it is a set of bits. The length of a file bounds the memory that it takes, even
// if the file is damaged.
type idSet struct {
	dense []uint64
	far   map[uint32]struct{}
}

func newIDSet(buckets, pointers uint64) idSet {
	const perPointer = 96 // bits, the size of a pointer
	return idSet{dense: make([]uint64, (min(buckets, perPointer*pointers)+63)/64), far: map[uint32]struct{}{}}
}

// add reports whether id was not yet in the set.
func (s *idSet) add(id uint32) bool {
	if k := uint64(id) / 64; k < uint64(len(s.dense)) {
		was := s.dense[k]
		s.dense[k] |= 1 << (id % 64)
		return s.dense[k] != was
	}
	before := len(s.far)
	s.far[id] = struct{}{}
	return len(s.far) != before
}
