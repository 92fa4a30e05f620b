// Package layers checks the layers of the module: which package may import which,
// and which may use the operating system. It contains only tests.
package layers

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/cidstore/cidstore"

// rows are the layers: a package imports only packages of rows above its own.
var rows = []string{
	"internal/invariants internal/corrupt internal/crc32c internal/hdf5sum internal/seedbug internal/oracle internal/golden internal/layers internal/formatdoc internal/prose",
	"keys ecc vfs table internal/sample",
	"hdf5io hdf5 internal/errfs internal/crashfs internal/order",
	"bucket directory safeh5",
	"valueset",
	"wal gc",
	"legacy",
	".",
	"metrics fuzz internal/interop",
	"cmd/cidstore examples/wordnet",
}

// testOnly are packages that only tests import, and fuzz, which is one.
var testOnly = []string{"internal/oracle", "internal/golden", "internal/sample", "internal/errfs", "internal/crashfs"}

// blind are packages that must not import some packages that their row would allow.
var blind = map[string]string{
	"ecc":              "internal/invariants internal/corrupt internal/crc32c internal/seedbug",
	"keys":             "internal/invariants internal/corrupt internal/crc32c internal/seedbug",
	"hdf5io":           "keys ecc",
	"safeh5":           "keys ecc table internal/invariants internal/seedbug",
	"legacy":           "vfs hdf5io internal/invariants internal/seedbug bucket directory valueset gc",
	"hdf5":             "keys ecc vfs internal/invariants internal/seedbug",
	"internal/errfs":   "keys ecc",
	"internal/crashfs": "keys ecc",
	"directory":        "ecc",
	"wal":              "ecc bucket directory valueset",
	"fuzz":             "hdf5io bucket directory valueset wal gc",
	"cmd/cidstore":     "hdf5io bucket directory valueset wal gc",
	"metrics":          "hdf5io bucket directory valueset wal gc",
}

// outside are the imports from other modules, each of which only a few packages
// use; a path stands for all below it. unsafe is one of them.
var outside = map[string]string{
	"keys":             "github.com/google/uuid github.com/dchest/siphash",
	"vfs":              "golang.org/x/sys unsafe",
	"hdf5io":           "unsafe", // the address of a stack variable chooses a pin counter
	"metrics":          "github.com/prometheus/client_golang github.com/prometheus/client_model",
	"hdf5":             "github.com/klauspost/compress",
	"safeh5":           "github.com/klauspost/compress",
	"fuzz":             "pgregory.net/rapid",
	"internal/sample":  "pgregory.net/rapid",
	"cmd/cidstore":     "github.com/spf13/cobra github.com/schollz/progressbar golang.org/x/term golang.org/x/sys golang.org/x/text github.com/klauspost/compress",
	"examples/wordnet": "",
}

// goPackage is what go list says about a package.
type goPackage struct {
	Dir, ImportPath                   string
	GoFiles, IgnoredGoFiles, CgoFiles []string
	Imports                           []string
}

// name is the package's path in the module, "." for the root.
func (p goPackage) name() string {
	if p.ImportPath == module {
		return "."
	}
	return strings.TrimPrefix(p.ImportPath, module+"/")
}

// sources returns its files without tests, including those for other systems and
// tags.
func (p goPackage) sources() []string {
	var paths []string
	for _, file := range slices.Concat(p.GoFiles, p.IgnoredGoFiles) {
		if !strings.HasSuffix(file, "_test.go") {
			paths = append(paths, filepath.Join(p.Dir, file))
		}
	}
	return paths
}

// listPackages asks go list for every package of the module.
func listPackages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-json=Dir,ImportPath,GoFiles,IgnoredGoFiles,CgoFiles,Imports", "./...")
	cmd.Dir = filepath.Join("..", "..")
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v: %s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	var packages []goPackage
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		packages = append(packages, p)
	}
	if len(packages) < 5 {
		t.Fatalf("go list names %d packages", len(packages))
	}
	return packages
}

// importsOf returns the imports of a package on every system and with every build
// tag: what go list says for this system, and those in the other files.
func importsOf(p goPackage) ([]string, error) {
	imports := slices.Clone(p.Imports)
	for _, path := range p.sources() {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return nil, err
		}
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return nil, err
			}
			imports = append(imports, imported)
		}
	}
	slices.Sort(imports)
	return slices.Compact(imports), nil
}

