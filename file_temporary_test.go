package cidstore

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/vfs"
)

// TestTemporaryNames: each store has one of its own, which its suffix shows
// and is no longer than a file system takes.
func TestTemporaryNames(t *testing.T) {
	long := strings.Repeat("x", 240)
	seen := map[string]string{}
	for _, name := range []string{
		"s.h5", long + "a", long + "b", long + "123456789012345", strings.Repeat("x", 130), strings.Repeat("x", 131),
		filepath.Join("d", long+"a"), filepath.Join("e", long+"a"),
	} {
		temporary := temporaryName(name)
		base := filepath.Base(temporary)
		if filepath.Dir(temporary) != filepath.Dir(name) || !strings.HasSuffix(base, temporarySuffix) || len(base) > vfs.LongestName {
			t.Errorf("%s: temporary name %s", name, temporary)
		}
		if other, taken := seen[temporary]; taken {
			t.Errorf("%s and %s share the temporary name %s", name, other, temporary)
		}
		seen[temporary] = name
	}
	if got := temporaryName(filepath.Join("d", "s.h5")); got != filepath.Join("d", "s.h5.cidstore-new") {
		t.Errorf("temporary name of a short name: %s", got)
	}
}

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
	if _, err := os.Stat(temporaryName(long + "y")); err != nil {
		t.Errorf("what a neighbour is making: %v", err)
	}
	if _, err := Open(long+"y", nil); !errors.Is(err, ErrLocked) {
		t.Errorf("Open of what is being made: %v", err)
	}
}
