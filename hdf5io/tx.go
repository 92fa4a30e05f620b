package hdf5io

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// Tx is the one write transaction of a File. It places bytes in free space and
// edits a copy of the object tree; nothing of it is seen before Commit. It is for
// one goroutine. After an error of any method only Abort may be called, unless the
// method says otherwise.
type Tx struct {
	file     *File
	base     *View
	number   Commit
	root     *object
	objects  int // in the tree
	maps     [2]mapOwner
	from     uint64 // nodes at this address and after it are moved; see MoveFrom
	leave    bool   // see LeaveRoom
	keepFree uint64 // see KeepFree
	keepRoom func(*View) Room
	done     bool

	writer runWriter
	freed  []extent // what the new root does not reach and the base root does; in no order
}

// mapOwner says which dataset has a chunk map.
type mapOwner struct {
	taken bool
	drop  bool // the base root's dataset was removed
	edits []pageEdit
}

// ErrTxOpen: there is a Tx already.
var ErrTxOpen = errors.New("a transaction is open")

// Begin starts the Tx. It blocks no reader, and calls Adopted of the newest View.
func (f *File) Begin() (*Tx, error) {
	if err := f.writable(); err != nil {
		return nil, err
	}
	if err := f.intact(); err != nil {
		return nil, fmt.Errorf("begin: %w", err)
	}
	if !f.txOpen.CompareAndSwap(false, true) {
		return nil, ErrTxOpen
	}
	base := f.View()
	base.Adopted()
	f.space.mu.Lock()
	err := f.reclaim(false)
	f.space.mu.Unlock()
	if err != nil {
		f.txOpen.Store(false)
		return nil, err
	}
	f.slotMu.Lock()
	commit := f.lastCommit + 1
	f.slotMu.Unlock()
	tx := &Tx{file: f, base: base, number: commit, root: base.root,
		objects: len(base.datasets) + len(base.groups), from: moveNothing}
	tx.writer = runWriter{file: f, buffer: f.txBuffer[:0]}
	f.txBuffer = nil
	for _, d := range base.datasets {
		if d.object.chunkMap != Unmapped {
			tx.maps[d.object.chunkMap-FirstMap].taken = true
		}
	}
	return tx, nil
}

// Base is the View that the Tx began with.
func (tx *Tx) Base() *View { return tx.base }

// NextCommit is the number that the commit will have.
func (tx *Tx) NextCommit() Commit { return tx.number }

// Placed is how many bytes have been placed so far, paddings included.
func (tx *Tx) Placed() int64 { return int64(tx.writer.placed) }

// Longest is the size of the longest piece that Place finds room for without
// growing the file, in bytes.
func (tx *Tx) Longest() int64 {
	return max(int64(tx.writer.run.size), tx.file.Longest())
}

// Longest is the longest piece of free space, in bytes.
func (f *File) Longest() int64 {
	s := &f.space
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pool.longest(0)
}

// longest is the size of the longest extent, in whole sectors, of those that do not end at
// the address end.
func (p *pool) longest(end uint64) int64 {
	longest := uint64(0)
	for c := numClasses - 1; c >= 0; c-- {
		for _, i := range p.classes[c] {
			if e := p.list[i]; e.end() != end {
				longest = max(longest, e.sectors().size)
			}
		}
		if longest >= ExtentUnit<<c {
			break
		}
	}
	return int64(longest)
}

// Abort ends the Tx without effect: everything that it placed is free again. After
// Commit, or when called again, it does nothing.
func (tx *Tx) Abort() {
	if tx.done {
		return
	}
	tx.end()
	tx.writer.abandon()
}

// end lets the next Tx begin.
func (tx *Tx) end() {
	tx.done = true
	tx.file.txBuffer = tx.writer.buffer[:0]
	tx.file.txOpen.Store(false)
}

// Place writes p into new space and returns its address, a multiple of 64. The
// addresses of consecutive calls follow each other, each padded to 64, as far as
// free space allows. What is placed must be named with Put before Commit; otherwise
// its space is lost, which Check reports.
func (tx *Tx) Place(p []byte) (uint64, error) {
	if len(p) == 0 {
		return 0, errors.New("no bytes to place")
	}
	address, err := tx.writer.alloc(uint64(len(p)))
	if err != nil {
		return 0, err
	}
	return address, tx.writer.write(address, p)
}

// replace places p in new space instead of the size bytes at *address, if there are any.
func (tx *Tx) replace(address *uint64, size uint64, p []byte) error {
	placed, err := tx.Place(p)
	if err != nil {
		return err
	}
	if *address != 0 && *address != undefinedAddress {
		tx.release(*address, size)
	}
	*address = placed
	return nil
}

