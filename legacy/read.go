package legacy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"

	"github.com/cidstore/cidstore/hdf5"
	"github.com/cidstore/cidstore/keys"
)

// Errors of Read and Detect, for errors.Is. An error that matches none of them came
// from reading the file, or from the context.
var (
	// ErrNotLegacy: not an HDF5 file, or one of another program.
	ErrNotLegacy = errors.New("not a store of an older layout")
	// ErrVersion: a format version that this package does not know.
	ErrVersion = errors.New("unknown format version of the Python package")
	// ErrWide: identifiers of 256 bits, which do not fit into 128, or not without
	// collisions.
	ErrWide = errors.New("identifiers of 256 bits")
	// ErrKey: the log was written with another secret.
	ErrKey = errors.New("the log has another key")
	// ErrUnreadable: because of damage nothing can be read.
	ErrUnreadable = errors.New("nothing of it can be read")
)

// Layout names a layout; see the package's documentation.
type Layout string

// The layouts.
const (
	Empty     Layout = "empty"
	Attribute Layout = "attribute"
	Dataset   Layout = "dataset"
	Sharded   Layout = "sharded"
	Wide      Layout = "256-bit"
	Format1   Layout = "format-1"
)

// Options are what Read cannot know from the file. nil means the zero value.
type Options struct {
	// Log is the log of a store of 256 bits, a file of LogSize bytes next to it;
	// nil if there is none. Stores of other layouts contain their logs.
	Log     io.ReaderAt
	LogSize int64
	// Truncate keeps the first 128 bits of identifiers of 256 bits.
	Truncate bool
	// WALKey is the secret of the log of a store of format 1; nil: it has none.
	WALKey []byte
}

// Contents are what Read has found.
type Contents struct {
	Layout Layout
	// Replayed counts the operations of the log that were not in the buckets yet.
	Replayed int
	// Defects are the first 1,000 defects; DefectCount is the number of all.
	Defects     []error
	DefectCount int

	sets  map[keys.E][]keys.E // ascending, no duplicates, none empty
	pairs int
}

// Keys returns the number of keys.
func (c *Contents) Keys() int { return len(c.sets) }

// Pairs returns the number of values of all keys.
func (c *Contents) Pairs() int { return c.pairs }

// All yields every key with each of its values, both ascending.
func (c *Contents) All() iter.Seq2[keys.E, keys.E] {
	return func(yield func(keys.E, keys.E) bool) {
		for _, key := range sorted(c.sets) {
			for _, value := range c.sets[key] {
				if !yield(key, value) {
					return
				}
			}
		}
	}
}

// Read reads a store of size bytes from in, which must not change until Read
// returns. It keeps all that it finds in memory. Its errors match those of this
// package, or come from reading in. Damage that leaves something to read is in
// Contents.Defects.
func Read(ctx context.Context, in io.ReaderAt, size int64, options *Options) (*Contents, error) {
	r, err := open(in, size)
	if err != nil {
		return nil, err
	}
	r.ctx = ctx
	if options != nil {
		r.options = *options
	}
	r.contents.Layout = r.layout
	switch r.layout {
	case Format1:
		err = r.formatOneStore()
	case Wide:
		r.reportOpen()
		err = r.wideStore()
	default:
		r.reportOpen()
		err = r.store()
	}
	if err != nil {
		return nil, err
	}
	c := r.finish()
	if c.Keys() == 0 && r.lost {
		return nil, fmt.Errorf("%w: no key with values, and %d defects, the first: %w", ErrUnreadable, c.DefectCount, c.Defects[0])
	}
	return c, nil
}

func (r *reader) reportOpen() {
	if r.file.OpenForWriting() {
		r.report("superblock", "marked as open for writing: the writer was killed, or is at work")
	}
}

// Detect returns which layout a file has. Its errors are those of Read.
func Detect(in io.ReaderAt, size int64) (Layout, error) {
	r, err := open(in, size)
	if err != nil {
		return "", err
	}
	return r.layout, nil
}

// reader is the state of one Read.
type reader struct {
	ctx      context.Context
	options  Options
	in       io.ReaderAt
	size     int64
	file     *hdf5.File
	root     *hdf5.Group
	slot     []byte // of format 1, which needs no file
	layout   Layout
	contents Contents
	lost     bool            // there were defects that may have cost values
	seen     map[string]bool // texts of contents.Defects
	credit   uint64          // bytes of rows that may still be read
	steps    int             // chunks that were read one by one

	entries   map[keys.E]entry
	names     map[keys.E]string // of the keys whose names are known
	plain     bool              // state masks are plain numbers, not code words
	valueSets map[keys.E]*valueSet
	changes   changes
	wide      wideNames
}

