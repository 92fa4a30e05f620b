package main

import (
	"errors"
	"fmt"
	"math"

	"github.com/cidstore/cidstore"
	"github.com/spf13/cobra"
)

// scrubbed is the answer of scrub.
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
		Long: `Scrub reads the file in small steps and verifies every checksum, as a store that is
open for writing does by itself once a day. A state mask with one wrong bit can still be
read correctly; scrub rewrites it. It prints every other defect, one per line, and
leaves it alone. The exit code is then 3; repair makes a good copy of what can be read.

It prints how many bytes it has verified. They may be more than the file has: what has
several checksums, such as a page of the index, counts once for each.

With --rate it reads at most that many megabytes a second, except that it reads the log
at once. If a signal stops it, everything that it has mended until then stays mended.
The store must not be open for writing elsewhere. Check can read it beside a writer, and
also compares counts and the use of every byte. stat --journal prints the time of the
last scrub.

A scrub changes the bytes of a backup, and increments since then no longer fit it:
restore --verify reads a backup and writes nothing.`,
		Args: arguments(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			if c.Flags().Changed("rate") && !(rate >= 0.001 && rate <= mostRate) {
				return usageError{fmt.Errorf("--rate: %v, want 0.001 to %d", rate, int(mostRate))}
			}
			return p.scrub(args[0], rate)
		},
	}
	c.Flags().Float64Var(&rate, "rate", 0, "read at most this many `MB` a second; without it, as fast as the disk allows")
	return c
}

func (p *program) scrub(path string, rate float64) error {
	bytes := int64(math.Round(rate * 1e6))
	if bytes == 0 {
		bytes = -1
	}
	return p.withStore(path, changing, func(s *cidstore.Store) error {
		report, err := s.Scrub(p.ctx)
		if err := p.interrupted(); err != nil {
			return err
		}
		if err != nil && report.DefectCount == 0 {
			return err
		}
		return errors.Join(p.printScrub(path, &report), err)
	}, func(o *cidstore.Options) { o.ScrubRate = bytes })
}

func (p *program) printScrub(path string, r *cidstore.ScrubReport) error {
	word, outcome := verdictOn(r.DefectCount)
	v := scrubbed{word, r.Bytes, r.Corrected, r.Mended, r.DefectCount, oneLines(r.Defects)}
	p.defects(v.Defects)
	return p.result(v, "%s: %s: %d bytes verified, %d masks with a wrong bit, %d mended", path, outcome, v.Bytes, v.CorrectedMasks, v.MendedMasks)
}
