package bucket

import (
	"fmt"

	"github.com/cidstore/cidstore/hdf5io"
)

const (
	groupPath   = "/buckets"
	statePath   = groupPath + "/state"
	entriesPath = groupPath + "/entries"
	morePath    = groupPath + "/more"

	// maxGroups is the number of group ids, which have 32 bits.
	maxGroups = 1 << 32
)

// datasetForm is what one of the datasets must be.
type datasetForm struct {
	path, description, units string
	element                  hdf5io.Datatype
	perGroup                 uint64 // elements of a group
	chunk                    uint32
	paged                    bool // with Fletcher32, and in the first chunk map
}

// datasetForms lists the three datasets, the pages first. They have one dimension
// each, so that programs that read tables open them.
func datasetForms(g Geometry) [3]datasetForm {
	capacity := uint64(g.Capacity)
	return [3]datasetForm{
		{statePath, "the page of each group: where its row lies, its buckets, their checksums and tags",
			"addresses: bytes; depth, bits: bits; folded: ns since 1970", pageType(g), 1, 1, true},
		{entriesPath, fmt.Sprintf("hash entries: those of group g begin at %d g", capacity), "value_count: values",
			entryType(), capacity, uint32(g.Chunk), false},
		{morePath, fmt.Sprintf("values 2 to 4 of the entries that have them: those of group g begin at %d g", capacity), "identifiers",
			moreType(), capacity, uint32(g.Chunk), false},
	}
}

// CreateDatasets makes the groups /buckets and /runs and the datasets of the
// first, without groups of entries.
func CreateDatasets(tx *hdf5io.Tx, g Geometry) error {
	if err := g.check(); err != nil {
		return fmt.Errorf("bucket: %w", err)
	}
	for _, path := range []string{groupPath, runsPath} {
		if err := tx.CreateGroup(path); err != nil {
			return fmt.Errorf("bucket: %w", err)
		}
	}
	for _, form := range datasetForms(g) {
		spec := hdf5io.DatasetSpec{
			Type: form.element, Dims: []uint64{0}, MaxDims: []uint64{hdf5io.Unlimited}, Chunk: []uint32{form.chunk},
			Attributes: hdf5io.Described(form.description, form.units),
		}
		if form.paged {
			spec.Fletcher32, spec.Map = true, hdf5io.FirstMap
		}
		if _, err := tx.CreateDataset(form.path, spec); err != nil {
			return fmt.Errorf("bucket: %w", err)
		}
	}
	return nil
}

func field(name string, offset int, t hdf5io.Datatype) hdf5io.Field {
	return hdf5io.Field{Name: name, Offset: uint32(offset), Type: t}
}

func entryType() hdf5io.Datatype {
	u64, u32, u16, u8 := hdf5io.Uint(8), hdf5io.Uint(4), hdf5io.Uint(2), hdf5io.Uint(1)
	return hdf5io.Compound(EntrySize,
		field("key_high", offKeyHigh, u64), field("key_low", offKeyLow, u64),
		field("value_high", offValueHigh, u64), field("value_low", offValueLow, u64),
		field("state_mask", offMask, u8), field("flags", offFlags, u8), field("more", offMore, u16),
		field("value_count", offCount, u32), field("relation", offRelation, u32), field("crc32c", offEntryCRC, u32))
}

// moreType is flat, so that tools show its fields as columns.
func moreType() hdf5io.Datatype {
	u64 := hdf5io.Uint(8)
	return hdf5io.Compound(moreSize,
		field("value_1_high", 0, u64), field("value_1_low", 8, u64),
		field("value_2_high", 16, u64), field("value_2_low", 24, u64),
		field("value_3_high", 32, u64), field("value_3_low", 40, u64))
}

func pageType(g Geometry) hdf5io.Datatype {
	u8, u16, u32, u64 := hdf5io.Uint(1), hdf5io.Uint(2), hdf5io.Uint(4), hdf5io.Uint(8)
	bucket := hdf5io.Compound(bucketSize,
		field("entry_end", offEntryEnd, u16), field("more_end", offMoreEnd, u16), field("crc32c", offBucketCRC, u32))
	return hdf5io.Compound(uint32(g.pageSize()),
		field("prefix", offPrefix, u64), field("row_address", offRowAddress, u64),
		field("commit", offCommit, u64), field("created", offCreated, u64), field("folded", offFolded, u64),
		field("entry_count", offEntryCount, u32), field("more_count", offMoreCount, u32),
		field("local_depth", offLocalDepth, u8), field("bucket_bits", offBucketBits, u8), field("flags", offPageFlags, u8),
		field("padding", offPadding, hdf5io.Array(u8, offReserved-offPadding)),
		field("reserved", offReserved, hdf5io.Array(u8, pageHeader-offReserved)),
		field("buckets", pageHeader, hdf5io.Array(bucket, uint32(g.Buckets))),
		field("tags", pageHeader+g.Buckets*bucketSize, hdf5io.Array(u16, uint32(g.Capacity))))
}

func runType() hdf5io.Datatype {
	u64, u32, u8 := hdf5io.Uint(8), hdf5io.Uint(4), hdf5io.Uint(1)
	return hdf5io.Compound(runRecordSize,
		field("number", offRunNumber, u64), field("low", offRunLow, u64), field("high", offRunHigh, u64),
		field("base", offRunBase, u64), field("entries_address", offRunEntries, u64), field("mores_address", offRunMores, u64),
		field("tags_address", offRunTags, u64), field("index_address", offRunIndex, u64),
		field("entry_count", offRunEntryCount, u32), field("more_count", offRunMoreCount, u32),
		field("slot_count", offRunSlots, u32), field("live", offRunLive, u32),
		field("shift", offRunShift, u32), field("index_crc32c", offRunCRC, u32),
		field("reserved", offRunReserved, hdf5io.Array(u8, reservedZero)))
}

func slotType() hdf5io.Datatype {
	u32 := hdf5io.Uint(4)
	return hdf5io.Compound(slotSize,
		field("first", offSlotFirst, u32), field("first_more", offSlotMore, u32), field("crc32c", offSlotCRC, u32))
}
