package bucket

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"sync/atomic"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/corrupt"
)

// A run record, one element of the attribute `runs` of /runs: oldest first.
// Little-endian.
//
// FORMAT.md: run record
//
//	offset  size  field            meaning
//	     0     8  number           commit that wrote it
//	     8     8  low              lowest hash for which it counts
//	    16     8  high             highest
//	    24     8  base             lowest hash of slot 0
//	    32     8  entries_address  of the dataset, bytes
//	    40     8  mores_address    0: it has no more rows
//	    48     8  tags_address
//	    56     8  index_address
//	    64     4  entry_count
//	    68     4  more_count
//	    72     4  slot_count
//	    76     4  live             entries that count: not folded into a group since
//	    80     4  shift            a slot has 2^shift hashes
//	    84     4  index_crc32c     seeded with file_uuid, 2^32 and number
//	    88    16  reserved         0
const (
	offRunNumber, offRunLow, offRunHigh, offRunBase = 0, 8, 16, 24
	offRunEntries, offRunMores, offRunTags          = 32, 40, 48
	offRunIndex, offRunEntryCount, offRunMoreCount  = 56, 64, 68
	offRunSlots, offRunLive, offRunShift, offRunCRC = 72, 76, 80, 84
	offRunReserved                                  = 88
	runRecordSize                                   = 104
)

// A slot record, one element of the index of a run. The index has one more than
// the run has slots: the last ends it.
//
// FORMAT.md: slot record
//
//	offset  size  field       meaning
//	     0     4  first       entry of the slot
//	     4     4  first_more  more row of the slot
//	     8     4  crc32c      of the slot's entries, its more rows and its tags, seeded
const (
	offSlotFirst, offSlotMore, offSlotCRC = 0, 4, 8
	slotSize                              = 12
)

var (
	_ [runRecordSize]byte = [offRunReserved + 16]byte{}
	_ [slotSize]byte      = [offSlotCRC + 4]byte{}
)

const (
	runsPath     = "/runs"
	runsName     = "runs"
	slotEntries  = 32  // about how many a slot has
	MostRuns     = 512 // their records fit one attribute
	mostOfRun    = math.MaxInt32
	reservedZero = 16
)

// run is one sorted run of entries that supersede those of older runs and of the
// rows of groups that were written before it. It is immutable; body is the part
// that several Views share.
type run struct {
	number                                       hdf5io.Commit
	low, high, base                              uint64
	entriesAt, moresAt, tagsAt, indexAt          uint64
	entries, mores, slots, live, shift, indexCRC uint32
	*body
}

// body is what was read of a run, once for all Views.
type body struct {
	index []byte          // verified
	err   error           // why there is no index: the run is damaged
	marks []atomic.Uint64 // one bit for each slot: it is verified
}

func (r *run) append(dst []byte) []byte {
	le := binary.LittleEndian
	for _, w := range [...]uint64{uint64(r.number), r.low, r.high, r.base, r.entriesAt, r.moresAt, r.tagsAt, r.indexAt} {
		dst = le.AppendUint64(dst, w)
	}
	for _, w := range [...]uint32{r.entries, r.mores, r.slots, r.live, r.shift, r.indexCRC} {
		dst = le.AppendUint32(dst, w)
	}
	return append(dst, make([]byte, reservedZero)...)
}

func parseRun(p []byte) (r run) {
	le := binary.LittleEndian
	for i, w := range [...]*uint64{(*uint64)(&r.number), &r.low, &r.high, &r.base, &r.entriesAt, &r.moresAt, &r.tagsAt, &r.indexAt} {
		*w = le.Uint64(p[8*i:])
	}
	for i, w := range [...]*uint32{&r.entries, &r.mores, &r.slots, &r.live, &r.shift, &r.indexCRC} {
		*w = le.Uint32(p[offRunEntryCount+4*i:])
	}
	return r
}

func (r *run) name() string { return fmt.Sprintf("run %d", r.number) }

// check reports why r cannot be a run of a root of the commit in a file that ends
// at end. before is the run before it, or nil.
func (r *run) check(p []byte, before *run, commit hdf5io.Commit, end int64) error {
	bad := func(format string, args ...any) error { return corrupt.Errorf(r.name(), -1, format, args...) }
	inside := func(at, n, size uint64) bool {
		return at%hdf5io.ExtentUnit == 0 && at <= uint64(end) && n*size <= uint64(end)-at && at > 0
	}
	switch {
	case !allZero(p[offRunReserved:]):
		return bad("reserved bytes are not zero")
	case r.number == 0 || r.number > commit || before != nil && r.number <= before.number:
		return bad("number %d, want one above the run before it and at most %d", r.number, commit)
	case r.entries == 0 || r.entries > mostOfRun || r.mores > r.entries || r.live == 0 || r.live > r.entries:
		return bad("%d entries, %d more rows, %d live", r.entries, r.mores, r.live)
	case r.shift > 64 || r.low > r.high || r.base > r.low || r.base != r.base>>r.shift<<r.shift:
		return bad("hashes %#x to %#x from %#x by 2^%d", r.low, r.high, r.base, r.shift)
	case r.slots == 0 || uint64(r.slots) <= (r.high-r.base)>>r.shift || r.slots > r.entries+1:
		return bad("%d slots of 2^%d hashes for %#x to %#x", r.slots, r.shift, r.base, r.high)
	case !inside(r.entriesAt, uint64(r.entries), EntrySize) || !inside(r.tagsAt, uint64(r.entries), tagSize) ||
		!inside(r.indexAt, uint64(r.slots)+1, slotSize) || r.mores > 0 && !inside(r.moresAt, uint64(r.mores), moreSize) ||
		r.mores == 0 && r.moresAt != 0:
		return bad("its datasets do not lie in a file of %d bytes", end)
	}
	return nil
}

