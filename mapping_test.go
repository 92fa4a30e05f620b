package cidstore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cidstore/cidstore/internal/errfs"
	"github.com/cidstore/cidstore/internal/invariants"
	"github.com/cidstore/cidstore/vfs"
)

// tightHook gives each mapping only the length of its file, so that every growth of the file
// asks for a new mapping, and counts mappings.
type tightHook struct {
	made, open atomic.Int64
	refuse     atomic.Bool
}

var errRefused = errors.New("cannot allocate memory")

func (h *tightHook) wrap(f vfs.File) vfs.File { return &tightFile{f, h} }

type tightFile struct {
	vfs.File
	hook *tightHook
}

func (f *tightFile) Map(int64) (vfs.Mapping, error) {
	if f.hook.refuse.Load() {
		return nil, errRefused
	}
	m, err := f.File.Map(0)
	if err != nil {
		return nil, err
	}
	f.hook.made.Add(1)
	f.hook.open.Add(1)
	return &tightMapping{m, f.hook}, nil
}

type tightMapping struct {
	vfs.Mapping
	hook *tightHook
}

func (m *tightMapping) Close() error {
	m.hook.open.Add(-1)
	return m.Mapping.Close()
}

func tightOptions(hook *tightHook) *Options {
	return &Options{FS: errfs.Hooked{FS: vfs.OS(), Wrap: hook.wrap}, GCInterval: -1, WALBytes: 64 << 10, SplitThreshold: 8, growBytes: 4096, sliceBytes: 16 << 10}
}

// grown inserts values for keys from to to, and puts them into the tree.
func grown(t *testing.T, s *Store, from, to uint64) {
	t.Helper()
	var b Batch
	for i := from; i < to; i++ {
		b.Insert(FromUint64(i), FromUint64(i+1))
	}
	mustDo(t, s.Apply(&b), s.Checkpoint(context.Background()))
}

type lookuper interface{ Lookup(E) ([]E, error) }

func readUpTo(v lookuper, to uint64) error {
	for i := range to {
		values, err := v.Lookup(FromUint64(i))
		if err != nil || len(values) != 1 || values[0] != FromUint64(i+1) {
			return fmt.Errorf("key %d: %v, %v", i, values, err)
		}
	}
	return nil
}

// TestWindowsFollowGrowth: a store grows through many mappings while snapshots of
// all ages are read; mappings that nobody reads are closed, and at the end all are.
func TestWindowsFollowGrowth(t *testing.T) {
	hook := &tightHook{}
	s := OpenStore(t, filepath.Join(t.TempDir(), "s.h5"), tightOptions(hook))
	if hook.made.Load() == 0 {
		t.Skip("no mappings here")
	}
	const rounds, step = 40, 100
	var readers sync.WaitGroup
	var old []*Snapshot
	for i := range uint64(rounds) {
		grown(t, s, i*step, (i+1)*step)
		v := mustGet(s.Snapshot())(t)
		if i%8 == 0 {
			old = append(old, v) // until the end
			continue
		}
		readers.Go(func() {
			wantErr(t, errors.Join(readUpTo(v, (i+1)*step), readUpTo(s, (i+1)*step), v.Close()), nil, "round", i)
		})
	}
	readers.Wait()
	if n := hook.made.Load(); n < 10 {
		t.Fatalf("%d mappings, want at least 10", n)
	}
	for i, v := range old {
		wantErr(t, errors.Join(readUpTo(v, uint64(i*8+1)*step), v.Close()), nil, "snapshot", i)
	}
	// The file grows and one bucket changes: most pages stay as they are, and are
	// seen through the next mapping all the same.
	made := hook.made.Load()
	mustDo(t, s.file.Reserve(2*s.file.Space().Size))
	grown(t, s, 0, 1)
	grown(t, s, 0, 1)
	if hook.made.Load() == made {
		t.Fatal("no new mapping")
	}
	mustDo(t, readUpTo(s, rounds*step))
	grown(t, s, rounds*step, rounds*step+1)
	if n := hook.open.Load(); n > 2 {
		t.Errorf("%d of %d mappings open, though nobody reads old roots", n, hook.made.Load())
	}
	mustDo(t, s.Close())
	if n := hook.open.Load(); n != 0 {
		t.Errorf("%d mappings open after Close", n)
	}
}

