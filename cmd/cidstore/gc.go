package main

import (
	"github.com/cidstore/cidstore"
	"github.com/spf13/cobra"
)

// collected is the answer of gc.
type collected struct {
	Deletions  uint64 `json:"deletions"`
	Compacted  uint64 `json:"compacted"`
	Tombstones uint64 `json:"tombstones"`
	Orphans    uint64 `json:"orphans"`
}

func (p *program) gcCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "gc STORE",
		Short: "Remove what deletions have left in the store",
		Long: `Gc goes through the deletion log: it drops the tombstones of the sets that the log names,
and then the rows of the log. It also looks at up to 65,536 sets in turn, and frees
those that no key refers to. A store that is open for writing does the same by itself,
once a minute. Maintain does more.

Gc prints how many deletions it handled, how many sets it compacted, how many
tombstones it dropped, and how many orphaned sets it freed. If a signal stops it,
everything that it has done until then is kept.`,
		Args: arguments(1, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			return p.withStore(args[0], changing, func(s *cidstore.Store) error {
				done, err := s.RunGCOnce(p.ctx)
				if err != nil {
					return err
				}
				return p.result(collected(done), "%d deletions handled, %d sets compacted, %d tombstones dropped, %d orphans freed",
					done.Deletions, done.Compacted, done.Tombstones, done.Orphans)
			})
		},
	}
}
