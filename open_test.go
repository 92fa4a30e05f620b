package cidstore_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cidstore/cidstore"
	"github.com/cidstore/cidstore/internal/errfs"
	"github.com/cidstore/cidstore/internal/invariants"
	"github.com/cidstore/cidstore/internal/oracle"
	"github.com/cidstore/cidstore/vfs"
)

// Each thing that can be wrong with what a user gives, and the error for it. A
// file that is refused is left as it was.

// smallFile makes a closed store of small structures with n pairs.
func smallFile(t *testing.T, n uint64) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "s.h5")
	s := open(t, path, &cidstore.Options{WALBytes: 64 << 10, SplitThreshold: 8, GCInterval: -1})
	var b cidstore.Batch
	for i := range n {
		b.Insert(cidstore.FromUint64(i), cidstore.FromUint64(i+1))
		if b.Len() == 300 || i == n-1 {
			must(t, s.Apply(&b))
			b.Reset()
		}
	}
	must(t, s.Close())
	return path
}

// refused opens path in both modes, wants an error that matches, and the same bytes after.
func refused(t *testing.T, path string, want error) {
	t.Helper()
	before, err := os.ReadFile(path)
	must(t, err)
	for _, o := range []cidstore.Options{{}, {ReadOnly: true}} {
		s, err := cidstore.Open(path, &o)
		if err == nil {
			must(t, s.Close())
			t.Errorf("read-only %v: it opened, want %v", o.ReadOnly, want)
			continue
		}
		if !errors.Is(err, want) {
			t.Errorf("read-only %v: %v; want %v", o.ReadOnly, err, want)
		}
	}
	after, err := os.ReadFile(path)
	must(t, err)
	if !bytes.Equal(before, after) {
		t.Error("the file was changed")
	}
	if _, err := os.Stat(path + ".cidstore-new"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something is left beside it: %v", err)
	}
}

func TestOpenWhatIsNotHDF5(t *testing.T) {
	for name, content := range map[string][]byte{
		"one byte":          {0},
		"text":              []byte("key,value\n1,2\n"),
		"zeros":             make([]byte, 64<<10),
		"sqlite":            append([]byte("SQLite format 3\x00"), make([]byte, 8000)...),
		"signature alone":   []byte("\x89HDF\r\n\x1a\n"),
		"signature, zeros":  append([]byte("\x89HDF\r\n\x1a\n"), make([]byte, 20000)...),
		"version 0 of HDF5": append([]byte("\x89HDF\r\n\x1a\n\x00\x00\x00\x00\x00\x08\x08\x00"), make([]byte, 20000)...),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s.h5")
			must(t, os.WriteFile(path, content, 0o666))
			refused(t, path, cidstore.ErrNotCIDStore)
		})
	}
}

func TestOpenSomebodyElsesHDF5(t *testing.T) {
	python := oracle.H5py(t)
	for _, version := range []string{"earliest", "latest"} {
		path := filepath.Join(t.TempDir(), "s.h5")
		script := fmt.Sprintf("import h5py\nf = h5py.File(%q, 'w', libver=%q)\nf['config/x'] = range(9000)\nf.attrs['format_version'] = 1", path, version)
		if _, text, err := oracle.Run(t, time.Minute, python, "-c", script); err != nil {
			t.Fatal(err, text)
		}
		refused(t, path, cidstore.ErrNotCIDStore)
	}
}

func TestOpenEmptyFileMakesAStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.h5")
	must(t, os.WriteFile(path, nil, 0o666))
	if _, err := cidstore.Open(path, &cidstore.Options{ReadOnly: true}); !errors.Is(err, cidstore.ErrNotCIDStore) {
		t.Errorf("read-only: %v", err)
	}
	s := open(t, path, nil)
	must(t, s.Insert(cidstore.E{}, cidstore.E{}))
	must(t, s.Close())
	s = open(t, path, &cidstore.Options{ReadOnly: true})
	if ok, err := s.Has(cidstore.E{}, cidstore.E{}); !ok || err != nil {
		t.Errorf("the zero identifiers: %v, %v", ok, err)
	}
	must(t, s.Close())
}

