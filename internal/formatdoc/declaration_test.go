package formatdoc

import (
	"fmt"
	"go/ast"
	"go/build"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/cidstore/cidstore"

// declaration is a structure as the code declares it, with the constants below its
// comment, if there are any.
type declaration struct {
	structure
	constants []declared
}

// declared is one constant; known is false if its value cannot be computed.
type declared struct {
	name  string
	value int64
	known bool
}

// checkConstants compares the constants below the comment with the table.
func (d declaration) checkConstants() error {
	want := make(map[int64]string)
	for _, f := range d.fields {
		want[int64(f.offset)] = f.name
	}
	offsets, sizes, sized := make(map[int64]string), 0, false
	for _, c := range d.constants {
		isOffset := strings.HasPrefix(c.name, "off")
		isSize := strings.HasSuffix(strings.ToLower(c.name), "size")
		if (isOffset || isSize) && !c.known {
			return fmt.Errorf("%s: %q: the value of %s cannot be computed", d.place, d.name, c.name)
		}
		if isSize {
			sizes++
			sized = sized || c.value == int64(d.size)
		}
		if isOffset {
			offsets[c.value] = c.name
			if want[c.value] == "" {
				return fmt.Errorf("%s: %q: %s is %d, where no field begins", d.place, d.name, c.name, c.value)
			}
		}
	}
	if sizes > 0 && !sized {
		return fmt.Errorf("%s: %q: no constant …Size is %d", d.place, d.name, d.size)
	}
	for offset, name := range want {
		if len(offsets) > 0 && offsets[offset] == "" && name != "reserved" {
			return fmt.Errorf("%s: %q: no constant off… is %d, the offset of %s", d.place, d.name, offset, name)
		}
	}
	return nil
}

var (
	mark         = regexp.MustCompile(`(?m)^FORMAT\.md: (.+?)(?: \((\d+) bytes\))?$`)
	commentTable = regexp.MustCompile(`^\s*offset\s+size\s+field(\s+meaning)?$`)
	commentRow   = regexp.MustCompile(`^\s+(\d+)\s+(\d+)\s+([a-z][a-z0-9_]*)(\s.*)?$`)
)

// parseComment reads the table of a comment that has the mark; ok is false for all
// other comments.
func parseComment(text, place string) (s structure, ok bool, err error) {
	marks := mark.FindAllStringSubmatch(text, -1)
	if len(marks) == 0 {
		return s, false, nil
	}
	s.name, s.place = marks[0][1], place
	if len(marks) > 1 {
		return s, true, fmt.Errorf("%s: two marks in one comment", place)
	}
	lines := strings.Split(text, "\n")
	head := slices.IndexFunc(lines, commentTable.MatchString)
	if head < 0 {
		return s, true, fmt.Errorf("%s: FORMAT.md: %s without a table of offset, size, field, meaning", place, s.name)
	}
	for _, line := range lines[head+1:] { // up to an empty line or the end
		if strings.TrimSpace(line) == "" {
			break
		}
		row := commentRow.FindStringSubmatch(line)
		if row == nil {
			return s, true, fmt.Errorf("%s: not a row of offset, size, field, meaning: %s", place, line)
		}
		s.fields = append(s.fields, field{row[3], number(row[1]), number(row[2])})
		s.size = number(row[1]) + number(row[2])
	}
	if said := marks[0][2]; said != "" && number(said) != s.size {
		return s, true, fmt.Errorf("%s: the mark of %q says %s bytes, its table %d", place, s.name, said, s.size)
	}
	return s, true, nil
}

// declarationsOf returns the marked declarations of one package's files.
func declarationsOf(set *token.FileSet, files []*ast.File, info *types.Info) ([]declaration, error) {
	var found []declaration
	for _, file := range files {
		below := make(map[*ast.CommentGroup]*ast.GenDecl)
		for _, decl := range file.Decls {
			if general, ok := decl.(*ast.GenDecl); ok && general.Tok == token.CONST && general.Doc != nil {
				below[general.Doc] = general
			}
		}
		for _, group := range file.Comments {
			position := set.Position(group.Pos())
			s, ok, err := parseComment(group.Text(), fmt.Sprintf("%s:%d", position.Filename, position.Line))
			if err != nil {
				return nil, err
			}
			if !ok {
				continue
			}
			d := declaration{structure: s}
			if general := below[group]; general != nil {
				d.constants = constantsOf(general, info)
			}
			found = append(found, d)
		}
	}
	return found, nil
}

// constantsOf returns the constants of one declaration with their values.
func constantsOf(general *ast.GenDecl, info *types.Info) []declared {
	var found []declared
	for _, spec := range general.Specs {
		for _, name := range spec.(*ast.ValueSpec).Names {
			c := declared{name: name.Name}
			if object, ok := info.Defs[name].(*types.Const); ok && object.Val().Kind() == constant.Int {
				c.value, c.known = constant.Int64Val(object.Val())
			}
			found = append(found, c)
		}
	}
	return found
}

// loader type-checks packages of this module as far as their constants need it.
// Packages of other modules are empty, and errors that follow from that are
// ignored.
type loader struct {
	set      *token.FileSet
	packages map[string]*types.Package
}

// Import implements types.Importer.
func (l *loader) Import(importPath string) (*types.Package, error) {
	if importPath == "unsafe" {
		return types.Unsafe, nil
	}
	if p := l.packages[importPath]; p != nil {
		return p, nil
	}
	p := types.NewPackage(importPath, path.Base(importPath))
	p.MarkComplete()
	l.packages[importPath] = p
	if rest, ok := strings.CutPrefix(importPath, module); ok {
		checked, _, _, err := l.load(filepath.Join(root, filepath.FromSlash(rest)), importPath)
		if err != nil {
			return nil, err
		}
		l.packages[importPath] = checked
	}
	return l.packages[importPath], nil
}

// load parses and type-checks the files of one folder that this system builds,
// without tests.
func (l *loader) load(dir, importPath string) (*types.Package, []*ast.File, *types.Info, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, nil, err
	}
	var files []*ast.File
	for _, entry := range entries {
		name := entry.Name()
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			continue
		}
		if match, err := build.Default.MatchFile(dir, name); err != nil || !match {
			continue
		}
		file, err := parser.ParseFile(l.set, filepath.Join(dir, name), nil, parser.ParseComments)
		if err != nil {
			return nil, nil, nil, err
		}
		files = append(files, file)
	}
	info := &types.Info{Defs: make(map[*ast.Ident]types.Object)}
	config := types.Config{Importer: l, IgnoreFuncBodies: true, Error: func(error) {}}
	p, _ := config.Check(importPath, l.set, files, info) // errors: see loader
	return p, files, info, nil
}

// declarations returns the marked declarations of the module.
func declarations(t *testing.T) []declaration {
	t.Helper()
	l := &loader{set: token.NewFileSet(), packages: make(map[string]*types.Package)}
	var found []declaration
	err := filepath.WalkDir(root, func(dir string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return err
		}
		name := entry.Name()
		if dir != root && (strings.HasPrefix(name, ".") || slices.Contains([]string{"testdata", "node_modules"}, name)) {
			return fs.SkipDir
		}
		relative, err := filepath.Rel(root, dir)
		if err != nil {
			return err
		}
		_, files, info, err := l.load(dir, path.Join(module, filepath.ToSlash(relative)))
		if err != nil {
			return err
		}
		here, err := declarationsOf(l.set, files, info)
		found = append(found, here...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
