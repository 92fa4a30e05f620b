package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf16"

	"github.com/cidstore/cidstore/hdf5"
)

// attribute is what is printed for an attribute.
type attribute struct {
	Name  string   `json:"name"`
	Type  string   `json:"type,omitempty"`
	Shape []uint64 `json:"shape,omitempty"`
	Value any      `json:"value"`         // one value or a list; null if there is none
	Cut   bool     `json:"cut,omitempty"` // not all of the value is here
	Error string   `json:"error,omitempty"`
}

// keptElements is how many elements of an attribute are printed.
const keptElements = 32

// attributes describes the attributes of an object.
func (i *inspection) attributes(n *node, o hdf5.Object) {
	for a, err := range o.Attributes() {
		if a == nil {
			i.fault(n, err)
			continue
		}
		n.Attributes = append(n.Attributes, i.attribute(a))
		if i.meter.spend(keptBytes + len(a.Name()) + len(a.Data)) {
			return
		}
	}
}

func (i *inspection) attribute(a *hdf5.Attribute) attribute {
	described := attribute{Name: a.Name(), Type: a.Type().String(), Shape: a.Shape()}
	i.meter.spend(len(described.Type))
	if a.IsNull() {
		return described
	}
	value, err := a.Value()
	if err != nil {
		i.count(err)
		described.Error = faultText(err)
		return described
	}
	i.meter.spend(len(fmt.Append(nil, value))) // what it has may be stored elsewhere
	c := cutter{left: keptElements}
	list := c.of(value)
	described.Value, described.Cut = list, c.cut
	if one, ok := list.([]any); ok && len(a.Shape()) == 0 && len(one) == 1 {
		described.Value = one[0]
	}
	return described
}

// words returns the line for an attribute.
func (a attribute) words() string {
	head := shown(a.Name) + ": " + cutText(a.Type)
	if len(a.Shape) > 0 {
		head = shown(a.Name) + ": " + shapeText(a.Shape, nil) + " " + cutText(a.Type)
	}
	if a.Error != "" {
		return head + " ! " + a.Error
	}
	text, err := valueJSON(a.Value)
	if err != nil {
		return head + " ! " + err.Error()
	}
	if a.Cut {
		text += " …"
	}
	return head + " = " + cutJSON(text)
}

// valueJSON returns a value as JSON, on one line, with escapes for what cannot be printed
// and without those for HTML.
func valueJSON(value any) (string, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(value)
	var out strings.Builder
	for _, r := range strings.TrimSuffix(text.String(), "\n") {
		switch {
		case strconv.IsPrint(r):
			out.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&out, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&out, `\u%04x`, r)
		}
	}
	return out.String(), err
}

// cutter turns a value into what JSON can express, up to a number of elements.
type cutter struct {
	left int
	cut  bool
}

// keep returns how many of n elements to keep.
func (c *cutter) keep(n int) int {
	kept := min(n, c.left)
	c.left -= kept
	c.cut = c.cut || kept < n
	return kept
}

// of returns a value of hdf5.Block, or an element of one, as lists, texts and numbers.
func (c *cutter) of(value any) any {
	switch v := value.(type) {
	case string:
		return c.text(v)
	case []byte:
		return c.text(hex.EncodeToString(v))
	case float64:
		return number(v)
	case map[string]any:
		members := make(map[string]any)
		for name, of := range v {
			if c.left == 0 {
				c.cut = true
				break
			}
			members[name] = c.of(of)
		}
		return members
	}
	all := reflect.ValueOf(value)
	if all.Kind() != reflect.Slice {
		return value // an integer
	}
	list := []any{}
	for k := range c.keep(all.Len()) {
		list = append(list, c.of(all.Index(k).Interface()))
	}
	return list
}

// text returns a text, cut if it is long.
func (c *cutter) text(s string) string {
	if len(s) > longText {
		c.cut = true
		return firstOf(s)
	}
	return s
}

// number returns a floating-point number, as a text if JSON cannot express it.
func number(f float64) any {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return fmt.Sprint(f)
	}
	return f
}
