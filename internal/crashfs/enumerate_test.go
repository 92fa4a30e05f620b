package crashfs

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cidstore/cidstore/vfs"
	"pgregory.net/rapid"
)

// modelFile is the simplest model of one file: what processes see, what is synced,
// and every version of each sector that the disk may have.
type modelFile struct {
	cache    []byte
	disk     [modelLimit]byte
	diskSize int
	versions map[int]map[string]bool // by sector: contents since the last sync, including its own
	sizes    []int                   // the same for sizes
}

const modelLimit = 8 * sectorSize

func newModelFile() *modelFile {
	m := &modelFile{cache: make([]byte, 0, modelLimit)}
	m.sync()
	return m
}

// at returns sector i, padded with zeros past the end.
func at(content []byte, i int) string {
	var s [sectorSize]byte
	copy(s[:], content[min(i*sectorSize, len(content)):])
	return string(s[:])
}

func (m *modelFile) note() {
	for i := range modelLimit / sectorSize {
		m.versions[i][at(m.cache, i)] = true
	}
	m.sizes = append(m.sizes, len(m.cache))
}

func (m *modelFile) resize(size int) {
	old := len(m.cache)
	m.cache = m.cache[:size]
	if size > old {
		clear(m.cache[old:])
	}
}

func (m *modelFile) write(p []byte, off int) {
	m.resize(max(len(m.cache), off+len(p)))
	copy(m.cache[off:], p)
	m.note()
}

func (m *modelFile) sync() {
	m.versions = map[int]map[string]bool{}
	m.syncSectors(0, modelLimit/sectorSize)
	m.syncSize()
}

func (m *modelFile) syncSize() {
	m.sizes, m.diskSize = []int{len(m.cache)}, len(m.cache)
}

// syncRange is what a WriteSync does after its write.
func (m *modelFile) syncRange(off, n int) {
	m.syncSectors(off/sectorSize, (off+n+sectorSize-1)/sectorSize)
	if off+n > slices.Min(m.sizes) {
		m.syncSize()
	}
}

func (m *modelFile) syncSectors(first, end int) {
	for i := first; i < end; i++ {
		copy(m.disk[i*sectorSize:], at(m.cache, i))
		m.versions[i] = map[string]bool{at(m.cache, i): true}
	}
}

func (m *modelFile) synced() string { return string(m.disk[:m.diskSize]) }

// step is what a cut must agree with: each file by its name.
type step map[string]modelFile

func (m *modelFile) clone() modelFile {
	c := *m
	c.cache, c.sizes = slices.Clone(m.cache), slices.Clone(m.sizes)
	c.versions = map[int]map[string]bool{}
	for i, v := range m.versions {
		c.versions[i] = map[string]bool{}
		for s := range v {
			c.versions[i][s] = true
		}
	}
	return c
}

// TestImagesAgreeWithModel: at every cut, "issued" is what processes saw,
// "synced" is what was synced, every other sector is one of its versions and
// every size one of the sizes, whatever the users of earlier images wrote.
func TestImagesAgreeWithModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := New(Options{FileLimit: 2 * pageSize})
		names := []string{"f", "g"}
		model, files := map[string]*modelFile{}, map[string]vfs.File{}
		for _, name := range names {
			files[name], model[name] = open(t, s, name), newModelFile()
		}
		tr := s.Record()
		steps := []step{}
		note := func() {
			st := step{}
			for name, m := range model {
				st[name] = m.clone()
			}
			steps = append(steps, st)
		}
		note()
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			name := rapid.SampledFrom(names).Draw(t, "file")
			f, m := files[name], model[name]
			off := rapid.IntRange(0, modelLimit-1).Draw(t, "offset")
			p := make([]byte, rapid.IntRange(1, min(3*sectorSize, modelLimit-off)).Draw(t, "length"))
			for i := range p {
				p[i] = byte(len(steps)) + 1
			}
			switch rapid.SampledFrom([]string{"write", "write", "writesync", "truncate", "allocate", "sync", "mark"}).Draw(t, "call") {
			case "write":
				must(t, f.WriteAt(p, int64(off)))
				m.write(p, off)
			case "writesync": // two entries of the trace
				must(t, f.WriteSync(p, int64(off)))
				m.write(p, off)
				note()
				m.syncRange(off, len(p))
			case "truncate":
				must(t, f.Truncate(int64(off)))
				m.resize(off)
				m.note()
			case "allocate":
				must(t, f.Allocate(int64(off), int64(len(p))))
				m.resize(max(len(m.cache), off+len(p)))
				m.note()
			case "sync":
				must(t, f.Datasync())
				m.sync()
			case "mark":
				s.Mark(len(steps))
			}
			note()
		}
		if len(steps) != tr.Len()+1 {
			t.Fatalf("%d entries of %d steps", tr.Len(), len(steps))
		}
		judgeAll(t, tr, names, steps)
	})
}

