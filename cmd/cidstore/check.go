package main

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/cidstore/cidstore"
	"github.com/spf13/cobra"
)

// verdict is the answer of check.
type verdict struct {
	Verdict        string   `json:"verdict"` // "ok" or "corrupt"
	Keys           uint64   `json:"keys"`
	Values         uint64   `json:"values"`
	Groups         uint64   `json:"groups"`
	Buckets        uint64   `json:"buckets"`
	Runs           int      `json:"runs"`
	WaitingEntries uint64   `json:"waiting_entries"`
	SpilledSets    uint64   `json:"spilled_sets"`
	Tombstones     uint64   `json:"tombstones"`
	Commit         uint64   `json:"commit"`
	PendingBatches int      `json:"pending_batches"` // complete batches that only the log has
	FellBack       bool     `json:"fell_back"`       // these three as in RecoveryReport
	TornAt         uint64   `json:"torn_at"`
	TornRecords    int      `json:"torn_records"`
	DeletionRows   uint64   `json:"deletion_rows"`
	Chunks         uint64   `json:"chunks"`
	UsedBytes      int64    `json:"used_bytes"`
	UnusedBytes    int64    `json:"unused_bytes"`
	DefectCount    int      `json:"defect_count"`
	Defects        []string `json:"defects"` // the first thousand
}

func (p *program) checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check STORE",
		Short: "Read everything and verify every checksum and invariant",
		Long: `Check reads the whole file and prints every defect that it finds, one per line, and
then a verdict. It repairs nothing and changes nothing, and can run beside a writer. The
exit code is 3 if there is a defect. Of a file that is no store there is no verdict: one
sentence on standard error says what it is.

Problems that do not prevent opening are noted on standard error. A torn end of the log
is not a defect: a power cut may leave one. A damaged newest root is a defect; the root
before it is read instead.`,
		Args: arguments(1, 1),
		RunE: func(_ *cobra.Command, args []string) error { return p.check(args[0]) },
	}
}

func (p *program) check(path string) error {
	judged := false
	var found cidstore.RecoveryReport
	err := p.withStore(path, judging, func(s *cidstore.Store) error {
		judged, found = true, s.Recovery()
		p.noteOpening(found)
		report, err := s.Check(p.ctx)
		if err := p.interrupted(); err != nil {
			return err
		}
		err = cmp.Or(err, found.Salvaged) // the damaged log was skipped, to see the rest
		return errors.Join(p.printVerdict(path, report, found, err), checked(err, found.Salvaged))
	})
	if !judged && exitCode(err) == exitCorrupt && !isA[noStoreError](err) {
		return errors.Join(p.printVerdict(path, &cidstore.CheckReport{}, found, err), err)
	}
	return err
}

// checkedError is damage that check itself has found: the advice is not to run check.
type checkedError struct{ error }

func (e checkedError) Unwrap() error { return e.error }

// checked wraps the error of a check so that it gets the right advice. salvaged is the
// damage that the opening of the store went past.
func checked(err, salvaged error) error {
	switch {
	case errors.Is(salvaged, cidstore.ErrForeignEdit):
		if !errors.Is(err, cidstore.ErrForeignEdit) {
			err = fmt.Errorf("%w; %w", err, cidstore.ErrForeignEdit)
		}
		return fmt.Errorf("%w; cidstore repair STORE NEW --mode rollback makes a good copy", err)
	case errors.Is(err, cidstore.ErrCorrupt) && !errors.Is(err, cidstore.ErrTruncated) && !errors.Is(err, cidstore.ErrTampered):
		return checkedError{err}
	}
	return err
}

// verdictOn returns the verdict on a file with so many defects, and the same in words.
func verdictOn(defects int) (verdict, words string) {
	if defects == 0 {
		return "ok", "ok"
	}
	return "corrupt", "corrupt, " + counted(defects, "defect")
}

// defects prints the defects in words; with --json the verdict has them.
func (p *program) defects(lines []string) {
	for _, defect := range lines {
		if !p.json {
			p.line("%s", defect)
		}
	}
}

func (p *program) printVerdict(path string, r *cidstore.CheckReport, found cidstore.RecoveryReport, err error) error {
	f, defects := r.Figures, oneLines(r.Defects)
	if err != nil && len(defects) == 0 {
		r.DefectCount, defects = 1, []string{oneLine(err)}
	}
	word, outcome := verdictOn(r.DefectCount)
	v := verdict{word, f.Keys, f.Values, f.Groups, f.Buckets, f.Runs, f.WaitingEntries, f.SpilledSets, f.Tombstones,
		r.Commit, r.LogFrames, found.FellBack, found.TornAt, found.TornRecords,
		r.Deletions, r.Chunks, r.UsedBytes, r.FreeBytes, r.DefectCount, defects}
	p.defects(v.Defects)
	return p.result(v, "%s: %s: %d keys, %d values, %d groups, %d buckets, %d runs, %d waiting entries, %d spilled sets, %d tombstones, %d chunks, %d pending batches, %d bytes used, %d unused",
		path, outcome, v.Keys, v.Values, v.Groups, v.Buckets, v.Runs, v.WaitingEntries, v.SpilledSets, v.Tombstones, v.Chunks, v.PendingBatches, v.UsedBytes, v.UnusedBytes)
}
