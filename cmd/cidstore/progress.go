package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// progress shows how far an import is. Everything that it shows is durable.
type progress interface {
	// update: pairs of all files so far, with those up to the given line of a file,
	// and bytes of the input.
	update(file string, line int64, pairs uint64, bytes int64)
	finish()
}

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

// importProgress returns what shows the progress of an import: lines of JSON if they
// are asked for, otherwise a bar on a terminal, otherwise nothing.
func (p *program) importProgress(asJSON bool, totalBytes int64) progress {
	switch {
	case asJSON:
		return jsonProgress{json.NewEncoder(p.messages)}
	case p.showsBars():
		return newBar(p.messages, totalBytes)
	}
	return noProgress{}
}

type noProgress struct{}

func (noProgress) update(string, int64, uint64, int64) {}
func (noProgress) finish()                             {}

// jsonProgress writes one object per batch, for programs that want to know what is
// acknowledged.
type jsonProgress struct{ out *json.Encoder }

func (j jsonProgress) update(file string, line int64, pairs uint64, _ int64) {
	// If standard error fails, there is no way left to say so.
	_ = j.out.Encode(struct {
		File  string `json:"file"`
		Line  int64  `json:"line"`
		Pairs uint64 `json:"pairs"`
	}{file, line, pairs})
}

func (jsonProgress) finish() {}

// bar is a bar for the bytes of the input, or a spinner if their number is not known.
// It shows the pairs and their rate before the bar and the time left after it.
type bar struct {
	bar   *progressbar.ProgressBar
	out   *os.File
	total int64 // bytes; -1: unknown
	start time.Time
}

func newBar(out *os.File, totalBytes int64) *bar {
	length := totalBytes
	if length == 0 {
		length = 1 // an empty file is finished at once
	}
	return &bar{bar: byteBar(out, "import", length), out: out, total: totalBytes, start: time.Now()}
}

// byteBar returns a bar for that many bytes, which appears at once.
func byteBar(out io.Writer, what string, length int64) *progressbar.ProgressBar {
	return progressbar.NewOptions64(length,
		progressbar.OptionSetWriter(out),
		progressbar.OptionSetDescription(what),
		progressbar.OptionSetWidth(30),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionShowBytes(true),
		progressbar.OptionClearOnFinish(),
		progressbar.OptionUseANSICodes(true),
		progressbar.OptionSetRenderBlankState(true))
}

func (b *bar) update(_ string, _ int64, pairs uint64, bytes int64) {
	if b.total >= 0 {
		// The last byte is read before the last batch is stored. The bar must not be
		// full until that is done.
		bytes = max(min(bytes, b.total-1), 0)
	}
	rate := float64(pairs) / max(time.Since(b.start).Seconds(), 0.001)
	// The words come first, because only one of two draws in a row is shown. Errors of
	// drawing do not matter.
	b.bar.Describe(b.fitting(grouped(pairs)+" pairs", ", "+grouped(uint64(rate))+" pairs/s"))
	_ = b.bar.Set64(bytes)
}

// fitting returns as much of a description as fits into the line.
func (b *bar) fitting(pairs, rate string) string {
	columns, _, err := term.GetSize(int(b.out.Fd()))
	switch room := columns - columnsAfter; {
	case err != nil || len(pairs+rate) <= room:
		return pairs + rate
	case len(pairs) <= room:
		return pairs
	}
	return "import"
}

func (b *bar) finish() {
	_ = b.bar.Finish()
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

// copyProgress shows how many bytes are done, and of how many: with lines of JSON if they
// are asked for, with a bar on a terminal.
type copyProgress struct {
	what    string        // is being done
	lines   *json.Encoder // nil: no lines
	bar     *progressbar.ProgressBar
	out     io.Writer // of the bar; nil: no bar
	percent int64     // in the last line
}

func (p *program) copyProgress(what string, asJSON bool) *copyProgress {
	switch {
	case asJSON:
		return &copyProgress{what: what, lines: json.NewEncoder(p.messages), percent: -1}
	case p.showsBars():
		return &copyProgress{what: what, out: p.messages}
	}
	return new(copyProgress)
}

// progressFlag adds the flag --progress-json to a command that copies or moves data.
func progressFlag(c *cobra.Command, asJSON *bool) {
	c.Flags().BoolVar(asJSON, "progress-json", false, "at each percent, write a JSON object {bytes, total} to standard error")
}

func (s *copyProgress) update(done, total int64) {
	// If standard error fails, there is no way left to say so.
	if s.lines != nil && done*100/max(total, 1) > s.percent {
		s.percent = done * 100 / max(total, 1)
		_ = s.lines.Encode(struct {
			Bytes int64 `json:"bytes"`
			Total int64 `json:"total"`
		}{done, total})
	}
	if s.out != nil && s.bar == nil {
		s.bar = byteBar(s.out, s.what, max(total, 1))
	}
	if s.bar != nil {
		_ = s.bar.Set64(done)
	}
}

func (s *copyProgress) finish() {
	if s.bar != nil {
		_ = s.bar.Finish()
	}
}
