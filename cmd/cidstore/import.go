package main

import (
	"context"
	"fmt"

	"github.com/cidstore/cidstore"
	"github.com/spf13/cobra"
)

// importer is one run of the command, and what it has done so far.
type importer struct {
	*program
	columns      columns
	progressJSON bool

	pairs    uint64 // read and durable
	rejected uint64
	rejects  []reject
}

func (p *program) importCommand() *cobra.Command {
	i := &importer{program: p, columns: columns{1, 2}, rejects: []reject{}}
	c := &cobra.Command{
		Use:   "import STORE FILE...",
		Short: "Add the pairs of TSV or CSV files",
		Long: fmt.Sprintf(`Import adds a pair for each line of the files: the key is in the first column, the
value in the second, or where --columns says. Further columns are ignored; there is
no header line. "-" is standard input. Files packed by gzip are unpacked, whatever
their name.

A file named .csv or .tsv (before .gz) is one. Any other input is CSV if its first
line has a comma and no tab, else TSV. TSV knows no quoting; CSV has that of
RFC 4180, but a quoted field ends on its line. Lines end in LF or CRLF, a byte order
mark at the start is dropped. A line that is blank, too short, has an empty key or
value, is not valid UTF-8 or is longer than %d bytes is rejected, counted, and no
reason to stop; the exit code is 1 if there were lines and all were rejected.

Pairs are stored in batches of %d; each is durable, whole, before the next. After a
kill or a failure the same import can be run again: a pair is stored once.`, maxLine, batchPairs),
		Args: arguments(2, many),
		RunE: func(c *cobra.Command, args []string) error { return i.run(c.Context(), args[0], args[1:]) },
	}
	c.Flags().Var(&i.columns, "columns", "columns of key and value, from 1")
	c.Flags().BoolVar(&i.progressJSON, "progress-json", false, "after each durable batch, one JSON object {file, line, pairs} on standard error")
	return c
}

func (i *importer) run(ctx context.Context, path string, files []string) error {
	total, err := checkInputs(files)
	if err != nil {
		return err
	}
	return i.withStore(path, making, func(s *cidstore.Store) error {
		_, before, err := s.Len(ctx)
		if err != nil {
			return err
		}
		err = i.load(ctx, s, files, total)
		i.noteRejects()
		if err != nil {
			i.note("%s pairs were stored before that; import the same files again to go on", grouped(i.pairs))
			return err
		}
		_, after, err := s.Len(ctx)
		if err != nil {
			return err
		}
		return i.report(after - before)
	})
}

// load applies the batches as the reader hands them over, which reads and hashes
// ahead meanwhile. A signal ends it between two batches, even while the reader waits
// for input.
func (i *importer) load(ctx context.Context, s *cidstore.Store, files []string, totalBytes int64) error {
	reading, stop := context.WithCancel(ctx)
	defer stop()
	reader := pairReader{files: files, stdin: i.in, columns: i.columns, out: make(chan portion, 1)}
	go reader.run(reading)

	shown := i.importProgress(i.progressJSON, totalBytes)
	defer shown.finish()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case p, more := <-reader.out:
			switch {
			case ctx.Err() != nil:
				return context.Cause(ctx)
			case !more:
				return nil
			case p.err != nil:
				return fmt.Errorf("import: %w", p.err)
			}
			if err := s.Apply(&p.pairs); err != nil {
				return fmt.Errorf("import: %w", err)
			}
			i.pairs += uint64(p.pairs.Len())
			i.rejected += uint64(p.rejected)
			i.rejects = append(i.rejects, p.rejects...)[:min(len(i.rejects)+len(p.rejects), keptRejects)]
			shown.update(p.file, p.lastLine, i.pairs, p.bytes)
		}
	}
}

// noteRejects prints the first rejected lines.
func (i *importer) noteRejects() {
	for _, r := range i.rejects {
		i.note("%s, line %d: rejected: %s", r.File, r.Line, r.Reason)
	}
	if more := i.rejected - uint64(len(i.rejects)); more > 0 {
		i.note("... and %s more rejected lines", grouped(more))
	}
}

func (i *importer) report(added uint64) error {
	err := i.result(struct {
		Read     uint64   `json:"read"`
		New      uint64   `json:"new"`
		Rejected uint64   `json:"rejected"`
		Rejects  []reject `json:"rejects"`
	}{i.pairs, added, i.rejected, i.rejects},
		"%d pairs read, %d new, %d rejected", i.pairs, added, i.rejected)
	if err == nil && i.pairs == 0 && i.rejected > 0 {
		return errNegative
	}
	return err
}
