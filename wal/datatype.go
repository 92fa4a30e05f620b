package wal

import "github.com/cidstore/cidstore/hdf5io"

// BlockType returns the type of a block of block bytes: it has as many records as fit,
// and the bytes that are left.
func BlockType(block int) hdf5io.Datatype {
	u64, u32, u16, u8 := hdf5io.Uint(8), hdf5io.Uint(4), hdf5io.Uint(2), hdf5io.Uint(1)
	record := hdf5io.Compound(RecordSize,
		hdf5io.Field{Name: "version_op", Offset: offVersionOp, Type: u8}, hdf5io.Field{Name: "flags", Offset: offFlags, Type: u8},
		hdf5io.Field{Name: "reserved", Offset: offReserved, Type: u16}, hdf5io.Field{Name: "checksum", Offset: offChecksum, Type: u32},
		hdf5io.Field{Name: "key_high", Offset: offKeyHigh, Type: u64}, hdf5io.Field{Name: "key_low", Offset: offKeyLow, Type: u64},
		hdf5io.Field{Name: "value_high", Offset: offValueHigh, Type: u64}, hdf5io.Field{Name: "value_low", Offset: offValueLow, Type: u64},
	)
	n := uint32(block) / RecordSize // the block is a power of two, never a multiple of RecordSize: some bytes are left
	return hdf5io.Compound(uint32(block),
		hdf5io.Field{Name: "records", Offset: 0, Type: hdf5io.Array(record, n)},
		hdf5io.Field{Name: "reserved", Offset: n * RecordSize, Type: hdf5io.Array(u8, uint32(block)-n*RecordSize)},
	)
}

// EpochType returns the type of an epoch record.
func EpochType() hdf5io.Datatype {
	u64 := hdf5io.Uint(8)
	return hdf5io.Compound(EpochSize,
		hdf5io.Field{Name: "epoch", Offset: offEpoch, Type: u64}, hdf5io.Field{Name: "first", Offset: offFirst, Type: u64},
		hdf5io.Field{Name: "end", Offset: offEnd, Type: u64},
		hdf5io.Field{Name: "anchor", Offset: offAnchor, Type: hdf5io.Array(hdf5io.Uint(1), macSize)},
	)
}