// TestOpenTruncated cuts a file at every length near a multiple of 512.
func TestOpenTruncated(t *testing.T) {
	path := smallFile(t, 100)
	whole, err := os.ReadFile(path)
	must(t, err)
	cut := path + ".cut"
	if _, err := cidstore.Open(path+".none", &cidstore.Options{ReadOnly: true}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	for at := 0; at <= len(whole); at += 512 * invariants.Sparse {
		for _, n := range []int{at - 1, at, at + 1, at + 47} {
			if n <= 0 || n >= len(whole) || testing.Short() && at%8192 != 0 {
				continue
			}
			must(t, os.WriteFile(cut, whole[:n], 0o666))
			want := cidstore.ErrTruncated
			if n < 48 {
				want = cidstore.ErrNotCIDStore // no superblock tells how long it was
			}
			if refused(t, cut, want); t.Failed() {
				t.Fatalf("%d of %d bytes", n, len(whole))
			}
		}
	}
}

// patch changes bytes of both commit slots and makes their checksums right again.
func patch(t *testing.T, path string, offset int, word uint32) {
	t.Helper()
	p, err := os.ReadFile(path)
	must(t, err)
	for at := 4096; at <= 8192; at += 4096 {
		slot := p[at : at+4096]
		binary.LittleEndian.PutUint32(slot[offset:], word)
		binary.LittleEndian.PutUint32(slot[4092:], crc32.Checksum(slot[:4092], crc32.MakeTable(crc32.Castagnoli)))
	}
	must(t, os.WriteFile(path, p, 0o666))
}

func TestOpenNewerVersion(t *testing.T) {
	for offset, version := range map[int]uint32{8: 2, 192: cidstore.FormatVersion + 1} { // of the slot, of the store record in it
		path := smallFile(t, 10)
		patch(t, path, offset, version)
		refused(t, path, cidstore.ErrFormatVersion)
		_, err := cidstore.Open(path, nil)
		if sentence := fmt.Sprintf("it has format %d, and this release reads up to %d", version, cidstore.FormatVersion); offset == 192 && !strings.Contains(err.Error(), sentence) {
			t.Errorf("%v, want %q", err, sentence)
		}
	}
}

func TestOpenDirectory(t *testing.T) {
	path := t.TempDir()
	for _, o := range []cidstore.Options{{}, {ReadOnly: true}} {
		if _, err := cidstore.Open(path, &o); !errors.Is(err, cidstore.ErrNotCIDStore) {
			t.Errorf("read-only %v: %v", o.ReadOnly, err)
		}
	}
}

func TestOpenWithoutParent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "no", "s.h5")
	for _, o := range []cidstore.Options{{}, {ReadOnly: true}} {
		if _, err := cidstore.Open(path, &o); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) {
			t.Errorf("read-only %v: %v", o.ReadOnly, err)
		}
	}
}

func TestOpenWithoutPermission(t *testing.T) {
	path := smallFile(t, 1)
	must(t, os.Chmod(path, 0))
	if os.Geteuid() == 0 {
		t.Skip("root may read everything")
	}
	for _, o := range []cidstore.Options{{}, {ReadOnly: true}} {
		if _, err := cidstore.Open(path, &o); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("read-only %v: %v", o.ReadOnly, err)
		}
	}
}

func TestOpenTwiceForWriting(t *testing.T) {
	s, path := fresh(t, nil)
	start := time.Now()
	_, err := cidstore.Open(path, &cidstore.Options{LockTimeout: 50 * time.Millisecond})
	if waited := time.Since(start); waited < 50*time.Millisecond {
		t.Errorf("LockTimeout was not waited for: %v", waited)
	}
	for _, err := range []error{err, func() error { _, err := cidstore.Open(path, nil); return err }()} {
		if pid := fmt.Sprintf("process %d ", os.Getpid()); !errors.Is(err, cidstore.ErrLocked) || !strings.Contains(err.Error(), pid) {
			t.Errorf("second writer: %v; want the pid %d", err, os.Getpid())
		}
	}
	linked := path + ".link"
	must(t, os.Link(path, linked))
	if _, err := cidstore.Open(linked, nil); !errors.Is(err, cidstore.ErrLocked) {
		t.Errorf("second writer by another name: %v", err)
	}
	go func() {
		time.Sleep(50 * time.Millisecond)
		_ = s.Close() // seen by the next Open
	}()
	second, err := cidstore.Open(path, &cidstore.Options{LockTimeout: time.Minute})
	if err != nil {
		t.Fatalf("after the first has closed: %v", err)
	}
	must(t, second.Close())
}

