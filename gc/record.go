package gc

import (
	"encoding/binary"
	"math"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/keys"
)

// Record is one deletion.
type Record struct {
	Key       keys.E
	Value     keys.E  // zero with Whole
	Timestamp float64 // seconds since 1970
	Whole     bool    // the key was deleted with all its values
}

// A deletion, one element of /deletion_log. Little-endian.
//
// FORMAT.md: deletion
//
//	offset  size  field       meaning
//	     0     8  key_high
//	     8     8  key_low
//	    16     8  value_high  0 with bit 0 of flags
//	    24     8  value_low   0 with bit 0 of flags
//	    32     8  timestamp   f64, seconds since 1970
//	    40     4  flags       bit 0: the whole key
//	    44     4  reserved    0
const (
	offKeyHigh, offKeyLow, offValueHigh, offValueLow = 0, 8, 16, 24
	offTimestamp, offFlags, offReserved              = 32, 40, 44
	// RecordSize is the size of a row, in bytes.
	RecordSize = 48

	flagWhole = 1
)

var _ [RecordSize]byte = [offReserved + 4]byte{}

func recordType() hdf5io.Datatype {
	return hdf5io.Compound(RecordSize,
		hdf5io.Field{Name: "key_high", Offset: offKeyHigh, Type: hdf5io.Uint(8)},
		hdf5io.Field{Name: "key_low", Offset: offKeyLow, Type: hdf5io.Uint(8)},
		hdf5io.Field{Name: "value_high", Offset: offValueHigh, Type: hdf5io.Uint(8)},
		hdf5io.Field{Name: "value_low", Offset: offValueLow, Type: hdf5io.Uint(8)},
		hdf5io.Field{Name: "timestamp", Offset: offTimestamp, Type: hdf5io.Float64()},
		hdf5io.Field{Name: "flags", Offset: offFlags, Type: hdf5io.Uint(4)},
		hdf5io.Field{Name: "reserved", Offset: offReserved, Type: hdf5io.Uint(4)})
}

// append encodes r. The value of a whole-key record is written as zero.
func (r Record) append(dst []byte) []byte {
	flags, value := uint32(0), r.Value
	if r.Whole {
		flags, value = flagWhole, keys.E{}
	}
	dst = value.AppendHDF5(r.Key.AppendHDF5(dst))
	dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(r.Timestamp))
	dst = binary.LittleEndian.AppendUint32(dst, flags)
	return binary.LittleEndian.AppendUint32(dst, 0)
}

// parseRecord reads the RecordSize bytes of b. Its errors do not say where these
// are in the file.
func parseRecord(b []byte) (Record, error) {
	u64 := func(at int) uint64 { return binary.LittleEndian.Uint64(b[at:]) }
	r := Record{
		Key:       keys.E{High: u64(offKeyHigh), Low: u64(offKeyLow)},
		Value:     keys.E{High: u64(offValueHigh), Low: u64(offValueLow)},
		Timestamp: math.Float64frombits(u64(offTimestamp)),
	}
	flags, reserved := binary.LittleEndian.Uint32(b[offFlags:]), binary.LittleEndian.Uint32(b[offReserved:])
	r.Whole = flags == flagWhole
	switch {
	case flags > flagWhole || reserved != 0:
		return Record{}, corrupt.Errorf("deletion", -1, "flags %#x, reserved %#x, want 0 or 1, and 0", flags, reserved)
	case r.Whole && !r.Value.IsZero():
		return Record{}, corrupt.Errorf("deletion", -1, "value %v of a whole key, want 0", r.Value)
	}
	return r, nil
}
