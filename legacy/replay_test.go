package legacy_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"

	"github.com/cidstore/cidstore/internal/invariants"
	"github.com/cidstore/cidstore/keys"
	"github.com/cidstore/cidstore/legacy"
)

// The records of the sample's log, as they lie in the file.
const (
	logSample  = "layout-attr-earliest"
	logLength  = 17
	logApplied = 9
	logRow     = 105
)

// logOp is one record of a log that a test makes. The fields are those of the file.
type logOp struct {
	transaction uint64
	code        uint8
	key         string
	value       uint64
}

// patcher changes the bytes of a sample.
type patcher struct {
	t       *testing.T
	content []byte
}

func newPatcher(t *testing.T) *patcher { return &patcher{t, sample(t, logSample)} }

// find returns the place of bytes that occur once.
func (p *patcher) find(what []byte) int {
	p.t.Helper()
	if n := bytes.Count(p.content, what); n != 1 {
		p.t.Fatalf("%d places have %x", n, what)
	}
	return bytes.Index(p.content, what)
}

// log returns the rows of the log. The first is the start of transaction 1.
func (p *patcher) log() []byte {
	p.t.Helper()
	first := make([]byte, 41)
	first[0], first[8] = 1, 3
	return p.content[p.find(first):][:logLength*logRow]
}

// sampleSecret is the key of the sample's log. To derive it takes long.
var sampleSecret = sync.OnceValue(func() []byte {
	salt := make([]byte, 32)
	for i := range salt {
		salt[i] = byte(i + 1)
	}
	key, err := pbkdf2.Key(sha256.New, "cidtree-wal-secret", salt, 100_000, 32)
	if err != nil {
		panic(err)
	}
	return key
})

// sign gives a row the HMAC that fits, after the one before it.
func sign(row, previous []byte) {
	mac := hmac.New(sha256.New, sampleSecret())
	mac.Write(previous)
	mac.Write(row[:41])
	copy(row[41:73], mac.Sum(nil))
}

// seal signs the rows of the log from one on again, each for the one before it.
func (p *patcher) seal(from int, previous []byte) {
	for log := p.log()[from*logRow:]; len(log) > 0; log = log[logRow:] {
		copy(log[73:logRow], previous)
		sign(log[:logRow], log[73:logRow])
		previous = log[41:73]
	}
}

// write puts records after those that are applied, and fills the rest with starts.
func (p *patcher) write(ops []logOp) {
	p.t.Helper()
	if len(ops) > logLength-logApplied {
		p.t.Fatalf("%d records are too many", len(ops))
	}
	log := p.log()
	for i := logApplied; i < logLength; i++ {
		o := logOp{transaction: 1000, code: 3}
		if i-logApplied < len(ops) {
			o = ops[i-logApplied]
		}
		row := log[i*logRow:][:41]
		clear(row)
		binary.LittleEndian.PutUint64(row, o.transaction)
		row[8] = o.code
		if o.key != "" {
			key := keys.FromString(o.key)
			binary.LittleEndian.PutUint64(row[9:], key.High)
			binary.LittleEndian.PutUint64(row[17:], key.Low)
			binary.LittleEndian.PutUint64(row[33:], o.value)
		}
	}
	p.seal(0, make([]byte, 32))
}

const (
	insert = 1
	remove = 2
	start  = 3
	commit = 4
	abort  = 5
)

