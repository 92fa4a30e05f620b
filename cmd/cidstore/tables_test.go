package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cidstore/cidstore/hdf5"
	"github.com/cidstore/cidstore/internal/invariants"
	"github.com/cidstore/cidstore/internal/oracle"
)

// runs runs the program and returns its standard output.
func runs(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("cidstore", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("cidstore %s: %v: %s", strings.Join(args, " "), err, &stderr)
	}
	return string(out)
}

// sorted are the lines in order.
func sorted(text string) []string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	slices.Sort(lines)
	return lines
}

// readers are the functions of pairs.py that read a form of a table, with the modules that
// they need.
var readers = map[string]map[string][]string{
	"flat": {"flat": {"h5py", "numpy"}, "data_frame": {"h5py", "numpy", "pandas"}, "read_hdf": {"pandas", "tables"}},
	"csr":  {"csr": {"h5py", "numpy"}},
}

// python runs a script of testdata/python.
func python(t *testing.T, modules []string, script string, args ...string) string {
	t.Helper()
	args = append([]string{filepath.Join("testdata", "python", script)}, args...)
	out, stderr, err := oracle.Run(t, 2*time.Minute, oracle.Python(t, modules...), args...)
	if err != nil {
		t.Fatalf("%s: %v: %s", script, err, stderr)
	}
	return out
}

// TestWordNetThroughATable: the words of WordNet, exported as a table, are in every
// foreign reader what export prints, and imported again the same store.
func TestWordNetThroughATable(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	root, err := oracle.Root()
	must(t, err)
	runs(t, "import", in("a.h5"), someWords(t, filepath.Join(root, "examples", "wordnet", "wordnet-words.tsv.gz")))
	want := sorted(runs(t, "export", in("a.h5")))
	for _, form := range []string{"flat", "csr"} {
		for _, packed := range []string{"--gzip=false", "--gzip"} {
			table := in(form + packed + ".h5")
			runs(t, "export", in("a.h5"), "--to", "hdf5", packed, "--csr="+fmt.Sprint(form == "csr"), table)
			if form == "flat" {
				runs(t, "import", in(packed), table, "--dataset", "pairs", "--key", "key_high,key_low", "--value", "value_high,value_low")
				if got := sorted(runs(t, "export", in(packed))); !slices.Equal(got, want) {
					t.Errorf("%s %s: %d pairs imported, want %d, or others", form, packed, len(got), len(want))
				}
			}
			if invariants.Sparse == 1 { // no race is to be found in Python
				readAlike(t, form, table, want)
			}
		}
	}
}

// someWords is the file of words, or under the race detector the first of them.
func someWords(t *testing.T, path string) string {
	if invariants.Sparse == 1 {
		return path
	}
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	words, err := gzip.NewReader(f)
	must(t, err)
	some, err := io.ReadAll(io.LimitReader(words, 6_000_000/invariants.Sparse))
	must(t, err)
	path = filepath.Join(t.TempDir(), "words.tsv")
	must(t, os.WriteFile(path, some[:bytes.LastIndexByte(some, '\n')+1], 0o600))
	return path
}

// readAlike holds what foreign programs read in a table to the lines of export.
func readAlike(t *testing.T, form, table string, want []string) {
	for reader, modules := range readers[form] {
		t.Run(reader+" "+filepath.Base(table), func(t *testing.T) {
			out := python(t, modules, "pairs.py", table, reader)
			if got := sorted(out); !slices.Equal(got, want) {
				t.Errorf("%d pairs, want %d, or others", len(got), len(want))
			}
		})
	}
}

// TestInspectOfDamagedBytes: whatever the bytes are, inspect ends, prints whole JSON
// where it prints any, and calls damage what it finds.
func TestInspectOfDamagedBytes(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("..", "..", "hdf5", "testdata", "*.h5"))
	if err != nil || len(files) == 0 {
		t.Fatal(err, files)
	}
	random := rand.New(rand.NewPCG(1, 2))
	damaged := 0
	for _, name := range append(files, filepath.Join("testdata", "tables.h5")) {
		good, err := os.ReadFile(name)
		must(t, err)
		for range 30 / invariants.Sparse {
			data := bytes.Clone(good)
			for range 1 + random.IntN(20) {
				data[random.IntN(len(data))] = byte(random.Uint32())
			}
			if random.IntN(4) == 0 {
				data = data[:random.IntN(len(data))]
			}
			var out bytes.Buffer
			p := &program{ctx: t.Context(), out: bufio.NewWriter(&out), messages: os.Stderr, quiet: true, json: true}
			i := &inspection{program: p, path: name, verify: true, seen: make(map[uint64]string)}
			start := time.Now()
			err := i.run(bytes.NewReader(data), int64(len(data)), nil)
			p.out.Flush()
			if took := time.Since(start); took > 30*time.Second {
				t.Errorf("%s: %v", name, took)
			}
			if exitCode(err) == exitCorrupt {
				damaged++
			}
			if out.Len() > 0 && !json.Valid(out.Bytes()) {
				t.Errorf("%s: no JSON: %.300s", name, &out)
			}
		}
	}
	if damaged < 100/invariants.Sparse {
		t.Errorf("%d files are said to be damaged", damaged)
	}
}

func TestInspectOfAHostileFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hostile.h5")
	python(t, []string{"h5py", "numpy"}, "hostile.py", path)
	cmd := exec.Command("cidstore", "inspect", path)
	out, err := cmd.Output()
	if codeOf(err) != exitCorrupt || !strings.Contains(string(out), "\nstopped: more must be read than any good file needs: ") {
		t.Errorf("%v, %d bytes of output", err, len(out))
	}
}

// TestInspectStopsReading: a file of which too much is read is damaged, and the walk
// over it ends.
func TestInspectStopsReading(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("testdata", "tables.h5"))
	must(t, err)
	for left := int64(3000); left < 400_000; left = left * 4 / 3 {
		var out bytes.Buffer
		p := &program{ctx: t.Context(), out: bufio.NewWriter(&out), messages: os.Stderr}
		i := &inspection{program: p, path: "t.h5", verify: true, seen: make(map[uint64]string)}
		i.meter = newMeter(bytes.NewReader(data), int64(len(data)), left)
		g, err := hdf5.NewReader(i.meter, int64(len(data)), nil)
		if err == nil {
			err = i.walk(g)
		}
		must(t, err)
		if i.meter.left.Load() < 0 != (i.stopped != "") || i.stopped != "" && exitCode(i.judge()) != exitCorrupt {
			t.Errorf("%d bytes: %d are left, and it says %q", left, i.meter.left.Load(), i.stopped)
		}
	}
}

// TestOddFiles: what is strange is one sentence, and says nothing to the terminal.
func TestOddFiles(t *testing.T) {
	dir := t.TempDir()
	path, store := filepath.Join(dir, "odd.h5"), filepath.Join(dir, "s.h5")
	python(t, []string{"h5py", "numpy"}, "odd.py", path)
	if out := runs(t, "inspect", "--json", path); !json.Valid([]byte(out)) {
		t.Errorf("no JSON: %.300s", out)
	}
	out := runs(t, "inspect", path)
	if at := strings.IndexFunc(out, func(r rune) bool { return r != '\n' && !strconv.IsPrint(r) }); at >= 0 {
		t.Errorf("inspect prints %.100q", out[at:])
	}
	if n := strings.Count(out, "\n"); n != 24 {
		t.Errorf("%d lines, want 1 of the file, 18 of links and 5 of attributes", n)
	}
	for _, want := range []string{"\"/a\\nb\": dataset", `0": string = "x\n\u001b[31m\u007f\u009b2J\u202e"` + "\n", ` = "\udb40\udc01"` + "\n", `/quoted -> "\"quoted\""`, "/g/up = /\n", "/g/self = /g\n", "/round -> round\n", "/huge: dataset", "/none: dataset", "nnn"} {
		if !strings.Contains(out, want) {
			t.Errorf("inspect lacks %q", want)
		}
	}
	for dataset, want := range map[string]string{
		"huge":                                   "rows: over a limit: ",
		"none":                                   "rows: over a limit: ",
		"floats":                                 "/floats is not a table: it has elements of type f64 in 2 dimensions",
		"text":                                   "/text is not a table",
		"float columns":                          "column key has floating-point numbers",
		"round":                                  "soft links to follow from \"round\": a circle",
		"g/up/g/self/x":                          "it has no dataset \"g/up/g/self/x\"",
		"g/self":                                 "/g/self is a group, not a dataset",
		strings.Repeat("g/up/", 1100) + "floats": "over a limit: more than 2000 links to follow",
	} {
		columns := []string{"--key", "key", "--value", "value"}
		if dataset == "huge" {
			columns = []string{"--key", "1", "--value", "2"}
		}
		cmd := exec.Command("cidstore", append([]string{"import", store, path, "--dataset", dataset}, columns...)...)
		text, err := cmd.CombinedOutput()
		if codeOf(err) != exitIO || !strings.Contains(string(text), want) || strings.Count(string(text), "\n") != 1 {
			t.Errorf("import of %.20s: %v: %.400s", dataset, err, text)
		}
	}
	if out := runs(t, "import", filepath.Join(dir, "new.h5"), path, "--dataset", "a\nb", "--key", "key", "--value", "value"); strings.Contains(out, "a\nb") {
		t.Errorf("import prints %q", out)
	}
}
