package cidstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/cidstore/cidstore/vfs"
)

// RepairMode says what Repair may leave out.
type RepairMode string

const (
	// RepairRollback copies all of the newest root that is intact, and what the log has
	// beyond it, as far as that can be read.
	RepairRollback RepairMode = "rollback"
	// RepairSalvage copies everything that can still be read, and lists the rest.
	RepairSalvage RepairMode = "salvage"
)

// RepairReport says what Repair copied, and what it left out.
type RepairReport struct {
	Mode               RepairMode
	Slot               int    // the commit slot of the root that was copied: 0 or 1
	Commit             uint64 // number of that root
	FellBack           bool   // it is the older root
	OperationsReplayed int    // operations of the log that the root lacks
	Keys, Pairs        uint64 // what was copied

	// LeftOut says what is wrong with the original: what was edited, and what was damaged
	// and is not in the copy. It holds the first 1,000; LeftOutCount counts all.
	LeftOut      []error
	LeftOutCount int
}

// Repair makes a good copy of the damaged store at path, and puts it at output. It never
// changes the original. The copy is a new store with the split threshold of the old one
// and all pairs that mode demands, each verified by its checksums. Deleted values that
// were not compacted away, and the deletion log, are not copied. Repair verifies the copy
// before it gets its name. If there is a file at output, it returns fs.ErrExist. The copy
// gets the access of the original, as Restore describes. The report says what is wrong
// with the original, even with an error.
func Repair(ctx context.Context, path, output string, mode RepairMode) (RepairReport, error) {
	return RepairWith(ctx, path, output, mode, nil)
}

// RepairWith is Repair with options: the log key of the store, which the copy gets too,
// the file system, and the Logger. A store with a log key can be repaired without the key
// only if it was closed.
func RepairWith(ctx context.Context, path, output string, mode RepairMode, options *Options) (RepairReport, error) {
	opts, err := options.withDefaults()
	r := repair{ctx: ctx, opts: opts, mode: mode, report: RepairReport{Mode: mode}}
	if err != nil {
		return r.report, err
	}
	if mode != RepairRollback && mode != RepairSalvage {
		return r.report, invalidf("repair mode %q, want %q or %q", mode, RepairRollback, RepairSalvage)
	}
	output = vfs.Target(opts.FS, output)
	if _, err := opts.FS.Stat(output); err == nil {
		return r.report, fmt.Errorf("repair: %s: %w", output, fs.ErrExist)
	}
	err = r.run(path, output)
	r.report.LeftOut, r.report.LeftOutCount = r.leftOut.Defects, r.leftOut.Count
	if err != nil {
		return r.report, fmt.Errorf("repair %s: %w", path, err)
	}
	return r.report, nil
}

// repair is one Repair under way.
type repair struct {
	ctx     context.Context
	opts    Options
	mode    RepairMode
	report  RepairReport
	leftOut damages
}

// run copies the newest root that mode accepts.
func (r *repair) run(path, output string) error {
	opts := r.opts
	opts.ReadOnly, opts.Salvage, opts.emptyLog, opts.GCInterval = true, true, true, -1
	opts.Verify = VerifyFirstTouch
	src, err := Open(path, &opts)
	if err != nil {
		return err
	}
	if r.mode == RepairRollback {
		if damage := r.judge(src); damage != nil {
			r.leftOut.add(damage)
			if err := src.Close(); err != nil {
				return err
			}
			if src, err = r.older(path, opts, damage); err != nil {
				return err
			}
		}
	}
	return errors.Join(r.copy(src, output), src.Close())
}

// older opens the root of the older slot, if it is intact.
func (r *repair) older(path string, opts Options, damage error) (*Store, error) {
	if err := r.ctx.Err(); err != nil {
		return nil, err
	}
	opts.olderRoot = true
	src, err := Open(path, &opts)
	if err == nil {
		if err = r.judge(src); err == nil {
			src.recovery.FellBack = true
			return src, nil
		}
		err = errors.Join(err, src.Close())
	}
	return nil, fmt.Errorf("no root validates, mode %q copies what can be read: %w", RepairSalvage, errors.Join(damage, err))
}

// judge returns what is wrong with the contents of the root, or nil. What a program that
// edits HDF5 files changes elsewhere does not count: Repair copies nothing from there.
func (r *repair) judge(s *Store) error {
	v, err := s.Snapshot()
	if err != nil {
		return err
	}
	defer v.Close()
	var found CheckReport
	c := newCheck(r.ctx, v.view, &found)
	err = v.guard(func() error { return errors.Join(c.contents(noProgress), r.ctx.Err()) })
	if err == nil && found.DefectCount > 0 {
		err = fmt.Errorf("root of commit %d: defects: %d, the first: %w", v.view.Commit(), found.DefectCount, found.Defects[0])
	}
	return err
}

// copy makes the new store.
func (r *repair) copy(src *Store, output string) error {
	found := src.Recovery()
	r.report.Slot, r.report.Commit, r.report.FellBack = found.Slot, found.Commit, found.FellBack
	r.report.OperationsReplayed = found.OperationsReplayed
	if found.Salvaged != nil {
		r.leftOut.add(found.Salvaged)
	}
	v, err := src.Snapshot()
	if err != nil {
		return err
	}
	defer v.Close()
	opts := r.opts
	opts.ReadOnly, opts.Salvage, opts.Durability = false, false, Async
	opts.SplitThreshold = int(v.view.record.splitThreshold)
	made := newFileLike(output, src.vfile, opts, func(dst vfs.File) error { return format(dst, &opts) })
	if err := made.makeStore(r.ctx, func(dst *Store) error { return r.pairs(v, dst) }); err != nil {
		return fmt.Errorf("to %s: %w", output, err)
	}
	return nil
}

// pairs copies every pair that can be read, and counts them.
func (r *repair) pairs(v *Snapshot, dst *Store) error {
	err := dst.insertAll(r.ctx, func(yield func(E, E) bool) {
		var last E
		for key, value := range v.All() {
			if r.report.Pairs == 0 || key != last {
				r.report.Keys++
			}
			last = key
			r.report.Pairs++
			if !yield(key, value) {
				return
			}
		}
	})
	if err != nil {
		return err
	}
	damage := v.Err()
	if damage != nil && (ends(damage) || r.mode == RepairRollback) {
		return damage
	}
	if damage != nil {
		r.leftOut.add(damage)
	}
	return dst.holds(r.ctx, r.report.Keys, r.report.Pairs)
}
