package main

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxColumn bounds --columns: a line of the greatest length has no more.
const maxColumn = maxLine

// separator tells how the columns of a line are parted.
type separator byte

const (
	tabs   separator = '\t' // TSV: no quoting, every byte between two tabs counts
	commas separator = ','  // CSV: RFC 4180 quoting, but a field ends on its line
)

// separatorOf is the rule: a name that ends in .csv or .tsv, before a .gz, says so.
// Any other input, standard input too, is CSV if its first line has a comma and no
// tab, else TSV.
func separatorOf(name string, firstLine []byte) separator {
	switch filepath.Ext(strings.TrimSuffix(strings.ToLower(name), ".gz")) {
	case ".csv":
		return commas
	case ".tsv":
		return tabs
	}
	if bytes.IndexByte(firstLine, byte(tabs)) < 0 && bytes.IndexByte(firstLine, byte(commas)) >= 0 {
		return commas
	}
	return tabs
}

// columns are the two that make a pair, numbered from 1.
type columns struct{ key, value int }

// String and Set and Type make columns a flag.
func (c *columns) String() string { return fmt.Sprintf("%d,%d", c.key, c.value) }
func (c *columns) Type() string   { return "A,B" }

func (c *columns) Set(text string) error {
	a, b, found := strings.Cut(text, ",")
	key, err1 := strconv.Atoi(a)
	value, err2 := strconv.Atoi(b)
	if !found || err1 != nil || err2 != nil || min(key, value) < 1 || max(key, value) > maxColumn {
		return errors.New("want two column numbers from 1, such as 1,3")
	}
	*c = columns{key, value}
	return nil
}

// The reasons why a line has no pair.
var (
	errNotUTF8  = errors.New("not valid UTF-8")
	errQuotes   = errors.New("a quoted field does not end, or goes on behind its quote")
	errNoKey    = errors.New("the key column is empty")
	errNoValue  = errors.New("the value column is empty")
	errNoColumn = errors.New("too few columns")
)

// splitter splits lines into fields; its memory is used again for each.
type splitter struct {
	by     separator
	fields [][]byte
}

// split returns the fields of a line, valid while the line is and until the next
// call. Quoted fields are unquoted within the line's own bytes.
func (s *splitter) split(line []byte) ([][]byte, error) {
	if !utf8.Valid(line) {
		return nil, errNotUTF8
	}
	s.fields = s.fields[:0]
	for {
		if s.by == commas && len(line) > 0 && line[0] == '"' {
			field, rest, ok := unquote(line)
			if !ok {
				return nil, errQuotes
			}
			s.fields = append(s.fields, field)
			if len(rest) == 0 {
				return s.fields, nil
			}
			line = rest[1:]
			continue
		}
		field, rest, more := bytes.Cut(line, []byte{byte(s.by)})
		s.fields = append(s.fields, field)
		if !more {
			return s.fields, nil
		}
		line = rest
	}
}

// unquote reads a field that begins with a quote. rest is empty or begins with the
// comma behind the field. Two quotes within it are one; the field is moved together
// in place.
func unquote(line []byte) (field, rest []byte, ok bool) {
	n := 0
	for i := 1; i < len(line); i++ {
		if line[i] == '"' {
			if i+1 == len(line) || line[i+1] == byte(commas) {
				return line[:n], line[i+1:], true
			}
			if line[i+1] != '"' {
				return nil, nil, false
			}
			i++
		}
		line[n] = line[i]
		n++
	}
	return nil, nil, false
}

// pair picks the two columns of a line.
func (c columns) pair(fields [][]byte) (key, value []byte, err error) {
	if max(c.key, c.value) > len(fields) {
		return nil, nil, fmt.Errorf("%w: %d, want at least %d", errNoColumn, len(fields), max(c.key, c.value))
	}
	key, value = fields[c.key-1], fields[c.value-1]
	switch {
	case len(key) == 0:
		return nil, nil, errNoKey
	case len(value) == 0:
		return nil, nil, errNoValue
	}
	return key, value, nil
}
