package hdf5io

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"github.com/cidstore/cidstore/internal/corrupt"
)

// extent is the range [start, start+size) of the file, both multiples of 64.
type extent struct{ start, size uint64 }

func (e extent) end() uint64 { return e.start + e.size }

// appendExtent adds e to list; an extent that continues the last one is joined to it.
func appendExtent(list []extent, e extent) []extent {
	if e.size == 0 {
		return list
	}
	if n := len(list); n > 0 && list[n-1].end() == e.start {
		list[n-1].size += e.size
		return list
	}
	return append(list, e)
}

// sortExtents sorts list by address and joins neighbours, in place. Two that
// overlap are an error: some byte would be owned twice.
func sortExtents(list []extent) ([]extent, error) {
	byStart := func(a, b extent) int { return cmp.Compare(a.start, b.start) }
	if !slices.IsSortedFunc(list, byStart) {
		slices.SortFunc(list, byStart)
	}
	return joinExtents(list[:0], list, nil)
}

// mergeExtents returns the extents of two lists, both sorted, in one.
func mergeExtents(a, b []extent) ([]extent, error) {
	return joinExtents(make([]extent, 0, len(a)+len(b)), a, b)
}

// joinExtents appends a and b, both sorted, to out in order. out may be a[:0] if b is empty.
func joinExtents(out, a, b []extent) ([]extent, error) {
	end := uint64(0)
	for len(a) > 0 || len(b) > 0 {
		var e extent
		if len(b) == 0 || len(a) > 0 && a[0].start < b[0].start {
			e, a = a[0], a[1:]
		} else {
			e, b = b[0], b[1:]
		}
		if e.size == 0 {
			continue
		}
		if e.start < end {
			return nil, corrupt.Errorf("free space", int64(e.start), "extent of %d bytes begins before the end %#x of another", e.size, end)
		}
		end = e.end()
		out = appendExtent(out, e)
	}
	return out, nil
}

func sumExtents(list []extent) (bytes uint64) {
	for _, e := range list {
		bytes += e.size
	}
	return bytes
}

// A run is the free space that a Tx takes at once, to place one thing after another
// in it.
const (
	longRun = 1 << 20  // bytes from which a run is as good as any longer one, in a large file
	goodRun = 8 << 10  // the same in a small file, which should stay small
	runPart = 512      // in between: the file's size divided by this
	takeRun = 32 << 20 // bytes that a Tx takes of a longer extent: many write units, because the last one is cut short
	fitRun  = 8 << 10  // takeRun on a full disk

	// leastFit is the smallest thing for which a gap of its size is looked for on a
	// full disk. When something smaller is freed, the whole sectors in its gap are
	// too few for another thing of that size; such things are better placed one
	// after another.
	leastFit = 2 << 10

	// ShortBytes is the length of a node of values. On a full disk short things leave gaps of
	// that length and longer ones alone, as far as they can.
	ShortBytes = 4 << 10

	longClass  = 14 // class of extents from longRun on: log2 of longRun / ExtentUnit
	numClasses = longClass + 1
	// scanLimit bounds how many extents that may be too short are looked at before a
	// larger one, or growth, is taken instead.
	scanLimit = 32
	// minUsable is the shortest extent that counts as usable. Everything that a store
	// places fits into it, except the largest value sets and the free map of a large
	// file.
	minUsable = 16 << 10
)

const _ = uint(longRun - ExtentUnit<<longClass) // the class is that of longRun,
const _ = uint(ExtentUnit<<longClass - longRun) // exactly

// sectorSize is what a disk writes at once: when the power fails, all of it may be
// garbage.
const sectorSize = 512

// sectors is the part of e that is whole sectors. A Tx writes only there: if it
// shared a sector with a durable root, that root would be at risk. What is left at
// the edges waits until its neighbours are free too.
func (e extent) sectors() extent {
	start := (e.start + sectorSize - 1) &^ (sectorSize - 1)
	if end := e.end() &^ (sectorSize - 1); end > start {
		return extent{start, end - start}
	}
	return extent{start, 0}
}

