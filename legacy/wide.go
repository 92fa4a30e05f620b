package legacy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/cidstore/cidstore/hdf5"
	"github.com/cidstore/cidstore/keys"
)

// wideE is an identifier of 256 bits, the highest word first.
type wideE [4]uint64

// wideWords are the names of its words in the file; those of a key begin with key_.
var wideWords = [4]string{"high", "high_mid", "low_mid", "low"}

// wideNames remembers which identifiers have which first 128 bits.
type wideNames struct {
	seen    map[keys.E]wideE
	clashes map[wideE]bool // identifiers whose first 128 bits another one has too
}

// shorten returns the first 128 bits of an identifier, or ErrWide.
func (r *reader) shorten(w wideE) (keys.E, error) {
	if !r.options.Truncate {
		return keys.E{}, fmt.Errorf("%w do not fit into 128", ErrWide)
	}
	e := keys.E{High: w[0], Low: w[1]}
	if other, seen := r.wide.seen[e]; !seen {
		r.wide.seen[e] = w
	} else if other != w {
		r.wide.clashes[w] = true
	}
	return e, nil
}

func (r *reader) wideStore() error {
	err := r.eachBucket(func(number int64, rows *hdf5.Dataset) error {
		return r.rows(rows, func(b *hdf5.Block) error { return r.wideRows(number, rows.Path(), b) })
	})
	if err != nil {
		return err
	}
	if err := r.wideReplay(); err != nil {
		return err
	}
	if len(r.wide.clashes) > 0 {
		return fmt.Errorf("%w: %d have the first 128 bits of another one", ErrWide, len(r.wide.clashes))
	}
	return nil
}

// wideColumn reads identifiers, of which each row has count.
func wideColumn(b *hdf5.Block, count int, path ...string) ([]wideE, error) {
	column := make([]wideE, b.Rows*count)
	for i, word := range wideWords {
		member := append(path[:len(path):len(path)], word)
		if len(path) == 1 && path[0] == "key" {
			member = []string{"key_" + word}
		}
		values, err := b.Uint64s(member...)
		if err != nil {
			return nil, err
		}
		if len(values) != len(column) {
			return nil, fmt.Errorf("%w: %d values of %s in %d rows, want %d each", hdf5.ErrWrongType, len(values), member, b.Rows, count)
		}
		for j, value := range values {
			column[j][i] = value
		}
	}
	return column, nil
}

const wideSlots = 2 // of an entry

func (r *reader) wideRows(bucket int64, path string, b *hdf5.Block) error {
	names, err := wideColumn(b, 1, "key")
	if err != nil {
		return err
	}
	slots, err := wideColumn(b, wideSlots, "slots")
	if err != nil {
		return err
	}
	for i, name := range names {
		key, err := r.shorten(name)
		if err != nil {
			return err
		}
		place := rowPlace{"entry", b.Start + uint64(i), path}
		values, err := r.wideValues(name, [wideSlots]wideE(slots[i*wideSlots:]), place)
		if err != nil {
			return err
		}
		short := make([]keys.E, len(values))
		for j, value := range values {
			if short[j], err = r.shorten(value); err != nil {
				return err
			}
		}
		r.addEntry(bucket, key, short, place)
	}
	return nil
}

// wideValues returns the values of an entry, wherever they are. A slot of zeros is
// not used. If the entry is spilled, the second slot leads to the values.
func (r *reader) wideValues(key wideE, slots [wideSlots]wideE, place rowPlace) (values []wideE, err error) {
	pointer := slots[1]
	spilled := slots[0] == wideE{} && pointer == wideE{pointer[0], 0, 0, key[0]} && pointer != wideE{}
	if !spilled {
		for _, value := range slots {
			if value != (wideE{}) {
				values = append(values, value)
			}
		}
		return values, nil
	}
	path := fmt.Sprintf("values/sp/sp_%d_%d_%d", pointer[0], key[0], key[3])
	d, err := r.dataset(path)
	if err != nil {
		return nil, err
	}
	if d == nil {
		r.lose(place, "its values are lost: /%s is not there", path)
		return nil, nil
	}
	err = r.rows(d, func(b *hdf5.Block) error {
		block, err := wideColumn(b, 1)
		values = append(values, block...)
		return err
	})
	return values, err
}

