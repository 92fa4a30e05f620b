package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/cidstore/cidstore"
)

// wantedNames returns the values of the keys, still without names.
func wantedNames(view *cidstore.Snapshot, keys []string) (map[cidstore.E]string, error) {
	names := make(map[cidstore.E]string)
	for _, key := range keys {
		for value, err := range view.Values(cidstore.ParseKey(key)) {
			if err != nil {
				return nil, err
			}
			names[value] = ""
		}
	}
	return names, nil
}

// findNames reads the file until each identifier of names has a name, or to its end.
// It ignores records that import rejects.
func findNames(ctx context.Context, path string, names map[cidstore.E]string) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("--resolve: %w", err)
	}
	defer file.Close()
	in, err := openInput(path, file)
	if err != nil {
		return fmt.Errorf("--resolve: %w", err)
	}
	missing := len(names)
	for missing > 0 {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		fields, err := in.next()
		why, rejected := err.(rejection)
		switch {
		case err == io.EOF:
			return nil
		case rejected && !why.last:
			continue
		case rejected:
			return fmt.Errorf("--resolve: %s, line %d: %w", path, in.start(), err)
		case err != nil:
			return fmt.Errorf("--resolve: %s, line %d: %w", path, in.end()+1, err)
		}
		missing -= addNames(names, fields)
	}
	return nil
}

// addNames adds the missing names of a record, and returns how many it added.
func addNames(names map[cidstore.E]string, fields []string) (found int) {
	for _, field := range fields {
		id := cidstore.FromString(field)
		if name, wanted := names[id]; wanted && name == "" && field != "" {
			names[id] = strings.Clone(field) // so as not to keep the whole line
			found++
		}
	}
	return found
}
