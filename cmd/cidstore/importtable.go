package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/cidstore/cidstore"
)

// probeTable checks that a file has the table, and that it is not the store itself,
// which changes while the import fills it.
func (r *pairReader) probeTable(name string) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	if store, err := os.Stat(r.store); err == nil && os.SameFile(info, store) {
		return usageError{fmt.Errorf("--dataset: %s is STORE itself", name)}
	}
	t, err := r.table.open(name)
	if err != nil {
		return err
	}
	return t.file.Close()
}

// readTable adds the pairs of a table block by block.
func (r *pairReader) readTable(name string) error {
	t, err := r.table.open(name)
	if err != nil {
		return err
	}
	return errors.Join(r.readRows(name, t), t.file.Close())
}

func (r *pairReader) readRows(name string, t *tableFile) error {
	before := r.read.Load() // bytes of the earlier files; each row counts as a part of this one
	next := uint64(0)
	for data, err := range t.data.Rows(0, t.data.Len()) {
		if err == nil {
			err = t.read(data)
		}
		if err != nil {
			return tableError(fmt.Sprintf("%s, row %d", name, next), err)
		}
		next = data.Start + uint64(data.Rows)
		r.read.Store(before + int64(float64(t.file.Size())*float64(next)/float64(t.data.Len())))
		for row := range data.Rows {
			if err := r.addRow(name, data.Start, t, row); err != nil {
				return err
			}
		}
	}
	r.read.Store(before + t.file.Size())
	return r.add(name, func(p *portion) { p.whole, p.lastLine = true, int64(next) })
}

// addRow adds the pair of a row to the portion under way, or the reason why it has
// none. The error ends the import.
func (r *pairReader) addRow(name string, start uint64, t *tableFile, row int) error {
	var pair [2]cidstore.E
	var texts []string // what was taken as identifiers or names
	var why error
	for n := range t.sides {
		s := &t.sides[n]
		id, text, err := s.identifier(row)
		if s.text {
			texts = append(texts, text)
		}
		if err == nil && s.text && r.strictIDs {
			_, err = cidstore.Parse(text)
		}
		if pair[n] = id; why == nil {
			why = err
		}
	}
	number := start + uint64(row)
	at := reject{File: name, Row: &number}
	err := r.add(name, func(p *portion) {
		p.records++
		p.lastLine = int64(number) + 1
		if why != nil {
			at.Reason = why.Error()
			r.addReject(p, at, func() string { return t.text(row) })
			return
		}
		p.pairs.Insert(pair[0], pair[1])
		p.warn(at, texts...)
	})
	if err == nil && why != nil && r.strict {
		return inputError{at.place() + ": " + why.Error()}
	}
	return err
}

// text returns the cells that the pair of a row is made from, with tabs between them.
func (t *tableFile) text(row int) string {
	var cells []string
	for _, s := range t.sides {
		for k := range s.parts {
			cells = append(cells, s.parts[k].cell(row))
		}
	}
	return strings.Join(cells, "\t")
}
