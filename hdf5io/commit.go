package hdf5io

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/cidstore/cidstore/internal/crc32c"
	"github.com/cidstore/cidstore/internal/seedbug"
)

// Commit makes the Tx's tree the file's root and returns its View, which is then
// File.View. payload, up to MaxPayload bytes, goes with it. What a crash leaves:
//
//	data, nodes, headers, chunk maps, free map   the old root: nothing names them
//	sync
//	slot that does not hold the old root         the old root, or the new one if the slot is complete
//	sync of that slot
//	superblock                                   the new root; Open mends the superblock
//
// If Commit fails before the slot is written, the Tx can be aborted; after that,
// the File is poisoned.
func (tx *Tx) Commit(payload []byte) (*View, error) {
	return tx.commit(payload, tx.file.writeSuperblock)
}

// commitBoth is Commit followed by Settle: both slots name the new root.
func (tx *Tx) commitBoth(payload []byte) (*View, error) {
	f := tx.file
	return tx.commit(payload, func(s *commitSlot) error {
		// The superblock comes first: it must equal one of two valid slots.
		if err := f.writeSuperblock(s); err != nil {
			return err
		}
		return f.writeOtherSlot(s)
	})
}

// commit is Commit; it calls finish when the new root is durable.
func (tx *Tx) commit(payload []byte, finish func(*commitSlot) error) (*View, error) {
	f := tx.file
	if err := tx.usable(); err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	v, freed, err := tx.build(payload)
	if err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	if err := tx.checkFree(v, freed); err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	f.slotMu.Lock()
	defer f.slotMu.Unlock()
	// This comes before the slot, which must not name what is not on the disk.
	if err := tx.sync(); err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	v.slot.generation = f.generation + 1
	if err := f.writeSlot(1-f.slot, v.slot); err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	if err := finish(v.slot); err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	f.space.mu.Lock()
	if len(freed) > 0 {
		n := v.slot.commit
		f.hold(limboBatch{extents: freed, slots: n, pins: n, since: n})
	}
	f.space.mu.Unlock()
	f.publish(v)
	tx.end()
	return v, nil
}

// Sync makes durable what was placed so far, so that Commit has less to wait for.
func (tx *Tx) Sync() error {
	if err := tx.usable(); err != nil {
		return err
	}
	if err := tx.writer.flush(); err != nil {
		return err
	}
	return tx.sync()
}

func (tx *Tx) sync() error {
	s := &tx.file.space
	s.mu.Lock()
	size := s.unsynced
	s.unsynced = false // a growth from here on is synced by the next commit
	s.mu.Unlock()
	if seedbug.On("no-sync-before-slot") {
		return nil
	}
	return tx.file.syncAll(size)
}

// build writes everything that the new root reaches. It returns the View of the
// root, which lacks only the generation, and the space that the root before it
// reaches and the new one does not.
func (tx *Tx) build(payload []byte) (*View, []extent, error) {
	if len(payload) > MaxPayload {
		return nil, nil, fmt.Errorf("payload of %d bytes, limit %d", len(payload), MaxPayload)
	}
	if tx.number > maxCommit {
		return nil, nil, fmt.Errorf("commit %d, limit %d", tx.number, uint64(maxCommit))
	}
	tx.root = tx.own(tx.root)
	if err := tx.store(tx.root); err != nil {
		return nil, nil, err
	}
	v := &View{file: tx.file, root: tx.root}
	v.slot = &commitSlot{plain: tx.file.options.Plain, uuid: tx.file.uuid, commit: tx.number, payload: slices.Clone(payload), treeCRC: tx.root.treeCRC()}
	for i := range v.maps {
		var err error
		if v.maps[i], err = tx.storeMap(i); err != nil {
			return nil, nil, err
		}
		v.slot.maps[i] = v.maps[i].root()
	}
	freed, err := tx.storeFreeMap(v.slot)
	if err != nil {
		return nil, nil, err
	}
	if err := tx.writer.flush(); err != nil {
		return nil, nil, err
	}
	super := superblock{endOfFile: v.slot.endOfFile, root: tx.root.address}
	v.slot.superblock = [superblockSize]byte(super.append(nil))
	tx.root.walk("/", func(_ string, o *object) error {
		if o.tx == tx {
			o.tx, o.pending, o.changed = nil, nil, false
		}
		return nil
	})
	return v, freed, nil
}

