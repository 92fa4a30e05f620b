package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// rejectFile is the file of --rejects, in JSON with one object per rejected record.
type rejectFile struct {
	file *os.File
	out  *bufio.Writer
	json *json.Encoder
}

// createRejects creates the file or empties it. It refuses a file that the import reads
// or is going to make.
func createRejects(ctx context.Context, path string, needed []string) (*rejectFile, error) {
	_, err := os.Stat(path)
	made := errors.Is(err, fs.ErrNotExist)
	file, err := unlessStopped(ctx, func() (*os.File, error) { return os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o666) })
	if err != nil {
		return nil, fmt.Errorf("--rejects: %w", err)
	}
	regular, err := emptyRejects(file, needed)
	if isUsage(err) && made {
		err = errors.Join(err, os.Remove(path))
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	out := bufio.NewWriter(file)
	if !regular { // nobody may be reading
		out = bufio.NewWriter(interruptibleWriter{file, ctx})
	}
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	return &rejectFile{file, out, encoder}, nil
}

// emptyRejects empties a regular file, unless it is one of the needed ones.
func emptyRejects(file *os.File, needed []string) (regular bool, err error) {
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return false, err
	}
	for _, name := range needed {
		if other, err := os.Stat(name); err == nil && os.SameFile(info, other) {
			return true, usageError{fmt.Errorf("--rejects: %s is also %s", file.Name(), name)}
		}
	}
	return true, file.Truncate(0)
}

func (r *rejectFile) add(rejects []rejectedText) error {
	for _, one := range rejects {
		_ = r.json.Encode(one) // Flush returns the error of a failed write again
	}
	if err := r.out.Flush(); err != nil {
		return fmt.Errorf("--rejects: %w", err)
	}
	return nil
}

func (r *rejectFile) close() error {
	if err := errors.Join(r.out.Flush(), r.file.Close()); err != nil {
		return fmt.Errorf("--rejects: %w", err)
	}
	return nil
}
