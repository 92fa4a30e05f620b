package hdf5

import "sync"

// localHeap holds the names of an old group (spec III.D).
type localHeap struct{ data decoder }

func (f *File) localHeap(b *budget, address uint64) (*localHeap, error) {
	d := f.signed(b, "local heap", "HEAP", address, 8+2*uint64(f.super.lengthSize)+uint64(f.super.offsetSize))
	d.version(0, 0)
	d.take(3)
	size := d.length()
	d.length() // free list
	place := d.address()
	if d.err != nil {
		return nil, d.err
	}
	data := f.read(b, "local heap data", place, size)
	return &localHeap{data}, data.err
}

// text returns the NUL-terminated text at an offset.
func (h *localHeap) text(offset uint64) (string, error) {
	d := h.data
	d.take(offset)
	s := d.text()
	return s, d.err
}

// globalHeap reads data of variable length (spec III.E). It keeps some of the collections
// that it read last.
type globalHeap struct {
	mu          sync.Mutex
	collections map[uint64]*collection
	cost        int // bytes that they take in memory, about
}

type collection struct {
	data    decoder
	objects map[uint16]span
}

// span says where an object is in its collection.
type span struct{ start, size int }

const (
	maxHeapCost    = 512 << 10 // of all collections but the last
	heapObjectCost = 64        // of an entry in objects
	minCollection  = 4096      // bytes; the library makes none that are smaller
)

// referenceSize returns the size of a reference to data of variable length in an element:
// length, collection, index.
func (f *File) referenceSize() int { return 8 + f.super.offsetSize }

// object returns the bytes of an object in the collection at an address. They are
// shared. b is spent when the collection has to be read.
func (h *globalHeap) object(f *File, b *budget, address uint64, index uint32) ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.collections[address]
	if c == nil {
		var err error
		if c, err = f.collection(b, address); err != nil {
			return nil, err
		}
		cost := len(c.data.data) + heapObjectCost*len(c.objects)
		if h.collections == nil || h.cost+cost > maxHeapCost {
			h.collections, h.cost = make(map[uint64]*collection), 0
		}
		h.collections[address], h.cost = c, h.cost+cost
	}
	s, ok := c.objects[uint16(index)]
	if !ok || index > 0xffff {
		return nil, c.data.corrupt("no object %d", index)
	}
	return c.data.data[s.start : s.start+s.size : s.start+s.size], nil
}

func (f *File) collection(b *budget, address uint64) (*collection, error) {
	const structure = "global heap collection"
	head := f.signed(b, structure, "GCOL", address, 8+uint64(f.super.lengthSize))
	head.version(1, 1)
	head.take(3)
	size := head.length()
	head.require(size >= minCollection, "%d bytes, want at least %d", size, minCollection)
	if head.err != nil {
		return nil, head.err
	}
	d := f.read(b, structure, address, size)
	if d.err != nil {
		return nil, d.err
	}
	d.take(uint64(head.pos))
	d.align(0)
	c := &collection{data: d, objects: make(map[uint16]span)}
	for d.left() >= 8+f.super.lengthSize {
		index := d.u16()
		d.take(2 + 4) // references, reserved
		size := d.length()
		if index == 0 {
			break // free space up to the end
		}
		d.align(0)
		s := span{start: d.pos, size: int(min(size, 1<<40))}
		d.take(size)
		if d.err == nil && d.left() > 0 {
			d.align(0)
		}
		if d.err != nil {
			return nil, d.err
		}
		c.objects[index] = s
	}
	return c, nil
}
