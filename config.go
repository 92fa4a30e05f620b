package cidstore

import (
	"encoding/binary"
	"math"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/wal"
)

const (
	configPath = "/config"
	// Version is the version of this module.
	Version = "0.1.0"
	// FormatVersion is the version of the file format that this module writes.
	FormatVersion = 2
)

func u64Attribute(name string, words ...uint64) hdf5io.Attribute {
	a := hdf5io.Attribute{Name: name, Type: hdf5io.Uint(8)}
	if len(words) > 1 {
		a.Dims = []uint64{uint64(len(words))}
	}
	for _, w := range words {
		a.Data = binary.LittleEndian.AppendUint64(a.Data, w)
	}
	return a
}

func u32Attribute(name string, word uint32) hdf5io.Attribute {
	return hdf5io.Attribute{Name: name, Type: hdf5io.Uint(4), Data: binary.LittleEndian.AppendUint32(nil, word)}
}

func bytesAttribute(name string, p []byte) hdf5io.Attribute {
	return hdf5io.Attribute{Name: name, Type: hdf5io.Uint(1), Dims: []uint64{uint64(len(p))}, Data: p}
}

// createConfig makes /config with the attributes that never change.
func createConfig(tx *hdf5io.Tx, r *record, uuid [16]byte) error {
	if err := tx.CreateGroup(configPath); err != nil {
		return err
	}
	created := binary.LittleEndian.AppendUint64(nil, math.Float64bits(float64(r.created)/1e9))
	for _, a := range []hdf5io.Attribute{
		u32Attribute("format_version", FormatVersion),
		hdf5io.Text("version_string", "2"),
		hdf5io.Text("creator", "cidstore "+Version),
		{Name: "created_timestamp", Type: hdf5io.Float64(), Data: created},
		bytesAttribute("file_uuid", uuid[:]),
		u64Attribute("hash_seed", r.hashSeed[0], r.hashSeed[1]),
		u32Attribute("split_threshold", r.splitThreshold),
		u32Attribute("promotion_threshold", promotionThreshold),
		bytesAttribute("hmac_salt", r.salt[:]),
		u32Attribute("wal_block", r.walBlock),
	} {
		if err := tx.SetAttribute(configPath, a); err != nil {
			return err
		}
	}
	return nil
}

// writeConfig copies the store record into attributes of /config, for readers that have
// only an HDF5 library.
func writeConfig(tx *hdf5io.Tx, r *record, commit hdf5io.Commit) error {
	for _, a := range []hdf5io.Attribute{
		{Name: "global_depth", Type: hdf5io.Uint(1), Data: []byte{byte(r.globalDepth)}},
		u64Attribute("num_groups", r.numGroups),
		u64Attribute("num_buckets", r.numBuckets),
		u64Attribute("num_keys", r.numKeys),
		u64Attribute("num_values", r.numValues),
		u64Attribute("num_sets", r.sets.Sets),
		u64Attribute("last_applied", uint64(r.lastApplied)),
		u64Attribute("slice_through", uint64(r.sliceThrough)),
		u64Attribute("slice_hash", r.sliceHash),
		u64Attribute("commit", uint64(commit)),
		u64Attribute("wal_first", uint64(r.walFirst)),
		epochsAttribute(r.epochs),
	} {
		if err := tx.SetAttribute(configPath, a); err != nil {
			return err
		}
	}
	return nil
}

func epochsAttribute(epochs []wal.Epoch) hdf5io.Attribute {
	a := hdf5io.Attribute{Name: "epochs", Dims: []uint64{maxEpochs}, Type: wal.EpochType()}
	for _, e := range epochs {
		a.Data = wal.AppendEpoch(a.Data, e)
	}
	a.Data = append(a.Data, make([]byte, maxEpochs*wal.EpochSize-len(a.Data))...)
	return a
}
