package bucket

import (
	"encoding/binary"
	"fmt"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/internal/seedbug"
	"github.com/cidstore/cidstore/vfs"
)

// pendingRun gathers the entries of a new run. They are sealed at the end, when
// their number is known, which determines how large a slot is.
type pendingRun struct {
	hashes         []uint64
	entries, mores []byte
	counts         []byte // more rows of each entry: 0 or 1
	giveBack       func() // gives back the memory that Expect has made, if it is outside of the heap
}

func (p *pendingRun) size() int64 {
	return int64(len(p.entries) + len(p.mores) + len(p.hashes)*tagSize)
}

// expectOutside is from how many entries on the room for a run is outside of the heap.
const expectOutside = 16 << 10

// Expect makes room for a new run of n entries. It is called once, and Free must follow.
func (w *Writer) Expect(n int) {
	p, counts := &w.pending, []byte(nil)
	if n < expectOutside {
		p.hashes, p.entries, counts = make([]uint64, n), make([]byte, n*EntrySize), make([]byte, n)
	} else {
		p.hashes, p.entries, counts = vfs.Alloc[uint64](n), vfs.Alloc[byte](n*EntrySize), vfs.Alloc[byte](n)
		hashes, entries := p.hashes, p.entries
		p.giveBack = func() { vfs.Free(hashes); vfs.Free(entries); vfs.Free(counts) }
	}
	p.hashes, p.entries, p.counts = p.hashes[:0], p.entries[:0], counts[:0]
}

// Free gives back the memory of the new run. The Writer is useless after that.
func (w *Writer) Free() {
	if free := w.pending.giveBack; free != nil {
		w.pending = pendingRun{}
		free()
	}
}

// Absorb makes the new run take in the newest runs of the base, as long as each is
// small, and not much larger than the expected number of new entries and all that
// was taken in so far. So many small commits leave few runs. It is for a Writer
// that is given all groups, beginning with the first; see Passed.
func (w *Writer) Absorb(expected int) {
	const small, ratio = 16 << 10, 3
	total := uint64(expected)
	for n := len(w.runs); w.absorbed < n; w.absorbed++ {
		r := &w.runs[n-1-w.absorbed]
		if uint64(r.entries) > small || uint64(r.live) > ratio*(total+8) || r.err != nil {
			return
		}
		total += uint64(r.live)
	}
}

// absorbs reports whether a run of the base is one that the new run takes in.
func (w *Writer) absorbs(r *run) bool {
	return w.absorbed > 0 && r.number >= w.runs[len(w.runs)-w.absorbed].number
}

// Next returns the lowest hash, not below hash, for which a run that the new one
// takes in may have an entry. ok is false if there is none.
func (w *Writer) Next(hash uint64) (next uint64, ok bool) {
	for k := len(w.runs) - w.absorbed; k < len(w.runs); k++ {
		r := &w.base.runs[k]
		if hash > r.high {
			continue
		}
		for i := r.slot(max(hash, r.low)); i <= r.slot(r.high); i++ {
			if s := r.span(i); s.first == s.end {
				continue
			}
			at := max(hash, r.low, r.base+uint64(i)<<r.shift)
			if !ok || at < next {
				next, ok = at, true
			}
			break
		}
	}
	return next, ok
}

// Keep puts the changes of a group, and what the runs that are taken in hold for
// it, into the new run. changes ascend, one for each key.
func (w *Writer) Keep(s *State, changes []Item) error {
	if w.absorbed == 0 {
		for i := range changes {
			w.pending.add(&changes[i])
		}
		return nil
	}
	if _, err := w.base.later(&w.later, s, changes, w.absorbs); err != nil {
		return fmt.Errorf("bucket: take in runs: %w", err)
	}
	for k := len(w.runs) - w.absorbed; k < len(w.runs); k++ {
		n, err := w.base.countIn(&w.base.runs[k], s)
		if err != nil {
			return fmt.Errorf("bucket: take in runs: %w", err)
		}
		w.runs[k].live -= uint32(n)
	}
	for _, p := range w.later.order {
		w.pending.add(&w.later.items[p.at])
	}
	return nil
}

