package legacy

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/cidstore/cidstore/hdf5"
	"github.com/cidstore/cidstore/keys"
)

// directory says in which bucket a key is. It is nil if none can be read.
type directory map[keys.E]int64

// readDirectory reads the directory in every form that exists, because the Python
// package may have been killed while it changed from one to the next.
func (r *reader) readDirectory() (directory, error) {
	d := make(directory)
	found := false
	config, err := r.group("config")
	if err != nil {
		return nil, err
	}
	if config != nil {
		if found, err = r.namedDirectory(config, d); err != nil {
			return nil, err
		}
	}
	switch r.layout {
	case Dataset:
		found = true
		err = r.directoryRows("directory", d)
	case Sharded:
		found = true
		err = r.shards(d)
	}
	if err != nil || !found {
		return nil, err
	}
	return d, nil
}

// namedDirectory reads the JSON attribute. It returns false if there is none that
// can be read.
func (r *reader) namedDirectory(config *hdf5.Group, d directory) (bool, error) {
	const place = "attribute directory of /config"
	a, err := config.Attribute("directory")
	if errors.Is(err, hdf5.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, r.damaged(place, err)
	}
	texts, err := a.Strings()
	if err == nil && len(texts) != 1 {
		err = fmt.Errorf("%w: %d strings, want 1", hdf5.ErrWrongType, len(texts))
	}
	if err != nil {
		return false, r.damaged(place, err)
	}
	var buckets map[string]int64
	if err := json.Unmarshal([]byte(texts[0]), &buckets); err != nil {
		r.report(place, "%w", err)
		return false, nil
	}
	for name, bucket := range buckets {
		key := keys.FromString(name)
		r.names[key] = name
		d[key] = bucket
	}
	return true, nil
}

func (r *reader) shards(d directory) error {
	g, err := r.group("directory")
	if err != nil || g == nil {
		return err
	}
	return r.children(g, func(name string) error {
		if !strings.HasPrefix(name, "shard_") {
			r.report("/directory/"+name, "not a shard, left out")
			return nil
		}
		return r.directoryRows("directory/"+name, d)
	})
}

func (r *reader) directoryRows(path string, d directory) error {
	rows, err := r.dataset(path)
	if err != nil || rows == nil {
		return err
	}
	return r.rows(rows, func(b *hdf5.Block) error {
		c, err := columns(b, map[string]int{"key_high": 1, "key_low": 1})
		if err != nil {
			return err
		}
		buckets, err := b.Int64s("bucket_id")
		if err != nil {
			return err
		}
		for i, bucket := range buckets[:min(len(buckets), b.Rows)] {
			d[keys.E{High: c["key_high"][i], Low: c["key_low"][i]}] = bucket
		}
		return nil
	})
}

// compare reports where the directory and the buckets disagree. Keys are in the
// store as the buckets have them.
func (r *reader) compare(d directory, buckets map[int64]bool) {
	const place = "directory"
	if d == nil {
		if len(r.entries) > 0 {
			r.report(place, "is not there or cannot be read; keys are taken from the buckets alone")
		}
		return
	}
	for _, key := range sorted(d) {
		e, there := r.entries[key]
		switch {
		case !buckets[d[key]]:
			r.lose(place, "%s is in bucket %d, which does not exist", r.label(key), d[key])
		case !there:
			r.lose(place, "%s is in bucket %d, which has no entry of it", r.label(key), d[key])
		case e.bucket != d[key]:
			r.report(place, "%s is in bucket %d, but bucket %d has its entry, which is kept", r.label(key), d[key], e.bucket)
		}
	}
	for _, key := range sorted(r.entries) {
		if _, named := d[key]; !named {
			r.report(place, "lacks %s of bucket %d, which is kept", r.label(key), r.entries[key].bucket)
		}
	}
}
