package safeh5

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/cidstore/cidstore/hdf5"
	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/vfs"
)

// model is what a file must hold: groups, datasets and attributes by path.
type model struct {
	groups     map[string]bool
	datasets   map[string]modelDataset
	attributes map[string]any // path + "@" + name
}

type modelDataset struct {
	typ       hdf5io.Datatype
	dims, max []uint64
	data      []byte // replaced, never changed
}

func newModel() *model {
	return &model{map[string]bool{"/": true}, map[string]modelDataset{}, map[string]any{}}
}

func (m *model) clone() *model {
	return &model{maps.Clone(m.groups), maps.Clone(m.datasets), maps.Clone(m.attributes)}
}

// modelTypes are elements of each kind.
var modelTypes = []hdf5io.Datatype{
	hdf5io.Uint(1), hdf5io.Int(2), hdf5io.Uint(4), hdf5io.Int(8), hdf5io.Float32(), hdf5io.Float64(), hdf5io.String(7),
	hdf5io.Enum(hdf5io.Int(2), hdf5io.EnumMember{Name: "a", Value: -7}, hdf5io.EnumMember{Name: "größe", Value: 300}), hdf5io.Bool(),
	hdf5io.Array(hdf5io.Int(2), 2, 3),
	hdf5io.Compound(21, hdf5io.Field{Name: "a", Type: hdf5io.Float32()}, hdf5io.Field{Name: "ü", Offset: 5, Type: hdf5io.Compound(16,
		hdf5io.Field{Name: "x", Type: hdf5io.Array(hdf5io.Uint(1), 3)}, hdf5io.Field{Name: "y", Offset: 8, Type: hdf5io.Float64()})}),
}

var modelNames = []string{"a", "b", "ä ö", "long_name_of_something"}

// machine is a file under test and its model.
type machine struct {
	fs   *crashfs.FS
	f    *File
	done *model // committed
}

func (m *machine) reopen(t *rapid.T) {
	if m.f != nil {
		must(t, m.f.Close())
	}
	var err error
	if m.f, err = Open(crashPath, on(m.fs)); err != nil {
		t.Fatal(err)
	}
}

// update makes some random changes in one Update, or none of them.
func (m *machine) update(t *rapid.T) {
	next := m.done.clone()
	stop := errors.New("changed my mind")
	err := m.f.Update(func(tx *Tx) error {
		for range rapid.IntRange(1, 5).Draw(t, "changes") {
			if err := next.change(t, tx); err != nil {
				return err
			}
		}
		if rapid.IntRange(0, 5).Draw(t, "stop") == 0 {
			return stop
		}
		return nil
	})
	if errors.Is(err, stop) {
		return
	}
	must(t, err)
	m.done = next
}

// change makes one change to both.
func (m *model) change(t *rapid.T, tx *Tx) error {
	path := ""
	for range rapid.IntRange(1, 3).Draw(t, "depth") {
		path += "/" + rapid.SampledFrom(modelNames).Draw(t, "name")
	}
	_, isDataset := m.datasets[path]
	isGroup := m.groups[path]
	for above := filepath.Dir(path); above != "/"; above = filepath.Dir(above) {
		if _, found := m.datasets[above]; found {
			return nil
		}
	}
	switch rapid.SampledFrom([]string{"make", "write", "append", "delete", "attribute", "group"}).Draw(t, "change") {
	case "group":
		if isDataset {
			return nil
		}
		m.addGroups(path)
		return tx.CreateGroup(path)
	case "make":
		if isDataset || isGroup {
			return nil
		}
		return m.make(t, tx, path)
	case "write":
		if isDataset {
			return m.write(t, tx, path)
		}
	case "append":
		if isDataset {
			return m.append(t, tx, path)
		}
	case "delete":
		if isDataset || isGroup {
			m.remove(path)
			return tx.Delete(path)
		}
	case "attribute":
		if isDataset || isGroup {
			name := rapid.SampledFrom(modelNames).Draw(t, "attribute")
			var value any = rapid.SliceOfN(rapid.Int64(), 1, 4).Draw(t, "value")
			if rapid.Bool().Draw(t, "text") {
				value = []string{rapid.StringMatching("[a-zäß]{1,9}").Draw(t, "text value")}
			}
			m.attributes[path+"@"+name] = value
			return tx.SetAttribute(path, name, value)
		}
	}
	return nil
}