// usable is how many bytes of e count as usable: see minUsable.
func (e extent) usable() uint64 {
	if size := e.sectors().size; size >= minUsable {
		return size
	}
	return 0
}

// pool is the space that a Tx may use now. Extents are in classes by the logarithm of
// their whole sectors, so that few are looked at to take one.
type pool struct {
	// list[:sorted] ascends and is joined; what was put since then follows. An
	// extent that was taken has size 0.
	list   []extent
	sorted int
	// classes hold indices of list, each one once; the lowest address among the
	// sorted ones is the last. Extents without a whole sector are in none.
	classes [numClasses][]int
	bytes   uint64 // in all
	usable  uint64 // of the extents with minUsable or more, in whole sectors
	good    int    // class from which on an extent is as good as any longer one
	inGaps  bool   // all extents that are long enough are equally good
	floor   uint64 // nothing is taken that begins below it
}

func classOf(size uint64) int {
	return min(bits.Len64(size/ExtentUnit)-1, longClass)
}

// account adds e to the sums, sign times.
func (p *pool) account(e extent, sign int) {
	bytes, usable := e.size, e.usable()
	if sign < 0 {
		bytes, usable = -bytes, -usable
	}
	p.bytes += bytes
	p.usable += usable
}

// lacks returns how many bytes a new extent has to have so that there is room r; 0 if there
// is.
func (p *pool) lacks(r Room) uint64 {
	piece, want := padded(uint64(max(r.Size, 0)))+sectorSize, uint64(max(r.Bytes, 0))
	if short := uint64(max(r.Short, 0)); short > 0 && want+short*ShortBytes > p.usable {
		want += (short - min(short, p.inShortGaps())) * ShortBytes
	}
	lack := max(want-min(want, p.usable), uint64(p.lacksPieces(r.Pieces, piece))*piece)
	if want := uint64(max(r.Commit.Bytes, 0)); want > 0 {
		waste := padded(uint64(r.Commit.Piece)) + 2*sectorSize
		if surely := p.surely(want, waste); surely < want {
			lack = max(lack, want-surely+waste)
		}
	}
	return lack
}

// surely returns how many bytes, up to want, a Tx can place that has called Tx.Surely, if it
// places nothing longer than waste - 2 sectors. It takes extents whole, and puts one back only
// when what comes next does not fit: so an extent has less than waste left when it is of no
// use any more.
func (p *pool) surely(want, waste uint64) (bytes uint64) {
	for c := numClasses - 1; bytes < want && c >= classOf(waste); c-- {
		for _, i := range p.classes[c] {
			if size := p.list[i].sectors().size; size > waste {
				bytes += size - waste
			}
		}
	}
	return min(bytes, want)
}

// wholly is take for a Tx that has called Tx.Surely: all of one of the longest extents.
func (p *pool) wholly(least uint64) (extent, bool) {
	least = (least + sectorSize - 1) &^ (sectorSize - 1)
	for c := longClass; c >= classOf(least); c-- {
		for k := len(p.classes[c]) - 1; k >= 0; k-- {
			if whole := p.list[p.classes[c][k]].sectors(); whole.size >= least {
				return p.cut(c, k, whole), true
			}
		}
	}
	return extent{}, false
}

// lacksPieces returns how many of n pieces of a size do not fit, each into one
// extent.
func (p *pool) lacksPieces(n int, size uint64) int {
	for c := numClasses - 1; n > 0 && c >= classOf(size); c-- {
		for _, i := range p.classes[c] {
			if n -= int(p.list[i].sectors().size / size); n <= 0 {
				return 0
			}
		}
	}
	return n
}

func (p *pool) enter(i int) {
	if whole := p.list[i].sectors(); whole.size > 0 {
		c := classOf(whole.size)
		p.classes[c] = append(p.classes[c], i)
	}
}

func (p *pool) put(e extent) {
	if e.size == 0 {
		return
	}
	p.list = append(p.list, e)
	p.account(e, +1)
	p.enter(len(p.list) - 1)
}

