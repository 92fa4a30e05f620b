package cidstore

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/cidstore/cidstore/internal/golden"
	"github.com/cidstore/cidstore/wal"
)

// TestGoldenRecord: every byte of a store record is what testdata says, where each has the
// name of its field.
func TestGoldenRecord(t *testing.T) {
	r := record{
		clean: true, walBlock: 4096, globalDepth: 3, splitThreshold: 200, runsCRC: 0x01020304, unusedGroups: 2,
		keyCheck: [16]byte([]byte("check of the key")), salt: [32]byte([]byte("salt of the key of the log: salt")),
	}
	for i, w := range r.words() {
		*w.word = 0x0123456789abcd00 + uint64(i)
	}
	for i := range wal.Seq(2) {
		r.epochs = append(r.epochs, wal.Epoch{Number: 10 + uint64(i), First: 100 * i, End: 100*i + 99, Anchor: [32]byte([]byte("anchor of the epoch 0123456789ab"))})
	}
	for i, v := 0, reflect.ValueOf(r); i < v.NumField(); i++ {
		if v.Field(i).IsZero() {
			t.Errorf("%s is zero: the text does not show it", v.Type().Field(i).Name)
		}
	}
	d := golden.New(t, r.append(nil))
	d.Structure("store record", 0, func() {
		field := func(name string, size int) { d.Field(name, size) }
		words := func(names ...string) {
			for _, name := range names {
				field(name, 8)
			}
		}
		field("version", 4)
		field("flags", 4)
		words("last_applied", "slice_through", "slice_hash", "watermark", "num_keys", "num_values", "num_buckets", "num_sets", "search_set",
			"next_node", "num_tombstones", "wal_address", "wal_size", "wal_first", "wal_old_address", "wal_old_size", "num_deletions")
		for _, name := range []string{"global_depth", "split_threshold", "promotion_threshold", "wal_block"} {
			field(name, 4)
		}
		field("key_check", 16)
		field("hmac_salt", 32)
		field("hash_seed", 16)
		words("writer_pid", "writer_since")
		epochs := int(d.Uint("epoch_count", 4))
		field("reserved", 4)
		for i := range epochs {
			for _, name := range []string{"epoch", "first", "end"} {
				field(fmt.Sprintf("epoch %d %s", i, name), 8)
			}
			field(fmt.Sprintf("epoch %d anchor", i), 32)
		}
		field("no epochs", (maxEpochs-epochs)*wal.EpochSize)
		words("created", "num_groups", "fold_hash")
		field("runs_crc32c", 4)
		field("unused_groups", 4)
		words("unused_sets")
	})
	golden.Compare(t, "record.txt", d.String())
}
