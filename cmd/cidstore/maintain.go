package main

import (
	"context"
	"os"

	"github.com/cidstore/cidstore"
	"github.com/spf13/cobra"
)

// condition holds the figures that maintain changes.
type condition struct {
	Groups         uint64 `json:"groups"`
	Runs           int    `json:"runs"`
	WaitingEntries uint64 `json:"waiting_entries"`
	Tombstones     uint64 `json:"tombstones"`
	SpilledSets    uint64 `json:"spilled_sets"`
	DeletionRows   uint64 `json:"deletion_rows"`
	FileBytes      int64  `json:"file_bytes"`
}

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
		RunE: func(c *cobra.Command, args []string) error { return p.maintain(c.Context(), args[0]) },
	}
}

func (p *program) maintain(ctx context.Context, path string) error {
	var before, after condition
	var err error
	before.FileBytes, after.FileBytes, err = p.sizesAround(path, func(s *cidstore.Store) error {
		if err := before.read(ctx, s); err != nil {
			return err
		}
		if err := s.Maintain(ctx); err != nil {
			return err
		}
		return after.read(ctx, s)
	})
	if err != nil {
		return err
	}
	return p.reportMaintenance(&before, &after)
}

// read reads the figures of an open store, except for the size of its file.
func (c *condition) read(ctx context.Context, s *cidstore.Store) error {
	f, err := s.Figures(ctx)
	c.Groups, c.Runs, c.WaitingEntries = f.Groups, f.Runs, f.WaitingEntries
	c.Tombstones, c.SpilledSets, c.DeletionRows = f.Tombstones, f.SpilledSets, s.Metrics().DeletionRows
	return err
}

// list returns the figures in the order in which they are printed.
func (c *condition) list() []figure {
	return []figure{
		{"groups", c.Groups},
		{"runs", c.Runs},
		{"waiting_entries", c.WaitingEntries},
		{"tombstones", c.Tombstones},
		{"spilled_sets", c.SpilledSets},
		{"deletion_rows", c.DeletionRows},
		{"file_bytes", c.FileBytes},
	}
}

func (p *program) reportMaintenance(before, after *condition) error {
	if p.json {
		return p.result(struct {
			Before *condition `json:"before"`
			After  *condition `json:"after"`
		}{before, after}, "")
	}
	p.line("%-18s %12s %12s", "", "before", "after")
	now := after.list()
	for i, was := range before.list() {
		p.line("%-18s %12v %12v", was.name, was.value, now[i].value)
	}
	return nil
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
