package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

var errLongString = errors.New("a string is longer than 1 MiB, or is not closed")

// jsonRecords reads what export --json and get --json print: objects {"key": …,
// "values": [ … ]}. Each value with its key is a record of two fields. It does not
// hold a set in memory, which may have millions of values. It skips other fields.
type jsonRecords struct {
	in      *jsonInput
	tokens  *json.Decoder
	tally   *tally
	inside  bool // of an object
	values  bool // of its values
	hasKey  bool
	hadList bool
	fields  [2]string
	first   int64
}

func newJSONRecords(lines *lineReader) *jsonRecords {
	in := &jsonInput{in: lines.in}
	return &jsonRecords{in: in, tokens: json.NewDecoder(in), tally: &lines.tally}
}

func (j *jsonRecords) start() int64 { return j.first }
func (j *jsonRecords) end() int64   { return j.first }
func (j *jsonRecords) text() string { return strings.Join(j.fields[:], "\t") }

func (j *jsonRecords) next() ([]string, error) {
	for {
		token, err := j.token()
		switch {
		case err != nil:
			return nil, err
		case j.values && token == json.Delim(']'):
			j.values = false
		case j.values:
			return j.value(token)
		case !j.inside && token == json.Delim('{'):
			j.inside, j.hasKey, j.hadList, j.fields = true, false, false, [2]string{}
		case !j.inside:
			return nil, j.wrong("want one object per line")
		case token == json.Delim('}'):
			if j.inside = false; !j.hasKey || !j.hadList {
				return nil, j.wrong(`want "key" and "values" in each object`)
			}
		default:
			if err := j.field(token); err != nil {
				return nil, err
			}
		}
	}
}

// token reads the next token and notes its place.
func (j *jsonRecords) token() (json.Token, error) {
	j.in.recent = 0
	token, err := j.tokens.Token()
	j.first = j.in.lineAt(j.tokens.InputOffset())
	var wrong *json.SyntaxError
	switch {
	case err == io.EOF && j.inside:
		err = io.ErrUnexpectedEOF
	case errors.As(err, &wrong), errors.Is(err, errLongString):
		err = j.wrong(err.Error())
	}
	return token, err
}

// wrong returns the rejection of text after which nothing can be read.
func (j *jsonRecords) wrong(format string, args ...any) error {
	return rejection{error: fmt.Errorf("not the JSON that export prints: "+format, args...), last: true}
}

// value returns the record of one value.
func (j *jsonRecords) value(token json.Token) ([]string, error) {
	value, ok := token.(string)
	if !ok {
		return nil, j.wrong("a value is %v, want a string", token)
	}
	j.fields[1] = value
	for _, field := range j.fields {
		// The decoder puts U+FFFD in place of bytes that are not UTF-8 and of half surrogates.
		err := checkText([]byte(field))
		if err == nil && strings.ContainsRune(field, utf8.RuneError) {
			err = errNotUTF8
		}
		j.tally.add(j.first, []byte(field), err)
		if err != nil {
			return nil, rejection{error: err}
		}
	}
	return j.fields[:], nil
}

// field reads the name of a field, and skips the value of one that is not wanted.
func (j *jsonRecords) field(name json.Token) error {
	token, err := j.token()
	if err != nil {
		return err
	}
	switch name {
	case "key":
		key, ok := token.(string)
		if !ok || j.hasKey {
			return j.wrong(`want one "key", as a string`)
		}
		j.fields[0], j.hasKey = key, true
	case "values":
		if token != json.Delim('[') || !j.hasKey {
			return j.wrong(`want "values" after "key", as an array`)
		}
		j.values, j.hadList = true, true
	default:
		return j.skip(token)
	}
	return nil
}

// skip skips the rest of a value, after its first token.
func (j *jsonRecords) skip(token json.Token) error {
	for depth := 0; ; {
		switch token {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth == 0 {
			return nil
		}
		var err error
		if token, err = j.token(); err != nil {
			return err
		}
	}
}

// jsonInput limits what the decoder keeps for one token, and counts its lines.
type jsonInput struct {
	in     *bufio.Reader
	offset int64
	ends   []int64 // offsets of line ends that the decoder has not passed
	line   int64   // lines that it has passed
	recent int     // bytes read for the token under way
	marks  bool    // byte order marks at the start have been dropped
}

func (j *jsonInput) Read(p []byte) (int, error) {
	if j.recent > maxLine {
		return 0, errLongString
	}
	for !j.marks && begins(j.in, byteOrderMark) {
		if _, err := j.in.Discard(len(byteOrderMark)); err != nil {
			return 0, err
		}
	}
	j.marks = true
	n, err := j.in.Read(p)
	for at := 0; ; at++ {
		next := bytes.IndexByte(p[at:n], '\n')
		if next < 0 {
			break
		}
		at += next
		j.ends = append(j.ends, j.offset+int64(at))
	}
	j.offset += int64(n)
	j.recent += n
	return n, err
}

// lineAt returns the number, from 1, of the line with the byte before offset.
func (j *jsonInput) lineAt(offset int64) int64 {
	for len(j.ends) > 0 && j.ends[0] < offset {
		j.ends = j.ends[1:]
		j.line++
	}
	return j.line + 1
}
