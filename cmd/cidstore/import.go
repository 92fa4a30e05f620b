package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cidstore/cidstore"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// patience is how long a pair waits at most for others of its batch.
const patience = time.Second

// importer is one run of the command, and what it has done so far.
type importer struct {
	*program
	reader       pairReader
	progressJSON bool
	rejectsPath  string
	patience     time.Duration

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
		reader: pairReader{stdin: p.in, columns: columns{1, 2}}}
	c := &cobra.Command{
		Use:   "import STORE FILE...",
		Short: "Add the pairs of TSV, CSV or JSON files, or of a table in HDF5 files",
		Long:  importHelp,
		Args:  arguments(2, many),
		RunE: func(c *cobra.Command, args []string) error {
			if err := i.reader.table.check(c); err != nil {
				return err
			}
			return i.run(c.Context(), args[0], args[1:])
		},
	}
	i.reader.table.add(c)
	c.Flags().Var(&i.reader.columns, "columns", "columns of key and value, from 1")
	c.Flags().BoolVar(&i.reader.header, "header", false, "skip the first record of each file")
	c.Flags().BoolVar(&i.reader.strict, "strict", false, "end at the first rejected record: what comes before it is stored, exit code 5")
	c.Flags().BoolVar(&i.reader.strictIDs, "strict-ids", false, "reject a key or value that is no identifier, instead of taking it for a name")
	c.Flags().StringVar(&i.rejectsPath, "rejects", "", "`file` to write all rejected records to, with line and reason, as JSON")
	c.Flags().BoolVar(&i.progressJSON, "progress-json", false, "after each durable batch, one JSON object {file, line, pairs} on standard error; of a table, line is the number of rows")
	return c
}

var importHelp = fmt.Sprintf(`Import adds a pair for each record of the files: the key is in the first column, the
value in the second, or where --columns says. Further columns are ignored. "-" is
standard input.

Format: a file named .csv, .tsv, .json, .jsonl or .ndjson (before .gz or .zst) is
that. Any other input goes by its first line: JSON if it begins with {"key":, CSV if
it has a comma and no tab, else TSV.
  TSV   a line is a record; there is no quoting.
  CSV   RFC 4180: a quoted field may have commas, line ends and "" for a quote. A
        quote elsewhere, after a space too, is wrong. After wrong quotes nobody knows
        where the next record begins: the import ends there, exit code 5.
  JSON  what export --json prints: {"key": "...", "values": ["...", ...]}. Other
        JSON ends the import, exit code 5.

Packing: gzip and zstd are unpacked, whatever the name; zeros after gzip are padding.
Text: UTF-8, or UTF-16 with a byte order mark; a mark at the start of a line is
dropped. Lines end in LF or CRLF. Any other packing or encoding, binary files, and
files whose lines end in CR alone are refused in one sentence, exit code 5; of such a
file nothing is stored.

Tables: with --dataset the files are HDF5 files, and the pairs are the rows of that
dataset: records, of which --key and --value name the columns, or rows of integers,
whose columns are numbered from 1. Of two columns the first has the high words and the
second the low ones; one column of integers has low words, one of text identifiers or
names. Floating-point numbers and integers of more than 64 bits are refused; a row with
a negative number is rejected. Rows are numbered from 0.
  cidstore import STORE OUT.h5 --dataset /pairs --key key_high,key_low --value value_high,value_low

A key or value is an identifier or a name, as cidstore help says. A name that looks like
a mistyped identifier is stored, with a warning; --strict-ids rejects it, and every
other name. A record is
rejected, and the next one read, if it is blank or has too few columns, if its key or
value is empty, if it has a NUL, a CR without LF, a mark elsewhere or bytes that are
not UTF-8, or if it is longer than %d bytes (in CSV that ends the import if it has a
quote). The first %d rejected records are printed, --rejects FILE has all.

Exit codes: 0 all was read, some records perhaps rejected; 1 there were records and
all were rejected; 2 wrong usage; 5 the input or the disk ended the import early, or
--strict did; 130 and 143 SIGINT and SIGTERM. What was read whole before is stored,
and the message says how many pairs.

Pairs are stored in batches of %d, or after a second; each is durable, whole, before
the next. After a kill or a failure the same import can be run again: a pair is
stored once.`, maxLine, keptRejects, batchPairs)

