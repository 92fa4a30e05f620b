package legacy_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cidstore/cidstore/keys"
	"github.com/cidstore/cidstore/legacy"
)

// golden is a golden file of format 1, without its gzip.
func golden(t testing.TB, name string) []byte {
	t.Helper()
	packed, err := os.Open(filepath.Join("..", "testdata", "golden", "format1", name+".gz"))
	must(t, err)
	defer packed.Close()
	r, err := gzip.NewReader(packed)
	must(t, err)
	content, err := io.ReadAll(r)
	must(t, err)
	return content
}

// goldenPairs are the pairs that a golden file must have.
func goldenPairs(t testing.TB, name string) map[pair]bool {
	t.Helper()
	pairs := make(map[pair]bool)
	for line := range strings.Lines(string(golden(t, name+".tsv"))) {
		var p pair
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		must(t, p.key.UnmarshalText([]byte(key)), p.value.UnmarshalText([]byte(value)))
		pairs[p] = true
	}
	return pairs
}

// logSecret is the secret of one golden file, and of no other.
var logSecret = []byte("a secret of the log")

func TestFormat1(t *testing.T) {
	for name, replayed := range map[string]int{"empty": 0, "closed": 0, "killed": 10, "secret": 10, "buckets": 0, "runs": 0} {
		t.Run(name, func(t *testing.T) {
			c, err := read(golden(t, name+".h5"), &legacy.Options{WALKey: logSecret})
			must(t, err)
			if c.Layout != legacy.Format1 || c.Replayed != replayed || c.DefectCount != 0 {
				t.Errorf("layout %s, %d replayed, %v", c.Layout, c.Replayed, c.Defects)
			}
			compare(t, c, goldenPairs(t, name))
		})
	}
}

// TestFormat1Secret: a log with a secret is read only with that secret.
func TestFormat1Secret(t *testing.T) {
	content := golden(t, "secret.h5")
	for _, key := range [][]byte{nil, []byte("another")} {
		if c, err := read(content, &legacy.Options{WALKey: key}); !errors.Is(err, legacy.ErrKey) {
			t.Errorf("secret %q: %v, %v", key, c, err)
		}
	}
}

// The places of a file of format 1 that tests change.
const (
	slot0, slot1, slotBytes = 4096, 8192, 4096
	slotGeneration          = 32
	slotMap0, slotMap1      = 128, 160
	slotRecord, slotSum     = 192, 4092
)

func u64(p []byte, at int) int { return int(binary.LittleEndian.Uint64(p[at:])) }

func putU64(p []byte, at, word int) { binary.LittleEndian.PutUint64(p[at:], uint64(word)) }

// sum is a CRC32C.
func sum(parts ...[]byte) (sum uint32) {
	for _, p := range parts {
		sum = crc32.Update(sum, crc32.MakeTable(crc32.Castagnoli), p)
	}
	return sum
}

// seal gives both slots the checksums of what they have now.
func seal(content []byte) {
	for _, at := range []int{slot0, slot1} {
		slot := content[at:][:slotBytes]
		binary.LittleEndian.PutUint32(slot[slotSum:], sum(slot[:slotSum]))
	}
}

// newest is the newer slot.
func newest(content []byte) []byte {
	if u64(content, slot0+slotGeneration) > u64(content, slot1+slotGeneration) {
		return content[slot0:][:slotBytes]
	}
	return content[slot1:][:slotBytes]
}

// place is where the first state of a page is, by the first record of the first
// leaf of a chunk map.
func statePlace(content []byte, chunkMap int) int {
	return u64(content, u64(newest(content), chunkMap))
}

// holdsAll wants only expected pairs, and all of them except those of the lost
// keys.
func holdsAll(t *testing.T, c *legacy.Contents, want map[pair]bool, lost ...keys.E) {
	t.Helper()
	kept := maps.Clone(want)
	maps.DeleteFunc(kept, func(p pair, _ bool) bool { return slices.Contains(lost, p.key) })
	compare(t, c, kept)
}

