package main

import (
	"context"

	"github.com/cidstore/cidstore"
	"github.com/spf13/cobra"
)

// exportStep is how many pairs are written between two looks for a signal.
const exportStep = 1024

func (p *program) exportCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "export STORE",
		Short: "Print every pair",
		Long: `Export prints every pair, key TAB value, 32 hexadecimal digits each; with --json
one object a key. Keys come in the order of the store, the values of a key ascending;
all are from one moment. Import reads the same form.`,
		Args: arguments(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			return p.withStore(args[0], reading, func(s *cidstore.Store) error { return p.export(c.Context(), s) })
		},
	}
}

func (p *program) export(ctx context.Context, s *cidstore.Store) error {
	view, err := s.Snapshot()
	if err != nil {
		return err
	}
	defer view.Close()
	write := p.writePair
	var sets setWriter
	if p.json {
		sets.out = p.out
		write = sets.add
	}
	n := 0
	for key, value := range view.All() {
		if n++; n%exportStep == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := write(key, value); err != nil {
			return err
		}
	}
	if err := view.Err(); err != nil {
		return err
	}
	return sets.end()
}

func (p *program) writePair(key, value cidstore.E) error {
	line, _ := key.AppendText(p.out.AvailableBuffer())
	line = append(line, '\t')
	line, _ = value.AppendText(line)
	_, err := p.out.Write(append(line, '\n'))
	return err
}
