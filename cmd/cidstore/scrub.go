package main

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/cidstore/cidstore"
	"github.com/spf13/cobra"
)

// scrubbed is what scrub answers.
type scrubbed struct {
	Verdict        string   `json:"verdict"` // "ok" or "corrupt"
	Bytes          int64    `json:"bytes"`
	CorrectedMasks uint64   `json:"corrected_masks"`
	MendedMasks    uint64   `json:"mended_masks"`
	DefectCount    int      `json:"defect_count"`
	Defects        []string `json:"defects"` // the first thousand
}

// mostRate bounds --rate, in millions of bytes a second.
const mostRate = 1e6

func (p *program) scrubCommand() *cobra.Command {
	var rate float64
	c := &cobra.Command{
		Use:   "scrub STORE",
		Short: "Verify every checksum, and mend what can be mended",
		Long: `Scrub reads the file in small steps and verifies every checksum, as a store that is open
for writing does by itself once a day. A state mask of which one bit is wrong, which
reads correct, is written again. Every other defect is printed, one a line, and stays
as it is; the exit code is then 3, and repair makes a good copy of what can be read.

With --rate it reads no more than so many megabytes a second, except of the log, which
it reads at once. When a signal stops it, what it has mended by then stays mended. The
store must not be open for writing elsewhere: check reads it beside a writer, and also
compares counts and who owns each byte. stat --journal says when the last scrub was.

A backup is another file after a scrub, and increments since then fit it no longer:
restore --verify reads a backup and writes nothing.`,
		Args: arguments(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			if c.Flags().Changed("rate") && !(rate >= 0.001 && rate <= mostRate) {
				return usageError{fmt.Errorf("--rate: %v, want 0.001 to %d", rate, int(mostRate))}
			}
			return p.scrub(c.Context(), args[0], rate)
		},
	}
	c.Flags().Float64Var(&rate, "rate", 0, "read at most so many `MB` a second; without it as fast as the disk")
	return c
}

func (p *program) scrub(ctx context.Context, path string, rate float64) error {
	bytes := int64(math.Round(rate * 1e6))
	if bytes == 0 {
		bytes = -1
	}
	return p.withStoreAs(path, changing, func(o *cidstore.Options) { o.ScrubRate = bytes }, func(s *cidstore.Store) error {
		report, err := s.Scrub(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil && report.DefectCount == 0 {
			return err
		}
		return errors.Join(p.printScrub(path, &report), err)
	})
}

func (p *program) printScrub(path string, r *cidstore.ScrubReport) error {
	v := scrubbed{"ok", r.Bytes, r.Corrected, r.Mended, r.DefectCount, []string{}}
	outcome := "ok"
	for _, defect := range r.Defects {
		v.Defects = append(v.Defects, oneLine(defect))
	}
	if r.DefectCount > 0 {
		v.Verdict, outcome = "corrupt", fmt.Sprintf("corrupt, %d defects", r.DefectCount)
	}
	if p.json {
		return p.result(v, "")
	}
	for _, defect := range v.Defects {
		if err := p.result(nil, "%s", defect); err != nil {
			return err
		}
	}
	return p.result(nil, "%s: %s: %d bytes verified, %d masks with a wrong bit, %d mended", path, outcome, v.Bytes, v.CorrectedMasks, v.MendedMasks)
}
