package main

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/cidstore/cidstore"
)

// TestPipeIsNotRead: of a pipe that a store has refused nothing is read, which would wait
// for its other end. This one has something to be read.
func TestPipeIsNotRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	must(t, syscall.Mkfifo(path, 0o600))
	pipe, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer pipe.Close()
	_, err = pipe.Write(make([]byte, headBytes))
	must(t, err)
	if err := judgeHead(path, cidstore.ErrNotCIDStore); err != nil {
		t.Errorf("judged by what is in it: %v", err)
	}
}
