package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"syscall"

	"github.com/cidstore/cidstore"
	"github.com/cidstore/cidstore/keys"
)

// errHeaderJSON refuses --header for JSON, whose lines name their fields themselves.
var errHeaderJSON = usageError{errors.New("--header: JSON lines have no header")}

// pairReader reads the files of an import one after another.
type pairReader struct {
	files     []string
	store     string // which must not be one of them
	table     tableFlags
	stdin     io.Reader
	columns   columns
	header    bool // skip the first record of each file
	strict    bool // end at the first rejected record
	strictIDs bool // reject what is not an identifier
	keepTexts bool // of all rejected records

	read atomic.Int64 // bytes of the files
	to   *intake
}

// check looks for what is wrong with any of the files before anything is done. It
// returns the size of all files together, or -1 if one of them has no known size.
func (r *pairReader) check() (total int64, err error) {
	for _, name := range r.files {
		if name == standard {
			if r.table.dataset != "" {
				return 0, usageError{errors.New("--dataset: an HDF5 file cannot be read from standard input")}
			}
			total = -1
			continue
		}
		info, err := os.Stat(name)
		switch {
		case err != nil:
			return 0, err
		case info.IsDir():
			return 0, &os.PathError{Op: "read", Path: name, Err: syscall.EISDIR}
		case !info.Mode().IsRegular():
			total = -1
			continue
		case total >= 0:
			total += info.Size()
		}
		if err := r.probe(name); err != nil {
			return 0, err
		}
	}
	return total, nil
}

// probe reads the start of a regular file to find out whether it is text at all. It
// ignores other failures: reading the file meets them again.
func (r *pairReader) probe(name string) error {
	if r.table.dataset != "" {
		return r.probeTable(name)
	}
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	in, err := r.open(name, file)
	if errors.Is(err, inputError{refusedHDF5}) {
		err = fmt.Errorf("%s: %w", name, hdf5Refusal(name))
	}
	if err != nil {
		return err
	}
	for n := 0; n < batchPairs; n++ {
		_, err := in.next()
		if why, rejected := err.(rejection); err != nil && (!rejected || why.last) {
			break
		}
	}
	if err := in.encoding.judge(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func (r *pairReader) open(name string, file io.Reader) (*input, error) {
	in, err := openInput(name, file)
	if err == nil && r.header && in.how == jsonLines {
		err = errHeaderJSON
	}
	return in, err
}

// run reads the files until one fails or until nobody takes what it reads.
func (r *pairReader) run() {
	name, err := "", error(nil)
	read := r.readFile
	if r.table.dataset != "" {
		read = r.readTable
	}
	for _, name = range r.files {
		if err = read(name); err != nil {
			break
		}
	}
	r.to.update(name, func(p *portion) { p.whole, p.last, p.err = true, true, err })
}

// errNotTaken ends the reading; nobody sees it.
var errNotTaken = errors.New("nobody takes what is read")

func (r *pairReader) readFile(name string) error {
	file := r.stdin
	if name != standard {
		opened, err := os.Open(name)
		if err != nil {
			return err
		}
		defer opened.Close()
		file = opened
	}
	in, err := r.open(name, countingReader{file, &r.read})
	if err != nil {
		return err
	}
	for number := int64(1); ; number++ {
		fields, err := in.next()
		why, rejected := err.(rejection)
		switch {
		case err == io.EOF:
			return r.add(name, func(p *portion) { p.whole, p.lastLine = true, in.end() })
		case err != nil && !rejected:
			return fmt.Errorf("%s, line %d: %w", name, in.end()+1, err)
		case number == 1 && r.header && !why.last:
			continue
		}
		if err := r.addRecord(in, number, fields, why); err != nil {
			return err
		}
	}
}

// add changes the portion under way.
func (r *pairReader) add(name string, change func(*portion)) error {
	taken := r.to.update(name, func(p *portion) {
		p.bytes = r.read.Load()
		change(p)
	})
	if !taken {
		return errNotTaken
	}
	return nil
}

// addRecord adds the pair of a record to the portion under way, or the reason why it
// has none. The error ends the import.
func (r *pairReader) addRecord(in *input, number int64, fields []string, why rejection) error {
	var key, value string
	if why.error == nil {
		key, value, why.error = r.columns.pair(fields)
	}
	var pair [2]cidstore.E
	if why.error == nil {
		pair, why.error = r.identifiers(key, value)
	}
	at := reject{File: in.name, Line: in.start()}
	err := r.add(in.name, func(p *portion) {
		p.records++
		p.lastLine = in.end()
		if number <= batchPairs {
			seen := *in.encoding
			p.encoding = &seen
		}
		if why.error != nil {
			at.Reason = why.Error()
			if number <= 2 && errors.Is(why.error, errNoColumn) { // the first may be a header
				at.Reason += otherColumns(in.how, fields)
			}
			r.addReject(p, at, in.text)
			return
		}
		p.pairs.Insert(pair[0], pair[1])
		p.warn(at, key, value)
		p.header = p.header || number == 1 && r.columns.header(fields)
	})
	if err == nil && why.error != nil && (why.last || r.strict) {
		return inputError{at.place() + ": " + why.Error()}
	}
	return err
}

// addReject counts a rejected record. It calls recordText only if texts are kept.
func (r *pairReader) addReject(p *portion, at reject, recordText func() string) {
	p.rejected++
	switch {
	case r.keepTexts:
		text := recordText()
		p.rejects = append(p.rejects, rejectedText{at, text})
		p.textBytes += len(text)
	case len(p.rejects) < keptRejects:
		p.rejects = append(p.rejects, rejectedText{reject: at})
	}
}

// warn counts the names that look like mistyped identifiers.
func (p *portion) warn(at reject, texts ...string) {
	for _, text := range texts {
		if !keys.Resembles(text) {
			continue
		}
		if p.warned++; len(p.warnings) < keptRejects {
			at.Reason = mistyped(text)
			p.warnings = append(p.warnings, at)
		}
	}
}

// mistyped is the warning of a name that keys.Resembles finds.
func mistyped(text string) string {
	return fmt.Sprintf("%q looks like a mistyped identifier and is taken as a name", text)
}

// identifiers returns the identifiers of the two texts of a pair.
func (r *pairReader) identifiers(texts ...string) (pair [2]cidstore.E, err error) {
	for n, text := range texts {
		if pair[n] = cidstore.ParseKey(text); r.strictIDs {
			if _, err := cidstore.Parse(text); err != nil {
				return pair, err
			}
		}
	}
	return pair, nil
}

// countingReader counts the bytes that pass.
type countingReader struct {
	in io.Reader
	n  *atomic.Int64
}

func (c countingReader) Read(p []byte) (int, error) {
	n, err := c.in.Read(p)
	c.n.Add(int64(n))
	return n, err
}
