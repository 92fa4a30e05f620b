package main

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/cidstore/cidstore/hdf5"
)

// longText is how many bytes of a text of an HDF5 file are printed.
const longText = 240

// shown is a text as it is if it can be printed, else in Go's escapes: a file must
// not speak to the terminal.
func shown(text string) string {
	if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	return text
}

// cutText is shown, and cut if it is long.
func cutText(text string) string {
	if len(text) <= longText {
		return shown(text)
	}
	return fmt.Sprintf("%s… (%d bytes)", shown(strings.ToValidUTF8(text[:longText], "")), len(text))
}

// kindOf is a word for an object.
func kindOf(o hdf5.Object) string {
	switch o.(type) {
	case *hdf5.Group:
		return "group"
	case *hdf5.Dataset:
		return "dataset"
	}
	return "datatype"
}