// TestFormat1Damage damages one structure after another. What is wrong is reported
// with its place, and everything else is read.
func TestFormat1Damage(t *testing.T) {
	whole, want := golden(t, "closed.h5"), goldenPairs(t, "closed")
	bucket, sets := statePlace(whole, slotMap0), statePlace(whole, slotMap1)
	row, tail := u64(whole, bucket+8), u64(whole, bucket+32)
	key := keys.E{High: binary.LittleEndian.Uint64(whole[row:]), Low: binary.LittleEndian.Uint64(whole[row+8:])}
	tree, small := -1, -1 // states of sets
	for at := sets; at < sets+64*72; at += 72 {
		switch class := binary.LittleEndian.Uint16(whole[at+68:]); {
		case class == 65535:
			tree = at
		case class > 0 && small < 0:
			small = at
		}
	}
	owner := func(at int) keys.E { return keys.E{High: uint64(u64(whole, at)), Low: uint64(u64(whole, at+8))} }
	for _, c := range []struct {
		name    string
		damage  func(p []byte)
		lost    []keys.E
		defects []string
	}{
		{"slot", func(p []byte) { p[slot0+slotRecord]++ }, nil, []string{"commit slot at 4096: its checksum is wrong"}},
		{"map node", func(p []byte) { p[u64(newest(p), slotMap0)+4000]++ }, nil, []string{"chunk map of /buckets/state, node at "}},
		{"page of buckets", func(p []byte) { p[bucket+84]++ }, nil, []string{"page 0 of /buckets/state at "}},
		{"page of sets", func(p []byte) { p[sets+64*72]++ }, nil, []string{"page 0 of /values/state at "}},
		{"count of a set", func(p []byte) { p[small+40]++ }, []keys.E{owner(small)}, []string{"page 0 of /values/state at ", "values, and"}},
		{"both counts of a set", func(p []byte) { p[small+44]++; p[small+60]++ }, []keys.E{owner(small)}, []string{"the row of set 0 at "}},
		{"row of a set", func(p []byte) { p[u64(p, small+24)]++ }, []keys.E{owner(small)}, []string{"the row of set "}},
		{"root of a tree", func(p []byte) { p[u64(p, tree+24)]++ }, []keys.E{owner(tree)}, []string{"of /values/nodes at "}},
		{"owner of a set", func(p []byte) { p[small]++ }, []keys.E{owner(small)}, []string{"page 0 of /values/state at ", "is not there, or of another key"}},
		{"entry", func(p []byte) { p[row+16]++ }, []keys.E{key}, []string{"entry 0 of the row of bucket 0 at "}},
		{"empty entry", func(p []byte) { clear(p[row:][:48]) }, []keys.E{key}, []string{"entry 0 of the row of bucket 0 at "}},
		{"mask", func(p []byte) { p[row+32] ^= 4 }, nil, []string{"is corrected to"}},
		{"address of a row", func(p []byte) { p[bucket+15] = 1 }, nil, []string{"page 0 of /buckets/state", "the row of bucket 0 at "}},
		{"tail", func(p []byte) { p[tail+16]++ }, nil, []string{"entry 0 of the tail of bucket 0 at "}},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			damaged := bytes.Clone(whole)
			c.damage(damaged)
			contents, err := read(damaged, nil)
			must(t, err)
			defects := fmt.Sprint(errors.Join(contents.Defects...))
			t.Log(defects)
			for _, part := range c.defects {
				if !strings.Contains(defects, part) {
					t.Errorf("lacks %q", part)
				}
			}
			if c.name != "tail" && c.name != "address of a row" { // on which other keys depend
				holdsAll(t, contents, want, c.lost...)
			}
		})
	}
}

// TestFormat1LostEntries: sets whose entries are lost are kept, because they name
// their keys.
func TestFormat1LostEntries(t *testing.T) {
	content := golden(t, "closed.h5")
	bucket := statePlace(content, slotMap0)
	clear(content[u64(content, bucket+8):][:48*48])  // the row
	clear(content[u64(content, bucket+32):][:16*48]) // and the tail: no key is left
	c, err := read(content, nil)
	must(t, err)
	if c.Keys() != 3 || c.Pairs() != 1900+54+4 || !strings.Contains(fmt.Sprint(errors.Join(c.Defects...)), "has no entry: it is made of the set") {
		t.Errorf("%d pairs: %v", c.Pairs(), errors.Join(c.Defects...))
	}
}

// TestFormat1TwoSets: if a key has two sets, the one that its entry names counts.
func TestFormat1TwoSets(t *testing.T) {
	content := golden(t, "closed.h5")
	leaf, page := u64(newest(content), slotMap1), statePlace(content, slotMap1)
	copy(content[page+72*40:], content[page:][:72])
	numbers := make([]byte, 8) // page 0
	seed := [][]byte{newest(content)[16:32], numbers, content[leaf+8:][:8]}
	binary.LittleEndian.PutUint32(content[leaf+20:], sum(append(seed, content[page:][:64*72+4])...))
	for _, at := range []int{slot0, slot1} {
		binary.LittleEndian.PutUint32(content[at+slotMap1+28:], sum(content[leaf:][:4096]))
	}
	seal(content)
	c, err := read(content, nil)
	if err != nil || c.DefectCount != 1 || !strings.Contains(c.Defects[0].Error(), "set 40 of /values/state: ") {
		t.Fatalf("%v, %v", c.Defects, err)
	}
	compare(t, c, goldenPairs(t, "closed"))
}

