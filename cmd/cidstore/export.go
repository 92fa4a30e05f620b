package main

import (
	"bufio"
	"encoding/json"
	"errors"

	"github.com/cidstore/cidstore"
	"github.com/spf13/cobra"
)

// exportStep is how many pairs are written between two checks for a signal.
const exportStep = 1024

func (p *program) exportCommand() *cobra.Command {
	var skipBad, salvage bool
	var to toTable
	c := &cobra.Command{
		Use:   "export STORE [OUT.h5]",
		Short: "Print every pair, or write a table in an HDF5 file",
		Long: `Export prints every pair as key TAB value, 32 hexadecimal digits each, or with --json
one object per key. Keys come in the order of the store, the values of a key in
ascending order. All pairs are from the same moment. Import reads this form.

With --to hdf5 it makes the HDF5 file OUT.h5 with the table /pairs. The table has one
row per pair and the columns key_high, key_low, value_high and value_low, unsigned
64-bit numbers. With --csr the file has the datasets /keys and /values instead, both
with the columns high and low, and /indptr: the values of key i are in the rows from
indptr[i] up to, but not including, indptr[i+1]. Any HDF5 program can read the file,
such as h5py and pandas.read_hdf, and so can import. OUT.h5 must not exist; it gets its
name when it is complete.

Pairs that cannot be read are left out. Export prints all others, then says on standard
error what it skipped, and ends with exit code 3, or with 0 if --skip-bad is given.`,
		Args: arguments(1, 2),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := to.check(args); err != nil {
				return err
			}
			return p.withStore(args[0], readingOr(salvage), func(s *cidstore.Store) error { return p.export(s, to, skipBad) })
		},
	}
	c.Flags().StringVar(&to.format, "to", "", "write a table to OUT.h5 instead of printing pairs; the only form is `hdf5`")
	completeValues(c, "to", "hdf5")
	c.Flags().BoolVar(&to.csr, "csr", false, "with --to hdf5: write /keys, /indptr and /values, each key once")
	c.Flags().BoolVar(&to.pack, "gzip", false, "with --to hdf5: pack the table, which takes several times as long")
	salvageFlag(c, &salvage)
	c.Flags().BoolVar(&skipBad, "skip-bad", false, "exit with 0 even if pairs were skipped because they cannot be read")
	return c
}

func (p *program) export(s *cidstore.Store, to toTable, skipBad bool) error {
	view, err := s.Snapshot()
	if err != nil {
		return err
	}
	defer view.Close()
	if to.format != "" {
		err = p.exportTable(view, to)
	} else {
		err = p.exportText(view)
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
func (p *program) exportText(view *cidstore.Snapshot) error {
	write := p.writePair
	var sets setWriter
	if p.json {
		sets.out = p.out
		write = sets.add
	}
	if err := p.eachPair(view, write); err != nil {
		return err
	}
	return sets.end()
}

// eachPair calls visit with the pairs that can be read, until a signal stops the program.
func (p *program) eachPair(view *cidstore.Snapshot, visit func(key, value cidstore.E) error) error {
	n := 0
	for key, value := range view.All() {
		if n++; n%exportStep == 0 && p.interrupted() != nil {
			return p.interrupted()
		}
		if err := visit(key, value); err != nil {
			return err
		}
	}
	return nil
}

// sayWhatIsSkipped prints the places that could not be read, one per line. It does so
// even with --quiet, because they are errors.
func (p *program) sayWhatIsSkipped(err error) {
	var damage *cidstore.DamageError
	switch {
	case errors.As(err, &damage):
		list(p.say, "skipped", oneLines(damage.Defects), damage.Count, " places")
	case err != nil:
		p.say("skipped: %s", oneLine(err))
	}
}

// list says lines, which are the first of count, and how many more there are.
func list(say func(format string, args ...any), what string, lines []string, count int, noun string) {
	for _, line := range lines {
		say("%s: %s", what, line)
	}
	if more := count - len(lines); more > 0 {
		say("%s: %d more%s", what, more, noun)
	}
}

func (p *program) writePair(key, value cidstore.E) error {
	line, _ := key.AppendText(p.out.AvailableBuffer())
	line = append(line, '\t')
	line, _ = value.AppendText(line)
	_, err := p.out.Write(append(line, '\n'))
	return err
}

// setWriter writes sets as JSON, one object per key, {"key": …, "values": […]}. It
// does not hold a set in memory, which may have millions of values. If values have
// names, one more field follows: "names": {value: name}.
type setWriter struct {
	out   *bufio.Writer
	key   cidstore.E
	open  bool // an object has been begun
	names []named
}

type named struct {
	value cidstore.E
	name  string
}

// add writes a value; values of the same key must follow each other.
func (w *setWriter) add(key, value cidstore.E) error {
	before := ","
	if !w.open || w.key != key {
		if err := w.end(); err != nil {
			return err
		}
		w.open, w.key, w.names = true, key, w.names[:0]
		before = `{"key":"` + key.String() + `","values":[`
	}
	_, err := w.out.WriteString(before + `"` + value.String() + `"`)
	return err
}

// end finishes the object under way, if there is one.
func (w *setWriter) end() error {
	if !w.open {
		return nil
	}
	w.open = false
	tail := "]}\n"
	if len(w.names) > 0 {
		names := make(map[cidstore.E]string, len(w.names))
		for _, n := range w.names {
			names[n.value] = n.name
		}
		text, err := json.Marshal(names)
		if err != nil {
			return err
		}
		tail = `],"names":` + string(text) + "}\n"
	}
	_, err := w.out.WriteString(tail)
	return err
}
