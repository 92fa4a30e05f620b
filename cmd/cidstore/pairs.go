package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"syscall"

	"github.com/cidstore/cidstore"
)

const (
	// batchPairs pairs are applied, and so become durable, together.
	batchPairs = 4096
	// batchLines bounds the lines behind one batch where few of them are pairs.
	batchLines = 16 * batchPairs
	// keptRejects of the rejected lines of one import are remembered for printing.
	keptRejects = 10
)

// stdinName stands for standard input among the files.
const stdinName = "-"

// reject is a line that is no pair.
type reject struct {
	File   string `json:"file"`
	Line   int64  `json:"line"`
	Reason string `json:"reason"`
}

// portion is the pairs of some lines of one file.
type portion struct {
	pairs    cidstore.Batch
	file     string
	lastLine int64
	rejected int64
	rejects  []reject // the first keptRejects of them
	bytes    int64    // of all files, packed as they are, read so far
	err      error    // the input failed here; no portion follows
}

// pairReader reads the files of an import one after another.
type pairReader struct {
	files   []string
	stdin   io.Reader
	columns columns
	read    atomic.Int64 // bytes of the files
	out     chan portion
}

// checkInputs finds files that are not there before anything is done, and returns
// the bytes of all, -1 where some file's size is not known in advance.
func checkInputs(files []string) (total int64, err error) {
	for _, name := range files {
		if name == stdinName {
			total = -1
			continue
		}
		info, err := os.Stat(name)
		switch {
		case err != nil:
			return 0, fmt.Errorf("import: %w", err)
		case info.IsDir():
			return 0, fmt.Errorf("import: %w", &os.PathError{Op: "read", Path: name, Err: syscall.EISDIR})
		case !info.Mode().IsRegular():
			total = -1
		case total >= 0:
			total += info.Size()
		}
	}
	return total, nil
}

// run reads all files and closes out at the end, at the first failure, or when
// ctx ends.
func (r *pairReader) run(ctx context.Context) {
	defer close(r.out)
	for _, name := range r.files {
		if err := r.readFile(ctx, name); err != nil {
			r.send(ctx, &portion{file: name, err: err})
			return
		}
	}
}

// send hands a portion over. It returns the context's error if nobody takes it.
func (r *pairReader) send(ctx context.Context, p *portion) error {
	p.bytes = r.read.Load()
	select {
	case r.out <- *p:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (r *pairReader) readFile(ctx context.Context, name string) error {
	in := r.stdin
	if name != stdinName {
		file, err := os.Open(name)
		if err != nil {
			return err
		}
		defer file.Close()
		in = file
	}
	lines, err := newLineReader(countingReader{in, &r.read})
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	fields := splitter{by: separatorOf(name, lines.peek())}
	for {
		p, readErr := r.readPortion(name, lines, &fields)
		if err := r.send(ctx, p); err != nil || readErr == io.EOF {
			return err
		}
		if readErr != nil {
			return fmt.Errorf("%s, line %d: %w", name, lines.number+1, readErr)
		}
	}
}

// readPortion reads lines until there are enough for a batch. With an error the
// portion has what came before it.
func (r *pairReader) readPortion(name string, lines *lineReader, fields *splitter) (*portion, error) {
	p := &portion{file: name, lastLine: lines.number}
	first := lines.number
	for p.pairs.Len() < batchPairs && lines.number-first < batchLines {
		line, err := lines.next()
		if err != nil && err != errLongLine {
			return p, err
		}
		p.lastLine = lines.number
		if err == nil {
			err = r.addPair(&p.pairs, fields, line)
		}
		if err != nil {
			p.rejected++
			if len(p.rejects) < keptRejects {
				p.rejects = append(p.rejects, reject{name, lines.number, err.Error()})
			}
		}
	}
	return p, nil
}

func (r *pairReader) addPair(b *cidstore.Batch, fields *splitter, line []byte) error {
	split, err := fields.split(line)
	if err != nil {
		return err
	}
	key, value, err := r.columns.pair(split)
	if err != nil {
		return err
	}
	b.Insert(identifier(string(key)), identifier(string(value)))
	return nil
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
