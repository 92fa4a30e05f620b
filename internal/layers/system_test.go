package layers

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// free are the packages that may use the operating system, the clock and random
// numbers: the seam itself, the programs, and what only tests run.
var free = strings.Fields("vfs cmd/cidstore examples/wordnet fuzz " +
	"internal/seedbug internal/oracle internal/golden internal/errfs internal/crashfs internal/layers internal/formatdoc")

// constants are the names of os that are flags for vfs.FS.OpenFile and do nothing
// by themselves.
var constants = strings.Fields("O_RDONLY O_WRONLY O_RDWR O_CREATE O_EXCL O_TRUNC")

// defaults are the places, as package/file.go import.Name, where a nil option
// becomes the system's clock or random source, and where the reader of foreign
// files, which never writes, opens one.
var defaults = []string{
	"./options.go time.Now",
	"./options.go crypto/rand.Reader",
	"safeh5/options.go crypto/rand.Reader",
	"hdf5/file.go os.Stat",
	"hdf5/file.go os.Open",
}

// forbidden reports whether a selector of an import uses the system.
func forbidden(path, name string) bool {
	switch path {
	case "os":
		return !slices.Contains(constants, name)
	case "time":
		return name == "Now" || name == "Since" || name == "Until"
	case "syscall", "net", "crypto/rand", "math/rand", "math/rand/v2", "io/ioutil":
		return true
	}
	for _, tree := range []string{"os/", "net/", "golang.org/x/sys/"} {
		if strings.HasPrefix(path, tree) {
			return true
		}
	}
	return false
}

// systemUses returns each forbidden use in a file, as import.Name. A blank or dot import of a
// package with forbidden names is a use as a whole, with the name "_" or ".".
func systemUses(file *ast.File) (uses []string, err error) {
	imports := make(map[string]string) // local name → path
	for _, spec := range file.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, err
		}
		local := path[strings.LastIndex(path, "/")+1:]
		if local == "v2" {
			local = "rand"
		}
		if spec.Name != nil {
			local = spec.Name.Name
		}
		if (local == "_" || local == ".") && (path == "time" || forbidden(path, local)) {
			uses = append(uses, path+"."+local)
		}
		imports[local] = path
	}
	ast.Inspect(file, func(node ast.Node) bool {
		selector, ok := node.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		// A name that is resolved within the file is a variable, not an import.
		if x, ok := selector.X.(*ast.Ident); ok && x.Obj == nil {
			if path, ok := imports[x.Name]; ok && forbidden(path, selector.Sel.Name) {
				uses = append(uses, path+"."+selector.Sel.Name)
			}
		}
		return true
	})
	return uses, nil
}

func TestOnlyTheSeamTouchesTheSystem(t *testing.T) {
	files := 0
	for _, p := range listPackages(t) {
		if slices.Contains(free, p.name()) {
			continue
		}
		for _, path := range p.sources() {
			files++
			set := token.NewFileSet()
			file, err := parser.ParseFile(set, path, nil, 0)
			if err != nil {
				t.Error(err)
				continue
			}
			uses, err := systemUses(file)
			if err != nil {
				t.Errorf("%s: %v", path, err)
			}
			for _, use := range uses {
				place := p.name() + "/" + filepath.Base(path)
				if !slices.Contains(defaults, place+" "+use) {
					t.Errorf("%s uses %s: only vfs speaks to the system; time and randomness come from the caller", place, use)
				}
			}
		}
	}
	if files < 5 {
		t.Errorf("%d files looked at", files)
	}
}

// TestSystemUses shows what the rule finds, and what it lets pass.
func TestSystemUses(t *testing.T) {
	for source, want := range map[string]string{
		`import "os"; var f = os.Open`:                                     "os.Open",
		`import "os"; var f = os.O_RDWR | os.O_CREATE`:                     "",
		`import sys "os"; var f = sys.Getpid()`:                            "os.Getpid",
		`import . "os"`:                                                    "os..",
		`import _ "os"`:                                                    "os._",
		`import "os/exec"; var c = exec.Command("true")`:                   "os/exec.Command",
		`import "syscall"; var e = syscall.EIO`:                            "syscall.EIO",
		`import "golang.org/x/sys/unix"; var e = unix.EIO`:                 "golang.org/x/sys/unix.EIO",
		`import "time"; var now = time.Now`:                                "time.Now",
		`import clock "time"; var d = clock.Since(clock.Time{})`:           "time.Since",
		`import . "time"`:                                                  "time..",
		`import "time"; var d = time.NewTimer(time.Second)`:                "",
		`import "math/rand/v2"; var n = rand.N(3)`:                         "math/rand/v2.N",
		`import "crypto/rand"; var r = rand.Reader`:                        "crypto/rand.Reader",
		`import "crypto/sha256"; var s = sha256.New`:                       "",
		`type t struct{ Now int }; func f(time t) int { return time.Now }`: "",
	} {
		file, err := parser.ParseFile(token.NewFileSet(), "x.go", "package x; "+source, 0)
		if err != nil {
			t.Fatalf("%s: %v", source, err)
		}
		uses, err := systemUses(file)
		if err != nil {
			t.Fatalf("%s: %v", source, err)
		}
		if strings.Join(uses, " ") != want {
			t.Errorf("%s: uses %q, want %q", source, uses, want)
		}
	}
}
