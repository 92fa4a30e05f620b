package crashfs

import (
	"cmp"
	"encoding/binary"
	"hash/maphash"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
)

// Plan says which crashes to look at. The zero value is all classes at all cuts.
type Plan struct {
	Classes []Class // nil: all
	Subsets int     // limit of AllSubsets: 2 to the power of this many subsets; default 10
	Random  int     // RandomSubsets and Garbage: random images at each cut; default 16
	PerCut  int     // bound on the images at one cut, which are a random sample of all classes; 0: none
	Seed    uint64  // seed of all that is random
	From    int     // first cut
	To      int     // last cut; 0: the end of the trace
	// Shard of Shards: only every Shards-th image, beginning with the Shard-th, so
	// that several goroutines can share an enumeration. 0 of 0: all.
	Shard, Shards int
}

// Enumeration goes over the disks that a crash may leave. A cut is a point between
// two entries of the trace: cut n comes after n entries.
type Enumeration struct {
	trace *Trace
	plan  Plan
	ops   []op

	replay *FS               // all that was issued up to the cut, with the versions of its sectors
	work   *FS               // the image yielded last
	arenas map[uint64]*arena // memory of work by inode: equal to replay's except for changed pages

	hash   uint64            // of the bytes of replay
	pages  map[pageID]uint64 // what each page contributes
	seen   map[uint64]bool   // hashes of the images at cuts with the same marks
	marks  []any
	images int // distinct ones, of all shards

	// The present cut: its un-synced sectors and files, and the disk that is being
	// put together.
	slots []slot
	files []*inode
	disk  disk
}

// hashSeed is the same for all, so that images of several enumerations can be compared.
var hashSeed = maphash.MakeSeed()

type pageID struct {
	ino  uint64
	page int64
}

// slot is one un-synced sector at a cut.
type slot struct {
	ino      *inode
	sector   int64
	versions [][]byte // oldest, that is synced, first
	hashes   []uint64
}

// disk chooses, for everything that is not synced, what the crash left of it.
type disk struct {
	picks []int   // by slot: a version, or one of the damages below
	sizes []int64 // by file
	names int     // how many changes of names, from the first on, are on the disk
}

// What a sector may become besides a version of it.
const (
	pickZero     = -1 - iota // all zero
	pickGarbage              // random bytes
	pickOldFirst             // first half synced version, second half the newest
	pickNewFirst
	pickEnd
)

// Enumerate prepares to go over the crashes of what was recorded up to now.
func (t *Trace) Enumerate(p Plan) *Enumeration {
	ops := t.entries()
	p.Subsets, p.Random, p.To = cmp.Or(p.Subsets, 10), cmp.Or(p.Random, 16), cmp.Or(p.To, len(ops))
	if p.Classes == nil {
		p.Classes = allClasses[:]
	}
	return &Enumeration{trace: t, plan: p, ops: ops}
}

// Images yields one image after another, each once for every state of the marks. An
// image, and the file system made of it, are valid until the next one or the end of
// the loop; FS.Copy makes one that lasts.
func (e *Enumeration) Images() iter.Seq[*Image] {
	return func(yield func(*Image) bool) {
		e.start()
		defer e.finish()
		for cut := 0; cut <= min(e.plan.To, len(e.ops)); cut++ {
			if cut > 0 {
				e.advance(&e.ops[cut-1], cut > e.plan.From)
			}
			if cut == e.plan.From {
				e.hashAll()
			}
			if cut >= e.plan.From && !e.cut(cut, yield) {
				return
			}
		}
	}
}

func (e *Enumeration) start() {
	s := e.trace.fs
	s.mu.Lock()
	o := s.options
	o.Capacity = s.capacity
	s.mu.Unlock()
	e.replay = e.trace.base.restore(o, s.pool)
	e.replay.keep = true
	e.arenas = map[uint64]*arena{}
	e.hash, e.pages = 0, map[pageID]uint64{}
	e.seen, e.marks, e.images = map[uint64]bool{}, nil, 0
}

func (e *Enumeration) finish() {
	e.retire()
	e.replay.Release()
	for _, a := range e.arenas {
		e.replay.pool.put(a)
	}
	e.replay, e.arenas = nil, nil
}

// retire cuts the power of the image yielded last, and takes back the memory of the
// files that its user created.
func (e *Enumeration) retire() {
	if e.work != nil {
		e.work.Release()
		e.work = nil
	}
}

// hashAll makes the hash of everything, at the first cut.
func (e *Enumeration) hashAll() {
	for _, ino := range e.replay.inodes {
		e.rehash(ino, ino.used)
	}
}

// advance replays one entry. hash keeps the hash of everything up to date.
func (e *Enumeration) advance(o *op, hash bool) {
	if o.kind == Mark {
		// After another mark, the same disk must be checked again.
		e.marks = append(e.marks, o.mark)
		clear(e.seen)
		return
	}
	before := bitset(nil)
	if ino := e.replay.inodes[o.ino]; ino != nil && hash {
		before = slices.Clone(ino.changed)
		ino.changed.clear()
	}
	e.replay.apply(o)
	if before != nil {
		ino := e.replay.inodes[o.ino]
		e.rehash(ino, ino.changed)
		for i, word := range before {
			ino.changed[i] |= word
		}
	}
}

// rehash updates the hash of everything after changes to some pages of a file.
func (e *Enumeration) rehash(ino *inode, pages bitset) {
	pages.each(func(page int64) {
		h := uint64(0)
		first, end := sectors(page*pageSize, int64(len(ino.page(page))))
		for s := first; s < end; s++ {
			h ^= e.sectorHash(ino.id, s, ino.sector(s))
		}
		id := pageID{ino.id, page}
		e.hash ^= e.pages[id] ^ h
		e.pages[id] = h
	})
}