// The log of 256 bits is a file with a ring of records. Little-endian.
//
//	offset  size  field
//	     0     8  head  where the next record will be written
//	     8     8  tail  where the first is that is not applied
//	    16    48  zeros
//
// A record:
//
//	  0     1  version << 6 | operation
//	  1     1  reserved
//	  2    16  transaction: nanoseconds 8, sequence 4, shard 4
//	 18    32  key
//	 50    32  value
//	 82    42  zeros
//	124     4  crc32 of bytes 0..123
const (
	wideHeader                                                             = 64
	wideRecord                                                             = 128
	offWideOp, offWideTransaction, offWideKey, offWideValue, offWideRecSum = 0, 2, 18, 50, 124
	wideVersion                                                            = 1
)

type wideTransaction [offWideKey - offWideTransaction]byte

func (r *reader) wideReplay() error {
	const place = "log"
	log, size := r.options.Log, r.options.LogSize
	if log == nil {
		r.report(place, "is not there: what was not yet in the buckets, if anything, is left out")
		return nil
	}
	head, tail, err := readWideHeader(log, size)
	if errors.Is(err, errWideRecord) {
		r.report(place, "%w; it is not replayed", err)
		return nil
	}
	if err != nil || head == tail {
		return err
	}
	t := transactions[wideTransaction]{open: make(map[wideTransaction][]operation)}
	end := size - (size-wideHeader)%wideRecord
	for at := tail; at != head; {
		id, o, err := r.wideRecordAt(log, at)
		if errors.Is(err, errWideRecord) {
			r.report(fmt.Sprintf("record at %d of the log", at), "%w; the log is not replayed from there on", err)
			break
		}
		if err != nil {
			return err
		}
		r.change(t.take(id, o))
		if at += wideRecord; at == end {
			at = wideHeader
		}
	}
	if t.outside > 0 {
		r.report(place, "%d operations of transactions that were not begun are not replayed", t.outside)
	}
	return r.ctx.Err()
}

// errWideRecord is what is wrong with a record, or with the header.
var errWideRecord = errors.New("damaged")

// readWideHeader returns the places where the log ends and begins.
func readWideHeader(log io.ReaderAt, size int64) (head, tail int64, err error) {
	if size < wideHeader+wideRecord {
		return 0, 0, fmt.Errorf("%w: %d bytes", errWideRecord, size)
	}
	var p [16]byte
	if _, err := log.ReadAt(p[:], 0); err != nil {
		return 0, 0, fmt.Errorf("read the log: %w", err)
	}
	ends := [2]uint64{binary.LittleEndian.Uint64(p[:]), binary.LittleEndian.Uint64(p[8:])}
	for i, at := range ends {
		if at == uint64(size) && (size-wideHeader)%wideRecord == 0 {
			ends[i] = wideHeader
		} else if at < wideHeader || at >= uint64(size) || (at-wideHeader)%wideRecord != 0 || at+wideRecord > uint64(size) {
			return 0, 0, fmt.Errorf("%w: a record at %d of %d bytes", errWideRecord, at, size)
		}
	}
	return int64(ends[0]), int64(ends[1]), nil
}

// wideRecordAt reads a record. The error is errWideRecord if the record is damaged.
func (r *reader) wideRecordAt(log io.ReaderAt, at int64) (id wideTransaction, o operation, err error) {
	var p [wideRecord]byte
	if _, err := log.ReadAt(p[:], at); err != nil {
		return id, o, fmt.Errorf("read the log: %w", err)
	}
	if sum := crc32.ChecksumIEEE(p[:offWideRecSum]); sum != binary.LittleEndian.Uint32(p[offWideRecSum:]) {
		return id, o, fmt.Errorf("%w: wrong checksum", errWideRecord)
	}
	o.code = p[offWideOp] & 0x3f
	if version := p[offWideOp] >> 6; version != wideVersion || o.code < opInsert || o.code > opAbort {
		return id, o, fmt.Errorf("%w: operation %d of version %d is not known", errWideRecord, o.code, version)
	}
	copy(id[:], p[offWideTransaction:])
	if o.code != opInsert && o.code != opDelete {
		return id, o, nil
	}
	if o.key, err = r.shorten(wideAt(p[offWideKey:])); err != nil {
		return id, o, err
	}
	value := wideAt(p[offWideValue:])
	if o.whole = o.code == opDelete && value == (wideE{}); o.whole {
		return id, o, nil
	}
	o.value, err = r.shorten(value)
	return id, o, err
}

func wideAt(p []byte) (w wideE) {
	for i := range w {
		w[i] = binary.LittleEndian.Uint64(p[8*i:])
	}
	return w
}