// release says that the new root does not reach the size bytes at address.
func (tx *Tx) release(address, size uint64) {
	tx.freed = appendExtent(tx.freed, extent{address, padded(size)})
}

// own returns o, or the copy of it that the Tx may change.
func (tx *Tx) own(o *object) *object {
	if o.tx == tx {
		return o
	}
	c := *o
	c.tx, c.changed, c.pending = tx, false, nil
	c.members = slices.Clone(o.members)
	c.attributes = slices.Clone(o.attributes)
	if o.dataset != nil {
		d := *o.dataset
		d.dims = slices.Clone(d.dims)
		c.dataset = &d
	}
	return &c
}

// edit returns the Tx's own copy of the object at path, and copies all objects
// above it.
func (tx *Tx) edit(path string) (*object, error) {
	names, err := splitPath(path)
	if err = cmp.Or(tx.usable(), err); err != nil {
		return nil, err
	}
	tx.root = tx.own(tx.root)
	o := tx.root
	for _, name := range names {
		i, ok := o.find(name)
		if !ok {
			return nil, fmt.Errorf("object %s: %w", path, ErrNotFound)
		}
		child := tx.own(o.members[i].object)
		o.members[i].object = child
		o = child
	}
	return o, nil
}

// editParent is edit for the group that has the last name of path.
func (tx *Tx) editParent(path string) (parent *object, name string, err error) {
	names, err := splitPath(path)
	if err != nil {
		return nil, "", err
	}
	if len(names) == 0 {
		return nil, "", errors.New("the root group stays where it is")
	}
	name = names[len(names)-1]
	above := path[:len(path)-len(name)-1]
	if above == "" {
		above = "/"
	}
	parent, err = tx.edit(above)
	if err != nil {
		return nil, "", err
	}
	if parent.dataset != nil {
		return nil, "", fmt.Errorf("%s is a dataset", above)
	}
	return parent, name, nil
}

func (tx *Tx) add(path string, o *object) error {
	parent, name, err := tx.editParent(path)
	if err != nil {
		return err
	}
	i, found := parent.find(name)
	if found {
		return fmt.Errorf("%s is there already", path)
	}
	if err := checkLinkName(name); err != nil {
		return err
	}
	if tx.objects++; tx.objects > maxObjects {
		return fmt.Errorf("more than %d objects", maxObjects)
	}
	o.tx, o.changed = tx, true
	parent.members = slices.Insert(parent.members, i, member{name, o})
	parent.changed = true
	return nil
}

// usable reports why the Tx can do nothing more.
func (tx *Tx) usable() error {
	if tx.done {
		return errors.New("transaction is over")
	}
	return tx.file.writable()
}

// CreateGroup makes an empty group. The group above it must exist.
func (tx *Tx) CreateGroup(path string) error { return tx.add(path, new(object)) }

// EnsureGroup makes an empty group unless there is one, and reports whether it did.
func (tx *Tx) EnsureGroup(path string) (bool, error) {
	if path == "/" {
		return false, nil
	}
	parent, name, err := tx.editParent(path)
	if err != nil {
		return false, err
	}
	i, found := parent.find(name)
	switch {
	case found && parent.members[i].object.dataset != nil:
		return false, fmt.Errorf("%s is a dataset", path)
	case found:
		return false, nil
	}
	return true, tx.CreateGroup(path)
}

// ChunkMap is one of the two maps in which a file names chunks with their
// checksums, so that they are found and verified without the index of HDF5. A map
// has one dataset.
type ChunkMap uint8

// The chunk maps.
const (
	Unmapped ChunkMap = iota
	FirstMap
	SecondMap
)

// DatasetSpec describes a dataset to be made.
type DatasetSpec struct {
	Type       Datatype
	Dims       []uint64
	MaxDims    []uint64 // nil: the dimensions stay as Dims; see Unlimited
	Chunk      []uint32 // nil: contiguous
	Fletcher32 bool     // chunks carry a checksum that HDF5 verifies
	Shuffle    bool     // with Fletcher32: chunks are shuffled first
	Deflate    int      // with Fletcher32: chunks are deflated first, at a level of 1 to 9; 0: they are not
	Map        ChunkMap // which chunk map names the chunks too; one dimension only
	Zero       bool     // contiguous: zeros are written; otherwise the bytes are undefined
	Data       []byte   // contiguous: what is written, all of it; nil: see Zero
	Later      bool     // contiguous: Replace will give it its data before the commit
	Attributes []Attribute
}

