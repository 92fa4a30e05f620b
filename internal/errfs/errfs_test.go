package errfs

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"testing"

	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/vfs"
)

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// open opens a file, which is new if there is none.
func open(t *testing.T, s vfs.FS, name string) vfs.File {
	t.Helper()
	f, err := s.OpenFile(name, vfs.ReadWrite|vfs.Create, 0o600)
	must(t, err)
	return f
}

// calls makes every call once, on a file that exists, and returns the error of
// each.
func calls(t *testing.T, s *FS) map[Op]error {
	errs := map[Op]error{}
	inner := open(t, s.inner, "dir/f")
	must(t, inner.WriteAt([]byte("0123456789"), 0))
	f := &file{fs: s, File: inner}
	_, errs[Open] = s.OpenFile("dir/f", vfs.ReadWrite, 0)
	_, errs[Stat] = s.Stat("dir/f")
	errs[SyncDir] = s.SyncDir("dir")
	_, errs[Read] = f.ReadAt(make([]byte, 4), 2)
	errs[Write] = f.WriteAt([]byte("abcd"), 2)
	errs[WriteSync] = f.WriteSync([]byte("ABCD"), 2)
	errs[Allocate] = f.Allocate(0, 20)
	errs[Truncate] = f.Truncate(10)
	errs[Datasync] = f.Datasync()
	errs[Sync] = f.Sync()
	lock := vfs.Lock{Offset: 5, Length: 1}
	errs[TryLock] = f.TryLock(lock)
	_, _, errs[ProbeLock] = f.ProbeLock(lock)
	errs[Unlock] = f.Unlock(lock)
	_, errs[Info] = f.Info()
	m, err := inner.Map(100)
	must(t, err)
	_, errs[View] = (&mapping{m, f}).View(2, 4)
	_, errs[Map] = f.Map(100)
	errs[Close] = f.Close()
	errs[Rename] = s.Rename("dir/f", "dir/g")
	if errs[Rename] == nil {
		errs[Rename] = s.inner.Rename("dir/g", "dir/f")
	}
	errs[Remove] = s.Remove("dir/f")
	return errs
}

func newFS() *FS { return New(crashfs.New(crashfs.Options{FileLimit: 1 << 16})) }

func TestEachKindFailsAlone(t *testing.T) {
	for op := Open; op < opEnd; op <<= 1 {
		s := newFS()
		fault := s.Add(Rule{Ops: op, Nth: 1, Err: vfs.ErrNoSpace})
		errs := calls(t, s)
		if len(errs) != 19 || 1<<len(errs) != opEnd {
			t.Fatalf("%d kinds of calls, %#x is the end", len(errs), opEnd)
		}
		for other, err := range errs {
			if other == op && !errors.Is(err, vfs.ErrNoSpace) || other != op && err != nil {
				t.Errorf("rule for %#x: call %#x: %v", op, other, err)
			}
		}
		if fault.Matched() != 1 || fault.Failed() != 1 {
			t.Errorf("rule for %#x: %d matched, %d failed", op, fault.Matched(), fault.Failed())
		}
	}
}

func TestNthOnceAndForever(t *testing.T) {
	for _, tt := range []struct {
		rule Rule
		want string // which of six writes fail
	}{
		{Rule{Ops: Write}, "......"},
		{Rule{Ops: Write, Nth: 1}, "x....."},
		{Rule{Ops: Write, Nth: 3}, "..x..."},
		{Rule{Ops: Write, Nth: 3, Forever: true}, "..xxxx"},
		{Rule{Ops: Write, Nth: 7}, "......"},
		{Rule{Nth: 2}, "x....."}, // the open came first
		{Rule{Path: "/f", Ops: Write, Nth: 2}, ".x...."},
		{Rule{Path: "/g", Nth: 1, Forever: true}, "......"},
		{Rule{Ops: Write, Off: 10, End: 20, Nth: 1, Forever: true}, ".x...."},
		{Rule{Ops: Write, Off: 9, End: 21, Nth: 1, Forever: true}, "xxx..."},
		{Rule{Ops: Syncs, Nth: 1, Forever: true}, "......"},
	} {
		s := newFS()
		fault := s.Add(tt.rule)
		f := open(t, s, "dir/f")
		got, failed := "", 0
		for i := range 6 {
			switch err := f.WriteAt(make([]byte, 10), int64(i)*10); {
			case err == nil:
				got += "."
			case errors.Is(err, ErrIO):
				got += "x"
				failed++
			default:
				t.Fatal(err)
			}
		}
		if got != tt.want || fault.Failed() != failed {
			t.Errorf("%+v: %s, want %s; counted %d", tt.rule, got, tt.want, fault.Failed())
		}
	}
}

