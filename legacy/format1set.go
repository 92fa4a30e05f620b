package legacy

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"github.com/cidstore/cidstore/ecc"
	"github.com/cidstore/cidstore/internal/crc32c"
	"github.com/cidstore/cidstore/keys"
)

// The buckets of format 1, and the sets of keys with more values than an entry has
// room for.
//
//	bucket state
//	     8     8  row_address     0: the bucket has no row
//	    16     8  commit          of the row
//	    32     8  tail_address    0: the bucket has no tail
//	    40     8  tail_commit
//	    60     4  sorted_count    entries of the row
//	    72     2  entry_chunks, more_chunks of the row, tail_count, tail_more
//	    85     1  flags           bit 0: in use
//
// A row is entry_chunks chunks of entries and more_chunks chunks of more rows; a
// tail is one chunk of entries and tail_more chunks. What a tail has for a key
// supersedes the row.
//
//	entry
//	     0    16  key
//	    16    16  the first value; spilled: 0, and the number of the set
//	    32     1  state_mask      code word; bit i: it has a value i; none: spilled
//	    33     1  flags           bit 0: the key is deleted, in tails alone
//	    34     2  more            1 + number of its more row, 48 bytes: values 1 to 3; 0: none
//	    44     4  crc32c          of bytes 0 to 43 and the more row; seed: bucket and commit
//
//	set state
//	     0    16  owner           the key
//	    16     8  row             tree: number of the root node
//	    24     8  row_address
//	    32     8  commit
//	    40     8  count           values
//	    56     8  sorted_count    equals count
//	    64     4  crc32c          of the row, seed: set and commit; of the root node, seed: node and commit
//	    68     2  class           values of the row, live ones first; 65535: a tree; 0: unused
//	    70     2  depth           tree: levels above the leaves
//
// A node has 4096 bytes: a leaf has values, the live ones first, an inner node up to
// 64 children: child 8 at 16, address 8, count 8, then at 48 commit 8 and crc32c 4.
const (
	offRow, offRowCommit, offTail, offTailCommit                = 8, 16, 32, 40
	offSorted, offEntryChunks, offMoreChunks, offTailCount      = 60, 72, 74, 76
	offTailMore, offBucketFlags                                 = 78, 85
	offEntryValue, offEntryMask, offEntryFlags, offMore         = 16, 32, 33, 34
	offEntryCRC                                                 = 44
	offSetRow, offSetAddress, offSetCommit, offSetCount         = 16, 24, 32, 40
	offSetSorted, offSetCRC, offClass, offDepth                 = 56, 64, 68, 70
	childSize, offChild, offChildAddress, offChildCount         = 64, 16, 24, 32
	offChildCommit, offChildCRC, classTree, nodeSize, maxLevels = 48, 56, 65535, 4096, 24
)

// stored is what the entries of a bucket say about a key.
type stored struct {
	values []keys.E
	set    uint64
	where  rowPlace
}

func (f *format1) bucket(number uint64, s []byte, _ bool) error {
	if s[offBucketFlags]&1 == 0 {
		return nil
	}
	items := make(map[keys.E]stored)
	for _, x := range []part{
		{"row", le.Uint64(s[offRow:]), le.Uint64(s[offRowCommit:]), int(le.Uint32(s[offSorted:])),
			uint64(le.Uint16(s[offEntryChunks:])), uint64(le.Uint16(s[offMoreChunks:]))},
		{"tail", le.Uint64(s[offTail:]), le.Uint64(s[offTailCommit:]), int(le.Uint16(s[offTailCount:])),
			1, uint64(le.Uint16(s[offTailMore:]))},
	} {
		if x.address == 0 {
			continue
		}
		if err := f.partEntries(number, x, items); err != nil {
			return err
		}
	}
	for _, key := range sorted(items) {
		item := items[key]
		if item.values == nil {
			var err error
			if item.values, err = f.spilledSet(key, item); err != nil {
				return err
			}
		}
		f.addEntry(int64(number), key, item.values, item.where)
	}
	return nil
}

// part is the row or the tail of a bucket.
type part struct {
	what                    string
	address, commit         uint64
	count                   int // of entries
	entryChunks, moreChunks uint64
}

// partEntries takes the entries of a part. Those after the first count are empty.
func (f *format1) partEntries(bucket uint64, x part, items map[keys.E]stored) error {
	place := fmt.Sprintf("the %s of bucket %d at %#x", x.what, bucket, x.address)
	p, err := f.extent(x.address, (x.entryChunks+x.moreChunks)*f.chunk)
	if err != nil {
		return f.damaged(place, err)
	}
	entries, mores, seed := p[:x.entryChunks*f.chunk], p[x.entryChunks*f.chunk:], f.seed(bucket, x.commit)
	for i := 0; i < len(entries)/entrySize; i++ {
		e := entries[i*entrySize:][:entrySize]
		if i < x.count || bytes.Count(e, []byte{0}) < entrySize {
			f.entry(e, mores, seed, rowPlace{"entry", uint64(i), place}, items)
		}
	}
	return nil
}