// CreateDataset makes a dataset. A chunked one has no chunks yet; a contiguous one has
// its space, unless spec.Later. 4,096 bytes or more without spec.Data begin at a
// multiple of 4,096.
func (tx *Tx) CreateDataset(path string, spec DatasetSpec) (*TxDataset, error) {
	if spec.Deflate < 0 || spec.Deflate > maxDeflate {
		return nil, fmt.Errorf("dataset %s: deflate of level %d, want 0 to %d", path, spec.Deflate, maxDeflate)
	}
	d := &datasetHeader{
		packing: packing{spec.Shuffle, uint8(spec.Deflate)},
		Type:    spec.Type, dims: slices.Clone(spec.Dims), maxDims: slices.Clone(spec.MaxDims),
		chunk: slices.Clone(spec.Chunk), filtered: spec.Fletcher32, address: FirstExtent,
	}
	o := &object{dataset: d, attributes: slices.Clone(spec.Attributes), index: emptyIndex()}
	if err := tx.claimMap(o, spec.Map); err != nil {
		return nil, fmt.Errorf("dataset %s: %w", path, err)
	}
	if d.chunk != nil {
		d.nodeSize = indexNodeSize
	} else {
		d.size, _ = dataBytes(d.Type.size, d.dims)
	}
	if err := errors.Join(d.check(), d.checkKind(tx.file.options.Plain)); err != nil {
		return nil, fmt.Errorf("dataset %s: %w", path, err)
	}
	if spec.Data != nil && (d.chunk != nil || uint64(len(spec.Data)) != d.size) {
		return nil, fmt.Errorf("dataset %s: %d bytes of data, want %d", path, len(spec.Data), d.size)
	}
	if err := tx.add(path, o); err != nil {
		return nil, err
	}
	d.address = undefinedAddress // until it is placed
	if d.chunk == nil {
		if err := tx.placeContiguous(d, &spec); err != nil {
			return nil, fmt.Errorf("dataset %s: %w", path, err)
		}
	}
	return tx.pending(path, o), nil
}

// claimMap gives a new dataset its chunk map.
func (tx *Tx) claimMap(o *object, chunkMap ChunkMap) error {
	if chunkMap == Unmapped {
		return nil
	}
	if int(chunkMap) > len(tx.maps) || len(o.dataset.dims) != 1 || o.dataset.chunk == nil || o.dataset.any() {
		return fmt.Errorf("chunk map %d of a dataset of %v, chunks %v", chunkMap, o.dataset.dims, o.dataset.chunk)
	}
	m := &tx.maps[chunkMap-FirstMap]
	if m.taken {
		return fmt.Errorf("chunk map %d has its dataset", chunkMap)
	}
	m.taken = true
	o.chunkMap = chunkMap
	o.attributes = append(o.attributes, Attribute{Name: mapAttribute, Type: Uint(1), Data: []byte{byte(chunkMap - FirstMap)}})
	return nil
}

// zerosAtOnce is how many bytes of zeros wait for the disk. What others sync in that time
// has to wait for them too.
const zerosAtOnce = 4 << 20

func (tx *Tx) placeContiguous(d *datasetHeader, spec *DatasetSpec) error {
	if d.size == 0 || spec.Later {
		return nil
	}
	var err error
	if d.size >= growUnit && spec.Data == nil { // a region, which the caller writes in place
		d.address, err = tx.writer.allocAligned(d.size)
	} else {
		d.address, err = tx.writer.alloc(d.size)
	}
	if err == nil && spec.Data != nil {
		return tx.writer.write(d.address, spec.Data)
	}
	if err != nil || !spec.Zero {
		return err
	}
	zeros := make([]byte, min(d.size, writeUnit))
	for at := uint64(0); at < d.size; at += writeUnit {
		if at > 0 && at%zerosAtOnce == 0 {
			if err := tx.Sync(); err != nil {
				return err
			}
		}
		if err := tx.writer.write(d.address+at, zeros[:min(writeUnit, d.size-at)]); err != nil {
			return err
		}
	}
	return nil
}

// ReadPlaced reads bytes that Place has put at address in this Tx.
func (tx *Tx) ReadPlaced(p []byte, address uint64) error {
	if err := tx.usable(); err != nil {
		return err
	}
	if err := tx.writer.flush(); err != nil {
		return err
	}
	return tx.file.readAt(p, int64(address))
}

// Dataset returns the dataset at path, to be changed.
func (tx *Tx) Dataset(path string) (*TxDataset, error) {
	o, err := tx.edit(path)
	if err != nil {
		return nil, err
	}
	if o.dataset == nil {
		return nil, fmt.Errorf("dataset %s: %w", path, ErrNotFound)
	}
	return tx.pending(path, o), nil
}

