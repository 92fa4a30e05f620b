package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
)

// maxLine is the longest line that is read, in bytes without its end. A longer
// one is passed over without being kept in memory.
const maxLine = 1 << 20

// errLongLine is the answer to a line of more than maxLine bytes; the next call
// goes on behind it.
var errLongLine = errors.New("line is longer than 1 MiB")

var (
	gzipMagic     = []byte{0x1f, 0x8b}
	byteOrderMark = []byte("\xef\xbb\xbf")
)

// lineReader reads lines that end in LF or CRLF, the last one perhaps in nothing.
// Input that begins with the magic bytes of gzip is unpacked; a byte order mark
// at the start of the text is dropped.
type lineReader struct {
	in     *bufio.Reader
	line   []byte
	number int64 // of the line that next returned last, from 1
}

func newLineReader(in io.Reader) (*lineReader, error) {
	buffered := bufio.NewReaderSize(in, 64<<10)
	magic, err := buffered.Peek(len(gzipMagic))
	if err != nil && err != io.EOF {
		return nil, err
	}
	if bytes.Equal(magic, gzipMagic) {
		unpacked, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, err
		}
		buffered = bufio.NewReaderSize(unpacked, 64<<10)
	}
	mark, err := buffered.Peek(len(byteOrderMark))
	if err != nil && err != io.EOF {
		return nil, err
	}
	if bytes.Equal(mark, byteOrderMark) {
		if _, err := buffered.Discard(len(byteOrderMark)); err != nil {
			return nil, err
		}
	}
	return &lineReader{in: buffered}, nil
}

// peek returns what of the next line is in sight, at most 64 KiB.
func (r *lineReader) peek() []byte {
	// Errors are left for next, which meets them again.
	_, _ = r.in.Peek(1)
	text, _ := r.in.Peek(r.in.Buffered())
	line, _, _ := bytes.Cut(text, []byte{'\n'})
	return line
}

// next returns the next line without its end, valid until the following call. The
// error is io.EOF after the last line, errLongLine for a line passed over, and
// else that of the input: what came before it on the same line is not a line.
func (r *lineReader) next() ([]byte, error) {
	r.line = r.line[:0]
	long := false
	for {
		part, err := r.in.ReadSlice('\n')
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
		case err == io.EOF && len(part) == 0 && len(r.line) == 0 && !long:
			return nil, io.EOF
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
