package directory

import (
	"encoding/binary"
	"fmt"

	"github.com/cidstore/cidstore/hdf5io"
)

// Where the three forms lie.
const (
	configPath    = "/config"
	attributeName = "directory"
	path          = "/directory"
)

// A directory pointer.
//
// FORMAT.md: directory pointer
//
//	offset  size  field      meaning
//	     0     4  bucket_id
//	     4     8  ref        commit in which this bucket id was created
const (
	offBucket, offRef = 0, 4
	pointerSize       = 12
)

var _ [pointerSize]byte = [offRef + 8]byte{}

const (
	chunkPointers = 1000 // pointers of a chunk, if a shard has that many
	// maxAttribute keeps an attribute's data below the 64 KiB of a message.
	maxAttribute = 5000
	// maxChunk bounds what a chunk of a file may hold, in pointers.
	maxChunk = 1 << 20
)

// form is how and where a directory lies in a file. The zero value means that it
// lies in none.
type form struct {
	mode  Mode
	shard uint64 // pointers of each dataset; Dataset: no limit
	chunk uint64 // pointers of a chunk; Attribute: 0
}

func (l Limits) form(n uint64) form {
	f := form{mode: l.mode(n), shard: ^uint64(0), chunk: uint64(min(chunkPointers, l.Shard))}
	switch f.mode {
	case Attribute:
		f.shard, f.chunk = 0, 0
	case Sharded:
		f.shard = uint64(l.Shard)
	}
	return f
}

// path is that of dataset k of the form.
func (f form) path(k uint64) string {
	if f.mode == Dataset {
		return path
	}
	return fmt.Sprintf("%s/shard_%05d", path, k)
}

func pointerType() hdf5io.Datatype {
	return hdf5io.Compound(pointerSize,
		hdf5io.Field{Name: "bucket_id", Offset: offBucket, Type: hdf5io.Uint(4)},
		hdf5io.Field{Name: "ref", Offset: offRef, Type: hdf5io.Uint(8)})
}

func parsePointer(b []byte) Pointer {
	return Pointer{Bucket: binary.LittleEndian.Uint32(b[offBucket:]), Ref: hdf5io.Commit(binary.LittleEndian.Uint64(b[offRef:]))}
}

func (p Pointer) append(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, p.Bucket)
	return binary.LittleEndian.AppendUint64(dst, uint64(p.Ref))
}

// Store writes the edited version into tx, in the form that its size asks for. If
// that is the form that the file has, Store writes what differs from the version in
// the file. Otherwise it writes all of it, and removes the old form in the same
// commit.
//
// A version made by Done after Store belongs to that commit. If the commit does not
// happen, drop it and continue with the version before.
func (e *Editor) Store(tx *hdf5io.Tx) error {
	if e.err != nil {
		return e.err
	}
	base, want := e.stored, e.limits.form(1<<e.depth)
	if base.form != want {
		if err := base.form.remove(tx); err != nil {
			return fmt.Errorf("directory: remove the form %q: %w", base.form.mode, err)
		}
		base = stored{}
	}
	var err error
	if want.mode == Attribute {
		err = e.storeAttribute(tx, base)
	} else {
		err = e.storeDatasets(tx, base, want)
	}
	if err != nil {
		return fmt.Errorf("directory: store as %q: %w", want.mode, err)
	}
	e.stored = stored{form: want, depth: e.depth, pages: append([]page(nil), e.pages...)}
	clear(e.owned) // now the base shares them
	return nil
}

// remove removes a form from the file.
func (f form) remove(tx *hdf5io.Tx) error {
	switch f.mode {
	case Attribute:
		return tx.RemoveAttribute(configPath, attributeName)
	case Dataset, Sharded:
		return tx.Remove(path)
	}
	return nil
}

func (e *Editor) storeAttribute(tx *hdf5io.Tx, base stored) error {
	n := uint64(1) << e.depth
	if base.len() == n && base.holds(e.pages, 0, n) {
		return nil
	}
	return tx.SetAttribute(configPath, hdf5io.Attribute{
		Name: attributeName, Type: pointerType(), Dims: []uint64{n}, Data: appendPointers(nil, e.pages, 0, n)})
}

