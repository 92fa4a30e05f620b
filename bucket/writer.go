package bucket

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/invariants"
	"github.com/cidstore/cidstore/internal/seedbug"
)

// Writer changes groups in one transaction: it folds changes into the rows of some,
// and keeps those of others as a new run. Groups come in order of their hashes,
// each at most once. Nothing is in the file's tree before Flush and the
// transaction's commit. After an error other than errCapacity the transaction must
// be aborted. A Writer is for one goroutine.
type Writer struct {
	tx     *hdf5io.Tx
	base   *Table
	now    int64
	commit hdf5io.Commit

	states, entries, mores *hdf5io.TxDataset

	runs     []run // those of the base, as they are after this commit
	absorbed int   // how many of them, the newest, the new run takes in
	pending  pendingRun

	*Memory
}

// Memory is what a Writer uses again for each group. Writers that come one after another may
// share one.
type Memory struct {
	later       gathering
	items       []Item
	bytes, page []byte
}

// NewWriter returns the Writer of a transaction on the View of base. now, in ns
// since 1970, is recorded for people to read. memory may be nil; nothing else may use it
// while the Writer is in use.
func NewWriter(tx *hdf5io.Tx, base *Table, now int64, memory *Memory) (*Writer, error) {
	if memory == nil {
		memory = new(Memory)
	}
	w := &Writer{tx: tx, base: base, now: now, commit: tx.NextCommit(), runs: slices.Clone(base.runs), Memory: memory}
	into := [...]**hdf5io.TxDataset{&w.states, &w.entries, &w.mores}
	for i, form := range datasetForms(base.geometry) {
		d, err := tx.Dataset(form.path)
		if err != nil {
			return nil, fmt.Errorf("bucket: %w", err)
		}
		*into[i] = d
	}
	return w, nil
}

// Placed is how many bytes the commit will take for what was given to the Writer so
// far, including the new run.
func (w *Writer) Placed() int64 { return w.tx.Placed() + w.pending.size() }

// errCapacity: a group would have more entries than it has room for, or a bucket
// more than it should have.
var errCapacity = errors.New("group has no room")

// Fold returns all live items of a group with changes applied, ascending, for the
// caller to Split and Rewrite. They are valid until the next Fold. changes ascend,
// one for each key, all under the group's prefix; a Deleted one removes its key.
func (w *Writer) Fold(id uint32, changes []Item) ([]Item, error) {
	_, p, err := w.base.page(id)
	if err != nil {
		return nil, fmt.Errorf("bucket: fold: %w", err)
	}
	s := p.state()
	if invariants.Enabled {
		mustAscend(changes, &s)
	}
	var only func(*run) bool
	if seedbug.On("fold-forgets-newest") {
		only = func(r *run) bool { return r.number < w.runs[len(w.runs)-1].number }
	}
	if _, err := w.base.later(&w.later, &s, changes, only); err != nil {
		return nil, fmt.Errorf("bucket: fold: %w", err)
	}
	later := len(w.later.order)
	w.items = slices.Grow(w.items[:0], later+int(s.Entries))[:later] // merging moves items down only
	if w.items, err = w.base.rowItems(w.items, id, p); err != nil {
		return nil, fmt.Errorf("bucket: fold: %w", err)
	}
	return w.later.merge(w.items[:0], w.items[later:]), nil
}

// Consume records that a group is folded: what runs hold for it no longer counts.
func (w *Writer) Consume(s *State) error {
	for i := range w.runs {
		n, err := w.base.countIn(&w.base.runs[i], s)
		if err != nil {
			return fmt.Errorf("bucket: fold: %w", err)
		}
		if w.runs[i].live < uint32(n) {
			return fmt.Errorf("bucket: fold: %s has %d live entries, the group takes %d", w.runs[i].name(), w.runs[i].live, n)
		}
		w.runs[i].live -= uint32(n)
	}
	return nil
}

