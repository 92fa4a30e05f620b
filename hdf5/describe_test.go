package hdf5

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
)

// describer writes what testdata/describe.py writes.
type describer struct {
	lines []string
	seen  map[uint64]string
}

// describe returns the description of a file, or the first error.
func describe(f *File) (string, error) {
	root, err := f.Root()
	if err != nil {
		return "", err
	}
	d := describer{seen: make(map[uint64]string)}
	if err := d.object(root, "/"); err != nil {
		return "", err
	}
	return strings.Join(d.lines, "\n") + "\n", nil
}

func (d *describer) print(format string, args ...any) {
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

func (d *describer) object(o Object, path string) error {
	if first, ok := d.seen[o.Address()]; ok {
		d.print("again %s %s", path, first)
		return nil
	}
	d.seen[o.Address()] = path
	switch o := o.(type) {
	case *Group:
		d.print("group %s", path)
	case *Dataset:
		if err := d.dataset(o, path); err != nil {
			return err
		}
	default:
		d.print("datatype %s", path)
	}
	if err := d.attributes(o, path); err != nil {
		return err
	}
	if g, ok := o.(*Group); ok {
		return d.links(g, path)
	}
	return nil
}

func (d *describer) attributes(o Object, path string) error {
	var attributes []*Attribute
	for a, err := range o.Attributes() {
		if err != nil {
			return err
		}
		attributes = append(attributes, a)
	}
	slices.SortFunc(attributes, func(a, b *Attribute) int { return cmp.Compare(a.Name(), b.Name()) })
	for _, a := range attributes {
		text := "null"
		if !a.IsNull() {
			var err error
			if text, err = valueText(&a.Block); err != nil {
				return err
			}
		}
		d.print("attribute %s %s %s %s", path, a.Name(), shapeText(a.Shape()), short(text))
	}
	return nil
}

func (d *describer) links(g *Group, path string) error {
	var links []Link
	for l, err := range g.Links() {
		if err != nil {
			return err
		}
		links = append(links, l)
	}
	slices.SortFunc(links, func(a, b Link) int { return cmp.Compare(a.Name, b.Name) })
	for _, l := range links {
		here := join(path, l.Name)
		switch l.Kind {
		case SoftLink:
			d.print("soft %s %s", here, l.Target)
		case ExternalLink:
			d.print("external %s %s %s", here, l.File, l.Target)
		default:
			o, err := g.OpenLink(l)
			if err == nil {
				err = d.object(o, here)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *describer) dataset(o *Dataset, path string) error {
	text := "null"
	if !o.IsNull() {
		var all Block
		for b, err := range o.Rows(0, o.Len()) {
			if err != nil {
				return err
			}
			data := append(all.Data, b.Data...)
			all = *b
			all.Data = data
		}
		all.datatype, all.file = o.Type(), o.file
		var err error
		if text, err = valueText(&all); err != nil {
			return err
		}
	}
	var ids []string
	for _, f := range o.Filters() {
		ids = append(ids, fmt.Sprint(f.ID))
	}
	d.print("dataset %s %s %s %s chunks=%s filters=%s %s", path, shapeText(o.Shape()), shapeText(o.MaxShape()),
		o.Layout(), shapeText(o.ChunkShape()), strings.Join(ids, ","), short(text))
	return nil
}

func shapeText(shape []uint64) string {
	var parts []string
	for _, n := range shape {
		parts = append(parts, fmt.Sprint(int64(n)))
	}
	return "[" + strings.Join(parts, " ") + "]"
}

func short(text string) string {
	if len([]rune(text)) < 100 {
		return text
	}
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// valueText is the text of all values of a block.
func valueText(b *Block, member ...string) (string, error) {
	_, t, err := b.steps(member)
	if err != nil {
		return "", err
	}
	if t.Class == Compound {
		var parts []string
		for _, m := range t.Members {
			text, err := valueText(b, append(slices.Clone(member), m.Name)...)
			if err != nil {
				return "", err
			}
			parts = append(parts, m.Name+":"+text)
		}
		return "{" + strings.Join(parts, ";") + "}", nil
	}
	if t.Class == Reference {
		values, err := b.Bytes(member...)
		return fmt.Sprintf("references %d", len(values)), err
	}
	if t.Class == Variable && !t.IsString {
		var parts []string
		for nested, err := range b.Sequences(member...) {
			if err != nil {
				return "", err
			}
			text, err := valueText(nested)
			if err != nil {
				return "", err
			}
			parts = append(parts, "["+text+"]")
		}
		return strings.Join(parts, ","), nil
	}
	value, err := b.value(member)
	if err != nil {
		return "", err
	}
	return flatText(value), nil
}

func flatText(value any) string {
	var parts []string
	switch values := value.(type) {
	case []uint64:
		for _, v := range values {
			parts = append(parts, fmt.Sprint(v))
		}
	case []int64:
		for _, v := range values {
			parts = append(parts, fmt.Sprint(v))
		}
	case []float64:
		for _, v := range values {
			parts = append(parts, hex.EncodeToString(binary.BigEndian.AppendUint64(nil, math.Float64bits(v))))
		}
	case []string:
		for _, v := range values {
			parts = append(parts, hex.EncodeToString([]byte(v)))
		}
	case [][]byte:
		for _, v := range values {
			parts = append(parts, hex.EncodeToString(v))
		}
	}
	return strings.Join(parts, ",")
}

// wantDescription compares what is read of a file with its description.
func wantDescription(t *testing.T, path, descriptionPath string) {
	t.Helper()
	want, err := os.ReadFile(descriptionPath)
	must(t, err)
	f, err := Open(path, nil)
	if err != nil {
		t.Errorf("%s: %v", path, err)
		return
	}
	defer func() { _ = f.Close() }()
	got, err := describe(f)
	if err != nil {
		t.Errorf("%s: %v", path, err)
		return
	}
	if bytes.Equal([]byte(got), want) {
		return
	}
	gotLines, wantLines := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for i := range max(len(gotLines), len(wantLines)) {
		g, w := "", ""
		if i < len(gotLines) {
			g = gotLines[i]
		}
		if i < len(wantLines) {
			w = wantLines[i]
		}
		if g != w {
			t.Errorf("%s, line %d:\n got %.300s\nwant %.300s", path, i+1, g, w)
			return
		}
	}
}