func (m *model) addGroups(path string) {
	for ; path != "/"; path = filepath.Dir(path) {
		m.groups[path] = true
	}
}

func (m *model) remove(path string) {
	below := func(p string) bool { return p == path || strings.HasPrefix(p, path+"/") }
	maps.DeleteFunc(m.groups, func(p string, _ bool) bool { return below(p) })
	maps.DeleteFunc(m.datasets, func(p string, _ modelDataset) bool { return below(p) })
	maps.DeleteFunc(m.attributes, func(p string, _ any) bool {
		owner, _, _ := strings.Cut(p, "@")
		return below(owner)
	})
}

func (m *model) make(t *rapid.T, tx *Tx, path string) error {
	d := modelDataset{typ: rapid.SampledFrom(modelTypes).Draw(t, "type")}
	spec := Spec{Type: d.typ}
	for range rapid.IntRange(0, 3).Draw(t, "rank") {
		d.dims = append(d.dims, uint64(rapid.IntRange(0, 9).Draw(t, "dim")))
	}
	if len(d.dims) > 0 && rapid.IntRange(0, 3).Draw(t, "chunked") > 0 {
		if rapid.Bool().Draw(t, "growing") {
			d.max = make([]uint64, len(d.dims))
			for i, n := range d.dims {
				d.max[i] = rapid.SampledFrom([]uint64{n, n + 5, Unlimited}).Draw(t, "most")
			}
		}
		for i := range d.dims {
			most := d.dims[i]
			if d.max != nil {
				most = d.max[i]
			}
			spec.Chunk = append(spec.Chunk, uint32(rapid.IntRange(1, int(min(max(most, 1), 6))).Draw(t, "chunk")))
		}
		spec.Shuffle = rapid.Bool().Draw(t, "shuffle")
		spec.Gzip = rapid.IntRange(0, 9).Draw(t, "gzip")
	}
	spec.Dims, spec.MaxDims = d.dims, d.max
	d.data = make([]byte, boxBytes(d.typ, d.dims))
	m.addGroups(filepath.Dir(path))
	m.datasets[path] = d
	_, err := tx.CreateDataset(path, spec)
	return err
}

func boxBytes(t hdf5io.Datatype, dims []uint64) int {
	size := int(t.Size())
	for _, n := range dims {
		size *= int(n)
	}
	return size
}

// bytesFor draws data, some of which packs well.
func bytesFor(t *rapid.T, n int) []byte {
	p := bytes.Repeat([]byte{rapid.Byte().Draw(t, "byte")}, n)
	if rapid.Bool().Draw(t, "wild") && n > 0 {
		x := rapid.Uint32().Draw(t, "wildness")
		for i := range p {
			x = x*1664525 + 1013904223
			p[i] = byte(x >> 24)
		}
	}
	return p
}

func (m *model) write(t *rapid.T, tx *Tx, path string) error {
	d := m.datasets[path]
	start, count := make([]uint64, len(d.dims)), make([]uint64, len(d.dims))
	for i, n := range d.dims {
		start[i] = uint64(rapid.IntRange(0, int(n)).Draw(t, "start"))
		count[i] = uint64(rapid.IntRange(0, int(n-start[i])).Draw(t, "count"))
	}
	p := bytesFor(t, boxBytes(d.typ, count))
	d.data = slices.Clone(d.data)
	put(d.data, d.dims, start, count, p, int(d.typ.Size()))
	m.datasets[path] = d
	h, err := tx.Dataset(path)
	if err != nil {
		return err
	}
	return h.WriteBytes(start, count, p)
}

