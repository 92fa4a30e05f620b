// Package prose checks the spelling of comments, messages and documents, and that
// they do without the phrases of words.txt. It contains only tests.
package prose

import (
	_ "embed"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/client9/misspell"
)

// root is the folder of the module.
var root = filepath.Join("..", "..")

// foreign are folders that hold no text of ours.
var foreign = strings.Fields(".git testdata dist node_modules prose")

//go:embed words.txt
var wordList string

// passage is a piece of text with its place in a file.
type passage struct {
	line int
	text string
}

// checker finds what is wrong with texts.
type checker struct {
	spelling *misspell.Replacer
	phrases  *regexp.Regexp
	instead  map[string]string
}

func newChecker(words string) (*checker, error) {
	c := checker{spelling: misspell.New(), instead: make(map[string]string)}
	c.spelling.Compile()
	var patterns []string
	for line := range strings.Lines(words) {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		phrase, instead, ok := strings.Cut(line, " = ")
		if !ok || phrase != strings.ToLower(phrase) {
			return nil, fmt.Errorf("words.txt: %q, want a phrase in lower case, \" = \" and other words", line)
		}
		c.instead[phrase] = instead
		patterns = append(patterns, regexp.QuoteMeta(phrase))
	}
	var err error
	c.phrases, err = regexp.Compile(`(?i)\b(` + strings.Join(patterns, "|") + `)\b`)
	return &c, err
}

// faults returns what is wrong with a text.
func (c *checker) faults(text string) (faults []string) {
	text = strings.Join(strings.Fields(text), " ")
	_, found := c.spelling.Replace(text)
	for _, d := range found {
		faults = append(faults, fmt.Sprintf("%q is a misspelling of %q", d.Original, d.Corrected))
	}
	for _, phrase := range c.phrases.FindAllString(text, -1) {
		faults = append(faults, fmt.Sprintf("%q, better: %s", phrase, c.instead[strings.ToLower(phrase)]))
	}
	return faults
}

// passages returns the texts of a file: of Go the comments and, except in tests, the
// strings; of anything else its paragraphs.
func passages(path string, content []byte) (list []passage, err error) {
	if filepath.Ext(path) != ".go" {
		line := 1
		for paragraph := range strings.SplitSeq(string(content), "\n\n") {
			list = append(list, passage{line, marks.ReplaceAllString(paragraph, "")})
			line += strings.Count(paragraph, "\n") + 2
		}
		return list, nil
	}
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, content, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	for _, group := range file.Comments {
		list = append(list, passage{set.Position(group.Pos()).Line, group.Text()})
	}
	if strings.HasSuffix(path, "_test.go") {
		return list, nil
	}
	ast.Inspect(file, func(n ast.Node) bool {
		literal, ok := n.(*ast.BasicLit)
		if !ok || literal.Kind != token.STRING {
			return true
		}
		if text, err := strconv.Unquote(literal.Value); err == nil {
			list = append(list, passage{set.Position(literal.Pos()).Line, text})
		}
		return true
	})
	return list, nil
}

// marks begin the lines of comments in scripts and Python.
var marks = regexp.MustCompile(`(?m)^\s*#+`)

// isText reports whether a file has text that is checked: scripts have no extension.
func isText(path string) bool {
	switch filepath.Ext(path) {
	case ".go", ".md", ".py":
		return true
	}
	return strings.HasPrefix(path, "scripts/") || path == "Makefile"
}

// texts returns what is in the files to check, by their paths relative to root, with slashes.
func texts(t *testing.T) map[string][]byte {
	t.Helper()
	contents := make(map[string][]byte)
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && slices.Contains(foreign, entry.Name()) {
			return filepath.SkipDir
		}
		name, err := filepath.Rel(root, path)
		if name = filepath.ToSlash(name); err == nil && !entry.IsDir() && isText(name) {
			contents[name], err = os.ReadFile(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return contents
}

func TestProse(t *testing.T) {
	c, err := newChecker(wordList)
	if err != nil {
		t.Fatal(err)
	}
	files := texts(t)
	if len(files) < 100 {
		t.Errorf("%d files found", len(files))
	}
	for path, content := range files {
		list, err := passages(path, content)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range list {
			for _, fault := range c.faults(p.text) {
				t.Errorf("%s:%d: %s", path, p.line, fault)
			}
		}
	}
}

// widestRow is how many columns a row of a table in a document may have; what is longer is
// prose, and stands below the table.
const widestRow = 240

func TestTableRows(t *testing.T) {
	rows := 0
	for path, content := range texts(t) {
		if filepath.Ext(path) != ".md" {
			continue
		}
		for i, line := range strings.Split(string(content), "\n") {
			if !strings.HasPrefix(line, "|") {
				continue
			}
			rows++
			if n := utf8.RuneCountInString(line); n > widestRow {
				t.Errorf("%s:%d: a row of %d columns, want at most %d", path, i+1, n, widestRow)
			}
		}
	}
	if rows < 500 {
		t.Errorf("%d rows found", rows)
	}
}

// TestFaults shows what the check finds, and what it lets pass.
func TestFaults(t *testing.T) {
	c, err := newChecker("anew = again\nbut for = except\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		path, content string
		want          []string
	}{
		{"a.go", "package a\n\n// open it Anew\nvar x = 1", []string{"3: \"Anew\", better: again"}},
		{"a.go", "package a\n\n// all but\n// for one", []string{"3: \"but for\", better: except"}},
		{"a.go", "package a\n\nvar x = \"read it anew\"", []string{"3: \"anew\", better: again"}},
		{"a_test.go", "package a\n\nvar x = \"read it anew\"", nil},
		{"a.go", "package a\n\nvar anew = 1 // canewa", nil},
		{"a.go", "package a\n\n// to recieve bytes", []string{"3: \"recieve\" is a misspelling of \"receive\""}},
		{"a.md", "A line.\n\nAll but\nfor one.", []string{"3: \"but for\", better: except"}},
		{"a.py", "# all but\n# for one", []string{"1: \"but for\", better: except"}},
	} {
		list, err := passages(test.path, []byte(test.content))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range list {
			for _, fault := range c.faults(p.text) {
				got = append(got, fmt.Sprintf("%d: %s", p.line, fault))
			}
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s of %q: %q, want %q", test.path, test.content, got, test.want)
		}
	}
	for _, words := range []string{"anew", "Anew = again"} {
		if _, err := newChecker(words); err == nil {
			t.Errorf("the word list %q passes", words)
		}
	}
}
