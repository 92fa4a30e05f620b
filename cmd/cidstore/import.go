package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/cidstore/cidstore"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// patience is the longest time that a pair waits for more pairs of its batch.
const patience = time.Second

// importer is one run of the command, and what it has done so far.
type importer struct {
	*program
	reader      pairReader
	rejectsPath string
	patience    time.Duration

	queue     *intake     // nil before the reading begins
	rejectsTo *rejectFile // or nil
	pairs     uint64      // read and durable
	rejected  uint64
	rejects   []reject
	warned    uint64
	warnings  []reject
	headers   []string // files that seem to have one
}

func (p *program) importCommand() *cobra.Command {
	i := &importer{program: p, patience: patience, rejects: []reject{},
		reader: pairReader{stdin: p.in}}
	c := &cobra.Command{
		Use:   "import STORE FILE...",
		Short: "Add the pairs of TSV, CSV or JSON files, or of a table in HDF5 files",
		Long:  importHelp,
		Args:  arguments(2, many),
		RunE: func(c *cobra.Command, args []string) error {
			if err := cmp.Or(i.reader.columns.check(), i.reader.table.check(c)); err != nil {
				return err
			}
			return i.run(args[0], args[1:])
		},
	}
	i.reader.table.add(c)
	c.Flags().IntSliceVar((*[]int)(&i.reader.columns), "columns", []int{1, 2}, "numbers `A,B` of the columns of key and value, from 1")
	c.Flags().BoolVar(&i.reader.header, "header", false, "skip the first record of each file")
	c.Flags().BoolVar(&i.reader.strict, "strict", false, "end at the first rejected record, with exit code 5; what comes before it is stored")
	c.Flags().BoolVar(&i.reader.strictIDs, "strict-ids", false, "reject a key or value that is not an identifier, instead of taking it as a name")
	c.Flags().StringVar(&i.rejectsPath, "rejects", "", "`file` to write all rejected records to as JSON, with line and reason")
	c.Flags().BoolVar(&i.progressJSON, "progress-json", false, "after each durable batch, write a JSON object {file, line, pairs} to standard error; for a table, line is the number of rows")
	return c
}

var importHelp = fmt.Sprintf(`Import adds a pair for each record of the files. The key is in the first column and the
value in the second, unless --columns says otherwise. Other columns are ignored. "-" is
standard input.

Format: the name of a file says its format if it ends in .csv, .tsv, .json, .jsonl or
.ndjson (before .gz or .zst). For any other input the first line decides: it is JSON if
the line begins with {"key":, CSV if it has a comma and no tab, and TSV otherwise.
  TSV   Each line is a record; there is no quoting.
  CSV   RFC 4180: a quoted field may contain commas, line ends, and "" for a quote. A
        quote elsewhere, even after a space, is wrong. After a wrong quote it is not
        known where the next record begins: the import ends there, with exit code 5.
  JSON  What export --json prints: {"key": "...", "values": ["...", ...]}. Other
        JSON ends the import, with exit code 5.

Packing: gzip and zstd are unpacked, whatever the name is. Zeros after gzip data count
as padding.
Text: UTF-8, or UTF-16 with a byte order mark. A mark at the start of a line is dropped.
Lines end in LF or CRLF. Any other packing or encoding, binary files, and files whose
lines end in CR alone are refused, with one sentence and exit code 5. Nothing of such a
file is stored.

Tables: with --dataset the files are HDF5 files, and each row of that dataset is a pair.
The rows are records, whose columns --key and --value name, or rows of integers, whose
columns are numbered from 1. If two columns are given, the first has the high words and
the second the low words. A single column of integers has the low words; a single column
of text has identifiers or names. Floating-point numbers and integers of more than 64
bits are refused. A row with a negative number is rejected. Rows are numbered from 0.
  cidstore import STORE OUT.h5 --dataset /pairs --key key_high,key_low --value value_high,value_low

A key or value is an identifier or a name, as cidstore help says. A name that looks like
a mistyped identifier is stored, with a warning; --strict-ids rejects it, and every
other name.

A record is rejected, and the import goes on with the next, in these cases: it is blank;
it has too few columns; its key or value is empty; it has a NUL, a CR without LF, a byte
order mark elsewhere, or bytes that are not UTF-8; or it is longer than %d bytes (in
CSV that ends the import if the record has a quote). The first %d rejected records are
printed; --rejects FILE has all of them.

Exit codes: 0 everything was read, though some records may have been rejected; 1 there
were records, and all were rejected; 2 wrong usage; 5 the input, the disk or --strict
ended the import early; 129, 130 and 143 SIGHUP, SIGINT and SIGTERM ended it. The pairs that were
read completely before the end are stored, and the message says how many they are.

Pairs are stored in batches of %d, or after a second. Each batch is durable as a whole
before the next. After a kill or a failure the same import can be run again: no pair is
stored twice.`, maxLine, keptRejects, batchPairs)

