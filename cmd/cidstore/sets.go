package main

import (
	"bufio"
	"encoding/json"

	"github.com/cidstore/cidstore"
)

// setWriter writes sets as JSON, one object per key, {"key": …, "values": […]}. It
// does not hold a set in memory, which may have millions of values. If values have
// names, one more field follows: "names": {value: name}.
type setWriter struct {
	out   *bufio.Writer
	key   cidstore.E
	open  bool // an object has been begun
	names []named
}

type named struct {
	value cidstore.E
	name  string
}

// add writes a value; values of the same key must follow each other.
func (w *setWriter) add(key, value cidstore.E) error {
	before := ","
	if !w.open || w.key != key {
		if err := w.end(); err != nil {
			return err
		}
		w.open, w.key, w.names = true, key, w.names[:0]
		before = `{"key":"` + key.String() + `","values":[`
	}
	_, err := w.out.WriteString(before + `"` + value.String() + `"`)
	return err
}

// end finishes the object under way, if there is one.
func (w *setWriter) end() error {
	if !w.open {
		return nil
	}
	w.open = false
	tail := "]}\n"
	if len(w.names) > 0 {
		names := make(map[cidstore.E]string, len(w.names))
		for _, n := range w.names {
			names[n.value] = n.name
		}
		text, err := json.Marshal(names)
		if err != nil {
			return err
		}
		tail = `],"names":` + string(text) + "}\n"
	}
	_, err := w.out.WriteString(tail)
	return err
}
