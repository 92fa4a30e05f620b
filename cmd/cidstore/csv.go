package main

import (
	"encoding/csv"
	"errors"
	"fmt"
)

// errLongRecord often means that a quote is never closed.
var errLongRecord = errors.New("the record that begins here is longer than 1 MiB, or a quote in it is not closed")

// csvRecords reads the records of RFC 4180 with encoding/csv. It hands the lines to
// that package one by one, when it asks for them. So a record has a limited length, a
// line number and a text, and a blank line is not skipped silently.
//
// A record with wrong quotes is the last, because it is not known where the next one
// begins.
type csvRecords struct {
	lines   *lineReader
	reader  *csv.Reader
	pending []byte // of the line under way, with its end
	record  []byte // the lines of the record so far
	first   int64  // its first line
	bad     error  // why one of these lines is not text
}

func newCSVRecords(lines *lineReader) *csvRecords {
	c := &csvRecords{lines: lines}
	c.reader = csv.NewReader(c)
	c.reader.FieldsPerRecord = -1 // columns.pair checks their number
	c.reader.ReuseRecord = true
	return c
}

func (c *csvRecords) start() int64 { return c.first }
func (c *csvRecords) end() int64   { return c.lines.number }
func (c *csvRecords) text() string { return string(c.record) }

func (c *csvRecords) next() ([]string, error) {
	line, err := c.lines.next()
	c.record, c.bad, c.first = c.record[:0], nil, c.lines.number
	switch {
	case err == errLongLine:
		// Without a quote the line is one record, whatever else it has.
		return nil, rejection{error: err, last: c.lines.quoted}
	case err != nil:
		return nil, err
	}
	c.take(withoutMarks(line))
	if len(c.record) == len("\n") {
		return []string{""}, nil // encoding/csv would skip it
	}
	fields, err := c.reader.Read()
	var wrong *csv.ParseError
	switch {
	case errors.As(err, &wrong):
		return nil, rejection{error: fmt.Errorf("%w (line %d)", wrong.Err, c.lines.number), last: true}
	case errors.Is(err, errLongRecord):
		return nil, rejection{error: errLongRecord, last: true}
	case err != nil:
		return nil, err
	case c.bad != nil:
		return nil, rejection{error: c.bad}
	}
	return fields, nil
}

// take makes a line the line under way.
func (c *csvRecords) take(line []byte) {
	if err := c.lines.check(line); err != nil && c.bad == nil {
		c.bad = err
	}
	c.record = append(append(c.record, line...), '\n')
	c.pending = c.record[len(c.record)-len(line)-1:]
}

// Read gives encoding/csv the rest of a line, and the next line where a quoted field
// goes on there.
func (c *csvRecords) Read(p []byte) (int, error) {
	if len(c.pending) == 0 {
		line, err := c.lines.next()
		switch {
		case err == errLongLine, err == nil && len(c.record)+len(line) > maxLine:
			return 0, errLongRecord
		case err != nil:
			return 0, err
		}
		c.take(line)
	}
	n := copy(p, c.pending)
	c.pending = c.pending[n:]
	return n, nil
}
