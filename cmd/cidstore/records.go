package main

import (
	"bytes"
	"fmt"
	"io"
	"path/filepath"
	"strings"
)

// format is the format of an input.
type format int

const (
	tsv       format = iota // no quoting: every byte between two tabs counts
	csvFormat               // RFC 4180
	jsonLines               // what export --json prints
)

// jsonStart begins the first line of what export --json prints.
const jsonStart = `{"key":`

// formatOf returns the format of an input. A name that ends in .csv, .tsv, .json,
// .jsonl or .ndjson, before a .gz or .zst, decides. For any other input, including
// standard input, the first line decides: it begins as export --json does, or has a
// comma and no tab, or else the input is TSV.
func formatOf(name string, firstLine []byte) format {
	name = strings.ToLower(name)
	name = strings.TrimSuffix(strings.TrimSuffix(name, ".gz"), ".zst")
	switch filepath.Ext(name) {
	case ".csv":
		return csvFormat
	case ".tsv":
		return tsv
	case ".json", ".jsonl", ".ndjson":
		return jsonLines
	}
	switch {
	case bytes.HasPrefix(firstLine, []byte(jsonStart)):
		return jsonLines
	case bytes.IndexByte(firstLine, '\t') < 0 && bytes.IndexByte(firstLine, ',') >= 0:
		return csvFormat
	}
	return tsv
}

// records reads the records of one input, one after another.
type records interface {
	// next returns the fields of the next record, valid until the following call. A
	// rejection concerns this record only, and the next call goes on after it. The
	// error io.EOF is the end. Any other error ends the input.
	next() (fields []string, err error)
	// start is the line on which the record that next returned last begins, end the
	// line where it ends.
	start() int64
	end() int64
	// text is that record as it was read, empty where it was too long.
	text() string
}

// rejection says why a record has no pair. If last is true, it is not known either
// where the record ends, so that nothing after it can be read.
type rejection struct {
	error
	last bool
}

func (r rejection) Unwrap() error { return r.error }

// input is an input whose packing, encoding and format are known.
type input struct {
	records
	name     string
	how      format
	encoding *tally
}

func openInput(name string, in io.Reader) (*input, error) {
	lines, err := newLineReader(in)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	opened := &input{name: name, how: formatOf(name, lines.peek()), encoding: &lines.tally}
	switch opened.how {
	case tsv:
		opened.records = &tsvRecords{lines: lines}
	case csvFormat:
		opened.records = newCSVRecords(lines)
	case jsonLines:
		opened.records = newJSONRecords(lines)
	}
	return opened, nil
}

// tsvRecords reads lines with tabs between the fields.
type tsvRecords struct {
	lines  *lineReader
	line   []byte
	fields []string
}

func (t *tsvRecords) start() int64 { return t.lines.number }
func (t *tsvRecords) end() int64   { return t.lines.number }
func (t *tsvRecords) text() string { return string(t.line) }

func (t *tsvRecords) next() ([]string, error) {
	line, err := t.lines.next()
	t.line = line
	switch {
	case err == errLongLine:
		return nil, rejection{error: err}
	case err != nil:
		return nil, err
	}
	line = withoutMarks(line)
	if err := t.lines.check(line); err != nil {
		return nil, rejection{error: err}
	}
	t.fields = t.fields[:0]
	for field := range strings.SplitSeq(string(line), "\t") {
		t.fields = append(t.fields, field)
	}
	return t.fields, nil
}