func (i *importer) run(path string, files []string) error {
	i.reader.files, i.reader.store = files, path
	total, err := i.reader.check()
	if isA[inputError](err) {
		return partialError{fmt.Errorf("import: %w", err), 0}
	}
	if err != nil {
		return fmt.Errorf("import: %w", err)
	}
	if i.rejectsPath == "" {
		return i.into(path, total)
	}
	i.reader.keepTexts = true
	if i.rejectsTo, err = createRejects(i.ctx, i.rejectsPath, append([]string{path}, files...)); err != nil {
		return fmt.Errorf("import: %w", err)
	}
	err = i.into(path, total)
	// A failure of the store matters more.
	if closeErr := i.rejectsTo.close(); closeErr != nil && (err == nil || err == errNegative) {
		return closeErr
	}
	return err
}

// into reads the files into the store at path. It makes no store for files that it refuses
// before there is a pair.
func (i *importer) into(path string, total int64) error {
	var first *portion
	if wouldMake(path) {
		i.noteTerminal()
		i.start()
		defer i.queue.stop()
		var err error
		if first, err = i.first(); err != nil {
			i.noteRejects()
			return partialError{err, 0}
		}
	}
	opened := false
	err := i.withStore(path, making, func(s *cidstore.Store) error {
		opened = true
		return i.fill(s, first, total)
	})
	if _, counted := err.(partialError); err != nil && err != errNegative && opened && !counted {
		err = partialError{err, i.pairs} // Close failed
	}
	return err
}

// wouldMake reports whether there is no store at path, but one can be made there, as far
// as can be seen.
func wouldMake(path string) bool {
	info, err := os.Stat(path)
	if err == nil {
		return info.Mode().IsRegular() && info.Size() == 0
	}
	folder, folderErr := os.Stat(filepath.Dir(path))
	return errors.Is(err, fs.ErrNotExist) && folderErr == nil && folder.IsDir()
}

// start begins to read the files.
func (i *importer) start() {
	i.queue = newIntake()
	i.reader.to = i.queue
	go i.reader.run()
}

// first returns the first portion that has a pair, or else the last one. The error is why
// the files were refused before that, or the signal that ended the reading.
func (i *importer) first() (*portion, error) {
	for {
		p, err := i.next()
		if err != nil {
			return nil, err
		}
		if err := p.judge(); err != nil {
			return nil, fmt.Errorf("import: %w", err)
		}
		if p.pairs.Len() > 0 || p.last && p.err == nil {
			return p, nil
		}
		if err := i.keep(p); err != nil {
			return nil, fmt.Errorf("import: %w", err)
		}
		if p.last && i.ctx.Err() == nil {
			return nil, fmt.Errorf("import: %w", p.err)
		}
	}
}

// next returns the next portion, when it is complete or old enough. A signal ends the
// reading, even while it waits for input; then next returns what was read completely, and
// after that the cause.
func (i *importer) next() (*portion, error) {
	look := time.NewTicker(i.patience / 4)
	defer look.Stop()
	for {
		age, stopped := i.patience*3/4, i.ctx.Err() != nil
		if stopped {
			i.queue.stop()
			age = 0
		}
		if p := i.queue.take(age); p != nil {
			return p, nil
		}
		if stopped {
			return nil, i.interrupted()
		}
		select {
		case <-i.ctx.Done():
		case <-i.queue.changed:
		case <-look.C:
		}
	}
}

