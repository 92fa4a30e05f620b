package main

import (
	"errors"
	"fmt"

	"github.com/cidstore/cidstore"
	"github.com/spf13/cobra"
)

// repaired is the answer of repair.
type repaired struct {
	Path               string   `json:"path"`
	Mode               string   `json:"mode"`
	Slot               int      `json:"slot"`
	Commit             uint64   `json:"commit"`
	FellBack           bool     `json:"fell_back"`
	OperationsReplayed int      `json:"operations_replayed"`
	Keys               uint64   `json:"keys"`
	Values             uint64   `json:"values"`
	DefectCount        int      `json:"defect_count"`
	Defects            []string `json:"defects"` // the first thousand
	Complete           bool     `json:"complete"`
}

// unsavedError is damage that leaves nothing to save: the advice is not to run repair.
type unsavedError struct{ error }

func (e unsavedError) Unwrap() error { return e.error }

func (p *program) repairCommand() *cobra.Command {
	var mode string
	c := &cobra.Command{
		Use:   "repair STORE NEW --mode rollback|salvage",
		Short: "Make a good copy of a damaged store",
		Long: `Repair makes a new store from the pairs of a damaged one, after verifying the checksums
of each. STORE is not changed, and NEW must not exist.

Mode rollback copies the newest root that is completely valid, and what the log has
after it. Use it for a store that an HDF5 program has written to. Mode salvage copies
everything that can still be read. What is wrong and what is left out is printed on
standard error, one place per line.

Exit codes: 0 the copy has all pairs; 1 the copy was made, but something could not be
read, so pairs may be missing; 3 nothing could be saved, and there is no copy.

Both modes need one of the two commit slots, which are the bytes from 4,096 to 12,287 of
the file. If only what is before them is lost, nothing is left out. If both are lost but
HDF5 programs still open the file, python/cidstore.py prints its pairs, and import reads
them. If the superblock is lost too, nothing in the file can be found.`,
		Args: arguments(2, 2),
		RunE: func(_ *cobra.Command, args []string) error { return p.repair(args[0], args[1], mode) },
	}
	c.Flags().StringVar(&mode, "mode", "", "what to copy: rollback or salvage")
	completeValues(c, "mode", string(cidstore.RepairRollback), string(cidstore.RepairSalvage))
	return c
}

func (p *program) repair(path, output, mode string) error {
	if mode != string(cidstore.RepairRollback) && mode != string(cidstore.RepairSalvage) {
		return usageError{fmt.Errorf("--mode: %q, want %s or %s", mode, cidstore.RepairRollback, cidstore.RepairSalvage)}
	}
	if err := checkPath(path, reading); err != nil {
		return openError{err}
	}
	options, err := p.options()
	if err != nil {
		return err
	}
	r, err := cidstore.RepairWith(p.ctx, path, output, cidstore.RepairMode(mode), options)
	answer := repaired{output, mode, r.Slot, r.Commit, r.FellBack, r.OperationsReplayed, r.Keys, r.Pairs, r.LeftOutCount, p.noteDefects(r.LeftOut, r.LeftOutCount), true}
	for _, defect := range r.LeftOut {
		// What was edited is not copied. Where the end of the file is missing, what cannot be read is a defect of its own.
		if !errors.Is(defect, cidstore.ErrForeignEdit) && !errors.Is(defect, cidstore.ErrTruncated) {
			answer.Complete = false
		}
	}
	if errors.Is(err, cidstore.ErrCorrupt) && mode == string(cidstore.RepairSalvage) {
		err = unsavedError{err}
	}
	if err != nil {
		return explained("repair", path, err)
	}
	outcome := ""
	if !answer.Complete {
		outcome = "; pairs may be missing"
	}
	err = p.result(answer, "repaired store written to %s from the root of commit %d: %d keys, %d values, %s found%s",
		output, r.Commit, r.Keys, r.Pairs, counted(r.LeftOutCount, "defect"), outcome)
	if err == nil && !answer.Complete {
		return errNegative
	}
	return err
}

// noteDefects prints the defects of a file, of which there are count, and returns them in
// lines.
func (p *program) noteDefects(defects []error, count int) []string {
	lines := oneLines(defects)
	list(p.note, "found", lines, count, "")
	return lines
}
