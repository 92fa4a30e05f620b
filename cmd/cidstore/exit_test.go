package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/cidstore/cidstore"
)

// TestExitCodes holds every error of the store to its exit code, and to a sentence
// in one line that says what to do.
func TestExitCodes(t *testing.T) {
	for _, test := range []struct {
		err  error
		code int
	}{
		{nil, exitOK},
		{errNegative, exitNegative},
		{usageError{errors.New("x")}, exitUsage},
		{cidstore.ErrWALKey, exitUsage},
		{cidstore.ErrCorrupt, exitCorrupt},
		{cidstore.ErrTruncated, exitCorrupt},
		{cidstore.ErrForeignEdit, exitCorrupt},
		{cidstore.ErrTampered, exitCorrupt},
		{cidstore.ErrNotCIDStore, exitCorrupt},
		{cidstore.ErrLocked, exitLocked},
		{cidstore.ErrIO, exitIO},
		{cidstore.ErrNoSpace, exitIO},
		{cidstore.ErrSpacePinned, exitIO},
		{cidstore.ErrPoisoned, exitIO},
		{cidstore.ErrReadOnly, exitIO},
		{cidstore.ErrReplaced, exitIO},
		{fs.ErrExist, exitIO},
		{outputError{syscall.ENOSPC}, exitIO},
		{openError{fs.ErrNotExist}, exitIO},
		{errForeign, exitCorrupt},
		{damagedError{errors.New("x")}, exitCorrupt},
		{&os.PathError{Op: "open", Path: "x", Err: syscall.ENOENT}, exitIO},
		{&os.PathError{Op: "open", Path: "x", Err: syscall.EACCES}, exitIO},
		{&os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}, exitIO},
		{errors.New("anything else"), exitIO},
		{cidstore.ErrFormatVersion, exitVersion},
		{cidstore.ErrLegacy, exitVersion},
		{cidstore.ErrWide, exitVersion},
		{stoppedError{os.Interrupt}, 130},
		{stoppedError{syscall.SIGTERM}, 143},
		{stoppedError{syscall.SIGHUP}, 129},
	} {
		if got := exitCode(test.err); got != test.code {
			t.Errorf("%v: exit code %d, want %d", test.err, got, test.code)
		}
		if test.err == nil || test.code <= exitUsage && test.err != cidstore.ErrWALKey || test.code > exitSignal {
			continue
		}
		wrapped := errors.Join(fmt.Errorf("open x: %w", test.err), errors.New("second"))
		if got := exitCode(wrapped); got != test.code {
			t.Errorf("%v, wrapped: exit code %d, want %d", test.err, got, test.code)
		}
		text := sentence(wrapped)
		if strings.Contains(text, "\n") {
			t.Errorf("more than one line: %s", text)
		}
		if known := classOf(test.err).is != nil; known && !strings.HasSuffix(text, classOf(test.err).hint) {
			t.Errorf("%s does not say what to do", text)
		}
	}
}

// TestOneLine: the operation and the file are said once.
func TestOneLine(t *testing.T) {
	denied := &os.PathError{Op: "open", Path: "s.h5", Err: syscall.EACCES}
	for _, test := range []struct {
		err  error
		want string
	}{
		{denied, "open s.h5: permission denied"},
		{fmt.Errorf("open s.h5: %w", denied), "open s.h5: permission denied"},
		{fmt.Errorf("close s.h5: %w", denied), "close s.h5: open s.h5: permission denied"},
		{errors.Join(denied, errors.New("second")), "open s.h5: permission denied; second"},
		{errors.New("plain"), "plain"},
	} {
		if got := oneLine(test.err); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}