// fill stores the portion first, if there is one, and all that follow.
func (i *importer) fill(s *cidstore.Store, first *portion, total int64) error {
	_, before, err := s.Len(i.ctx)
	if err != nil {
		return err
	}
	if first == nil {
		i.noteTerminal()
		i.start()
	}
	err = i.load(s, first, total)
	i.noteRejects()
	var after uint64
	if err == nil {
		_, after, err = s.Len(i.ctx)
	}
	if errors.Is(err, context.Canceled) {
		err = i.interrupted()
	}
	if err != nil {
		return partialError{err, i.pairs}
	}
	return i.report(after - before)
}

// load applies p, unless it is nil, and then the portions that the reader hands over.
// While it does, the reader reads and hashes the next ones.
func (i *importer) load(s *cidstore.Store, p *portion, totalBytes int64) (err error) {
	defer i.queue.stop()
	shown := i.progress("import")
	shown.begin(totalBytes)
	defer shown.finish()
	for ; ; p = nil {
		if p == nil {
			if p, err = i.next(); err != nil {
				return err
			}
		}
		if err := i.store(s, p); err != nil {
			return fmt.Errorf("import: %w", err)
		}
		if p.records > 0 || p.err == nil && !p.last {
			shown.stored(p, i.pairs, totalBytes)
		}
		switch {
		case p.last && p.err != nil && i.ctx.Err() == nil:
			return fmt.Errorf("import: %w", p.err)
		case p.last && p.err == nil:
			return nil
		}
	}
}

// store makes a portion durable.
func (i *importer) store(s *cidstore.Store, p *portion) error {
	if err := p.judge(); err != nil {
		return err
	}
	if err := s.Apply(&p.pairs); err != nil {
		return err
	}
	i.pairs += uint64(p.pairs.Len())
	return i.keep(p)
}

// keep remembers what there is to report about a portion.
func (i *importer) keep(p *portion) error {
	i.rejected += uint64(p.rejected)
	for _, r := range p.rejects[:min(len(p.rejects), keptRejects-len(i.rejects))] {
		i.rejects = append(i.rejects, r.reject)
	}
	i.warned += uint64(p.warned)
	i.warnings = append(i.warnings, p.warnings[:min(len(p.warnings), keptRejects-len(i.warnings))]...)
	if p.header && len(i.headers) < keptRejects {
		i.headers = append(i.headers, p.file)
	}
	if i.rejectsTo != nil {
		return i.rejectsTo.add(p.rejects)
	}
	return nil
}

// noteTerminal says that the program waits for input, if the input is a terminal.
func (i *importer) noteTerminal() {
	in, ok := i.in.(*os.File)
	if ok && slices.Contains(i.reader.files, standard) && term.IsTerminal(int(in.Fd())) {
		i.note("type pairs, KEY TAB VALUE, one a line; Ctrl-D on an empty line ends them")
	}
}

// noteRejects prints the messages about single records.
func (i *importer) noteRejects() {
	for _, name := range i.headers {
		i.note("%s, line 1: looks like a header and is stored as a pair; --header skips it", name)
	}
	for _, w := range i.warnings {
		i.note("%s: warning: %s", w.place(), w.Reason)
	}
	if i.warned > 0 {
		i.note("%s texts look like mistyped identifiers; --strict-ids rejects them", grouped(i.warned))
	}
	for _, r := range i.rejects {
		i.note("%s: rejected: %s", r.place(), r.Reason)
	}
	if more := i.rejected - uint64(len(i.rejects)); more > 0 {
		i.note("... and %s more rejected records; --rejects FILE writes them all", grouped(more))
	}
}

func (i *importer) report(added uint64) error {
	err := i.result(struct {
		Read     uint64   `json:"read"`
		New      uint64   `json:"new"`
		Rejected uint64   `json:"rejected"`
		Rejects  []reject `json:"rejects"`
		Warned   uint64   `json:"warned"`
	}{i.pairs, added, i.rejected, i.rejects, i.warned},
		"%d pairs read, %d new, %d rejected", i.pairs, added, i.rejected)
	if err == nil && i.pairs == 0 && i.rejected > 0 {
		return errNegative
	}
	return err
}
