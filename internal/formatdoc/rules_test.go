package formatdoc

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"strings"
	"testing"
)

// The tests of this file show that the comparison can fail. They begin with a good
// document and a good declaration, and make one thing wrong at a time.

const goodDocument = `# The file

### pointer (12 bytes)

Words in between.

| offset | size | field | meaning |
|---|---|---|---|
| 0 | 4 | bucket_id | |
| 4 | 2 | reserved | 0 |
| 6 | 6 | ref | a \| b |

| opcode | name |
|---|---|
| 1 | INSERT |

### other (1 bytes)

| offset | size | field | meaning |
| --- | :-- | --- | --: |
| 0 | 1 | flags | |
`

const goodCode = `package x

// A pointer.
// FORMAT.md: pointer
//
//	offset  size  field      meaning
//	     0     4  bucket_id
//	     4     2  reserved   0
//	     6     6  ref        which commit
//
// More words.
const (
	offBucketID, offRef = 0, offBucketID + 6
	pointerSize         = 2 * offRef
	flagUsed            = 1
)

// FORMAT.md: other
//
//	offset  size  field
//	     0     1  flags

//	offset  size  field
//	     0     9  a table without a mark is nobody's business
type t struct{}
`

func parseCode(t *testing.T, text string) ([]declaration, error) {
	t.Helper()
	l := &loader{set: token.NewFileSet(), packages: make(map[string]*types.Package)}
	file, err := parser.ParseFile(l.set, "x.go", text, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	info := &types.Info{Defs: make(map[*ast.Ident]types.Object)}
	config := types.Config{Importer: l, Error: func(error) {}}
	_, _ = config.Check("x", l.set, []*ast.File{file}, info)
	return declarationsOf(l.set, []*ast.File{file}, info)
}

// judgeTexts judges texts.
func judgeTexts(t *testing.T, documentText, codeText string) error {
	structures, err := parseDocument("doc", documentText)
	if err != nil {
		return err
	}
	declarations, err := parseCode(t, codeText)
	if err != nil {
		return err
	}
	if len(declarations) != 2 || len(structures) != 2 {
		t.Fatalf("%d structures and %d declarations found, want 2 and 2", len(structures), len(declarations))
	}
	return judge(structures, declarations)
}

func TestGoodTextsPass(t *testing.T) {
	sized := strings.Replace(goodCode, "FORMAT.md: pointer\n", "FORMAT.md: pointer (12 bytes)\n", 1)
	for _, code := range []string{goodCode, sized} {
		if err := judgeTexts(t, goodDocument, code); err != nil {
			t.Error(err)
		}
	}
}

func TestEachFaultIsFound(t *testing.T) {
	for _, c := range []struct{ name, old, new, want string }{
		{"gap", "| 4 | 2 | reserved | 0 |\n", "", "have no name"},
		{"overlap", "| 4 | 2 | reserved", "| 3 | 2 | reserved", "overlaps"},
		{"size of the heading", "(12 bytes)", "(13 bytes)", "the size is 13"},
		{"empty field", "| 0 | 1 | flags", "| 0 | 0 | flags", "size 0"},
		{"size too large for an int", "| 0 | 1 | flags", "| 0 | 99999999999999999999 | flags", "size -1"},
		{"field twice", "| 4 | 2 | reserved", "| 4 | 2 | bucket_id", "twice"},
		{"broken row", "| 0 | 1 | flags", "| 0 | one | flags", "not a row"},
		{"no rule", "| --- | :-- | --- | --: |\n", "", "no rule"},
		{"table without heading", "### other (1 bytes)", "other", "without a heading"},
		{"heading without table", "\n| offset | size | field | meaning |\n| --- | :-- | --- | --: |\n| 0 | 1 | flags | |\n", "", "no table"},
		{"name only in the document", "FORMAT.md: other", "FORMAT.md: nobody", "\"other\" has no declaration"},
		{"name only in the code", "### other (1 bytes)", "### nobody (1 bytes)", "no heading \"### other (1 bytes)\""},
		{"declared twice", "FORMAT.md: other", "FORMAT.md: pointer", "is at"},
		{"heading twice", "### other (1 bytes)", "### pointer (1 bytes)", "is at"},
		{"field renamed", "| bucket_id |", "| bucket |", "bucket at 0"},
		{"field of the code renamed", "//	     6     6  ref ", "//	     6     6  reference ", "reference at 6"},
		{"offset of the code", "//	     6     6  ref ", "//	     7     5  ref ", "have no name"},
		{"split otherwise in the code", "//	     4     2  reserved   0\n", "//	     4     1  reserved   0\n//	     5     1  reserved   0\n", "reserved at 4"},
		{"longer in the code", "which commit\n", "which commit\n//	    12     4  crc32c\n", "crc32c at 12"},
		{"broken row of the code", "//	     4     2  reserved", "//	     4     x  reserved", "not a row"},
		{"mark without table", "//	offset  size  field      meaning\n", "", "without a table"},
		{"mark of another size", "// FORMAT.md: pointer\n", "// FORMAT.md: pointer (13 bytes)\n", "says 13 bytes"},
		{"two marks", "// FORMAT.md: pointer\n", "// FORMAT.md: pointer\n// FORMAT.md: other\n", "two marks"},
		{"constant where no field is", "offRef = 0, offBucketID + 6", "offRef = 0, offBucketID + 5", "no field begins"},
		{"constant missing", "offBucketID, offRef = 0, offBucketID + 6", "offRef = 6", "the offset of bucket_id"},
		{"constant of unknown value", "offBucketID + 6", "nowhere.Value", "cannot be computed"},
		{"size of the code", "2 * offRef", "3 * offRef", "…Size is 12"},
	} {
		documentText := strings.Replace(goodDocument, c.old, c.new, 1)
		codeText := strings.Replace(goodCode, c.old, c.new, 1)
		if documentText == goodDocument && codeText == goodCode {
			t.Errorf("%s: the text to change is not there", c.name)
			continue
		}
		if err := judgeTexts(t, documentText, codeText); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", c.name, err, c.want)
		}
	}
}
