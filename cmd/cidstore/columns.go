package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// maxColumn bounds --columns. No line has more columns, because its length is limited.
const maxColumn = maxLine

// columns are the two that make a pair, of key and value, numbered from 1.
type columns []int

// check returns what is wrong with the flag.
func (c columns) check() error {
	if len(c) != 2 || slices.Min(c) < 1 || slices.Max(c) > maxColumn {
		return usageError{errors.New("--columns: want two column numbers from 1, such as 1,3")}
	}
	return nil
}

// These are the reasons why a record has no pair.
var (
	errNoKey    = errors.New("the key is empty")
	errNoValue  = errors.New("the value is empty")
	errNoColumn = errors.New("too few columns")
)

// otherColumns says what to do if the only field of a record has the separators of another
// format, and is empty otherwise.
func otherColumns(how format, fields []string) string {
	field := fields[0]
	switch {
	case len(fields) > 1:
	case strings.Contains(field, "\t"):
		return "; it has tabs and no comma: name the file .tsv"
	case how == tsv && strings.Contains(field, ","):
		return "; it has commas and no tab: name the file .csv"
	case strings.Contains(field, ";"):
		return "; it has semicolons, where import wants commas or tabs: write those in their place, for example by tr ';' '\\t'"
	}
	return ""
}

// names are words that are usual in headers and rare in data.
var names = []string{"key", "value", "id", "name", "uuid", "source", "target", "subject", "object", "from", "to", "parent", "child"}

// header reports whether a record looks like a header.
func (c columns) header(fields []string) bool {
	key, value, err := c.pair(fields)
	return err == nil && key != value &&
		slices.Contains(names, strings.ToLower(key)) && slices.Contains(names, strings.ToLower(value))
}

// pair returns the key and the value of a record.
func (c columns) pair(fields []string) (key, value string, err error) {
	if most := slices.Max(c); most > len(fields) {
		return "", "", fmt.Errorf("%w: %d, want at least %d", errNoColumn, len(fields), most)
	}
	key, value = fields[c[0]-1], fields[c[1]-1]
	return key, value, notEmpty(key, value)
}

// notEmpty returns an error if the key or the value of a pair is empty.
func notEmpty(key, value string) error {
	switch {
	case key == "":
		return errNoKey
	case value == "":
		return errNoValue
	}
	return nil
}
