package crashfs

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"runtime"
	"slices"
	"strings"
)

// Kind is what one entry of a trace did.
type Kind int

const (
	Mark Kind = iota
	Create
	Write
	Allocate
	Truncate
	SyncRange // the second half of a WriteSync; its write is an entry of its own
	SyncFile  // Datasync or Sync
	Rename
	Remove
	SyncDir
)

var kindNames = [...]string{"mark", "create", "write", "allocate", "truncate", "sync range", "sync", "rename", "remove", "sync dir"}

func (k Kind) String() string { return kindNames[k] }

// op is one entry of a trace.
type op struct {
	kind        Kind
	ino         uint64
	off, n      int64
	data        []byte // Write
	name, name2 string
	mode        fs.FileMode // Create
	failed      SyncFailure // a sync that did not succeed, and how; 0: it did
	mark        any
	stack       [stackDepth]uintptr
}

// stackDepth bounds the number of callers that are looked at to find the one
// outside the seam.
const stackDepth = 12

// Trace is what happened on a file system since Record, and the disk at that
// moment.
type Trace struct {
	fs   *FS
	base snapshot
	ops  []op // guarded by fs.mu until Stop
}

// Record starts to record. What was not synced yet counts as synced: the trace
// starts from a disk that has all that was written. A recording that is running
// ends.
func (s *FS) Record() *Trace {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names.settle()
	for _, ino := range s.inodes {
		clear(ino.unsynced)
		ino.syncSize()
	}
	s.trace = &Trace{fs: s, base: s.snapshot()}
	return s.trace
}

// Mark puts a note into the trace: an operation was begun, or acknowledged.
func (s *FS) Mark(note any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.record(op{kind: Mark, mark: note})
}

// Stop ends the recording; later calls are not in the trace.
func (t *Trace) Stop() {
	t.fs.mu.Lock()
	defer t.fs.mu.Unlock()
	if t.fs.trace == t {
		t.fs.trace = nil
	}
}

// Len returns the number of entries, including marks.
func (t *Trace) Len() int {
	t.fs.mu.Lock()
	defer t.fs.mu.Unlock()
	return len(t.ops)
}

func (t *Trace) entries() []op {
	t.fs.mu.Lock()
	defer t.fs.mu.Unlock()
	return slices.Clip(t.ops)
}

// record records o, which has just been done. It is called with the lock held.
func (s *FS) record(o op) {
	if s.trace == nil {
		return
	}
	o.data = bytes.Clone(o.data)
	runtime.Callers(3, o.stack[:])
	s.trace.ops = append(s.trace.ops, o)
}

// site names the function outside the seam that made the call, with its line.
func site(stack *[stackDepth]uintptr) string {
	n := slices.Index(stack[:], 0)
	if n < 0 {
		n = stackDepth
	}
	frames := runtime.CallersFrames(stack[:n])
	for {
		frame, more := frames.Next()
		if !seam(&frame) {
			return fmt.Sprintf("%s (%s:%d)", path.Base(frame.Function), path.Base(frame.File), frame.Line)
		}
		if !more {
			return "unknown"
		}
	}
}

// seam reports whether a function is between the store and the disk. The tests of
// these packages are not.
func seam(frame *runtime.Frame) bool {
	if strings.HasSuffix(frame.File, "_test.go") {
		return false
	}
	packages := []string{"/vfs.", "/internal/crashfs.", "/internal/errfs."}
	return slices.ContainsFunc(packages, func(p string) bool { return strings.Contains(frame.Function, p) })
}

// apply does o again, on a file system to which the same entries were applied
// before.
func (s *FS) apply(o *op) {
	ino := s.inodes[o.ino]
	switch o.kind {
	case Create:
		s.lastID = o.ino - 1
		s.create(o.name, o.mode)
	case Write:
		ino.reserve(o.off, int64(len(o.data)))
		ino.write(o.data, o.off, s.keep)
	case Allocate:
		ino.allocate(o.off, o.n)
	case Truncate:
		ino.truncate(o.n, s.keep)
	case SyncRange, SyncFile:
		ino.applySync(o)
	case Rename:
		s.rename(o.name, o.name2)
	case Remove:
		s.remove(o.name)
	case SyncDir:
		s.names.syncDir(o.name)
	}
}

// snapshot is the state of a disk with nothing un-synced, in as little memory as
// its bytes need.
type snapshot struct {
	names  map[string]uint64
	files  []fileSnapshot
	lastID uint64
}

type fileSnapshot struct {
	id     uint64
	mode   fs.FileMode
	size   int64
	blocks bitset
	pages  []int64 // pages that may not be zero
	bytes  []byte  // of the pages, one after another
}

func (s *FS) snapshot() snapshot {
	snap := snapshot{names: map[string]uint64{}, lastID: s.lastID}
	for name, ino := range s.names.seen {
		snap.names[name] = ino.id
	}
	for _, id := range slices.Sorted(maps.Keys(s.inodes)) {
		ino := s.inodes[id]
		file := fileSnapshot{id: id, mode: ino.mode, size: ino.size.Load(), blocks: slices.Clone(ino.blocks)}
		file.bytes = make([]byte, 0, ino.used.count()*pageSize)
		ino.used.each(func(i int64) {
			file.pages = append(file.pages, i)
			file.bytes = append(file.bytes, ino.page(i)...)
		})
		snap.files = append(snap.files, file)
	}
	return snap
}

func (snap *snapshot) restore(o Options, p *pool) *FS {
	s := newFS(o, p)
	s.lastID = snap.lastID
	for i := range snap.files {
		file := &snap.files[i]
		ino := newInode(file.id, file.mode, p.get())
		for at, page := range file.pages {
			copy(ino.page(page), file.bytes[at*pageSize:])
			ino.touch(page*pageSize, pageSize)
		}
		ino.size.Store(file.size)
		ino.durable = file.size
		copy(ino.blocks, file.blocks)
		s.inodes[ino.id] = ino
	}
	for name, id := range snap.names {
		s.names.seen[name] = s.inodes[id]
		s.inodes[id].links++
	}
	s.names.settle()
	return s
}

// Copy returns an independent file system with the same names and bytes, all of
// them on the disk, and nothing open.
func (s *FS) Copy() *FS {
	s.mu.Lock()
	defer s.mu.Unlock()
	snap := s.snapshot()
	o := s.options
	o.Capacity = s.capacity
	return snap.restore(o, s.pool)
}
