package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/cidstore/cidstore/vfs"
)

func filled(text string) func(vfs.File) error {
	return func(f vfs.File) error { return f.WriteAt([]byte(text), 0) }
}

func TestAFileIsMadeWholeOrNotAtAll(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	failed := errors.New("failed")
	// The error itself: exitCode looks for a signal, which a failure on the way out hides.
	if err := createWhole(path, func(vfs.File) error { return failed }); err != failed {
		t.Errorf("%#v", err)
	}
	for _, name := range []string{path, vfs.TemporaryName(path, unfinished)} {
		if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	err := createWhole(path, func(f vfs.File) error {
		if err := createWhole(path, filled("other")); !errors.Is(err, vfs.ErrLockHeld) {
			t.Errorf("two make it at once: %v", err)
		}
		return filled("whole")(f)
	})
	must(t, err)
	if text, err := os.ReadFile(path); err != nil || string(text) != "whole" {
		t.Errorf("%q, %v", text, err)
	}
	// Somebody else has made it since.
	other := filepath.Join(t.TempDir(), "out")
	err = createWhole(other, func(f vfs.File) error {
		return errors.Join(filled("late")(f), os.WriteFile(other, []byte("first"), 0o600))
	})
	if text, _ := os.ReadFile(other); !errors.Is(err, fs.ErrExist) || string(text) != "first" {
		t.Errorf("%q, %v", text, err)
	}
}