// TestReplay compares what logs do with what they must do to the sample without its
// own pending transactions: keys and their values afterwards, an empty list for none.
func TestReplay(t *testing.T) {
	for _, c := range []struct {
		name     string
		ops      []logOp
		want     map[string][]uint64
		replayed int
		defects  []string
	}{
		{"insert", []logOp{{7, start, "", 0}, {7, insert, "one0", 5}, {7, insert, "fresh", 6}, {7, commit, "", 0}},
			map[string][]uint64{"one0": {5, 1000}, "fresh": {6}}, 2, nil},
		{"insert what is there", []logOp{{7, start, "", 0}, {7, insert, "one0", 1000}, {7, commit, "", 0}},
			map[string][]uint64{"one0": {1000}}, 1, nil},
		{"delete a value", []logOp{{7, start, "", 0}, {7, remove, "one0", 1000}, {7, commit, "", 0}},
			map[string][]uint64{"one0": {}}, 1, nil},
		{"delete what is not there", []logOp{{7, start, "", 0}, {7, remove, "one0", 77}, {7, remove, "none", 0}, {7, commit, "", 0}},
			map[string][]uint64{"one0": {1000}, "none": {}}, 2, nil},
		{"delete a key", []logOp{{7, start, "", 0}, {7, remove, "spill-1000", 0}, {7, commit, "", 0}},
			map[string][]uint64{"spill-1000": {}}, 1, nil},
		{"insert after a deletion", []logOp{{7, start, "", 0}, {7, insert, "one0", 4}, {7, remove, "one0", 0}, {7, insert, "one0", 3}, {7, commit, "", 0}},
			map[string][]uint64{"one0": {3}}, 3, nil},
		{"delete after an insert", []logOp{{7, start, "", 0}, {7, insert, "one0", 4}, {7, remove, "one0", 4}, {7, commit, "", 0}},
			map[string][]uint64{"one0": {1000}}, 2, nil},
		{"aborted", []logOp{{7, start, "", 0}, {7, remove, "one0", 0}, {7, abort, "", 0}},
			map[string][]uint64{"one0": {1000}}, 0, nil},
		{"not finished", []logOp{{7, start, "", 0}, {7, remove, "one0", 0}},
			map[string][]uint64{"one0": {1000}}, 0, nil},
		{"begun twice", []logOp{{7, start, "", 0}, {7, remove, "one0", 0}, {7, start, "", 0}, {7, insert, "one1", 2}, {7, commit, "", 0}},
			map[string][]uint64{"one0": {1000}, "one1": {2, 1001}}, 1, nil},
		{"interleaved", []logOp{{7, start, "", 0}, {8, start, "", 0}, {7, insert, "one0", 1}, {8, remove, "one0", 0}, {8, commit, "", 0}, {7, commit, "", 0}},
			map[string][]uint64{"one0": {1}}, 2, nil},
		{"not begun", []logOp{{7, insert, "one0", 1}, {7, commit, "", 0}},
			map[string][]uint64{"one0": {1000}}, 0, []string{"/wal: 1 operations of transactions that were not begun are not replayed"}},
		{"unknown operation", []logOp{{7, start, "", 0}, {7, insert, "one0", 1}, {7, commit, "", 0}, {8, start, "", 0}, {8, 9, "one0", 2}, {8, commit, "", 0}},
			map[string][]uint64{"one0": {1, 1000}}, 1, []string{"record 13 of /wal: operation 9 is not known; the log is not replayed from there on"}},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			p := newPatcher(t)
			p.write(c.ops)
			want := unreplayed(t)
			for name, values := range c.want {
				maps.DeleteFunc(want, func(p pair, _ bool) bool { return p.key == keys.FromString(name) })
				for _, value := range values {
					want[pair{keys.FromString(name), keys.FromUint64(value)}] = true
				}
			}
			p.holds(want, c.replayed, c.defects...)
		})
	}
}

// holds reads the patched sample and compares.
func (p *patcher) holds(want map[pair]bool, replayed int, defects ...string) {
	p.t.Helper()
	c, err := read(p.content, nil)
	must(p.t, err)
	compare(p.t, c, want)
	wantDefects(p.t, c, defects...)
	if c.Replayed != replayed {
		p.t.Errorf("%d operations replayed, want %d", c.Replayed, replayed)
	}
}

// unreplayed are the pairs of the sample without what its log adds.
func unreplayed(t *testing.T) map[pair]bool {
	want := expected(t, logSample)
	delete(want, pair{keys.FromString("replayed"), keys.FromUint64(88)})
	return want
}

// TestTamperedLog: each byte of a record counts, and nothing after a wrong one is
// replayed, whether it was applied or not.
func TestTamperedLog(t *testing.T) {
	for _, c := range []struct {
		record, offset int
		what           string
	}{
		{0, 0, "wrong HMAC"}, {4, 33, "wrong HMAC"}, {13, 9, "wrong HMAC"}, {13, 8, "wrong HMAC"}, {14, 41, "wrong HMAC"},
		{13, 73, "does not follow the record before it"}, {0, 80, "does not follow the record before it"},
	} {
		p := newPatcher(t)
		p.log()[c.record*logRow+c.offset] ^= 4
		p.holds(unreplayed(t), 0, fmt.Sprintf("record %d of /wal: %s; the log is not replayed from there on", c.record, c.what))
	}
	p := newPatcher(t) // after the last commit
	p.log()[16*logRow+33]++
	p.holds(expected(t, logSample), 1, "record 16 of /wal: wrong HMAC; the log is not replayed from there on")
}