// Fits reports whether a group of these items, of a local depth, can be divided so
// that no bucket has more than the threshold. It returns into how many buckets, as
// a power of two: the fewest that suffice, or the most that a group can have.
func (g Geometry) Fits(items []Item, depth uint8) (bucketBits uint8, ok bool) {
	most := uint8(bits.Len(uint(g.Buckets)) - 1)
	if len(items) > g.Capacity {
		return most, false
	}
	var counts [mostBuckets]int
	for i := range items {
		counts[bucketOf(items[i].Hash, depth, most)]++
	}
	for b := most; ; b-- {
		for _, n := range counts[:1<<b] {
			if n > g.Threshold {
				return min(b+1, most), b < most
			}
		}
		if b == 0 {
			return 0, true
		}
		for i := range 1 << (b - 1) {
			counts[i] = counts[2*i] + counts[2*i+1]
		}
	}
}

// Rewrite writes a complete group, which may be new. items ascend, lie under the
// prefix of s, and are not more than the capacity; without items the group has no
// row. s gives Prefix, LocalDepth, BucketBits and Created.
func (w *Writer) Rewrite(id uint32, s State, items []Item) error {
	g := w.base.geometry
	if len(items) > g.Capacity || s.LocalDepth > 64 {
		return fmt.Errorf("bucket: rewrite group %d: %d items, depth %d: %w", id, len(items), s.LocalDepth, errCapacity)
	}
	if invariants.Enabled {
		mustAscend(items, &s)
	}
	if n := uint64(id) + 1; n > w.states.Dims()[0] {
		for i, form := range datasetForms(g) {
			if err := [...]*hdf5io.TxDataset{w.states, w.entries, w.mores}[i].Resize(n * form.perGroup); err != nil {
				return fmt.Errorf("bucket: %w", err)
			}
		}
	}
	oldEntries, oldMores, err := w.chunksOf(id)
	if err != nil {
		return fmt.Errorf("bucket: rewrite: %w", err)
	}
	s.RowAddress, s.Commit, s.Folded, s.Entries = 0, w.commit, w.now, uint32(len(items))
	w.encode(uint64(id), &s, items)
	if len(items) > 0 {
		if s.RowAddress, err = w.tx.Place(w.bytes); err != nil {
			return fmt.Errorf("bucket: write group %d: %w", id, err)
		}
	}
	s.put(w.page)
	first, at := uint64(id)*g.stride(), s.RowAddress
	at = w.putChunks(w.entries, at, first, g.chunks(len(items)), oldEntries)
	w.putChunks(w.mores, at, first, g.chunks(int(s.Mores)), oldMores)
	if err := w.states.WritePage(uint64(id), w.page, hdf5io.Marks{}); err != nil {
		return fmt.Errorf("bucket: write group %d: %w", id, err)
	}
	return nil
}

// chunksOf returns how many chunks of entries and of more rows a group of the base
// has: none if it is new or unused.
func (w *Writer) chunksOf(id uint32) (entries, mores int, err error) {
	if uint64(id) >= w.base.groups {
		return 0, 0, nil
	}
	if used, err := w.base.used(id); err != nil || used == nil {
		return 0, 0, err
	}
	_, p, err := w.base.page(id)
	if err != nil {
		return 0, 0, err
	}
	g := w.base.geometry
	return g.chunks(p.entries()), g.chunks(p.mores()), nil
}

// Drop removes a group whose entries are in another one now. Its id is unused after
// the commit.
func (w *Writer) Drop(id uint32) error {
	entries, mores, err := w.chunksOf(id)
	if err != nil {
		return fmt.Errorf("bucket: drop: %w", err)
	}
	first := uint64(id) * w.base.geometry.stride()
	w.putChunks(w.entries, 0, first, 0, entries)
	w.putChunks(w.mores, 0, first, 0, mores)
	w.states.Delete(uint64(id))
	return nil
}

// putChunks names n chunks that lie one after another from an address on, and
// deletes those that the group had beyond them.
func (w *Writer) putChunks(d *hdf5io.TxDataset, address, first uint64, n, old int) (end uint64) {
	size := uint64(w.base.geometry.chunkBytes())
	for i := range uint64(n) {
		d.Put(address, uint32(size), first+i)
		address += size
	}
	for i := n; i < old; i++ {
		d.Delete(first + uint64(i))
	}
	return address
}