// load reads and verifies the index of a run. If it is damaged, only the reads that
// need it fail.
func (r *run) load(view *hdf5io.View, seal sealer) {
	r.body = &body{marks: make([]atomic.Uint64, (r.slots+63)/64)}
	if r.index, r.err = r.readIndex(view, seal); r.err != nil {
		r.err = fmt.Errorf("%s: %w", r.name(), r.err)
	}
}

func (r *run) readIndex(view *hdf5io.View, seal sealer) ([]byte, error) {
	size := (int(r.slots) + 1) * slotSize
	p, err := view.Bytes(int64(r.indexAt), size)
	if err != nil {
		return nil, err
	}
	p = append(make([]byte, 0, size), p...)
	if got := seal.partSum(seal.seed(runID, r.number), p, nil, nil); got != r.indexCRC {
		return nil, corrupt.Errorf("index of "+r.name(), int64(r.indexAt), "crc32c %#08x, want %#08x", got, r.indexCRC)
	}
	if err := r.checkIndex(p); err != nil {
		return nil, err
	}
	return p, nil
}

// checkIndex reports what is wrong with an index whose checksum is right.
func (r *run) checkIndex(p []byte) error {
	le := binary.LittleEndian
	before, beforeMore := uint32(0), uint32(0)
	for i := range int(r.slots) + 1 {
		first, more := le.Uint32(p[i*slotSize:]), le.Uint32(p[i*slotSize+offSlotMore:])
		if first < before || more < beforeMore || i == 0 && (first != 0 || more != 0) || more-beforeMore > first-before {
			return corrupt.Errorf("index of "+r.name(), int64(r.indexAt), "slot %d begins at entry %d and more row %d, the one before at %d and %d",
				i, first, more, before, beforeMore)
		}
		before, beforeMore = first, more
	}
	if before != r.entries || beforeMore != r.mores {
		return corrupt.Errorf("index of "+r.name(), int64(r.indexAt), "it ends at entry %d and more row %d, want %d and %d", before, beforeMore, r.entries, r.mores)
	}
	return nil
}

// slot returns the number of the slot of a hash, which is from low to high.
func (r *run) slot(hash uint64) int { return int((hash - r.base) >> r.shift) }

// span returns the part of the run that slot i has. The index must be loaded.
func (r *run) span(i int) span {
	le := binary.LittleEndian
	p := r.index[i*slotSize:][: 2*slotSize : 2*slotSize]
	return span{
		first: int(le.Uint32(p)), firstMore: int(le.Uint32(p[offSlotMore:])), crc: le.Uint32(p[offSlotCRC:]),
		end: int(le.Uint32(p[slotSize:])), endMore: int(le.Uint32(p[slotSize+offSlotMore:])),
	}
}

func (r *run) marked(slot int) bool { return r.marks[slot/64].Load()&(1<<(slot%64)) != 0 }
func (r *run) mark(slot int)        { r.marks[slot/64].Or(1 << (slot % 64)) }

// tag returns the tag of a hash in its slot.
func (r *run) tag(hash uint64) uint16 { return tagOf(hash, r.shared()) }

// shared is how many bits the hashes of a slot's keys share.
func (r *run) shared() uint { return uint(64 - min(r.shift, 64)) }

// shiftFor returns how many hashes, as a power of two, each slot has in a run of n
// entries from low to high.
func shiftFor(low, high uint64, n int) uint32 {
	slots := uint64(max(1, n/slotEntries))
	if slots == 1 {
		return 64
	}
	return uint32(bits.Len64((high - low) / slots))
}

// RunBytes returns the most bytes that a run of n entries takes: each with a more row and a
// tag, the slots, and paddings. It does not count the headers of its datasets.
func RunBytes(n int64) int64 {
	return n*(EntrySize+moreSize+tagSize) + (n/slotEntries+3)*slotSize + 4*hdf5io.ExtentUnit
}

// sumRuns is the checksum of the records of runs; 0 if there are none. A store
// keeps it where no tool can change it, because old values would come back if a run
// were left out.
func (s sealer) sumRuns(runs []run) uint32 {
	if len(runs) == 0 {
		return 0
	}
	var p []byte
	for i := range runs {
		p = runs[i].append(p)
	}
	return s.partSum(s.uuid, p, nil, nil)
}

// loadRuns reads the records of a root's runs. known are the runs of an older root;
// what was read of them is not read again.
func loadRuns(view *hdf5io.View, seal sealer, known []run) ([]run, error) {
	a, found, err := view.Attribute(runsPath, runsName)
	if err != nil || !found {
		return nil, err
	}
	if len(a.Dims) != 1 || a.Dims[0] > MostRuns || !a.Type.Equal(runType()) {
		return nil, corrupt.Errorf("attribute runs of "+runsPath, -1, "%v of %v, want up to %d run records", a.Dims, a.Type, MostRuns)
	}
	runs := make([]run, a.Dims[0])
	for i := range runs {
		p := a.Data[i*runRecordSize:][:runRecordSize]
		runs[i] = parseRun(p)
		r := &runs[i]
		var before *run
		if i > 0 {
			before = &runs[i-1]
		}
		if err := r.check(p, before, view.Commit(), view.EndOfFile()); err != nil {
			return nil, err
		}
		for k := range known {
			if o := &known[k]; o.number == r.number && o.indexAt == r.indexAt && o.indexCRC == r.indexCRC && o.err == nil && o.slots == r.slots {
				r.body = o.body
			}
		}
		if r.body == nil {
			r.load(view, seal)
		}
	}
	return runs, nil
}
