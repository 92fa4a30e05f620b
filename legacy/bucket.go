package legacy

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/cidstore/cidstore/ecc"
	"github.com/cidstore/cidstore/hdf5"
	"github.com/cidstore/cidstore/keys"
)

// sorted returns the keys of a map in order, so that defects are found in order
// too.
func sorted[V any](m map[keys.E]V) []keys.E {
	return slices.SortedFunc(maps.Keys(m), keys.E.Compare)
}

// bucketPrefix begins the name of a bucket; its number follows.
const bucketPrefix = "bucket_"

// eachBucket calls visit for every bucket that can be opened.
func (r *reader) eachBucket(visit func(number int64, d *hdf5.Dataset) error) error {
	g, err := r.group("buckets")
	if err != nil || g == nil {
		return err
	}
	return r.children(g, func(name string) error {
		digits, isBucket := strings.CutPrefix(name, bucketPrefix)
		number, err := strconv.ParseInt(digits, 10, 64)
		if !isBucket || err != nil {
			r.report("/buckets/"+name, "not a bucket, left out")
			return nil
		}
		d, err := r.dataset("buckets/" + name)
		if err != nil || d == nil {
			return err
		}
		return visit(number, d)
	})
}

// readBuckets reads all entries, and compares them with the directory.
func (r *reader) readBuckets(d directory) error {
	if err := r.findMasks(); err != nil {
		return err
	}
	buckets := make(map[int64]bool)
	err := r.eachBucket(func(number int64, rows *hdf5.Dataset) error {
		buckets[number] = true
		return r.rows(rows, func(b *hdf5.Block) error { return r.bucketRows(number, rows.Path(), b) })
	})
	if err != nil {
		return err
	}
	r.compare(d, buckets)
	r.reportUnused()
	return nil
}

// plainMask is the mask that some writers of the Python package put into all
// entries: the plain number 1, for a value in slot 0. It differs in one bit from
// the code word of spilled entries.
const plainMask = 1

// findMasks finds out whether the file has plain masks: it does if there are more
// of them than code words of entries with values in their slots.
func (r *reader) findMasks() error {
	plain, coded := 0, 0
	err := r.eachBucket(func(_ int64, rows *hdf5.Dataset) error {
		return r.rows(rows, func(b *hdf5.Block) error {
			masks, err := b.Uint64s("state_mask")
			for _, mask := range masks {
				_, status := ecc.Decode(uint8(mask))
				if mask == plainMask {
					plain++
				} else if mask > 0 && mask <= 0xff && status == ecc.OK {
					coded++
				}
			}
			return err
		})
	})
	r.plain = plain > coded
	return err
}

const slotCount = 4 // of an entry

func (r *reader) bucketRows(bucket int64, path string, b *hdf5.Block) error {
	c, err := columns(b, map[string]int{"key_high": 1, "key_low": 1, "slots": slotCount, "state_mask": 1})
	if err != nil {
		return err
	}
	for i := range b.Rows {
		if i%4096 == 0 && r.ctx.Err() != nil {
			return r.ctx.Err()
		}
		key := keys.E{High: c["key_high"][i], Low: c["key_low"][i]}
		place := rowPlace{"entry", b.Start + uint64(i), path}
		values, err := r.entryValues(key, [slotCount]uint64(c["slots"][i*slotCount:]), c["state_mask"][i], place)
		if err != nil {
			return err
		}
		r.addEntry(bucket, key, values, place)
	}
	return nil
}

// addEntry takes an entry. If a key has two entries, their values are united,
// because which of the two the Python package would have found depended on how it
// searched.
func (r *reader) addEntry(bucket int64, key keys.E, values []keys.E, place rowPlace) {
	e, twice := r.entries[key]
	if twice {
		r.report(place, "%s has another entry in bucket %d: the values of both are kept", r.label(key), e.bucket)
	} else {
		e.bucket = bucket
	}
	e.values = append(e.values, values...)
	r.entries[key] = e
}

