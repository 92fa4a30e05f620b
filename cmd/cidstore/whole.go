package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/cidstore/cidstore/vfs"
)

// unfinished is the end of the name of a file that is being made.
const unfinished = ".cidstore-table"

// writerAt is a file as an io.WriterAt.
type writerAt struct{ file vfs.File }

func (w writerAt) WriteAt(p []byte, off int64) (int, error) {
	if err := w.file.WriteAt(p, off); err != nil {
		return 0, err
	}
	return len(p), nil
}

// createWhole makes a new file. It creates it under a temporary name beside its own,
// calls fill to write it, and renames it when it is complete and durable. If a kill
// leaves a file under the temporary name, the next attempt removes it.
func createWhole(path string, fill func(vfs.File) error) error {
	system := vfs.OS()
	temporary := vfs.TemporaryName(path, unfinished)
	file, err := newUnfinished(system, temporary)
	if err != nil {
		return err
	}
	err = fillAndRename(system, file, temporary, path, fill)
	if closeErr := file.Close(); closeErr != nil { // else Join would hide a signal from exitCode
		err = errors.Join(err, closeErr)
	}
	return err
}

// fillAndRename calls fill to write a file, and renames it when it is durable. If that is
// not possible, it removes the file.
func fillAndRename(system vfs.FS, file vfs.File, temporary, path string, fill func(vfs.File) error) error {
	complete := func() error {
		if err := fill(file); err != nil {
			return err
		}
		if err := file.Sync(); err != nil {
			return err
		}
		return absent(path)
	}
	if err := complete(); err != nil {
		if removeErr := system.Remove(temporary); removeErr != nil {
			err = errors.Join(err, removeErr)
		}
		return err
	}
	if err := system.Rename(temporary, path); err != nil {
		return err
	}
	return system.SyncDir(filepath.Dir(path))
}

// errInTheMaking says that another process is making the same file now.
var errInTheMaking = errors.New("another process is making this file now")

// newUnfinished makes and locks an empty file, so that only one process at a time makes
// it, after removing what a kill has left under this name.
func newUnfinished(system vfs.FS, name string) (vfs.File, error) {
	file, err := system.OpenFile(name, vfs.ReadWrite|vfs.Create|vfs.Exclusive, 0o666)
	if errors.Is(err, fs.ErrExist) {
		if err := removeUnfinished(system, name); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		file, err = system.OpenFile(name, vfs.ReadWrite|vfs.Create|vfs.Exclusive, 0o666)
		if errors.Is(err, fs.ErrExist) {
			err = fmt.Errorf("%s: %w", name, errInTheMaking)
		}
	}
	if err != nil {
		return nil, err
	}
	if err := own(system, file, name); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", name, err), file.Close())
	}
	return file, nil
}

// removeUnfinished removes a file that nobody makes now. It removes nothing but a regular
// file, and follows no link: no kill leaves anything else.
func removeUnfinished(system vfs.FS, name string) error {
	kind, err := vfs.Kind(system, name)
	if err != nil {
		return err
	}
	if !kind.IsRegular() {
		return fmt.Errorf("this temporary name is taken by something other than a file: %w", fs.ErrExist)
	}
	file, err := system.OpenFile(name, vfs.ReadWrite, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := own(system, file, name); err != nil {
		return err
	}
	return system.Remove(name)
}

// own locks a file and makes sure that it still has its name.
func own(system vfs.FS, file vfs.File, name string) error {
	err := file.TryLock(vfs.Lock{Whole: true, Exclusive: true})
	if errors.Is(err, vfs.ErrLockHeld) {
		return errInTheMaking
	}
	if err != nil {
		return err
	}
	info, err := file.Info()
	if err != nil {
		return err
	}
	named, err := system.Stat(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && (named.Device != info.Device || named.Inode != info.Inode) {
		return errInTheMaking // another process made and renamed it just now
	}
	return err
}
