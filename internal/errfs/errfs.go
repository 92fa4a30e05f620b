// Package errfs makes calls of a file system fail, as a test says: the nth call
// that matches a rule, and if wanted, all after it.
//
// A test first runs with a rule that only counts, learns how many calls match,
// and then runs once for each of them with Nth set to it.
package errfs

import (
	"cmp"
	"errors"
	"io/fs"
	"strings"
	"sync"

	"github.com/cidstore/cidstore/vfs"
)

// ErrIO is what a rule without an error of its own reports.
var ErrIO = errors.New("input/output error")

// Op is a set of kinds of calls.
type Op uint32

const (
	Open Op = 1 << iota
	Rename
	Remove
	Stat
	SyncDir
	Read
	Write
	WriteSync
	Allocate
	Truncate
	Datasync
	Sync
	Map
	View
	TryLock
	ProbeLock
	Unlock
	Info
	Close // the file is closed even so
	opEnd

	// Any is every call.
	Any = opEnd - 1
	// Syncs are the calls that promise that something is durable.
	Syncs = SyncDir | WriteSync | Datasync | Sync
	// Changes are the calls that change a file or its name.
	Changes = Rename | Remove | Write | WriteSync | Allocate | Truncate
)

// Rule says which calls fail, and how.
type Rule struct {
	Ops  Op     // kinds of calls; 0: Any
	Path string // the end of the file's name; for a rename, of either name
	// Off and End bound a range of bytes: calls match that touch one of them. A
	// truncate touches its new size; calls without a place match no range. If End
	// is 0, calls match at any place.
	Off, End int64
	Nth      int  // the Nth match fails, from 1; 0: none, the rule only counts
	Forever  bool // and every match after it
	// Partial is how many bytes a failing read or write moves first. A WriteSync
	// does not sync them.
	Partial int
	Err     error // nil: ErrIO
}

// Fault is a rule that is in force.
type Fault struct {
	fs      *FS
	rule    Rule
	matched int
	failed  int
}

// Matched returns how many calls have matched so far.
func (f *Fault) Matched() int {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return f.matched
}

// Failed returns how many calls the rule has made fail so far.
func (f *Fault) Failed() int {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return f.failed
}

// FS passes calls on to another file system, except those that fail.
type FS struct {
	inner vfs.FS

	mu     sync.Mutex // guards what follows
	faults []*Fault
}

// New returns a file system over inner on which nothing fails yet.
func New(inner vfs.FS) *FS { return &FS{inner: inner} }

// Add puts a rule in force. If several match a call, all count it, and the first
// that fails decides.
func (s *FS) Add(r Rule) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := &Fault{fs: s, rule: r}
	s.faults = append(s.faults, f)
	return f
}

// Clear ends all rules: nothing fails any more.
func (s *FS) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// call is one call, for rules to match.
type call struct {
	op    Op
	name  string // for messages
	path  string
	path2 string // the new name of a rename
	off   int64
	n     int64 // 0: the call has no place
}

// fail decides about a call. It returns nil, or the error and how many bytes to
// move before it.
func (s *FS) fail(c call) (partial int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.faults {
		if !f.rule.matches(c) {
			continue
		}
		f.matched++
		r := f.rule
		if r.Nth == 0 || f.matched < r.Nth || f.matched > r.Nth && !r.Forever || err != nil {
			continue
		}
		f.failed++
		partial, err = r.Partial, &fs.PathError{Op: c.name, Path: c.path, Err: cmp.Or(r.Err, ErrIO)}
	}
	return partial, err
}

func (r *Rule) matches(c call) bool {
	switch {
	case r.Ops != 0 && r.Ops&c.op == 0:
		return false
	case !strings.HasSuffix(c.path, r.Path) && (c.path2 == "" || !strings.HasSuffix(c.path2, r.Path)):
		return false
	}
	return r.End == 0 || c.n > 0 && c.off < r.End && c.n > r.Off-c.off
}

// do makes a call, unless it fails.
func (s *FS) do(c call, inner func() error) error {
	if _, err := s.fail(c); err != nil {
		return err
	}
	return inner()
}

func (s *FS) OpenFile(name string, flag int, perm fs.FileMode) (f vfs.File, err error) {
	err = s.do(call{op: Open, name: "open", path: name}, func() (err error) {
		if f, err = s.inner.OpenFile(name, flag, perm); err == nil {
			f = &file{fs: s, File: f}
		}
		return err
	})
	return f, err
}

func (s *FS) Rename(oldname, newname string) error {
	return s.do(call{op: Rename, name: "rename", path: oldname, path2: newname}, func() error { return s.inner.Rename(oldname, newname) })
}

func (s *FS) Remove(name string) error {
	return s.do(call{op: Remove, name: "remove", path: name}, func() error { return s.inner.Remove(name) })
}

func (s *FS) Stat(name string) (info vfs.Info, err error) {
	err = s.do(call{op: Stat, name: "stat", path: name}, func() (err error) { info, err = s.inner.Stat(name); return err })
	return info, err
}

func (s *FS) SyncDir(dir string) error {
	return s.do(call{op: SyncDir, name: "sync", path: dir}, func() error { return s.inner.SyncDir(dir) })
}
