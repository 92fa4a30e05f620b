package main

import (
	"errors"
	"fmt"

	"github.com/cidstore/cidstore"
	"github.com/spf13/cobra"
)

// migrated is the answer of migrate.
type migrated struct {
	Path               string   `json:"path"` // of the new store
	From               string   `json:"from"`
	UpToDate           bool     `json:"up_to_date"`
	Keys               uint64   `json:"keys"`
	Values             uint64   `json:"values"`
	OperationsReplayed int      `json:"operations_replayed"`
	Backup             string   `json:"backup"`
	DefectCount        int      `json:"defect_count"`
	Defects            []string `json:"defects"` // the first thousand
}

func (p *program) migrateCommand() *cobra.Command {
	var output string
	var truncate bool
	c := &cobra.Command{
		Use:   "migrate FILE [--output NEW] [--truncate-256]",
		Short: "Convert a store of the Python package, or of format 1",
		Long: `Migrate makes a store from an HDF5 file that the older Python package wrote, in any of
its layouts: with the directory as an attribute, as a dataset, or in shards. It also
takes a store that this program wrote in its format 1. It replays the log of the old
store. A file that already has the present format is left alone; with --output, NEW is
a copy of it, as backup makes one.

The new store replaces FILE, and the old file is kept as FILE.bak. If FILE.bak already
exists, nothing is done. With --output the new store is written to NEW, which must not
exist, and FILE is not changed. Either way the new store is verified before it gets its
name. Whatever interrupts migrate, FILE is either the old file or the complete new one:
run the same command again.

Values of 64 bits become the low half of a value. Identifiers of 256 bits do not fit and
are refused (exit code 6). With --truncate-256 the first 128 bits of each are kept,
unless two of them have the same. Stores of this layout have their log in another file,
FILE with .wal in place of .h5; it is read too. A store of format 1 that was made with a
secret needs the same --wal-key-file.

Everything that is damaged is printed on standard error, one place per line, and the
rest is migrated. Look at these lines before you remove the old file.`,
		Example: `  cidstore migrate tree.h5
  cidstore migrate tree.h5 --output store.h5`,
		Args: arguments(1, 1),
		RunE: func(_ *cobra.Command, args []string) error { return p.migrate(args[0], output, truncate) },
	}
	c.Flags().StringVar(&output, "output", "", "`file` to write the new store to; FILE is not changed")
	c.Flags().BoolVar(&truncate, "truncate-256", false, "keep the first 128 bits of identifiers of 256 bits")
	return c
}

func (p *program) migrate(path, output string, truncate bool) error {
	if err := checkPath(path, reading); err != nil {
		return openError{err}
	}
	options, err := p.options()
	if err != nil {
		return err
	}
	r, err := cidstore.MigrateWith(p.ctx, path, output, &cidstore.MigrateOptions{Store: options, Truncate256: truncate})
	place := path
	if output != "" && !r.UpToDate {
		place = output
	}
	answer := migrated{place, r.From, r.UpToDate, r.Keys, r.Pairs, r.OperationsReplayed, r.Backup, r.DefectCount, p.noteDefects(r.Defects, r.DefectCount)}
	switch {
	case errors.Is(err, cidstore.ErrWide) && !truncate:
		return fmt.Errorf("%w; --truncate-256 keeps the first 128 bits of each, if no two have the same", err)
	case err != nil:
		return explained("migrate", path, err)
	case r.UpToDate && output != "":
		return p.copyCurrent(path, output, answer)
	case r.UpToDate:
		return p.result(answer, "%s is already a store of this program; nothing to do", path)
	}
	kept := path + " is not changed"
	if r.Backup != "" {
		kept = "the old file is " + r.Backup
	}
	return p.result(answer, "migrated to %s from the layout %s: %d keys, %d values, %d operations replayed, %s found; %s",
		place, r.From, r.Keys, r.Pairs, r.OperationsReplayed, counted(r.DefectCount, "defect"), kept)
}

// copyCurrent makes the new store of --output from one of the present format.
func (p *program) copyCurrent(path, output string, answer migrated) error {
	err := p.withStore(path, reading, func(s *cidstore.Store) (err error) {
		if err := s.Backup(p.ctx, output); err != nil {
			return err
		}
		answer.Keys, answer.Values, err = s.Len(p.ctx)
		return err
	})
	if err != nil {
		return fmt.Errorf("migrate %s: %w", path, err)
	}
	answer.Path = output
	return p.result(answer, "copied to %s: %s is already a store of this program", output, path)
}
