package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/cidstore/cidstore"
	"github.com/spf13/cobra"
)

// exportStep is how many pairs are written between two looks for a signal.
const exportStep = 1024

func (p *program) exportCommand() *cobra.Command {
	var skipBad, salvage bool
	c := &cobra.Command{
		Use:   "export STORE",
		Short: "Print every pair",
		Long: `Export prints every pair, key TAB value, 32 hexadecimal digits each; with --json
one object a key. Keys come in the order of the store, the values of a key ascending;
all are from one moment. Import reads the same form.

Pairs that cannot be read are left out: all others are printed, then standard error
says what was skipped, and the exit code is 3, or with --skip-bad 0.`,
		Args: arguments(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			return p.withStore(args[0], readingOr(salvage), func(s *cidstore.Store) error { return p.export(c.Context(), s, skipBad) })
		},
	}
	salvageFlag(c, &salvage)
	c.Flags().BoolVar(&skipBad, "skip-bad", false, "exit with 0 though pairs were skipped that cannot be read")
	return c
}

func (p *program) export(ctx context.Context, s *cidstore.Store, skipBad bool) error {
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
	if err := sets.end(); err != nil {
		return err
	}
	err = view.Err()
	p.sayWhatIsSkipped(err)
	if skipBad && exitCode(err) == exitCorrupt {
		return nil
	}
	return err
}

// sayWhatIsSkipped prints the places that could not be read, one a line: quiet or
// not, for they are errors.
func (p *program) sayWhatIsSkipped(err error) {
	var damage *cidstore.DamageError
	switch {
	case errors.As(err, &damage):
		for _, defect := range damage.Defects {
			fmt.Fprintf(p.messages, "skipped: %s\n", oneLine(defect))
		}
		if more := damage.Count - len(damage.Defects); more > 0 {
			fmt.Fprintf(p.messages, "skipped: %d more places\n", more)
		}
	case err != nil:
		fmt.Fprintf(p.messages, "skipped: %s\n", oneLine(err))
	}
}

func (p *program) writePair(key, value cidstore.E) error {
	line, _ := key.AppendText(p.out.AvailableBuffer())
	line = append(line, '\t')
	line, _ = value.AppendText(line)
	_, err := p.out.Write(append(line, '\n'))
	return err
}
