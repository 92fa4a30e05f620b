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

// shown returns a text as it is if it can be printed, and with Go's quotes and escapes
// otherwise: a file must not control the terminal. A text that begins with a quote is
// quoted too.
func shown(text string) string {
	if strings.HasPrefix(text, `"`) || visible(text) != text {
		return strconv.Quote(text)
	}
	return text
}

// visible returns a text with Go's escapes for what cannot be printed.
func visible(text string) string {
	var out strings.Builder
	for len(text) > 0 {
		r, n := utf8.DecodeRuneInString(text)
		part := text[:n]
		if !strconv.IsPrint(r) || r == utf8.RuneError && n == 1 {
			part = strings.Trim(strconv.Quote(part), `"`)
		}
		out.WriteString(part)
		text = text[n:]
	}
	return out.String()
}

// cutText returns what shown does, cut if the text is long.
func cutText(text string) string {
	if len(text) <= longText {
		return shown(text)
	}
	return shown(firstOf(text)) + bytesOf(text)
}

// cutJSON returns JSON that can be printed, cut if it is long.
func cutJSON(text string) string {
	if len(text) <= longText {
		return text
	}
	return firstOf(text) + bytesOf(text)
}

func firstOf(text string) string { return strings.ToValidUTF8(text[:longText], "") }

func bytesOf(text string) string { return fmt.Sprintf("… (%d bytes)", len(text)) }

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