// setFileSize tells the pool how long the file is, which decides which extents are
// good.
func (p *pool) setFileSize(size uint64) {
	p.good = classOf(min(max(size/runPart, goodRun), longRun))
}

// take removes whole sectors: at least least bytes, and of a longer extent at most
// max(least, most). It prefers long extents, so that what is placed at one time is
// together in the file, and of the good ones the lowest, so that the file can be cut
// at its end. If there is no good one, it takes from the longest class.
func (p *pool) take(least, most uint64) (extent, bool) {
	least = (least + sectorSize - 1) &^ (sectorSize - 1)
	most = max(most&^(sectorSize-1), least)
	class, place, best := 0, 0, extent{}
	for c := longClass; c >= 0 && ExtentUnit<<(c+1) > least || c == longClass; c-- {
		if best.size > 0 && c < p.good && !p.inGaps {
			break
		}
		if k, whole := p.lowest(c, least); whole.size > 0 && (best.size == 0 || whole.start < best.start) {
			class, place, best = c, k, whole
		}
	}
	if best.size == 0 {
		return extent{}, false
	}
	return p.cut(class, place, extent{best.start, runSize(best, least, most)}), true
}

// lowest looks in class c, from its end, for the first extent that has at least
// least bytes: the one that was put there last, or else the lowest. It returns its
// place in the class and its whole sectors, of size 0 if there is none among those
// that it looks at.
func (p *pool) lowest(c int, least uint64) (k int, whole extent) {
	class := p.classes[c]
	limit := len(class)
	if c < longClass {
		limit = min(limit, scanLimit)
	}
	for k := len(class) - 1; k >= len(class)-limit; k-- {
		if whole := p.list[class[k]].sectors(); whole.size >= least && whole.start >= p.floor {
			return k, whole
		}
	}
	return 0, extent{}
}

// fit is take for a full disk. Of the extents that are long enough it cuts one of
// the shortest, so that long ones are left for what needs them. It takes at most
// fitRun bytes, so that what follows gets a gap of its own size.
func (p *pool) fit(least uint64) (extent, bool) {
	least = (least + sectorSize - 1) &^ (sectorSize - 1)
	for c := classOf(least); c <= longClass; c++ {
		class := p.classes[c]
		for k := len(class) - 1; k >= 0; k-- {
			if whole := p.list[class[k]].sectors(); whole.size >= least {
				return p.cut(c, k, extent{whole.start, min(whole.size, max(fitRun, least))}), true
			}
		}
	}
	return extent{}, false
}

// short is take for a short thing on a full disk. It prefers the longest gaps that are
// shorter than ShortBytes, and then the longest that do not count as usable, so that
// longer ones are left for what needs them.
func (p *pool) short(least uint64) (extent, bool) {
	for _, most := range [...]uint64{ShortBytes, minUsable} {
		for c := classOf(most) - 1; c > classOf(sectorSize); c-- {
			if k, whole := p.lowest(c, least); whole.size > 0 {
				return p.cut(c, k, whole), true
			}
		}
	}
	if p.usable == 0 {
		return p.fit(least)
	}
	return p.take(least, takeRun)
}

// inShortGaps is how many things of ShortBytes fit into gaps that do not count as usable.
func (p *pool) inShortGaps() (n uint64) {
	for c := classOf(ShortBytes); c < classOf(minUsable); c++ {
		for _, i := range p.classes[c] {
			n += p.list[i].sectors().size / ShortBytes
		}
	}
	return n
}

// runSize is how much of e a run takes. In a longer extent the run ends with a
// write unit, so that the next run is written in complete units.
func runSize(e extent, least, most uint64) uint64 {
	if e.size <= most {
		return e.size
	}
	if end := (e.start + most) &^ (writeUnit - 1); end >= e.start+least {
		return end - e.start
	}
	return most
}

