package hdf5

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// These variables say, for errors.Is, what an error of this package means. An error that
// matches none of them came from reading the file.
var (
	// ErrNotHDF5 says that there is no HDF5 signature where one may be.
	ErrNotHDF5 = errors.New("not an HDF5 file")
	// ErrCorrupt says that there are bytes that no HDF5 writer leaves there.
	ErrCorrupt = errors.New("corrupt")
	// ErrUnsupported says that something is valid, but this package cannot read it.
	ErrUnsupported = errors.New("unsupported")
	// ErrLimit says that something, perhaps valid, is over a limit of Options or of this
	// package.
	ErrLimit = errors.New("over a limit")
	// ErrNotFound says that there is no such link, attribute or member.
	ErrNotFound = errors.New("not found")
	// ErrWrongType says that the data are not of the type that the caller asked for.
	ErrWrongType = errors.New("wrong type")
)

// Error says what is wrong with which structure of which object, and where.
type Error struct {
	Object    string // path of the object, and its attribute; "" when no object was reached
	Structure string // the HDF5 structure: "object header", "chunk"
	Offset    int64  // in the file, of the structure or its wrong byte; negative if there is no single place
	Kind      error  // one of the Err variables; nil if the file could not be read
	Cause     error  // what was found, and what was wanted
}

// Error returns one line: object, structure, offset, kind, cause. Names in it have Go's
// escapes for what is not printable, and lose their middle if they are long.
func (e *Error) Error() string {
	var text strings.Builder
	text.WriteString("hdf5: ")
	if e.Object != "" {
		text.WriteString(oneLine(e.Object) + ": ")
	}
	text.WriteString(e.Structure)
	if e.Offset >= 0 {
		fmt.Fprintf(&text, " at %#x", e.Offset)
	}
	text.WriteString(": ")
	if e.Kind != nil {
		text.WriteString(e.Kind.Error() + ": ")
	}
	text.WriteString(oneLine(e.Cause.Error()))
	return text.String()
}

const longText = 500 // bytes: a longer text in an error is cut

// oneLine returns a text of one line that is not too long.
func oneLine(text string) string {
	if len(text) > longText {
		head, tail := text[:longText/2], text[len(text)-longText/4:]
		text = fmt.Sprintf("%s … (%d bytes) … %s", strings.ToValidUTF8(head, ""), len(text)-len(head)-len(tail), strings.ToValidUTF8(tail, ""))
	}
	var line strings.Builder
	for i, size := 0, 0; i < len(text); i += size {
		var r rune
		r, size = utf8.DecodeRuneInString(text[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&line, "\\x%02x", text[i])
		case unicode.IsPrint(r):
			line.WriteRune(r)
		default:
			line.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return line.String()
}

// Unwrap returns the kind and the cause.
func (e *Error) Unwrap() []error {
	if e.Kind == nil {
		return []error{e.Cause}
	}
	return []error{e.Kind, e.Cause}
}

// fault returns an *Error without an object.
func fault(kind error, structure string, offset int64, format string, args ...any) error {
	return &Error{Structure: structure, Offset: offset, Kind: kind, Cause: fmt.Errorf(format, args...)}
}

// within adds to an error the object that it belongs to, unless it has one already.
func within(path string, err error) error {
	var e *Error
	if !errors.As(err, &e) || e.Object != "" {
		return err
	}
	named := *e
	named.Object = path
	return &named
}
