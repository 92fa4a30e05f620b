package main

import (
	"fmt"

	"github.com/cidstore/cidstore"
	"github.com/spf13/cobra"
)

func (p *program) restoreCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "restore COPY STORE",
		Short: "Make a store from a backup, in place of the one that is there",
		Long: `Restore copies the backup to a temporary file next to STORE, replays its log,
verifies all of it, and only then gives it the name of STORE, in place of the file
that was there. A bad backup leaves STORE alone, and so does a STORE that another
process has open for writing. The owner, the group and the permissions of that file,
or else of the backup, are kept; a note says which could not be.

Where no file can get the name of STORE, because it is mounted by itself or its
folder takes no new file, the backup is verified first and then written into STORE.
If that is interrupted STORE says that it is half made; run the same again.`,
		Args: arguments(2, 2),
		RunE: func(c *cobra.Command, args []string) error {
			if err := checkPath(args[0], reading); err != nil {
				return fmt.Errorf("restore: %w", err)
			}
			options, err := p.options()
			if err != nil {
				return err
			}
			if err := cidstore.RestoreWith(c.Context(), args[0], args[1], options); err != nil {
				if what := judgeHead(args[0], err); what != nil {
					err = fmt.Errorf("restore %s: %w", args[0], what)
				}
				return err
			}
			return p.reportCopy("restored", args[1])
		},
	}
}