// cut takes e, which begins with the first whole sector of the extent at place k of
// class c.
func (p *pool) cut(c, k int, e extent) extent {
	i := p.classes[c][k]
	old := p.list[i]
	p.account(old, -1)
	p.classes[c] = slices.Delete(p.classes[c], k, k+1)
	p.list[i] = extent{e.end(), old.end() - e.end()}
	p.account(p.list[i], +1)
	p.enter(i)
	p.put(extent{old.start, e.start - old.start})
	return e
}

// putAll adds sorted extents and puts the pool in order.
func (p *pool) putAll(list []extent) error {
	tail, err := sortExtents(p.list[p.sorted:])
	if err != nil {
		return err
	}
	if tail, err = mergeExtents(tail, list); err != nil {
		return err
	}
	all, err := mergeExtents(p.list[:p.sorted], tail)
	if err != nil {
		return err
	}
	*p = pool{list: all, sorted: len(all), classes: p.classes, good: p.good, inGaps: p.inGaps, floor: p.floor}
	for c := range p.classes {
		p.classes[c] = p.classes[c][:0]
	}
	for i := len(all) - 1; i >= 0; i-- {
		p.account(all[i], +1)
		p.enter(i)
	}
	return nil
}

// extents returns the pool's extents, in order. Valid until the pool changes.
func (p *pool) extents() ([]extent, error) {
	if err := p.putAll(nil); err != nil {
		return nil, err
	}
	return p.list, nil
}

// freeMap is what a root says about the space that it does not reach.
type freeMap struct {
	free  []extent
	freed []extent // by this commit: reached by the root before it
}

func (m *freeMap) append(dst []byte) []byte {
	return appendExtents(appendExtents(dst, m.free), m.freed)
}

func appendExtents(dst []byte, list []extent) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(list)))
	end := uint64(0)
	for _, e := range list {
		dst = binary.AppendUvarint(dst, (e.start-end)/ExtentUnit)
		dst = binary.AppendUvarint(dst, e.size/ExtentUnit)
		end = e.end()
	}
	return dst
}

// parseFreeMap reads the free map, which fills p and lies at offset in a file of
// end bytes. Zeros may follow its lists.
func parseFreeMap(p []byte, offset int64, end uint64) (m freeMap, err error) {
	rest := p
	for _, list := range []*[]extent{&m.free, &m.freed} {
		if *list, rest, err = parseExtents(rest, end); err != nil {
			return freeMap{}, corrupt.Errorf("free map", offset+int64(len(p)-len(rest)), "%w", err)
		}
	}
	for i, b := range rest {
		if b != 0 {
			return freeMap{}, corrupt.Errorf("free map", offset+int64(len(p)-len(rest)+i), "%#02x after the lists, want 0", b)
		}
	}
	if _, err := mergeExtents(m.free, m.freed); err != nil {
		return freeMap{}, err
	}
	return m, nil
}

var errFreeMap = errors.New("not a list of extents")

// parseExtents reads one list. Each extent takes at least two bytes, which bounds
// what is allocated.
func parseExtents(p []byte, end uint64) (list []extent, rest []byte, err error) {
	count, n := binary.Uvarint(p)
	if n <= 0 || count > uint64(len(p)-n)/2 {
		return nil, p, errFreeMap
	}
	p = p[n:]
	list = make([]extent, 0, count)
	at := uint64(0)
	for i := range count {
		gap, n := binary.Uvarint(p)
		if n <= 0 || gap > end/ExtentUnit || gap == 0 && i > 0 {
			return nil, p, errFreeMap
		}
		size, k := binary.Uvarint(p[n:])
		if k <= 0 || size == 0 || size > end/ExtentUnit {
			return nil, p, errFreeMap
		}
		e := extent{at + gap*ExtentUnit, size * ExtentUnit}
		if e.start < FirstExtent || e.end() > end {
			return nil, p, fmt.Errorf("extent of %d bytes at %#x, the file ends at %#x", e.size, e.start, end)
		}
		list = append(list, e)
		at = e.end()
		p = p[n+k:]
	}
	return list, p, nil
}
