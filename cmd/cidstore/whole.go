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
// leaves a file under the temporary name, the next attempt overwrites it.
func createWhole(path string, fill func(vfs.File) error) error {
	system := vfs.OS()
	temporary := path + unfinished
	file, err := system.OpenFile(temporary, vfs.ReadWrite|vfs.Create, 0o666)
	if err != nil {
		return err
	}
	if err := ownTemporary(system, file, temporary); err != nil {
		return errors.Join(fmt.Errorf("%s: %w", temporary, err), file.Close())
	}
	err = file.Truncate(0)
	if err == nil {
		err = fill(file)
	}
	if err == nil {
		err = file.Sync()
	}
	if err == nil {
		err = absent(path)
	}
	if err == nil {
		err = system.Rename(temporary, path)
	} else if removeErr := system.Remove(temporary); removeErr != nil {
		err = errors.Join(err, removeErr)
	}
	if err == nil {
		err = system.SyncDir(filepath.Dir(path))
	}
	if closeErr := file.Close(); closeErr != nil {
		err = errors.Join(err, closeErr)
	}
	return err // not joined, so that a signal keeps its exit code
}

// errInTheMaking says that another process is making the same file now.
var errInTheMaking = errors.New("another process is making this file now")

// ownTemporary locks a temporary file, so that only one process at a time makes it.
func ownTemporary(system vfs.FS, file vfs.File, name string) error {
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
