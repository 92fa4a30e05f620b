package legacy

import (
	"bytes"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cidstore/cidstore/hdf5"
	"github.com/cidstore/cidstore/keys"
)

// Operations of the log.
const (
	opInsert = 1
	opDelete = 2 // of a value; if that is zero, of the whole key
	opStart  = 3
	opCommit = 4
	opAbort  = 5
)

// operation is an insertion, a deletion, or one without a key.
type operation struct {
	code       uint8
	whole      bool // deletes the whole key
	key, value keys.E
}

// change is what the log does to one key.
type change struct {
	wiped bool            // all earlier values are deleted
	last  map[keys.E]bool // for each value, whether its last operation was an insertion
}

type changes map[keys.E]*change

func (c changes) add(o operation) {
	k := c[o.key]
	if k == nil {
		k = &change{last: make(map[keys.E]bool)}
		c[o.key] = k
	}
	if o.whole {
		k.wiped = true
		clear(k.last)
		return
	}
	k.last[o.value] = o.code == opInsert
}

func (r *reader) change(operations []operation) {
	for _, o := range operations {
		r.changes.add(o)
	}
	r.contents.Replayed += len(operations)
}

// apply returns the values of the key after the change.
func (k *change) apply(before []keys.E) []keys.E {
	var after []keys.E
	for _, value := range before {
		if _, changed := k.last[value]; !changed && !k.wiped {
			after = append(after, value)
		}
	}
	for value, inserted := range k.last {
		if inserted {
			after = append(after, value)
		}
	}
	return after
}

// transactions sorts the operations of a log by their transactions. Those that were
// neither committed nor aborted when the log ends never happened.
type transactions[ID comparable] struct {
	open    map[ID][]operation
	outside int // operations of transactions that were not begun
}

// take takes a record. If that is a commit, it returns the operations that this
// makes valid.
func (t *transactions[ID]) take(id ID, o operation) (committed []operation) {
	operations, begun := t.open[id]
	switch {
	case o.code == opStart:
		t.open[id] = nil
	case o.code == opCommit:
		delete(t.open, id)
		return operations
	case o.code == opAbort:
		delete(t.open, id)
	case begun:
		t.open[id] = append(operations, o)
	default:
		t.outside++
	}
	return nil
}

// record is a record of the log of 128 bits.
type record struct {
	transaction uint64
	operation
	mac, previous []byte // as long as macSize
}

const macSize = sha256.Size

// signed returns the bytes that the MAC of the record covers.
func (c *record) signed(previous []byte) []byte {
	p := bytes.Clone(previous)
	p = binary.LittleEndian.AppendUint64(p, c.transaction)
	p = append(p, c.code)
	for _, word := range []uint64{c.key.High, c.key.Low, c.value.High, c.value.Low} {
		p = binary.LittleEndian.AppendUint64(p, word)
	}
	return p
}

// chain verifies one record after another.
type chain struct {
	keys     [][]byte // those that the writer may have had; if none, nothing can be verified
	previous []byte   // MAC of the record before
}

func (c *chain) verify(rec *record) error {
	if c.keys == nil {
		return nil
	}
	if !bytes.Equal(rec.previous, c.previous) {
		return errors.New("does not follow the record before it")
	}
	c.previous = rec.mac
	for _, key := range c.keys {
		// HDF5 returns strings without the zeros at their end. The writer signed
		// some records with what it had read, and others with what it had written.
		for _, previous := range [][]byte{rec.previous, bytes.TrimRight(rec.previous, "\x00")} {
			mac := hmac.New(sha256.New, key)
			mac.Write(rec.signed(previous))
			if hmac.Equal(mac.Sum(nil), rec.mac) {
				return nil
			}
		}
	}
	return errors.New("wrong HMAC")
}

// The secret of all logs, and how often it is hashed.
const (
	logSecret = "cidtree-wal-secret"
	logRounds = 100_000
)

// logKeys derives the keys from the salt in the file, with and without the zeros at
// its end.
func (r *reader) logKeys(meta *hdf5.Group) ([][]byte, error) {
	const place = "attribute hmac_salt of /wal_meta"
	a, err := meta.Attribute("hmac_salt")
	if err != nil {
		return nil, r.damaged(place, err)
	}
	salts, err := a.Bytes()
	if err == nil && len(salts) != 1 {
		err = fmt.Errorf("%w: %d values, want 1", hdf5.ErrWrongType, len(salts))
	}
	if err != nil {
		return nil, r.damaged(place, err)
	}
	tried := [][]byte{padded(salts[0])}
	if short := bytes.TrimRight(tried[0], "\x00"); len(short) < len(tried[0]) {
		tried = append(tried, short)
	}
	var derived [][]byte
	for _, salt := range tried {
		key, err := pbkdf2.Key(sha256.New, logSecret, salt, logRounds, sha256.Size)
		if err != nil {
			return nil, fmt.Errorf("derive the key of the log: %w", err)
		}
		derived = append(derived, key)
	}
	return derived, nil
}

