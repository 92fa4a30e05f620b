package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/cidstore/cidstore"
)

// wantedNames lists the values of the keys, without names yet.
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

// findNames reads the file until it has a name for each identifier of names, or to
// its end. Records that import rejects have none.
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

// addNames returns how many names the record had that were missing.
func addNames(names map[cidstore.E]string, fields []string) (found int) {
	for _, field := range fields {
		id := cidstore.FromString(field)
		if name, wanted := names[id]; wanted && name == "" && field != "" {
			names[id] = strings.Clone(field) // not the whole line
			found++
		}
	}
	return found
}