func (p *pendingRun) add(it *Item) {
	p.hashes = append(p.hashes, it.Hash)
	n := len(p.entries)
	p.entries = append(p.entries, make([]byte, EntrySize)...)
	putEntry(p.entries[n:], it, 0)
	if it.Count <= 1 {
		p.counts = append(p.counts, 0)
		return
	}
	n = len(p.mores)
	p.mores = append(p.mores, make([]byte, moreSize)...)
	putMore(p.mores[n:], it)
	p.counts = append(p.counts, 1)
}

// Passed says that all groups below a hash have been given to the Writer, or, with
// end, all groups. It reports an error if entries that the runs taken in had there
// are neither in the new run nor folded.
func (w *Writer) Passed(hash uint64, end bool) error {
	for k := len(w.runs) - w.absorbed; k < len(w.runs); k++ {
		r := &w.runs[k]
		if !end && hash <= r.high {
			r.low = max(r.low, hash)
		} else if r.live != 0 {
			return corrupt.Errorf(r.name(), int64(r.entriesAt), "%d live entries are in no group", r.live)
		}
	}
	return nil
}

// countIn returns how many entries of a run count for a group.
func (t *Table) countIn(r *run, s *State) (int, error) {
	low, high := max(s.Prefix, r.low), min(s.Last(), r.high)
	if r.number <= s.Commit || low > high {
		return 0, nil
	}
	first, err := t.rank(r, low)
	if err != nil {
		return 0, err
	}
	if high == r.high {
		return int(r.entries) - first, nil
	}
	end, err := t.rank(r, high+1)
	return end - first, err
}

// rank returns the number of entries of a run that are below a hash. Most groups
// begin where a slot does; otherwise a few entries have to be looked at.
func (t *Table) rank(r *run, hash uint64) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	i := r.slot(hash)
	s := r.span(i)
	if hash == r.base+uint64(i)<<r.shift || s.first == s.end {
		return s.first, nil
	}
	var x part
	if err := t.slot(&x, r, i, ifAlways); err != nil {
		return 0, err
	}
	n := s.first + lowerTag(x.tags, x.count, r.tag(hash))
	for n < s.end && t.hasher.Hash(x.key(n-s.first)) < hash {
		n++
	}
	return n, nil
}

// flushRuns writes the new run and the records of all runs.
func (w *Writer) flushRuns() error {
	kept := w.runs[:0:0]
	changed := false
	for i := range w.runs {
		r := &w.runs[i]
		old := &w.base.runs[i]
		changed = changed || r.live != old.live || r.low != old.low || r.entriesAt != old.entriesAt
		if r.live > 0 && (r.live == old.live || !seedbug.On("run-freed-early")) {
			kept = append(kept, *r)
			continue
		}
		if err := w.remove(r); err != nil {
			return err
		}
	}
	defer func() { w.runs = kept }()
	if len(w.pending.hashes) > 0 {
		r, err := w.writeRun(&w.pending, w.commit)
		if err != nil {
			return fmt.Errorf("bucket: write run: %w", err)
		}
		if !seedbug.On("run-not-named") {
			kept, changed = append(kept, r), true
		}
	}
	if !changed {
		return nil
	}
	if len(kept) > MostRuns {
		return fmt.Errorf("bucket: %d runs, limit %d", len(kept), MostRuns)
	}
	if len(kept) == 0 {
		return w.tx.RemoveAttribute(runsPath, runsName)
	}
	a := hdf5io.Attribute{Name: runsName, Type: runType(), Dims: []uint64{uint64(len(kept))}}
	for i := range kept {
		a.Data = kept[i].append(a.Data)
	}
	return w.tx.SetAttribute(runsPath, a)
}

// runDataset is one of the datasets of a run.
type runDataset struct {
	path    string
	element hdf5io.Datatype
	count   uint64
	at      *uint64 // address, in the run
}

// datasets returns the datasets of a run: entries, tags, index, and more rows if it
// has any.
func (r *run) datasets() []runDataset {
	of := func(kind string, element hdf5io.Datatype, count uint64, at *uint64) runDataset {
		return runDataset{fmt.Sprintf("%s/%s_%d", runsPath, kind, r.number), element, count, at}
	}
	all := []runDataset{
		of("entries", entryType(), uint64(r.entries), &r.entriesAt),
		of("tags", hdf5io.Uint(tagSize), uint64(r.entries), &r.tagsAt),
		of("index", slotType(), uint64(r.slots)+1, &r.indexAt),
	}
	if r.mores > 0 {
		all = append(all, of("more", moreType(), uint64(r.mores), &r.moresAt))
	}
	return all
}