// padded restores the zeros at the end of a string of 32 bytes.
func padded(p []byte) []byte {
	full := make([]byte, max(macSize, len(p)))
	copy(full, p)
	return full
}

// replay finds the changes that the log has beyond the buckets.
func (r *reader) replay() error {
	log, err := r.logDataset()
	if err != nil || log == nil {
		return err
	}
	if log.Len() == 0 {
		return nil
	}
	meta, err := r.group("wal_meta")
	if err != nil {
		return err
	}
	p := player{reader: r, chain: chain{previous: make([]byte, macSize)}}
	p.open = make(map[uint64][]operation)
	if meta != nil {
		if p.applied, _, err = r.number(meta, "last_applied"); err == nil {
			p.keys, err = r.logKeys(meta)
		}
		if err != nil {
			return err
		}
	}
	if p.applied < 0 || uint64(p.applied) > log.Len() {
		r.report("attribute last_applied of /wal_meta", "%d, and the log has %d records", p.applied, log.Len())
	}
	if p.keys == nil {
		r.report("/wal", "without its salt no record can be verified")
	}
	err = r.scan(log, p.take, func(first, _ uint64, err error) error {
		if err := r.damaged(rowPlace{"record", first, "/wal"}, fmt.Errorf("%w; the log is not replayed from there on", err)); err != nil {
			return err
		}
		return errStop
	})
	if err != nil && !errors.Is(err, errStop) {
		return err
	}
	if p.outside > 0 {
		r.report("/wal", "%d operations of transactions that were not begun are not replayed", p.outside)
	}
	return nil
}

// logDataset returns the log; nil if there is none. A new store of the Python
// package has a group in its place.
func (r *reader) logDataset() (*hdf5.Dataset, error) {
	object, err := r.root.Open("wal")
	if errors.Is(err, hdf5.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, r.damaged("/wal", err)
	}
	log, _ := object.(*hdf5.Dataset)
	return log, nil
}

// errStop ends a replay. The reason was reported.
var errStop = errors.New("end of the replay")

// player replays the log of 128 bits.
type player struct {
	*reader
	chain
	transactions[uint64]
	applied int64 // how many records are in the buckets
}

func (p *player) take(b *hdf5.Block) error {
	records, err := parseRecords(b)
	if err != nil {
		return err
	}
	for i := range records {
		rec, number := &records[i], b.Start+uint64(i)
		err := p.verify(rec)
		if err == nil && (rec.code < opInsert || rec.code > opAbort) {
			err = fmt.Errorf("operation %d is not known", rec.code)
		}
		if err != nil {
			p.report(rowPlace{"record", number, "/wal"}, "%w; the log is not replayed from there on", err)
			return errStop
		}
		outside := p.outside
		committed := p.transactions.take(rec.transaction, rec.operation)
		if int64(number) < p.applied {
			p.outside = outside
			continue
		}
		p.change(committed)
	}
	return nil
}

func parseRecords(b *hdf5.Block) ([]record, error) {
	c, err := columns(b, map[string]int{"txn_id": 1, "op_type": 1, "key_high": 1, "key_low": 1, "value_high": 1, "value_low": 1})
	if err != nil {
		return nil, err
	}
	macs, err := b.Bytes("hmac")
	if err != nil {
		return nil, err
	}
	previous, err := b.Bytes("prev_hmac")
	if err != nil {
		return nil, err
	}
	if len(macs) != b.Rows || len(previous) != b.Rows {
		return nil, fmt.Errorf("%w: %d and %d hashes in %d rows", hdf5.ErrWrongType, len(macs), len(previous), b.Rows)
	}
	records := make([]record, b.Rows)
	for i := range records {
		records[i] = record{
			transaction: c["txn_id"][i],
			operation: operation{
				code:  uint8(min(c["op_type"][i], 0xff)),
				key:   keys.E{High: c["key_high"][i], Low: c["key_low"][i]},
				value: keys.E{High: c["value_high"][i], Low: c["value_low"][i]},
			},
			mac: padded(macs[i]), previous: padded(previous[i]),
		}
		records[i].whole = records[i].code == opDelete && records[i].value.IsZero()
	}
	return records, nil
}