// readOnlyFS is a file system that is mounted read-only.
type readOnlyFS struct {
	vfs.FS
	tells bool // in Info; else the system refuses to open for writing
}

func (f readOnlyFS) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	if !f.tells && flag&(os.O_RDWR|os.O_CREATE) != 0 {
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EROFS}
	}
	file, err := f.FS.OpenFile(name, flag, perm)
	return readOnlyFile{file}, err
}

type readOnlyFile struct{ vfs.File }

func (f readOnlyFile) Info() (vfs.Info, error) {
	info, err := f.File.Info()
	info.ReadOnly = true
	return info, err
}

func TestOpenOnReadOnlyFileSystem(t *testing.T) {
	path := smallFile(t, 3)
	for _, tells := range []bool{false, true} {
		disk := readOnlyFS{vfs.OS(), tells}
		if _, err := cidstore.Open(path, &cidstore.Options{FS: disk}); !errors.Is(err, cidstore.ErrReadOnly) {
			t.Errorf("for writing: %v", err)
		}
		s := open(t, path, &cidstore.Options{FS: disk, ReadOnly: true})
		if n, err := s.Count(cidstore.FromUint64(1)); n != 1 || err != nil {
			t.Errorf("read: %d, %v", n, err)
		}
		must(t, s.Close())
	}
	if _, err := cidstore.Open(path+".none", &cidstore.Options{FS: readOnlyFS{vfs.OS(), false}}); !errors.Is(err, cidstore.ErrReadOnly) {
		t.Errorf("a new one: %v", err)
	}
}

func TestBatchTooLarge(t *testing.T) {
	const ring, block = 64 << 10, 4096 / 40 // bytes, and records of a block
	s, _ := fresh(t, &cidstore.Options{WALBytes: ring})
	const most = ring/4096*block/3/block*block - 2 // a third, in whole blocks, without the two records that end it
	var b cidstore.Batch
	for i := range most {
		b.Insert(cidstore.FromUint64(uint64(i)), cidstore.E{})
	}
	must(t, s.Apply(&b))
	for range 10 { // the largest fits every time
		must(t, s.Apply(&b))
	}
	appended := s.Metrics().WAL
	b.Insert(cidstore.FromUint64(1<<40), cidstore.E{})
	if err := s.Apply(&b); !errors.Is(err, cidstore.ErrTooLarge) {
		t.Fatalf("%d operations: %v", b.Len(), err)
	}
	if after := s.Metrics().WAL; after.Bytes != appended.Bytes {
		t.Errorf("something was logged: %d bytes, then %d", appended.Bytes, after.Bytes)
	}
	if keys, _, err := s.Len(context.Background()); keys != uint64(most) || err != nil {
		t.Errorf("%d keys, %v; want %d", keys, err, most)
	}
}

func TestWrongLogKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.h5")
	s := open(t, path, &cidstore.Options{WALKey: []byte("right")})
	must(t, s.Insert(cidstore.E{}, cidstore.E{}))
	must(t, s.Close())
	for _, key := range [][]byte{nil, []byte("wrong")} {
		for _, readOnly := range []bool{false, true} {
			if _, err := cidstore.Open(path, &cidstore.Options{WALKey: key, ReadOnly: readOnly}); !errors.Is(err, cidstore.ErrWALKey) {
				t.Errorf("key %q: %v", key, err)
			}
		}
	}
	must(t, open(t, path, &cidstore.Options{WALKey: []byte("right")}).Close())
}

