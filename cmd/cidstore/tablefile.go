package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/cidstore/cidstore"
	"github.com/cidstore/cidstore/hdf5"
	"github.com/spf13/cobra"
)

// tableFlags say which dataset of HDF5 files has the pairs, and in which columns.
type tableFlags struct{ dataset, key, value string }

func (t *tableFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&t.dataset, "dataset", "", "`PATH` of the table with the pairs in HDF5 files")
	c.Flags().StringVar(&t.key, "key", "", "with --dataset: the column of the keys, or `A,B` for the columns of their high and low words")
	c.Flags().StringVar(&t.value, "value", "", "with --dataset: the column of the values, or `C,D` for the columns of their high and low words")
}

// check returns what is wrong with the flags.
func (t *tableFlags) check(c *cobra.Command) error {
	changed := c.Flags().Changed
	if !changed("dataset") && !changed("key") && !changed("value") {
		return nil
	}
	if t.dataset == "" || t.key == "" || t.value == "" {
		return usageError{errors.New("--dataset, --key and --value must be given together")}
	}
	if changed("columns") || changed("header") {
		return usageError{errors.New("--columns and --header are for text, and cannot be given with --dataset")}
	}
	return nil
}

// tableFile is an HDF5 file with a dataset and columns that are known to fit.
type tableFile struct {
	file  *hdf5.File
	data  *hdf5.Dataset
	sides [2]side // key and value
}

// side says in which column, or two columns, the keys or the values are.
type side struct {
	what  string // "key" or "value"
	parts []part
	text  bool
}

// part is a column. It is a member of records, or one of the numbers of a row.
type part struct {
	name   string
	of     *hdf5.Type
	member []string // empty for a row of numbers
	at     int      // place among the numbers of a row
	width  int      // how many numbers a row has

	// The cells of the block that is read: texts, or for each row width integers, a signed
	// one as it is in memory.
	texts []string
	words []uint64
}

// open opens a file and finds the columns. It returns an inputError if they do not fit.
func (t *tableFlags) open(name string) (*tableFile, error) {
	file, err := hdf5.Open(name, nil)
	if errors.Is(err, hdf5.ErrNotHDF5) {
		err = notHDF5(name)
	}
	if err != nil {
		return nil, tableError(name, err)
	}
	opened, err := t.find(file)
	if err != nil {
		return nil, errors.Join(tableError(name, err), file.Close())
	}
	return opened, nil
}

// notHDF5 says what a file is that is not HDF5.
func notHDF5(name string) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	return inputError{hdf5.ErrNotHDF5.Error() + ": " + looksLike(file)}
}

// tableError adds the file to an error. An error about its contents is an inputError.
func tableError(name string, err error) error {
	if isAny(err, hdf5.ErrNotHDF5, hdf5.ErrCorrupt, hdf5.ErrUnsupported, hdf5.ErrLimit, hdf5.ErrNotFound, hdf5.ErrWrongType) {
		err = inputError{strings.TrimPrefix(shown(err.Error()), "hdf5: ")}
	}
	if isA[inputError](err) {
		return fmt.Errorf("%s: %w", name, err)
	}
	return err
}