// put is the plainest way to write a box: element by element.
func put(data []byte, dims, start, count []uint64, p []byte, size int) {
	for i := range len(p) / size {
		at, rest, factor := 0, i, 1
		for k := len(dims) - 1; k >= 0; k-- {
			at += (int(start[k]) + rest%int(count[k])) * factor
			rest /= int(count[k])
			factor *= int(dims[k])
		}
		copy(data[at*size:(at+1)*size], p[i*size:])
	}
}

func (m *model) append(t *rapid.T, tx *Tx, path string) error {
	d := m.datasets[path]
	if len(d.dims) == 0 || d.max == nil || slices.Contains(d.dims[1:], 0) {
		return nil
	}
	rows := uint64(rapid.IntRange(0, 7).Draw(t, "rows"))
	if d.max[0]-d.dims[0] < rows {
		return nil
	}
	count := slices.Clone(d.dims)
	count[0] = rows
	p := bytesFor(t, boxBytes(d.typ, count))
	d.dims = slices.Clone(d.dims)
	d.dims[0] += rows
	d.data = append(slices.Clone(d.data), p...)
	m.datasets[path] = d
	h, err := tx.Dataset(path)
	if err != nil {
		return err
	}
	return h.AppendBytes(p)
}

// compare reads all of a file and compares it with the model.
func (m *model) compare(h *hdf5.File) error {
	groups, datasets, attributes := 0, 0, 0
	for o, err := range h.Objects() {
		if err != nil {
			return err
		}
		path := o.Path()
		switch o := o.(type) {
		case *hdf5.Group:
			groups++
			if !m.groups[path] {
				return fmt.Errorf("group %s", path)
			}
		case *hdf5.Dataset:
			datasets++
			d, ok := m.datasets[path]
			if !ok || !slices.Equal(o.Shape(), d.dims) {
				return fmt.Errorf("dataset %s of %v, want %v", path, o.Shape(), d.dims)
			}
			data := make([]byte, len(d.data))
			if err := o.ReadRows(data, 0, o.Len()); err != nil && len(data) > 0 {
				return err
			}
			if !bytes.Equal(data, d.data) {
				return fmt.Errorf("dataset %s: % x, want % x", path, data, d.data)
			}
		}
		for a, err := range o.Attributes() {
			if err != nil {
				return err
			}
			attributes++
			v, err := a.Value()
			if want := m.attributes[path+"@"+a.Name()]; err != nil || fmt.Sprint(v) != fmt.Sprint(want) {
				return fmt.Errorf("attribute %s of %s: %v, want %v: %v", a.Name(), path, v, want, err)
			}
		}
	}
	if groups != len(m.groups) || datasets != len(m.datasets) || attributes != len(m.attributes) {
		return fmt.Errorf("%d groups, %d datasets, %d attributes, want %d, %d, %d", groups, datasets, attributes, len(m.groups), len(m.datasets), len(m.attributes))
	}
	return nil
}

// TestModel compares random trees of all types, shapes and filters with a map.
func TestModel(t *testing.T) { rapid.Check(t, holdAgainstModel) }

// holdAgainstModel makes random Updates, and has package hdf5 read the file after each, and
// as Close has left it.
func holdAgainstModel(t *rapid.T) {
	m := machine{fs: crashfs.New(crashfs.Options{}), done: newModel()}
	m.reopen(t)
	for range rapid.IntRange(1, 12).Draw(t, "updates") {
		m.update(t)
		if rapid.IntRange(0, 3).Draw(t, "reopen") == 0 {
			m.reopen(t)
		}
		must(t, m.f.View(m.done.compare))
	}
	must(t, m.f.Check(t.Context(), func(err error) { t.Error(err) }), m.f.Close())
	info := mustGet(m.fs.Stat(crashPath))(t)
	raw := mustGet(m.fs.OpenFile(crashPath, vfs.ReadOnly, 0))(t)
	h := mustGet(hdf5.NewReader(raw, info.Size, nil))(t)
	must(t, m.done.compare(h), raw.Close())
}