// entry is what the buckets have of a key.
type entry struct {
	bucket int64
	values []keys.E // in any order, perhaps several times
}

// Rows may be expanded by as much as deflate can, twice, because some are read
// twice. A file that asks for more is not a store, and would take too long for its
// size.
const (
	creditRatio = 2 * 1100
	leastCredit = 32 << 20
)

func open(in io.ReaderAt, size int64) (*reader, error) {
	r := &reader{
		in: in, size: size, ctx: context.Background(), credit: uint64(size)*creditRatio + leastCredit, seen: make(map[string]bool),
		entries: make(map[keys.E]entry), names: make(map[keys.E]string), valueSets: make(map[keys.E]*valueSet),
		changes: make(changes), wide: wideNames{make(map[keys.E]wideE), make(map[wideE]bool)},
	}
	found, err := r.findSlot()
	if err != nil || found {
		return r, err
	}
	r.file, err = hdf5.NewReader(in, size, nil)
	if errors.Is(err, hdf5.ErrNotHDF5) {
		return nil, fmt.Errorf("%w: %w", ErrNotLegacy, err)
	}
	if err == nil {
		err = r.begin()
	}
	if isDamage(err) {
		err = fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	return r, err
}

// begin finds out what store the file holds.
func (r *reader) begin() error {
	var err error
	if r.root, err = r.file.Root(); err != nil {
		return err
	}
	if err := r.detect(); err != nil {
		return err
	}
	return r.checkVersion()
}

// detect finds the layout, or returns ErrNotLegacy. The package has marked its
// files at the root. A file that it had only begun has no mark yet, but the groups.
func (r *reader) detect() error {
	wide, err := r.hasMark("cidstore_version")
	if err != nil {
		return err
	}
	if wide {
		r.layout = Wide
		return nil
	}
	marked, err := r.hasMark("cidtree_version")
	if err != nil {
		return err
	}
	for _, path := range []string{"config", "nodes", "values/sp"} {
		_, err := r.root.Group(path)
		if err == nil || marked && isDamage(err) {
			continue
		}
		if isDamage(err) {
			err = fmt.Errorf("%w: an HDF5 file without a group /%s", ErrNotLegacy, path)
		}
		return err
	}
	r.layout, err = r.narrowLayout()
	return err
}

// hasMark reports whether the root has an attribute that can be read.
func (r *reader) hasMark(name string) (bool, error) {
	_, err := r.root.Attribute(name)
	if isDamage(err) {
		return false, nil
	}
	return err == nil, err
}

// narrowLayout returns which of the layouts of 128 bits it is.
func (r *reader) narrowLayout() (Layout, error) {
	_, err := r.root.Group("directory")
	if err == nil || !isDamage(err) {
		return Sharded, err
	}
	_, err = r.root.Dataset("directory")
	if err == nil || !isDamage(err) {
		return Dataset, err
	}
	_, err = r.root.Group("buckets")
	if errors.Is(err, hdf5.ErrNotFound) {
		return Empty, nil
	}
	if err != nil && !isDamage(err) {
		return "", err
	}
	return Attribute, nil
}

// formatVersion is the only version that the Python package has written.
const formatVersion = 1

func (r *reader) checkVersion() error {
	config, err := r.root.Group("config")
	if err != nil {
		return r.damaged("/config", err)
	}
	version, there, err := r.number(config, "format_version")
	if err != nil {
		return err
	}
	if there && version != formatVersion {
		return fmt.Errorf("%w: %d, want %d", ErrVersion, version, formatVersion)
	}
	return nil
}

// store reads a store of 128 bits.
func (r *reader) store() error {
	if err := r.findValueSets(); err != nil {
		return err
	}
	directory, err := r.readDirectory()
	if err != nil {
		return err
	}
	if err := r.readBuckets(directory); err != nil {
		return err
	}
	return r.replay()
}

// finish makes the sets of the entries and the changes of the log.
func (r *reader) finish() *Contents {
	c := &r.contents
	c.sets = make(map[keys.E][]keys.E, len(r.entries))
	for key, change := range r.changes {
		e := r.entries[key]
		e.values = change.apply(e.values)
		r.entries[key] = e
	}
	for key, e := range r.entries {
		slices.SortFunc(e.values, keys.E.Compare)
		if values := slices.Compact(e.values); len(values) > 0 {
			c.sets[key] = values
			c.pairs += len(values)
		}
	}
	return c
}
