package main

import (
	"os"

	"github.com/cidstore/cidstore"
	"github.com/spf13/cobra"
)

// copied is what backup and restore answer.
type copied struct {
	Path  string `json:"path"`
	Bytes int64  `json:"bytes"`
}

func (p *program) backupCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "backup STORE COPY",
		Short: "Copy a store that may be in use, and verify the copy",
		Long: `Backup writes a consistent copy of the store: everything that was acknowledged
before, while another process may go on writing. The copy is a store of its own. It
is verified before it gets its name; a file that is there already is an error. It
belongs to those to whom the store belongs, or a note says that it cannot.`,
		Args: arguments(2, 2),
		RunE: func(c *cobra.Command, args []string) error {
			err := p.withStore(args[0], reading, func(s *cidstore.Store) error { return s.Backup(c.Context(), args[1]) })
			if err != nil {
				return err
			}
			return p.reportCopy("backup written to", args[1])
		},
	}
}

// reportCopy tells the size of a file that has been made.
func (p *program) reportCopy(what, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return p.result(copied{path, info.Size()}, "%s %s, %d bytes", what, path, info.Size())
}
