package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// progress tells how far an import is: everything that it tells is durable.
type progress interface {
	// update: pairs of all files so far, with those up to the given line of a file,
	// and bytes of the input.
	update(file string, line int64, pairs uint64, bytes int64)
	finish()
}

// importProgress chooses: lines of JSON where they are asked for, a bar on a
// terminal, else nothing.
func (p *program) importProgress(asJSON bool, totalBytes int64) progress {
	switch {
	case asJSON:
		return jsonProgress{json.NewEncoder(p.messages)}
	case !p.quiet && term.IsTerminal(int(p.messages.Fd())):
		return newBar(p.messages, totalBytes)
	}
	return noProgress{}
}

type noProgress struct{}

func (noProgress) update(string, int64, uint64, int64) {}
func (noProgress) finish()                             {}

// jsonProgress writes one object a batch, for programs that want to know what is
// acknowledged.
type jsonProgress struct{ out *json.Encoder }

func (j jsonProgress) update(file string, line int64, pairs uint64, _ int64) {
	// Nobody is left to be told if standard error fails.
	_ = j.out.Encode(struct {
		File  string `json:"file"`
		Line  int64  `json:"line"`
		Pairs uint64 `json:"pairs"`
	}{file, line, pairs})
}

func (jsonProgress) finish() {}

// bar is a bar over the bytes of the input, a spinner where their number is not
// known, with the pairs and their rate before it and the time left behind it.
type bar struct {
	bar   *progressbar.ProgressBar
	total int64 // bytes; -1: unknown
	start time.Time
}

func newBar(out io.Writer, totalBytes int64) *bar {
	length := totalBytes
	if length == 0 {
		length = 1 // an empty file is finished at once
	}
	return &bar{
		bar: progressbar.NewOptions64(length,
			progressbar.OptionSetWriter(out),
			progressbar.OptionSetDescription("import"),
			progressbar.OptionSetWidth(30),
			progressbar.OptionSetPredictTime(true),
			progressbar.OptionThrottle(100*time.Millisecond),
			progressbar.OptionShowBytes(true),
			progressbar.OptionClearOnFinish(),
			progressbar.OptionUseANSICodes(true),
			progressbar.OptionSetRenderBlankState(true)),
		total: totalBytes,
		start: time.Now(),
	}
}

func (b *bar) update(_ string, _ int64, pairs uint64, bytes int64) {
	if b.total >= 0 {
		// The last byte is read before the last batch is stored; the bar is full when
		// that is done.
		bytes = max(min(bytes, b.total-1), 0)
	}
	rate := float64(pairs) / max(time.Since(b.start).Seconds(), 0.001)
	// The words first: of two draws in a row only one is shown. Errors of drawing
	// are of no consequence.
	b.bar.Describe(fmt.Sprintf("%s pairs, %s pairs/s", grouped(pairs), grouped(uint64(rate))))
	_ = b.bar.Set64(bytes)
}

func (b *bar) finish() {
	_ = b.bar.Finish()
}

// grouped is a number with commas between thousands.
func grouped(n uint64) string {
	text := strconv.FormatUint(n, 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