// store writes what has changed in o and below it. Members come first, because a
// header holds their addresses.
func (tx *Tx) store(o *object) error {
	if o.tx != tx {
		return nil
	}
	for _, m := range o.members {
		before := m.object.address
		if err := tx.store(m.object); err != nil {
			return err
		}
		o.changed = o.changed || m.object.address != before
	}
	if o.pending != nil && o.chunked() {
		if err := tx.storeChunks(o.pending); err != nil {
			return fmt.Errorf("dataset %s: %w", o.pending.path, err)
		}
	}
	if !o.changed && o.address != 0 {
		return nil
	}
	header, err := o.encode()
	if err != nil {
		return err
	}
	if err := tx.replace(&o.address, uint64(len(o.header)), header); err != nil {
		return err
	}
	o.header = header
	return nil
}

// storeChunks brings a dataset's index up to date.
func (tx *Tx) storeChunks(t *TxDataset) error {
	if t.err != nil {
		return t.err
	}
	o := t.object
	if t.pruned {
		if err := t.prune(); err != nil {
			return err
		}
	}
	edits, err := t.sortedEdits()
	if err != nil {
		return err
	}
	if o.chunkMap != Unmapped {
		tx.maps[o.chunkMap-FirstMap].edits = t.pages
	}
	index, err := t.tree().update(indexSink{tx}, edits, tx.from, func(r Chunk) {
		tx.release(r.Address, uint64(r.Size))
	})
	if err != nil {
		return err
	}
	if index == o.index && o.indexBytes != nil && tx.from == moveNothing {
		return nil
	}
	bytes, err := index.append(nil, t.shape)
	if err != nil {
		return err
	}
	if err := tx.replace(&o.dataset.address, uint64(len(o.indexBytes)), bytes); err != nil {
		return err
	}
	o.index, o.indexBytes, o.changed = index, bytes, true
	return nil
}

// indexSink places index nodes.
type indexSink struct{ tx *Tx }

func (s indexSink) alloc(n int) (uint64, error)          { return s.tx.writer.alloc(uint64(n)) }
func (s indexSink) write(address uint64, p []byte) error { return s.tx.writer.write(address, p) }
func (s indexSink) free(address uint64, n int)           { s.tx.release(address, uint64(n)) }

// prune deletes the chunks that lie outside the dimensions: those of the base root
// and those that this Tx has written.
func (t *TxDataset) prune() error {
	for _, e := range t.edits {
		if t.outside(e.Coord) {
			t.Delete(e.Coord[:t.shape.rank]...)
		}
	}
	return t.tree().walk([4]uint64{}, nil, func(r Chunk) (bool, error) {
		if t.outside(r.Coord) {
			t.Delete(r.Coord[:t.shape.rank]...)
		}
		return true, nil
	})
}

// outside reports whether a chunk lies outside the dimensions.
func (t *TxDataset) outside(coord [4]uint64) bool {
	for k := range t.shape.rank {
		if coord[k] >= t.object.dataset.chunks(k) {
			return true
		}
	}
	return false
}

// sortedEdits returns the last edit of each chunk, in order. It frees what earlier
// edits have placed.
func (t *TxDataset) sortedEdits() ([]chunkEdit, error) {
	order := make([]editPlace, len(t.edits))
	for i := range t.edits {
		order[i] = editPlace{t.edits[i].Coord[0], int32(i)}
	}
	byCoord := func(a, b editPlace) int {
		if a.first != b.first {
			return cmp.Compare(a.first, b.first)
		}
		if t.shape.rank > 1 {
			if c := compareCoord(t.edits[a.number].Coord, t.edits[b.number].Coord); c != 0 {
				return c
			}
		}
		return cmp.Compare(a.number, b.number)
	}
	if !slices.IsSortedFunc(order, byCoord) {
		slices.SortFunc(order, byCoord)
	}
	out := make([]chunkEdit, 0, len(t.edits))
	for i, o := range order {
		e := &t.edits[o.number]
		if i+1 < len(order) && t.edits[order[i+1].number].Coord == e.Coord {
			if !e.delete {
				t.tx.release(e.Address, uint64(e.Size))
			}
			continue
		}
		for k := range t.shape.rank {
			if n := t.object.dataset.chunks(k); e.Coord[k] >= n && !e.delete {
				return nil, fmt.Errorf("chunk %v, dimension %d has %d", e.Coord[:t.shape.rank], k, n)
			}
		}
		out = append(out, *e)
	}
	return out, nil
}

