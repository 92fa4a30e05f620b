package main

import (
	"context"
	"os"

	"github.com/cidstore/cidstore"
	"github.com/spf13/cobra"
)

// figure is one line of stat: its name is that of the JSON field, with its unit.
type figure struct {
	name  string
	value any
}

func (p *program) statCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "stat STORE",
		Short: "Print figures of the file and the store",
		Long: `Stat prints figures of the file and the store. What opening gets over is a note on
standard error, as with check.`,
		Args: arguments(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			return p.withStore(args[0], reading, func(s *cidstore.Store) error { return p.stat(c.Context(), args[0], s) })
		},
	}
}

func (p *program) stat(ctx context.Context, path string, s *cidstore.Store) error {
	p.noteOpening(s.Recovery())
	list, err := figures(ctx, path, s)
	if err != nil {
		return err
	}
	if p.json {
		object := make(map[string]any, len(list))
		for _, f := range list {
			object[f.name] = f.value
		}
		return p.result(object, "")
	}
	for _, f := range list {
		if err := p.result(nil, "%-18s %v", f.name, f.value); err != nil {
			return err
		}
	}
	return nil
}

func figures(ctx context.Context, path string, s *cidstore.Store) ([]figure, error) {
	f, err := s.Figures(ctx)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	m, r := s.Metrics(), s.Recovery()
	c := contentsOf(f, r.Commit, r.FramesReplayed, r)
	return []figure{
		{"keys", c.Keys},
		{"values", c.Values},
		{"groups", c.Groups},
		{"buckets", c.Buckets},
		{"runs", c.Runs},
		{"waiting_entries", c.WaitingEntries},
		{"spilled_sets", c.SpilledSets},
		{"tombstones", c.Tombstones},
		{"directory_size", m.DirectorySize},
		{"directory_mode", s.DirectoryMode()},
		{"format_version", cidstore.FormatVersion},
		{"file_bytes", info.Size()},
		{"log_bytes", m.WALBytes},
		{"commit", c.Commit},
		{"closed_cleanly", r.Clean},
		{"pending_batches", c.PendingBatches},
		{"corrected_masks", m.CorrectedMasks},
		{"fell_back", c.FellBack},
		{"torn_at", c.TornAt},
		{"torn_records", c.TornRecords},
	}, nil
}
