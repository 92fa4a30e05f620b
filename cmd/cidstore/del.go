package main

import (
	"github.com/cidstore/cidstore"
	"github.com/spf13/cobra"
)

func (p *program) delCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "del STORE KEY [VALUE...]",
		Short: "Remove values from a key, or the whole key",
		Long: `Del removes the values from the set of the key, all of them or none. Without a VALUE
it removes the key with all its values. It prints how many values it removed.`,
		Args: arguments(2, many),
		RunE: func(_ *cobra.Command, args []string) error {
			key := cidstore.ParseKey(args[1])
			var b cidstore.Batch
			if len(args) == 2 {
				b.Delete(key)
			}
			for _, v := range args[2:] {
				b.DeleteValue(key, cidstore.ParseKey(v))
			}
			return p.change(args[0], changing, &b, key, func(before, after int) error {
				deleted := before - after
				return p.result(changed{Key: key, Deleted: &deleted, Values: after}, "%d deleted", deleted)
			})
		},
	}
}
