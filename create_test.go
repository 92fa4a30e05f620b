package cidstore_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cidstore/cidstore"
	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/vfs"
)

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
	wantErr(t, errOf(cidstore.Open(path, &cidstore.Options{FS: &thief{vfs.OS(), 1}})), cidstore.ErrLocked, "without time")
	s := open(t, path, &cidstore.Options{FS: &thief{vfs.OS(), 3}, LockTimeout: time.Minute})
	must(t, s.Insert(cidstore.E{}, cidstore.E{}), s.Close())
}

// TestLeftovers: what a killed maker, backup or restore has left is removed by the
// next who opens the store for writing. A store of a similar name stays, and so does what a
// living maker makes.
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
	maker := mustGet(vfs.OS().OpenFile(left, vfs.ReadWrite|vfs.Create, 0o666))(t)
	must(t, hdf5io.LockWriter(maker))
	wantErr(t, errOf(cidstore.Open(path, nil)), cidstore.ErrLocked, "it is being made")
	must(t, maker.Close())
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
