package cidstore_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cidstore/cidstore"
	"github.com/cidstore/cidstore/vfs"
)

// TestManyMakeOneStore: of many that open a path without a file at the same time, each gets
// the store in turn, or ErrLocked.
func TestManyMakeOneStore(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	for range 40 {
		dir := t.TempDir()
		path := filepath.Join(dir, "s.h5")
		var group sync.WaitGroup
		start := make(chan struct{})
		for g := range 6 {
			group.Go(func() {
				<-start
				s, err := cidstore.Open(path, &cidstore.Options{WALBytes: 64 << 10, LockTimeout: time.Duration(g%2) * time.Minute})
				if err != nil {
					if g%2 == 1 || !errors.Is(err, cidstore.ErrLocked) {
						t.Errorf("opener %d: %v", g, err)
					}
					return
				}
				wantErr(t, errors.Join(s.Insert(cidstore.FromUint64(uint64(g)), cidstore.E{}), s.Close()), nil, "opener", g)
			})
		}
		close(start)
		group.Wait()
		names := mustGet(os.ReadDir(dir))(t)
		if len(names) != 1 {
			t.Fatalf("%v are left", names)
		}
		s := open(t, path, nil)
		for g := 1; g < 6; g += 2 { // these had time to wait
			wantIs(t, true, "what was written by opener", g)(s.HasKey(cidstore.FromUint64(uint64(g))))
		}
		must(t, s.Close())
	}
}

// thief takes temporary files away from their makers, as another opener may that
// finds one between two locks of it.
type thief struct {
	vfs.FS
	left int
}

func (f *thief) OpenFile(name string, flag int, perm os.FileMode) (vfs.File, error) {
	if strings.HasSuffix(name, ".cidstore-new") && flag&os.O_CREATE == 0 && f.left > 0 {
		f.left--
		if err := os.Remove(name); err != nil {
			return nil, err
		}
	}
	return f.FS.OpenFile(name, flag, perm)
}

// TestMakerLosesItsFile: a maker whose temporary file another opener has removed as a
// leftover gets ErrLocked, or makes the store again if there is time.
func TestMakerLosesItsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.h5")
	_, err := cidstore.Open(path, &cidstore.Options{FS: &thief{vfs.OS(), 1}})
	if !errors.Is(err, cidstore.ErrLocked) {
		t.Errorf("without time: %v", err)
	}
	s := open(t, path, &cidstore.Options{FS: &thief{vfs.OS(), 3}, LockTimeout: time.Minute})
	must(t, s.Insert(cidstore.E{}, cidstore.E{}), s.Close())
}

// TestLeftovers: what a killed maker, backup or restore has left is removed by the
// next who opens the store for writing; a store of a similar name is not.
func TestLeftovers(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s.h5")
	left, neighbour := path+".cidstore-new", path+".new"
	must(t, open(t, neighbour, nil).Close())
	for _, content := range []string{"", "half a store"} {
		for range 2 { // the store is not there, then it is
			must(t, os.WriteFile(left, []byte(content), 0o666), open(t, path, nil).Close())
			wantErr(t, errOf(os.Stat(left)), os.ErrNotExist, "the leftover", content, "is there")
		}
		must(t, os.Remove(path))
	}
	must(t, open(t, neighbour, &cidstore.Options{ReadOnly: true}).Close())
}

// TestOpenWaitsForTheFileOfThePath: an opener that waited for the lock of a file opens the
// file that has replaced it by then.
func TestOpenWaitsForTheFileOfThePath(t *testing.T) {
	dir := t.TempDir()
	path, other := filepath.Join(dir, "s.h5"), filepath.Join(dir, "o.h5")
	key := cidstore.FromUint64(1)
	s := open(t, other, nil)
	must(t, s.Insert(key, key), s.Close())
	first := open(t, path, nil)
	opened := make(chan *cidstore.Store)
	go func() {
		s, err := cidstore.Open(path, &cidstore.Options{LockTimeout: time.Minute})
		if err != nil {
			t.Error(err)
		}
		opened <- s
	}()
	time.Sleep(100 * time.Millisecond)
	must(t, os.Rename(other, path))
	if err := first.Close(); err != nil && !errors.Is(err, cidstore.ErrReplaced) {
		t.Error(err)
	}
	if s = <-opened; s == nil {
		return
	}
	wantIs(t, true, "the key of the file that has the path")(s.HasKey(key))
	must(t, s.Close())
}
