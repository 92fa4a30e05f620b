package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
)

// rejectFile is the file of --rejects: JSON, one object a rejected record.
type rejectFile struct {
	file *os.File
	out  *bufio.Writer
	json *json.Encoder
}

// createRejects makes the file, or empties it, unless it is one that the import needs.
func createRejects(path string, needed []string) (*rejectFile, error) {
	if info, err := os.Stat(path); err == nil {
		for _, name := range needed {
			if other, err := os.Stat(name); err == nil && os.SameFile(info, other) && info.Mode().IsRegular() {
				return nil, usageError{fmt.Errorf("--rejects: %s is also %s", path, name)}
			}
		}
	}
	file, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("--rejects: %w", err)
	}
	out := bufio.NewWriter(file)
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	return &rejectFile{file, out, encoder}, nil
}

func (r *rejectFile) add(rejects []rejectedText) error {
	for _, one := range rejects {
		if err := r.json.Encode(one); err != nil {
			return fmt.Errorf("--rejects: %w", err)
		}
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