// uses calls every method of a store that can fail, by name.
func uses(s *cidstore.Store, path string) map[string]func() error {
	ctx, key := context.Background(), cidstore.FromUint64(1)
	var b cidstore.Batch
	b.Insert(key, key)
	return map[string]func() error{
		"Insert":       func() error { return s.Insert(key, key) },
		"Delete":       func() error { return s.Delete(key) },
		"DeleteValue":  func() error { return s.DeleteValue(key, key) },
		"Apply":        func() error { return s.Apply(&b) },
		"Apply empty":  func() error { return s.Apply(new(cidstore.Batch)) },
		"Lookup":       func() error { _, err := s.Lookup(key); return err },
		"AppendLookup": func() error { _, err := s.AppendLookup(nil, key); return err },
		"Has":          func() error { _, err := s.Has(key, key); return err },
		"HasKey":       func() error { _, err := s.HasKey(key); return err },
		"Count":        func() error { _, err := s.Count(key); return err },
		"Len":          func() error { _, _, err := s.Len(ctx); return err },
		"Snapshot":     func() error { _, err := s.Snapshot(); return err },
		"Checkpoint":   func() error { return s.Checkpoint(ctx) },
		"Backup":       func() error { return s.Backup(ctx, path+".backup") },
		"BackupTo":     func() error { return s.BackupTo(ctx, io.Discard, nil) },
		"Check":        func() error { _, err := s.Check(ctx); return err },
		"Sync":         func() error { return s.Sync() },
		"Refresh":      func() error { return s.Refresh() },
		"AuditWAL":     func() error { return s.AuditWAL(0) },
		"Close":        func() error { return s.Close() },
		"Values": func() error {
			for _, err := range s.Values(key) {
				return err
			}
			return nil
		},
	}
}

func TestUseAfterClose(t *testing.T) {
	path := smallFile(t, 5)
	for _, readOnly := range []bool{false, true} {
		s := open(t, path, &cidstore.Options{ReadOnly: readOnly})
		v, err := s.Snapshot()
		must(t, err)
		must(t, s.Close())
		for name, use := range uses(s, path) {
			err := use()
			if readOnly && errors.Is(err, cidstore.ErrReadOnly) {
				continue
			}
			if !errors.Is(err, cidstore.ErrClosed) {
				t.Errorf("read-only %v: %s: %v", readOnly, name, err)
			}
		}
		if _, err := v.Lookup(cidstore.E{}); !errors.Is(err, cidstore.ErrSnapshotExpired) {
			t.Errorf("snapshot: %v", err)
		}
		for range v.All() {
			t.Error("All of an expired snapshot yields")
		}
		for range v.Keys() {
			t.Error("Keys of an expired snapshot yields")
		}
		if !errors.Is(v.Err(), cidstore.ErrSnapshotExpired) {
			t.Errorf("Err of an expired snapshot: %v", v.Err())
		}
		s.LogEvent("split", "bucket", 1)
		if m := s.Metrics(); m.SplitEvents == 0 || s.Recovery().Commit == 0 {
			t.Errorf("after Close: %+v, %+v", m, s.Recovery())
		}
	}
}

