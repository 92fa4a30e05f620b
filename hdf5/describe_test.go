package hdf5

import (
	"cmp"
	"crypto/sha256"
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
	d.print("dataset %s %s %s %s chunks=%s filters=%s %s", path, shapeText(o.Shape()), shapeText(o.MaxShape()),
		o.Layout(), shapeText(o.ChunkShape()), texts(o.Filters(), func(f Filter) string { return fmt.Sprint(f.ID) }), short(text))
	return nil
}

func shapeText(shape []uint64) string {
	return strings.ReplaceAll("["+texts(shape, func(n uint64) string { return fmt.Sprint(int64(n)) })+"]", ",", " ")
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
	switch values := value.(type) {
	case []uint64:
		return texts(values, func(v uint64) string { return fmt.Sprint(v) })
	case []int64:
		return texts(values, func(v int64) string { return fmt.Sprint(v) })
	case []float64:
		return texts(values, func(v float64) string { return fmt.Sprintf("%016x", math.Float64bits(v)) })
	case []string:
		return texts(values, func(v string) string { return hex.EncodeToString([]byte(v)) })
	}
	return texts(value.([][]byte), hex.EncodeToString)
}

// texts are the texts of values, with commas between them.
func texts[T any](values []T, text func(T) string) string {
	var parts []string
	for _, v := range values {
		parts = append(parts, text(v))
	}
	return strings.Join(parts, ",")
}

// wantDescription compares what is read of a file with its description.
func wantDescription(t *testing.T, path, descriptionPath string) {
	t.Helper()
	want, err := os.ReadFile(descriptionPath)
	must(t, err)
	got, err := describe(openFile(t, path, nil))
	if err != nil {
		t.Errorf("%s: %v", path, err)
		return
	}
	gotLines, wantLines := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for i := range min(len(gotLines), len(wantLines)) {
		if gotLines[i] != wantLines[i] {
			t.Errorf("%s, line %d:\n got %.300s\nwant %.300s", path, i+1, gotLines[i], wantLines[i])
			return
		}
	}
	if len(gotLines) != len(wantLines) {
		t.Errorf("%s: %d lines, want %d", path, len(gotLines), len(wantLines))
	}
}
