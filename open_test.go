package cidstore_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
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

// These tests go through what can be wrong with what a user gives, and the error for each. A
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
	before := mustGet(os.ReadFile(path))(t)
	for _, o := range []cidstore.Options{{}, {ReadOnly: true}} {
		s, err := cidstore.Open(path, &o)
		if err == nil {
			must(t, s.Close())
			t.Errorf("read-only %v: it opened, want %v", o.ReadOnly, want)
			continue
		}
		wantErr(t, err, want, "read-only", o.ReadOnly)
	}
	after := mustGet(os.ReadFile(path))(t)
	if !bytes.Equal(before, after) {
		t.Error("the file was changed")
	}
	wantErr(t, errOf(os.Stat(path+".cidstore-new")), fs.ErrNotExist, "something is left beside it")
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
	wantErr(t, errOf(cidstore.Open(path, &cidstore.Options{ReadOnly: true})), cidstore.ErrNotCIDStore, "read-only")
	s := open(t, path, nil)
	must(t, s.Insert(cidstore.E{}, cidstore.E{}), s.Close())
	s = open(t, path, &cidstore.Options{ReadOnly: true})
	wantIs(t, true, "the zero identifiers")(s.Has(cidstore.E{}, cidstore.E{}))
}

// TestOpenTruncated cuts a file at every length near a multiple of 512.
func TestOpenTruncated(t *testing.T) {
	path := smallFile(t, 100)
	whole := mustGet(os.ReadFile(path))(t)
	cut := path + ".cut"
	wantErr(t, errOf(cidstore.Open(path+".none", &cidstore.Options{ReadOnly: true})), fs.ErrNotExist, "no file")
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
	cidstore.Unchecked(t, path, "a word of it is changed")
	p := mustGet(os.ReadFile(path))(t)
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

// TestOpenNoFile: a folder, a path that leads nowhere, and a file that may not be read.
func TestOpenNoFile(t *testing.T) {
	secret := smallFile(t, 1)
	must(t, os.Chmod(secret, 0))
	for path, want := range map[string]error{
		t.TempDir(): cidstore.ErrNotCIDStore, filepath.Join(t.TempDir(), "no", "s.h5"): fs.ErrNotExist, secret: fs.ErrPermission,
	} {
		if path == secret && os.Geteuid() == 0 { // root may read everything
			continue
		}
		for _, o := range []cidstore.Options{{}, {ReadOnly: true}} {
			wantSays(t, errOf(cidstore.Open(path, &o)), want, path, "read-only", o.ReadOnly)
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
	wantErr(t, errOf(cidstore.Open(linked, nil)), cidstore.ErrLocked, "second writer by another name")
	go func() {
		time.Sleep(50 * time.Millisecond)
		_ = s.Close() // seen by the next Open
	}()
	second, err := cidstore.Open(path, &cidstore.Options{LockTimeout: time.Minute})
	mustAt(t, err, "after the first has closed")
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
		wantErr(t, errOf(cidstore.Open(path, &cidstore.Options{FS: disk})), cidstore.ErrReadOnly, "for writing")
		s := open(t, path, &cidstore.Options{FS: disk, ReadOnly: true})
		wantIs(t, 1, "read")(s.Count(cidstore.FromUint64(1)))
		must(t, s.Close())
	}
	wantErr(t, errOf(cidstore.Open(path+".none", &cidstore.Options{FS: readOnlyFS{vfs.OS(), false}})), cidstore.ErrReadOnly, "a new one")
}

func TestWrongLogKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.h5")
	s := open(t, path, &cidstore.Options{WALKey: []byte("right")})
	must(t, s.Insert(cidstore.E{}, cidstore.E{}), s.Close())
	for _, key := range [][]byte{nil, []byte("wrong")} {
		for _, readOnly := range []bool{false, true} {
			wantErr(t, errOf(cidstore.Open(path, &cidstore.Options{WALKey: key, ReadOnly: readOnly})), cidstore.ErrWALKey, "key", key)
		}
	}
	must(t, open(t, path, &cidstore.Options{WALKey: []byte("right")}).Close())
}

func TestWriteReadOnly(t *testing.T) {
	path := smallFile(t, 5)
	s := open(t, path, &cidstore.Options{ReadOnly: true})
	use := uses(s, path)
	for _, name := range []string{"Insert", "Delete", "DeleteValue", "Apply", "Apply empty", "Checkpoint", "Sync"} {
		wantErr(t, use[name](), cidstore.ErrReadOnly, name)
	}
	for _, name := range []string{"Lookup", "Has", "Count", "Len", "Check", "Refresh", "AuditWAL", "Values", "Backup", "BackupTo"} {
		wantErr(t, use[name](), nil, name)
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
		wantSays(t, errOf(cidstore.Open(path, &o)), nil, "Options."+field)
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
		wantSays(t, errOf(cidstore.Open(path, &o)), nil, text)
	}
	both := cidstore.Options{WALBytes: 1, SplitThreshold: 1}
	if _, err := cidstore.Open(path, &both); err == nil || !strings.Contains(err.Error(), "WALBytes is 1,") || !strings.Contains(err.Error(), "SplitThreshold is 1,") {
		t.Errorf("two fields are wrong: %v", err)
	}
	wantErr(t, errOf(os.Stat(path)), fs.ErrNotExist, "a store was made")
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
	if err := s.AuditWAL(-1); err == nil {
		t.Error("AuditWAL of a negative sample")
	}
}

// TestReadFailsOnce: a read that fails returns ErrIO, and reads work again when the disk does.
func TestReadFailsOnce(t *testing.T) {
	path := smallFile(t, 100)
	disk := errfs.New(vfs.OS())
	s := open(t, path, &cidstore.Options{FS: disk, NoMmap: true, ReadOnly: true})
	disk.Add(errfs.Rule{Ops: errfs.Read, Nth: 1, Forever: true})
	wantErr(t, errOf(s.Lookup(cidstore.FromUint64(1))), cidstore.ErrIO, "while reads fail")
	disk.Clear()
	wantIs(t, 1, "when they do not any more")(s.Count(cidstore.FromUint64(1)))
}

// TestWorkingDirectoryMoves: a store opened by a relative path stays the same file
// when the process goes elsewhere.
func TestWorkingDirectoryMoves(t *testing.T) {
	t.Chdir(t.TempDir())
	s := open(t, "s.h5", nil)
	must(t, s.Insert(cidstore.E{}, cidstore.E{}))
	t.Chdir(t.TempDir())
	must(t, s.Checkpoint(context.Background()), s.Insert(cidstore.E{}, cidstore.E{Low: 1}), s.Close())
	wantErr(t, errOf(os.Stat("s.h5")), os.ErrNotExist)
}

// TestClockOfNoUse: a clock before 1970, one that goes backwards, and one that stands still
// change nothing.
func TestClockOfNoUse(t *testing.T) {
	calls := int64(0)
	for name, clock := range map[string]func() time.Time{
		"zero":      func() time.Time { return time.Time{} },
		"frozen":    func() time.Time { return time.Unix(1e9, 0) },
		"backwards": func() time.Time { calls++; return time.Unix(1e9-calls*3600, 0) },
		"far":       func() time.Time { return time.Unix(1<<55, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			o := &cidstore.Options{WALBytes: 64 << 10, SplitThreshold: 8, GCInterval: -1, Clock: clock}
			path := filepath.Join(t.TempDir(), "s.h5")
			for life := range 3 {
				s := open(t, path, o)
				for i := range 40 {
					must(t, s.Apply(batchOf(i*20, 20)), s.Delete(cidstore.FromUint64(uint64(i*20+life))))
				}
				mustBeWhole(t, s)
				must(t, s.Close())
			}
			s := open(t, path, nil)
			if keys, _, err := s.Len(context.Background()); keys != 760 || err != nil {
				t.Errorf("%d keys, %v; want 760", keys, err)
			}
		})
	}
}
