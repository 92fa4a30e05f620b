package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/cidstore/cidstore"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// copied is the answer of backup and restore.
type copied struct {
	Path  string `json:"path"`
	Bytes int64  `json:"bytes"`
}

// standard stands for standard input, or for standard output, in the place of a file.
const standard = "-"

func (p *program) backupCommand() *cobra.Command {
	var options cidstore.BackupOptions
	c := &cobra.Command{
		Use:   "backup STORE COPY",
		Short: "Copy a store that may be in use, and verify the copy",
		Long: `Backup writes a consistent copy of the store, while another process may go on writing.
The copy has everything that was acknowledged before, and is a store of its own. It is
verified before it gets its name; the name must not exist yet. The copy gets the owner,
the group and the permissions of the store; a note says which it could not get.

With --since, COPY is an increment: it has what changed since an earlier backup. Name
the full backup with --since, and then, in order, each increment made since then with
another --since. These files must be as backup wrote them. Restoring the increment
needs them too:

  cidstore backup words.h5 full.h5
  cidstore backup words.h5 monday --since full.h5
  cidstore backup words.h5 tuesday --since full.h5 --since monday
  cidstore restore full.h5 monday tuesday words.h5

The copy is as long as the file of the store, gaps included, which keeps later
increments short. With --compact its data are moved together, as shrink does; the first
increment after such a copy then has everything that moved. COPY must then be a file.

The COPY - is standard output, which must not be a terminal. The copy is verified before
its first byte is written. Where it arrives, restore - verifies it before it replaces
anything; a file that was made of it can be verified with cidstore restore --verify:

  cidstore backup words.h5 - | ssh elsewhere cidstore restore - words.h5`,
		Args: arguments(2, 2),
		RunE: func(_ *cobra.Command, args []string) error {
			return p.backup(args[0], args[1], &options)
		},
	}
	c.Flags().StringArrayVar(&options.Since, "since", nil, "make an increment since the backup in this `file`; repeat it for each increment since then")
	c.Flags().BoolVar(&options.Compact, "compact", false, "move the data of the copy together, so that the file is short; COPY must be a file")
	p.progressFlag(c)
	return c
}

func (p *program) backup(store, path string, options *cidstore.BackupOptions) error {
	if options.Compact && (len(options.Since) > 0 || path == standard) {
		return usageError{errors.New("--compact: want a full backup in a file, without --since")}
	}
	if path == standard && term.IsTerminal(int(os.Stdout.Fd())) {
		return usageError{errors.New("backup: standard output is a terminal; send it to a file or a program")}
	}
	for _, base := range options.Since {
		if err := checkPath(base, reading); err != nil {
			return fmt.Errorf("--since: %w", err)
		}
	}
	shown := p.progress("copy")
	options.Progress = shown.update
	err := p.withStore(store, reading, func(s *cidstore.Store) error {
		if path == standard {
			return s.BackupTo(p.ctx, p.out, options)
		}
		return s.BackupWith(p.ctx, path, options)
	})
	shown.finish()
	if len(options.Since) > 0 && !isA[openError](err) {
		err = explained("backup: since", options.Since[0], err)
	}
	if err != nil || path == standard {
		return err
	}
	return p.reportCopy("backup written to", path)
}

// reportCopy prints the size of a file that has been made.
func (p *program) reportCopy(what, path string) error {
	size, err := fileSize(path)
	if err != nil {
		return err
	}
	return p.result(copied{path, size}, "%s %s, %d bytes", what, path, size)
}
