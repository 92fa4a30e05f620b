// Package formatdoc compares docs/FORMAT.md with the declarations in the code,
// field by field. It contains only tests.
//
// A structure is a heading "### name (SIZE bytes)" in the document, followed by a
// table of offset, size, field and meaning. Its declaration in the code is a
// comment with the same table and a line "FORMAT.md: name", which may have the size
// in brackets after the name:
//
//	// A bucket pointer, one element of /directory.
//	// FORMAT.md: directory pointer
//	//
//	//	offset  size  field      meaning
//	//	     0     4  bucket_id
//	//	     4     8  ref        commit in which this bucket id was created
//	const (
//		offBucketID, offRef = 0, 4
//		pointerSize         = 12
//	)
//
// If the comment is above constants, they are compared too: the values of those
// named off… are the offsets of the fields, and one whose name ends in Size is the
// size.
package formatdoc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// root is the folder of the module.
var root = filepath.Join("..", "..")

// field is one row of a table.
type field struct {
	name         string
	offset, size int
}

// structure is one table, from the document or the code.
type structure struct {
	name   string
	size   int // bytes; in the document its heading says it, in the code it is the end of the last field
	fields []field
	place  string // file:line, for people
}

// check checks one structure: fields follow each other without gap or overlap from 0
// to the size, and names are unique except reserved.
func (s structure) check() error {
	if len(s.fields) == 0 {
		return fmt.Errorf("%s: %q has no fields", s.place, s.name)
	}
	end, seen := 0, make(map[string]bool)
	for _, f := range s.fields {
		switch {
		case f.size <= 0:
			return fmt.Errorf("%s: %q: field %s has size %d", s.place, s.name, f.name, f.size)
		case f.offset > end:
			return fmt.Errorf("%s: %q: bytes %d to %d before %s have no name", s.place, s.name, end, f.offset-1, f.name)
		case f.offset < end:
			return fmt.Errorf("%s: %q: field %s at %d overlaps the one before, which ends at %d", s.place, s.name, f.name, f.offset, end)
		case seen[f.name] && f.name != "reserved":
			return fmt.Errorf("%s: %q: field %s is there twice", s.place, s.name, f.name)
		}
		end, seen[f.name] = f.offset+f.size, true
	}
	if end != s.size {
		return fmt.Errorf("%s: %q: the last field ends at %d, the size is %d", s.place, s.name, end, s.size)
	}
	return nil
}

// compare returns the first difference between a structure of the document and its
// declaration.
func (s structure) compare(code structure) error {
	for i := range max(len(s.fields), len(code.fields)) {
		doc, declared := "nothing", "nothing"
		if i < len(s.fields) {
			doc = s.fields[i].String()
		}
		if i < len(code.fields) {
			declared = code.fields[i].String()
		}
		if doc != declared {
			return fmt.Errorf("%q: %s has %s, %s has %s", s.name, s.place, doc, code.place, declared)
		}
	}
	if s.size != code.size {
		return fmt.Errorf("%q: %s has %d bytes, %s has %d", s.name, s.place, s.size, code.place, code.size)
	}
	return nil
}

func (f field) String() string { return fmt.Sprintf("%s at %d, %d bytes", f.name, f.offset, f.size) }

var (
	heading     = regexp.MustCompile(`^### (.+) \((\d+) bytes\)$`)
	tableHead   = regexp.MustCompile(`^\| *offset *\| *size *\| *field *\| *meaning *\|$`)
	tableRule   = regexp.MustCompile(`^\|(?: *:?-+:? *\|){4}$`)
	documentRow = regexp.MustCompile(`^\| *(\d+) *\| *(\d+) *\| *([a-z][a-z0-9_]*) *\|.*\|$`)
)

// parseDocument reads the structures of a document. Every table of offsets is under
// a heading with a size, and every such heading has one table.
func parseDocument(file, text string) ([]structure, error) {
	var found []structure
	open := false // a heading has been read, but not yet its table
	lines := strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		place := fmt.Sprintf("%s:%d", file, i+1)
		switch match := heading.FindStringSubmatch(lines[i]); {
		case match != nil:
			if open {
				return nil, fmt.Errorf("%s: no table between this heading and the one before", place)
			}
			found = append(found, structure{name: match[1], size: number(match[2]), place: place})
			open = true
		case tableHead.MatchString(lines[i]):
			if !open {
				return nil, fmt.Errorf("%s: a table of offsets without a heading \"### name (SIZE bytes)\" of its own", place)
			}
			if i+1 >= len(lines) || !tableRule.MatchString(lines[i+1]) {
				return nil, fmt.Errorf("%s: the table's head has no rule below it", place)
			}
			last := &found[len(found)-1]
			for i += 2; i < len(lines) && strings.HasPrefix(lines[i], "|"); i++ {
				row := documentRow.FindStringSubmatch(lines[i])
				if row == nil {
					return nil, fmt.Errorf("%s:%d: not a row of offset, size, field, meaning: %s", file, i+1, lines[i])
				}
				last.fields = append(last.fields, field{row[3], number(row[1]), number(row[2])})
			}
			open = false
		}
	}
	if open {
		return nil, fmt.Errorf("%s: the last heading has no table", file)
	}
	return found, nil
}

// number converts digits that a pattern has matched. For more than an int holds it
// returns -1, which no check accepts.
func number(digits string) int {
	n, err := strconv.Atoi(digits)
	if err != nil {
		return -1
	}
	return n
}

// byName indexes structures and refuses two of one name.
func byName(structures []structure) (map[string]structure, error) {
	index := make(map[string]structure)
	for _, s := range structures {
		if other, ok := index[s.name]; ok {
			return nil, fmt.Errorf("%q is at %s and at %s", s.name, other.place, s.place)
		}
		index[s.name] = s
	}
	return index, nil
}

// judge returns all that is wrong with the structures of a document, with the declarations
// of the code, or between them.
func judge(structures []structure, declarations []declaration) error {
	var errs []error
	var code []structure
	for _, s := range structures {
		errs = append(errs, s.check())
	}
	for _, d := range declarations {
		errs = append(errs, d.check(), d.checkConstants())
		code = append(code, d.structure)
	}
	documented, err := byName(structures)
	declared, err2 := byName(code)
	errs = append(errs, err, err2)
	for name, s := range documented {
		if c, ok := declared[name]; ok {
			errs = append(errs, s.compare(c))
		} else {
			errs = append(errs, fmt.Errorf("%s: %q has no declaration with the line \"FORMAT.md: %s\"", s.place, name, name))
		}
	}
	for name, c := range declared {
		if _, ok := documented[name]; !ok {
			errs = append(errs, fmt.Errorf("%s: the document has no heading \"### %s (%d bytes)\"", c.place, name, c.size))
		}
	}
	return errors.Join(errs...)
}

func TestDocumentAndCodeAgree(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs", "FORMAT.md"))
	if err != nil {
		t.Fatal(err)
	}
	structures, err := parseDocument("docs/FORMAT.md", string(text))
	if err != nil || len(structures) == 0 {
		t.Fatalf("%d tables: %v", len(structures), err)
	}
	if err := judge(structures, declarations(t)); err != nil {
		t.Error(err)
	}
}
