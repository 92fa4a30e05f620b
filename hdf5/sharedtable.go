package hdf5

// sharedTable is the file's table of shared messages (spec III.I), undefined if it has
// none. Each of its indexes has a heap for messages of some types.
type sharedTable struct {
	address uint64
	indexes int
}

// sharedTable parses a shared message table message (spec IV.A.2.p).
func (d *decoder) sharedTable() sharedTable {
	d.version(0, 0)
	return sharedTable{d.address(), int(d.u8())}
}

// sharedHeap returns the heap with the shared messages of a type, and keeps it.
func (f *File) sharedHeap(b *budget, kind int) (*fractalHeap, error) {
	if heap := b.heaps[kind]; heap != nil {
		return heap, nil
	}
	t, o := f.super.shared, uint64(f.super.offsetSize)
	d := f.sealed(b, "shared message table", "SMTB", t.address, 4+uint64(t.indexes)*(14+2*o)+4)
	if d.err != nil {
		return nil, d.err
	}
	for range t.indexes {
		d.version(0, 0)
		d.take(1) // list or B-tree
		kinds := d.u16()
		d.take(4 + 2 + 2 + 2) // sizes, number of messages
		d.address()
		heap := d.address()
		if d.err != nil {
			return nil, d.err
		}
		if kinds&(1<<kind) == 0 {
			continue
		}
		h, err := f.fractalHeap(b, heap)
		if err != nil {
			return nil, err
		}
		if b.heaps == nil {
			b.heaps = make(map[int]*fractalHeap)
		}
		b.heaps[kind] = h
		return h, nil
	}
	return nil, d.corrupt("no index of %s messages", nameOf(kind))
}

// inSharedTable returns the message with a heap id in the table of shared messages.
func (f *File) inSharedTable(b *budget, id decoder, kind int) decoder {
	heap, err := f.sharedHeap(b, kind)
	if err != nil {
		return decoder{file: f, err: err}
	}
	d := heap.object(id.part("heap id", uint64(heap.idSize)))
	d.structure = "shared " + nameOf(kind)
	return d
}
