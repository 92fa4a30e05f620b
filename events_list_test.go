package cidstore

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// sentEvent is an event as the source sends it, or as Options.Logger lists it.
type sentEvent struct {
	level      string
	attributes []string // those that are named in the call
}

// senders are the functions that send events, and where the name is among their
// arguments. A method of slog.Logger has its level in its own name.
var senders = map[string]int{"note": 1, "event": 0, "LogEvent": 0, "Log": 2, "Warn": 0, "Info": 0, "Debug": 0, "Error": 0}

// sent finds the event that a call sends; ok: it sends one, or may. name is empty
// where it is no literal.
func sent(call *ast.CallExpr) (name string, e sentEvent, ok bool) {
	selector, isMethod := call.Fun.(*ast.SelectorExpr)
	if !isMethod {
		return "", e, false
	}
	method := selector.Sel.Name
	at, known := senders[method]
	if !known || len(call.Args) <= at {
		return "", e, false
	}
	on, isField := selector.X.(*ast.SelectorExpr)
	byLogger := isField && on.Sel.Name == "Logger"
	switch method {
	case "note", "Log":
		level, named := strings.CutPrefix(types.ExprString(call.Args[at-1]), "slog.Level")
		if !named && method == "note" && len(call.Args) == 2 {
			return "", e, false // a note of something else
		}
		e.level = level
	case "event", "LogEvent":
		e.level = "Info"
	default:
		if !byLogger {
			return "", e, false
		}
		e.level = method
	}
	name = literal(call.Args[at])
	if name == "error" {
		e.level = "Error"
	}
	for i := at + 1; i < len(call.Args) && !call.Ellipsis.IsValid(); i += 2 {
		e.attributes = append(e.attributes, literal(call.Args[i]))
	}
	return name, e, true
}

func literal(e ast.Expr) string {
	text := ""
	if basic, ok := e.(*ast.BasicLit); ok && basic.Kind == token.STRING {
		text, _ = strconv.Unquote(basic.Value)
	}
	return text
}

// sources parses the files of the package that are no tests.
func sources(t *testing.T) []*ast.File {
	t.Helper()
	paths := mustGet(filepath.Glob("*.go"))(t)
	paths = slices.DeleteFunc(paths, func(p string) bool { return strings.HasSuffix(p, "_test.go") })
	if len(paths) == 0 {
		t.Fatal(fs.ErrNotExist)
	}
	var files []*ast.File
	for _, path := range paths {
		files = append(files, mustGet(parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments))(t))
	}
	return files
}

// listed are the events of the list at Options.Logger.
func listed(t *testing.T, files []*ast.File) map[string]sentEvent {
	t.Helper()
	line := regexp.MustCompile(`^\t([a-z ]+?) +(Debug|Info|Warn|Error) +[^\[]+(?:\[([a-z_,; ]+)\])?`)
	found := map[string]sentEvent{}
	for _, f := range files {
		ast.Inspect(f, func(node ast.Node) bool {
			field, ok := node.(*ast.Field)
			if !ok || len(field.Names) != 1 || field.Names[0].Name != "Logger" || field.Doc == nil {
				return true
			}
			for text := range strings.SplitSeq(field.Doc.Text(), "\n") {
				if m := line.FindStringSubmatch(text); m != nil {
					words := strings.FieldsFunc(m[3], func(r rune) bool { return r == ',' || r == ';' || r == ' ' })
					found[m[1]] = sentEvent{level: m[2], attributes: words}
				}
			}
			return false
		})
	}
	return found
}

// passOn are the functions that send an event whose name they are given.
var passOn = []string{"note", "event", "LogEvent"}

// TestEventsAreListed: Options.Logger lists every event that the source sends, with
// its level and attributes, and no other.
func TestEventsAreListed(t *testing.T) {
	files := sources(t)
	list, seen := listed(t, files), map[string]bool{}
	for _, f := range files {
		for _, declared := range f.Decls {
			in, ok := declared.(*ast.FuncDecl)
			if !ok {
				continue
			}
			ast.Inspect(in, func(node ast.Node) bool {
				call, ok := node.(*ast.CallExpr)
				if !ok {
					return true
				}
				name, e, ok := sent(call)
				switch {
				case !ok:
				case name == "" && !slices.Contains(passOn, in.Name.Name):
					t.Errorf("%s sends an event whose name is no literal", in.Name.Name)
				case name != "":
					seen[name] = true
					compareEvent(t, in.Name.Name, name, e, list)
				}
				return true
			})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(list)) {
		if !seen[name] {
			t.Errorf("Options.Logger lists %q, which nobody sends", name)
		}
	}
	if len(seen) < 11 {
		t.Errorf("%d events were found in the source: %v", len(seen), seen)
	}
}

func compareEvent(t *testing.T, by, name string, e sentEvent, list map[string]sentEvent) {
	t.Helper()
	want, found := list[name]
	if !found {
		t.Errorf("%s sends %q, which Options.Logger does not list", by, name)
		return
	}
	if want.level != e.level {
		t.Errorf("%s sends %q at %s, Options.Logger says %s", by, name, e.level, want.level)
	}
	for _, attribute := range e.attributes {
		if attribute != "path" && !slices.Contains(want.attributes, attribute) {
			t.Errorf("%s sends %q with %q, Options.Logger says %v", by, name, attribute, want.attributes)
		}
	}
}