// TestFormat1TreeLosesALeaf: the other leaves of a tree are read.
func TestFormat1TreeLosesALeaf(t *testing.T) {
	content, want := golden(t, "closed.h5"), goldenPairs(t, "closed")
	sets := statePlace(content, slotMap1)
	for at := sets; ; at += 72 {
		if binary.LittleEndian.Uint16(content[at+68:]) == 65535 {
			root := u64(content, at+24)
			content[u64(content, root+64+24)]++ // the second child
			break
		}
	}
	c, err := read(content, nil)
	if err != nil || c.DefectCount != 1 || c.Pairs() < len(want)-256 || c.Pairs() >= len(want) || c.Keys() != 48 {
		t.Fatalf("%d pairs, %v, %v", c.Pairs(), c.Defects, err)
	}
}

// TestFormat1DeepMap: the chunk maps of a large store have inner nodes.
func TestFormat1DeepMap(t *testing.T) {
	content := golden(t, "closed.h5")
	leaf, inner := u64(newest(content), slotMap0), make([]byte, 4096)
	putU64(inner, 0, leaf)
	binary.LittleEndian.PutUint32(inner[16:], sum(content[leaf:][:4096]))
	for _, at := range []int{slot0, slot1} {
		putU64(content, at+slotMap0, len(content))
		binary.LittleEndian.PutUint32(content[at+slotMap0+24:], 1)
		binary.LittleEndian.PutUint32(content[at+slotMap0+28:], sum(inner))
	}
	seal(content)
	c, err := read(append(content, inner...), nil)
	if err != nil || c.DefectCount > 0 {
		t.Fatalf("%v, %v", c, err)
	}
	compare(t, c, goldenPairs(t, "closed"))
}

// TestFormat1Log: the log is replayed up to its damage, and not at all if it is not
// in the file.
func TestFormat1Log(t *testing.T) {
	whole, record := golden(t, "killed.h5"), slotRecord
	log := u64(newest(whole), record+96)
	first := u64(newest(whole), record+8) + 1 // after what is applied
	for name, damage := range map[string]func(p []byte){
		"record":      func(p []byte) { p[log+64*(first%1024)+24]++ },
		"last record": func(p []byte) { p[log+64*((first+130)%1024)+24]++ },
		"address":     func(p []byte) { putU64(p, slot0+record+96, 1<<40); putU64(p, slot1+record+96, 1<<40); seal(p) },
		"epoch":       func(p []byte) { clear(p[slot0+record+248:][:56]); clear(p[slot1+record+248:][:56]); seal(p) },
		"epochs":      func(p []byte) { p[slot0+record+240], p[slot1+record+240] = 9, 9; seal(p) },
		"block":       func(p []byte) { p[slot0+record+156], p[slot1+record+156] = 1, 1; seal(p) },
	} {
		damaged := bytes.Clone(whole)
		damage(damaged)
		c, err := read(damaged, nil)
		if err != nil || c.Replayed > 9 || c.Keys() == 0 || c.DefectCount == 0 {
			t.Errorf("%s: %+v, %v", name, c, err)
			continue
		}
		t.Logf("%s: %v", name, errors.Join(c.Defects...))
	}
}

// TestFormat1Flipped: wrong bytes anywhere do not make pairs that never existed,
// and no pair is lost without a defect.
func TestFormat1Flipped(t *testing.T) {
	for _, name := range []string{"closed", "killed", "buckets"} {
		whole, want := golden(t, name+".h5"), goldenPairs(t, name)
		random := rand.New(rand.NewPCG(1, 2))
		refused, defects := 0, 0
		step := len(whole) / 150
		if name == "killed" {
			step = 200_000 / 150 // what follows is empty
		}
		for at, n := 0, 0; at < len(whole) && n < 150; at, n = at+1+random.IntN(2*step), n+1 {
			was := whole[at]
			whole[at] ^= byte(1 + random.IntN(255))
			c, err := readHostile(t, whole, nil)
			whole[at] = was
			if err != nil {
				refused++
				continue
			}
			if c.DefectCount > 0 {
				defects++
			}
			judge(t, c, want, fmt.Sprintf("%s: byte %#x", name, at))
		}
		t.Logf("%s: %d refused, %d with defects", name, refused, defects)
	}
}

