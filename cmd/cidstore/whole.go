package main

import (
	"errors"

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
// calls fill to write it, and renames it when it is complete and durable.
func createWhole(path string, fill func(vfs.File) error) error {
	temporary := vfs.TemporaryName(path, unfinished)
	file, err := newUnfinished(temporary)
	if err != nil {
		return err
	}
	err = complete(file, path, fill)
	var after error
	if err == nil {
		after = vfs.GiveName(vfs.OS(), temporary, path)
	} else {
		after = vfs.OS().Remove(temporary)
	}
	if after = errors.Join(after, file.Close()); after != nil { // else Join would hide a signal from exitCode
		err = errors.Join(err, after)
	}
	return err
}

// complete writes a new file and makes it durable, unless path leads to another by then.
func complete(file vfs.File, path string, fill func(vfs.File) error) error {
	if err := fill(file); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	return absent(path)
}

// newUnfinished makes and locks an empty file, so that only one process at a time makes
// it, after removing what a kill has left under this name.
func newUnfinished(name string) (vfs.File, error) {
	return vfs.CreateTemporary(vfs.OS(), name, 0o666, lockUnfinished)
}

func lockUnfinished(file vfs.File) error {
	return file.TryLock(vfs.Lock{Whole: true, Exclusive: true})
}