func (tx *Tx) pending(path string, o *object) *TxDataset {
	if o.pending == nil {
		o.pending = &TxDataset{shaped: shaped{o}, tx: tx, path: path}
		if o.chunked() {
			o.pending.shape = o.dataset.indexShape()
			o.pending.stored = o.pending.shape.storedSize()
		}
	}
	return o.pending
}

// Remove takes an object, and all below it, out of the tree and frees its space.
func (tx *Tx) Remove(path string) error {
	o, err := tx.detach(path)
	if err != nil {
		return err
	}
	return o.walk(path, func(path string, o *object) error {
		tx.objects--
		if err := tx.releaseObject(o); err != nil {
			return fmt.Errorf("remove %s: %w", path, err)
		}
		return nil
	})
}

func (tx *Tx) detach(path string) (*object, error) {
	parent, name, err := tx.editParent(path)
	if err != nil {
		return nil, err
	}
	i, found := parent.find(name)
	if !found {
		return nil, fmt.Errorf("object %s: %w", path, ErrNotFound)
	}
	o := parent.members[i].object
	parent.members = slices.Delete(parent.members, i, i+1)
	parent.changed = true
	return o, nil
}

// releaseObject frees all that one object has in the file, and what the Tx has
// placed for it.
func (tx *Tx) releaseObject(o *object) error {
	if o.address != 0 {
		tx.release(o.address, uint64(len(o.header)))
	}
	if o.dataset == nil {
		return nil
	}
	if !o.chunked() {
		if o.dataset.size > 0 && o.dataset.address != undefinedAddress {
			tx.release(o.dataset.address, o.dataset.size)
		}
		return nil
	}
	if p := o.pending; p != nil {
		for _, e := range p.edits {
			if !e.delete {
				tx.release(e.Address, uint64(e.Size))
			}
		}
		p.edits, p.pages, p.removed = nil, nil, true
	}
	if o.chunkMap != Unmapped {
		tx.maps[o.chunkMap-FirstMap] = mapOwner{drop: true}
	}
	if o.address == 0 {
		return nil
	}
	tx.release(o.dataset.address, uint64(len(o.indexBytes)))
	tree := indexTree{tx.base, o.dataset.indexShape(), o.index}
	return tree.walk([4]uint64{}, indexSink{tx}.free, func(r Chunk) (bool, error) {
		tx.release(r.Address, uint64(r.Size))
		return true, nil
	})
}

// Move gives an object another path. The group of the new path must exist.
func (tx *Tx) Move(from, to string) error {
	if to == from || len(to) > len(from) && to[:len(from)+1] == from+"/" {
		return fmt.Errorf("move %s to %s, which is in it", from, to)
	}
	o, err := tx.detach(from)
	if err != nil {
		return err
	}
	tx.objects--
	return tx.add(to, tx.own(o))
}

// SetAttribute gives the object at path an attribute. It replaces one of the same
// name.
func (tx *Tx) SetAttribute(path string, a Attribute) error {
	if err := a.check(); err != nil {
		return fmt.Errorf("attribute %q of %s: %w", a.Name, path, err)
	}
	if n := len(a.append(nil)); n > maxMessageBytes { // here its name is known
		return fmt.Errorf("attribute %q of %s: attribute message of %d bytes, limit %d", a.Name, path, n, maxMessageBytes)
	}
	o, err := tx.attributeOwner(path, a.Name)
	if err != nil {
		return err
	}
	i := o.attribute(a.Name)
	if i < 0 {
		o.attributes = append(o.attributes, a.clone())
	} else {
		o.attributes[i] = a.clone()
	}
	o.changed = true
	return nil
}

// RemoveAttribute removes an attribute from the object at path. The error is
// ErrNotFound if there is none.
func (tx *Tx) RemoveAttribute(path, name string) error {
	o, err := tx.attributeOwner(path, name)
	if err != nil {
		return err
	}
	i := o.attribute(name)
	if i < 0 {
		return fmt.Errorf("attribute %q of %s: %w", name, path, ErrNotFound)
	}
	o.attributes = slices.Delete(o.attributes, i, i+1)
	o.changed = true
	return nil
}

func (tx *Tx) attributeOwner(path, name string) (*object, error) {
	o, err := tx.edit(path)
	if err != nil {
		return nil, err
	}
	if o.dataset != nil && name == mapAttribute {
		return nil, fmt.Errorf("attribute %q of %s belongs to the chunk map", name, path)
	}
	return o, nil
}
