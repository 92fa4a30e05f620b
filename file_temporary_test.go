package cidstore

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/vfs"
)

// TestLeftoverOfALongName: the leftover of a dead maker goes, that of a neighbour
// whose maker lives stays.
func TestLeftoverOfALongName(t *testing.T) {
	dir := t.TempDir()
	long := filepath.Join(dir, strings.Repeat("x", 250))
	for _, path := range []string{long, long + "y"} {
		mustDo(t, os.WriteFile(temporaryName(path), []byte("half a store"), 0o600))
	}
	maker, err := vfs.OS().OpenFile(temporaryName(long+"y"), os.O_RDWR, 0)
	if err == nil {
		err = hdf5io.LockWriter(maker)
	}
	mustDo(t, err)
	defer maker.Close()
	mustDo(t, OpenStore(t, long, nil).Close())
	absent(t, vfs.OS(), temporaryName(long))
	wantErr(t, errOf(os.Stat(temporaryName(long+"y"))), nil, "what a neighbour is making")
	wantErr(t, errOf(Open(long+"y", nil)), ErrLocked, "Open of what is being made")
}