func (i *importer) run(ctx context.Context, path string, files []string) error {
	i.reader.files, i.reader.store = files, path
	total, err := i.reader.check()
	if err == nil && i.rejectsPath != "" {
		i.rejectsTo, err = createRejects(i.rejectsPath, append([]string{path}, files...))
		i.reader.keepTexts = true
	}
	if err != nil {
		err = fmt.Errorf("import: %w", err)
		if isA[inputError](err) {
			err = partialError{err, 0}
		}
		return err
	}
	err = i.withStore(path, making, func(s *cidstore.Store) error { return i.fill(ctx, s, total) })
	if i.rejectsTo != nil {
		// A failure of the store is the graver one.
		if closeErr := i.rejectsTo.close(); closeErr != nil && (err == nil || err == errNegative) {
			err = closeErr
		}
	}
	return err
}

func (i *importer) fill(ctx context.Context, s *cidstore.Store, total int64) error {
	_, before, err := s.Len(ctx)
	if err != nil {
		return err
	}
	i.noteTerminal()
	err = i.load(ctx, s, total)
	i.noteRejects()
	var after uint64
	if err == nil {
		_, after, err = s.Len(ctx)
	}
	if errors.Is(err, context.Canceled) {
		err = context.Cause(ctx)
	}
	if err != nil {
		return partialError{err, i.pairs}
	}
	return i.report(after - before)
}

// load applies the portions as the reader hands them over, which reads and hashes
// ahead in that time. A signal ends the reading, even while it waits for input; what
// was read whole until then is stored.
func (i *importer) load(ctx context.Context, s *cidstore.Store, totalBytes int64) error {
	q := newIntake()
	defer q.stop()
	i.reader.to = q
	go i.reader.run()

	shown := i.importProgress(i.progressJSON, totalBytes)
	defer shown.finish()
	look := time.NewTicker(i.patience / 4)
	defer look.Stop()
	for {
		age := i.patience * 3 / 4
		if ctx.Err() != nil {
			q.stop()
			age = 0
		}
		switch p := q.take(age); {
		case p != nil:
			if err := i.store(s, p); err != nil {
				return fmt.Errorf("import: %w", err)
			}
			if p.records > 0 || p.err == nil && !p.last {
				shown.update(p.file, p.lastLine, i.pairs, p.bytes)
			}
			switch {
			case p.last && p.err != nil && ctx.Err() == nil:
				return fmt.Errorf("import: %w", p.err)
			case p.last && p.err == nil:
				return nil
			}
		case ctx.Err() != nil:
			return context.Cause(ctx)
		default:
			select {
			case <-ctx.Done():
			case <-q.changed:
			case <-look.C:
			}
		}
	}
}

// store makes a portion durable.
func (i *importer) store(s *cidstore.Store, p *portion) error {
	if p.encoding != nil {
		if err := p.encoding.judge(); err != nil {
			return fmt.Errorf("%s: %w", p.file, err)
		}
	}
	if err := s.Apply(&p.pairs); err != nil {
		return err
	}
	i.pairs += uint64(p.pairs.Len())
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

// noteTerminal prints, at a terminal, that the program waits for input.
func (i *importer) noteTerminal() {
	for _, name := range i.reader.files {
		if in, ok := i.in.(*os.File); ok && name == stdinName && term.IsTerminal(int(in.Fd())) {
			i.note("type pairs, KEY TAB VALUE, one a line; Ctrl-D on an empty line ends them")
			return
		}
	}
}

// noteRejects prints what is to be said of single records.
func (i *importer) noteRejects() {
	for _, name := range i.headers {
		i.note("%s, line 1: looks like a header, and is stored as a pair; --header skips it", name)
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
