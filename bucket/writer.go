package bucket

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/invariants"
)

// Writer changes buckets in one transaction. Each bucket is changed at most once
// in it; nothing is in the file's tree before Flush and the transaction's commit.
// After an error other than a refusal the transaction is to be aborted. A Writer
// is for one goroutine.
type Writer struct {
	tx     *hdf5io.Tx
	base   *Table
	now    int64
	commit uint64

	state, entries, more, tail, tailMore *hdf5io.TxDataset

	changed []change
	ids     map[uint32]struct{} // of changed

	// Reused by each call.
	tailItems, union, items, merged []Item
	bytes                           []byte
	plan                            []int32 // see planSplice
}

// change is the new state of one bucket.
type change struct {
	id                uint32
	rowKept, tailKept bool // the same as in the base: their marks stay
	state             State
}

// NewWriter returns the Writer of a transaction on the View of base. now is ns
// since 1970, the last_compacted of the rows that it writes.
func NewWriter(tx *hdf5io.Tx, base *Table, now int64) (*Writer, error) {
	w := &Writer{tx: tx, base: base, now: now, commit: tx.NextCommit(), ids: make(map[uint32]struct{})}
	into := [5]**hdf5io.TxDataset{&w.state, &w.entries, &w.more, &w.tail, &w.tailMore}
	for i, form := range datasetForms(base.geometry) {
		d, err := tx.Dataset(form.path)
		if err != nil {
			return nil, fmt.Errorf("bucket: %w", err)
		}
		*into[i] = d
	}
	return w, nil
}

// Update merges changes into a bucket of the base. They ascend, one a key, all
// under the bucket's prefix; Deleted ones remove, absent ones among them do
// nothing; versions follow those of the entries that they supersede. The result
// is a new tail if that has room and the row is more than one chunk, and else a
// new row without a tail.
//
// If the bucket would have more live keys than the threshold, or if it has a
// chain, Update writes nothing and returns all live items, ascending, not nil,
// for the caller to Split and Rewrite. They are valid until the next Update or
// Fold.
func (w *Writer) Update(id uint32, changes []Item) (over []Item, err error) {
	if err := w.once(id); err != nil {
		return nil, err
	}
	var s State
	page, err := w.base.head(id, &s)
	if err != nil {
		return nil, fmt.Errorf("bucket: update: %w", err)
	}
	if invariants.Enabled {
		mustAscend(changes, &s)
	}
	if w.tailItems, err = w.base.tailItems(w.tailItems[:0], id, &s, page); err != nil {
		return nil, fmt.Errorf("bucket: update: %w", err)
	}
	if !w.tx.Tight() { // a full disk has no room for tails: they come on top of the row
		if done, err := w.updateTail(id, &s, page, changes); done || err != nil {
			return nil, err
		}
	}
	w.union = overlay(w.union[:0], w.tailItems, changes)
	if done, err := w.spliceRow(id, &s, page, w.union); done || err != nil {
		return nil, err
	}
	if w.items, err = w.base.rowItems(w.items[:0], id, &s, page); err != nil {
		return nil, fmt.Errorf("bucket: update: %w", err)
	}
	w.merged = merge(w.merged[:0], w.items, w.union)
	if len(w.merged) > w.base.geometry.Threshold || s.Next != 0 {
		if w.merged == nil {
			w.merged = []Item{} // a chain whose every key was deleted
		}
		return w.merged, nil
	}
	return nil, w.putBucket(id, &s, s, w.merged)
}