// TestHashesThatEndInZeros: the zeros that HDF5 has cut off are restored, whether
// the writer has signed them or not.
func TestHashesThatEndInZeros(t *testing.T) {
	if invariants.Sparse > 1 {
		t.Skip("one goroutine writes hundreds of logs")
	}
	for _, cut := range []bool{false, true} {
		p := newPatcher(t)
		log, found := p.log(), false
		for id := uint64(50); !found; id++ { // until the HMAC of record 9 ends in a zero
			p.write([]logOp{{id, start, "", 0}, {id, insert, "one0", 5}, {id, commit, "", 0}})
			found = log[logApplied*logRow+72] == 0
		}
		if cut {
			row := log[(logApplied+1)*logRow:][:logRow]
			sign(row, bytes.TrimRight(row[73:], "\x00"))
			p.seal(logApplied+2, row[41:73])
		}
		want := unreplayed(t)
		want[pair{keys.FromString("one0"), keys.FromUint64(5)}] = true
		p.holds(want, 1)
	}
}

// entryOf returns the slots and the mask of the entry of a key.
func (p *patcher) entryOf(name string, slots ...uint64) []byte {
	p.t.Helper()
	var what []byte
	key := keys.FromString(name)
	for _, word := range append([]uint64{key.High, key.Low}, slots...) {
		what = binary.LittleEndian.AppendUint64(what, word)
	}
	return p.content[p.find(what):][16:53]
}

// TestMasks: one wrong bit of a mask is corrected and reported; two are reported,
// and their values are left out.
func TestMasks(t *testing.T) {
	const place = `entry 0 of /buckets/bucket_0: key "one36" (023c4f48b5ba55259d5d86f2872637af)`
	for a := range 8 {
		for b := range a + 1 {
			p := newPatcher(t)
			wrong := byte(0x87) ^ 1<<a
			if b < a {
				wrong ^= 1 << b
			}
			p.entryOf("one36", 1036, 0, 0, 0)[32] = wrong
			want := expected(t, logSample)
			defect := fmt.Sprintf("%s: state mask %#02x is corrected to 0x87", place, wrong)
			if b < a {
				delete(want, pair{keys.FromString("one36"), keys.FromUint64(1036)})
				defect = fmt.Sprintf("%s: state mask %#02x cannot be corrected; what is in the slots is left out: [1036 0 0 0]", place, wrong)
			}
			p.holds(want, 1, defect)
		}
	}
}

// TestSpilledMask: one wrong bit in the mask of a spilled entry is corrected too.
func TestSpilledMask(t *testing.T) {
	p := newPatcher(t)
	p.entryOf("spill-5", 0, 26, 0, 0)[32] = 1
	p.holds(expected(t, logSample), 1,
		`entry 26 of /buckets/bucket_2: key "spill-5" (a9909c734ac750ad84e8f0fe04f8d931): state mask 0x01 is corrected to 0x00`)
}

// TestDirectoryBehind: what the directory says but the buckets do not is reported.
func TestDirectoryBehind(t *testing.T) {
	p := newPatcher(t)
	at := p.find([]byte(`"one36": 0, `))
	copy(p.content[at:], `"0ne36": 1, `)
	p.holds(expected(t, logSample), 1,
		fmt.Sprintf(`directory: key "0ne36" (%s) is in bucket 1, which has no entry of it`, keys.FromString("0ne36")),
		`directory: lacks key 023c4f48b5ba55259d5d86f2872637af of bucket 0, which is kept`)

	p = newPatcher(t)
	copy(p.content[p.find([]byte(`"one36": 0, `)):], `"one36": 2, `)
	p.holds(expected(t, logSample), 1,
		`directory: key "one36" (023c4f48b5ba55259d5d86f2872637af) is in bucket 2, but bucket 0 has its entry, which is kept`)

	p = newPatcher(t)
	copy(p.content[p.find([]byte(`"one36": 0, `)):], `"one36"; 0, `)
	p.holds(expected(t, logSample), 1, `attribute directory of /config: invalid character ';' after object key`,
		`directory: is not there or cannot be read; keys are taken from the buckets alone`)
}

// TestLostKeysAreRefused: a store none of whose keys can be read is an error, not
// an empty store.
func TestLostKeysAreRefused(t *testing.T) {
	p := newPatcher(t)
	p.content = bytes.ReplaceAll(p.content, []byte("state_mask\x00"), []byte("state-mask\x00"))
	p.write(nil)
	if _, err := read(p.content, nil); !errors.Is(err, legacy.ErrUnreadable) {
		t.Error(err)
	}
}
