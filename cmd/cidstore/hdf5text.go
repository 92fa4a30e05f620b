package main

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/cidstore/cidstore/hdf5"
)

// longText is how many bytes are printed of a text in an HDF5 file.
const longText = 240

// shown returns a text as it is if it can be printed, and with Go's escapes otherwise:
// a file must not control the terminal.
func shown(text string) string {
	if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	return text
}

// cutText returns what shown does, cut if the text is long.
func cutText(text string) string {
	if len(text) <= longText {
		return shown(text)
	}
	return fmt.Sprintf("%s… (%d bytes)", shown(strings.ToValidUTF8(text[:longText], "")), len(text))
}

// kindOf returns the word for the kind of an object.
func kindOf(o hdf5.Object) string {
	switch o.(type) {
	case *hdf5.Group:
		return "group"
	case *hdf5.Dataset:
		return "dataset"
	}
	return "datatype"
}
