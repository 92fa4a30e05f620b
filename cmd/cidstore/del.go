package main

import (
	"github.com/cidstore/cidstore"
	"github.com/spf13/cobra"
)

func (p *program) delCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "del STORE KEY [VALUE...]",
		Short: "Take values from a key, or all of them",
		Long: `Del takes the values out of the set of the key, all of them or none; without a
VALUE it takes away the key with all its values. It prints how many were there.`,
		Args: arguments(2, many),
		RunE: func(_ *cobra.Command, args []string) error {
			return p.withStore(args[0], changing, func(s *cidstore.Store) error { return p.del(s, args[1], args[2:]) })
		},
	}
}

func (p *program) del(s *cidstore.Store, name string, values []string) error {
	key := cidstore.ParseKey(name)
	var b cidstore.Batch
	if len(values) == 0 {
		b.Delete(key)
	}
	for _, v := range values {
		b.DeleteValue(key, cidstore.ParseKey(v))
	}
	before, after, err := applyAndCount(s, &b, key)
	if err != nil {
		return err
	}
	deleted := before - after
	return p.result(changed{Key: key, Deleted: &deleted, Values: after}, "%d deleted", deleted)
}
