package hdf5

import (
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cidstore/cidstore/internal/oracle"
)

// TestNewFormats reads what HDF5 2.0 writes, of each version of the format that it
// knows: h5py is of an older library.
func TestNewFormats(t *testing.T) {
	if testing.Short() {
		t.Skip("it asks foreign programs for files")
	}
	node, module := oracle.H5wasm(t)
	dir := t.TempDir()
	if out, errout, err := oracle.Run(t, time.Minute, node, filepath.Join("testdata", "h5wasm.mjs"), module, dir); err != nil || strings.Contains(out+errout, "HDF5-DIAG") {
		t.Fatalf("%v: %s%s", err, out, errout)
	}
	for _, path := range filesIn(t, dir, 7) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			f := openFile(t, path, nil)
			root := objectAt[*Group](t, f, "/")
			wantSquares(t, f)
			wantTable(t, f)
			for i := range 20 {
				a, err := root.Attribute(fmt.Sprintf("attribute %d", i))
				must(t, err)
				if v, err := a.Value(); err != nil || !reflect.DeepEqual(v, []int64{int64(i)}) {
					t.Errorf("%s: %v, %v", a.Name(), v, err)
				}
				if l, err := root.Link(fmt.Sprintf("link %d", i)); err != nil || l.Target != fmt.Sprintf("target %d", i) {
					t.Errorf("link %d: %+v, %v", i, l, err)
				}
			}
		})
	}
}

// wantSquares wants every dataset to be complete squares.
func wantSquares(t *testing.T, f *File) {
	t.Helper()
	for _, name := range strings.Fields("whole single singlegzip fixed fixedgzip extensible extensiblegzip fixed2 fixed2gzip extensible2 extensible2gzip tree treegzip") {
		d := objectAt[*Dataset](t, f, "data/"+name)
		i := int64(0)
		for b, err := range d.Rows(0, d.Len()) {
			must(t, err)
			values, err := b.Int64s()
			must(t, err)
			for _, v := range values {
				if v != i*i {
					t.Fatalf("%s: value %d is %d", name, i, v)
				}
				i++
			}
		}
		if i != 600 {
			t.Errorf("%s: %d values", name, i)
		}
	}
}

func wantTable(t *testing.T, f *File) {
	t.Helper()
	read := func(name string) *Block {
		d := objectAt[*Dataset](t, f, "data/"+name)
		b, err := d.Read(0, d.Len())
		must(t, err)
		return b
	}
	table := read("table")
	n, err1 := table.Uint64s("n")
	x, err2 := table.Float64s("x")
	inner, err3 := table.Int64s("in", "b")
	name, err4 := table.Strings("name")
	got := fmt.Sprint(n, x, inner, name)
	if err := errors.Join(err1, err2, err3, err4); err != nil || got != "[1 2 3] [0.5 1.5 2.5] [-4 -5 -6] [one two three]" {
		t.Errorf("table: %s, %v", got, err)
	}
	if s, err := read("strings").Strings(); err != nil || fmt.Sprint(s) != "[eins zwei ä]" {
		t.Errorf("strings: %q, %v", s, err)
	}
	if p, err := read("reference").Bytes(); err != nil || len(p) != 1 {
		t.Errorf("reference: %x, %v", p, err)
	}
}