// judge wants every pair, or a defect. It wants no other pair, unless changes that
// come after it were lost.
func judge(t *testing.T, c *legacy.Contents, want map[pair]bool, what string) {
	t.Helper()
	good, wrong := 0, 0
	for key, value := range c.All() {
		if want[pair{key, value}] {
			good++
		} else {
			wrong++
		}
	}
	defects := fmt.Sprint(errors.Join(c.Defects...))
	if good < len(want) && c.DefectCount == 0 {
		t.Errorf("%s: %d of %d pairs without a word", what, good, len(want))
	}
	later := false
	for _, place := range []string{"of /buckets/state", "the tail of", "log: ", "commit slot", "file: "} {
		later = later || strings.Contains(defects, place)
	}
	if wrong > 0 && !later {
		t.Errorf("%s: %d pairs that are not wanted: %s", what, wrong, defects)
	}
}

// TestFormat1Cut: that a file is cut short is reported.
func TestFormat1Cut(t *testing.T) {
	whole, want := golden(t, "closed.h5"), goldenPairs(t, "closed")
	for size := 0; size < len(whole); size += 1 + len(whole)/60 {
		c, err := readHostile(t, whole[:size], nil)
		if err != nil {
			continue
		}
		if c.DefectCount == 0 {
			t.Errorf("%d of %d bytes are read without a word", size, len(whole))
		}
		judge(t, c, want, fmt.Sprintf("%d bytes", size))
	}
}

// TestFormat1Hostile: addresses that lead in circles, out of the file, or to the
// same bytes many times do not keep Read from ending.
func TestFormat1Hostile(t *testing.T) {
	whole := golden(t, "closed.h5")
	leaf, bucket, sets := u64(newest(whole), slotMap0), statePlace(whole, slotMap0), statePlace(whole, slotMap1)
	for name, change := range map[string]func(p []byte){
		"pages": func(p []byte) {
			for i := range 170 {
				copy(p[leaf+24*i:], p[leaf:][:24])
			}
		},
		"buckets": func(p []byte) {
			for i := range 64 {
				copy(p[bucket+104*i:], p[bucket:][:104])
				copy(p[bucket+104*i+72:], "\xff\xff\xff\xff")
			}
		},
		"circle of nodes": func(p []byte) {
			for i := range 128 {
				putU64(p, leaf+24*i, leaf)
			}
			p[slot0+slotMap0+24], p[slot1+slotMap0+24] = 5, 5
			seal(p)
		},
		"depth of a map": func(p []byte) { p[slot0+slotMap0+27], p[slot1+slotMap0+27] = 9, 9; seal(p) },
		"depth of a tree": func(p []byte) {
			for at := sets; at < sets+64*72; at += 72 {
				copy(p[at+68:], "\xff\xff\xff\xff")
			}
		},
		"threshold": func(p []byte) { clear(p[slot0+slotRecord+148:][:4]); clear(p[slot1+slotRecord+148:][:4]); seal(p) },
		"generation": func(p []byte) {
			putU64(p, slot0+slotGeneration, -1)
			seal(p)
		},
	} {
		damaged := bytes.Clone(whole)
		change(damaged)
		if c, err := readHostile(t, damaged, nil); err == nil {
			t.Logf("%s: %d keys, %d defects", name, c.Keys(), c.DefectCount)
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
}

// TestFormat1IsCancelled: a context that ends is not damage.
func TestFormat1IsCancelled(t *testing.T) {
	content := golden(t, "closed.h5")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if c, err := legacy.Read(ctx, bytes.NewReader(content), int64(len(content)), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v", c, err)
	}
}

// FuzzFormat1 changes bytes of a store, and corrects the checksums of the slots; no
// other wrong checksum stops the reader. An edit is a place of 3 bytes, and a byte.
func FuzzFormat1(f *testing.F) {
	whole := golden(f, "killed.h5")[:200_000]
	map0, state := u64(newest(whole), slotMap0), statePlace(whole, slotMap0)
	for _, at := range []int{slot0 + slotMap0 + 24, slot0 + slotRecord + 240, map0, map0 + 24, state + 8, state + 72, statePlace(whole, slotMap1) + 68} {
		f.Add([]byte{byte(at), byte(at >> 8), byte(at >> 16), 0xff})
	}
	f.Fuzz(func(t *testing.T, edits []byte) {
		damaged := bytes.Clone(whole)
		for ; len(edits) >= 4; edits = edits[4:] {
			at := int(edits[0]) | int(edits[1])<<8 | int(edits[2])<<16
			damaged[at%len(damaged)] ^= edits[3]
		}
		seal(damaged)
		_, _ = readHostile(t, damaged, nil)
	})
}
