package main

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	scigolib "github.com/scigolib/hdf5"

	"github.com/cidstore/cidstore/hdf5"
	"github.com/cidstore/cidstore/internal/oracle"
)

// matrixShares is how many runs read all cells of the matrix, as TestCells of package hdf5.
const matrixShares = 61

// TestHDF5BesideScigolib has package hdf5 and scigolib/hdf5 read the same datasets of numbers
// and of texts, and prints where they differ and who is right: who reads what h5py
// reads. It fails where package hdf5 is wrong. CIDSTORE_MATRIX=N takes share N of the
// cells, 0 to 60, all takes all; by default the day decides.
func TestHDF5BesideScigolib(t *testing.T) {
	python := oracle.H5py(t)
	share, shares := strconv.Itoa(time.Now().YearDay()%matrixShares), strconv.Itoa(matrixShares)
	switch text := os.Getenv("CIDSTORE_MATRIX"); text {
	case "":
	case "all":
		share, shares = "0", "1"
	default:
		share = text
	}
	dir := t.TempDir()
	for _, args := range [][]string{{"../hdf5/testdata/cells.py", dir, share, shares}, {"../hdf5/testdata/conventions.py", dir}} {
		if _, errout, err := oracle.Run(t, 20*time.Minute, python, args...); err != nil {
			t.Fatalf("%v: %s", err, errout)
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.h5"))
	if err != nil || len(files) < 20 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	judged, errout, err := oracle.Run(t, 5*time.Minute, python, append([]string{filepath.Join("testdata", "judge.py")}, files...)...)
	if err != nil {
		t.Fatalf("%v: %s", err, errout)
	}
	want := make(map[string]map[string][2]string) // file, path: kind and hash
	for line := range strings.Lines(judged) {
		f := strings.Split(strings.TrimSpace(line), "\t")
		if want[f[0]] == nil {
			want[f[0]] = make(map[string][2]string)
		}
		want[f[0]][f[1]] = [2]string{f[2], f[3]}
	}
	list := make(comparison)
	for _, path := range files {
		list.compare(t, path, want[filepath.Base(path)])
	}
	list.print(t)
}

// comparison lists datasets by how they were read.
type comparison map[string][]string

func (c comparison) print(t *testing.T) {
	for _, what := range slices.Sorted(maps.Keys(c)) {
		t.Logf("%5d %s; as %s", len(c[what]), what, c[what][0])
	}
	if c["both read what h5py reads"] == nil {
		t.Error("nothing was read by both")
	}
}

// compare reads what h5py has read of one file.
func (c comparison) compare(t *testing.T, path string, want map[string][2]string) {
	ours, err := hashesOf(path, want)
	if err != nil {
		t.Errorf("%s: %v", path, err)
	}
	theirs, failed := scigolibHashes(path, want)
	for name, w := range want {
		where := fmt.Sprintf("%s of %s", name, filepath.Base(path))
		what := "both read what h5py reads"
		switch got, read := theirs[name]; {
		case ours[name] != w[1]:
			what = "package hdf5 is wrong"
			t.Errorf("%s: %s", what, where)
		case read && got != w[1]:
			what = "package hdf5 is right, scigolib reads other " + w[0]
		case !read && failed[name] != "":
			what = "package hdf5 is right, scigolib: " + failed[name]
		case !read:
			what = "package hdf5 is right, scigolib's Walk does not come to it " + failed[""]
		}
		c[what] = append(c[what], where)
	}
}

func hashOfNumbers(values []float64) string {
	var p []byte
	for _, v := range values {
		p = binary.BigEndian.AppendUint64(p, math.Float64bits(v))
	}
	return hashOf(p)
}

func hashOf(p []byte) string {
	sum := sha256.Sum256(p)
	return hex.EncodeToString(sum[:])
}

func hashOfTexts(values []string) string {
	return hashOf([]byte(strings.Join(append(values, ""), "\x00")))
}

// hashesOf reads datasets of a file with package hdf5.
func hashesOf(path string, want map[string][2]string) (map[string]string, error) {
	f, err := hdf5.Open(path, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	root, err := f.Root()
	if err != nil {
		return nil, err
	}
	out := make(map[string]string)
	for name := range want {
		d, err := root.Dataset(name[1:])
		if err != nil {
			return out, err
		}
		b, err := d.Read(0, d.Len())
		if err != nil {
			return out, err
		}
		if out[name], err = hashOfBlock(b); err != nil {
			return out, err
		}
	}
	return out, nil
}

// hashOfBlock is that of numbers or texts; "" of others.
func hashOfBlock(b *hdf5.Block) (string, error) {
	v, err := b.Value()
	var numbers []float64
	switch v := v.(type) {
	case []uint64:
		for _, n := range v {
			numbers = append(numbers, float64(n))
		}
	case []int64:
		for _, n := range v {
			numbers = append(numbers, float64(n))
		}
	case []float64:
		numbers = v
	case []string:
		return hashOfTexts(v), err
	default:
		return "", err
	}
	return hashOfNumbers(numbers), err
}

// scigolibTime is more than any of these files takes.
const scigolibTime = time.Minute

// scigolibHashes reads a file with scigolib/hdf5: hashes of what it reads, and its errors, by path; of
// the file as a whole under "".
func scigolibHashes(path string, want map[string][2]string) (read, failed map[string]string) {
	type answer struct{ read, failed map[string]string }
	done := make(chan answer, 1)
	go func() {
		a := answer{make(map[string]string), make(map[string]string)}
		defer func() { done <- a }()
		a.failed[""] = trying(func() error {
			f, err := scigolib.Open(path)
			if err != nil {
				return err
			}
			defer func() { _ = f.Close() }()
			f.Walk(func(name string, o scigolib.Object) {
				d, ok := o.(*scigolib.Dataset)
				w, asked := want[name]
				if !ok || !asked {
					return
				}
				if text := trying(func() (err error) { a.read[name], err = scigolibHash(d, w[0]); return err }); text != "" {
					a.failed[name] = text
					delete(a.read, name)
				}
			})
			return nil
		})
	}()
	select {
	case a := <-done:
		return a.read, a.failed
	case <-time.After(scigolibTime):
		return nil, map[string]string{"": "no end after " + scigolibTime.String()}
	}
}

func scigolibHash(d *scigolib.Dataset, kind string) (string, error) {
	if kind == "texts" {
		v, err := d.ReadStrings()
		if err == nil {
			return hashOfTexts(v), nil
		}
		sequences, variableErr := d.ReadVLenBytes() // texts of variable length
		if variableErr != nil {
			return "", err
		}
		for _, s := range sequences {
			v = append(v, string(s))
		}
		return hashOfTexts(v), nil
	}
	v, err := d.Read()
	return hashOfNumbers(v), err
}

// trying returns the error of do, or that it panics, without numbers: for a list.
func trying(do func() error) (text string) {
	defer func() {
		if r := recover(); r != nil {
			text = withoutNumbers(fmt.Sprint("panic: ", r))
		}
	}()
	if err := do(); err != nil {
		return withoutNumbers(err.Error())
	}
	return ""
}

var numbers = regexp.MustCompile("[0-9]+")

func withoutNumbers(text string) string {
	text = numbers.ReplaceAllString(text, "N")
	if i := strings.Index(text, os.TempDir()); i >= 0 { // a path says nothing here
		text = text[:i]
	}
	return text[:min(len(text), 160)]
}
