package bucket

import (
	"fmt"

	"github.com/cidstore/cidstore/hdf5io"
)

const (
	groupPath    = "/buckets"
	statePath    = groupPath + "/state"
	entriesPath  = groupPath + "/entries"
	morePath     = groupPath + "/more"
	tailPath     = groupPath + "/tail"
	tailMorePath = groupPath + "/tail_more"

	// maxBuckets: a bucket id has 32 bits.
	maxBuckets = 1 << 32

	unlimited = ^uint64(0) // a maximum dimension
)

// datasetForm is what one of the datasets must be.
type datasetForm struct {
	path, description, units string
	element                  hdf5io.Datatype
	columns                  uint64 // second dimension; 0: there is one only
	chunk                    []uint32
	paged                    bool // Fletcher32 and chunk map 0
}

// dims are the dimensions for a number of buckets.
func (f *datasetForm) dims(rows uint64) []uint64 {
	if f.columns == 0 {
		return []uint64{rows}
	}
	return []uint64{rows, f.columns}
}

// datasetForms lists the five datasets, the states first.
func datasetForms(g Geometry) [5]datasetForm {
	entry, more := entryType(), moreType()
	chunk := []uint32{1, uint32(g.Chunk)}
	return [5]datasetForm{
		{statePath, "where each bucket's row and tail lie, and their checksums", "addresses: bytes; local_depth: bits; last_compacted: ns since 1970",
			stateType(), 0, []uint32{PageStates}, true},
		{entriesPath, "sorted hash entries of each bucket", "value_count: values", entry, g.columns(), chunk, false},
		{morePath, "values 2 to 4 of the entries that have them", "identifiers", more, g.columns(), chunk, false},
		{tailPath, "later hash entries of each bucket, superseding the sorted ones", "value_count: values", entry, uint64(g.Chunk), chunk, false},
		{tailMorePath, "values 2 to 4 of the tail's entries that have them", "identifiers", more, uint64(g.Chunk), chunk, false},
	}
}

// CreateDatasets makes the group /buckets and its five datasets, without buckets.
func CreateDatasets(tx *hdf5io.Tx, g Geometry) error {
	if err := g.Check(); err != nil {
		return fmt.Errorf("bucket: %w", err)
	}
	if err := tx.CreateGroup(groupPath); err != nil {
		return fmt.Errorf("bucket: %w", err)
	}
	for _, form := range datasetForms(g) {
		spec := hdf5io.DatasetSpec{
			Type: form.element, Dims: form.dims(0), MaxDims: form.dims(unlimited), Chunk: form.chunk,
			Attributes: []hdf5io.Attribute{text("description", form.description), text("units", form.units)},
		}
		if form.paged {
			spec.Fletcher32, spec.Map = true, 1
		}
		if _, err := tx.CreateDataset(form.path, spec); err != nil {
			return fmt.Errorf("bucket: %w", err)
		}
	}
	return nil
}

func text(name, value string) hdf5io.Attribute {
	return hdf5io.Attribute{Name: name, Type: hdf5io.String(len(value)), Data: []byte(value)}
}

func field(name string, offset uint32, of hdf5io.Datatype) hdf5io.Field {
	return hdf5io.Field{Name: name, Offset: offset, Type: of}
}

func entryType() hdf5io.Datatype {
	u8, u16, u32, u64 := hdf5io.Uint(1), hdf5io.Uint(2), hdf5io.Uint(4), hdf5io.Uint(8)
	return hdf5io.Compound(EntrySize,
		field("key_high", offKeyHigh, u64), field("key_low", offKeyLow, u64),
		field("value_high", offValueHigh, u64), field("value_low", offValueLow, u64),
		field("state_mask", offMask, u8), field("flags", offFlags, u8), field("more", offMore, u16),
		field("value_count", offCount, u32), field("version", offVersion, u32), field("crc32c", offEntryCRC, u32))
}

// moreType is flat, as are all compounds: tools show its fields as columns.
func moreType() hdf5io.Datatype {
	u64 := hdf5io.Uint(8)
	return hdf5io.Compound(MoreSize,
		field("value_1_high", offValue1, u64), field("value_1_low", offValue1+8, u64),
		field("value_2_high", offValue2, u64), field("value_2_low", offValue2+8, u64),
		field("value_3_high", offValue3, u64), field("value_3_low", offValue3+8, u64))
}

func stateType() hdf5io.Datatype {
	u8, u16, u32, u64 := hdf5io.Uint(1), hdf5io.Uint(2), hdf5io.Uint(4), hdf5io.Uint(8)
	return hdf5io.Compound(StateSize,
		field("prefix", offPrefix, u64), field("row_address", offRowAddress, u64),
		field("commit", offCommit, u64), field("created", offCreated, u64),
		field("tail_address", offTailAddress, u64), field("tail_commit", offTailCommit, u64),
		field("last_compacted", offLastCompacted, u64),
		field("entry_count", offEntryCount, u32), field("sorted_count", offSortedCount, u32),
		field("crc32c", offRowCRC, u32), field("tail_crc32c", offTailCRC, u32),
		field("entry_chunks", offEntryChunks, u16), field("more_chunks", offMoreChunks, u16),
		field("tail_count", offTailCount, u16), field("tail_more", offTailMore, u16),
		field("next", offNext, u32), field("local_depth", offLocalDepth, u8),
		field("flags", offStateFlags, u8), field("reserved", offReserved, u16),
		field("tail_tags", offTags, hdf5io.Array(u8, MaxChunk)))
}