// rowOf returns the index of a package's row, or -1.
func rowOf(name string) int {
	return slices.IndexFunc(rows, func(row string) bool { return slices.Contains(strings.Fields(row), name) })
}

// judge says what is wrong if one package imports one path; "" if nothing.
func judge(importer, imported string) string {
	if imported == "C" {
		return "cgo"
	}
	isRoot := imported == module
	if !isRoot && !strings.HasPrefix(imported, module+"/") {
		return judgeOutside(importer, imported)
	}
	name := "."
	if !isRoot {
		name = strings.TrimPrefix(imported, module+"/")
	}
	own, row := rowOf(importer), rowOf(name)
	switch {
	case own < 0:
		return "has no row"
	case row < 0:
		return "imports " + name + ", which has no row"
	case row >= own:
		return fmt.Sprintf("of row %d imports %s of row %d", own, name, row)
	case slices.Contains(testOnly, name) && importer != "fuzz":
		return "imports " + name + ", which is for tests"
	case slices.Contains(strings.Fields(blind[importer]), name):
		return "must not know " + name
	}
	return ""
}

// judgeOutside is judge for an import from outside this module.
func judgeOutside(importer, imported string) string {
	first, _, _ := strings.Cut(imported, "/")
	if !strings.Contains(first, ".") && imported != "unsafe" {
		return "" // the standard library
	}
	if slices.ContainsFunc(strings.Fields(outside[importer]), func(allowed string) bool {
		return imported == allowed || strings.HasPrefix(imported, allowed+"/")
	}) {
		return ""
	}
	return "imports " + imported + ", which is not its business"
}

func TestLayers(t *testing.T) {
	for _, p := range listPackages(t) {
		if rowOf(p.name()) < 0 {
			t.Errorf("%s has no row", p.name())
		}
		if len(p.CgoFiles) > 0 {
			t.Errorf("%s uses cgo: %v", p.name(), p.CgoFiles)
		}
		imports, err := importsOf(p)
		if err != nil {
			t.Errorf("%s: %v", p.name(), err)
		}
		for _, imported := range imports {
			if fault := judge(p.name(), imported); fault != "" {
				t.Errorf("%s %s", p.name(), fault)
			}
		}
	}
}

// TestJudge shows that the rules find faults.
func TestJudge(t *testing.T) {
	for _, c := range []struct {
		importer, imported string
		allowed            bool
	}{
		{"bucket", module + "/keys", true},
		{"keys", module + "/bucket", false},
		{"bucket", module + "/directory", false},
		{"bucket", module, false},
		{"metrics", module, true},
		{"cmd/cidstore", module + "/hdf5io", false},
		{"hdf5io", module + "/keys", false},
		{"hdf5io", module + "/internal/crashfs", false},
		{"hdf5", module + "/hdf5io", false},
		{"hdf5", module + "/keys", false},
		{"hdf5", "github.com/klauspost/compress/zstd", true},
		{"bucket", module + "/internal/errfs", false},
		{"fuzz", module + "/internal/crashfs", true},
		{"bucket", module + "/nowhere", false},
		{"nowhere", module + "/keys", false},
		{"hdf5io", "encoding/binary", true},
		{"hdf5io", "C", false},
		{"bucket", "unsafe", false},
		{"vfs", "golang.org/x/sys/unix", true},
		{"vfs", "golang.org/x/system", false},
		{"wal", "golang.org/x/sys/unix", false},
		{".", "github.com/prometheus/client_golang/prometheus", false},
		{"metrics", "github.com/prometheus/client_golang/prometheus", true},
	} {
		if fault := judge(c.importer, c.imported); (fault == "") != c.allowed {
			t.Errorf("%s importing %s: %q, allowed %t", c.importer, c.imported, fault, c.allowed)
		}
	}
}

func TestEveryRuleIsOfAKnownPackage(t *testing.T) {
	seen := make(map[string]bool)
	for _, name := range strings.Fields(strings.Join(rows, " ")) {
		if seen[name] {
			t.Errorf("%s is in two rows", name)
		}
		seen[name] = true
	}
	names := slices.Clone(testOnly)
	for name, others := range blind {
		names = append(append(names, name), strings.Fields(others)...)
	}
	for name := range outside {
		names = append(names, name)
	}
	for _, name := range names {
		if !seen[name] {
			t.Errorf("a rule names %s, which has no row", name)
		}
	}
}
