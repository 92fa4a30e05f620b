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
	var to toTable
	c := &cobra.Command{
		Use:   "export STORE [OUT.h5]",
		Short: "Print every pair, or write a table in an HDF5 file",
		Long: `Export prints every pair, key TAB value, 32 hexadecimal digits each; with --json
one object a key. Keys come in the order of the store, the values of a key ascending;
all are from one moment. Import reads the same form.

With --to hdf5 it makes the HDF5 file OUT.h5 with the table /pairs, one row a pair, of
the columns key_high, key_low, value_high and value_low, numbers of 64 bits without
sign; or with --csr the datasets /keys and /values, of the columns high and low, and
/indptr: the values of key i are those from indptr[i] up to indptr[i+1]. Any HDF5
program reads it, h5py and pandas.read_hdf too, and so does import. OUT.h5 must not be
there; it gets its name when it is whole.

Pairs that cannot be read are left out: all others are printed, then standard error
says what was skipped, and the exit code is 3, or with --skip-bad 0.`,
		Args: arguments(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			if err := to.check(args); err != nil {
				return err
			}
			return p.withStore(args[0], readingOr(salvage), func(s *cidstore.Store) error { return p.export(c.Context(), s, to, skipBad) })
		},
	}
	c.Flags().StringVar(&to.format, "to", "", "write a table to OUT.h5 instead of printing pairs; `hdf5` is the one form")
	c.Flags().BoolVar(&to.csr, "csr", false, "with --to hdf5: /keys, /indptr and /values, each key once")
	c.Flags().BoolVar(&to.pack, "gzip", false, "with --to hdf5: pack the table, which is several times as slow")
	salvageFlag(c, &salvage)
	c.Flags().BoolVar(&skipBad, "skip-bad", false, "exit with 0 though pairs were skipped that cannot be read")
	return c
}

func (p *program) export(ctx context.Context, s *cidstore.Store, to toTable, skipBad bool) error {
	view, err := s.Snapshot()
	if err != nil {
		return err
	}
	defer view.Close()
	if to.format != "" {
		err = p.exportTable(ctx, view, to)
	} else {
		err = p.exportText(ctx, view)
	}
	if err != nil {
		return err
	}
	err = view.Err()
	p.sayWhatIsSkipped(err)
	if skipBad && exitCode(err) == exitCorrupt {
		return nil
	}
	return err
}

// exportText prints the pairs.
func (p *program) exportText(ctx context.Context, view *cidstore.Snapshot) error {
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
	return sets.end()
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
