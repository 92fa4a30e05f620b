package main

import (
	"os"

	"github.com/cidstore/cidstore"
	"github.com/spf13/cobra"
)

func (p *program) maintainCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "maintain STORE",
		Short: "Do all maintenance of the store now",
		Long: `Maintain does at once what a store that is open for writing does over time. It folds
waiting entries into their groups, merges groups that have become small, moves sets of
up to four values back into the entries of their keys, drops tombstones, and empties
the deletion log. It may rewrite the whole store.

It prints figures from before and after. The file may have grown: cidstore shrink gives
free space back. If a signal stops maintain, everything that it has done until then is
kept.`,
		Args: arguments(1, 1),
		RunE: func(_ *cobra.Command, args []string) error { return p.maintain(args[0]) },
	}
}

func (p *program) maintain(path string) error {
	var before, after []figure
	bytes, bytesAfter, err := p.sizesAround(path, func(s *cidstore.Store) (err error) {
		if before, err = p.condition(s); err != nil {
			return err
		}
		if err = s.Maintain(p.ctx); err != nil {
			return err
		}
		after, err = p.condition(s)
		return err
	})
	if err != nil {
		return err
	}
	before, after = append(before, figure{"file_bytes", bytes}), append(after, figure{"file_bytes", bytesAfter})
	if p.json {
		return p.result(struct {
			Before map[string]any `json:"before"`
			After  map[string]any `json:"after"`
		}{byName(before), byName(after)}, "")
	}
	p.line("%-18s %12s %12s", "", "before", "after")
	for i, was := range before {
		p.line("%-18s %12v %12v", was.name, was.value, after[i].value)
	}
	return nil
}

// condition returns the figures that maintain changes, except for the size of the file.
func (p *program) condition(s *cidstore.Store) ([]figure, error) {
	f, err := s.Figures(p.ctx)
	return []figure{
		{"groups", f.Groups},
		{"runs", f.Runs},
		{"waiting_entries", f.WaitingEntries},
		{"tombstones", f.Tombstones},
		{"spilled_sets", f.SpilledSets},
		{"deletion_rows", s.Metrics().DeletionRows},
	}, err
}

// sizesAround does the work on an existing store. It returns the size of the file before
// opening and after closing, because an open store has additional room for writes.
func (p *program) sizesAround(path string, work func(*cidstore.Store) error) (before, after int64, err error) {
	if err := checkPath(path, changing); err != nil {
		return 0, 0, openError{err}
	}
	if before, err = fileSize(path); err != nil {
		return 0, 0, err
	}
	if err = p.withStore(path, changing, work); err != nil {
		return 0, 0, err
	}
	after, err = fileSize(path)
	return before, after, err
}

func fileSize(path string) (int64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