// TestMappingRefused: where no address space can be had, at Open or at a growth of
// the file, the store reads with ReadAt, and maps again when it can.
func TestMappingRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.h5")
	hook := &tightHook{}
	hook.refuse.Store(true)
	s := OpenStore(t, path, tightOptions(hook))
	steps := []bool{true, true, false, false, true, true, false}
	to := uint64(0)
	for i, refuse := range steps {
		hook.refuse.Store(refuse)
		v := mustGet(s.Snapshot())(t)
		before, made := to, hook.made.Load()
		to += 200
		grown(t, s, before, to)
		mustAt(t, errors.Join(readUpTo(s, to), readUpTo(v, before), v.Close()), "step", i)
		if got := hook.made.Load() - made; refuse && got != 0 || !refuse && got == 0 {
			t.Fatalf("step %d: %d mappings made, refused: %v", i, got, refuse)
		}
	}
	mustDo(t, s.Close())
	hook.refuse.Store(true)
	s = OpenStore(t, path, &Options{FS: errfs.Hooked{FS: vfs.OS(), Wrap: hook.wrap}, ReadOnly: true})
	mustDo(t, readUpTo(s, to), s.Close())
	if n := hook.open.Load(); n != 0 {
		t.Errorf("%d mappings open after Close", n)
	}
}

// TestReaderFollowsGrowth: a read-only store maps the file again when the writer's file has
// outgrown what it had set aside.
func TestReaderFollowsGrowth(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.h5")
	w := OpenStore(t, path, tightOptions(&tightHook{}))
	hook := &tightHook{}
	r, err := Open(path, &Options{FS: errfs.Hooked{FS: vfs.OS(), Wrap: hook.wrap}, ReadOnly: true})
	if errors.Is(err, ErrLocked) {
		t.Skip("one process has the file here")
	}
	mustDo(t, err)
	for i := range uint64(10) {
		v := mustGet(r.Snapshot())(t)
		grown(t, w, i*200, (i+1)*200)
		mustAt(t, errors.Join(r.Refresh(), readUpTo(r, (i+1)*200), readUpTo(v, i*200), v.Close()), "round", i)
	}
	if n := hook.made.Load(); n < 4 {
		t.Errorf("%d mappings, want at least 4", n)
	}
	if err := r.Close(); err != nil || hook.open.Load() != 0 {
		t.Errorf("close: %v; %d mappings open", err, hook.open.Load())
	}
}

// TestManyStores opens 2,000 stores at once in a process with little address
// space, and with so little that many of them cannot be mapped.
func TestManyStores(t *testing.T) {
	if dir := os.Getenv("CIDSTORE_MANY_STORES"); dir != "" {
		openMany(t, dir)
		return
	}
	if runtime.GOOS != "linux" || math.MaxInt == math.MaxInt32 || invariants.Enabled {
		t.Skip("needs ulimit -v, 64-bit addresses, and a build without the race detector, which sets terabytes aside")
	}
	for _, gigabytes := range []int{200, 20} {
		t.Run(fmt.Sprint(gigabytes, " GB"), func(t *testing.T) {
			t.Parallel()
			c := exec.Command("sh", "-c", fmt.Sprintf("ulimit -v %d && ulimit -n 8192 && exec \"$0\" -test.run=^TestManyStores$ -test.v", gigabytes*1_000_000), os.Args[0])
			c.Env = append(os.Environ(), "CIDSTORE_MANY_STORES="+t.TempDir())
			out, err := c.CombinedOutput()
			if err != nil || !strings.Contains(string(out), "--- PASS: TestManyStores") {
				t.Fatalf("%v\n%.4000s", err, out)
			}
		})
	}
}

// openMany opens copies of one store, every eighth for writing.
func openMany(t *testing.T, dir string) {
	key, value := FromUint64(1), FromUint64(2)
	first := filepath.Join(dir, "s.h5")
	options := Options{GCInterval: -1, WALBytes: 64 << 10, growBytes: 64 << 10}
	s := OpenStore(t, first, &options)
	mustDo(t, s.Insert(key, value), s.Close())
	image := mustGet(os.ReadFile(first))(t)
	var stores []*Store
	for i := range 2000 {
		path := filepath.Join(dir, fmt.Sprint(i, ".h5"))
		err := os.WriteFile(path, image, 0o600)
		if err == nil {
			o := options
			o.ReadOnly = i%8 != 0
			s, err = Open(path, &o)
		}
		mustAt(t, err, "store", i)
		stores = append(stores, s)
	}
	for i, s := range stores {
		values, err := s.Lookup(key)
		if err != nil || len(values) != 1 || values[0] != value {
			t.Fatalf("store %d: %v, %v", i, values, err)
		}
	}
	for i, s := range stores {
		mustAt(t, s.Close(), "close store", i)
	}
}
