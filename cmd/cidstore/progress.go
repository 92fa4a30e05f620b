package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// A line must not wrap, or each redraw would fill another one.
const (
	columnsAfter = 36 // for what follows the description, with a bar of no length
	leastColumns = columnsAfter + len("verify ") + 1
)

// showsBars reports whether messages go to a terminal that is wide enough for bars.
func (p *program) showsBars() bool {
	columns, _, err := term.GetSize(int(p.messages.Fd()))
	return !p.quiet && err == nil && columns >= leastColumns
}

// progress shows how far a command is: with lines of JSON if they are asked for, otherwise
// with a bar on a terminal.
type progress struct {
	what    string        // is being done
	lines   *json.Encoder // nil: no lines. If standard error fails, there is no way left to say so
	out     *os.File      // of the bar; nil: no bar
	bar     *progressbar.ProgressBar
	percent int64 // in the last line of update
	start   time.Time
}

func (p *program) progress(what string) *progress {
	s := &progress{what: what, percent: -1, start: time.Now()}
	switch {
	case p.progressJSON:
		s.lines = json.NewEncoder(p.messages)
	case p.showsBars():
		s.out = p.messages
	}
	return s
}

// begin shows the bar for that many bytes, or a spinner if their number is not known, -1.
func (s *progress) begin(total int64) {
	if s.out == nil || s.bar != nil {
		return
	}
	if total == 0 {
		total = 1 // an empty file is finished at once
	}
	s.bar = progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(s.out),
		progressbar.OptionSetDescription(s.what),
		progressbar.OptionSetWidth(30),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionShowBytes(true),
		progressbar.OptionClearOnFinish(),
		progressbar.OptionUseANSICodes(true),
		progressbar.OptionSetRenderBlankState(true))
}

// update shows how many bytes are done, and of how many. Lines come at each percent.
func (s *progress) update(done, total int64) {
	total = max(total, 1)
	if s.lines != nil && done*100/total > s.percent {
		s.percent = done * 100 / total
		_ = s.lines.Encode(struct {
			Bytes int64 `json:"bytes"`
			Total int64 `json:"total"`
		}{done, total})
	}
	s.begin(total)
	if s.bar != nil {
		_ = s.bar.Set64(done)
	}
}

// stored shows that a portion of an import is durable, and pairs of all files so far. total
// is how many bytes the files have, or -1. The bar has the pairs and their rate before it
// and the time left after it.
func (s *progress) stored(p *portion, pairs uint64, total int64) {
	if s.lines != nil {
		_ = s.lines.Encode(struct {
			File  string `json:"file"`
			Line  int64  `json:"line"`
			Pairs uint64 `json:"pairs"`
		}{p.file, p.lastLine, pairs})
	}
	if s.bar == nil {
		return
	}
	bytes := p.bytes
	if total >= 0 {
		// The last byte is read before the last batch is stored. The bar must not be
		// full until that is done.
		bytes = max(min(bytes, total-1), 0)
	}
	rate := float64(pairs) / max(time.Since(s.start).Seconds(), 0.001)
	// The words come first, because only one of two draws in a row is shown. Errors of
	// drawing do not matter.
	s.bar.Describe(s.fitting(grouped(pairs)+" pairs", ", "+grouped(uint64(rate))+" pairs/s"))
	_ = s.bar.Set64(bytes)
}

// fitting returns as much of a description as fits into the line.
func (s *progress) fitting(pairs, rate string) string {
	columns, _, err := term.GetSize(int(s.out.Fd()))
	switch room := columns - columnsAfter; {
	case err != nil || len(pairs+rate) <= room:
		return pairs + rate
	case len(pairs) <= room:
		return pairs
	}
	return s.what
}

func (s *progress) finish() {
	if s.bar != nil {
		_ = s.bar.Finish()
	}
}

// progressFlag adds the flag --progress-json to a command that copies or moves data.
func (p *program) progressFlag(c *cobra.Command) {
	c.Flags().BoolVar(&p.progressJSON, "progress-json", false, "at each percent, write a JSON object {bytes, total} to standard error")
}

// counted returns a number with its noun: 1 defect, 2 defects.
func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// grouped returns a number with commas between thousands.
func grouped(n uint64) string {
	text := strconv.FormatUint(n, 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
