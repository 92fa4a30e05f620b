package main

import (
	"fmt"

	"github.com/cidstore/cidstore"
	"github.com/spf13/cobra"
)

// verified is what restore --verify answers.
type verified struct {
	Verdict string   `json:"verdict"`
	Backups []string `json:"backups"`
}

func (p *program) restoreCommand() *cobra.Command {
	var verify, asJSON bool
	c := &cobra.Command{
		Use:   "restore COPY [INCREMENT…] STORE",
		Short: "Make a store from a backup, in place of the one that is there",
		Long: `Restore copies the backup to a temporary file next to STORE, replays its log,
verifies all of it, and only then gives it the name of STORE, in place of the file
that was there. A bad backup leaves STORE alone, and so does a STORE that another
process has open for writing. The owner, the group and the permissions of that file,
or else of the backup, are kept; a note says which could not be.

After COPY, a full backup, come the increments since then, in the order in which
they were made: STORE is as it was at the last of them. Increments that do not
follow each other, or are damaged, leave STORE alone.

With --verify nothing is restored, and STORE is not named: COPY and the increments
are read, and are good or not.

Where no file can get the name of STORE, because it is mounted by itself or its
folder takes no new file, the backup is verified first and then written into STORE.
If that is interrupted STORE says that it is half made; run the same again.`,
		Args: func(c *cobra.Command, args []string) error {
			if verify {
				return arguments(1, many)(c, args)
			}
			return arguments(2, many)(c, args)
		},
		RunE: func(c *cobra.Command, args []string) error {
			backups, store := args, ""
			if !verify {
				backups, store = args[:len(args)-1], args[len(args)-1]
			}
			for _, path := range backups {
				if err := checkPath(path, reading); err != nil {
					return fmt.Errorf("restore: %w", err)
				}
			}
			options, err := p.options()
			if err != nil {
				return err
			}
			shown := p.copyProgress("copy", asJSON)
			if verify {
				err = cidstore.VerifyBackup(c.Context(), backups, options, shown.update)
			} else {
				err = cidstore.RestoreSeries(c.Context(), backups, store, options, shown.update)
			}
			shown.finish()
			if what := judgeHead(backups[0], err); what != nil {
				err = fmt.Errorf("restore %s: %w", backups[0], what)
			}
			switch {
			case err != nil:
				return err
			case verify:
				return p.result(verified{"ok", backups}, "ok: %d files", len(backups))
			}
			return p.reportCopy("restored", store)
		},
	}
	c.Flags().BoolVar(&verify, "verify", false, "only read COPY and the increments, and say whether they are good")
	progressFlag(c, &asJSON)
	return c
}