func TestRenameMatchesEitherName(t *testing.T) {
	for _, path := range []string{"old", "new"} {
		s := newFS()
		open(t, s, "old")
		s.Add(Rule{Ops: Rename, Path: path, Nth: 1})
		var pe *fs.PathError
		if err := s.Rename("old", "new"); !errors.As(err, &pe) || pe.Op != "rename" || pe.Path != "old" {
			t.Fatalf("rename: %v", err)
		}
		s.Clear()
		must(t, s.Rename("old", "new"))
	}
}

func TestPartialReadAndWrite(t *testing.T) {
	s := newFS()
	f := open(t, s, "f")
	must(t, f.WriteAt([]byte("........"), 0))
	s.Add(Rule{Ops: Read | Write | WriteSync, Nth: 1, Forever: true, Partial: 3})
	if err := f.WriteAt([]byte("abcd"), 0); !errors.Is(err, ErrIO) {
		t.Fatal(err)
	}
	if err := f.WriteSync([]byte("ef"), 4); !errors.Is(err, ErrIO) {
		t.Fatal(err)
	}
	p := make([]byte, 8)
	if n, err := f.ReadAt(p, 0); n != 3 || !errors.Is(err, ErrIO) || string(p[:4]) != "abc\x00" {
		t.Fatalf("read %d, %v, %q", n, err, p)
	}
	s.Clear()
	if _, err := f.ReadAt(p, 0); err != nil || string(p) != "abc.ef.." {
		t.Fatalf("%q, %v", p, err)
	}
}

// This is the purpose of the package: count, then make each call fail.
func TestCountThenFailEach(t *testing.T) {
	run := func(s *FS) error {
		f, err := s.OpenFile("f", vfs.ReadWrite|vfs.Create, 0o600)
		for i := range 5 {
			if err == nil {
				err = f.WriteAt([]byte{1}, int64(i))
			}
			if err == nil {
				err = f.Datasync()
			}
		}
		return err
	}
	clean := newFS()
	count := clean.Add(Rule{Ops: Changes | Syncs})
	must(t, run(clean))
	if count.Matched() != 10 {
		t.Fatalf("%d calls", count.Matched())
	}
	var texts []string
	for n := range count.Matched() {
		s := newFS()
		s.Add(Rule{Ops: Changes | Syncs, Nth: n + 1, Err: fmt.Errorf("call %d", n)})
		err := run(s)
		if err == nil {
			t.Fatalf("call %d did not fail", n)
		}
		texts = append(texts, err.Error())
	}
	slices.Sort(texts)
	if len(slices.Compact(texts)) != 10 {
		t.Fatalf("%v", texts)
	}
}

func TestFailedCloseClosesAndDropsLocks(t *testing.T) {
	s := newFS()
	f := open(t, s, "f")
	must(t, f.TryLock(vfs.Lock{Whole: true, Exclusive: true}))
	s.Add(Rule{Ops: Close, Nth: 1})
	if err := f.Close(); !errors.Is(err, ErrIO) {
		t.Fatal(err)
	}
	must(t, open(t, s, "f").TryLock(vfs.Lock{Whole: true, Exclusive: true}))
}