// judgeAll holds every image of a trace to the step that it was cut at.
func judgeAll(t *rapid.T, tr *Trace, names []string, steps []step) {
	plan := Plan{Subsets: 6, Random: 4, Seed: rapid.Uint64().Draw(t, "seed")}
	seen, marks := map[string]bool{}, 0
	for img := range tr.Enumerate(plan).Images() {
		if len(img.Marks) != marks {
			clear(seen)
			marks = len(img.Marks)
		}
		w := img.FS()
		key := ""
		for _, name := range names {
			got, want := read(t, w, name), steps[img.Cut][name]
			judge(t, img, name, got, &want)
			key += fmt.Sprint(len(got)) + got
		}
		if seen[key] {
			t.Fatalf("%v: handed out twice", img)
		}
		seen[key] = true
		scribble(t, w, names)
	}
	if len(seen) == 0 {
		t.Fatal("no images")
	}
}

func judge(t *rapid.T, img *Image, name, got string, want *modelFile) {
	switch {
	case img.Class == Issued && got != string(want.cache):
		t.Fatalf("%v: %s is %s, processes saw %s", img, name, letters(got), letters(string(want.cache)))
	case img.Class == Synced && got != want.synced():
		t.Fatalf("%v: %s is %s, synced was %s", img, name, letters(got), letters(want.synced()))
	case !slices.Contains(want.sizes, len(got)):
		t.Fatalf("%v: %s has %d bytes, not one of %v", img, name, len(got), want.sizes)
	case img.Class == Garbage:
		return
	}
	for i := range (len(got) + sectorSize - 1) / sectorSize {
		sector := at([]byte(got), i)
		whole := (i+1)*sectorSize <= len(got)
		ok := want.versions[i][sector]
		for v := range want.versions[i] { // a size within the sector cuts any version
			ok = ok || !whole && strings.HasPrefix(v, got[i*sectorSize:])
		}
		if !ok {
			t.Fatalf("%v: sector %d of %s is none of its versions", img, i, name)
		}
	}
}

// scribble is a store that writes everywhere in the image.
func scribble(t *rapid.T, s *FS, names []string) {
	f := open(t, s, names[0])
	must(t, f.WriteAt([]byte("scribble"), 1000), f.Truncate(0), s.Rename(names[0], names[1]))
	must(t, open(t, s, "new").WriteAt([]byte("new"), 77))
}

// counterStore is a store of one number in two slots, each a sector with its
// generation; sync says whether it keeps its promises.
type counterStore struct {
	f    vfs.File
	gen  int
	sync bool
}

func openCounter(t testing.TB, s *FS, sync bool) *counterStore {
	c := &counterStore{f: open(t, s, "store"), sync: sync}
	p := make([]byte, sectorSize)
	for slot := range int64(2) {
		if _, err := c.f.ReadAt(p, slot*sectorSize); err == nil && p[0] == p[sectorSize-1] {
			c.gen = max(c.gen, int(p[0]))
		}
	}
	return c
}

func (c *counterStore) increment(t testing.TB) {
	c.gen++
	must(t, c.f.WriteAt(fill(byte(c.gen)), int64(c.gen%2)*sectorSize))
	if c.sync {
		must(t, c.f.Datasync())
	}
}

// runCounter increments some times on a recorded disk, with a mark for each that was
// acknowledged.
func runCounter(t testing.TB, s *FS, sync bool, times int) *Trace {
	must(t, open(t, s, "store").WriteSync(make([]byte, 2*sectorSize), 0))
	tr := s.Record()
	c := openCounter(t, s, sync)
	for range times {
		c.increment(t)
		s.Mark(c.gen)
	}
	return tr
}