// editPlace stands for an edit while edits are sorted. It has the first coordinate,
// which decides in most cases, and the number of the edit in the order in which
// they were made.
type editPlace struct {
	first  uint64
	number int32
}

// storeMap brings chunk map i up to date.
func (tx *Tx) storeMap(i int) (*chunkMap, error) {
	m, owner := tx.base.maps[i], &tx.maps[i]
	if owner.drop {
		for _, level := range m.levels {
			for _, r := range level {
				tx.release(r.address, mapNodeSize)
			}
		}
		m = new(chunkMap)
	}
	if len(owner.edits) == 0 && tx.from == moveNothing {
		return m, nil
	}
	slices.SortStableFunc(owner.edits, func(a, b pageEdit) int { return cmp.Compare(a.number, b.number) })
	last := owner.edits[:0]
	for k, e := range owner.edits {
		if k+1 == len(owner.edits) || owner.edits[k+1].number != e.number {
			last = append(last, e)
		}
	}
	return m.update(last, tx)
}

// freeMapSlack is how much longer a free map may become when its own space is
// taken: two extents are changed or added.
const freeMapSlack = 64

// storeFreeMap writes the free map, after everything else, and enters it and the
// end of the file into the slot. It returns what the commit frees.
func (tx *Tx) storeFreeMap(slot *commitSlot) ([]extent, error) {
	w := &tx.writer
	w.dropRun()
	if base := tx.base.slot; base.freeMapSize > 0 {
		tx.release(base.freeMapAddress, base.freeMapSize)
	}
	freed, err := sortExtents(tx.freed)
	if err != nil {
		return nil, err
	}
	p, _, err := tx.freeMap(freed)
	if err != nil {
		return nil, err
	}
	if tx.leave {
		pieces, size := roomToRemove(tx.root, uint64(len(p)), tx.file.space.least.Load())
		if err := tx.file.ReserveRoom(Room{Pieces: pieces + 1, Size: int64(size)}); err != nil { // one is for this free map
			return nil, err
		}
	}
	for {
		// If the file grows here, the map may become longer than room. Then this is
		// done again.
		room := padded(uint64(len(p)) + freeMapSlack)
		address, err := w.alloc(room)
		if err != nil {
			return nil, err
		}
		w.dropRun()
		if p, slot.endOfFile, err = tx.freeMap(freed); err != nil {
			return nil, err
		}
		if uint64(len(p)) > room {
			if freed, err = mergeExtents(freed, []extent{{address, room}}); err != nil {
				return nil, err
			}
			continue
		}
		p = append(p, make([]byte, room-uint64(len(p)))...)
		slot.freeMapAddress, slot.freeMapSize, slot.freeMapCRC = address, room, crc32c.Sum(p)
		return freed, w.write(address, p)
	}
}

// freeMap encodes the free map of the new root as things are now, and returns where
// the file ends. All that earlier commits freed counts as free, because only older
// roots reach it.
func (tx *Tx) freeMap(freed []extent) (p []byte, end uint64, err error) {
	s := &tx.file.space
	s.mu.Lock()
	defer s.mu.Unlock()
	free, err := s.pool.extents()
	if err != nil {
		return nil, 0, err
	}
	// All batches are merged at once: a reader of an old root may hold the space of
	// hundreds of commits.
	free = slices.Clone(free)
	for _, b := range s.limbo {
		free = append(free, b.extents...)
	}
	if free, err = sortExtents(free); err != nil {
		return nil, 0, err
	}
	if _, err := mergeExtents(free, freed); err != nil {
		return nil, 0, err
	}
	m := freeMap{free, freed}
	return m.append(nil), s.size, nil
}
