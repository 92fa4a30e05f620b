package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/cidstore/cidstore"
	"github.com/spf13/cobra"
)

// verdict is the answer of check.
type verdict struct {
	Verdict     string   `json:"verdict"` // "ok" or "corrupt"
	Keys        uint64   `json:"keys"`
	Values      uint64   `json:"values"`
	Buckets     uint64   `json:"buckets"`
	Sets        uint64   `json:"sets"`
	Chunks      uint64   `json:"chunks"`
	LogBatches  int      `json:"log_batches"`
	DefectCount int      `json:"defect_count"`
	Defects     []string `json:"defects"` // the first thousand
}

func (p *program) checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check STORE",
		Short: "Read everything and verify every checksum and invariant",
		Long: `Check reads the whole file and prints every defect that it finds, one a line, and a
verdict. It repairs nothing and changes nothing, and may run beside a writer. The
exit code is 3 if there is a defect.`,
		Args: arguments(1, 1),
		RunE: func(c *cobra.Command, args []string) error { return p.check(c.Context(), args[0]) },
	}
}

func (p *program) check(ctx context.Context, path string) error {
	judged := false
	err := p.withStore(path, salvaging, func(s *cidstore.Store) error {
		judged = true
		report, err := s.Check(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err == nil {
			// A damaged log was read past to see the rest.
			err = s.Recovery().Salvaged
		}
		return errors.Join(p.printVerdict(path, report, err), err)
	})
	if !judged && err != nil && exitCode(err) == exitCorrupt {
		return errors.Join(p.printVerdict(path, &cidstore.CheckReport{}, err), err)
	}
	return err
}

func (p *program) printVerdict(path string, r *cidstore.CheckReport, err error) error {
	v := verdict{"ok", r.Keys, r.Values, r.Buckets, r.Sets, r.Chunks, r.LogFrames, r.DefectCount, []string{}}
	for _, defect := range r.Defects {
		v.Defects = append(v.Defects, defect.Error())
	}
	if err != nil {
		v.Verdict = "corrupt"
	}
	if err != nil && len(v.Defects) == 0 {
		v.DefectCount, v.Defects = 1, []string{err.Error()}
	}
	if p.json {
		return p.result(v, "")
	}
	for _, defect := range v.Defects {
		if err := p.result(nil, "%s", defect); err != nil {
			return err
		}
	}
	outcome := "ok"
	if err != nil {
		outcome = fmt.Sprintf("corrupt, %d defects", v.DefectCount)
	}
	return p.result(nil, "%s: %s: %d keys, %d values, %d buckets, %d spilled sets, %d chunks, %d batches in the log read",
		path, outcome, v.Keys, v.Values, v.Buckets, v.Sets, v.Chunks, v.LogBatches)
}
