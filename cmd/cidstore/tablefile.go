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
	c.Flags().StringVar(&t.dataset, "dataset", "", "`PATH` of the table in HDF5 files that has the pairs")
	c.Flags().StringVar(&t.key, "key", "", "with --dataset: the column of keys, or `A,B`: those of their high and low words")
	c.Flags().StringVar(&t.value, "value", "", "with --dataset: the column of values, or `C,D`: those of their high and low words")
}

// check finds what is wrong with the flags.
func (t *tableFlags) check(c *cobra.Command) error {
	changed := c.Flags().Changed
	if !changed("dataset") && !changed("key") && !changed("value") {
		return nil
	}
	if t.dataset == "" || t.key == "" || t.value == "" {
		return usageError{errors.New("--dataset, --key and --value are given together")}
	}
	if changed("columns") || changed("header") {
		return usageError{errors.New("--columns and --header are of text, and not given with --dataset")}
	}
	return nil
}

// tableFile is an HDF5 file of which the dataset and its columns are known to fit.
type tableFile struct {
	file  *hdf5.File
	data  *hdf5.Dataset
	sides [2]side // key and value
}

// side is where the keys or the values are: in one column or two.
type side struct {
	what  string // "key" or "value"
	parts []part
	text  bool
}

// part is a column: a member of records, or one of the numbers of a row.
type part struct {
	name   string
	member []string // none: of a row of numbers
	at     int      // of the numbers of a row
	width  int      // and how many these are
	signed bool
}

// openTable opens a file and finds the columns. What does not fit is an inputError.
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

// notHDF5 says what a file is instead.
func notHDF5(name string) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	return inputError{hdf5.ErrNotHDF5.Error() + ": " + looksLike(file)}
}

// tableError names the file. What is wrong with its contents is an inputError.
func tableError(name string, err error) error {
	for _, kind := range []error{hdf5.ErrNotHDF5, hdf5.ErrCorrupt, hdf5.ErrUnsupported, hdf5.ErrLimit, hdf5.ErrNotFound, hdf5.ErrWrongType} {
		if errors.Is(err, kind) {
			err = inputError{strings.TrimPrefix(shown(err.Error()), "hdf5: ")}
		}
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
		return nil, inputError{fmt.Sprintf("it has no dataset %q%s", t.dataset, hintOfTables(root, file))}
	}
	if err != nil {
		return nil, err
	}
	data, ok := object.(*hdf5.Dataset)
	if !ok {
		return nil, inputError{fmt.Sprintf("%s is no dataset but a %s%s", shown(object.Path()), kindOf(object), hintOfTables(root, file))}
	}
	if !isTable(data) {
		return nil, inputError{fmt.Sprintf("%s is no table: it has elements of type %s in %d dimensions, want records in one dimension or integers in two",
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

// hintOfTables names the one table of a file; nothing if there is none, or more.
func hintOfTables(root *hdf5.Group, file *hdf5.File) string {
	if d := oneTable(file); d != nil {
		return "; its one table is " + shown(d.Path())
	}
	return ""
}

// tablesLooked is after how many objects a file counts as one of many tables.
const tablesLooked = 10_000

// oneTable returns the table of a file that has one; nil if it has none, or more.
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

// hdf5Refusal says how the tables of an HDF5 file are imported.
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
	return inputError{fmt.Sprintf("it is an HDF5 file; import its one table by --dataset %s --key A[,B] --value C[,D], columns being %s", shown(d.Path()), columnNames(d))}
}

// findSide finds the column, or the two, that the text names. A name may have a comma.
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
		text, err := judgePart(d, p)
		if err != nil {
			return s, err
		}
		if s.text = text; text && len(names) > 1 {
			return s, inputError{fmt.Sprintf("column %s is text: it is a %s by itself, and not one of two words", p.name, what)}
		}
		s.parts = append(s.parts, p)
	}
	return s, nil
}

// findPart finds a column: by its name, or in rows of numbers by its own, from 1.
func findPart(d *hdf5.Dataset, name string) (part, error) {
	missing := inputError{fmt.Sprintf("%s has no column %q; its columns are %s", shown(d.Path()), name, columnNames(d))}
	if d.Type().Class == hdf5.Compound {
		t := memberOf(d, name)
		if t == nil {
			return part{}, missing
		}
		return part{name: name, member: []string{name}, width: 1, signed: t.Signed}, nil
	}
	width := d.Shape()[1]
	n, err := strconv.ParseUint(name, 10, 31)
	if err != nil || n < 1 || n > width {
		return part{}, missing
	}
	return part{name: name, at: int(n - 1), width: int(width), signed: d.Type().Signed}, nil
}

// memberOf is the type of a member; nil if there is none of the name.
func memberOf(d *hdf5.Dataset, name string) *hdf5.Type {
	for _, m := range d.Type().Members {
		if m.Name == name {
			return m.Type
		}
	}
	return nil
}

// columnNames are those of a table, in words.
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

// judgePart reports whether a column is text, or refuses it.
func judgePart(d *hdf5.Dataset, p part) (text bool, err error) {
	t := d.Type()
	if p.member != nil {
		t = memberOf(d, p.name)
	}
	switch {
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

// rowBlock is the cells of some rows.
type rowBlock struct {
	rows  int
	sides [2]side
	words map[string]words
	texts map[string][]string
}

// words are the integers of a column, or of all columns of rows of numbers.
type words struct {
	plain  []uint64
	signed []int64 // in place of plain
}

// read takes the columns from a block.
func (t *tableFile) read(b *hdf5.Block) (*rowBlock, error) {
	block := &rowBlock{b.Rows, t.sides, make(map[string]words), make(map[string][]string)}
	for _, s := range t.sides {
		for _, p := range s.parts {
			if err := block.load(b, s, p); err != nil {
				return nil, err
			}
		}
	}
	return block, nil
}

// slot is the name under which the cells of a column are kept: for rows of numbers
// one for all.
func (p part) slot() string {
	if p.member == nil {
		return ""
	}
	return p.name
}

func (r *rowBlock) load(b *hdf5.Block, s side, p part) (err error) {
	if _, there := r.words[p.slot()]; there || r.texts[p.slot()] != nil {
		return nil
	}
	var w words
	switch {
	case s.text:
		r.texts[p.slot()], err = b.Strings(p.member...)
		return err
	case p.signed:
		w.signed, err = b.Int64s(p.member...)
	default:
		w.plain, err = b.Uint64s(p.member...)
	}
	r.words[p.slot()] = w
	return err
}

// word is the integer of a column in a row of the block.
func (r *rowBlock) word(p part, row int) (uint64, error) {
	w := r.words[p.slot()]
	at := row*p.width + p.at
	if w.signed == nil {
		return w.plain[at], nil
	}
	if v := w.signed[at]; v < 0 {
		return 0, fmt.Errorf("column %s is %d, and no identifier is negative", p.name, v)
	}
	return uint64(w.signed[at]), nil
}

// identifier is that of one side in a row; text is what it came from, if text.
func (r *rowBlock) identifier(s side, row int) (id cidstore.E, text string, err error) {
	if s.text {
		text = r.texts[s.parts[0].slot()][row]
		return cidstore.ParseKey(text), text, judgeCell(s, text)
	}
	for _, p := range s.parts {
		word, err := r.word(p, row)
		if err != nil {
			return id, "", err
		}
		id = cidstore.E{High: id.Low, Low: word}
	}
	return id, "", nil
}

// judgeCell holds a text to the rules for all texts.
func judgeCell(s side, text string) error {
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