// entryValues returns the values of an entry, wherever they are.
func (r *reader) entryValues(key keys.E, slots [slotCount]uint64, mask uint64, place rowPlace) ([]keys.E, error) {
	used, ok := r.decodeMask(mask)
	if !ok {
		r.lose(place, "%s: state mask %#02x cannot be corrected; what is in the slots is left out: %d", r.label(key), mask, slots)
		return nil, nil
	}
	if !r.plain && mask != uint64(ecc.Encode(used)) {
		r.report(place, "%s: state mask %#02x is corrected to %#02x", r.label(key), mask, ecc.Encode(used))
	}
	if used == 0 {
		return r.spilled(key, slots, place)
	}
	var values []keys.E
	for i, value := range slots {
		switch {
		case used>>i&1 == 1:
			values = append(values, keys.FromUint64(value))
		case value != 0:
			r.report(place, "%s: slot %d has the value %d, and the state mask says that it is not used: it is left out", r.label(key), i, value)
		}
	}
	return values, nil
}

// decodeMask returns which slots are used. ok is false if the mask does not say.
func (r *reader) decodeMask(mask uint64) (used uint8, ok bool) {
	if mask > 0xff {
		return 0, false
	}
	if r.plain {
		return uint8(mask), mask <= 0xf
	}
	used, status := ecc.Decode(uint8(mask))
	return used, status != ecc.Uncorrectable
}

// valuePrefix begins the path of a value set; the name of its key follows.
const valuePrefix = "/values/sp/valueset_"

type valueSet struct {
	dataset *hdf5.Dataset
	used    bool
}

// findValueSets finds out which keys have value sets. The names of the sets contain
// those of the keys; if one has a slash, the part before it has become a group.
func (r *reader) findValueSets() error {
	g, err := r.group("values/sp")
	if err != nil || g == nil {
		return err
	}
	return r.valueSetsIn(g, make(map[uint64]bool))
}

// valueSetsIn finds those in a group and in the groups below it, each group once.
func (r *reader) valueSetsIn(g *hdf5.Group, visited map[uint64]bool) error {
	if visited[g.Address()] {
		return nil
	}
	visited[g.Address()] = true
	return r.children(g, func(link string) error {
		path := g.Path() + "/" + link
		object, err := r.root.Open(path)
		if err != nil {
			return r.damaged(path, err)
		}
		if below, ok := object.(*hdf5.Group); ok {
			return r.valueSetsIn(below, visited)
		}
		d, isDataset := object.(*hdf5.Dataset)
		name, isSet := strings.CutPrefix(path, valuePrefix)
		if !isDataset || !isSet {
			r.report(path, "not a value set, left out")
			return nil
		}
		key := keys.FromString(name)
		r.names[key] = name
		r.valueSets[key] = &valueSet{dataset: d}
		return nil
	})
}

// spilled reads the values of an entry that has none in its slots.
func (r *reader) spilled(key keys.E, slots [slotCount]uint64, place rowPlace) ([]keys.E, error) {
	if slots[0] != 0 || slots[2] != 0 || slots[3] != 0 {
		r.report(place, "%s: the state mask says that it is spilled; what is in the slots is left out: %d", r.label(key), slots)
	}
	set := r.valueSets[key]
	if set == nil {
		r.lose(place, "%s is spilled, and its value set is not there: its values are lost", r.label(key))
		return nil, nil
	}
	if set.used {
		return nil, nil // another entry of the key, which is reported
	}
	set.used = true
	var values []keys.E
	err := r.rows(set.dataset, func(b *hdf5.Block) error {
		numbers, err := b.Uint64s()
		if err == nil && len(numbers) != b.Rows {
			err = fmt.Errorf("%w: %d values in %d rows", hdf5.ErrWrongType, len(numbers), b.Rows)
		}
		for _, n := range numbers {
			values = append(values, keys.FromUint64(n))
		}
		return err
	})
	return values, err
}

func (r *reader) reportUnused() {
	for _, key := range sorted(r.valueSets) {
		if set := r.valueSets[key]; !set.used {
			r.report(set.dataset.Path(), "belongs to no spilled entry, left out")
		}
	}
}
