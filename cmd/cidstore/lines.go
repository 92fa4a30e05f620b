package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"unicode/utf8"
)

// maxLine is the longest line that is read, and the longest record of CSV, in bytes
// without the end of the line. A longer line is skipped and not kept in memory.
const maxLine = 1 << 20

// errLongLine says that a line has more than maxLine bytes. The next call goes on
// after it.
var errLongLine = errors.New("line is longer than 1 MiB")

// lineReader reads lines that end in LF or CRLF; the last may have no end.
type lineReader struct {
	in     *bufio.Reader
	utf16  bool // before it was decoded
	line   []byte
	number int64 // of the line that next returned last, from 1
	quoted bool  // a line that was skipped had a quote
	tally  tally
}

func newLineReader(in io.Reader) (*lineReader, error) {
	text, utf16, err := openText(in)
	if err != nil {
		return nil, err
	}
	return &lineReader{in: text, utf16: utf16}, nil
}

// peek returns the next line or its first 64 KiB. It waits until that much is there.
func (r *lineReader) peek() []byte {
	for n := 1; ; n = r.in.Buffered() + 1 {
		// It ignores errors: next meets them again.
		_, err := r.in.Peek(n)
		text, _ := r.in.Peek(r.in.Buffered())
		line, _, whole := bytes.Cut(text, []byte{'\n'})
		if whole || err != nil {
			return bytes.TrimPrefix(bytes.TrimSuffix(line, []byte{'\r'}), []byte(byteOrderMark))
		}
	}
}

// next returns the next line without its end, valid until the following call. The
// error is io.EOF after the last line, errLongLine for a line that was skipped, and
// otherwise that of the input: a line that it cuts off does not count.
func (r *lineReader) next() ([]byte, error) {
	r.line = r.line[:0]
	long := false
	r.quoted = false
	for {
		part, err := r.in.ReadSlice('\n')
		r.quoted = r.quoted || bytes.IndexByte(part, '"') >= 0
		if len(r.line)+len(part) > maxLine+len("\r\n") {
			long = true
			r.line = r.line[:0]
		}
		if !long {
			r.line = append(r.line, part...)
		}
		switch {
		case err == bufio.ErrBufferFull:
			continue
		case err == io.EOF && len(withoutMarks(r.line)) == 0 && !long:
			return nil, io.EOF // also after a mark of an empty file
		case err != nil && err != io.EOF:
			return nil, err
		}
		break
	}
	r.number++
	line := bytes.TrimSuffix(bytes.TrimSuffix(r.line, []byte{'\n'}), []byte{'\r'})
	if long || len(line) > maxLine {
		return nil, errLongLine
	}
	return line, nil
}

// check returns why a line is not text, and counts the line, to find out the
// encoding.
func (r *lineReader) check(line []byte) error {
	err := checkText(line)
	if err == nil && r.utf16 && bytes.ContainsRune(line, utf8.RuneError) {
		err = errNotUTF16
	}
	r.tally.add(r.number, line, err)
	return err
}

// withoutMarks returns the line without byte order marks at its start. Joined files may
// have marks in the middle.
func withoutMarks(line []byte) []byte {
	for bytes.HasPrefix(line, []byte(byteOrderMark)) {
		line = line[len(byteOrderMark):]
	}
	return line
}
