package hdf5io

import (
	"errors"
	"maps"
	"math"
	"slices"
)

// moveNothing is an address at which nothing lies.
const moveNothing = uint64(math.MaxUint64)

// MoveFrom makes the commit move what lies at the address from and after it: nodes
// of indexes and chunk maps, the chunks that chunk maps name, and those of the datasets
// of paths, whose addresses only the index may hold. It moves all headers too. It is
// called last, because what the Tx has placed stays where it is.
func (tx *Tx) MoveFrom(from int64, paths ...string) error {
	if err := tx.usable(); err != nil {
		return err
	}
	tx.from = uint64(max(from, 0))
	for _, path := range slices.Sorted(maps.Keys(tx.base.groups)) { // in one order, so that the result is the same file each time
		if err := tx.moveHeader(path); err != nil {
			return err
		}
	}
	for _, path := range slices.Sorted(maps.Keys(tx.base.datasets)) {
		if err := tx.moveDataset(tx.base.datasets[path], slices.Contains(paths, path)); err != nil {
			return err
		}
	}
	return nil
}

// moveHeader makes the commit place a header again, if the object is still there.
func (tx *Tx) moveHeader(path string) error {
	o, err := tx.edit(path)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err == nil {
		o.changed = true
	}
	return err
}

// moveDataset is MoveFrom for one dataset of the base root. chunks says whether to move
// its chunks if no chunk map has them.
func (tx *Tx) moveDataset(d *Dataset, chunks bool) error {
	if err := tx.moveHeader(d.path); err != nil || !d.object.chunked() {
		return err
	}
	to, err := tx.Dataset(d.path)
	switch {
	case errors.Is(err, ErrNotFound) || err == nil && to.object.address != d.object.address: // removed since
		return nil
	case err != nil:
		return err
	case d.pages != nil:
		return to.movePages(d)
	case chunks:
		return to.moveChunks(d)
	}
	return nil
}

// edited are the chunks that the Tx has written or deleted.
func (t *TxDataset) edited() map[[4]uint64]bool {
	all := make(map[[4]uint64]bool, len(t.edits))
	for i := range t.edits {
		all[t.edits[i].Coord] = true
	}
	return all
}

// moveChunks moves those chunks of d, which is t in the base root, that the Tx has
// not changed.
func (t *TxDataset) moveChunks(d *Dataset) error {
	edited := t.edited()
	return d.Walk(nil, func(c Chunk) (bool, error) {
		if c.Address+uint64(c.Size) <= t.tx.from || edited[c.Coord] || t.outside(c.Coord) {
			return true, nil
		}
		data, err := d.readChunk(c)
		if err != nil {
			return false, err
		}
		_, err = t.WritePacked(data, c.Skipped, c.Coord[:t.shape.rank]...)
		return err == nil, err
	})
}

// movePages is moveChunks for a dataset with a chunk map.
func (t *TxDataset) movePages(d *Dataset) error {
	edited := t.edited()
	for i := range min(d.pages.count, t.object.dataset.chunks(0)) {
		if p := d.pages.page(i); p == nil || p.address+uint64(p.size) <= t.tx.from || edited[[4]uint64{i}] {
			continue
		}
		p, err := d.Page(i)
		if err != nil {
			return err
		}
		if err := t.WritePage(i, p.Data(), Marks{math.MaxUint64, math.MaxUint64}); err != nil {
			return err
		}
	}
	return nil
}

// MoveContiguous moves a contiguous dataset, and returns it. It does not verify
// what it reads.
func (tx *Tx) MoveContiguous(path string) (*TxDataset, error) {
	d, err := tx.Dataset(path)
	if err != nil {
		return nil, err
	}
	h := d.object.dataset
	if d.object.chunked() || h.size == 0 {
		return d, nil
	}
	data, err := tx.base.Bytes(int64(h.address), int(h.size))
	if err != nil {
		return nil, err
	}
	d.object.changed = true
	return d, tx.replace(&h.address, h.size, data)
}

// Squeeze returns an address such that what is in use after it, which is not more
// than most bytes, fits into the gaps before it, with some room to spare. If there
// is none, it is the end of the file.
func (f *File) Squeeze(most int64) (from int64, err error) {
	s := &f.space
	s.mu.Lock()
	defer s.mu.Unlock()
	list, err := s.pool.extents()
	if err != nil {
		return 0, f.Poison(err)
	}
	gaps, used, end := s.pool.usable, uint64(0), s.size // gaps before end, bytes in use after it
	for _, e := range slices.Backward(list) {
		room := min(gaps-gaps/squeezeSpare, uint64(max(most, 0)))
		above := end - e.end()
		if used+above >= room {
			return int64(end - min(room-used, above)), nil
		}
		used, end = used+above, e.start
		gaps -= e.usable()
	}
	return int64(end), nil
}

const squeezeSpare = 8 // one part in this many of the gaps is left for what else is placed