func TestWriteReadOnly(t *testing.T) {
	path := smallFile(t, 5)
	s := open(t, path, &cidstore.Options{ReadOnly: true})
	defer s.Close()
	use := uses(s, path)
	for _, name := range []string{"Insert", "Delete", "DeleteValue", "Apply", "Apply empty", "Checkpoint", "Sync"} {
		if err := use[name](); !errors.Is(err, cidstore.ErrReadOnly) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"Lookup", "Has", "Count", "Len", "Check", "Refresh", "AuditWAL", "Values", "Backup", "BackupTo"} {
		if err := use[name](); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNonsenseOptions(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.h5")
	for field, o := range map[string]cidstore.Options{
		"FlushInterval":  {FlushInterval: -1},
		"WALBytes":       {WALBytes: -1},
		"MemoryBudget":   {MemoryBudget: -1},
		"SplitThreshold": {SplitThreshold: -1},
		"LockTimeout":    {LockTimeout: -1},
		"Durability":     {Durability: 2},
		"Verify":         {Verify: 3},
		"Salvage":        {Salvage: true},
		"WALKey":         {WALKey: []byte{}},
	} {
		if _, err := cidstore.Open(path, &o); err == nil || !strings.Contains(err.Error(), "Options."+field) {
			t.Errorf("%s: %v", field, err)
		}
	}
	for text, o := range map[string]cidstore.Options{
		"Options.FlushInterval is -1ns, want more than 0, or 0 for the default":           {FlushInterval: -1},
		"Options.WALBytes is 1, want 65536 to 1099511627776, or 0 for the default":        {WALBytes: 1},
		"Options.WALBytes is 65535, want 65536 to":                                        {WALBytes: 65535},
		"Options.WALBytes is 1099511627777, want 65536 to 1099511627776":                  {WALBytes: 1<<40 + 1},
		"Options.WALBytes is 4611686018427387904, want":                                   {WALBytes: 1 << 62},
		"Options.MemoryBudget is -1, want 1 to 9223372036854775807, or 0 for the default": {MemoryBudget: -1},
		"Options.SplitThreshold is 1, want 2 to 1024, or 0 for the default":               {SplitThreshold: 1},
		"Options.SplitThreshold is 1025, want 2 to 1024":                                  {SplitThreshold: 1025},
		"Options.Durability is -1, want Sync (0) or Async (1)":                            {Durability: -1},
		"Options.Verify is -1, want VerifyFirstTouch (0)":                                 {Verify: -1},
		"Options.LockTimeout is -1s, want 0 or more":                                      {LockTimeout: -time.Second},
		"Options.Salvage is true, want false, or ReadOnly with it":                        {Salvage: true},
	} {
		if _, err := cidstore.Open(path, &o); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("error %v, want %q", err, text)
		}
	}
	both := cidstore.Options{WALBytes: 1, SplitThreshold: 1}
	if _, err := cidstore.Open(path, &both); err == nil || !strings.Contains(err.Error(), "WALBytes is 1,") || !strings.Contains(err.Error(), "SplitThreshold is 1,") {
		t.Errorf("two fields are wrong: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a store was made: %v", err)
	}
	for _, o := range []*cidstore.Options{nil, {}, {WALBytes: 64 << 10}, {WALBytes: 64<<10 + 1}, {MemoryBudget: 1}, {SplitThreshold: 1024}, {FlushInterval: 1, Durability: cidstore.Async}} {
		at := filepath.Join(t.TempDir(), "s.h5")
		s := open(t, at, o)
		for i := range uint64(50) {
			must(t, s.Insert(cidstore.FromUint64(i), cidstore.E{}))
		}
		mustBeWhole(t, s)
		must(t, s.Close())
	}
	s := open(t, path, nil)
	defer s.Close()
	if err := s.AuditWAL(-1); err == nil {
		t.Error("AuditWAL of a negative sample")
	}
}

// TestReplacedWhileOpen: the store stops at the next checkpoint, and the file that
// it has open, by whatever name that still is, has all that was acknowledged.
func TestReplacedWhileOpen(t *testing.T) {
	for name, replace := range map[string]func(path string) error{
		"unlinked": os.Remove,
		"replaced": func(path string) error {
			if err := os.WriteFile(path+".other", []byte("other"), 0o666); err != nil {
				return err
			}
			return os.Rename(path+".other", path)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, path := fresh(t, nil)
			kept := path + ".kept"
			must(t, os.Link(path, kept))
			must(t, s.Insert(cidstore.FromUint64(1), cidstore.FromUint64(2)))
			must(t, replace(path))
			must(t, s.Insert(cidstore.FromUint64(1), cidstore.FromUint64(3)))
			if err := s.Checkpoint(context.Background()); !errors.Is(err, cidstore.ErrReplaced) {
				t.Errorf("Checkpoint: %v", err)
			}
			if err := s.Insert(cidstore.FromUint64(1), cidstore.E{}); !errors.Is(err, cidstore.ErrReplaced) || !errors.Is(err, cidstore.ErrPoisoned) {
				t.Errorf("Insert: %v", err)
			}
			if n, err := s.Count(cidstore.FromUint64(1)); n != 2 || err != nil {
				t.Errorf("Count = %d, %v", n, err)
			}
			if err := s.Close(); !errors.Is(err, cidstore.ErrReplaced) {
				t.Errorf("Close: %v", err)
			}
			if name == "replaced" {
				if p, err := os.ReadFile(path); err != nil || string(p) != "other" {
					t.Errorf("the other file: %q, %v", p, err)
				}
			}
			s = open(t, kept, nil)
			defer s.Close()
			if n, err := s.Count(cidstore.FromUint64(1)); n != 2 || err != nil {
				t.Errorf("by its other name: %d, %v", n, err)
			}
			mustBeWhole(t, s)
		})
	}
}

