package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"

	"github.com/cidstore/cidstore"
	"github.com/spf13/cobra"
)

func (p *program) getCommand() *cobra.Command {
	var resolve string
	var salvage bool
	c := &cobra.Command{
		Use:   "get STORE KEY...",
		Short: "Print the values of keys",
		Long: `Get prints the values of the keys in ascending order, one per line. If several keys
are given, each line begins with the key as it was given and a tab; import reads this
form. With --json it prints one object per key. For a key that is absent it prints
nothing. The exit code is 1 if all keys are absent.

An identifier does not remember the name that it was made from. With --resolve, get
reads a TSV or CSV file, packed or not. If the UUIDv5 of a field of that file, in any
column, is the identifier to print, get prints the field instead, unless that has line
ends or other control characters.`,
		Args: arguments(2, many),
		RunE: func(_ *cobra.Command, args []string) error {
			return p.withStore(args[0], readingOr(salvage), func(s *cidstore.Store) error {
				return p.get(s, args[1:], resolve)
			})
		},
	}
	c.Flags().StringVar(&resolve, "resolve", "", "`file` with the names to print, as import reads it")
	salvageFlag(c, &salvage)
	return c
}

func (p *program) get(s *cidstore.Store, keys []string, resolve string) error {
	view, err := s.Snapshot()
	if err != nil {
		return err
	}
	defer view.Close()
	var names map[cidstore.E]string
	if resolve != "" {
		if names, err = wantedNames(view, keys); err != nil {
			return err
		}
		if _, err := unlessStopped(p.ctx, func() (any, error) { return nil, findNames(p.ctx, resolve, names) }); err != nil {
			return err
		}
	}
	sets := setWriter{out: p.out}
	found := false
	for _, text := range keys {
		key := cidstore.ParseKey(text)
		before := "" // each value
		if len(keys) > 1 {
			before = printable(text) + "\t"
		}
		for value, err := range view.Values(key) {
			if err != nil {
				return err
			}
			found = true
			if err := p.printValue(&sets, before, key, value, names[value]); err != nil {
				return err
			}
			if err := p.interrupted(); err != nil {
				return err
			}
		}
		if err := sets.end(); err != nil {
			return err
		}
	}
	if !found {
		return errNegative
	}
	return nil
}

// breaksLine reports whether a text cannot be printed as a column of a line. A tab can,
// if it is the only column.
func breaksLine(text string, columns int) bool {
	return strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) && (columns > 1 || r != '\t') })
}

// printable returns a KEY as it was given, or its identifier if the text would break
// the line that it is printed on.
func printable(text string) string {
	if breaksLine(text, 2) {
		return cidstore.ParseKey(text).String()
	}
	return text
}

func (p *program) printValue(sets *setWriter, before string, key, value cidstore.E, name string) error {
	if p.json {
		err := sets.add(key, value)
		if name != "" {
			sets.names = append(sets.names, named{value, name})
		}
		return err
	}
	columns := 1 + strings.Count(before, "\t")
	if name == "" || breaksLine(name, columns) {
		name = value.String()
	}
	_, err := p.out.WriteString(before + name + "\n")
	return err
}

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
