//go:build unix

package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/cidstore/cidstore"
)

// TestSignalInOpen: a FIFO that nobody writes to does not hold a signal back.
func TestSignalInOpen(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Skip(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stoppedError{os.Interrupt})
	i := &importer{program: &program{ctx: ctx, quiet: true, messages: os.Stderr}, patience: time.Hour,
		reader: pairReader{files: []string{fifo}, columns: columns{1, 2}}}
	s, err := cidstore.Open(filepath.Join(t.TempDir(), "s.h5"), nil)
	must(t, err)
	defer s.Close()
	i.start()
	if err := i.load(s, nil, -1); !errors.Is(err, stoppedError{os.Interrupt}) {
		t.Errorf("ended by %v", err)
	}
	// Lets the reader go on: it sees the end of the file, and nobody takes it.
	w, err := os.OpenFile(fifo, os.O_WRONLY, 0)
	must(t, err)
	w.Close()
}

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