func (e *Editor) storeDatasets(tx *hdf5io.Tx, base stored, f form) error {
	if f.mode == Sharded && base.form.mode == "" {
		if err := tx.CreateGroup(path); err != nil {
			return err
		}
		for _, a := range describe("bucket pointers by the top global_depth bits of a key's hash, in shards") {
			if err := tx.SetAttribute(path, a); err != nil {
				return err
			}
		}
	}
	n, old := uint64(1)<<e.depth, base.len()
	for k, first := uint64(0), uint64(0); first < max(n, old); k++ {
		size, oldSize := within(n, first, f.shard), within(old, first, f.shard)
		if err := e.storeShard(tx, base, f, f.path(k), first, size, oldSize); err != nil {
			return err
		}
		if max(n, old)-first <= f.shard {
			break
		}
		first += f.shard
	}
	return nil
}

// within returns how many of n pointers are among the size pointers from first on.
func within(n, first, size uint64) uint64 {
	if n <= first {
		return 0
	}
	return min(n-first, size)
}

// storeShard makes one dataset, which has oldSize pointers, hold the size pointers
// from first on. It opens the dataset only if something changed.
func (e *Editor) storeShard(tx *hdf5io.Tx, base stored, f form, name string, first, size, oldSize uint64) error {
	if size == 0 {
		return tx.Remove(name)
	}
	var d *hdf5io.TxDataset
	open := func() (err error) {
		switch {
		case d != nil:
		case oldSize == 0:
			d, err = tx.CreateDataset(name, hdf5io.DatasetSpec{
				Type: pointerType(), Dims: []uint64{size}, MaxDims: []uint64{hdf5io.Unlimited},
				Chunk: []uint32{uint32(f.chunk)}, Fletcher32: true,
				Attributes: describe("bucket pointers by the top global_depth bits of a key's hash")})
		default:
			d, err = tx.Dataset(name)
		}
		return err
	}
	if size != oldSize {
		if err := open(); err != nil {
			return err
		}
	}
	var data []byte
	for at := uint64(0); at < size; at += f.chunk {
		n := min(f.chunk, size-at)
		if oldSize >= at && min(f.chunk, oldSize-at) == n && base.holds(e.pages, first+at, n) {
			continue
		}
		if err := open(); err != nil {
			return err
		}
		data = appendPointers(data[:0], e.pages, first+at, n)
		data = append(data, make([]byte, (f.chunk-n)*pointerSize)...)
		if _, err := d.Write(data, at/f.chunk); err != nil {
			return err
		}
	}
	for at := (size + f.chunk - 1) / f.chunk * f.chunk; at < oldSize; at += f.chunk {
		d.Delete(at / f.chunk)
	}
	if size != oldSize && oldSize != 0 {
		return d.Resize(size)
	}
	return nil
}

// len is the number of pointers that the file holds.
func (s *stored) len() uint64 {
	if s.form.mode == "" {
		return 0
	}
	return 1 << s.depth
}

// holds reports whether the file has the n pointers from first on as pages has them.
func (s *stored) holds(pages []page, first, n uint64) bool {
	if first+n > s.len() {
		return false
	}
	for i := first; i < first+n; {
		k, j := i>>pageBits, i&(pagePointers-1)
		step := min(pages[k].len()-j, first+n-i)
		if !pages[k].same(s.pages[k]) {
			for m := j; m < j+step; m++ {
				if pages[k].at(m) != s.pages[k].at(m) {
					return false
				}
			}
		}
		i += step
	}
	return true
}

// appendPointers appends the n pointers from first on, as they are in a file.
func appendPointers(dst []byte, pages []page, first, n uint64) []byte {
	for i := first; i < first+n; i++ {
		dst = pointerAt(pages, i).append(dst)
	}
	return dst
}

func describe(text string) []hdf5io.Attribute {
	return hdf5io.Described(text, "bucket_id: row of /buckets; ref: commit number")
}