// updateTail writes tail and changes as a new tail, where that can be done.
func (w *Writer) updateTail(id uint32, s *State, page *hdf5io.Page, changes []Item) (done bool, err error) {
	g := w.base.geometry
	if s.Next != 0 || int(s.SortedCount) <= g.Chunk || unionSize(w.tailItems, changes) > g.Chunk {
		return false, nil
	}
	var row extent
	if err := w.base.rowOf(&row, id, s, page, false); err != nil {
		return false, fmt.Errorf("bucket: update: %w", err)
	}
	live, effect := int(s.EntryCount), false
	kept, tail := w.union[:0], w.tailItems
	for i := range changes {
		c := changes[i]
		for len(tail) > 0 && Less(&tail[0], &c) {
			kept, tail = append(kept, tail[0]), tail[1:]
		}
		before := Item{Deleted: true} // what the change supersedes
		inTail := len(tail) > 0 && tail[0].Key == c.Key
		inRow := false
		if !inTail || c.Deleted {
			e, found, err := w.base.findIn(&row, s, c.Hash, c.Key)
			if err != nil {
				return false, fmt.Errorf("bucket: update: %w", err)
			}
			if found {
				inRow, before = true, Item{Version: e.Version()}
			}
		}
		if inTail {
			before, tail, effect = tail[0], tail[1:], true
		}
		if !before.Deleted {
			live--
		}
		if !c.Deleted {
			live++
		}
		if c.Version = before.Version + 1; !c.Deleted || inRow {
			kept, effect = append(kept, c), true
		}
	}
	w.union = append(kept, tail...)
	if !effect {
		return true, nil // deletes of absent keys alone
	}
	if live > g.Threshold || live <= g.Chunk {
		return false, nil // too many, or so few that a row is no larger than a tail
	}
	return true, w.putTail(id, s, w.union, live)
}

// putTail places a bucket's new tail, or removes it if items is empty.
func (w *Writer) putTail(id uint32, old *State, items []Item, live int) error {
	s := *old
	s.EntryCount = uint32(live)
	if len(items) == 0 {
		w.dropTail(id, old)
		s.TailAddress, s.TailCommit, s.TailCRC, s.TailCount, s.TailMore, s.TailTags = 0, 0, 0, 0, 0, [MaxChunk]byte{}
		w.note(id, s, true, false)
		return nil
	}
	put, err := w.place(id, items)
	if err != nil {
		return err
	}
	chunkBytes := uint32(w.base.geometry.chunkBytes())
	w.tail.Put(put.address, chunkBytes, uint64(id), 0)
	if put.moreChunks > 0 {
		w.tailMore.Put(put.address+uint64(chunkBytes), chunkBytes, uint64(id), 0)
	} else if old.TailMore > 0 {
		w.tailMore.Delete(uint64(id), 0)
	}
	s.TailAddress, s.TailCommit, s.TailCRC = put.address, w.commit, put.crc
	s.TailCount, s.TailMore = uint16(len(items)), uint16(put.moreChunks)
	s.TailTags = [MaxChunk]byte{}
	for i := range items {
		s.TailTags[i] = byte(items[i].Hash)
	}
	w.note(id, s, true, false)
	return nil
}

// placed is an extent that was written.
type placed struct {
	address    uint64
	moreChunks int
	crc        uint32
}

// putBucket places a bucket as a row of items without a tail. next has its
// prefix, depth, created, next and overflow.
func (w *Writer) putBucket(id uint32, old *State, next State, items []Item) error {
	var row placed
	if len(items) > 0 {
		var err error
		if row, err = w.place(id, items); err != nil {
			return err
		}
	}
	w.putRow(id, old, next, len(items), row)
	return nil
}

// putRow notes a bucket whose row of count entries, if any, has been placed.
func (w *Writer) putRow(id uint32, old *State, next State, count int, row placed) {
	g := w.base.geometry
	s := State{
		Prefix: next.Prefix, LocalDepth: next.LocalDepth, Created: next.Created, Next: next.Next, Overflow: next.Overflow,
		InUse: true, LastCompacted: w.now, EntryCount: uint32(count), SortedCount: uint32(count),
	}
	if count > 0 {
		s.RowAddress, s.Commit, s.CRC = row.address, w.commit, row.crc
		s.EntryChunks, s.MoreChunks = uint16(g.chunks(count)), uint16(row.moreChunks)
	}
	chunkBytes := uint32(g.chunkBytes())
	at := s.RowAddress
	for i := range uint64(s.EntryChunks) {
		w.entries.Put(at, chunkBytes, uint64(id), i)
		at += uint64(chunkBytes)
	}
	for i := range uint64(s.MoreChunks) {
		w.more.Put(at, chunkBytes, uint64(id), i)
		at += uint64(chunkBytes)
	}
	w.dropRow(id, old, &s)
	w.dropTail(id, old)
	w.note(id, s, false, old.TailCount == 0)
}

