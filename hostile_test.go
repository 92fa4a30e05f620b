package cidstore

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/vfs"
)

// TestDirectoryThatLeadsAstray: a directory whose checksums are right and whose
// pointers are not, two buckets in each other's place, is found by a checkpoint,
// which comes to its end, and by reads.
func TestDirectoryThatLeadsAstray(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.h5")
	o := &Options{SplitThreshold: 8, GCInterval: -1, WALBytes: 64 << 10}
	s, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		if err := s.Insert(E{Low: uint64(i)}, E{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	swapPointers(t, path)

	s, err = Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		for i := range 100 {
			if err := s.Insert(E{Low: uint64(i)}, E{Low: 1}); err != nil {
				done <- err
				return
			}
		}
		done <- s.Checkpoint(context.Background())
	}()
	select {
	case err = <-done:
	case <-time.After(30 * time.Second):
		t.Fatal("the checkpoint has no end")
	}
	if !errors.Is(err, ErrCorrupt) {
		t.Errorf("checkpoint: %v", err)
	}
	lost := 0
	for i := range 100 {
		if _, err := s.Lookup(E{Low: uint64(i)}); errors.Is(err, ErrCorrupt) {
			lost++
		} else if err != nil {
			t.Errorf("key %d: %v", i, err)
		}
	}
	if lost == 0 || lost == 100 {
		t.Errorf("%d keys of 100 are lost", lost)
	}
	if _, err := s.Check(context.Background()); !errors.Is(err, ErrCorrupt) {
		t.Errorf("Check: %v", err)
	}
	if err := s.Close(); !errors.Is(err, ErrCorrupt) {
		t.Errorf("Close: %v", err)
	}
}

// swapPointers commits a root in which the first and the last bucket have changed
// places.
func swapPointers(t *testing.T, path string) {
	t.Helper()
	vfile, err := vfs.OS().OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	file, _, err := hdf5io.Open(vfile, hdf5io.Options{})
	if err != nil {
		t.Fatal(err)
	}
	tx, err := file.Begin()
	if err != nil {
		t.Fatal(err)
	}
	a, found, err := tx.Base().Attribute(configPath, "directory")
	if err != nil || !found {
		t.Fatalf("no directory: %v", err)
	}
	const pointer = 12
	last := a.Data[len(a.Data)-pointer:]
	first := append([]byte(nil), a.Data[:pointer]...)
	for at := 0; binary.LittleEndian.Uint32(a.Data[at:]) == binary.LittleEndian.Uint32(first); at += pointer {
		copy(a.Data[at:], last)
	}
	last = append([]byte(nil), last...)
	for at := len(a.Data) - pointer; binary.LittleEndian.Uint32(a.Data[at:]) == binary.LittleEndian.Uint32(last); at -= pointer {
		copy(a.Data[at:], first)
	}
	if err := tx.SetAttribute(configPath, a); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.CommitBoth(tx.Base().Payload()); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(file.Close(), vfile.Close()); err != nil {
		t.Fatal(err)
	}
}