// TestReplacedBeforeClose: Close finds it too, and says so.
func TestReplacedBeforeClose(t *testing.T) {
	s, path := fresh(t, nil)
	must(t, s.Insert(cidstore.E{}, cidstore.E{}))
	must(t, os.Remove(path))
	if err := s.Close(); !errors.Is(err, cidstore.ErrReplaced) {
		t.Errorf("Close: %v", err)
	}
}

// TestCutShortWhileOpen: the file is truncated under the mapping. Reads are ErrIO,
// the process lives, and pending operations still serve.
func TestCutShortWhileOpen(t *testing.T) {
	for _, noMmap := range []bool{false, true} {
		for _, readOnly := range []bool{false, true} {
			path := smallFile(t, 3000)
			s := open(t, path, &cidstore.Options{NoMmap: noMmap, ReadOnly: readOnly, GCInterval: -1})
			must(t, os.Truncate(path, 12288))
			failed := 0
			for i := range uint64(3000) {
				got, err := s.Lookup(cidstore.FromUint64(i))
				switch {
				case errors.Is(err, cidstore.ErrIO):
					failed++
				case err != nil:
					t.Fatalf("no mapping %v: %v", noMmap, err)
				case len(got) != 1 || got[0] != cidstore.FromUint64(i+1):
					t.Fatalf("no mapping %v: key %d: %v", noMmap, i, got)
				}
			}
			if failed == 0 {
				t.Errorf("no mapping %v: nothing was read from the file", noMmap)
			}
			v, err := s.Snapshot()
			must(t, err)
			for range v.All() {
			}
			if err := v.Err(); !errors.Is(err, cidstore.ErrIO) {
				t.Errorf("All: %v", err)
			}
			if _, err := s.Check(context.Background()); err == nil {
				t.Error("Check finds nothing")
			}
			_ = s.Close() // it cannot put right what is gone; that it returns is what counts
		}
	}
}

// TestReadFailsOnce: a read that fails is ErrIO, and only once.
func TestReadFailsOnce(t *testing.T) {
	path := smallFile(t, 100)
	disk := errfs.New(vfs.OS())
	s := open(t, path, &cidstore.Options{FS: disk, NoMmap: true, ReadOnly: true})
	defer s.Close()
	disk.Add(errfs.Rule{Ops: errfs.Read, Nth: 1, Forever: true})
	if _, err := s.Lookup(cidstore.FromUint64(1)); !errors.Is(err, cidstore.ErrIO) {
		t.Errorf("while reads fail: %v", err)
	}
	disk.Clear()
	if n, err := s.Count(cidstore.FromUint64(1)); n != 1 || err != nil {
		t.Errorf("when they do not any more: %d, %v", n, err)
	}
}

func TestRestoreOfABadBackup(t *testing.T) {
	path, backup := smallFile(t, 5), smallFile(t, 50)
	want, err := os.ReadFile(path)
	must(t, err)
	whole, err := os.ReadFile(backup)
	must(t, err)
	for name, spoil := range map[string]func([]byte) []byte{
		"cut":      func(p []byte) []byte { return p[:len(p)/2] },
		"not ours": func([]byte) []byte { return []byte("hello") },
		"empty":    func([]byte) []byte { return nil },
		"flipped":  func(p []byte) []byte { p[len(p)-100] ^= 4; p[5000] ^= 1; p[9000] ^= 1; return p },
	} {
		must(t, os.WriteFile(backup, spoil(bytes.Clone(whole)), 0o666))
		if err := cidstore.Restore(context.Background(), backup, path); err == nil {
			t.Errorf("%s: restored", name)
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: the target was changed: %v", name, err)
		}
	}
	if err := cidstore.Restore(context.Background(), backup+".none", path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no backup: %v", err)
	}
	must(t, os.WriteFile(backup, whole, 0o666))
	must(t, cidstore.Restore(context.Background(), backup, path))
	s := open(t, path, nil)
	defer s.Close()
	if keys, _, err := s.Len(context.Background()); keys != 50 || err != nil {
		t.Errorf("restored: %d keys, %v", keys, err)
	}
}