// sectorHash is the hash of a sector's bytes and place. It is 0 for zeros, so that
// a hole is equal to written zeros.
func (e *Enumeration) sectorHash(ino uint64, sector int64, p []byte) uint64 {
	if allZero(p) {
		return 0
	}
	return mix(maphash.Bytes(hashSeed, p), ino, uint64(sector))
}

func mix(h uint64, parts ...uint64) uint64 {
	for _, p := range parts {
		h = (h ^ p) * 0x9e3779b97f4a7c15
		h ^= h >> 29
	}
	return h
}

// cut goes over the images of one cut. It returns false if the loop ended.
func (e *Enumeration) cut(cut int, yield func(*Image) bool) bool {
	e.gather()
	for _, f := range e.families(cut) {
		for _, i := range f.chosen {
			f.build(i)
			h := e.diskHash(cut)
			if e.seen[h] {
				continue
			}
			e.seen[h] = true
			e.images++
			if e.plan.Shards > 1 && (e.images-1)%e.plan.Shards != e.plan.Shard {
				continue
			}
			img := &Image{Class: f.class, Cut: cut, Index: i, Marks: slices.Clip(e.marks), Hash: h, e: e}
			if cut > 0 {
				img.last = &e.ops[cut-1]
			}
			ok := yield(img)
			img.e = nil
			if !ok {
				return false
			}
		}
	}
	return true
}

// gather lists what is not synced at the cut.
func (e *Enumeration) gather() {
	e.slots, e.files = e.slots[:0], e.files[:0]
	for _, id := range slices.Sorted(maps.Keys(e.replay.inodes)) {
		ino := e.replay.inodes[id]
		e.files = append(e.files, ino)
		for _, s := range ino.dirtySectors() {
			u := ino.unsynced[s]
			sl := slot{ino: ino, sector: s, versions: append([][]byte{u.old}, u.versions...)}
			for _, v := range sl.versions {
				sl.hashes = append(sl.hashes, e.sectorHash(id, s, v))
			}
			e.slots = append(e.slots, sl)
		}
	}
	e.disk = disk{make([]int, len(e.slots)), make([]int64, len(e.files)), 0}
}

// issued makes a disk with everything that was issued.
func (e *Enumeration) issued() {
	for i := range e.slots {
		e.disk.picks[i] = len(e.slots[i].versions) - 1
	}
	for i, ino := range e.files {
		e.disk.sizes[i] = ino.size.Load()
	}
	e.disk.names = len(e.replay.names.pending)
}

// synced makes a disk with only what was synced.
func (e *Enumeration) synced() {
	clear(e.disk.picks)
	for i, ino := range e.files {
		e.disk.sizes[i] = ino.durable
	}
	e.disk.names = 0
}

// content returns the bytes that the crash at the cut left of a slot; damaged
// ones are put together in buf.
func (e *Enumeration) content(cut, i int, buf *[sectorSize]byte) []byte {
	sl := &e.slots[i]
	oldest, newest := sl.versions[0], sl.versions[len(sl.versions)-1]
	half := sectorSize / 2
	switch pick := e.disk.picks[i]; pick {
	case pickZero:
		return zeroSector[:]
	case pickGarbage:
		rng := e.random(cut, i, int(Garbage))
		for at := 0; at < sectorSize; at += 8 {
			binary.LittleEndian.PutUint64(buf[at:], rng.Uint64())
		}
	case pickOldFirst:
		copy(buf[copy(buf[:half], oldest):], newest[half:])
	case pickNewFirst:
		copy(buf[copy(buf[:half], newest):], oldest[half:])
	default:
		return sl.versions[pick]
	}
	return buf[:]
}

// random returns the source for one purpose at one cut, the same in every run.
func (e *Enumeration) random(cut, i, purpose int) *rand.Rand {
	return rand.New(rand.NewPCG(e.plan.Seed, mix(uint64(cut), uint64(i), uint64(purpose))))
}

// diskHash is the hash of the disk that was put together.
func (e *Enumeration) diskHash(cut int) uint64 {
	h := e.hash
	var buf [sectorSize]byte
	at := 0
	for n, ino := range e.files {
		size := e.disk.sizes[n]
		for ; at < len(e.slots) && e.slots[at].ino == ino; at++ {
			sl, pick := &e.slots[at], e.disk.picks[at]
			h ^= sl.hashes[len(sl.hashes)-1]
			switch left := size - sl.sector*sectorSize; {
			case left <= 0:
			case pick >= 0 && left >= sectorSize:
				h ^= sl.hashes[pick]
			default:
				h ^= e.sectorHash(ino.id, sl.sector, cutSector(e.content(cut, at, &buf), left, &buf))
			}
		}
		if s, ok := ino.syncedTail(size); ok {
			left := size % sectorSize
			h ^= e.sectorHash(ino.id, s, ino.sector(s)) ^ e.sectorHash(ino.id, s, cutSector(ino.sector(s), left, &buf))
		}
		h ^= mix(uint64(size), ino.id, 1)
	}
	for name, ino := range e.replay.names.prefix(e.disk.names) {
		h ^= mix(maphash.String(hashSeed, name), ino.id, 2)
	}
	return h
}

// cutSector replaces what follows the first left bytes of a sector by zeros.
func cutSector(p []byte, left int64, buf *[sectorSize]byte) []byte {
	if left >= sectorSize {
		return p
	}
	n := copy(buf[:], p[:left])
	clear(buf[n:])
	return buf[:]
}
