package hdf5io

import (
	"fmt"
	"slices"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cidstore/cidstore/internal/corrupt"
)

// View is one committed root. It is immutable, and any number of goroutines read it
// without locks. What it reaches stays in the file while it is pinned, or is the
// newest that was adopted.
type View struct {
	file *File
	slot *commitSlot
	root *object
	// data is the mapped file as far as the View may look. It is shorter, or empty,
	// if that is not mapped.
	data     []byte
	window   *window // the window of data, or an older one; nil: the file is not mapped
	datasets map[string]*Dataset
	groups   map[string]*object
	maps     [2]*chunkMap
	fellBack error // why Open did not take the newer root; nil: this was the newest

	pins [pinCounters]pinCounter
}

const pinCounters = 64

// pinCounter has a cache line of its own, and the next one too for machines that
// fetch two.
type pinCounter struct {
	n atomic.Int64
	_ [120]byte
}

// Pin is what Unpin needs to undo Pin.
type Pin uint8

// Commit is the number of the root, from 1.
func (v *View) Commit() Commit { return v.slot.commit }

// Payload returns the bytes that were given to Commit. They must not be changed.
func (v *View) Payload() []byte { return v.slot.payload }

// Superblock is what the file has at offset 0 while this is its newest root.
func (v *View) Superblock() [superblockSize]byte { return v.slot.superblock }

// EndOfFile is how long the file was for the root's commit, in bytes.
func (v *View) EndOfFile() int64 { return int64(v.slot.endOfFile) }

// UUID is the file's.
func (v *View) UUID() [16]byte { return v.slot.uuid }

// Pin keeps what the View reaches in the file until Unpin. If a newer View may
// replace this one, a reader pins it, then looks whether it is still the one to be
// read; if not, it unpins it and begins again.
func (v *View) Pin() Pin {
	// Goroutines have stacks of their own, so this address spreads them over the
	// counters at no cost.
	var here byte
	address := uint64(uintptr(unsafe.Pointer(&here)))
	i := Pin(address >> 10 * 0x9e3779b97f4a7c15 >> 58)
	v.pins[i].n.Add(1)
	return i
}

// Unpin undoes the Pin that returned p.
func (v *View) Unpin(p Pin) { v.pins[p%pinCounters].n.Add(-1) }

// pinned reports whether a reader holds the View. A reader that comes too late
// counts itself for a moment, and the counters are not read all at once. So only
// false is certain, and only once no new reader keeps the View.
func (v *View) pinned() bool {
	for i := range v.pins {
		if v.pins[i].n.Load() != 0 {
			return true
		}
	}
	return false
}

// Bytes returns n bytes at offset: the mapped file itself, valid while the View is
// pinned, or a copy if that is not mapped. Reading mapped bytes may fault; see
// vfs.Guard.
func (v *View) Bytes(offset int64, n int) ([]byte, error) {
	if p := v.Mapped(offset, n); p != nil {
		return p, nil
	}
	return v.copyBytes(offset, n)
}

// Mapped is Bytes, or nil where Bytes would be a copy or an error.
func (v *View) Mapped(offset int64, n int) []byte {
	if offset >= 0 && n >= 0 && offset <= int64(len(v.data))-int64(n) {
		return v.data[offset : offset+int64(n) : offset+int64(n)]
	}
	return nil
}

func (v *View) copyBytes(offset int64, n int) ([]byte, error) {
	if offset < 0 || n < 0 || offset > int64(v.slot.endOfFile)-int64(n) {
		return nil, corrupt.Errorf("extent", offset, "%d bytes, the file ends at %#x", n, v.slot.endOfFile)
	}
	p := make([]byte, n)
	return p, v.file.readAt(p, offset)
}

// read makes a View the source of its nodes. They are copies, so that a fault in
// the file is an error here.
func (v *View) read(address uint64, n int) ([]byte, error) {
	if address > maxAddress {
		return nil, corrupt.Errorf("extent", -1, "address %#x", address)
	}
	return v.copyBytes(int64(address), n)
}

// Dataset returns the dataset at an absolute path, or ErrNotFound. It belongs to
// the View. Callers that often look something up keep it.
func (v *View) Dataset(path string) (*Dataset, error) {
	if d := v.datasets[path]; d != nil {
		return d, nil
	}
	return nil, fmt.Errorf("dataset %s: %w", path, ErrNotFound)
}

// Group returns the names of a group's members, ascending, and its attributes.
func (v *View) Group(path string) (children []string, attributes []Attribute, err error) {
	o := v.groups[path]
	if o == nil {
		return nil, nil, fmt.Errorf("group %s: %w", path, ErrNotFound)
	}
	for _, m := range o.members {
		children = append(children, m.name)
	}
	return children, slices.Clone(o.attributes), nil
}

// Attribute returns an attribute of a group or dataset, and whether there is one
// with this name.
func (v *View) Attribute(path, name string) (Attribute, bool, error) {
	o := v.groups[path]
	if d := v.datasets[path]; d != nil {
		o = d.object
	}
	if o == nil {
		return Attribute{}, false, fmt.Errorf("object %s: %w", path, ErrNotFound)
	}
	if i := o.attribute(name); i >= 0 {
		return o.attributes[i].clone(), true, nil
	}
	return Attribute{}, false, nil
}

// complete derives the other parts of v from slot, root and maps.
func (v *View) complete() {
	for i := range v.maps {
		if v.maps[i] == nil {
			v.maps[i] = new(chunkMap)
		}
	}
	v.datasets = make(map[string]*Dataset)
	v.groups = make(map[string]*object)
	v.root.walk("/", func(path string, o *object) error {
		if o.dataset == nil {
			v.groups[path] = o
			return nil
		}
		v.datasets[path] = newDataset(v, path, o)
		return nil
	})
	v.file.mapView(v)
}

// publish makes v the newest View. What v's commit freed is not used until the
// caller calls Adopted.
func (f *File) publish(v *View) {
	v.complete()
	f.space.mu.Lock()
	f.space.views = append(f.space.views, v)
	if f.options.ReadOnly && !f.options.Salvage {
		f.space.least.Store(v.slot.endOfFile)
	}
	f.space.mu.Unlock()
	f.view.Store(v)
}

const (
	drainPoll = 50 * time.Microsecond // between two looks at the counters
	drainMost = time.Second           // for which DrainOlder waits
)

// Drain waits until no View is pinned. The caller has made sure that nobody pins
// one any more; after that, Close does not unmap what a reader is reading.
func (f *File) Drain() {
	for f.pinnedExcept(nil) {
		time.Sleep(drainPoll)
	}
}

// DrainOlder waits for reads under way: until no View except the newest is pinned, until
// kept reports that a reader keeps one, or for a second.
func (f *File) DrainOlder(kept func() bool) {
	newest, over := f.view.Load(), time.After(drainMost)
	for f.pinnedExcept(newest) && !kept() {
		select {
		case <-over:
			return
		default:
			time.Sleep(drainPoll)
		}
	}
}

// pinnedExcept reports whether a View is pinned, apart from one.
func (f *File) pinnedExcept(one *View) bool {
	f.space.mu.Lock()
	defer f.space.mu.Unlock()
	return slices.ContainsFunc(f.space.views, func(v *View) bool { return v != one && v.pinned() })
}

// OldestHeld is the commit of the oldest View that a reader of this process holds, or may
// begin to hold.
func (f *File) OldestHeld() Commit {
	f.space.mu.Lock()
	defer f.space.mu.Unlock()
	f.dropViews()
	return f.space.views[0].slot.commit
}
