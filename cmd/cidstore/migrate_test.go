package main

import (
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cidstore/cidstore"
	"github.com/rogpeppe/go-internal/testscript"
)

// findSamples shows scripts where the files of the Python package are, which belong to
// package hdf5, where package legacy has what they hold, and where golden files
// and the tables are.
func findSamples(env *testscript.Env) error {
	for variable, dir := range map[string]string{"SAMPLES": "hdf5/testdata", "EXPECTED": "legacy/testdata", "GOLDEN": "testdata/golden", "TABLES": "cmd/cidstore/testdata/tables.h5"} {
		path, err := filepath.Abs(filepath.Join("..", "..", filepath.FromSlash(dir)))
		if err != nil {
			return err
		}
		env.Setenv(variable, path)
	}
	return nil
}

// scriptGolden unpacks a golden file into NAME.h5, and what it holds into NAME.tsv.
func scriptGolden(ts *testscript.TestScript, args []string) {
	for _, name := range []string{args[1] + ".h5", args[1] + ".tsv"} {
		packed, err := os.Open(filepath.Join(ts.Getenv("GOLDEN"), args[0], name+".gz"))
		ts.Check(err)
		defer packed.Close()
		r, err := gzip.NewReader(packed)
		ts.Check(err)
		content, err := io.ReadAll(r)
		ts.Check(err)
		ts.Check(os.WriteFile(ts.MkAbs(name), content, 0o666))
	}
}

// scriptHolds wants the pairs on standard output, where export has printed them, to be
// those of a file: names of keys with numbers; names of both, of 256 bits; or both as
// they are printed.
func scriptHolds(ts *testscript.TestScript, args []string) {
	want := make(map[string]bool)
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if len(args) > 1 && args[1] == "ids" {
			want[key+"\t"+value] = true
			continue
		}
		if len(args) > 1 {
			want[digest(key)+"\t"+digest(value)] = true
			continue
		}
		number, err := strconv.ParseUint(value, 10, 64)
		ts.Check(err)
		want[fmt.Sprintf("%s\t%s", cidstore.FromString(key), cidstore.FromUint64(number))] = true
	}
	got := strings.Split(strings.TrimSuffix(ts.ReadFile("stdout"), "\n"), "\n")
	slices.Sort(got)
	if wanted := slices.Sorted(maps.Keys(want)); !slices.Equal(got, wanted) {
		ts.Fatalf("%d pairs, want %d, or others", len(got), len(wanted))
	}
}

// digest is the first half of the SHA-256 of a name.
func digest(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:16])
}