// remove removes the datasets of a run.
func (w *Writer) remove(r *run) error {
	for _, d := range r.datasets() {
		if err := w.tx.Remove(d.path); err != nil {
			return fmt.Errorf("bucket: remove %s: %w", r.name(), err)
		}
	}
	return nil
}

// writeRun seals entries as a run with the given number and places its datasets. The run
// has no body, which the Table of the new root reads.
func (w *Writer) writeRun(p *pendingRun, number hdf5io.Commit) (run, error) {
	n := len(p.hashes)
	r := run{
		number: number, low: p.hashes[0], high: p.hashes[n-1], entries: uint32(n), live: uint32(n),
		mores: uint32(len(p.mores) / moreSize),
	}
	r.shift = shiftFor(r.low, r.high, n)
	r.base = r.low >> r.shift << r.shift
	r.slots = uint32(r.slot(r.high)) + 1
	tags, index := w.base.seal.sealRun(&r, p)
	r.indexCRC = w.base.seal.partSum(w.base.seal.seed(runID, r.number), index, nil, nil)
	data := [][]byte{p.entries, tags, index, p.mores}
	for i, d := range r.datasets() {
		if err := w.create(d, data[i]); err != nil {
			return r, err
		}
	}
	return r, nil
}

// create makes a dataset of a run.
func (w *Writer) create(d runDataset, data []byte) error {
	made, err := w.tx.CreateDataset(d.path, hdf5io.DatasetSpec{Type: d.element, Dims: []uint64{d.count}, Data: data})
	if err != nil {
		return err
	}
	offset, _ := made.Extent()
	*d.at = uint64(offset)
	return nil
}

// sealRun numbers the more rows of a run by slot, seals its entries, and makes its
// tags and its index.
func (s sealer) sealRun(r *run, p *pendingRun) (tags, index []byte) {
	le := binary.LittleEndian
	tags = make([]byte, 0, len(p.hashes)*tagSize)
	index = make([]byte, 0, (int(r.slots)+1)*slotSize)
	o := owner{runID, r.number}
	seed := s.seed(o.id, o.commit)
	first, more := 0, 0
	for number := range int(r.slots) {
		if number%16 == 0 {
			vfs.Yield()
		}
		end, moreEnd := first, more
		for ; end < len(p.hashes) && r.slot(p.hashes[end]) == number; end++ {
			e := p.entries[end*EntrySize:][:EntrySize]
			var row []byte
			if p.counts[end] > 0 {
				row = p.mores[moreEnd*moreSize:][:moreSize]
				moreEnd++
				le.PutUint16(e[offMore:], uint16(moreEnd-more))
			}
			le.PutUint32(e[offEntryCRC:], s.entrySum(seed, e, row))
			tags = le.AppendUint16(tags, r.tag(p.hashes[end]))
		}
		index = le.AppendUint32(index, uint32(first))
		index = le.AppendUint32(index, uint32(more))
		index = le.AppendUint32(index, s.partSum(s.partSeed(o, number),
			p.entries[first*EntrySize:end*EntrySize], p.mores[more*moreSize:moreEnd*moreSize], tags[first*tagSize:end*tagSize]))
		first, more = end, moreEnd
	}
	index = le.AppendUint32(index, uint32(first))
	index = le.AppendUint32(index, uint32(more))
	return tags, le.AppendUint32(index, 0)
}

// Waits returns how many entries of runs count for a group.
func (t *Table) Waits(s *State) (n int, err error) {
	for i := range t.runs {
		in, err := t.countIn(&t.runs[i], s)
		if err != nil {
			return 0, err
		}
		n += in
	}
	return n, nil
}

// WaitingFor estimates how many entries of runs count for a group whose last hash
// is given. Those of a slot that lies partly in another group are counted for both.
func (t *Table) WaitingFor(s *State, last uint64) (n int) {
	for i := range t.runs {
		r := &t.runs[i]
		low, high := max(s.Prefix, r.low), min(last, r.high)
		if r.number <= s.Commit || low > high || r.err != nil {
			continue
		}
		n += r.span(r.slot(high)).end - r.span(r.slot(low)).first
	}
	return n
}