// entry takes one entry, if its checksum is right.
func (f *format1) entry(e, mores []byte, seed uint32, place rowPlace, items map[keys.E]stored) {
	key := identifierAt(e)
	var more []byte
	if n := int(le.Uint16(e[offMore:])); n > 0 && n <= len(mores)/entrySize {
		more = mores[(n-1)*entrySize:][:entrySize]
	}
	used, status := ecc.Decode(e[offEntryMask])
	mask := e[offEntryMask]
	if status == ecc.Corrected {
		e[offEntryMask] = ecc.Encode(used)
	}
	got, want := crc32c.Extend(crc32c.Extend(seed, e[:offEntryCRC]), more), le.Uint32(e[offEntryCRC:])
	if got != want || used > 1 && more == nil {
		f.lose(place, "%s: crc32c %#08x, want %#08x; what the entry says is left out", f.label(key), got, want)
		return
	}
	if mask != e[offEntryMask] {
		f.report(place, "%s: state mask %#02x is corrected to %#02x", f.label(key), mask, e[offEntryMask])
	}
	if e[offEntryFlags]&1 != 0 {
		delete(items, key)
		return
	}
	item := stored{where: place, set: le.Uint64(e[offEntryValue+8:])}
	slots := slices.Concat(e[offEntryValue:][:keys.Size], more)
	for i := range slotCount {
		if used>>i&1 == 1 {
			item.values = append(item.values, identifierAt(slots[i*keys.Size:]))
		}
	}
	items[key] = item
}

type set struct {
	state []byte
	sound bool // the checksum of its page is right
	used  bool
}

func (f *format1) noteSet(number uint64, s []byte, sound bool) error {
	if le.Uint16(s[offClass:]) != 0 {
		f.sets[number] = &set{state: s, sound: sound}
	}
	return nil
}

// spilledSet returns the values of the set that an entry names.
func (f *format1) spilledSet(key keys.E, item stored) ([]keys.E, error) {
	s := f.sets[item.set]
	if s == nil || s.used || identifierAt(s.state) != key {
		f.lose(item.where, "%s: value set %d is not there, or of another key: its values are lost", f.label(key), item.set)
		return nil, nil
	}
	s.used = true
	return f.setValues(item.set, s.state)
}

// unusedSets takes the sets whose entries are lost. Their states say which keys own
// them.
func (f *format1) unusedSets() error {
	for _, number := range slices.Sorted(maps.Keys(f.sets)) {
		s := f.sets[number]
		if s.used || !s.sound {
			continue
		}
		key, place := identifierAt(s.state), rowPlace{"set", number, "/values/state"}
		if e, there := f.entries[key]; there {
			f.report(place, "%s has an entry in bucket %d that does not name it: it is left out", f.label(key), e.bucket)
			continue
		}
		f.report(place, "%s has no entry: it is made of the set", f.label(key))
		values, err := f.setValues(number, s.state)
		if err != nil {
			return err
		}
		f.entries[key] = entry{values: values}
	}
	return nil
}

func (f *format1) setValues(number uint64, s []byte) ([]keys.E, error) {
	n := node{
		number: le.Uint64(s[offSetRow:]), address: le.Uint64(s[offSetAddress:]), commit: le.Uint64(s[offSetCommit:]),
		count: le.Uint64(s[offSetCount:]), crc: le.Uint32(s[offSetCRC:]),
	}
	place := rowPlace{"set", number, "/values/state"}
	if again := le.Uint64(s[offSetSorted:]); n.count == 0 || again != n.count {
		f.lose(place, "%d values, and %d in order; what it has is left out", n.count, again)
		return nil, nil
	}
	class, depth := le.Uint16(s[offClass:]), le.Uint16(s[offDepth:])
	if class == classTree {
		return f.tree(nil, n, int(depth))
	}
	what := fmt.Sprintf("the row of set %d at %#x", number, n.address)
	p, err := f.verified(what, n.address, keys.Size*uint64(class), n.crc, f.seed(number, n.commit))
	if err != nil || p == nil {
		return nil, err
	}
	return f.live(nil, p, n.count, what), nil
}

// node is a node of the tree of a set.
type node struct {
	number, address, commit, count uint64
	crc                            uint32
}

// tree appends the values below a node that is depth levels above the leaves.
func (f *format1) tree(values []keys.E, n node, depth int) ([]keys.E, error) {
	place := fmt.Sprintf("node %d of /values/nodes at %#x", n.number, n.address)
	if depth > maxLevels {
		f.lose(place, "depth %d, want up to %d", depth, maxLevels)
		return values, nil
	}
	p, err := f.verified(place, n.address, nodeSize, n.crc, f.seed(n.number, n.commit))
	if err != nil || p == nil {
		return values, err
	}
	if depth == 0 {
		return f.live(values, p, n.count, place), nil
	}
	for ; len(p) > 0 && le.Uint64(p[offChildAddress:]) != 0; p = p[childSize:] {
		child := node{
			number: le.Uint64(p[offChild:]), address: le.Uint64(p[offChildAddress:]), commit: le.Uint64(p[offChildCommit:]),
			count: le.Uint64(p[offChildCount:]), crc: le.Uint32(p[offChildCRC:]),
		}
		if values, err = f.tree(values, child, depth-1); err != nil {
			return values, err
		}
	}
	return values, nil
}

// live appends the first count values of a row or a leaf.
func (f *format1) live(values []keys.E, p []byte, count uint64, place string) []keys.E {
	if room := uint64(len(p) / keys.Size); count > room {
		f.lose(place, "%d values, want up to %d; they are left out", count, room)
		return values
	}
	for i := range count {
		values = append(values, identifierAt(p[i*keys.Size:]))
	}
	return values
}
