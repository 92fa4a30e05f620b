package crashfs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/cidstore/cidstore/vfs"
	"pgregory.net/rapid"
)

func must(t rapid.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func open(t rapid.TB, s *FS, name string) vfs.File {
	t.Helper()
	f, err := s.OpenFile(name, vfs.ReadWrite|vfs.Create, 0o600)
	must(t, err)
	return f
}

// read returns the bytes of a file, "-" if there is none.
func read(t rapid.TB, s *FS, name string) string {
	t.Helper()
	f, err := s.OpenFile(name, vfs.ReadOnly, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return "-"
	}
	must(t, err)
	defer f.Close()
	info, err := f.Info()
	must(t, err)
	p := make([]byte, info.Size)
	_, err = f.ReadAt(p, 0)
	must(t, err)
	return string(p)
}

// fill is a sector of one letter.
func fill(c byte) []byte { return bytes.Repeat([]byte{c}, sectorSize) }

// letters shortens file contents made of fills: one letter for each sector, "." for
// zeros, "?" for anything else.
func letters(content string) string {
	var b strings.Builder
	for s := range slices.Chunk([]byte(content), sectorSize) {
		switch {
		case allZero(s):
			b.WriteByte('.')
		case bytes.Equal(s, bytes.Repeat(s[:1], len(s))):
			b.WriteByte(s[0])
		default:
			b.WriteByte('?')
		}
	}
	return b.String()
}

// found collects what a class leaves of file f, at the end of the trace.
func found(t *testing.T, tr *Trace, class Class) []string {
	t.Helper()
	var all []string
	for img := range tr.Enumerate(Plan{Classes: []Class{class}, From: tr.Len()}).Images() {
		all = append(all, letters(read(t, img.FS(), "f")))
	}
	slices.Sort(all)
	return all
}

// leaves holds what a class leaves of file f to what is wanted, in order.
func leaves(t *testing.T, tr *Trace, class Class, want ...string) {
	t.Helper()
	if got := found(t, tr, class); !slices.Equal(got, want) {
		t.Errorf("%v: %v, want %v", class, got, want)
	}
}

func TestClasses(t *testing.T) {
	s := New(Options{})
	f := open(t, s, "f")
	must(t, f.WriteAt(slices.Concat(fill('a'), fill('b'), fill('c')), 0))
	tr := s.Record()
	must(t, f.WriteAt(fill('A'), 0), f.WriteAt(fill('B'), sectorSize), f.WriteAt(fill('X'), sectorSize))
	must(t, f.WriteAt(fill('D'), 3*sectorSize))
	for _, tt := range []struct {
		class Class
		want  string
	}{
		{Issued, "AXcD"},
		{Synced, "abc"},
		{OneSector, "Abc. AXc. AbcD aXc. aXcD abcD"},
		{AllSubsets, "ABc. ABcD AXc. AXcD Abc. AbcD aBc. aBcD aXc. aXcD abc. abcD"},
		{RandomSubsets, ""},
		{Sizes, "AXc AXcD abc abc."},
		{Names, ""},
	} {
		want := strings.Fields(tt.want)
		slices.Sort(want)
		leaves(t, tr, tt.class, want...)
	}
	damaged := found(t, tr, Garbage)
	for _, want := range []string{".XcD", "?XcD", "A.cD", ".bc.", "abc?"} {
		if !slices.Contains(damaged, want) {
			t.Errorf("no image %q among the damaged: %v", want, damaged)
		}
	}
}

func TestRandomSubsetsReplaceAllSubsets(t *testing.T) {
	s := New(Options{})
	f := open(t, s, "f")
	tr := s.Record()
	for i := range 11 {
		must(t, f.WriteAt(fill('a'+byte(i)), int64(i)*sectorSize))
	}
	leaves(t, tr, AllSubsets)
	if got := found(t, tr, RandomSubsets); len(got) < 8 {
		t.Fatalf("%d random subsets: %v", len(got), got)
	}
}

func TestWriteSyncKeepsItsRangeAlone(t *testing.T) {
	s := New(Options{})
	f := open(t, s, "f")
	must(t, f.WriteAt(make([]byte, 4*sectorSize), 0))
	tr := s.Record()
	must(t, f.WriteAt(fill('a'), 0), f.WriteSync(fill('b'), sectorSize), f.WriteAt(fill('c'), 2*sectorSize))
	leaves(t, tr, Synced, ".b..")
	must(t, f.Datasync())
	leaves(t, tr, Synced, "abc.")
	must(t, f.WriteSync(fill('e'), 4*sectorSize)) // and its size
	leaves(t, tr, Synced, "abc.e")
}

func TestTruncateIsUnsynced(t *testing.T) {
	s := New(Options{})
	f := open(t, s, "f")
	must(t, f.WriteAt(slices.Concat(fill('a'), fill('b'), fill('c')), 0))
	tr := s.Record()
	must(t, f.Truncate(sectorSize), f.Allocate(0, 2*sectorSize))
	leaves(t, tr, Sizes, "a", "a.", "a..", "ab", "abc")
	must(t, f.Sync())
	leaves(t, tr, Sizes)
	leaves(t, tr, Synced, "a.")
}

func TestNamesNeedSyncDir(t *testing.T) {
	s := New(Options{})
	must(t, open(t, s, "d/old").WriteAt(fill('o'), 0))
	tr := s.Record()
	f := open(t, s, "d/tmp")
	must(t, f.WriteAt(fill('n'), 0), f.Sync(), s.Rename("d/tmp", "d/old"), s.Remove("d/old"))
	states := func() map[string]bool {
		got := map[string]bool{}
		for img := range tr.Enumerate(Plan{From: tr.Len()}).Images() {
			w := img.FS()
			got[letters(read(t, w, "d/old"))+letters(read(t, w, "d/tmp"))] = true
		}
		return got
	}
	want := map[string]bool{"o-": true, "on": true, "n-": true, "--": true}
	if got := states(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("before SyncDir: %v", got)
	}
	must(t, s.SyncDir("elsewhere"))
	if got := states(); len(got) != 4 {
		t.Fatalf("after SyncDir of another directory: %v", got)
	}
	must(t, s.SyncDir("d"))
	if got := states(); len(got) != 1 || !got["--"] {
		t.Fatalf("after SyncDir: %v", got)
	}
}

func TestFailSync(t *testing.T) {
	for _, tt := range []struct {
		mode               SyncFailure
		cache, after, disk string // in the cache; on the disk after the failure, after the next sync
	}{
		{FailKeep, "BB", "ab", "BB"},
		{FailRevert, "ab", "ab", "ab"},
		{FailLost, "BB", "ab", "ab"},
	} {
		s := New(Options{})
		f := open(t, s, "f")
		must(t, f.WriteAt(append(fill('a'), fill('b')...), 0))
		tr := s.Record()
		s.FailSync(tt.mode, 1, 1)
		must(t, f.Datasync(), f.WriteAt(append(fill('B'), fill('B')...), 0))
		if err := f.Datasync(); !errors.Is(err, ErrSync) {
			t.Fatalf("mode %d: sync: %v", tt.mode, err)
		}
		if got := letters(read(t, s, "f")); got != tt.cache {
			t.Errorf("mode %d: cache %s, want %s", tt.mode, got, tt.cache)
		}
		leaves(t, tr, Synced, tt.after)
		must(t, f.Datasync())
		leaves(t, tr, Synced, tt.disk)
		must(t, f.WriteAt(append(fill('c'), fill('c')...), 0), f.Datasync())
		leaves(t, tr, Synced, "cc")
	}
}

func TestFailSyncOfRange(t *testing.T) {
	s := New(Options{})
	f := open(t, s, "f")
	must(t, f.WriteAt(append(fill('a'), fill('b')...), 0))
	tr := s.Record()
	must(t, f.WriteAt(fill('A'), 0))
	s.FailSync(FailRevert, 0, 1)
	if err := f.WriteSync(fill('B'), sectorSize); !errors.Is(err, ErrSync) {
		t.Fatal(err)
	}
	if got := letters(read(t, s, "f")); got != "Ab" {
		t.Fatalf("cache %s", got)
	}
	leaves(t, tr, OneSector, "Ab", "ab")
}

func TestCapacity(t *testing.T) {
	s := New(Options{Capacity: 4 * pageSize})
	f := open(t, s, "f")
	must(t, f.WriteAt(make([]byte, 2*pageSize), 0))
	must(t, f.WriteAt(make([]byte, 2*pageSize), 0)) // the same space
	if err := f.Allocate(pageSize, 4*pageSize); !errors.Is(err, vfs.ErrNoSpace) {
		t.Fatalf("allocate: %v", err)
	}
	if err := f.WriteAt(bytes.Repeat([]byte{1}, 3*pageSize), 2*pageSize+1); !errors.Is(err, vfs.ErrNoSpace) {
		t.Fatalf("write: %v", err)
	}
	if info, err := f.Info(); err != nil || info.Size != 4*pageSize || info.Allocated != 4*pageSize {
		t.Fatalf("a write stopped by a full disk: %+v, %v", info, err)
	}
	g := open(t, s, "g")
	if err := g.WriteAt([]byte{1}, 0); !errors.Is(err, vfs.ErrNoSpace) {
		t.Fatalf("write to another file: %v", err)
	}
	must(t, f.Truncate(pageSize), g.WriteAt([]byte{1}, 0), s.Remove("f"))
	if err := g.Allocate(0, 4*pageSize); !errors.Is(err, vfs.ErrNoSpace) {
		t.Fatalf("the removed file is open and has its space: %v", err)
	}
	must(t, f.Close(), g.Allocate(0, 4*pageSize))
	s.SetCapacity(5 * pageSize)
	must(t, g.Allocate(0, 5*pageSize))
}

func TestFileLimit(t *testing.T) {
	s := New(Options{FileLimit: 1})
	f := open(t, s, "f")
	must(t, f.Truncate(pageSize))
	for name, err := range map[string]error{
		"write":    f.WriteAt([]byte{1}, pageSize),
		"far":      f.WriteAt([]byte{1}, 1<<62),
		"allocate": f.Allocate(0, pageSize+1),
		"truncate": f.Truncate(pageSize + 1),
	} {
		if !errors.Is(err, vfs.ErrNoSpace) {
			t.Errorf("%s past the limit: %v", name, err)
		}
	}
}

func TestCrashEndsEverything(t *testing.T) {
	s := New(Options{})
	f := open(t, s, "f")
	must(t, f.TryLock(vfs.Lock{Whole: true, Exclusive: true}), f.WriteSync([]byte("x"), 0))
	c := s.Copy()
	s.Crash()
	_, openErr := s.OpenFile("f", vfs.ReadOnly, 0)
	for name, err := range map[string]error{"write": f.WriteAt([]byte("y"), 0), "open": openErr, "sync dir": s.SyncDir(".")} {
		if !errors.Is(err, fs.ErrClosed) {
			t.Errorf("%s after a crash: %v", name, err)
		}
	}
	must(t, open(t, c, "f").TryLock(vfs.Lock{Whole: true, Exclusive: true}))
}

// TestReleasedMemoryIsClean: a file of a file system that is released, or a file that is removed,
// gives its memory to later files, which are empty. A file that is mapped keeps it.
func TestReleasedMemoryIsClean(t *testing.T) {
	o := Options{FileLimit: 20 * pageSize} // a pool of its own
	first := New(o)
	f := open(t, first, "f")
	must(t, f.WriteAt(fill('a'), 0))
	removed := open(t, first, "removed")
	must(t, removed.WriteAt(fill('b'), 5*pageSize))
	mapped := open(t, first, "mapped")
	must(t, mapped.WriteAt(fill('c'), 0))
	m, err := mapped.Map(pageSize)
	must(t, err)
	view, err := m.View(0, sectorSize)
	must(t, err)
	must(t, first.Remove("mapped"), mapped.Close(), first.Remove("removed"), removed.Close())
	first.Release()
	if err := f.WriteAt(fill('d'), 0); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("a write after the release: %v", err)
	}
	if n := len(poolOf(o.FileLimit).clean); n != 2 {
		t.Errorf("%d files gave their memory, want 2", n)
	}
	second := New(o)
	for i := range 3 {
		name := fmt.Sprint(i)
		must(t, open(t, second, name).Truncate(20*pageSize))
		if got := read(t, second, name); !allZeros(got) {
			t.Errorf("file %d is not empty: %s", i, letters(got))
		}
		must(t, open(t, second, name).WriteAt(fill('e'), 0))
	}
	if !bytes.Equal(view, fill('c')) {
		t.Error("the mapped file has changed")
	}
	must(t, m.Close())
}

func allZeros(s string) bool { return strings.Trim(s, "\x00") == "" }
