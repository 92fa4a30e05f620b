package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/cidstore/cidstore"
)

// wantedNames lists the values of the keys, without names yet.
func wantedNames(view *cidstore.Snapshot, keys []string) (map[cidstore.E]string, error) {
	names := make(map[cidstore.E]string)
	for _, key := range keys {
		for value, err := range view.Values(identifier(key)) {
			if err != nil {
				return nil, err
			}
			names[value] = ""
		}
	}
	return names, nil
}

// findNames reads the file until it has a name for each identifier of names, or to
// its end. Lines that import rejects have none.
func findNames(ctx context.Context, path string, names map[cidstore.E]string) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("--resolve: %w", err)
	}
	defer file.Close()
	lines, err := newLineReader(file)
	if err != nil {
		return fmt.Errorf("--resolve: %s: %w", path, err)
	}
	fields := splitter{by: separatorOf(path, lines.peek())}
	missing := len(names)
	for missing > 0 {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		line, err := lines.next()
		switch err {
		case nil:
			missing -= addNames(names, &fields, line)
		case errLongLine:
		case io.EOF:
			return nil
		default:
			return fmt.Errorf("--resolve: %s, line %d: %w", path, lines.number+1, err)
		}
	}
	return nil
}

// addNames returns how many names the line had that were missing.
func addNames(names map[cidstore.E]string, fields *splitter, line []byte) (found int) {
	split, err := fields.split(line)
	if err != nil {
		return 0
	}
	for _, field := range split {
		id := cidstore.FromString(string(field))
		if name, wanted := names[id]; wanted && name == "" && len(field) > 0 {
			names[id] = string(field)
			found++
		}
	}
	return found
}
