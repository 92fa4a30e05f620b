package hdf5io

import (
	"fmt"
	"slices"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cidstore/cidstore/internal/corrupt"
)

// View is one committed root: immutable, read by any number of goroutines
// without locks. What it reaches stays in the file while it is pinned, or is
// the newest that was adopted.
type View struct {
	file *File
	slot *commitSlot
	root *object
	// data is the mapped file as far as the View may look; shorter or empty where the
	// file is not mapped.
	data     []byte
	window   *window // that data is of, or an older one; nil: the file is not mapped
	datasets map[string]*Dataset
	groups   map[string]*object
	maps     [2]*chunkMap
	fellBack error // why Open did not take the newer root; nil: this was the newest

	pins [pinCounters]pinCounter
}

const pinCounters = 64

// pinCounter has a cache line of its own, and its neighbour's on machines that
// fetch two.
type pinCounter struct {
	n atomic.Int64
	_ [120]byte
}

// Pin is what Unpin needs to undo Pin.
type Pin uint8

// Commit is the number of the root, from 1.
func (v *View) Commit() uint64 { return v.slot.commit }

// Generation is the number of the slot that first named the root.
func (v *View) Generation() uint64 { return v.slot.generation }

// Payload returns the bytes that were handed to Commit. They must not be changed.
func (v *View) Payload() []byte { return v.slot.payload }

// Superblock is what stands at offset 0 of the file when the root is its newest.
func (v *View) Superblock() [superblockSize]byte { return v.slot.superblock }

// EndOfFile is the end of the space that the root's commit had, in bytes.
func (v *View) EndOfFile() int64 { return int64(v.slot.endOfFile) }

// UUID is the file's.
func (v *View) UUID() [16]byte { return v.slot.uuid }

// Pin keeps what the View reaches in the file until Unpin. A reader of a
// View that a newer one may replace pins it, then looks whether it is still the
// one to be read, and if not lets it go and begins again.
func (v *View) Pin() Pin {
	// Goroutines run on stacks of their own: the address spreads them over the
	// counters, and asks nobody.
	var here byte
	address := uint64(uintptr(unsafe.Pointer(&here)))
	i := Pin(address >> 10 * 0x9e3779b97f4a7c15 >> 58)
	v.pins[i].n.Add(1)
	return i
}

// Unpin undoes the Pin that returned p.
func (v *View) Unpin(p Pin) { v.pins[p%pinCounters].n.Add(-1) }

// pinned reports whether anybody holds the View. Counters may pass below zero and above: only the
// moment when all are zero after nobody comes anew counts.
func (v *View) pinned() bool {
	for i := range v.pins {
		if v.pins[i].n.Load() != 0 {
			return true
		}
	}
	return false
}

// Bytes returns n bytes at offset: the mapped file itself, valid while the View is
// pinned, or a copy where it is not mapped. Reading mapped bytes may fault: see vfs.Guard.
func (v *View) Bytes(offset int64, n int) ([]byte, error) {
	if offset >= 0 && n >= 0 && offset <= int64(len(v.data))-int64(n) {
		return v.data[offset : offset+int64(n) : offset+int64(n)], nil
	}
	return v.copyBytes(offset, n)
}

func (v *View) copyBytes(offset int64, n int) ([]byte, error) {
	if offset < 0 || n < 0 || offset > int64(v.slot.endOfFile)-int64(n) {
		return nil, corrupt.Errorf("extent", offset, "%d bytes, the file ends at %#x", n, v.slot.endOfFile)
	}
	p := make([]byte, n)
	return p, v.file.readAt(p, offset)
}

// read makes a View the source of its nodes: copies, so that a fault in the file is an error.
func (v *View) read(address uint64, n int) ([]byte, error) {
	if address > maxAddress {
		return nil, corrupt.Errorf("extent", -1, "address %#x", address)
	}
	return v.copyBytes(int64(address), n)
}

// Dataset returns the dataset at an absolute path; ErrNotFound. It belongs to
// the View. Callers that look something up often keep it.
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
// of the name.
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

// complete makes the parts of v that follow from slot, root and maps.
func (v *View) complete() {
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
	for i := range v.maps {
		if v.maps[i] == nil {
			v.maps[i] = new(chunkMap)
		}
	}
	v.file.mapView(v)
}

// publish makes v the newest View. What v's commit freed stays until its caller says
// that it is adopted.
func (f *File) publish(v *View) {
	v.complete()
	f.space.mu.Lock()
	f.space.views = append(f.space.views, v)
	f.space.mu.Unlock()
	f.view.Store(v)
}

// drainPoll is how often Drain looks again.
const drainPoll = 50 * time.Microsecond

// Drain waits until no View is pinned. The caller has seen to it that nobody pins
// one anew: then Close takes no mapping from under a reader.
func (f *File) Drain() {
	for f.anyPinned() {
		time.Sleep(drainPoll)
	}
}

// drainMost is how often DrainOlder looks: for about a second.
const drainMost = 20_000

// DrainOlder waits until no View but the newest is pinned, for about a second at most:
// for reads that are under way, not for those who keep a View.
func (f *File) DrainOlder() {
	newest := f.view.Load()
	for range drainMost {
		f.space.mu.Lock()
		pinned := slices.ContainsFunc(f.space.views, func(v *View) bool { return v != newest && v.pinned() })
		f.space.mu.Unlock()
		if !pinned {
			return
		}
		time.Sleep(drainPoll)
	}
}

func (f *File) anyPinned() bool {
	f.space.mu.Lock()
	defer f.space.mu.Unlock()
	return slices.ContainsFunc(f.space.views, (*View).pinned)
}