// encode makes the row of a group, w.bytes, and its page, w.page, except for the
// header.
func (w *Writer) encode(id uint64, s *State, items []Item) {
	g, seal, le := w.base.geometry, w.base.seal, binary.LittleEndian
	entryBytes := g.chunks(len(items)) * g.chunkBytes()
	s.Mores = uint32(countMores(items))
	size := entryBytes + g.chunks(int(s.Mores))*g.chunkBytes()
	w.bytes = slices.Grow(w.bytes[:0], size)[:size]
	clear(w.bytes)
	w.page = slices.Grow(w.page[:0], g.pageSize())[:g.pageSize()]
	clear(w.page)
	entries, mores := w.bytes[:entryBytes], w.bytes[entryBytes:]
	tags := page(w.page).tags(g)
	o := owner{id, w.commit}
	seed, shared := seal.seed(o.id, o.commit), uint(s.LocalDepth+s.BucketBits)
	entryEnd, moreEnd := 0, 0
	for b := range s.Buckets() {
		first, firstMore := entryEnd, moreEnd
		for entryEnd < len(items) && bucketOf(items[entryEnd].Hash, s.LocalDepth, s.BucketBits) == b {
			it := &items[entryEnd]
			le.PutUint16(tags[entryEnd*tagSize:], tagOf(it.Hash, shared))
			moreEnd += seal.putItem(entries[entryEnd*EntrySize:], mores[moreEnd*moreSize:], it, moreEnd-firstMore, seed)
			entryEnd++
		}
		record := page(w.page).bucket(b)
		le.PutUint16(record[offEntryEnd:], uint16(entryEnd))
		le.PutUint16(record[offMoreEnd:], uint16(moreEnd))
		le.PutUint32(record[offBucketCRC:], seal.partSum(seal.partSeed(o, b),
			entries[first*EntrySize:entryEnd*EntrySize], mores[firstMore*moreSize:moreEnd*moreSize], nil))
	}
}

func countMores(items []Item) (n int) {
	for i := range items {
		if items[i].Count > 1 {
			n++
		}
	}
	return n
}

// putItem writes an entry and, if it needs one, its more row over zeros. number is
// that of the more row in its part. It returns how many more rows it has written.
func (s sealer) putItem(entry, more []byte, it *Item, number int, seed uint32) int {
	entry = entry[:EntrySize]
	if it.Count <= 1 {
		putEntry(entry, it, 0)
		binary.LittleEndian.PutUint32(entry[offEntryCRC:], s.entrySum(seed, entry, nil))
		return 0
	}
	more = more[:moreSize]
	putEntry(entry, it, uint16(number)+1)
	putMore(more, it)
	binary.LittleEndian.PutUint32(entry[offEntryCRC:], s.entrySum(seed, entry, more))
	return 1
}

// Flush writes the new run, removes the runs of which no entry counts any more, and
// sets the number of groups, which never falls. It is called once, after the last
// change.
func (w *Writer) Flush(groups uint64) error {
	if groups < w.base.groups || groups > maxGroups || groups != w.states.Dims()[0] && groups != w.base.groups {
		return fmt.Errorf("bucket: flush %d groups, want %d", groups, w.states.Dims()[0])
	}
	return w.flushRuns()
}

// RunsSum is Table.RunsSum of what Flush has written.
func (w *Writer) RunsSum() uint32 { return w.base.seal.sumRuns(w.runs) }

// mustAscend panics if items are not what a group can hold. Only invariant builds
// call it.
func mustAscend(items []Item, s *State) {
	for i := range items {
		it := &items[i]
		if i > 0 && !Less(&items[i-1], it) {
			panic(fmt.Sprintf("bucket: item %d, key %v, is not above the one before", i, it.Key))
		}
		if !s.Covers(it.Hash) {
			panic(fmt.Sprintf("bucket: hash %#x is not under prefix %#x of %d bits", it.Hash, s.Prefix, s.LocalDepth))
		}
		if it.Count > inline || (it.Count == 0) != (it.Spilled || it.Deleted) {
			panic(fmt.Sprintf("bucket: key %v with %d values, spilled %t, deleted %t", it.Key, it.Count, it.Spilled, it.Deleted))
		}
	}
}