// place writes items as one extent of bucket id.
func (w *Writer) place(id uint32, items []Item) (put placed, err error) {
	t := w.base
	var moreChunks int
	w.bytes, moreChunks = t.seal.appendExtent(w.bytes[:0], t.geometry, items, t.seal.seed(id, w.commit))
	put, err = w.placeBytes(id, w.bytes)
	put.moreChunks = moreChunks
	return put, err
}

// placeBytes writes an extent of bucket id.
func (w *Writer) placeBytes(id uint32, p []byte) (placed, error) {
	address, err := w.tx.Place(p)
	if err != nil {
		return placed{}, fmt.Errorf("bucket: write bucket %d: %w", id, err)
	}
	return placed{address: address, crc: w.base.seal.sum(p)}, nil
}

// dropRow deletes the chunks of a row that the new one has not.
func (w *Writer) dropRow(id uint32, old, s *State) {
	for i := s.EntryChunks; i < old.EntryChunks; i++ {
		w.entries.Delete(uint64(id), uint64(i))
	}
	for i := s.MoreChunks; i < old.MoreChunks; i++ {
		w.more.Delete(uint64(id), uint64(i))
	}
}

func (w *Writer) dropTail(id uint32, old *State) {
	if old.TailCount > 0 {
		w.tail.Delete(uint64(id), 0)
	}
	if old.TailMore > 0 {
		w.tailMore.Delete(uint64(id), 0)
	}
}

// Rewrite writes a whole bucket, new or not, without a tail: items ascend, lie
// under the prefix and are at most the threshold; none leaves it without a row.
// created is the commit in which the id was created; next is the id of its next
// overflow row, or 0; overflow: it is one itself.
func (w *Writer) Rewrite(id uint32, prefix uint64, depth uint8, created uint64, items []Item, next uint32, overflow bool) error {
	if err := w.once(id); err != nil {
		return err
	}
	if len(items) > w.base.geometry.Threshold || depth > 64 {
		return fmt.Errorf("bucket: rewrite bucket %d: %d items, depth %d; limits %d, 64", id, len(items), depth, w.base.geometry.Threshold)
	}
	old, err := w.oldState(id)
	if err != nil {
		return fmt.Errorf("bucket: rewrite: %w", err)
	}
	s := State{Prefix: prefix, LocalDepth: depth, Created: created, Next: next, Overflow: overflow}
	if invariants.Enabled {
		mustAscend(items, &s)
	}
	return w.putBucket(id, &old, s, items)
}

// oldState is the base's state of an id, or a zero one.
func (w *Writer) oldState(id uint32) (s State, err error) {
	if uint64(id) < w.base.rows {
		_, err = w.base.anyState(id, &s)
	}
	return s, err
}

// Fold merges a bucket's tail into its row; without a tail it does nothing. An
// overflow row has none.
func (w *Writer) Fold(id uint32) error {
	if err := w.once(id); err != nil {
		return err
	}
	var s State
	page, err := w.base.state(id, &s)
	if err != nil {
		return fmt.Errorf("bucket: fold: %w", err)
	}
	if s.TailCount == 0 {
		return nil
	}
	if w.tailItems, err = w.base.tailItems(w.tailItems[:0], id, &s, page); err != nil {
		return fmt.Errorf("bucket: fold: %w", err)
	}
	if w.items, err = w.base.rowItems(w.items[:0], id, &s, page); err != nil {
		return fmt.Errorf("bucket: fold: %w", err)
	}
	w.merged = merge(w.merged[:0], w.items, w.tailItems)
	return w.putBucket(id, &s, s, w.merged)
}