func (t *tableFlags) find(file *hdf5.File) (*tableFile, error) {
	root, err := file.Root()
	if err != nil {
		return nil, err
	}
	object, err := root.Open(t.dataset)
	if errors.Is(err, hdf5.ErrNotFound) {
		return nil, inputError{fmt.Sprintf("it has no dataset %q%s", t.dataset, hintOfTable(file))}
	}
	if err != nil {
		return nil, err
	}
	data, ok := object.(*hdf5.Dataset)
	if !ok {
		return nil, inputError{fmt.Sprintf("%s is a %s, not a dataset%s", shown(object.Path()), kindOf(object), hintOfTable(file))}
	}
	if !isTable(data) {
		return nil, inputError{fmt.Sprintf("%s is not a table: it has elements of type %s in %d dimensions, want records in one dimension or integers in two",
			shown(data.Path()), cutText(data.Type().String()), len(data.Shape()))}
	}
	found := &tableFile{file: file, data: data}
	for n, columns := range []string{t.key, t.value} {
		if found.sides[n], err = findSide(data, []string{"key", "value"}[n], columns); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// isTable reports whether a dataset has columns.
func isTable(d *hdf5.Dataset) bool {
	class := d.Type().Class
	return class == hdf5.Compound && len(d.Shape()) == 1 || class == hdf5.Integer && len(d.Shape()) == 2
}

// hintOfTable names the table of a file that has exactly one, and is empty otherwise.
func hintOfTable(file *hdf5.File) string {
	if d := oneTable(file); d != nil {
		return "; its only table is " + shown(d.Path())
	}
	return ""
}

// tablesLooked is the number of objects in which the only table is looked for.
const tablesLooked = 10_000

// oneTable returns the table of a file that has exactly one, and nil otherwise.
func oneTable(file *hdf5.File) (one *hdf5.Dataset) {
	looked := 0
	for object, err := range file.Objects() {
		if looked++; looked > tablesLooked {
			return nil
		}
		if d, ok := object.(*hdf5.Dataset); err == nil && ok && isTable(d) {
			if one != nil {
				return nil
			}
			one = d
		}
	}
	return one
}

// hdf5Refusal says how to import the tables of an HDF5 file.
func hdf5Refusal(name string) error {
	file, err := hdf5.Open(name, nil)
	if err != nil {
		return inputError{refusedHDF5}
	}
	defer file.Close()
	d := oneTable(file)
	if d == nil {
		return inputError{refusedHDF5}
	}
	return inputError{fmt.Sprintf("it is an HDF5 file; import its only table with --dataset %s --key A[,B] --value C[,D]; its columns are %s", shown(d.Path()), columnNames(d))}
}

// findSide finds the one or two columns that the text names. A name may have a comma.
func findSide(d *hdf5.Dataset, what, text string) (side, error) {
	names := []string{text}
	if _, err := findPart(d, text); err != nil && strings.Contains(text, ",") {
		names = strings.Split(text, ",")
	}
	s := side{what: what}
	if len(names) > 2 {
		return s, usageError{fmt.Errorf("--%s: %q names %d columns, want one or two", what, text, len(names))}
	}
	for _, name := range names {
		p, err := findPart(d, name)
		if err != nil {
			return s, err
		}
		if s.text, err = p.isText(); err != nil {
			return s, err
		}
		if s.text && len(names) > 1 {
			return s, inputError{fmt.Sprintf("column %s is text, so it must be the only column of the %s", p.name, what)}
		}
		s.parts = append(s.parts, p)
	}
	return s, nil
}

// findPart finds a column by its name or, in rows of numbers, by its number from 1.
func findPart(d *hdf5.Dataset, name string) (part, error) {
	missing := inputError{fmt.Sprintf("%s has no column %q; its columns are %s", shown(d.Path()), name, columnNames(d))}
	if d.Type().Class == hdf5.Compound {
		for _, m := range d.Type().Members {
			if m.Name == name {
				return part{name: name, of: m.Type, member: []string{name}, width: 1}, nil
			}
		}
		return part{}, missing
	}
	width := d.Shape()[1]
	n, err := strconv.ParseUint(name, 10, 31)
	if err != nil || n < 1 || n > width {
		return part{}, missing
	}
	return part{name: name, of: d.Type(), at: int(n - 1), width: int(width)}, nil
}

// columnNames returns the names of the columns of a table as a text.
func columnNames(d *hdf5.Dataset) string {
	if d.Type().Class != hdf5.Compound {
		return fmt.Sprintf("1 to %d", d.Shape()[1])
	}
	var names []string
	for _, m := range d.Type().Members {
		names = append(names, m.Name)
	}
	return cutText(strings.Join(names, ", "))
}

// isText reports whether a column is text. It refuses one that cannot be used.
func (p part) isText() (bool, error) {
	switch t := p.of; {
	case t.Class == hdf5.String, t.Class == hdf5.Variable && t.IsString:
		return true, nil
	case t.Class == hdf5.Float:
		return false, inputError{fmt.Sprintf("column %s has floating-point numbers, want integers or text", p.name)}
	case t.Class != hdf5.Integer:
		return false, inputError{fmt.Sprintf("column %s is of type %s, want integers or text", p.name, cutText(t.String()))}
	case t.Size > 8:
		return false, inputError{fmt.Sprintf("column %s has integers of %d bits, want at most 64", p.name, 8*t.Size)}
	}
	return false, nil
}

// read reads the columns of a block.
func (t *tableFile) read(b *hdf5.Block) error {
	for _, s := range t.sides {
		for k := range s.parts {
			if err := s.parts[k].read(b, s.text); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *part) read(b *hdf5.Block, text bool) (err error) {
	switch {
	case text:
		p.texts, err = b.Strings(p.member...)
	case p.of.Signed:
		var signed []int64
		signed, err = b.Int64s(p.member...)
		p.words = p.words[:0]
		for _, v := range signed {
			p.words = append(p.words, uint64(v))
		}
	default:
		p.words, err = b.Uint64s(p.member...)
	}
	return err
}

// word returns the integer of the column in a row of the block.
func (p *part) word(row int) uint64 { return p.words[row*p.width+p.at] }

// cell returns what the column has in a row of the block.
func (p *part) cell(row int) string {
	switch {
	case p.texts != nil:
		return p.texts[row]
	case p.of.Signed:
		return fmt.Sprint(int64(p.word(row)))
	}
	return fmt.Sprint(p.word(row))
}

// identifier returns the key or the value of a row. text is what it was parsed from.
func (s *side) identifier(row int) (id cidstore.E, text string, err error) {
	if s.text {
		text = s.parts[0].texts[row]
		return cidstore.ParseKey(text), text, judgeCell(s, text)
	}
	for k := range s.parts {
		p := &s.parts[k]
		if p.of.Signed && int64(p.word(row)) < 0 {
			return id, "", fmt.Errorf("column %s is %s, but identifiers are not negative", p.name, p.cell(row))
		}
		id = cidstore.E{High: id.Low, Low: p.word(row)}
	}
	return id, "", nil
}

// judgeCell checks a text by the rules for all texts.
func judgeCell(s *side, text string) error {
	err := checkText([]byte(text))
	switch {
	case text == "":
		err = errors.New("it is empty")
	case len(text) > maxLine:
		err = fmt.Errorf("it has more than %d bytes", maxLine)
	}
	if err != nil {
		return fmt.Errorf("column %s, the %s: %w", s.parts[0].name, s.what, err)
	}
	return nil
}
