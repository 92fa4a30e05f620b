package main

import (
	"github.com/cidstore/cidstore"
	"github.com/spf13/cobra"
)

func (p *program) countCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "count STORE [KEY]",
		Short: "Print the number of pairs, or of the values of a key",
		Args:  arguments(1, 2),
		RunE: func(_ *cobra.Command, args []string) error {
			return p.withStore(args[0], reading, func(s *cidstore.Store) error {
				if len(args) == 1 {
					return p.countAll(s)
				}
				return p.countKey(s, cidstore.ParseKey(args[1]))
			})
		},
	}
}

func (p *program) countAll(s *cidstore.Store) error {
	keys, values, err := s.Len(p.ctx)
	if err != nil {
		return err
	}
	return p.result(struct {
		Keys   uint64 `json:"keys"`
		Values uint64 `json:"values"`
	}{keys, values}, "%d", values)
}

func (p *program) countKey(s *cidstore.Store, key cidstore.E) error {
	n, err := s.Count(key)
	if err != nil {
		return err
	}
	return p.result(struct {
		Key    cidstore.E `json:"key"`
		Values int        `json:"values"`
	}{key, n}, "%d", n)
}