// Release takes a bucket out of use: its chunks go, its state becomes zero.
func (w *Writer) Release(id uint32) error {
	if err := w.once(id); err != nil {
		return err
	}
	old, err := w.oldState(id)
	if err != nil {
		return fmt.Errorf("bucket: release: %w", err)
	}
	w.dropRow(id, &old, &State{})
	w.dropTail(id, &old)
	w.note(id, State{}, false, false)
	return nil
}

// once refuses a second change of a bucket: what the first placed would be lost.
func (w *Writer) once(id uint32) error {
	if _, twice := w.ids[id]; twice {
		return fmt.Errorf("bucket: bucket %d changed twice in one transaction", id)
	}
	return nil
}

func (w *Writer) note(id uint32, s State, rowKept, tailKept bool) {
	w.ids[id] = struct{}{}
	w.changed = append(w.changed, change{id, rowKept, tailKept, s})
}

// Flush writes the pages of all changed states and sets the number of buckets,
// which never falls. It is called once, after the last change.
func (w *Writer) Flush(numBuckets uint64) error {
	if numBuckets < w.base.rows || numBuckets > maxBuckets {
		return fmt.Errorf("bucket: flush %d buckets, want %d to %d", numBuckets, w.base.rows, uint64(maxBuckets))
	}
	slices.SortFunc(w.changed, func(a, b change) int { return cmp.Compare(a.id, b.id) })
	if n := len(w.changed); n > 0 && uint64(w.changed[n-1].id) >= numBuckets {
		return fmt.Errorf("bucket: flush %d buckets, bucket %d was written", numBuckets, w.changed[n-1].id)
	}
	if numBuckets > w.base.rows {
		data := [5]*hdf5io.TxDataset{w.state, w.entries, w.more, w.tail, w.tailMore}
		for i, form := range datasetForms(w.base.geometry) {
			if err := data[i].Resize(form.dims(numBuckets)...); err != nil {
				return fmt.Errorf("bucket: flush: %w", err)
			}
		}
	}
	for rest := w.changed; len(rest) > 0; {
		page, n := rest[0].id/PageStates, 1
		for n < len(rest) && rest[n].id/PageStates == page {
			n++
		}
		if err := w.putPage(uint64(page), rest[:n]); err != nil {
			return fmt.Errorf("bucket: flush: page %d of states: %w", page, err)
		}
		rest = rest[n:]
	}
	return nil
}

// putPage writes one page of states with changes over those of the base.
func (w *Writer) putPage(i uint64, changes []change) error {
	w.bytes = append(w.bytes[:0], make([]byte, PageStates*StateSize)...)
	if i*PageStates < w.base.rows {
		page, err := w.base.page(i)
		if err != nil {
			return err
		}
		if page != nil {
			copy(w.bytes, page.Data())
		}
	}
	keep := [2]uint64{math.MaxUint64, math.MaxUint64}
	for j := range changes {
		c := &changes[j]
		n := c.id % PageStates
		AppendState(w.bytes[:n*StateSize], &c.state)
		if !c.rowKept {
			keep[0] &^= 1 << n
		}
		if !c.tailKept {
			keep[1] &^= 1 << n
		}
	}
	return w.state.WritePage(i, w.bytes, keep)
}

// mustAscend panics if items are not what a bucket can hold: invariant builds.
func mustAscend(items []Item, s *State) {
	for i := range items {
		it := &items[i]
		if i > 0 && !Less(&items[i-1], it) {
			panic(fmt.Sprintf("bucket: item %d, key %v, is not above the one before", i, it.Key))
		}
		if !s.Covers(it.Hash) {
			panic(fmt.Sprintf("bucket: hash %#x is not under prefix %#x of %d bits", it.Hash, s.Prefix, s.LocalDepth))
		}
		if it.Count > Inline || (it.Count == 0) != (it.Spilled || it.Deleted) {
			panic(fmt.Sprintf("bucket: key %v with %d values, spilled %t, deleted %t", it.Key, it.Count, it.Spilled, it.Deleted))
		}
	}
}