// lost counts the images in which an acknowledged increment is missing. The
// recovery of each is crashed once more.
func lost(t testing.TB, tr *Trace, sync bool) (bad, nested int) {
	for img := range tr.Enumerate(Plan{}).Images() {
		acked := 0
		if len(img.Marks) > 0 {
			acked = img.Marks[len(img.Marks)-1].(int)
		}
		w := img.FS()
		again := w.Record()
		c := openCounter(t, w, sync)
		if c.gen < acked {
			bad++
			continue
		}
		c.increment(t)
		for second := range again.Enumerate(Plan{}).Images() {
			nested++
			if openCounter(t, second.FS(), sync).gen < acked {
				bad++
			}
		}
	}
	return bad, nested
}

func TestFindsTheMissingSync(t *testing.T) {
	if bad, nested := lost(t, runCounter(t, New(Options{}), true, 5), true); bad != 0 || nested < 50 {
		t.Fatalf("%d violations by a correct store, %d nested images", bad, nested)
	}
	if bad, _ := lost(t, runCounter(t, New(Options{}), false, 5), false); bad == 0 {
		t.Fatal("a store that never syncs lost nothing")
	}
}

func TestShardsAndCutsRepeat(t *testing.T) {
	tr := runCounter(t, New(Options{}), true, 20)
	list := func(p Plan) (all []string) {
		for img := range tr.Enumerate(p).Images() {
			all = append(all, fmt.Sprintf("%v = %q", img, read(t, img.FS(), "store")))
		}
		return all
	}
	whole := list(Plan{Seed: 7})
	if again := list(Plan{Seed: 7}); !slices.Equal(whole, again) {
		t.Fatal("a second run found other images")
	}
	joined := append(list(Plan{Seed: 7, Shards: 2}), list(Plan{Seed: 7, Shard: 1, Shards: 2})...)
	slices.Sort(joined)
	sorted := slices.Sorted(slices.Values(whole))
	if !slices.Equal(joined, sorted) {
		t.Fatal("the shards together are not the whole")
	}
	for _, one := range list(Plan{Seed: 7, From: 10, To: 10}) {
		if !strings.HasPrefix(one, "cut 10, ") {
			t.Fatalf("cut 10 alone gives %s", one)
		}
	}
}

func TestPerCutBoundsEachCut(t *testing.T) {
	s := New(Options{})
	f := open(t, s, "f")
	tr := s.Record()
	for i := range 30 {
		must(t, f.WriteAt(fill(byte(i)+1), int64(i)*sectorSize))
		s.Mark(i)
	}
	perCut, classes := map[int]int{}, map[Class]int{}
	for img := range tr.Enumerate(Plan{PerCut: 12}).Images() {
		perCut[img.Cut]++
		classes[img.Class]++
	}
	for cut, n := range perCut {
		if n > 12 {
			t.Fatalf("%d images at cut %d", n, cut)
		}
	}
	if len(perCut) != tr.Len()+1 || classes[OneSector] == 0 || classes[Garbage] == 0 || classes[Issued] < tr.Len() {
		t.Fatalf("%d cuts, %v", len(perCut), classes)
	}
}

func TestTraceEndsAtStop(t *testing.T) {
	s := New(Options{})
	f := open(t, s, "f")
	tr := s.Record()
	must(t, f.WriteAt([]byte("in"), 0))
	tr.Stop()
	must(t, f.WriteAt([]byte("out"), 0))
	next := s.Record()
	must(t, f.WriteAt([]byte("next"), 0))
	tr.Stop() // it must not end another recording
	s.Mark("note")
	if tr.Len() != 1 || next.Len() != 2 {
		t.Fatalf("%d and %d entries", tr.Len(), next.Len())
	}
	for img := range tr.Enumerate(Plan{Classes: []Class{Issued}, From: 1}).Images() {
		if got := read(t, img.FS(), "f"); got != "in" || !strings.Contains(img.String(), "write by crashfs.TestTraceEndsAtStop (enumerate_test.go:") {
			t.Fatalf("%q of %v", got, img)
		}
	}
}

func TestCrashGivesAnIndependentDisk(t *testing.T) {
	tr := runCounter(t, New(Options{}), true, 6)
	for seed := range uint64(20) {
		w := tr.Crash(seed)
		if c := openCounter(t, w, true); c.gen != 6 {
			t.Fatalf("seed %d: generation %d", seed, c.gen)
		}
	}
}

func TestImageOutOfTurnPanics(t *testing.T) {
	var kept *Image
	for img := range runCounter(t, New(Options{}), true, 1).Enumerate(Plan{}).Images() {
		kept = img
	}
	defer func() {
		if recover() == nil {
			t.Fatal("an image of a finished loop gave a file system")
		}
	}()
	kept.FS()
}
