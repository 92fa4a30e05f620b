package main

import (
	"context"

	"github.com/cidstore/cidstore"
	"github.com/spf13/cobra"
)

// collected is what gc answers.
type collected struct {
	Deletions  uint64 `json:"deletions"`
	Compacted  uint64 `json:"compacted"`
	Tombstones uint64 `json:"tombstones"`
	Orphans    uint64 `json:"orphans"`
}

func (p *program) gcCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "gc STORE",
		Short: "Remove what deletions have left behind",
		Long: `Gc handles the rows of the deletion log: it drops the tombstones of the sets that
they name, and then the rows. It also looks at up to 65,536 sets in turn, and frees
those that no key names. A store that is open for writing does the same by itself,
once a minute. Maintain does more.

It prints how many deletions it handled, how many sets it compacted, how many
tombstones it dropped, and how many orphaned sets it freed. When a signal stops it,
what it has done by then stays done.`,
		Args: arguments(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			return p.withStore(args[0], changing, func(s *cidstore.Store) error { return p.gc(c.Context(), s) })
		},
	}
}

func (p *program) gc(ctx context.Context, s *cidstore.Store) error {
	done, err := s.RunGCOnce(ctx)
	if err != nil {
		return err
	}
	return p.result(collected(done), "%d deletions handled, %d sets compacted, %d tombstones dropped, %d orphans freed",
		done.Deletions, done.Compacted, done.Tombstones, done.Orphans)
}
