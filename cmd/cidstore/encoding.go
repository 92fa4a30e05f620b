package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"golang.org/x/text/encoding/unicode"
)

const byteOrderMark = "\ufeff"

// These are the reasons why a text cannot be stored.
var (
	errNotUTF8  = errors.New("not valid UTF-8")
	errNotUTF16 = errors.New("not valid UTF-16, or has U+FFFD")
	errNUL      = errors.New("it has a NUL byte")
	errCR       = errors.New("it has a carriage return without a line feed")
	errMark     = errors.New("it has a byte order mark that is not at its start")
)

// checkText returns why a text, of import or of an argument, is refused.
func checkText(text []byte) error {
	if bytes.IndexByte(text, 0) >= 0 {
		return errNUL
	}
	if !utf8.Valid(text) {
		return errNotUTF8
	}
	if bytes.Contains(text, []byte(byteOrderMark)) || bytes.ContainsRune(text, '\ufffe') {
		return errMark // U+FFFE is the mark in the other byte order
	}
	if bytes.Count(text, []byte("\r")) != bytes.Count(text, []byte("\r\n")) {
		return errCR
	}
	return nil
}

// openText returns the text of an input, unpacked and as UTF-8. utf16 reports whether
// it was UTF-16. Binary input is refused if its first buffered bytes show it.
func openText(in io.Reader) (text *bufio.Reader, utf16 bool, err error) {
	text, err = unpack(bufio.NewReaderSize(in, 64<<10))
	if err != nil {
		return nil, false, err
	}
	if begins(text, "\xff\xfe\x00\x00") || begins(text, "\x00\x00\xfe\xff") {
		return nil, false, inputError{"it is UTF-32; convert it, for example by iconv -f UTF-32 -t UTF-8"}
	}
	if begins(text, "\xff\xfe") || begins(text, "\xfe\xff") {
		utf16 = true
		decoder := unicode.UTF16(unicode.LittleEndian, unicode.ExpectBOM).NewDecoder()
		text = bufio.NewReaderSize(decoder.Reader(text), 64<<10)
	}
	_, _ = text.Peek(1) // the next read meets an error again
	head, _ := text.Peek(text.Buffered())
	if at := bytes.IndexByte(head, 0); at >= 0 {
		return nil, utf16, inputError{fmt.Sprintf("byte %d of the text is NUL: it is a binary file, or UTF-16 without a byte order mark", at)}
	}
	if at := bytes.IndexByte(head, '\r'); at >= 0 && at+1 < len(head) && bytes.IndexByte(head, '\n') < 0 {
		return nil, utf16, inputError{`its lines end in CR alone; convert it, for example by tr '\r' '\n'`}
	}
	return text, utf16, nil
}

// tally counts the lines that show the encoding. Lines in ASCII do not show it.
type tally struct {
	firstForeign int64 // number of the first line that is not UTF-8
	foreign      int64
	utf8         int64 // lines with a character that is not ASCII
}

func (t *tally) add(number int64, line []byte, err error) {
	switch {
	case err == errNotUTF8 || err == errNUL || err == errNotUTF16:
		if t.foreign++; t.foreign == 1 {
			t.firstForeign = number
		}
	case utf8.RuneCount(line) < len(line):
		t.utf8++
	}
}

// judge returns an error if the lines are in another encoding. If most of the lines
// that are not ASCII are UTF-8, the others count as damaged lines.
func (t *tally) judge() error {
	if t.foreign <= t.utf8 {
		return nil
	}
	more := ""
	if t.foreign > 1 {
		more = fmt.Sprintf(", nor are %d more of the first lines", t.foreign-1)
	}
	return inputError{fmt.Sprintf("line %d is not UTF-8%s: it is binary, or in another encoding; convert it, for example by iconv -f LATIN1 -t UTF-8",
		t.firstForeign, more)}
}
